"""How a Batch can stand, and how its state and results lie in files.

One byte per Batch is its whole state. The Worker that holds the Batch's Lease stores it, last of all, so whoever
reads the byte may rely on everything that had to be written before it.
"""

import struct
from enum import IntEnum
from typing import Final, NamedTuple


class BatchState(IntEnum):
    """The state byte of a Batch. Everything but OPEN is an ending, and an ending never changes."""

    OPEN = 0
    SUCCEEDED = 1  # predict returned nothing
    SUCCEEDED_WITH_ROWS = 2  # a valid result entry was written before
    FAILED = 3  # predict raised; a failure entry was written before
    GIVEN_UP = 4  # its Workers died too often, or predict took too long; the ledger says how
    FAILED_IN_PART = 5  # it was isolated: the rows of its good Items and a failure entry were written before


SUCCESSES: Final = (BatchState.SUCCEEDED, BatchState.SUCCEEDED_WITH_ROWS)
"""The states of a Batch that has succeeded."""

FAILURES: Final = (BatchState.FAILED, BatchState.GIVEN_UP, BatchState.FAILED_IN_PART)
"""The states of a Batch that has failed, be it in part."""


class EntryKind(IntEnum):
    """What the bytes of a result entry are."""

    ROWS = 0  # JSON lines
    FAILURE = 1  # JSON lines, one for all of the Batch, or one for each Part of it that has failed


class ResultEntry(NamedTuple):
    """Where a Worker put what a Batch returned. Its fields are those of `ENTRY`, in order."""

    batch: int
    token: int
    offset: int
    length: int
    rows: int  # of a failure: how many Items have failed
    kind: int
    checksum: int  # crc32 of the bytes


ENTRY: Final = struct.Struct("<QQQIIII")
"""One entry of a Worker's result index."""

ENTRY_FIELDS: Final = [
    ("batch", "<u8"),
    ("token", "<u8"),
    ("offset", "<u8"),
    ("length", "<u4"),
    ("rows", "<u4"),
    ("kind", "<u4"),
    ("checksum", "<u4"),
]
"""The same for numpy."""

OFFSET_BYTES: Final = 4
"""An entry of a Segment's index: where the payload of a Batch begins. There is one more than there are Batches.

Behind them, the index has the checksum (crc32) of each Batch's payload, as long. One of an earlier version has none.
"""

MAX_SEGMENT_BATCHES: Final = 1_000_000
MAX_SEGMENT_BYTES: Final = 256 * 1024 * 1024
MAX_BATCH_BYTES: Final = 256 * 1024
MAX_REQUEST_BYTES: Final = 10 * 1024 * 1024  # a request that holds its items is smaller than this


class HookState(IntEnum):
    """How far a Worker is with `on_job_complete`."""

    NOT_STARTED = 0
    STARTED = 1
    SUCCEEDED = 2
    FAILED = 3


class Page:
    """The words of a Worker's page: a small mapped file, so that what it says outlives every process.

    The first group and LINES_LEFT_OUT are written by the Worker, the second and IS_CUT_OFF by the operator, the third
    by the supervisor, and by nobody else.
    """

    SIZE: Final = 128

    CURRENT: Final = 0  # number of the Batch in predict, plus one; 0 outside; of the last request begun, in a replica
    FINISHED: Final = 1  # Batches ended by this Worker
    BUSY_NS: Final = 2  # time spent in them
    HOOK: Final = 3  # HookState
    STARTED_AT_NS: Final = 4  # when predict was called
    PART_FIRST: Final = 5  # the Items of the Batch that are in predict
    PART_END: Final = 6  # 0 where it is the whole Batch
    NO_ROOM_SINCE_NS: Final = 7  # since when what predict returned waits for room on the disk; 0 if it does not

    TOKEN: Final = 8  # the Lease that this Worker may hold; 0 for none
    FIRST: Final = 9  # its first Batch
    LIMIT: Final = 10  # no Batch from here on may be started
    COPY_OF: Final = 11  # the station that has the Worker's own page, elsewhere; 0 where this is what the Worker sees

    IS_TO_END: Final = 12  # a SIGTERM is meant for this Worker
    LOG_IS_FULL: Final = 13  # for our own lines: those of later Leases are not written any more

    LINES_LEFT_OUT: Final = 14  # by the Worker again: how many it has not written

    IS_CUT_OFF: Final = (
        15  # by the operator, on a copy: nothing is heard, and the Worker may be in something else by now
    )
