"""Requests all the time, while replicas come and go in every way: none is lost, mixed up, or done twice."""

from collections.abc import Callable
from pathlib import Path

import pytest

from operator_process import OperatorProcess
from processes import kill_one
from realtime_load import LoadedApi

CLIENTS = 4
PREDICT_SECONDS = 0.05
"""Long enough for something to be in predict whenever a replica ends."""

MOST_IN_A_PROCESS = 5
"""Requests that a process with one thread may have: one in predict, and what is sent ahead."""

BATCHES = 100
BATCH_PREDICTOR = """
import os


class PythonPredictor:
    def __init__(self, config):
        self.record = os.open(config["record"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def predict(self, payload):
        os.write(self.record, b"%d\\n" % payload[0])
"""


@pytest.fixture
def api(operator: OperatorProcess, tmp_path: Path) -> LoadedApi:
    return LoadedApi(operator, tmp_path)


def assert_each_was_done_once(api: LoadedApi) -> None:
    """Every request has one answer, its own, and every good answer comes from one call of predict."""
    assert [] == api.clients.problems
    assert [] == api.clients.mixed_up()
    assert [] == api.done_twice()
    assert set() == api.not_done()


def assert_all_are_good(api: LoadedApi) -> None:
    """Each was done once, with an answer of 200."""
    assert_each_was_done_once(api)
    assert [] == api.clients.not_good()
    assert sorted(number for number, _ in api.entries()) == sorted(each.number for each in api.clients.answers)


def test_all_requests_are_answered_while_an_api_is_scaled_up_and_down(api: LoadedApi) -> None:
    api.deploy(config={"seconds": PREDICT_SECONDS}, min_replicas=1, max_replicas=1)

    with api.clients.sending(CLIENTS):
        api.clients.wait_for_more(20)
        for replicas in (3, 1, 2, 1):
            api.deploy(config={"seconds": PREDICT_SECONDS}, min_replicas=replicas, max_replicas=replicas)
            api.wait_for_replicas(replicas)
            api.clients.wait_for_more(20)

    assert_all_are_good(api)
    assert 3 <= len({pid for _, pid in api.entries()})
    counts = api.requests()
    assert (len(api.clients.answers), 0, 0) == (counts["code_2xx"], counts["in_flight"], counts["queued"])


def test_all_requests_are_answered_while_an_api_is_updated_and_refreshed(api: LoadedApi) -> None:
    api.deploy(config={"seconds": PREDICT_SECONDS}, min_replicas=2, max_replicas=2)

    with api.clients.sending(CLIENTS):
        api.clients.wait_for_more(20)
        for edition in (2, 3):
            api.deploy(config={"seconds": PREDICT_SECONDS, "edition": edition}, min_replicas=2, max_replicas=2)
            api.wait_for_replicas(2)
            api.clients.wait_for_more(20)
        before = api.processes()
        assert 200 == api.operator.http.post("/_cortex/apis/api/refresh").status_code
        api.wait_until_gone(before)
        api.clients.wait_for_more(20)

    assert_all_are_good(api)
    assert {1, 2, 3} == set(api.clients.editions())
    assert {3} == set(api.clients.editions()[-20:])


@pytest.mark.parametrize("seconds", [0, PREDICT_SECONDS])  # of the short ones some are sent ahead
def test_a_killed_replica_is_replaced_and_only_what_it_had_is_lost(api: LoadedApi, seconds: float) -> None:
    api.deploy(config={"seconds": seconds}, min_replicas=2, max_replicas=2)
    killed = set()

    with api.clients.sending(CLIENTS):
        for _ in range(4):
            api.wait_for_replicas(2)
            api.clients.wait_for_more(20)
            victim = api.processes()[0]
            victim.kill()
            killed.add(victim.pid)
            api.wait_until_gone([victim])
        api.wait_for_replicas(2)
        api.clients.wait_for_more(20)

    assert_each_was_done_once(api)
    assert_only_these_have_lost_any(api, killed)
    counts = api.requests()
    assert (len(api.clients.not_good()), len(api.clients.answers)) == (counts["code_5xx"], counts["total"])


def test_replicas_that_are_killed_in_the_middle_of_updates_take_nothing_else_with_them(api: LoadedApi) -> None:
    api.deploy(config={"seconds": PREDICT_SECONDS}, min_replicas=2, max_replicas=2)
    killed = set()

    with api.clients.sending(CLIENTS):
        api.clients.wait_for_more(20)
        for edition in range(2, 6):
            api.deploy(config={"seconds": PREDICT_SECONDS, "edition": edition}, min_replicas=2, max_replicas=2)
            killed.add(kill_one(api.processes).pid)
            api.clients.wait_for_more(CLIENTS)
        api.wait_for_replicas(2)
        api.clients.wait_for_more(20)

    assert_each_was_done_once(api)
    assert_only_these_have_lost_any(api, killed)
    assert {5} == set(api.clients.editions()[-CLIENTS:])


def test_when_a_supervisor_is_killed_what_waits_is_answered_by_the_next_replicas(api: LoadedApi) -> None:
    api.deploy(config={"seconds": PREDICT_SECONDS}, processes=2, min_replicas=1, max_replicas=1)
    killed = set()

    with api.clients.sending(CLIENTS):
        for _ in range(2):
            api.wait_for_replicas(1)
            api.clients.wait_for_more(20)
            replicas = api.processes()
            killed |= {process.pid for process in replicas}
            replicas[0].parent().kill()
            api.wait_until_gone(replicas)
            api.clients.wait_for_more(20)

    assert_each_was_done_once(api)
    assert_only_these_have_lost_any(api, killed)


def assert_only_these_have_lost_any(api: LoadedApi, killed: set[int]) -> None:
    """What was not answered well was in a process that was killed, or on the way to one."""
    lost = api.clients.not_good()
    came_to = dict(api.entries())
    assert {502} >= {each.status for each in lost}
    assert killed >= {came_to[each.number] for each in lost if each.number in came_to}
    assert len(lost) <= len(killed) * MOST_IN_A_PROCESS


def test_when_an_operator_is_killed_the_next_one_goes_on_with_its_replicas(
    start_operator: Callable[..., OperatorProcess], tmp_path: Path
) -> None:
    operator = start_operator()
    api = LoadedApi(operator, tmp_path)
    api.deploy(config={"seconds": PREDICT_SECONDS}, min_replicas=2, max_replicas=2)
    api.wait_for_replicas(2)
    with api.clients.sending(CLIENTS):
        api.clients.wait_for_more(20)
        before = {process.pid for process in api.processes()}

    with api.clients.sending(CLIENTS):
        operator.kill()
        api.wait_for(lambda: len(api.clients.problems) >= CLIENTS, "the clients see that nobody is there")
    operator.start()
    api.clients.problems.clear()
    with api.clients.sending(CLIENTS):
        api.wait_for_replicas(2)
        api.clients.wait_for_more(20)

    assert_each_was_done_once(api)
    assert {pid for _, pid in api.entries()} == before


def test_more_requests_than_an_api_may_have_are_refused_until_some_are_answered(api: LoadedApi) -> None:
    config = {"gate": str(api.gate)}
    api.deploy(config=config, min_replicas=1, max_replicas=1, max_replica_concurrency=CLIENTS)
    api.wait_for_replicas(1)

    with api.clients.sending(CLIENTS):
        api.wait_for(lambda: api.requests()["in_flight"] == CLIENTS, "as many wait as may")
        try:
            refused = [api.operator.http.post("/api", json=number) for number in (-1, -2)]
        finally:
            api.gate.touch()
        api.clients.wait_for_more(CLIENTS)

    assert [(503, "api.overloaded", True)] * 2 == [
        (each.status_code, each.json()["kind"], "Retry-After" in each.headers) for each in refused
    ]
    assert_all_are_good(api)
    counts = api.requests()
    assert (len(api.clients.answers), 2) == (counts["code_2xx"], counts["code_5xx"])


def test_a_burst_to_an_api_at_zero_is_answered_and_so_is_the_next_one(api: LoadedApi) -> None:
    scaling = {"min_replicas": 0, "max_replicas": 2, "window": "10s", "downscale_stabilization_period": "0s"}
    api.deploy(**scaling)
    assert [] == api.operator.worker_processes() or 0 == api.replicas()["requested"]

    api.clients.burst(20)
    api.wait_for(lambda: api.replicas()["requested"] == 0 and not api.processes(), "nobody is left")
    api.clients.burst(20)

    assert_all_are_good(api)
    assert 40 == len(api.clients.answers)


def test_an_api_grows_with_its_load(api: LoadedApi) -> None:
    scaling = {"max_replicas": 3, "window": "10s", "upscale_stabilization_period": "0s"}
    api.deploy(config={"seconds": PREDICT_SECONDS}, min_replicas=1, **scaling)

    with api.clients.sending(2 * CLIENTS):
        api.wait_for(lambda: len(api.processes()) >= 2, "there is another one")
        api.clients.wait_for_more(20)

    assert_all_are_good(api)


def test_jobs_and_requests_beside_each_other_are_done_exactly_once(api: LoadedApi, tmp_path: Path) -> None:
    batches = tmp_path / "batches"
    api.deploy(config={"seconds": PREDICT_SECONDS}, min_replicas=1, max_replicas=1)
    api.operator.deploy(BATCH_PREDICTOR, name="batch", config={"record": str(batches)})

    with api.clients.sending(CLIENTS):
        api.clients.wait_for_more(20)
        jobs = [
            api.operator.submit(list(range(first, first + BATCHES)), api="batch", workers=2)
            for first in (0, BATCHES, 2 * BATCHES)
        ]
        endings = [api.operator.wait(job, api="batch")["status"] for job in jobs]
        api.clients.wait_for_more(20)

    assert ["status_succeeded"] * 3 == endings
    assert list(range(3 * BATCHES)) == sorted(map(int, batches.read_text().split()))
    assert_all_are_good(api)
