"""What every engine promises, with real supervisors and Workers: those of this machine, and those of stations."""

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from cortex.domain.ending import Exit
from cortex.engines.engine import Needs
from cortex.engines.process_table import is_there
from lone_engine import LoneEngine
from waiting import wait_until

OneEngine = Callable[..., LoneEngine]

WILLING = """
    class PythonPredictor:
        def __init__(self, config):
            print("constructed", flush=True)

        def predict(self, payload):
            return payload
"""

DEAF = """
    import signal, time

    class PythonPredictor:
        def __init__(self, config):
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            print("constructing", flush=True)
            while True:
                time.sleep(1)

        def predict(self, payload):
            return payload
"""

CORE = {"millicores": 1000}
FINISH = {"type": "finish", "message": "no batches left in queue"}


def that(does: str) -> str:
    """Give a predictor whose construction does this."""
    return f"""
    import os, signal

    class PythonPredictor:
        def __init__(self, config):
            {does}

        def predict(self, payload):
            return payload
    """


@pytest.fixture(params=["processes", "stations"])
def start(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OneEngine]:
    """Start engines one after the other, on the same data."""
    started: list[LoneEngine] = []
    of_other_tests = set(psutil.Process().children())  # operators that they share

    def start() -> LoneEngine:
        port = started[-1].port if started else 0
        started.append(LoneEngine(request.param, tmp_path / "data", port=port))
        return started[-1].__enter__()

    yield start
    for one in started:
        one.__exit__()
    assert [] == living(descendants(of_other_tests))


@pytest.fixture
def one(start: OneEngine) -> LoneEngine:
    """One engine."""
    return start()


def test_a_worker_starts_and_connects_and_ends_when_it_is_told_to(one: LoneEngine) -> None:
    worker = one.order("a", WILLING)
    process = one.wait_until_ready(worker)
    assert one.do(lambda: one.engine.has_place(worker))

    one.stop(worker, at_once=False)
    one.tell(worker, FINISH)
    ending = one.wait_for_exit(worker)

    assert Exit(status=0, mem_limit_bytes=0) == ending
    assert not process.is_running()
    assert not one.do(lambda: one.engine.has_place(worker))


def test_a_worker_is_drained_before_it_is_gone_and_then_its_log_has_all_that_it_printed(one: LoneEngine) -> None:
    worker = one.order("a", that('print("some words" * 9000, "the last", flush=True); os._exit(0)'))

    one.wait_for_exit(worker)

    assert ["started", "drained", "exited"] == [what for what, _ in one.heard.told]
    assert 9000 == one.heard.drained[worker].count("some words")
    assert "the last" in one.heard.drained[worker]


@pytest.mark.parametrize(
    ("does", "cause"),
    [
        ("os._exit(7)", "exited with code 7"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "was killed by signal 9 (SIGKILL)"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "was killed by signal 11 (SIGSEGV)"),
    ],
)
def test_how_a_worker_has_died_is_told(one: LoneEngine, does: str, cause: str) -> None:
    worker = one.order("a", that(does))

    ending = one.wait_for_exit(worker)

    assert (cause, True, False) == (ending.cause, ending.is_charged, ending.is_out_of_memory)


def test_a_worker_that_has_run_out_of_its_memory_is_told_from_one_that_was_killed(one: LoneEngine) -> None:
    hoard = 'self.hoard = [bytearray(b"x" * 2**20) for _ in range(900)]; os.read(os.pipe()[0], 1)'

    worker = one.order("a", that(hoard), mem_bytes=200 * 2**20)
    ending = one.wait_for_exit(worker)

    assert "ran out of memory: it is limited to 200Mi (compute.mem)" == ending.cause
    assert (True, True) == (ending.is_out_of_memory, ending.is_charged)


def test_a_worker_that_is_stopped_at_once_is_killed_in_the_end(one: LoneEngine) -> None:
    worker = one.order("a", DEAF)
    wait_until(lambda: "constructing" in one.log(), "it does not heed signals")

    one.stop(worker, at_once=True)
    ending = one.wait_for_exit(worker)

    assert -9 == ending.status


def test_a_worker_waits_for_a_place_beside_all_others_and_it_is_said_for_what(one: LoneEngine) -> None:
    first = one.order("a", WILLING, **CORE)
    one.wait_until_ready(first)

    second = one.order("b", WILLING, **CORE)
    has_place = one.do(lambda: [one.engine.has_place(worker) for worker in (first, second)])
    shortage = one.do(lambda: one.engine.shortage(Needs(**CORE)))
    one.stop(first, at_once=True)
    one.wait_until_ready(second)

    assert [True, False] == has_place
    assert "each needs 1 cpu, and 1 of the machine's 1 is taken" == shortage


def test_a_worker_that_waits_for_a_place_is_withdrawn_a_moment_after_it_was_stopped(one: LoneEngine) -> None:
    one.wait_until_ready(one.order("a", WILLING, **CORE))
    waiting = one.order("b", WILLING, **CORE)

    def stop() -> dict[str, Exit]:
        one.engine.stop(waiting, at_once=True)
        return dict(one.heard.endings)

    at_once = one.do(stop)
    ending = one.wait_for_exit(waiting)

    assert ({}, "was not started") == (at_once, ending.cause)
    assert ["drained", "exited"] == [what for what, worker in one.heard.told if worker == waiting]


def test_a_worker_whose_supervisor_is_killed_is_gone_with_it_and_no_batch_is_charged(one: LoneEngine) -> None:
    worker = one.order("a", WILLING)
    process = one.wait_until_ready(worker)

    supervisor_of(process).kill()
    ending = one.wait_for_exit(worker)

    assert ("was killed with its supervisor", False) == (ending.cause, ending.is_charged)
    wait_until(lambda: [] == living([process]), "its process is gone")


def test_a_supervisor_that_is_silent_for_the_deadline_is_killed_with_its_worker(one: LoneEngine) -> None:
    worker = one.order("a", WILLING)
    process = one.wait_until_ready(worker)

    supervisor_of(process).suspend()
    ending = one.wait_for_exit(worker)

    assert ("was killed with its supervisor", False) == (ending.cause, ending.is_charged)
    wait_until(lambda: [] == living([process]), "its process is gone")


def test_the_next_operator_finds_the_workers_of_the_one_before(start: OneEngine) -> None:
    before = start()
    worker = before.order("a", WILLING, **CORE)
    process = before.wait_until_ready(worker)
    before.leave()

    after = start()
    found = after.wait_until_ready(worker)
    after.do(lambda: after.engine.end_lost(worker, pid=process.pid, process_started_at=process.create_time()))
    may_return_still = after.do(after.engine.may_return)
    waiting = after.order("b", WILLING, **CORE)
    has_place = after.do(lambda: [after.engine.has_place(each) for each in (worker, waiting)])
    after.stop(worker, at_once=False)
    after.tell(worker, FINISH)
    ending = after.wait_for_exit(worker)

    assert process == found
    assert (True, False) == (after.may_return_at_first, may_return_still)
    assert [True, False] == has_place
    assert 0 == ending.status


def test_the_next_operator_hears_how_a_worker_has_ended_in_between(start: OneEngine) -> None:
    before = start()
    worker = before.order("a", WILLING)
    process = before.wait_until_ready(worker)
    before.leave()

    process.kill()
    wait_until(lambda: [] == living([process]), "it is dead")
    after = start()
    ending = after.wait_for_exit(worker)

    assert ("was killed by signal 9 (SIGKILL)", True) == (ending.cause, ending.is_charged)


def test_a_worker_of_an_earlier_operator_that_is_gone_is_told_to_be(one: LoneEngine) -> None:
    one.do(lambda: one.engine.end_lost("gone", pid=2**22, process_started_at=1.0))

    ending = one.wait_for_exit("gone")

    assert ("ended while the operator was away", False) == (ending.cause, ending.is_charged)


def test_nothing_is_left_when_the_engine_has_ended(start: OneEngine) -> None:
    of_other_tests = set(psutil.Process().children())
    one = start()
    one.wait_until_ready(one.order("a", WILLING))
    one.order("b", DEAF)
    processes = descendants(of_other_tests)

    one.do(one.engine.end)

    assert len(processes) >= 2
    assert [] == living(processes)


def supervisor_of(worker: psutil.Process) -> psutil.Process:
    """Give the process that sees to a Worker."""
    supervisor: Any = worker.parent()
    assert "cortex-superv" == supervisor.name()
    return supervisor


def descendants(of_others: Collection[psutil.Process]) -> list[psutil.Process]:
    """Give what this process has started, and what that has, but for what others have started in it."""
    ours = [child for child in psutil.Process().children() if child not in of_others]
    found = list(ours)
    for child in ours:
        with suppress(psutil.NoSuchProcess):
            found += child.children(recursive=True)
    return found


def living(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    """Give those that can still do anything."""
    return [process for process in processes if process.is_running() and is_there(process.pid)]
