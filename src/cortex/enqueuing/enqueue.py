"""Files become the Segments of a Job."""

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from typing import Final

from cortex.domain.errors import FilesError
from cortex.domain.layout import JobFolder
from cortex.domain.source import FileSource
from cortex.enqueuing.cut import Cutter, Portion
from cortex.enqueuing.events import (
    IN_PLACE_FROM_BYTES,
    STREAMED_SEGMENT_BYTES,
    Enqueued,
    EnqueuingFailed,
    FileBegun,
    NoRoom,
    Progress,
    Resume,
    SegmentCut,
)
from cortex.enqueuing.lines import BadDataset
from cortex.enqueuing.portions import Cursor, InPlace, Large, Portions, WrittenDown, open_portions
from cortex.files.files import Files
from cortex.storage.files import FULL, NO_ROOM, sync_file
from cortex.storage.segments import SegmentWriter

_PROGRESS_SECONDS: Final = 1.0

_LOOK_FOR_ROOM_SECONDS: Final = 0.5

_TIMES_AS_LARGE: Final = 4  # may a Segment be that copies nothing: it is checked in a fraction of a second

Told = FileBegun | Progress | SegmentCut | NoRoom | Enqueued | EnqueuingFailed


def enqueue(
    files: Files,
    source: FileSource,
    folder: JobFolder,
    tell: Callable[[Told], None],
    *,
    resume: Resume | None = None,
    segment_bytes: int = STREAMED_SEGMENT_BYTES,
    in_place_from_bytes: int = IN_PLACE_FROM_BYTES,
) -> None:
    """Cut the files into Segments and tell each one when it is on the disk; the last word is how it ended.

    With the `resume` of any Segment it writes and tells what an uninterrupted run would after that Segment. A disk that
    is full is waited for: what comes after the last Segment is cut again when it has room. Files of this machine that
    have `in_place_from_bytes` stay where they are, as far as they can.
    """
    large = Large(
        from_bytes=in_place_from_bytes,
        in_place_segment_bytes=segment_bytes * _TIMES_AS_LARGE,
        incoming_segment_bytes=segment_bytes,
    )

    def tell_and_remember(event: Told) -> None:
        nonlocal resume
        tell(event)
        if isinstance(event, SegmentCut):
            resume = event.resume

    while _finds_no_room(files, source, folder, tell_and_remember, resume, segment_bytes, large):
        tell(NoRoom())
        time.sleep(_LOOK_FOR_ROOM_SECONDS)


def _finds_no_room(
    files: Files,
    source: FileSource,
    folder: JobFolder,
    tell: Callable[[Told], None],
    resume: Resume | None,
    segment_bytes: int,
    large: Large,
) -> bool:
    """Go on to the end, or until the disk is full: then it is True."""
    number, first, cursor = (resume.number, resume.first, resume.cursor) if resume else (0, 0, None)
    try:
        with SegmentWriter(folder, number=number, first=first, max_bytes=segment_bytes) as writer:
            for directory in (folder.root, folder.root.parent):
                sync_file(directory)
            with closing(open_portions(files, source, folder, cursor, tell, large)) as portions:
                _Enqueuing(source, portions, writer, tell).run()
    except BadDataset as error:
        tell(EnqueuingFailed(reason=str(error)))
    except OSError as error:
        if error.errno in FULL:
            return True
        if error.errno not in NO_ROOM:
            raise
        tell(EnqueuingFailed(reason="the operator's disk is full; have space made on it, and submit again"))
    except FilesError as error:
        tell(EnqueuingFailed(reason="; ".join(filter(None, [error.message, error.hint]))))
    else:
        tell(Enqueued(files=portions.files))
    return False


class _Enqueuing:
    """See the module."""

    def __init__(
        self, source: FileSource, portions: Portions, writer: SegmentWriter, tell: Callable[[Told], None]
    ) -> None:
        self._source = source
        self._portions = portions
        self._cutter = Cutter(source)
        self._writer = writer
        self._tell = tell
        self._cursor: Callable[[], Cursor] = dict  # of what comes after the Batches in the writer
        self._told_at = time.monotonic()

    def run(self) -> None:
        size = self._source.batch_size
        for portion in self._portions:
            if isinstance(portion, InPlace | WrittenDown):
                self._publish(portion)
                continue
            to_first_end = size - self._cutter.carried
            batches = self._cutter.cut(portion)
            self._write(batches, partial(_cursor_after, portion, to_first_end, size))
            self._tell_progress()
        missing = -self._cutter.carried % size
        self._write(self._cutter.finish(), lambda _: self._portions.end())
        self._complete(missing)
        if self._writer.next_batch == 0:
            raise BadDataset(_describe_nothing(self._source, self._portions.files))

    def _publish(self, batches: InPlace | WrittenDown) -> None:
        self._complete()
        if isinstance(batches, InPlace):
            segment = self._writer.refer(batches.file, batches.index)
        else:
            segment = self._writer.take(batches.taken.path, batches.taken.bounds, batches.taken.checksums)
        self._tell(SegmentCut(segment=segment, items=batches.batches * self._source.batch_size, cursor=batches.cursor))
        self._tell_progress()

    def _write(self, batches: Sequence[bytes], cursor_after: Callable[[int], Cursor]) -> None:
        written = 0
        while written < len(batches):
            written += self._writer.extend(batches[written:])
            if written:
                self._cursor = partial(cursor_after, written)
            if written < len(batches):
                self._complete()

    def _complete(self, missing: int = 0) -> None:
        segment = self._writer.complete()
        if segment is not None:
            self._portions.sync()
            items = segment.count * self._source.batch_size - missing
            self._tell(SegmentCut(segment=segment, items=items, cursor=self._cursor()))

    def _tell_progress(self) -> None:
        now = time.monotonic()
        if now >= self._told_at + _PROGRESS_SECONDS:
            self._told_at = now
            self._tell(Progress(files=self._portions.files, batches=self._writer.next_batch))


def _cursor_after(portion: Portion, to_first_end: int, batch_size: int, batches: int) -> Cursor:
    """Say where the Items go on after so many Batches that end in a Portion."""
    return portion.cursor_after(to_first_end + (batches - 1) * batch_size)


def _describe_nothing(source: FileSource, files: int) -> str:
    if files == 0:
        return f"{source.kind}.s3_paths: no file matches any more"
    noun = "file matches" if files == 1 else "files match"
    return f"{source.kind}: {files} {noun}, but they hold no items; each line of a file must hold one JSON value"
