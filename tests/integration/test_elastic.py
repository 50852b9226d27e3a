"""Elastic jobs: they take what is free of the machine, and give it back where others wait. Real jobs, on this machine.

Each batch says that it runs by a file of its own, and ends when its gate is there; `open` is the gate of all.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from operator_process import OperatorProcess

PLACES = 4
SHARE = (os.cpu_count() or 1) / PLACES

GATED = """
    import os, time

    class PythonPredictor:
        def __init__(self, config):
            self.folder = config["folder"]

        def predict(self, payload):
            (item,) = payload
            with open(f"{self.folder}/{item}.runs", "a") as file:
                file.write(f"{os.getpid()}\\n")
            while not any(os.path.exists(f"{self.folder}/{gate}") for gate in (item, "open")):
                time.sleep(0.005)
            return payload
"""

ECHO = """
    class PythonPredictor:
        def __init__(self, config):
            pass

        def predict(self, payload):
            return payload
"""


class Meeting:
    """Where workers meet, and what is seen of them."""

    def __init__(self, operator: OperatorProcess, folder: Path) -> None:
        self.operator = operator
        self.folder = folder
        folder.mkdir()

    def deploy(self, *names: str, cpu: float = SHARE) -> None:
        for name in names:
            self.operator.deploy(GATED, name=name, compute={"cpu": cpu}, config={"folder": str(self.folder)})

    def elastic(self, batches: int, least: int, most: int, *, first: int = 0, api: str = "api") -> str:
        workers: Any = {"min": least, "max": most}
        return self.operator.submit(list(range(first, first + batches)), api=api, workers=workers)

    def let(self, *items: object) -> None:
        """Let these batches end."""
        for item in items:
            (self.folder / str(item)).touch()

    def running(self, items: range) -> list[int]:
        """Give which of these batches run."""
        return [
            item for item in items if (self.folder / f"{item}.runs").exists() and not (self.folder / str(item)).exists()
        ]

    def until(self, job: str, expected: Callable[[dict[str, Any]], bool], *, api: str = "api") -> dict[str, Any]:
        """Look at a job until its status is as expected."""
        while not expected(status := self.operator.status(job, api=api)):
            assert status["status"] in {"status_running", "status_enqueuing"}, status
            time.sleep(0.01)
        return status

    def until_running(self, job: str, count: int, items: range, *, api: str = "api") -> list[int]:
        """Wait until a job has so many workers, each of them in a batch; give these batches."""
        self.until(job, lambda status: status.get("workers_now", status["worker_counts"]["running"]) == count, api=api)
        while len(running := self.running(items)) != count:
            time.sleep(0.01)
        return running

    def until_asked(self, job: str, count: int) -> None:
        """Wait until a job knows that it is to give back so many workers."""
        who = "1 worker is" if count == 1 else f"{count} workers are"
        self.until(job, lambda _: f"{who} given back: others wait for compute" in self.operator.log(job))

    def asked(self, job: str) -> int:
        """Count how often a job has been told so."""
        return self.operator.log(job).count("given back: others wait for compute")

    def attempts(self, item: object) -> int:
        return len((self.folder / f"{item}.runs").read_text().splitlines())


@pytest.fixture
def meeting(operator: OperatorProcess, tmp_path: Path) -> Meeting:
    """An operator whose machine has room for four workers, and where they meet."""
    return Meeting(operator, tmp_path / "meeting")


def test_an_elastic_job_grows_gives_back_for_others_and_grows_again(meeting: Meeting) -> None:
    items = range(40)
    meeting.deploy("api", "other")
    job = meeting.elastic(40, 1, 9)

    before = meeting.until_running(job, PLACES, items)
    alone = meeting.operator.status(job)
    other = meeting.operator.submit(["x", "y"], api="other", workers=2)
    meeting.until_asked(job, 2)
    meeting.let(*before[:1])
    meeting.until(other, lambda status: status["worker_counts"]["running"] == 1, api="other")
    meeting.let(*before[1:2])
    meeting.until(other, lambda status: status["worker_counts"]["running"] == 2, api="other")
    shared = meeting.until(job, lambda status: status["workers_now"] == PLACES - 2)
    still = meeting.running(items)
    meeting.let("x", "y")
    ended = meeting.operator.wait(other, api="other")
    after = meeting.until_running(job, PLACES, items)
    meeting.let("open")
    status = meeting.operator.wait(job)

    assert (9, 1, 4) == (alone["workers"], alone["workers_min"], alone["workers_now"])
    assert (0, 0) == (alone["worker_counts"]["pending"], alone["worker_counts"]["stalled"])
    assert "status_reason" not in alone
    assert before[2:] == still  # nobody was interrupted, and nobody began anything that was to be given back
    assert (0, 0) == (shared["worker_counts"]["failed"], shared["worker_counts"]["pending"])
    assert "status_reason" not in shared
    assert {*still} < {*after}
    assert ["status_succeeded"] * 2 == [ended["status"], status["status"]]
    assert list(items) == meeting.operator.rows(job)
    assert {1} == {meeting.attempts(item) for item in items}
    log = meeting.operator.log(job)
    assert log.count("others wait for its place, exiting...") == 2
    assert "2 workers are given back: others wait for compute" in log
    assert "exited with code" not in log
    assert "workers_now" not in status


def test_the_least_is_kept_and_what_waits_beyond_it_is_not_told_as_missing(meeting: Meeting) -> None:
    items = range(40)
    meeting.deploy("api", "other")
    job = meeting.elastic(40, 3, 4)
    before = meeting.until_running(job, PLACES, items)
    others = range(100, 104)
    other = meeting.operator.submit(list(others), api="other", workers=4)
    meeting.until_asked(job, 1)

    meeting.let(*before)
    (x,) = meeting.until_running(other, 1, others, api="other")
    kept = meeting.until_running(job, 3, items)
    shared, waiting = meeting.operator.status(job), meeting.operator.status(other, api="other")
    meeting.let(*kept, x)
    meeting.until_running(other, 1, others, api="other")  # in its next batch
    still_kept = meeting.until_running(job, 3, items)
    meeting.let("open")

    assert "3 of 4 workers wait for compute" in waiting["status_reason"]
    assert "status_reason" not in shared
    assert not {*kept} & {*still_kept}
    assert ["status_succeeded"] * 2 == [
        meeting.operator.wait(each, api=api)["status"] for each, api in ((job, "api"), (other, "other"))
    ]
    assert list(items) == meeting.operator.rows(job)
    assert 1 == meeting.operator.log(job).count("others wait for its place, exiting...")


def test_an_elastic_job_that_has_less_than_its_least_waits(meeting: Meeting) -> None:
    meeting.deploy("api", "other")
    others = range(100, 110)
    other = meeting.operator.submit(list(others), api="other", workers=3)
    meeting.until_running(other, 3, others, api="other")

    job = meeting.elastic(40, 2, 9)
    status = meeting.until(job, lambda status: status.get("workers_now") == 1)
    meeting.let("open")

    assert (1, 0) == (status["worker_counts"]["pending"], status["worker_counts"]["stalled"])
    assert "1 of 2 workers waits for compute: each needs" in status["status_reason"]
    assert meeting.operator.wait(job)["status"] == "status_succeeded"
    assert meeting.operator.wait(other, api="other")["status"] == "status_succeeded"


def test_two_elastic_jobs_share_the_machine(meeting: Meeting) -> None:
    first_items, second_items = range(100), range(100, 200)
    meeting.deploy("api", "other")
    first = meeting.elastic(100, 1, 100)
    before = meeting.until_running(first, PLACES, first_items)

    second = meeting.elastic(100, 1, 100, first=100, api="other")
    meeting.until_asked(first, 2)
    meeting.let(*before)
    meeting.until_running(second, 2, second_items, api="other")
    meeting.until_running(first, 2, first_items)
    meeting.let("open")

    for job, api, items in ((first, "api", first_items), (second, "other", second_items)):
        assert meeting.operator.wait(job, api=api)["status"] == "status_succeeded"
        assert list(items) == meeting.operator.rows(job, api=api)


def test_what_was_to_be_given_back_when_the_operator_died_is_given_back_by_the_next_one(meeting: Meeting) -> None:
    items = range(40)
    meeting.deploy("api", "other")
    job = meeting.elastic(40, 1, 9)
    before = meeting.until_running(job, PLACES, items)
    other = meeting.operator.submit(["x", "y"], api="other", workers=2)
    meeting.until_asked(job, 2)
    asked = meeting.asked(job)

    meeting.operator.kill()
    meeting.let(before[0])
    meeting.operator.start()
    meeting.until(job, lambda _: meeting.asked(job) > asked)
    meeting.let(*meeting.running(items)[:2])  # two: the first to go may have begun another Batch before it was asked
    meeting.until_running(job, 2, items)
    meeting.until(other, lambda status: status["worker_counts"]["running"] == 2, api="other")
    meeting.operator.kill()
    meeting.let("x", "y")
    meeting.operator.start()
    ended = meeting.operator.wait(other, api="other")
    meeting.until_running(job, PLACES, items)
    running = meeting.operator.status(job)
    meeting.let("open")
    status = meeting.operator.wait(job)

    assert ["status_succeeded"] * 2 == [ended["status"], status["status"]]
    assert 0 == running["worker_counts"]["failed"]
    assert list(items) == meeting.operator.rows(job)
    assert {1} == {meeting.attempts(item) for item in items}
    assert list(meeting.operator.rows(other, api="other")) == ["x", "y"]


def test_at_its_end_an_elastic_job_gives_back_even_what_is_of_its_least(meeting: Meeting) -> None:
    items = range(4)
    meeting.deploy("api", "other")
    job = meeting.elastic(4, 3, 4)
    before = meeting.until_running(job, PLACES, items)
    other = meeting.operator.submit(["x", "y", "z"], api="other", workers=3)
    meeting.until_asked(job, 1)

    meeting.let(*before[:3])
    meeting.until(other, lambda status: status["worker_counts"]["running"] == 3, api="other")
    status = meeting.operator.status(job)
    meeting.let("open")

    assert (1, 0) == (status["workers_now"], status["worker_counts"]["pending"])
    assert "status_reason" not in status
    assert meeting.operator.wait(job)["status"] == "status_succeeded"
    assert list(items) == meeting.operator.rows(job)


def test_a_replica_gets_the_place_of_a_worker_that_its_job_can_do_without(meeting: Meeting) -> None:
    items = range(40)
    meeting.deploy("api")
    job = meeting.elastic(40, 1, 4)
    before = meeting.until_running(job, PLACES, items)

    meeting.operator.deploy_realtime(ECHO, name="live", compute={"cpu": SHARE})
    meeting.until_asked(job, 1)
    meeting.let(before[0])
    answer = meeting.operator.http.post("/live", json=["hello"])
    status = meeting.until(job, lambda status: status["workers_now"] == PLACES - 1)
    meeting.let("open")

    assert ["hello"] == answer.json()
    assert 0 == status["worker_counts"]["failed"]
    assert meeting.operator.wait(job)["status"] == "status_succeeded"


def test_a_rerun_asks_for_as_many_as_its_job_or_as_it_says(meeting: Meeting) -> None:
    meeting.deploy("api")
    meeting.let("open")
    job = meeting.elastic(4, 1, 3)
    meeting.operator.wait(job)

    answers = []
    for body in ({"what": "all"}, {"what": "all", "workers": {"min": 2, "max": 5}}, {"what": "all", "workers": 2}):
        answer = meeting.operator.http.post(f"/api/{job}/rerun", json=body).json()
        answers.append((answer["workers"], answer.get("workers_min")))
        meeting.operator.wait(answer["job_id"])

    assert [(3, 1), (5, 2), (2, None)] == answers
