"""What a run of the benchmarks was asked for."""

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
"""Where `benchmarks` can be imported."""

WORKERS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The choices of one run; `folder` is empty and goes when the run has ended."""

    folder: Path
    rounds: int = 5
    is_quick: bool = False
    peers: frozenset[str] | None = None

    def batches(self, full: int, quick: int) -> int:
        """Give the size of a workload."""
        return quick if self.is_quick else full

    def takes(self, peer: str) -> bool:
        """Say whether a peer was asked for."""
        return self.peers is None or peer in self.peers
