"""One attempt with a Batch: predict is called, what it returned or raised is kept, and how the Batch stands is said.

An attempt that fails leaves a failure entry and, if another one may help, the Batch open. The last one fails it, or
isolates its guilty items: halves are tried, and halves of those that fail, down to single items.
"""

import errno
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from cortex.domain.batch import BatchState, EntryKind, Page
from cortex.domain.frame import Frame
from cortex.domain.identity import part_id
from cortex.domain.isolation import Part
from cortex.domain.layout import JobFolder
from cortex.predictor import LoadedPredictor
from cortex.worker.output import Output
from cortex.worker.pieces import KeptDamaged, Piece, failed_parts, join, read_kept
from cortex.worker.raised import describe, in_a_line, is_any_of, show
from cortex.worker.rows import RowsFile, decode, encode
from cortex.worker.segment import DataDamaged

Problem = Callable[[], Exception]
"""Says why the Items of a Batch cannot be read."""

_NO_PART: Final = Part(0, 0)

_FULL: Final = (errno.ENOSPC, errno.EDQUOT)
_LOOK_FOR_ROOM_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptPolicy:
    """What follows when predict raises."""

    attempts: int = 1
    no_retry: frozenset[str] = frozenset()
    isolates: bool = False

    @classmethod
    def from_setup(cls, setup: Mapping[str, Any]) -> "AttemptPolicy":
        """Read it from what Workers construct their predictors with; one that an earlier version wrote has none."""
        if "policy" not in setup:
            return cls()
        plain = setup["policy"]
        return cls(attempts=plain["attempts"], no_retry=frozenset(plain["no_retry"]), isolates=plain["isolate"])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tried:
    """A Batch that is being tried."""

    batch: int
    id: str
    payload: bytes
    items: int


class Attempts:
    """Tries Batches, one after the other, under the Lease that has begun last."""

    def __init__(
        self,
        *,
        folder: JobFolder,
        policy: AttemptPolicy,
        predictor: LoadedPredictor,
        rows: RowsFile,
        page: "memoryview[int]",
        output: Output,
    ) -> None:
        self._folder = folder
        self._policy = policy
        self._predict = predictor.predict
        self._rows = rows
        self._page = page
        self._output = output
        self._token = 0
        self._attempt = 1
        self._parts: Sequence[Frame] | None = None
        self._kept: Frame | None = None
        self._is_in_parts = False
        self._problem: Problem = DataDamaged

    def begin(self, lease: Frame, problem: Problem = DataDamaged) -> None:
        """Take what a Lease says of its Batches; where it says more than which ones, it covers a single one.

        `problem` is asked why a payload is none, where one is.
        """
        self._problem = problem
        self._token = lease["token"]
        self._attempt = lease.get("attempt", 1)
        self._parts, self._kept = lease.get("parts"), lease.get("kept")
        self._is_in_parts = self._parts is not None or self._kept is not None

    def run(self, batch: int, identity: str, payload: bytes) -> BatchState:
        """Try a Batch and keep what came of it; give how it has ended, or OPEN if it is to be tried again."""
        if self._is_in_parts and not _is_damaged(payload):
            return self._run_leased_parts(_Tried(batch=batch, id=identity, payload=payload, items=_count(payload)))
        try:
            items = decode(payload)
            count = len(items)
            value = self._predict(items, identity)
            if value is None:
                return BatchState.SUCCEEDED
            rows, row_count = encode(value, count)
        except (Exception, SystemExit) as error:
            raised = error
        else:
            try:
                self._store(batch, EntryKind.ROWS, rows, row_count)
            except OSError as error:
                return self._not_stored(_Tried(batch=batch, id=identity, payload=payload, items=count), error)
            return BatchState.SUCCEEDED_WITH_ROWS
        # Not in the except clause: what parts raise would be shown as raised while this was handled.
        if isinstance(raised, ValueError) and _is_damaged(payload):
            return self._damaged(_Tried(batch=batch, id=identity, payload=payload, items=0))
        return self._whole_failed(_Tried(batch=batch, id=identity, payload=payload, items=_count(payload)), raised)

    def _damaged(self, tried: _Tried) -> BatchState:
        """Fail a Batch that cannot be tried: that is no failure of the predictor, and another attempt is no help."""
        whole = Part(0, 0)
        problem = self._problem()
        self._output.log(f"failed to process batch {tried.id}: {problem}", "ERROR")
        self._keep_failure(tried, whole, problem)
        return BatchState.FAILED

    def _whole_failed(self, tried: _Tried, raised: BaseException) -> BatchState:
        whole = Part(0, tried.items)
        if not self._is_last(raised):
            return self._leave_open(tried, whole, raised)
        if self._policy.isolates and whole.size > 1:
            self._log_split(_name(tried, whole), raised)
            return self._run_parts(tried, whole.halves, [], is_last=True)
        return self._fail(tried, raised)

    def _run_leased_parts(self, tried: _Tried) -> BatchState:
        """Try what the Lease says is left of a Batch."""
        pieces: list[Piece] = []
        roots = [Part(0, tried.items)]
        parts = self._parts
        if self._kept is not None:
            try:
                pieces, roots = read_kept(self._folder, self._kept, tried.items), failed_parts(self._kept)
            except KeptDamaged:
                self._output.log(f"what was kept of batch {tried.id} cannot be read, all of it is run", "WARNING")
                parts = None if parts is None else [{"first": 0, "end": tried.items, "given_up": None}]
        if parts is None:
            return self._run_parts(tried, roots, pieces, is_last=False)
        to_run = [Part(each["first"], each["end"]) for each in parts if each["given_up"] is None]
        given_up = [each for each in parts if each["given_up"] is not None]
        for each in given_up:
            failure = {**each["given_up"], "at_ns": time.time_ns()}
            pieces.append(Piece(part=Part(each["first"], each["end"]), failure=failure))
        return self._run_parts(tried, to_run, pieces, is_last=True)

    def _run_parts(self, tried: _Tried, parts: Iterable[Part], pieces: Iterable[Piece], *, is_last: bool) -> BatchState:
        """Try these Parts, the smallest first: those are suspects, and if one kills us, what ran before runs again.

        `pieces` is what has come of the others already; `is_last` says that no attempt is left whatever is raised.
        """
        ended = list(pieces)
        waiting = sorted(parts, key=lambda part: (part.size, part.first), reverse=True)
        try:
            while waiting:
                part = waiting.pop()
                outcome = self._try_part(tried, part)
                if isinstance(outcome, Piece):
                    ended.append(outcome)
                elif not is_last and not self._is_last(outcome):
                    return self._leave_open(tried, part, outcome)
                elif self._policy.isolates and part.size > 1:
                    self._log_split(_name(tried, part), outcome)
                    waiting += reversed(part.halves)
                else:
                    self._log_failure(_name(tried, part), outcome)
                    ended.append(Piece(part=part, failure=describe(outcome, self._output.node)))
        finally:
            self._enter(_NO_PART)
        return self._keep(tried, ended)

    def _try_part(self, tried: _Tried, part: Part) -> Piece | BaseException:
        """Call predict with a Part; give its rows, or what was raised."""
        started_at_ns = time.time_ns()
        self._page[Page.STARTED_AT_NS] = started_at_ns
        is_whole = part == Part(0, tried.items)
        self._enter(_NO_PART if is_whole else part)
        if not is_whole:  # that one has its line already
            self._output.log_at(started_at_ns, f"processing {_name(tried, part)}")
        try:
            items = decode(tried.payload)[part.first : part.end]  # anew: an earlier call may have changed them
            value = self._predict(items, tried.id if is_whole else part_id(tried.id, part))
            data, rows = (b"", 0) if value is None else encode(value, part.size)
        except (Exception, SystemExit) as error:
            return error
        return Piece(part=part, data=data, rows=rows)

    def _enter(self, part: Part) -> None:
        """Name on the page what is in predict, so that it is charged if it kills us; never half of it."""
        self._page[Page.PART_END] = 0
        self._page[Page.PART_FIRST] = part.first
        self._page[Page.PART_END] = part.end

    def _keep(self, tried: _Tried, pieces: Sequence[Piece]) -> BatchState:
        joined = join(pieces)
        try:
            if joined.rows or joined.failures:
                self._store(tried.batch, EntryKind.ROWS, joined.data, joined.rows)
            if joined.failures:
                self._store(tried.batch, EntryKind.FAILURE, joined.failures, joined.failed_items)
        except OSError as error:
            return self._not_stored(tried, error)
        if joined.failures:
            return BatchState.FAILED_IN_PART
        return BatchState.SUCCEEDED_WITH_ROWS if joined.rows else BatchState.SUCCEEDED

    def _not_stored(self, tried: _Tried, error: OSError) -> BatchState:
        """What predict returned cannot be kept: smaller parts would not help, another attempt may."""
        if not self._is_last(error):
            return self._leave_open(tried, Part(0, tried.items), error)
        return self._fail(tried, error)

    def _leave_open(self, tried: _Tried, part: Part, raised: BaseException) -> BatchState:
        self._log_failure(_name(tried, part) + self._which_attempt, raised)
        return BatchState.OPEN if self._keep_failure(tried, part, raised) else BatchState.FAILED

    def _fail(self, tried: _Tried, raised: BaseException) -> BatchState:
        whole = Part(0, tried.items)
        self._log_failure(_name(tried, whole) + (self._which_attempt if self._attempt > 1 else ""), raised)
        self._keep_failure(tried, whole, raised)
        return BatchState.FAILED

    def _keep_failure(self, tried: _Tried, part: Part, raised: BaseException) -> bool:
        """Keep what an attempt with all of a Batch, or with a Part of it, has raised; False if that cannot be."""
        data = json.dumps(describe(raised, self._output.node)).encode() + b"\n"
        try:
            self._store(tried.batch, EntryKind.FAILURE, data, part.size)
        except OSError as storing:  # a full disk: the log has the failure, and the Batch has failed all the same
            self._output.log(f"the failure could not be stored: {storing}", "ERROR")
            return False
        return True

    def _store(self, batch: int, kind: EntryKind, data: bytes, rows: int) -> None:
        """Keep what has come of a Batch; on a full disk, as soon as it has room. Raises OSError where it cannot be."""
        while True:
            try:
                self._rows.append(batch, self._token, kind, data, rows)
            except OSError as error:
                if error.errno not in _FULL:
                    raise
                self._wait_for_room(error)
            else:
                break
        if self._page[Page.NO_ROOM_SINCE_NS]:
            self._page[Page.STARTED_AT_NS] = time.time_ns()  # the wait is not the predictor's
            self._page[Page.NO_ROOM_SINCE_NS] = 0

    def _wait_for_room(self, error: OSError) -> None:
        if not self._page[Page.NO_ROOM_SINCE_NS]:
            self._page[Page.NO_ROOM_SINCE_NS] = time.time_ns()
            self._output.log(f"what predict returned waits to be stored: {error.strerror}", "WARNING")
        time.sleep(_LOOK_FOR_ROOM_SECONDS)

    def _is_last(self, raised: BaseException) -> bool:
        return self._attempt >= self._policy.attempts or is_any_of(raised, self._policy.no_retry)

    @property
    def _which_attempt(self) -> str:
        return f" (attempt {self._attempt} of {self._policy.attempts})"

    def _log_failure(self, name: str, raised: BaseException) -> None:
        self._output.log(f"failed to process {name}", "ERROR")
        print(show(raised))  # noqa: T201 - to the Job's log

    def _log_split(self, name: str, raised: BaseException) -> None:
        """Say in a line that halves are tried: those of its items that are to blame will be shown."""
        self._output.log(f"failed to process {name}, its halves are tried: {in_a_line(raised)}", "ERROR")


def _is_damaged(payload: bytes) -> bool:
    """Tell whether a payload is not JSON, which it was when it was written."""
    try:
        decode(payload)
    except (json.JSONDecodeError, UnicodeDecodeError):
        return True
    except (ValueError, RecursionError):  # of more digits than Python takes, or nested too deeply: as it was written
        return False
    return False


def _count(payload: bytes) -> int:
    """Count the items of a payload; 0 of one that nobody can read."""
    try:
        return len(decode(payload))
    except (ValueError, RecursionError):
        return 0


def _name(tried: _Tried, part: Part) -> str:
    """Name what is in predict, as the log does."""
    if part == Part(0, tried.items):
        return f"batch {tried.id}"
    return f"batch {part_id(tried.id, part)} ({part.text} of batch {tried.id})"
