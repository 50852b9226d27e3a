"""The Items of a dataset, portion by portion, from its beginning or from where a cursor says."""

import os
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any, BinaryIO, Final, Protocol

import msgspec

from cortex.domain.layout import JobFolder
from cortex.domain.source import FileSource, SourceKind
from cortex.enqueuing.cut import Portion
from cortex.enqueuing.events import FileBegun
from cortex.enqueuing.in_place import batches_in_place
from cortex.enqueuing.incoming import Incoming, Taken
from cortex.enqueuing.lines import BLOCK_BYTES, BYTE_ORDER_MARK, Lines, Position, read_lines
from cortex.enqueuing.listing import GrowingListing, read_listing, write_listing
from cortex.enqueuing.upcoming import Upcoming
from cortex.files.address import local_path, read_address
from cortex.files.files import FileInfo, Files
from cortex.files.folder import check_unchanged
from cortex.files.opening import is_compressed, open_text
from cortex.files.read_ahead import MOST_AHEAD_BYTES
from cortex.files.selection import Selection, select
from cortex.worker.source import SourceFile

Cursor = Mapping[str, Any]

_URLS_AT_ONCE: Final = 1000  # as many as a page of a listing has
_TICK_SECONDS: Final = 0.02  # two changes of a file within a tick of the clock may look like one


@dataclass(frozen=True, slots=True, kw_only=True)
class Large:
    """Which files of lines are not copied Batch by Batch, and how much of one is a Segment."""

    from_bytes: int
    in_place_segment_bytes: int  # where they stay where they are
    incoming_segment_bytes: int  # where they are written down as they come


@dataclass(frozen=True, slots=True, kw_only=True)
class InPlace:
    """Batches that stay where they are, enough for a Segment. All Items before them are in Batches."""

    file: SourceFile
    index: bytes  # where each begins, and the last one ends, behind the base, as the Segment's index has it
    batches: int
    cursor: Cursor  # where the Items go on


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenDown:
    """Batches that were written down as they came: a Segment. All Items before them are in Batches."""

    taken: Taken
    batches: int
    cursor: Cursor  # where the Items go on


Given = Portion | InPlace | WrittenDown


class Portions(Protocol):
    """The Portions of a dataset."""

    files: int
    """How many files have been begun by now, those before the cursor among them."""

    def __iter__(self) -> Iterator[Given]:
        """Go through them, once."""

    def end(self) -> Cursor:
        """Give the cursor behind all of them, once they have been gone through."""

    def sync(self) -> None:
        """Bring to the disk what the cursors count on; before any of them is told."""

    def close(self) -> None:
        """Let go of what is open."""


def open_portions(
    files: Files,
    source: FileSource,
    folder: JobFolder,
    cursor: Cursor | None,
    tell: Callable[[FileBegun], None],
    large: Large,
) -> Portions:
    """Give all Portions of a dataset, or those from a cursor on. Each file whose content comes is told before."""
    if source.kind is SourceKind.FILE_PATH_LISTER:
        return _UrlPortions(files, source, folder, cursor or {"after": None, "files": 0, "listed": 0})
    write_listing(folder, (file for _, file in select(files, selection(source))))
    begin = cursor or {"file": 0, "offset": 0, "line": 1}
    for left in folder.segments.glob("*.draft"):  # by a process that was killed
        left.unlink()
    return _LinePortions(files, folder, begin, tell, large, source.batch_size)


def selection(source: FileSource) -> Selection:
    """Give what selects the files of a source."""
    return Selection(paths=tuple(source.paths), includes=tuple(source.includes), excludes=tuple(source.excludes))


class _UrlPortions:
    """Each Item is the URL of a file. The listing streams: what is listed becomes Batches at once."""

    def __init__(self, files: Files, source: FileSource, folder: JobFolder, cursor: Cursor) -> None:
        self._after: tuple[int, str] | None = tuple(cursor["after"]) if cursor["after"] else None
        self._selected = select(files, selection(source), after=self._after)
        # A cursor of an earlier version knows of no list: rather none than half of one.
        self._listing = GrowingListing(folder, cursor["listed"]) if "listed" in cursor else None
        self.files: int = cursor["files"]

    def __iter__(self) -> Iterator[Portion]:
        while found := list(islice(self._selected, _URLS_AT_ONCE)):
            begin = self.end()
            urls = [(path, file.url) for path, file in found]
            lengths = None if self._listing is None else self._listing.add(file for _, file in found)
            self.files, self._after = self.files + len(urls), urls[-1]
            items = [msgspec.json.encode(url) for _, url in urls]
            yield _Urls(urls=urls, items=items, begin=begin, lengths=lengths)
        if self._listing is not None:
            self._listing.finish()

    def end(self) -> Cursor:
        cursor = {"after": self._after, "files": self.files}
        return cursor if self._listing is None else {**cursor, "listed": self._listing.size_bytes}

    def sync(self) -> None:
        if self._listing is not None:
            self._listing.sync()

    def close(self) -> None:
        if self._listing is not None:
            self._listing.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Urls:
    urls: Sequence[tuple[int, str]]  # each with the index of the path that it was found by
    items: Sequence[bytes]
    begin: Cursor  # where these begin
    lengths: Sequence[int] | None  # what each of these has in the list; None where there is no list

    @property
    def count(self) -> int:
        return len(self.items)

    def joined(self, first: int, end: int, size: int) -> list[bytes]:
        return [b",".join(self.items[begin : min(begin + size, end)]) for begin in range(first, end, size)]

    def place(self, index: int) -> str:
        return f"`{self.urls[index][1]}`"

    def cursor_after(self, count: int) -> Cursor:
        cursor = {"after": self.urls[count - 1], "files": self.begin["files"] + count}
        if self.lengths is None:
            return cursor
        return {**cursor, "listed": self.begin["listed"] + sum(self.lengths[:count])}


class _LinePortions:
    """Each Item is a line of a file. The files are those that were listed first of all."""

    def __init__(
        self,
        files: Files,
        folder: JobFolder,
        cursor: Cursor,
        tell: Callable[[FileBegun], None],
        large: Large,
        batch_size: int,
    ) -> None:
        self._folder = folder
        self._tell = tell
        self._large = large
        self._batch_size = batch_size
        self._begin = Position(offset=cursor["offset"], line=cursor["line"])
        self._is_rest: bool = cursor.get("is_rest", False)
        self._copied = 0  # Items, since the cursor
        self._incoming: Incoming | None = None
        self.files: int = cursor["file"]
        # Those that are opened early are read to their end, so none keeps a connection; a large one is read by forks.
        most_bytes = min(MOST_AHEAD_BYTES, large.from_bytes - 1)
        listed = read_listing(folder, self.files)
        self._upcoming = Upcoming(partial(open_text, files), listed, most_bytes=most_bytes)

    def __iter__(self) -> Iterator[Given]:
        for number, file in enumerate(self._upcoming, self.files):
            begin, self._begin = self._begin, Position()
            is_rest, self._is_rest = self._is_rest, False
            self.files = number + 1
            if begin == Position():
                self._tell(FileBegun(url=file.url, number=number))
            if is_rest or file.size_bytes < self._large.from_bytes:
                with self._open(file, begin) as content:
                    yield from self._copy(_blocks(content), file, number, begin, is_rest=is_rest)
            else:
                begin = yield from self._complete_batch(file, number, begin)
                take = self._leave if self._may_stay(file) else self._write_down
                yield from take(file, number, begin)

    def _open(self, file: FileInfo, begin: Position) -> BinaryIO:
        """Open a file that was listed, at a place in it."""
        content = self._upcoming.open(file)
        try:
            _skip(content, begin.offset)
        except BaseException:
            content.close()
            raise
        return content

    def _may_stay(self, file: FileInfo) -> bool:
        if is_compressed(file.url) or read_address(file.url).scheme != "file":
            return False
        # What was sent for the Job goes once all is enqueued.
        path, folder = os.path.realpath(local_path(file.url)), os.path.realpath(os.fsencode(self._folder.root))
        return not path.startswith(folder + b"/")

    def _complete_batch(self, file: FileInfo, number: int, begin: Position) -> Generator[Portion, None, Position]:
        """Give the lines that complete the Batch that was begun before; return where the others begin."""
        missing = -self._copied % self._batch_size
        if missing:
            with self._open(file, begin) as content:
                for lines in read_lines(_blocks(content), file.url, begin):
                    if lines.count:
                        head = lines.head(missing)
                        missing -= head.count
                        begin = head.position_after(head.count)
                        yield self._count(_FileLines(lines=head, url=file.url, file=number, is_rest=False))
                    if not missing:
                        break
        return begin

    def _write_down(self, file: FileInfo, number: int, begin: Position) -> Generator[Given, None, None]:
        """Give what can be written down as it comes, Segment by Segment, and then the rest."""
        self._incoming = Incoming(
            partial(self._open, file, begin),
            self._folder.draft,
            batch_size=self._batch_size,
            max_bytes=self._large.incoming_segment_bytes,
        )
        with closing(self._incoming), closing(self._incoming.segments()) as segments:
            for taken in segments:
                begin = _behind(begin, begin.offset + taken.bounds[-1], len(taken.checksums) * self._batch_size)
                yield WrittenDown(taken=taken, batches=len(taken.checksums), cursor=_cursor(number, begin))
            yield from self._copy(self._incoming.rest(), file, number, begin, is_rest=True)

    def _leave(self, file: FileInfo, number: int, begin: Position) -> Generator[Given, None, None]:
        """Give what can stay in a file, Segment by Segment, and then the rest."""
        with self._open(file, begin) as content:
            begin = yield from self._stay(content.fileno(), file, number, begin)
            content.seek(begin.offset)
            yield from self._copy(_blocks(content), file, number, begin, is_rest=True)

    def _stay(self, opened: int, file: FileInfo, number: int, begin: Position) -> Generator[InPlace, None, Position]:
        """Give what can stay, Segment by Segment; return where the rest begins."""
        if begin.offset == 0 and os.pread(opened, len(BYTE_ORDER_MARK), 0) == BYTE_ORDER_MARK:
            begin = Position(offset=len(BYTE_ORDER_MARK), line=begin.line)
        source = _describe(file, opened)
        segments = batches_in_place(
            opened,
            source.size,
            begin.offset,
            batch_size=self._batch_size,
            max_bytes=self._large.in_place_segment_bytes,
        )
        with closing(segments):
            for bounds in segments:
                _bring_to_disk(opened)
                check_unchanged(file, opened)
                batches = len(bounds) - 1
                begin = _behind(begin, int(bounds[-1]), batches * self._batch_size)
                yield InPlace(
                    file=replace(source, base=int(bounds[0])),
                    index=(bounds - bounds[0]).astype("<u4").tobytes(),
                    batches=batches,
                    cursor=_cursor(number, begin),
                )
        return begin

    def _copy(
        self, blocks: Iterable[bytes], file: FileInfo, number: int, begin: Position, *, is_rest: bool
    ) -> Iterator[Portion]:
        for lines in read_lines(blocks, file.url, begin):
            yield self._count(_FileLines(lines=lines, url=file.url, file=number, is_rest=is_rest))

    def _count(self, portion: Portion) -> Portion:
        self._copied += portion.count
        return portion

    def end(self) -> Cursor:
        return {"file": self.files, "offset": 0, "line": 1}

    def sync(self) -> None:
        """Nothing to do: the list is on the disk from the beginning."""

    def close(self) -> None:
        self._upcoming.close()
        if self._incoming is not None:
            self._incoming.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class _FileLines:
    lines: Lines
    url: str
    file: int
    is_rest: bool  # of a file of which all stays that can

    @property
    def count(self) -> int:
        return self.lines.count

    def joined(self, first: int, end: int, size: int) -> list[bytes]:
        return self.lines.joined(first, end, size)

    def place(self, index: int) -> str:
        return f"`{self.url}` line {self.lines.number(index)}"

    def cursor_after(self, count: int) -> Cursor:
        cursor = _cursor(self.file, self.lines.position_after(count))
        return {**cursor, "is_rest": True} if self.is_rest else cursor


def _cursor(file: int, begin: Position) -> Cursor:
    return {"file": file, "offset": begin.offset, "line": begin.line}


def _behind(begin: Position, offset: int, lines: int) -> Position:
    """Give the place that is so many lines behind another."""
    return Position(offset=offset, line=begin.line + lines)


def _blocks(content: BinaryIO) -> Iterator[bytes]:
    """Give all that comes from here on."""
    return iter(partial(content.read, BLOCK_BYTES), b"")


def _skip(content: BinaryIO, offset: int) -> None:
    """Go on to an offset, or to the end."""
    if content.seekable():
        content.seek(offset)
        return
    # By reading: what is compressed, or far away, knows no other way.
    while offset > 0 and (block := content.read(min(offset, BLOCK_BYTES))):
        offset -= len(block)


def _bring_to_disk(opened: int) -> None:
    """Sync a file, and when it was written: after a power cut it is to be what it was."""
    with suppress(OSError):  # where it cannot be synced it is as durable as its owner has made it
        os.fsync(opened)


def _describe(file: FileInfo, opened: int) -> SourceFile:
    """Say what a file is that was listed. Raises FileChanged."""
    status = os.fstat(opened)
    if abs(time.time() - status.st_mtime) < _TICK_SECONDS:
        time.sleep(_TICK_SECONDS)  # whatever writes to it from now on changes its time
    check_unchanged(file, opened)
    return SourceFile(
        path=os.fsdecode(local_path(file.url)),
        size=status.st_size,
        mtime_ns=status.st_mtime_ns,
        inode=status.st_ino,
        base=0,
    )
