"""The Items of a dataset, portion by portion, from its beginning or from where a cursor says."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, BinaryIO, Final, Protocol

import msgspec

from cortex.domain.layout import JobFolder
from cortex.domain.source import FileSource, SourceKind
from cortex.enqueuing.cut import Portion
from cortex.enqueuing.events import FileBegun
from cortex.enqueuing.lines import Item, Lines, Position, read_lines
from cortex.enqueuing.listing import GrowingListing, read_listing, write_listing
from cortex.files.files import Files
from cortex.files.opening import open_text
from cortex.files.selection import Selection, select

Cursor = Mapping[str, Any]

_BLOCK_BYTES: Final = 256 * 1024  # what fits into a CPU's cache is cut fastest
_URLS_AT_ONCE: Final = 1000  # as many as a page of a listing has


class Portions(Protocol):
    """The Portions of a dataset."""

    files: int
    """How many files have been begun by now, those before the cursor among them."""

    def __iter__(self) -> Iterator[Portion]:
        """Go through them, once."""

    def end(self) -> Cursor:
        """Give the cursor behind all of them, once they have been gone through."""

    def sync(self) -> None:
        """Bring to the disk what the cursors count on; before any of them is told."""

    def close(self) -> None:
        """Let go of what is open."""


def open_portions(
    files: Files, source: FileSource, folder: JobFolder, cursor: Cursor | None, tell: Callable[[FileBegun], None]
) -> Portions:
    """Give all Portions of a dataset, or those from a cursor on. Each file whose content comes is told before."""
    if source.kind is SourceKind.FILE_PATH_LISTER:
        return _UrlPortions(files, source, folder, cursor or {"after": None, "files": 0, "listed": 0})
    write_listing(folder, (file for _, file in select(files, selection(source))))
    return _LinePortions(files, folder, cursor or {"file": 0, "offset": 0, "line": 1}, tell)


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
    items: Sequence[Item]
    begin: Cursor  # where these begin
    lengths: Sequence[int] | None  # what each of these has in the list; None where there is no list

    def place(self, index: int) -> str:
        return f"`{self.urls[index][1]}`"

    def cursor_after(self, count: int) -> Cursor:
        cursor = {"after": self.urls[count - 1], "files": self.begin["files"] + count}
        if self.lengths is None:
            return cursor
        return {**cursor, "listed": self.begin["listed"] + sum(self.lengths[:count])}


class _LinePortions:
    """Each Item is a line of a file. The files are those that were listed first of all."""

    def __init__(self, files: Files, folder: JobFolder, cursor: Cursor, tell: Callable[[FileBegun], None]) -> None:
        self._place = files
        self._folder = folder
        self._tell = tell
        self._begin = Position(offset=cursor["offset"], line=cursor["line"])
        self.files: int = cursor["file"]

    def __iter__(self) -> Iterator[Portion]:
        for number, file in enumerate(read_listing(self._folder, self.files), self.files):
            begin, self._begin = self._begin, Position()
            self.files = number + 1
            if begin == Position():
                self._tell(FileBegun(url=file.url, number=number))
            with open_text(self._place, file) as content:
                _skip(content, begin.offset)
                for lines in read_lines(iter(partial(content.read, _BLOCK_BYTES), b""), file.url, begin):
                    yield _FileLines(lines=lines, url=file.url, file=number)

    def end(self) -> Cursor:
        return {"file": self.files, "offset": 0, "line": 1}

    def sync(self) -> None:
        """Nothing to do: the list is on the disk from the beginning."""

    def close(self) -> None:
        """Nothing to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _FileLines:
    lines: Lines
    url: str
    file: int

    @property
    def items(self) -> Sequence[Item]:
        return self.lines.items

    def place(self, index: int) -> str:
        return f"`{self.url}` line {self.lines.numbers[index]}"

    def cursor_after(self, count: int) -> Cursor:
        position = self.lines.position_after(count)
        return {"file": self.file, "offset": position.offset, "line": position.line}


def _skip(content: BinaryIO, offset: int) -> None:
    """Go on to an offset, or to the end. By reading: what is compressed, or far away, knows no other way."""
    while offset > 0 and (block := content.read(min(offset, _BLOCK_BYTES))):
        offset -= len(block)
