"""Attempts with batches: what follows in the worker when predict raises."""

import io
import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cortex.domain.batch import ENTRY, BatchState, EntryKind, Page, ResultEntry
from cortex.domain.identity import batch_id, part_id
from cortex.domain.isolation import Part
from cortex.predictor import LoadedPredictor
from cortex.storage.pages import read_page
from cortex.storage.results import read_failures, read_rows
from cortex.worker import rows
from cortex.worker.attempts import AttemptPolicy, Attempts
from cortex.worker.output import Output
from cortex.worker.page import read_word, write_word
from cortex.worker.rows import RowsFile
from full_disk import files_of_at_most
from job_files import append_entry, make_job, set_states
from lone_worker import LoneWorker

OPEN, NOTHING, ROWS, FAILED, GIVEN_UP, IN_PART = BatchState
JOB_ID = "69d6faf82e4660d3"
WORKER = f"{JOB_ID}-0000aaaa"
ID = batch_id(JOB_ID, 0)
ISOLATE = AttemptPolicy(isolates=True)


class Predictor:
    """Gives each item back; with a poisoned one it raises. It remembers its calls, and what the page said in each."""

    def __init__(self, *poison: Any, error: Callable[[], BaseException] = lambda: ValueError("poison")) -> None:
        self.poison: set[Any] = set(poison)
        self.error = error
        self.calls: list[tuple[list[Any], str]] = []
        self.seen: list[Part] = []
        self.page: memoryview | None = None

    def predict(self, payload: list[Any], name: str) -> Any:
        self.calls.append((list(payload), name))
        if self.page is not None:
            self.seen.append(Part(self.page[Page.PART_FIRST], self.page[Page.PART_END]))
        if self.poison.intersection(payload):
            raise self.error()
        return self.answer(payload)

    def answer(self, payload: list[Any]) -> Any:
        return [{"is": item} for item in payload]


class Story:
    """A worker's attempts with one batch of some items, whose number is 0."""

    def __init__(self, root: Path, predictor: Predictor, policy: AttemptPolicy, items: list[Any]) -> None:
        self.folder, self.segments = make_job(root, 1)
        self.payload = json.dumps(items).encode()
        self.predictor = predictor
        self.page = memoryview(bytearray(Page.SIZE)).cast("Q")
        predictor.page = self.page
        self.logged: list[str] = []
        self.rows = RowsFile(self.folder.rows(WORKER), self.folder.index(WORKER))
        self.attempts = Attempts(
            folder=self.folder,
            policy=policy,
            predictor=cast(LoadedPredictor, SimpleNamespace(predict=predictor.predict)),
            rows=self.rows,
            page=self.page,
            output=cast(
                Output, SimpleNamespace(log=self._log, log_at=lambda _, message: self._log(message), node=None)
            ),
        )

    def _log(self, message: str, level: str = "INFO") -> None:
        assert message.encode()  # or the log would refuse it
        self.logged.append(message if level == "INFO" else f"{level}: {message}")

    def run(self, token: int = 7, **extras: Any) -> BatchState:
        self.attempts.begin({"token": token, "first": 0, "end": 1, **extras})
        state = self.attempts.run(0, ID, self.payload)
        set_states(self.folder, self.segments[0], [state])
        return state

    @property
    def good(self) -> list[Any]:
        return [json.loads(line) for data in read_rows(self.folder, self.segments) for line in data.splitlines()]

    @property
    def bad(self) -> list[dict[str, Any]]:
        return [failure for _, failure in read_failures(self.folder, self.segments)]

    @property
    def bad_parts(self) -> list[tuple[int, int]]:
        return [(first, end) for first, end in (failure["part"] for failure in self.bad)]

    @property
    def calls_on_page(self) -> Iterator[tuple[Part, tuple[list[Any], str]]]:
        return zip(self.predictor.seen, self.predictor.calls, strict=True)

    @property
    def kinds(self) -> list[int]:
        data = self.folder.index(WORKER).read_bytes()
        return [entry.kind for entry in map(ResultEntry._make, ENTRY.iter_unpack(data))]


Tell = Callable[..., Story]


@pytest.fixture(scope="module")
def tell(tmp_path_factory: pytest.TempPathFactory) -> Tell:
    def tell(predictor: Predictor, policy: AttemptPolicy = ISOLATE, items: list[Any] | None = None) -> Story:
        return Story(tmp_path_factory.mktemp("job"), predictor, policy, items or list(range(10)))

    return tell


def kept(story: Story, failed: list[list[int]], good: list[Any]) -> dict[str, Any]:
    """Write what an earlier job has kept of the batch, and give what the lease says of it."""
    worker, data = "00000000000000ff-0000bbbb", b"".join(json.dumps(each).encode() + b"\n" for each in good)
    append_entry(story.folder, worker, 0, b"of another batch\n")
    append_entry(story.folder, worker, 0, data)
    return {"worker": worker, "offset": 17, "length": len(data), "failed": failed}


def part(first: int, end: int, given_up: dict[str, str] | None = None) -> dict[str, Any]:
    return {"first": first, "end": end, "given_up": given_up}


# Retries


def test_without_a_policy_the_first_failure_of_a_batch_is_its_last(tell: Tell) -> None:
    story = tell(Predictor(3), AttemptPolicy.from_setup({"config": {}}))

    assert FAILED is story.run()
    assert ["ERROR: failed to process batch " + ID] == story.logged
    assert ["poison"] == [failure["message"] for failure in story.bad]
    assert "part" not in story.bad[0]


def test_a_batch_is_open_while_attempts_are_left_and_each_has_left_its_failure(tell: Tell) -> None:
    setup = {"policy": {"attempts": 3, "no_retry": [], "isolate": False}}
    story = tell(Predictor(3), AttemptPolicy.from_setup(setup))

    states = [story.run(token=7), story.run(token=8, attempt=2), story.run(token=9, attempt=3)]

    assert [OPEN, OPEN, FAILED] == states
    assert [EntryKind.FAILURE] * 3 == story.kinds
    assert [f"ERROR: failed to process batch {ID} (attempt {number} of 3)" for number in (1, 2, 3)] == story.logged
    assert len(story.bad) == 1


def test_an_attempt_that_succeeds_ends_the_batch(tell: Tell) -> None:
    story = tell(Predictor(3), AttemptPolicy(attempts=3))
    story.run(token=7)
    story.predictor.poison.clear()

    assert ROWS is story.run(token=8, attempt=2)
    assert [{"is": item} for item in range(10)] == story.good
    assert [] == story.bad


class Hopeless(LookupError):
    """An error of the user's own."""


@pytest.mark.parametrize("name", ["Hopeless", f"{__name__}.Hopeless", "LookupError", "builtins.LookupError"])
def test_what_another_attempt_would_not_help_is_not_tried_again(tell: Tell, name: str) -> None:
    policy = AttemptPolicy(attempts=3, no_retry=frozenset({"Other", name}))

    assert FAILED is tell(Predictor(3, error=Hopeless), policy).run()
    assert OPEN is tell(Predictor(3), policy).run()


def test_what_is_no_json_is_tried_again_and_isolated_as_what_is_raised(tell: Tell) -> None:
    class Gives(Predictor):
        def answer(self, payload: list[Any]) -> Any:
            return [{item} if item == 4 else item for item in payload]

    story = tell(Gives(), AttemptPolicy(attempts=2, isolates=True))

    assert OPEN is story.run(token=7)
    assert IN_PART is story.run(token=8, attempt=2)
    assert [(4, 5)] == story.bad_parts
    assert "not JSON" in story.bad[0]["message"]
    assert [item for item in range(10) if item != 4] == story.good


def test_a_predictor_that_exits_has_failed(tell: Tell) -> None:
    story = tell(Predictor(3, error=lambda: SystemExit(1)), AttemptPolicy(attempts=2, isolates=True))

    assert OPEN is story.run(token=7)
    assert IN_PART is story.run(token=8, attempt=2)
    assert [("SystemExit", "1")] == [(failure["type"], failure["message"]) for failure in story.bad]


def test_an_error_that_cannot_tell_itself_is_a_failure_as_any_other(tell: Tell) -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    class Surrogate(Exception):
        def __str__(self) -> str:
            return "half \ud800\nof it"

    for error in (Mute, Surrogate):
        story = tell(Predictor(3, error=error))

        assert IN_PART is story.run()
        assert [error.__name__] == [failure["type"] for failure in story.bad]


@contextmanager
def no_room() -> Iterator[None]:
    with redirect_stdout(io.StringIO()), files_of_at_most(5):  # what it prints goes to a pipe, not to a file
        yield


def test_a_failure_that_cannot_be_stored_is_final(tell: Tell) -> None:
    story = tell(Predictor(3), AttemptPolicy(attempts=3))

    with no_room():
        assert FAILED is story.run()
    assert [] == story.bad


def test_rows_that_cannot_be_stored_are_no_reason_to_look_for_guilty_items(tell: Tell) -> None:
    story = tell(Predictor())

    with no_room():
        assert FAILED is story.run()
    assert 1 == len(story.predictor.calls)


def test_what_came_of_parts_that_cannot_be_stored_fails_the_batch(tell: Tell) -> None:
    story = tell(Predictor(3))

    with no_room():
        assert FAILED is story.run()
    assert ([], []) == (story.good, story.bad)


def test_what_is_too_large_for_an_entry_fails_the_batch_and_harms_no_other(
    tell: Tell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "MAX_ENTRY_BYTES", 2000)
    story = tell(Predictor(), AttemptPolicy(), items=["x" * 3000])

    assert FAILED is story.run()
    assert ["OSError"] == [failure["type"] for failure in story.bad]
    story.payload = b"[1]"
    assert ROWS is story.run(token=8)
    assert [{"is": 1}] == story.good


def test_an_item_that_python_cannot_read_fails_its_batch_and_is_not_called_damaged(tell: Tell) -> None:
    story = tell(Predictor())
    story.payload = b"[1, " + b"9" * 5000 + b"]"

    assert FAILED is story.run()
    assert ["ValueError"] == [failure["type"] for failure in story.bad]
    assert "digits" in story.bad[0]["message"]


# Isolation


@given(st.data(), st.integers(1, 120))
def test_isolation_finds_the_bad_items_and_nothing_else(tell: Tell, data: st.DataObject, size: int) -> None:
    bad = data.draw(st.sets(st.integers(0, size - 1), max_size=6) | st.sets(st.integers(0, size - 1)))
    story = tell(Predictor(*bad), items=list(range(size)))

    state = story.run()

    calls = len(story.predictor.calls)
    if size == 1:
        assert (FAILED if bad else ROWS, 1) == (state, calls)
        return
    assert (IN_PART if bad else ROWS) is state
    assert [{"is": item} for item in range(size) if item not in bad] == story.good
    assert [(item, item + 1) for item in sorted(bad)] == (story.bad_parts if bad else [])
    assert [item - place for place, item in enumerate(sorted(bad))] == [each["rows_before"] for each in story.bad]
    assert calls <= 2 * len(bad) * math.ceil(math.log2(size)) + 2 * len(bad) + 1
    assert len({name for _, name in story.predictor.calls}) == calls
    assert all(part.size in (0, len(items)) for part, (items, _) in story.calls_on_page)


def test_every_call_has_an_id_of_its_own_and_names_its_items_on_the_page(tell: Tell) -> None:
    story = tell(Predictor(2), items=[0, 1, 2, 3])

    story.run()

    parts = [Part(0, 2), Part(2, 4), Part(2, 3), Part(3, 4)]
    assert [([0, 1, 2, 3], ID), *((list(range(*each)), part_id(ID, each)) for each in parts)] == story.predictor.calls
    assert [Part(0, 0), *parts] == story.predictor.seen
    assert (0, 0) == (story.page[Page.PART_FIRST], story.page[Page.PART_END])


def test_the_log_shows_the_guilty_items_and_a_line_for_what_they_were_in(
    tell: Tell, capsys: pytest.CaptureFixture[str]
) -> None:
    story = tell(Predictor(2), items=[0, 1, 2, 3])

    story.run()

    first = f"batch {part_id(ID, Part(0, 2))} (items 0 to 1 of batch {ID})"
    second = f"batch {part_id(ID, Part(2, 4))} (items 2 to 3 of batch {ID})"
    third, fourth = (f"batch {part_id(ID, Part(each, each + 1))} (item {each} of batch {ID})" for each in (2, 3))
    assert [
        f"ERROR: failed to process batch {ID}, its halves are tried: ValueError: poison",
        f"processing {first}",
        f"processing {second}",
        f"ERROR: failed to process {second}, its halves are tried: ValueError: poison",
        f"processing {third}",
        f"ERROR: failed to process {third}",
        f"processing {fourth}",
    ] == story.logged
    printed = capsys.readouterr().out
    assert 1 == printed.count("Traceback")
    assert "During handling" not in printed + story.bad[0]["traceback"]


def test_a_call_gets_the_items_as_they_were_submitted_whatever_the_one_before_did_to_them(tell: Tell) -> None:
    class Changes(Predictor):
        def predict(self, payload: list[Any], name: str) -> Any:
            for item in payload:
                item["calls"] += 1
            if len(payload) > 1:
                raise ValueError
            return payload

    story = tell(Changes(), items=[{"calls": 0} for _ in range(4)])

    assert ROWS is story.run()
    assert [{"calls": 1}] * 4 == story.good


def test_what_fails_only_as_a_whole_has_not_failed(tell: Tell) -> None:
    class GivesNothing(Predictor):
        def answer(self, payload: list[Any]) -> Any:
            if len(payload) > 5:
                raise MemoryError
            return None

    story = tell(GivesNothing())

    assert NOTHING is story.run()
    assert ([], [], []) == (story.good, story.bad, story.kinds)


def test_a_batch_without_a_good_item_has_failed_in_part_and_has_no_rows(tell: Tell) -> None:
    story = tell(Predictor(0, 1, 2), items=[0, 1, 2])

    assert IN_PART is story.run()
    assert [EntryKind.ROWS, EntryKind.FAILURE] == story.kinds
    assert ([], [(0, 1), (1, 2), (2, 3)]) == (story.good, story.bad_parts)


def test_a_part_gives_a_row_for_each_of_its_items_or_one_for_all(tell: Tell) -> None:
    class Counts(Predictor):
        def answer(self, payload: list[Any]) -> Any:
            return {"items": len(payload)}

    story = tell(Counts(9))

    assert IN_PART is story.run()
    assert [5, 3, 1] == [row["items"] for row in story.good]
    assert [3] == [failure["rows_before"] for failure in story.bad]


def test_attempts_come_before_isolation(tell: Tell) -> None:
    story = tell(Predictor(3), AttemptPolicy(attempts=2, isolates=True))

    assert (OPEN, 1) == (story.run(token=7), len(story.predictor.calls))
    assert IN_PART is story.run(token=8, attempt=2)
    assert [(3, 4)] == story.bad_parts


def test_a_single_item_is_not_isolated_from_itself(tell: Tell) -> None:
    story = tell(Predictor(0), items=[0])

    assert (FAILED, 1) == (story.run(), len(story.predictor.calls))
    assert "part" not in story.bad[0]


def test_once_items_are_isolated_none_is_tried_again_whatever_it_raises(tell: Tell) -> None:
    class Changes(Predictor):
        def answer(self, payload: list[Any]) -> Any:
            raise Hopeless if len(payload) > 1 else ValueError

    story = tell(Changes(), AttemptPolicy(attempts=3, no_retry=frozenset({"Hopeless"}), isolates=True), [0, 1])

    assert IN_PART is story.run()
    assert ["ValueError"] * 2 == [failure["type"] for failure in story.bad]


# What a lease says


def test_leased_parts_are_tried_the_smallest_first_and_what_is_given_up_is_not_tried(tell: Tell) -> None:
    story = tell(Predictor(0), AttemptPolicy(attempts=3, isolates=True))
    died = {"type": "WorkerDied", "message": "its worker was lost"}

    state = story.run(parts=[part(0, 5), part(5, 6), part(6, 7, died), part(7, 10)])

    tried = [items for items, _ in story.predictor.calls]
    assert IN_PART is state
    assert [[5], [7, 8, 9], [0, 1, 2, 3, 4]] == tried[:3]
    assert not any(6 in items for items in tried)
    assert [(0, 1), (6, 7)] == story.bad_parts
    assert died.items() <= story.bad[1].items()
    assert [1, 2, 3, 4, 5, 7, 8, 9] == [row["is"] for row in story.good]


def test_what_is_given_up_may_be_all(tell: Tell) -> None:
    story = tell(Predictor(), items=[0, 1])
    died = {"type": "OutOfMemory", "message": "its worker ran out of memory"}

    assert IN_PART is story.run(parts=[part(0, 1, died), part(1, 2, died)])
    assert ([], [(0, 1), (1, 2)], []) == (story.good, story.bad_parts, story.predictor.calls)


def test_of_a_batch_of_which_rows_were_kept_only_the_rest_is_run(tell: Tell) -> None:
    story = tell(Predictor())
    extras = kept(story, [[2, 3, 2], [3, 4, 2], [9, 10, 7]], [0, 1, 4, 5, 6, 7, 8])

    assert ROWS is story.run(kept=extras)
    assert [[2], [3], [9]] == [items for items, _ in story.predictor.calls]
    assert [0, 1, {"is": 2}, {"is": 3}, 4, 5, 6, 7, 8, {"is": 9}] == story.good


def test_what_fails_again_leaves_what_was_kept_in_its_place(tell: Tell) -> None:
    story = tell(Predictor(3))
    extras = kept(story, [[2, 3, 1], [3, 6, 1]], ["0 and 1", 6, 7, 8, 9])

    assert IN_PART is story.run(kept=extras)
    assert ["0 and 1", {"is": 2}, {"is": 4}, {"is": 5}, 6, 7, 8, 9] == story.good
    assert [((3, 4), 2)] == [(tuple(each["part"]), each["rows_before"]) for each in story.bad]


def test_what_was_kept_is_kept_over_attempts_and_where_nothing_is_isolated(tell: Tell) -> None:
    story = tell(Predictor(3), AttemptPolicy(attempts=2))
    extras = kept(story, [[2, 5, 2]], [0, 1, 5, 6, 7, 8, 9])

    assert OPEN is story.run(token=7, kept=extras)
    assert IN_PART is story.run(token=8, attempt=2, kept=extras)
    assert ([0, 1, 5, 6, 7, 8, 9], [(2, 5)]) == (story.good, story.bad_parts)
    assert [[2, 3, 4]] * 2 == [items for items, _ in story.predictor.calls]


def test_what_was_kept_and_parts_go_together(tell: Tell) -> None:
    story = tell(Predictor())
    extras = kept(story, [[2, 5, 2]], [0, 1, 5, 6, 7, 8, 9])
    died = {"type": "WorkerDied", "message": "its worker was lost"}

    assert IN_PART is story.run(kept=extras, parts=[part(2, 4), part(4, 5, died)])
    assert ([0, 1, {"is": 2}, {"is": 3}, 5, 6, 7, 8, 9], [(4, 5)]) == (story.good, story.bad_parts)


@pytest.mark.parametrize("extras", [{}, {"parts": [part(2, 3), part(3, 5)]}])
@pytest.mark.parametrize("change", [{"worker": "gone"}, {"length": 1000}, {"length": 5}])
def test_where_what_was_kept_cannot_be_read_all_of_the_batch_is_run(
    tell: Tell, extras: dict[str, Any], change: dict[str, Any]
) -> None:
    story = tell(Predictor(3))
    lost = {**kept(story, [[2, 5, 2]], [0, 1, 5, 6, 7, 8, 9]), **change}

    assert IN_PART is story.run(kept=lost, **extras)
    assert [item for item in range(10) if item != 3] == [row["is"] for row in story.good]
    assert ID == story.predictor.calls[0][1]


# A real worker


PREDICTOR = """
    import os, signal

    class PythonPredictor:
        def __init__(self, config):
            self.calls = 0
            self.has_raised = False

        def predict(self, payload, batch_id):
            self.calls += 1
            if "kill" in payload:
                os.kill(os.getpid(), signal.SIGKILL)
            if "bad" in payload or ("once" in payload and not self.has_raised):
                self.has_raised = True
                raise ValueError(f"call {self.calls} as {batch_id}")
            return payload
"""


def make_worker(root: Path, *payloads: list[Any], **policy: Any) -> LoneWorker:
    folder, (segment,) = make_job(root, len(payloads))
    data = [json.dumps(payload).encode() for payload in payloads]
    ends = [sum(map(len, data[:count])) for count in range(len(data) + 1)]
    folder.payload(0).write_bytes(b"".join(data))
    folder.offsets(0).write_bytes(b"".join(end.to_bytes(4, "little") for end in ends))
    setup = {"policy": {"attempts": 1, "no_retry": [], "isolate": False, **policy}, "names_batches": "00000000000000aa"}
    return LoneWorker(folder, WORKER, PREDICTOR, setup=setup, segment=segment)


def test_the_lines_that_a_full_log_has_no_room_for_are_not_written_but_counted(tmp_path: Path) -> None:
    with make_worker(tmp_path, [0], [1], ["bad"], [3]) as worker:
        worker.lease(7, 0, 1)
        write_word(worker.folder.page(WORKER), Page.LOG_IS_FULL, 1)
        worker.lease(8, 1, 4)
        printed = worker.finish()

    assert 1 == printed.count(":INFO:processing batch ")
    assert "failed to process batch" in printed
    assert 3 == read_word(worker.folder.page(WORKER), Page.LINES_LEFT_OUT)


def test_a_worker_tells_what_has_ended_what_has_failed_and_what_is_open(tmp_path: Path) -> None:
    with make_worker(tmp_path, [0], ["once"], ["bad"], [3], attempts=2) as worker:
        first = worker.lease(7, 0, 4)
        again = [worker.lease(8 + batch, batch, batch + 1, attempt=2) for batch in (1, 2)]
        printed = worker.finish()

    assert (2, 0) == (first["finished"], first["failed"])
    assert [(9, 1, 0), (10, 1, 1)] == [(each["token"], each["finished"], each["failed"]) for each in again]
    assert bytes([ROWS, ROWS, FAILED, ROWS]) == worker.folder.states(0).read_bytes()
    assert f"failed to process batch {batch_id('00000000000000aa', 2)} (attempt 1 of 2)\nTraceback" in printed


def test_a_worker_isolates_and_goes_on(tmp_path: Path) -> None:
    with make_worker(tmp_path, [0, "bad", 2], [3], isolate=True) as worker:
        told = worker.lease(7, 0, 2)

    assert (2, 1) == (told["finished"], told["failed"])
    assert bytes([IN_PART, ROWS]) == worker.folder.states(0).read_bytes()
    assert b"0\n2\n3\n" == b"".join(read_rows(worker.folder, [worker.segment]))
    ((_, failure),) = read_failures(worker.folder, [worker.segment])
    name = part_id(batch_id("00000000000000aa", 0), Part(1, 2))
    assert ([1, 2], name) == (failure["part"], failure["message"].rpartition(" ")[2])


def test_the_page_of_a_worker_that_was_killed_names_the_part_that_was_in_predict(tmp_path: Path) -> None:
    with make_worker(tmp_path, ["x"], ["a", "b", "c", "kill"], isolate=True) as worker:
        worker.lease(7, 0, 1)
        worker.offer(8, 1, 2, parts=[part(0, 2), part(2, 4)])
        worker.process.wait(60)
        page = read_page(worker.folder, WORKER)

    assert (1, Part(2, 4)) == (page.current, page.part)
    assert bytes([ROWS, OPEN]) == worker.folder.states(0).read_bytes()
