"""Who follows what a Job leaves while it runs."""

from collections.abc import Callable


class Followers:
    """Tells those who follow a Job that a Lease of it has ended: there may be more to read."""

    def __init__(self) -> None:
        self._tell: dict[str, list[Callable[[], None]]] = {}

    def add(self, job_id: str, tell: Callable[[], None]) -> None:
        """Tell this one from now on."""
        self._tell.setdefault(job_id, []).append(tell)

    def remove(self, job_id: str, tell: Callable[[], None]) -> None:
        """Tell it no more."""
        self._tell[job_id].remove(tell)
        if not self._tell[job_id]:
            del self._tell[job_id]

    def lease_ended(self, job_id: str) -> None:
        """Tell all who follow this Job."""
        for tell in self._tell.get(job_id, ()):
            tell()
