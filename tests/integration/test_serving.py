"""A RealtimeAPI over its life: replicas start, die, are replaced, outlive operators, and every request is answered."""

import json
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from operator_process import TIMEOUT_SECONDS, OperatorProcess
from processes import kill
from waiting import wait_until

PREDICTOR = """
    import os, time

    class PythonPredictor:
        def __init__(self, config):
            self.config = config
            if os.path.exists(self.path("broken")):
                raise ValueError("no model here")

        def predict(self, payload):
            if payload == "wait":
                open(self.path(f"began-{os.getpid()}"), "w").close()
                while not os.path.exists(self.path("gate")):
                    time.sleep(0.01)
            return {"pid": os.getpid(), "payload": payload, "version": self.config["version"]}

        def path(self, name):
            return os.path.join(self.config["folder"], name)
"""

BATCH_PREDICTOR = """
    class PythonPredictor:
        def __init__(self, config):
            pass

        def predict(self, payload):
            return payload
"""

STALE_OR_NOT = ("updated", "stale")


@dataclass
class Api:
    """An API whose predictor says which process has answered, and can be made to wait, or to be broken."""

    operator: OperatorProcess
    folder: Path
    sections: dict[str, Any] = field(default_factory=dict)

    def deploy(self, *, version: int = 1, sections: Mapping[str, Any] | None = None, **fields: Any) -> None:
        config = {"folder": str(self.folder), "version": version}
        self.operator.deploy_realtime(PREDICTOR, config=config, sections=sections, **fields)

    def call(self, payload: Any = "hello") -> httpx.Response:
        return self.operator.http.post("/api", json=payload)

    def pid(self) -> int:
        answer = self.call()
        assert answer.status_code == 200, answer.text
        return int(answer.json()["pid"])

    @contextmanager
    def waiting(self) -> Iterator["Pending"]:
        """Have a request wait in predict."""
        pending = Pending(self)
        pending.thread.start()
        wait_until(lambda: bool(list(self.folder.glob("began-*"))))
        yield pending
        pending.thread.join(TIMEOUT_SECONDS)

    def open(self) -> None:
        (self.folder / "gate").touch()

    def break_(self, *, is_broken: bool) -> None:
        (self.folder / "broken").touch() if is_broken else (self.folder / "broken").unlink()

    def describe(self) -> dict[str, Any]:
        answer = self.operator.http.get("/_cortex/apis/api")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def status(self) -> str:
        return str(self.describe()["status"]["status_code"])

    def counts(self) -> dict[str, int]:
        """Count all replicas, of whatever version, by how far they are."""
        told = self.describe()["status"]["replica_counts"]
        return {key: sum(told[which][key] for which in STALE_OR_NOT) for key in told["updated"]}

    def log(self) -> str:
        return (self.operator.data_dir / "apis" / "api" / "log").read_text()


class Pending:
    """A request in predict, sent by a thread."""

    def __init__(self, api: Api) -> None:
        self.answers: list[httpx.Response] = []
        self.thread = threading.Thread(target=self._send, args=(api,))

    def _send(self, api: Api) -> None:
        with (
            httpx.Client(base_url=api.operator.address, timeout=TIMEOUT_SECONDS) as http,
            suppress(httpx.TransportError),  # where its operator is killed
        ):
            self.answers.append(http.post("/api", json="wait"))

    @property
    def answer(self) -> httpx.Response:
        self.thread.join(TIMEOUT_SECONDS)
        return self.answers[0]


def kind(answer: httpx.Response) -> str:
    return str(answer.json()["kind"])


@pytest.fixture
def api(operator: OperatorProcess, tmp_path: Path) -> Iterator[Api]:
    api = Api(operator, tmp_path)
    yield api
    api.open()


def test_a_request_is_answered_by_a_replica_and_counted(api: Api) -> None:
    api.deploy()

    answer = api.call([1, "two"])

    assert (200, [1, "two"]) == (answer.status_code, answer.json()["payload"])
    described = api.describe()
    assert "status_live" == described["status"]["status_code"]
    stats = described["metrics"]["network_stats"]
    assert (1, 1, 0) == (stats["total"], stats["code_2xx"], stats["in_flight"])
    assert stats["latency"] > 0


def test_a_request_whose_process_is_killed_gets_502_and_the_next_is_answered_by_its_replacement(api: Api) -> None:
    api.deploy()
    first = api.pid()

    with api.waiting() as pending:
        os.kill(first, signal.SIGKILL)
        assert (502, "replica.died") == (pending.answer.status_code, kind(pending.answer))

    assert first != api.pid()
    assert "was killed by signal 9" in api.log()


def test_requests_that_a_dead_process_had_not_begun_are_answered_by_its_replacement(api: Api) -> None:
    api.deploy()
    first = api.pid()  # so short that the next ones are sent ahead
    answers: list[int] = []
    with api.waiting() as pending:
        queued = [threading.Thread(target=lambda: answers.append(api.pid())) for _ in range(6)]
        for thread in queued:
            thread.start()
        wait_until(lambda: api.describe()["metrics"]["network_stats"]["in_flight"] == 7)
        os.kill(first, signal.SIGKILL)
        assert 502 == pending.answer.status_code
        for thread in queued:
            thread.join(TIMEOUT_SECONDS)

    assert 6 == len(answers)
    assert first not in answers


def test_a_replica_outlives_its_operator_with_its_predictor(api: Api) -> None:
    api.deploy()
    first = api.pid()

    api.operator.kill()
    api.operator.start()

    assert first == api.pid()


def test_a_replica_finishes_what_an_earlier_operator_gave_it_before_it_gets_more(api: Api) -> None:
    api.deploy()
    first = api.pid()
    with api.waiting():
        api.operator.kill()
        api.operator.start()
        wait_until(lambda: api.counts()["ready"] == 1)
        api.open()

        assert first == api.pid()


def test_replicas_that_die_while_no_operator_is_there_are_started_again(api: Api) -> None:
    api.deploy()
    first = api.pid()
    api.operator.kill()
    kill(*api.operator.worker_processes())

    api.operator.start()

    assert first != api.pid()


def test_replicas_that_die_with_their_supervisor_are_started_again(api: Api) -> None:
    api.deploy()
    first = api.pid()

    with api.waiting() as pending:
        psutil.Process(first).parent().kill()
        assert 502 == pending.answer.status_code

    assert first != api.pid()


def test_no_request_fails_while_an_api_is_updated(api: Api) -> None:
    api.deploy(version=1)
    first, statuses, versions, is_over = api.pid(), set[int](), list[int](), threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=api.operator.address, timeout=TIMEOUT_SECONDS) as http:
            while not is_over.is_set():
                answer = http.post("/api", json="hello")
                statuses.add(answer.status_code)
                versions.append(answer.json()["version"])

    clients = [threading.Thread(target=ask) for _ in range(3)]
    for client in clients:
        client.start()
    wait_until(lambda: len(versions) > 20)
    api.deploy(version=2)
    wait_until(lambda: 2 in versions)
    wait_until(lambda: not psutil.pid_exists(first))
    is_over.set()
    for client in clients:
        client.join(TIMEOUT_SECONDS)

    assert {200} == statuses
    assert 2 == api.call().json()["version"]
    wait_until(lambda: {"ready": 1} == {key: count for key, count in api.counts().items() if count})


def test_an_old_replica_answers_what_it_has_before_it_ends(api: Api) -> None:
    api.deploy(version=1)
    with api.waiting() as pending:
        api.deploy(version=2)
        wait_until(lambda: api.call().json()["version"] == 2)
        api.open()
        answer = pending.answer

    assert (200, 1) == (answer.status_code, answer.json()["version"])


def test_replicas_go_on_as_they_are_where_only_the_autoscaling_has_changed(api: Api) -> None:
    api.deploy()
    first = api.pid()

    api.deploy(sections={"autoscaling": {"max_replicas": 3}})

    assert first == api.pid()
    api.operator.kill()
    api.operator.start()
    assert first == api.pid()


def test_a_refresh_replaces_all_replicas(api: Api) -> None:
    api.deploy()
    first = api.pid()

    answer = api.operator.http.post("/_cortex/apis/api/refresh")

    assert 200 == answer.status_code, answer.text
    wait_until(lambda: api.pid() != first)
    assert {200} == {api.call().status_code for _ in range(5)}


def test_a_version_that_cannot_start_leaves_the_old_one_serving(api: Api) -> None:
    api.deploy(version=1)
    first = api.pid()
    api.break_(is_broken=True)

    api.deploy(version=2)
    wait_until(lambda: api.status() == "status_error")

    assert first == api.pid()
    assert "no model here" in api.describe()["status"]["message"]


def test_requests_are_refused_with_the_reason_while_no_replica_can_start(api: Api) -> None:
    api.break_(is_broken=True)
    api.deploy()

    answer = api.call()  # it has waited until that was known

    assert (503, "api.not_serving") == (answer.status_code, kind(answer))
    assert "no model here" in answer.json()["message"]
    assert "retry-after" in answer.headers
    assert "ValueError: no model here" in api.log()
    api.break_(is_broken=False)
    wait_until(lambda: api.call().status_code == 200)
    assert "status_live" == api.status()


def test_a_request_that_takes_too_long_gets_504_and_its_process_is_replaced(api: Api) -> None:
    api.deploy(sections={"networking": {"timeout": "2s"}})
    wait_until(lambda: api.counts()["ready"] == 1)  # the first request would wait for it, and only so long
    first = api.pid()

    answer = api.call("wait")

    assert (504, "request.timed_out") == (answer.status_code, kind(answer))
    wait_until(lambda: not psutil.pid_exists(first))
    assert first != api.pid()


def test_requests_beyond_what_a_replica_may_have_are_refused(api: Api) -> None:
    limit = {"max_replica_concurrency": 1, "max_replicas": 1}
    api.deploy(sections={"autoscaling": limit})
    api.pid()

    with api.waiting() as pending:
        answer = api.call()
        api.open()
        assert 200 == pending.answer.status_code

    assert (503, "api.overloaded") == (answer.status_code, kind(answer))
    assert "retry-after" in answer.headers


def test_the_first_request_starts_a_replica_where_none_runs(api: Api) -> None:
    api.deploy(sections={"autoscaling": {"min_replicas": 0, "init_replicas": 0}})
    assert 0 == sum(api.counts().values())

    assert api.pid() > 0

    assert 1 == api.counts()["ready"]


def test_a_client_that_leaves_does_not_end_its_request(api: Api) -> None:
    api.deploy()
    first = api.pid()
    with httpx.Client(base_url=api.operator.address, timeout=0.2) as http, pytest.raises(httpx.ReadTimeout):
        http.post("/api", json="wait")

    assert 1 == api.describe()["metrics"]["network_stats"]["in_flight"]
    api.open()
    wait_until(lambda: api.describe()["metrics"]["network_stats"]["in_flight"] == 0)
    assert first == api.pid()


def test_deleting_an_api_answers_its_requests_and_leaves_nothing(api: Api) -> None:
    api.deploy()
    first = api.pid()
    with api.waiting() as pending:
        answer = api.operator.http.delete("/_cortex/apis/api")
        assert 200 == answer.status_code, answer.text
        assert (502, "replica.died") == (pending.answer.status_code, kind(pending.answer))

    assert not psutil.pid_exists(first)
    assert [] == list((api.operator.data_dir / "apis").iterdir())
    assert 404 == api.call().status_code
    api.deploy()
    api.open()
    assert first != api.pid()


def test_deleting_an_api_answers_what_its_processes_have_not_begun(api: Api) -> None:
    api.deploy()
    for _ in range(50):  # until it is known that predict is short: then requests are sent ahead
        api.pid()
    with api.waiting() as pending:
        behind = Pending(api)
        behind.thread.start()
        wait_until(lambda: api.describe()["metrics"]["network_stats"]["in_flight"] == 2)

        assert 200 == api.operator.http.delete("/_cortex/apis/api").status_code

        assert [502, 503] == [pending.answer.status_code, behind.answer.status_code]


def test_replicas_that_come_back_without_their_supervisor_are_replaced(api: Api) -> None:
    api.deploy()
    first = api.pid()
    (supervisor,) = api.operator.worker_processes("cortex-superv")
    api.operator.kill()
    supervisor.suspend()
    api.operator.start()

    wait_until(lambda: not supervisor.is_running())  # killed: it has not come back

    assert first != api.pid()


def test_a_job_gets_a_place_though_a_replica_before_it_waits_for_what_other_replicas_have(api: Api) -> None:
    cores = api.operator.http.get("/_cortex/info").json()["machine"]["cpu"]
    api.deploy(compute={"cpu": cores - 0.5})
    api.pid()
    api.deploy(name="large", compute={"cpu": cores})
    wait_until(lambda: "cpu" in api.operator.http.get("/_cortex/apis/large").json()["status"]["message"])
    api.operator.deploy(BATCH_PREDICTOR, name="batch", compute={"cpu": 0.5})

    job = api.operator.submit([1], api="batch")

    assert "status_succeeded" == api.operator.wait(job, api="batch")["status"]


def test_several_processes_of_a_replica_answer_and_one_that_dies_is_replaced_within_it(api: Api) -> None:
    api.deploy(processes_per_replica=2, threads_per_process=2)
    first = api.pid()
    wait_until(lambda: len({api.pid() for _ in range(10)}) == 2)

    os.kill(first, signal.SIGKILL)

    wait_until(lambda: len({api.pid() for _ in range(10)} - {first}) == 2)
    assert {"ready": 1} == {key: count for key, count in api.counts().items() if count}


def test_an_operator_that_is_stopped_lets_requests_end_that_have_begun(
    start_operator: Callable[..., OperatorProcess], tmp_path: Path
) -> None:
    operator = start_operator("--grace-period", "30")
    api = Api(operator, tmp_path)
    api.deploy()
    with api.waiting() as pending:
        assert operator.process is not None
        operator.process.send_signal(signal.SIGTERM)
        wait_until(lambda: api.call().status_code == 503)
        api.open()
        assert 200 == pending.answer.status_code

    assert 0 == operator.wait_for_death()


def test_counts_of_requests_outlive_the_operator(
    start_operator: Callable[..., OperatorProcess], tmp_path: Path
) -> None:
    operator = start_operator()
    api = Api(operator, tmp_path)
    api.deploy()
    for _ in range(3):
        api.pid()
    operator.stop()
    operator.start()

    assert 3 == api.describe()["metrics"]["network_stats"]["total"]
    release = json.loads((operator.data_dir / "apis" / "api" / "release.json").read_text())
    assert [] == release["stale"]
