"""Leaving the Segments of a Job in a shared storage, so that their Leases need not carry them."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor, as_completed, wait
from itertools import groupby
from operator import itemgetter
from typing import Final

from cortex.depositing.events import Missing, Stored
from cortex.depositing.items import ItemsGone, OpenItems, find_items, open_items
from cortex.depositing.places import PIECE_BYTES, JobPlace, piece_of
from cortex.domain.layout import JobFolder
from cortex.files.files import Files

_AT_ONCE: Final = 3  # so many pieces are held in memory


def upload(
    files: Files,
    place: JobPlace,
    folder: JobFolder,
    pieces: Sequence[tuple[int, int]],
    tell: Callable[[Stored | Missing], None],
) -> None:
    """Leave pieces of Segments there, and tell each. Raises FilesError; what was told is there.

    A Segment that is published never changes: a piece that is there, and whole, was left by an earlier process. A
    piece is there as a whole, or not at all.
    """
    executor = ThreadPoolExecutor(_AT_ONCE)
    try:
        for segment, of_segment in groupby(pieces, key=itemgetter(0)):
            numbers = [number for _, number in of_segment]
            try:
                with open_items(find_items(folder, segment)) as items:
                    for number in _leave_all(files, place.segment(segment), items, numbers, executor):
                        tell(Stored(segment=segment, number=number))
            except ItemsGone as gone:
                tell(Missing(segment=segment, reason=str(gone)))
    finally:
        executor.shutdown(cancel_futures=True)


def _leave_all(
    files: Files, beginning: str, items: OpenItems, numbers: Sequence[int], executor: Executor
) -> Iterator[int]:
    """Leave pieces of one Segment there, and give the number of each that is."""
    there = {file.url: file.size_bytes for file in files.list(beginning)}
    leaving: dict[Future[None], int] = {}
    try:
        for number in numbers:
            url = piece_of(beginning, number)
            if there.get(url) == min(PIECE_BYTES, items.items.size - number * PIECE_BYTES):
                yield number
            else:
                leaving[executor.submit(_leave, files, url, items, number)] = number
        for left in as_completed(leaving):
            left.result()
            yield leaving[left]
    finally:
        for future in leaving:  # of which some may still read, where one has failed
            future.cancel()
        wait(leaving)


def _leave(files: Files, url: str, items: OpenItems, number: int) -> None:
    files.write(url, items.read(number * PIECE_BYTES, PIECE_BYTES))
