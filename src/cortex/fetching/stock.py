"""The models that were fetched and are kept."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cortex.fetching.fetch import ABOUT, read_all


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchedModel:
    """What was fetched of a model: one content of it."""

    key: str
    predictor_type: str
    url: str
    last_used_ns: int  # when it was last asked for


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelStock:
    """See the module."""

    root: Path  # each lies in a folder by its key
    is_at_work: Callable[[], bool]  # for somebody a model is looked up, or was, and nothing tells yet that it is needed

    def fetched(self) -> list[FetchedModel]:
        """Give all that is there. May be called from any thread."""
        found = []
        for home, about in read_all(self.root):
            with suppress(FileNotFoundError):
                used_ns = (home / ABOUT).stat().st_mtime_ns
                found.append(
                    FetchedModel(key=home.name, predictor_type=about["type"], url=about["url"], last_used_ns=used_ns)
                )
        return found

    def take_away(self, model: FetchedModel, destination: Path) -> bool:
        """Move a model to where it can be removed, unless it was asked for since then, or may be at this moment."""
        if self.is_at_work() or model not in self.fetched():
            return False
        (self.root / model.key).rename(destination)
        return True
