"""The folder of a rerun: it has all that it needs of the earlier Job's folder, which may be gone tomorrow.

What never changes is linked and takes no room: the dataset and, unless every Batch is to run again, the result parts.
The states are copied, with those open that are to run. Parts are named after the Job that wrote them and tokens only
ever grow, so what the rerun writes stands beside what it has inherited, and wins.
"""

import errno
import os
import shutil
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cortex.domain.batch import ENTRY, FAILURES, OFFSET_BYTES, BatchState, ResultEntry
from cortex.domain.checksum import crc32
from cortex.domain.job import SegmentRange
from cortex.domain.layout import JobFolder
from cortex.domain.rerun import RerunWhat
from cortex.storage.files import sync_file, write_durably
from cortex.storage.kept import write_kept
from cortex.storage.payload import read_payload, source_of
from cortex.storage.segments import ItemsChanged, SegmentDamaged, States, copied_items
from cortex.worker.source import SourceChanged, SourceFile

_NO_LINKS: Final = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EACCES, errno.ENOTSUP, errno.ENOSYS)
"""The errors of a file system that makes no links, or no more of them."""

_REOPENED: Final = bytes.maketrans(bytes(FAILURES), bytes([BatchState.OPEN]) * len(FAILURES))


@dataclass(frozen=True, slots=True, kw_only=True)
class Inherited:
    """How many Batches of the earlier Job were no success."""

    failed: int
    open: int


def moved(path: str, earlier: JobFolder, folder: JobFolder) -> str:
    """Give where the upload that a path names is from now on; any other path stays as it is."""
    return path.replace(_beginning_of_uploads(earlier), _beginning_of_uploads(folder))


def _beginning_of_uploads(folder: JobFolder) -> str:
    """Give what the path of every upload of a Job has in it: of the same length for all Jobs."""
    return f"/{folder.root.name}/{folder.uploads.name}/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Inheritance:
    """What a rerun takes over, and from where to where."""

    earlier: JobFolder
    folder: JobFolder
    segments: Sequence[SegmentRange]
    what: RerunWhat
    items_are_files: bool  # some of which may have been uploaded for the earlier Job, and lie in its folder

    def take(self) -> Inherited:
        """Make the folder, durably. Slow for a large Job; may be called from any thread.

        Raises SegmentDamaged where the earlier Job lacks what it must have.
        """
        self.folder.segments.mkdir(parents=True)
        self.folder.workers.mkdir()
        failed = still_open = 0
        for segment in self.segments:
            states = States(self.earlier, segment).read()
            self._take_dataset(segment, is_run=BatchState.OPEN in self._states(states))
            failed += sum(states.count(state) for state in FAILURES)
            still_open += states.count(BatchState.OPEN)
            write_durably(self.folder.states(segment.number), self._states(states))
        if self.what is not RerunWhat.ALL:
            self._take_parts()
        if self.what is RerunWhat.FAILED:
            write_kept(self.earlier, self.folder, self.segments)
        if self.earlier.listing.exists():
            self._take_listing()
        if self._has_uploads:
            self._take_uploads()
        for directory in (self.folder.segments, self.folder.workers, self.folder.root, self.folder.root.parent):
            sync_file(directory)
        return Inherited(failed=failed, open=still_open)

    @property
    def _has_uploads(self) -> bool:
        return self.items_are_files and self.earlier.uploads.exists()

    def _states(self, states: bytes) -> bytes:
        if self.what is RerunWhat.HOOK:
            return states
        return states.translate(_REOPENED) if self.what is RerunWhat.FAILED else bytes(len(states))

    def _take_dataset(self, segment: SegmentRange, *, is_run: bool) -> None:
        source = source_of(self.earlier, segment)
        if source is not None:
            self._take_source(segment, source, is_run=is_run)
            return
        items = copied_items(self.earlier, segment)
        offsets, payload = self.folder.offsets(segment.number), self.folder.segments / items.name
        if self._has_uploads:
            self._copy_dataset(segment)
        else:
            _link(self.earlier.offsets(segment.number), offsets)
            _link(items, payload)
        end = _last_offset(offsets, segment)
        if end is None or payload.stat().st_size < end:
            raise SegmentDamaged(f"the dataset of segment {segment.number} is cut short")

    def _take_source(self, segment: SegmentRange, source: SourceFile, *, is_run: bool) -> None:
        """Take over where Batches stay; if some of them are to run, they must be what they were."""
        _link(self.earlier.offsets(segment.number), self.folder.offsets(segment.number))
        _link(self.earlier.source(segment.number), self.folder.source(segment.number))
        if is_run:
            try:
                os.close(source.open())
            except SourceChanged as error:
                raise ItemsChanged(str(error)) from error

    def _copy_dataset(self, segment: SegmentRange) -> None:
        """Copy a Segment in whose Batches paths of uploads may stand; where each begins stays true."""
        checksums = array("I")
        with self.folder.payload(segment.number).open("xb") as file:
            for _, batch in read_payload(self.earlier, segment, range(segment.first, segment.end)):
                moved_batch = self._moved(batch)
                file.write(moved_batch)
                checksums.append(crc32(moved_batch))
        sync_file(self.folder.payload(segment.number))
        begins = self.earlier.offsets(segment.number).read_bytes()[: OFFSET_BYTES * (segment.count + 1)]
        write_durably(self.folder.offsets(segment.number), begins + checksums.tobytes())

    def _take_listing(self) -> None:
        if self._has_uploads:
            with self.earlier.listing.open("rb") as lines, self.folder.listing.open("xb") as file:
                file.writelines(map(self._moved, lines))
            sync_file(self.folder.listing)
        else:
            _link(self.earlier.listing, self.folder.listing)

    def _moved(self, data: bytes) -> bytes:
        old, new = _beginning_of_uploads(self.earlier), _beginning_of_uploads(self.folder)
        return data.replace(old.encode(), new.encode())

    def _take_parts(self) -> None:
        for index in sorted(self.earlier.workers.glob("*.index")):
            worker = index.stem
            _link(index, self.folder.index(worker))
            _link(self.earlier.rows(worker), self.folder.rows(worker))
            last = _last_entry(index)
            if last is not None and self.folder.rows(worker).stat().st_size < last.offset + last.length:
                raise SegmentDamaged(f"`{self.earlier.rows(worker)}` is cut short")

    def _take_uploads(self) -> None:
        for path, _, names in os.walk(self.earlier.uploads):
            here = self.folder.uploads / Path(path).relative_to(self.earlier.uploads)
            here.mkdir(mode=0o700)
            for name in names:
                _link(Path(path, name), here / name)
            sync_file(here)


def _link(there: Path, here: Path) -> None:
    try:
        os.link(there, here)
    except FileNotFoundError as error:
        raise SegmentDamaged(f"`{there}` is missing") from error
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        shutil.copyfile(there, here)
    sync_file(here)


def _last_offset(offsets: Path, segment: SegmentRange) -> int | None:
    """Give where the payload of a Segment ends."""
    with offsets.open("rb", buffering=0) as file:
        last = os.pread(file.fileno(), OFFSET_BYTES, OFFSET_BYTES * segment.count)
    return int.from_bytes(last, "little") if len(last) == OFFSET_BYTES else None


def _last_entry(index: Path) -> ResultEntry | None:
    with index.open("rb", buffering=0) as file:
        count = os.fstat(file.fileno()).st_size // ENTRY.size
        last = os.pread(file.fileno(), ENTRY.size, ENTRY.size * (count - 1)) if count else b""
    return ResultEntry(*ENTRY.unpack(last)) if len(last) == ENTRY.size else None
