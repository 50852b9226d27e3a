"""Retries, isolation, limits and pauses, with real workers."""

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import pytest

from operator_process import OperatorProcess, follow_lines

RECORDING = """
    import json, os, signal, time

    class PythonPredictor:
        def __init__(self, config):
            self.config = config

        def predict(self, payload, batch_id):
            call = json.dumps({"id": batch_id, "items": payload, "pid": os.getpid()}) + "\\n"
            record = os.open(self.config["record"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.write(record, call.encode())
            os.close(record)
            print("predict has begun")
            return self.run(payload)
"""


class Recorded:
    """An operator with a predictor that writes down its calls."""

    def __init__(self, operator: OperatorProcess, folder: Path) -> None:
        self.operator = operator
        self.record = folder / "calls"

    def submit(self, run: str, items: list[Any], **fields: Any) -> str:
        body = "\n".join(f"            {line}" for line in run.strip().splitlines())
        self.operator.deploy(f"{RECORDING}\n        def run(self, payload):\n{body}\n")
        config = {"record": str(self.record), **fields.pop("config", {})}
        return self.operator.submit(items, config=config, **fields)

    def calls(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.record.read_text().splitlines()] if self.record.exists() else []

    def counted(self) -> Counter[tuple[Any, ...]]:
        return Counter(tuple(call["items"]) for call in self.calls())

    def failures(self, job: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.operator.http.get(f"/api/{job}/failures").text.splitlines()]


@pytest.fixture
def recorded(operator: OperatorProcess, tmp_path: Path) -> Recorded:
    return Recorded(operator, tmp_path)


def test_a_batch_that_raises_at_first_succeeds_in_a_later_attempt(recorded: Recorded):
    run = """
if payload == [1] and not os.path.exists(self.config["record"] + ".seen"):
    open(self.config["record"] + ".seen", "w").close()
    raise OSError("not yet")
return payload
"""
    job = recorded.submit(run, [0, 1, 2], retries={"attempts": 3, "backoff": "10ms"})

    status = recorded.operator.wait(job)

    assert ("status_succeeded", 3) == (status["status"], status["batch_metrics"]["succeeded"])
    assert {"succeeded": 3, "failed": 0} == status["item_metrics"]
    assert [0, 1, 2] == recorded.operator.rows(job)
    assert Counter({(0,): 1, (1,): 2, (2,): 1}) == recorded.counted()
    assert 3 == len({call["id"] for call in recorded.calls()})
    assert "(attempt 1 of 3)" in recorded.operator.log(job)


def test_a_batch_that_raises_in_every_attempt_fails_after_the_last(recorded: Recorded):
    job = recorded.submit("raise OSError(payload)", [0, 1], retries={"attempts": 3, "backoff": 0})

    status = recorded.operator.wait(job)

    assert ("status_completed_with_failures", 2) == (status["status"], status["batch_metrics"]["failed"])
    assert Counter({(0,): 3, (1,): 3}) == recorded.counted()
    assert [3, 3] == [failure["attempts"] for failure in recorded.failures(job)]


def test_an_exception_that_is_not_to_be_retried_fails_at_once(recorded: Recorded):
    retries = {"attempts": 3, "backoff": 0, "no_retry": ["LookupError"]}
    job = recorded.submit("raise KeyError(payload[0])", [0], retries=retries)

    assert "status_completed_with_failures" == recorded.operator.wait(job)["status"]
    assert 1 == len(recorded.calls())


def test_attempts_are_counted_over_the_death_of_the_operator(recorded: Recorded):
    job = recorded.submit("raise OSError(payload)", [0], retries={"attempts": 2, "backoff": "1h"})
    next(line for line in follow_lines(recorded.operator, job) if "attempt 1 of 2" in line)

    recorded.operator.kill()
    recorded.operator.start()

    assert "status_completed_with_failures" == recorded.operator.wait(job)["status"]
    assert 2 == len(recorded.calls())


def test_the_good_items_of_a_batch_give_their_rows_and_the_guilty_ones_are_named(recorded: Recorded):
    run = """
if 13 in payload or 14 in payload:
    raise ValueError("unlucky")
return [item * 10 for item in payload]
"""
    job = recorded.submit(run, list(range(40)), batch_size=20, on_failed_batch="isolate")

    status = recorded.operator.wait(job)

    assert ("status_completed_with_failures", 1) == (status["status"], status["batch_metrics"]["failed"])
    assert {"succeeded": 38, "failed": 2} == status["item_metrics"]
    assert [item * 10 for item in range(40) if item not in (13, 14)] == recorded.operator.rows(job)
    assert [(13, 1, "unlucky"), (14, 1, "unlucky")] == [
        (failure["first_item"], failure["items"], failure["message"]) for failure in recorded.failures(job)
    ]
    calls = recorded.calls()
    assert len(calls) == len({call["id"] for call in calls})  # each part has an id of its own


def test_an_item_that_kills_its_worker_is_found_and_the_others_give_their_rows(recorded: Recorded):
    run = """
if 5 in payload:
    os.kill(os.getpid(), signal.SIGKILL)
return payload
"""
    job = recorded.submit(run, list(range(16)), batch_size=8, on_failed_batch="isolate")

    status = recorded.operator.wait(job)

    assert "status_worker_error" == status["status"]
    assert {"succeeded": 15, "failed": 1} == status["item_metrics"]
    assert [item for item in range(16) if item != 5] == recorded.operator.rows(job)
    (failure,) = recorded.failures(job)
    assert (5, 1, "WorkerDied") == (failure["first_item"], failure["items"], failure["type"])
    assert "item 5 of batch" in status["status_reason"]
    assert 1 == recorded.counted()[tuple(range(8, 16))]


def test_a_batch_that_takes_too_long_is_ended_and_the_others_go_on(recorded: Recorded):
    run = """
if payload == [1]:
    signal.pause()
return payload
"""
    job = recorded.submit(run, [0, 1, 2], batch_timeout="2s")

    status = recorded.operator.wait(job)

    assert "status_completed_with_failures" == status["status"]
    assert [0, 2] == recorded.operator.rows(job)
    (failure,) = recorded.failures(job)
    assert ("BatchTimeout", 1) == (failure["type"], failure["attempts"])
    assert "batch_timeout" in status["status_reason"]


def test_a_job_that_takes_too_long_has_timed_out_and_keeps_what_it_did(recorded: Recorded):
    run = """
if payload == [1]:
    signal.pause()
return payload
"""
    job = recorded.submit(run, [0, 1], timeout=5)

    status = recorded.operator.wait(job)

    assert "status_timed_out" == status["status"]
    assert "timeout of 5 seconds" in status["status_reason"]
    assert [0] == recorded.operator.rows(job)


def test_a_timeout_that_ended_while_the_operator_was_away_ends_the_job_when_it_is_back(recorded: Recorded):
    job = recorded.submit("signal.pause()", [0], timeout=4)
    next(line for line in follow_lines(recorded.operator, job) if "predict has begun" in line)
    recorded.operator.kill()

    recorded.operator.start()

    assert "status_timed_out" == recorded.operator.wait(job)["status"]


def test_too_many_failures_stop_the_job_and_say_so(recorded: Recorded):
    job = recorded.submit("raise ValueError(payload)", list(range(100)), max_failures="5%")

    status = recorded.operator.wait(job)

    assert "status_stopped" == status["status"]
    assert "more than `max_failures` (5%) allows" in status["status_reason"]
    assert len(recorded.calls()) < 100


def test_a_paused_job_stands_still_over_a_restart_until_it_is_resumed(recorded: Recorded, tmp_path: Path):
    run = """
if payload == [0]:
    open(self.config["gate"]).read()
return payload
"""
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    job = recorded.submit(run, list(range(50)), config={"gate": str(gate)})
    next(line for line in follow_lines(recorded.operator, job) if "predict has begun" in line)

    answer = recorded.operator.http.post(f"/api/{job}/pause")
    assert {"message": f"paused job {job}"} == answer.json()
    assert "status_paused" == recorded.operator.status(job)["status"]
    gate.write_text("")
    assert psutil.wait_procs(recorded.operator.worker_processes(), timeout=30)[1] == []
    assert (1, 49) == (len(recorded.calls()), recorded.operator.status(job)["batches_in_queue"])

    recorded.operator.kill()
    recorded.operator.start()
    assert "status_paused" == recorded.operator.status(job)["status"]
    assert {"message": f"resumed job {job}"} == recorded.operator.http.post(f"/api/{job}/resume").json()

    assert "status_succeeded" == recorded.operator.wait(job)["status"]
    assert list(range(50)) == recorded.operator.rows(job)
    assert 50 == len(recorded.calls())


def test_ten_thousand_batches_with_poison_give_every_good_row_and_a_failure_for_every_bad_item(recorded: Recorded):
    run = """
if any(item % 100 == 37 for item in payload):
    raise ValueError("poison")
return payload
"""
    items = list(range(100_000))
    job = recorded.submit(run, items, batch_size=10, workers=2, on_failed_batch="isolate")

    status = recorded.operator.wait(job)

    poison = [item for item in items if item % 100 == 37]
    assert 10_000 == status["total_batch_count"]
    assert {"succeeded": 99_000, "failed": 1_000} == status["item_metrics"]
    assert [item for item in items if item % 100 != 37] == recorded.operator.rows(job)
    assert poison == [failure["first_item"] for failure in recorded.failures(job)]
    calls = len(recorded.calls())
    print(f"{calls} calls of predict: 10000 batches, and {(calls - 10_000) / len(poison)} more for each poison item")
    assert calls <= 10_000 + len(poison) * 8  # 2 * log2(10) and a little
