"""The starts of replicas that have failed."""

from dataclasses import dataclass


@dataclass(slots=True, kw_only=True)
class Failures:
    """The starts that have failed since a replica was ready for a while."""

    count: int = 0
    last_at_ns: int | None = None
    reason: str | None = None
    is_out_of_memory: bool = False

    def note(self, reason: str, *, at_ns: int, is_out_of_memory: bool = False) -> None:
        """Count one more."""
        self.count += 1
        self.last_at_ns, self.reason, self.is_out_of_memory = at_ns, reason, is_out_of_memory

    def forget(self) -> None:
        """They are over."""
        self.count, self.last_at_ns, self.reason, self.is_out_of_memory = 0, None, None, False
