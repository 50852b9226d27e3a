"""An operator that is stopped lets run to its end what can end in time, and loses nothing of what cannot."""

import signal
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import psutil
import pytest
from click.testing import CliRunner

from cortex.cli.main import main
from cortex.clients.local import LocalOperator
from operator_process import TIMEOUT_SECONDS, OperatorProcess, follow_lines
from processes import name_of
from waiting import wait_until

ITEMS = list(range(6))

WAITS = """
    import os, time

    class PythonPredictor:
        def __init__(self, config):
            self.config = config

        def predict(self, payload):
            self.record("calls", payload[0])
            print("in predict", flush=True)
            self.wait("gate")
            self.record("ends", payload[0])
            return payload

        def on_job_complete(self):
            self.record("calls", "hook")
            print("in the hook", flush=True)
            self.wait("hook-gate")
            self.record("ends", "hook")

        def wait(self, gate):
            while not os.path.exists(os.path.join(self.config["folder"], gate)):
                time.sleep(0.01)

        def record(self, name, what):
            with open(os.path.join(self.config["folder"], name), "a") as file:
                file.write(f"{what}\\n")
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """A job of which two workers wait in predict, or one in the hook."""

    operator: OperatorProcess
    job: str
    folder: Path

    def open(self, *gates: str) -> None:
        for gate in gates:
            (self.folder / gate).touch()

    def count(self, record: str) -> Counter[str]:
        """Count what the predictor has recorded: `calls` or `ends`."""
        return Counter((self.folder / record).read_text().split())

    def end(self) -> psutil.Process:
        """Ask the operator to end, and wait until it says what it waits for."""
        assert self.operator.process is not None
        self.operator.process.send_signal(signal.SIGTERM)
        self.waiting()
        return psutil.Process(self.operator.process.pid)

    def waiting(self) -> dict[str, Any]:
        """Give what an operator waits for that is about to end."""
        while (draining := self.operator.http.get("/_cortex/info").json().get("draining")) is None:
            continue
        described: dict[str, Any] = draining
        return described

    def gone(self) -> str:
        """Wait for the end of the operator, which must be a clean one; give what it has written to stdout."""
        assert self.operator.process is not None
        process = self.operator.process
        assert process.wait(TIMEOUT_SECONDS) == 0
        assert self.operator.stop() == ""
        return self.operator.written

    def assert_ends_well(self) -> None:
        """Let the next operator go on: every batch succeeds once, and none is charged."""
        self.operator.start()
        self.open("gate", "hook-gate")
        status = self.operator.wait(self.job)
        log = self.operator.log(self.job)

        assert status["status"] == "status_succeeded", log
        assert ITEMS == self.operator.rows(self.job)
        assert Counter([*map(str, ITEMS), "hook"]) == self.count("ends")
        assert "death" not in log
        assert "attempt" not in log


@pytest.fixture
def begin(start_operator: Callable[..., OperatorProcess], tmp_path: Path) -> Callable[..., Story]:
    """Begin a job whose workers wait in predict."""

    def begin(*options: str, is_in_hook: bool = False) -> Story:
        operator = start_operator("--keep-warm", "0", *options)
        operator.deploy(WAITS, config={"folder": str(tmp_path)})
        if is_in_hook:
            (tmp_path / "gate").touch()
        job = operator.submit(ITEMS, workers=2)
        awaited = "in the hook" if is_in_hook else "in predict"
        list(islice((line for line in follow_lines(operator, job) if line == awaited), 1 if is_in_hook else 2))
        return Story(operator=operator, job=job, folder=tmp_path)

    return begin


def test_a_batch_that_ends_within_the_grace_period_is_not_run_again(begin: Callable[..., Story]) -> None:
    story = begin("--grace-period", "600")

    story.end()
    assert story.waiting()["batches"] == 2
    story.open("gate")
    written = story.gone()

    assert written.startswith("waiting for 2 batches to end (at most 600s); a second signal")
    assert sum(story.count("calls").values()) == 2  # nothing more was handed out
    assert story.count("calls") == story.count("ends")
    story.assert_ends_well()
    assert set(story.count("calls").values()) == {1}


def test_an_operator_that_is_about_to_end_answers_questions_and_takes_no_jobs(begin: Callable[..., Story]) -> None:
    story = begin("--grace-period", "600")

    story.end()
    request = {"workers": 1, "item_list": {"items": [1], "batch_size": 1}}
    refused = story.operator.http.post("/api", json=request)
    status = story.operator.status(story.job)
    story.open("gate")
    story.gone()

    assert (503, "operator.stopping") == (refused.status_code, refused.json()["kind"])
    assert "Retry-After" in refused.headers
    assert "about to stop" in refused.json()["message"]
    assert ("status_running", 2) == (status["status"], status["batches_in_flight"])
    assert status["status_reason"] == "the operator is about to stop; the next one goes on with the job"
    story.assert_ends_well()


def test_what_does_not_end_within_the_grace_period_is_cut_off_and_runs_again(begin: Callable[..., Story]) -> None:
    story = begin("--grace-period", "0.2")

    assert story.operator.process is not None
    story.operator.process.send_signal(signal.SIGTERM)
    story.gone()
    cut_off = story.count("calls")

    assert {2: 1} == {len(cut_off): 1}
    assert story.operator.worker_processes() == []
    story.assert_ends_well()
    assert {item for item, calls in story.count("calls").items() if calls == 2} == set(cut_off)


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_cuts_the_grace_period_short(begin: Callable[..., Story], second: signal.Signals) -> None:
    story = begin("--grace-period", "6000")

    story.end().send_signal(second)
    story.gone()

    story.assert_ends_well()


@pytest.mark.parametrize("is_operator_first", [True, False])
def test_a_signal_to_all_processes_at_once_is_the_operators_to_heed(
    begin: Callable[..., Story], is_operator_first: bool
) -> None:
    story = begin("--grace-period", "600")
    assert story.operator.process is not None
    own = psutil.Process(story.operator.process.pid)
    others = story.operator.worker_processes()
    needed = [process for process in others if name_of(process) in ("cortex-worker", "cortex-superv")]

    for process in [own, *others] if is_operator_first else [*others, own]:
        process.send_signal(signal.SIGTERM)
    story.waiting()
    dead = psutil.wait_procs(needed, timeout=0)[0]
    story.open("gate")
    story.gone()

    assert (3, []) == (len(needed), dead)
    assert story.count("calls") == story.count("ends")
    assert story.operator.worker_processes() == []
    story.assert_ends_well()
    assert set(story.count("calls").values()) == {1}


def test_a_supervisor_without_an_operator_heeds_the_signal(begin: Callable[..., Story]) -> None:
    story = begin()
    supervisor = story.operator.worker_processes("cortex-superv")[0]

    story.operator.kill()
    # Again and again: what comes before it has seen the operator go, it leaves to the operator.
    for _ in range(100):
        with suppress(psutil.NoSuchProcess):
            supervisor.terminate()
        if not psutil.wait_procs([supervisor], timeout=0.1)[1] or supervisor not in story.operator.worker_processes():
            break

    # Long before it gives up waiting for an operator.
    wait_until(lambda: story.operator.worker_processes() == [], "its workers have gone with it", timeout_seconds=10)
    story.assert_ends_well()


def test_a_hook_has_more_time_than_a_batch(begin: Callable[..., Story]) -> None:
    story = begin("--grace-period", "0", is_in_hook=True)

    story.end()
    assert story.waiting()["hooks"] == 1
    story.open("hook-gate")
    written = story.gone()

    assert written.startswith("waiting for 1 `on_job_complete` to end (at most 30s)")
    story.assert_ends_well()
    assert story.count("calls")["hook"] == 1


@pytest.fixture
def local(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[Story], CliRunner]:
    """Take the operator of a story for that of `local`."""

    def local(story: Story) -> CliRunner:
        monkeypatch.setenv("CORTEX_CLI_CONFIG_DIR", str(tmp_path / "cli"))
        monkeypatch.setattr(
            "cortex.cli.cluster.local_operator", lambda: LocalOperator(data_dir=story.operator.data_dir)
        )
        return CliRunner()

    return local


def test_cluster_down_says_what_it_waits_for(begin: Callable[..., Story], local: Callable[[Story], CliRunner]) -> None:
    story = begin("--grace-period", "600")

    def open_when_waiting() -> None:
        story.waiting()
        story.open("gate")

    opener = threading.Thread(target=open_when_waiting)
    opener.start()
    result = local(story).invoke(main, ["cluster", "down"])
    opener.join()

    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("stopped the operator at ")
    story.gone()
    story.assert_ends_well()


def test_cluster_down_now_does_not_wait(begin: Callable[..., Story], local: Callable[[Story], CliRunner]) -> None:
    story = begin("--grace-period", "6000")

    result = local(story).invoke(main, ["cluster", "down", "--now"])

    assert result.exit_code == 0, result.output
    assert story.count("calls").total() == 2
    story.gone()
    story.assert_ends_well()


def test_cluster_down_now_ends_what_another_cluster_down_waits_for(
    begin: Callable[..., Story], local: Callable[[Story], CliRunner]
) -> None:
    story = begin("--grace-period", "6000")
    told: list[str] = []
    has_told = threading.Event()
    first = threading.Thread(
        target=LocalOperator(data_dir=story.operator.data_dir).stop,
        kwargs={"waiting_for": lambda what: (told.append(what), has_told.set())},
    )
    first.start()
    assert has_told.wait(TIMEOUT_SECONDS)

    result = local(story).invoke(main, ["cluster", "down", "--now"])
    first.join()

    assert result.exit_code == 0, result.output
    assert told == ["2 batches to end (at most 6000s)"]
    story.gone()
    story.assert_ends_well()
