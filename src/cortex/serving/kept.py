"""What of an API is kept for the next operator, and removed when nobody needs it any more."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial

from cortex.domain.layout import ApiFolder
from cortex.domain.timing import Background
from cortex.serving.counts import RequestCounts
from cortex.serving.kept_counts import write_counts
from cortex.serving.release import Release, api_id_of
from cortex.storage.files import remove_folders


@dataclass(slots=True, kw_only=True)
class Kept:
    """See the module. What cannot be written, because the disk is full, is lost with this operator."""

    folder: ApiFolder
    background: Background
    release: Release
    _is_settled: bool = False  # nothing is left of what earlier versions needed
    _saved: int = 0  # how many requests are in the counts that were written last

    def change(self, release: Release) -> None:
        """Go on with another release; what only replicas of earlier ones need stays until `settle`."""
        self._is_settled = False
        self._write(release)

    def request(self, replicas: int) -> None:
        """Keep how many replicas are requested."""
        if replicas != self.release.requested:
            self._write(replace(self.release, requested=replicas))

    def settle(self, api_id: str, processes: Iterable[str]) -> None:
        """Forget what is neither of this version nor of these processes: no replica is to be replaced any more."""
        if self._is_settled:
            return
        self._is_settled = True
        running = {api_id, *map(api_id_of, processes)}
        self._write(self.release.settled(running))
        folders = [path for path in self.folder.root.glob("*") if path.is_dir() and path.name not in running]
        self.background(partial(remove_folders, folders), lambda: None)

    def keep_counts(self, api_id: str, counts: RequestCounts) -> None:
        """Keep how many requests were answered; those of a moment may be lost."""
        if counts.total != self._saved:
            self._saved = counts.total
            write_counts(self.folder.requests(api_id), counts)

    def _write(self, release: Release) -> None:
        self.release = release
        release.keep(self.folder.release)
