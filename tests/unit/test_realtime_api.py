"""RealtimeAPIs with an engine, connections and a clock that tests have in hand."""

import struct
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from cortex.domain.batch import Page
from cortex.domain.ending import Exit
from cortex.domain.errors import ApiOverloaded, CortexError, EnvironmentFailed, NotServing, OperatorStopping
from cortex.domain.layout import ApiFolder
from cortex.engines.engine import Needs, Program, WorkerOrder
from cortex.serving.calls import Answer, Incoming
from cortex.serving.release import Release, api_id_of
from cortex.serving.replica_order import ReplicaSetup
from cortex.serving.serving import Serving
from cortex.serving.surroundings import Surroundings
from cortex.storage.ledger import Version

KILLED = Exit(status=-9)
OUT_OF_MEMORY = Exit(status=-9, is_out_of_memory=True)
WITH_SUPERVISOR = Exit(status=None, detail="was killed with its supervisor", is_charged=False)
REQUEST = Incoming(query=b"a=1", headers=[(b"x-name", b"value")], content_type="text/plain", body=b"body")
AUTOSCALING = {
    "min_replicas": 1,
    "max_replicas": 10,
    "init_replicas": 1,
    "target_replica_concurrency": 1.0,
    "max_replica_concurrency": 100,
    "window": 60.0,
    "downscale_stabilization_period": 300.0,
    "upscale_stabilization_period": 60.0,
    "max_downscale_factor": 0.75,
    "max_upscale_factor": 1.5,
    "downscale_tolerance": 0.05,
    "upscale_tolerance": 0.05,
}


def version(
    number: int = 1, *, processes: int = 1, timeout: float | None = None, project: str = "p1", **autoscaling: Any
):
    return Version(
        api_id=f"{number:016x}",
        api_name="api",
        kind="RealtimeAPI",
        endpoint="/api",
        spec={
            "predictor": {"processes_per_replica": processes, "threads_per_process": 1, "project": project},
            "compute": {"cpu": 1},
            "networking": {"timeout": timeout},
            "autoscaling": {**AUTOSCALING, **autoscaling},
            "update_strategy": {"max_surge": "25%", "max_unavailable": "25%"},
        },
        project_id=project,
        deployed_at_ns=0,
    )


@dataclass
class Connection:
    """A process on the channel, as the operator sees it."""

    sent: list[dict[str, Any]] = field(default_factory=list)

    def send(self, frame: dict[str, Any], data: bytes | None = None) -> None:
        self.sent.append({**frame, "data": data})

    @property
    def requests(self) -> list[dict[str, Any]]:
        return [frame for frame in self.sent if frame["type"] == "request"]

    @property
    def is_told_to_end(self) -> bool:
        return any(frame["type"] == "end" for frame in self.sent)


@dataclass
class Engine:
    """Notes what is asked of it."""

    orders: list[WorkerOrder] = field(default_factory=list)
    stopped: dict[str, bool] = field(default_factory=dict)  # whether at once
    places: int = 100
    returning: bool = False
    gone: set[str] = field(default_factory=set)

    def start(self, order: WorkerOrder) -> None:
        self.orders.append(order)

    def has_place(self, worker: str) -> bool:
        living = [order.worker for order in self.orders if order.worker not in self.gone]
        return worker in living[: self.places]

    def shortage(self, needs: Needs) -> str:
        return "each needs 1 cpu, and 1 of the machine's 1 are taken"

    def stop(self, worker: str, *, at_once: bool) -> None:
        self.stopped[worker] = at_once

    def may_return(self) -> bool:
        return self.returning


class World:
    """An operator's APIs, and all that is around them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.engine = Engine()
        self.at_ns = 0
        self.timers: list[tuple[int, Callable[[], None]]] = []
        self.outcome: CortexError | None = None
        self.is_built = True
        self.waiting: list[Callable[[], None]] = []
        self.connections: dict[str, Connection] = {}
        self.answers: list[Answer] = []
        self.serving = self.next_operator()

    def next_operator(self) -> Serving:
        self.timers.clear()
        around = Surroundings(
            now_ns=lambda: self.at_ns,
            call_later=self.call_later,
            background=lambda work, then: [work(), then()].clear(),
            append_line=self.append,
            set_up=self.set_up,
        )
        around.engine = self.engine
        serving = Serving(root=self.root / "apis", around=around)
        self.serving = serving
        return serving

    def call_later(self, seconds: float, call: Callable[[], None]) -> Callable[[], None]:
        timer = (self.at_ns + int(seconds * 1e9), call)
        self.timers.append(timer)
        return lambda: self.timers.remove(timer) if timer in self.timers else None

    def append(self, log: Path, line: str) -> None:
        with log.open("a") as file:
            file.write(f"{line}\n")

    def set_up(self, version: Version, log: Any, done: Callable[[ReplicaSetup | CortexError], None]) -> None:
        def tell() -> None:
            done(self.outcome or self.setup)

        tell() if self.is_built else self.waiting.append(tell)

    @property
    def setup(self) -> ReplicaSetup:
        program = Program(
            python=Path("python"),
            project=self.root,
            predictor_path="predictor.py",
            python_path=None,
            inherited={},
            env={},
        )
        return ReplicaSetup(program=program, config={}, models=[], threads_per_process=1)

    def pass_(self, seconds: float) -> None:
        until_ns = self.at_ns + int(seconds * 1e9)
        while due := [timer for timer in self.timers if timer[0] <= until_ns]:
            first = min(due, key=lambda timer: timer[0])
            self.timers.remove(first)
            self.at_ns = max(self.at_ns, first[0])
            first[1]()
        self.at_ns = until_ns

    # Processes

    @property
    def processes(self) -> list[str]:
        """Those that were ordered and are not gone."""
        return [order.worker for order in self.engine.orders if order.worker not in self.engine.gone]

    def connect(
        self, worker: str, *, busy: list[int] | None = None, names: tuple[str, ...] = ("payload",)
    ) -> Connection:
        connection = self.connections[worker] = Connection()
        hello = {"phase": "ready", "error": None, "names": list(names), "busy": busy or []}
        self.serving.started(worker)
        self.serving.connected(worker, connection, hello)
        return connection

    def connect_all(self) -> None:
        for worker in self.processes:
            if worker not in self.connections:
                self.connect(worker)

    def fail(self, worker: str, error: str = "ValueError: no model") -> None:
        connection = Connection()
        self.serving.started(worker)
        self.serving.connected(worker, connection, {"phase": "failed", "error": error, "names": [], "busy": []})
        assert connection.is_told_to_end
        self.serving.disconnected(worker, connection)
        self.exit(worker, Exit(status=1))

    def exit(self, worker: str, ending: Exit = KILLED) -> None:
        if connection := self.connections.pop(worker, None):
            self.serving.disconnected(worker, connection)
        self.engine.gone.add(worker)
        self.serving.exited(worker, ending)

    def answer(self, worker: str, index: int = -1, *, seconds: float = 0.1) -> None:
        number = self.connections[worker].requests[index]["id"]
        told = {"status": 200, "headers": [["x-a", "b"]], "seconds": seconds, "more": False, "data": b"done"}
        self.serving.says(worker, {"type": "response", "id": number, **told})

    def call(self, of: Version | None = None) -> None:
        self.serving.call(of or version(), REQUEST, self.answers.append)

    def begin_predict(self, worker: str, index: int = -1) -> None:
        """Write on the page of a process that it has begun a request, as it does."""
        number = self.connections[worker].requests[index]["id"]
        with self.page(worker).open("r+b") as page:
            page.seek(Page.CURRENT * 8)
            page.write(struct.pack("@Q", number + 1))

    def page(self, worker: str) -> Path:
        return self.folder.version(api_id_of(worker)).page(worker)

    @property
    def described(self) -> dict[str, Any]:
        return dict(self.serving.describe(version())["status"])

    def counts(self, which: str = "updated") -> dict[str, int]:
        return {key: count for key, count in self.described["replica_counts"][which].items() if count}

    @property
    def release(self) -> Release:
        release = Release.read(self.folder.release)
        assert release is not None
        return release

    @property
    def folder(self) -> ApiFolder:
        return self.serving.folder("api")


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path)
    world.serving.recover([])
    return world


def test_a_request_reaches_the_process_with_what_its_predictor_names(world: World) -> None:
    world.serving.deployed(version())
    (worker,) = world.processes
    connection = world.connect(worker, names=("payload", "query_params", "headers"))

    world.call()
    world.answer(worker)

    (request,) = connection.requests
    assert ("text/plain", b"body") == (request["content_type"], request["data"])
    assert ("a=1", [["x-name", "value"]]) == (request["query"], request["headers"])
    assert [Answer(200, [(b"x-a", b"b")], b"done")] == world.answers


def test_what_a_predictor_does_not_name_is_not_sent(world: World) -> None:
    world.serving.deployed(version())
    connection = world.connect(world.processes[0], names=())

    world.call()

    assert {"type", "id", "content_type", "data"} == set(connection.requests[0])
    assert None is connection.requests[0]["data"]


def test_the_processes_of_a_replica_are_ordered_for_the_version(world: World) -> None:
    world.serving.deployed(version(processes=2))

    orders = world.engine.orders

    assert 2 == len(orders)
    assert {"replica-0000000000000001"} == {order.job_id for order in orders}
    assert all(order.serves and order.log == world.folder.log for order in orders)
    assert all(
        ApiFolder(world.root / "apis" / "api").version("0000000000000001").page(each.worker).exists() for each in orders
    )


def test_a_replica_that_dies_after_it_has_answered_is_replaced_at_once(world: World) -> None:
    world.serving.deployed(version())
    (worker,) = world.processes
    world.connect(worker)
    world.call()
    world.answer(worker)

    world.exit(worker)

    assert 1 == len(world.processes)
    assert "status_updating" == world.described["status_code"]
    assert not world.folder.version("0000000000000001").page(worker).exists()


def test_what_a_process_that_is_gone_has_answered_is_still_heard(world: World) -> None:
    world.serving.deployed(version())
    (worker,) = world.processes
    connection = world.connect(worker)
    world.call()

    world.serving.exited(worker, KILLED)  # the supervisor was faster than the socket
    world.answer(worker)
    world.serving.disconnected(worker, connection)

    assert [200] == [answer.status for answer in world.answers]


def test_a_process_that_is_gone_is_not_heard_for_ever(world: World) -> None:
    world.serving.deployed(version())
    (worker,) = world.processes
    world.connect(worker)
    world.call()

    world.serving.exited(worker, KILLED)  # and somebody that it has started holds its socket
    world.pass_(1.0)

    assert [502] == [answer.status for answer in world.answers]


def test_starts_that_fail_are_tried_again_more_and_more_seldom(world: World) -> None:
    world.serving.deployed(version())
    tried_at = []
    for _ in range(4):
        world.fail(world.processes[0])
        before = world.at_ns
        while not world.processes:
            world.pass_(0.5)
        tried_at.append((world.at_ns - before) / 1e9)

    assert [1, 2, 4, 8] == tried_at


def test_calls_that_wait_are_refused_with_the_reason_when_a_start_has_failed(world: World) -> None:
    world.serving.deployed(version())
    world.call()

    world.fail(world.processes[0])

    assert [503] == [answer.status for answer in world.answers]
    assert b"no model" in world.answers[0].body
    with pytest.raises(NotServing, match="no model"):
        world.call()
    assert ("status_error", {"failed": 1}) == (world.described["status_code"], world.counts())


def test_calls_are_taken_again_when_a_replica_is_ready(world: World) -> None:
    world.serving.deployed(version())
    world.fail(world.processes[0])
    world.pass_(1.0)

    world.connect(world.processes[0])
    world.call()

    assert 1 == len(world.connections[world.processes[0]].requests)
    assert "status_live" == world.described["status_code"]


def test_a_process_that_dies_again_and_again_before_it_has_answered_anything_is_not_started_in_a_circle(world: World):
    world.serving.deployed(version())
    (worker,) = world.processes
    world.connect(worker)

    world.exit(worker)

    assert [] == world.processes
    world.pass_(1.0)
    assert 1 == len(world.processes)


def test_out_of_memory_shows_as_such(world: World) -> None:
    world.serving.deployed(version())
    world.serving.started(world.processes[0])

    world.exit(world.processes[0], OUT_OF_MEMORY)

    assert "status_oom" == world.described["status_code"]
    assert "ran out of memory" in world.described["message"]


def test_what_dies_with_the_supervisor_has_not_failed(world: World) -> None:
    world.serving.deployed(version())
    world.serving.started(world.processes[0])

    world.exit(world.processes[0], WITH_SUPERVISOR)

    assert 1 == len(world.processes)
    assert "status_updating" == world.described["status_code"]


def test_an_environment_that_fails_is_told_and_made_again_in_time(world: World) -> None:
    world.outcome = EnvironmentFailed("no such package")
    world.serving.deployed(version())

    with pytest.raises(NotServing, match="no such package"):
        world.call()
    assert "status_error" == world.described["status_code"]
    world.outcome = None
    world.pass_(60.0)

    assert 1 == len(world.processes)
    assert "status_updating" == world.described["status_code"]


def test_calls_wait_while_the_environment_is_being_built(world: World) -> None:
    world.is_built = False
    world.serving.deployed(version())
    world.call()
    assert ("status_updating", {"pending": 1}) == (world.described["status_code"], world.counts())

    world.waiting.pop()()
    world.connect_all()

    assert 1 == len(world.connections[world.processes[0]].requests)


def test_an_environment_that_is_ready_too_late_is_of_no_interest(world: World) -> None:
    world.is_built = False
    world.serving.deployed(version(1))
    world.serving.deployed(version(2, project="p2"))

    world.waiting[0]()

    assert [] == world.processes
    world.waiting[1]()
    assert ["replica-0000000000000002"] == [order.job_id for order in world.engine.orders]


def test_a_full_disk_is_told_and_tried_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("cortex.serving.pages.create_page", full)
        world.serving.deployed(version())

        assert [] == world.processes
        assert "No space left" in world.described["message"]
    world.pass_(1.0)

    assert 1 == len(world.processes)


def test_a_supervisor_that_cannot_be_started_is_told_and_tried_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Engine, "start", full)
        world.serving.deployed(version())

        assert 1 == len(world.engine.stopped)
        assert "status_error" == world.described["status_code"]
    world.pass_(1.0)

    assert 1 == len(world.processes)


def test_an_update_keeps_the_old_replica_until_the_new_one_is_ready(world: World) -> None:
    world.serving.deployed(version(1))
    (old,) = world.processes
    world.connect(old)

    world.serving.deployed(version(2, project="p2"))
    new = world.processes[1]
    world.call()
    assert 1 == len(world.connections[old].requests)
    assert {"p1", "p2"} == world.serving.project_ids()

    world.connect(new)
    world.call()
    assert 1 == len(world.connections[new].requests)
    assert not world.connections[old].is_told_to_end
    world.answer(old)
    assert world.connections[old].is_told_to_end
    world.exit(old, Exit(status=0))
    assert [new] == world.processes
    assert {"p2"} == world.serving.project_ids()
    assert ["0000000000000002"] == list(world.release.keys)
    assert not world.folder.version("0000000000000001").root.exists()


def test_replicas_stay_where_only_the_autoscaling_has_changed(world: World) -> None:
    world.serving.deployed(version(1))
    (worker,) = world.processes
    world.connect(worker)

    world.serving.deployed(version(2, max_replicas=5))

    assert [worker] == world.processes
    assert {"ready": 1} == world.counts()


def test_on_a_full_machine_an_old_replica_gives_its_place_to_the_new_one(world: World) -> None:
    world.engine.places = 1
    world.serving.deployed(version(1))
    (old,) = world.processes
    world.connect(old)

    world.serving.deployed(version(2, project="p2"))
    assert not world.connections[old].is_told_to_end
    world.pass_(5.0)

    assert world.connections[old].is_told_to_end
    for worker in list(world.engine.stopped):
        world.exit(worker, Exit(status=None, detail="was not started"))
    world.exit(old, Exit(status=0))
    assert 1 == len(world.processes)
    assert world.engine.has_place(world.processes[0])


def test_a_replica_that_waits_long_for_a_place_is_stalled_and_calls_are_refused(world: World) -> None:
    world.engine.places = 0
    world.serving.deployed(version())
    world.call()
    assert {"pending": 1} == world.counts()

    world.pass_(601.0)

    assert ("status_stalled", {"stalled": 1}) == (world.described["status_code"], world.counts())
    assert "1 cpu" in world.described["message"]
    assert [503] == [answer.status for answer in world.answers]


def test_a_refresh_replaces_replicas_of_the_same_version_also_for_the_next_operator(world: World) -> None:
    world.serving.deployed(version())
    (old,) = world.processes
    world.connect(old)

    world.serving.refresh("api")

    assert 2 == len(world.processes)
    assert not world.release.is_updated(old)
    assert world.release.is_updated(world.processes[1])


def test_requests_are_counted_on_over_a_refresh_and_from_the_beginning_of_another_version(world: World) -> None:
    def counted(of: Version) -> int:
        total: int = world.serving.describe(of)["metrics"]["network_stats"]["total"]
        return total

    world.serving.deployed(version())
    (worker,) = world.processes
    world.connect(worker)
    world.call()
    world.answer(worker)

    world.serving.refresh("api")
    assert 1 == counted(version())

    world.serving.deployed(version(2, project="p2"))
    assert 0 == counted(version(2, project="p2"))


def test_no_more_calls_are_taken_than_replicas_may_have(world: World) -> None:
    only_two = version(max_replica_concurrency=2)
    world.serving.deployed(only_two)
    world.call(only_two)
    world.call(only_two)

    with pytest.raises(ApiOverloaded):
        world.call(only_two)
    assert 1 == world.serving.describe(only_two)["metrics"]["network_stats"]["code_5xx"]


def test_the_first_call_starts_a_replica_where_none_runs(world: World) -> None:
    none = version(min_replicas=0, init_replicas=0)
    world.serving.deployed(none)
    assert [] == world.processes
    assert "status_live" == world.described["status_code"]

    world.call(none)

    assert 1 == len(world.processes)


def test_an_api_that_nobody_asks_is_scaled_to_zero(world: World) -> None:
    none = version(min_replicas=0, downscale_stabilization_period=0.0, window=10.0)
    world.serving.deployed(none)
    (worker,) = world.processes
    world.connect(worker)

    world.pass_(30.0)

    assert world.connections[worker].is_told_to_end


def test_the_last_replica_stays_while_it_has_a_call_that_is_in_no_load_yet(world: World) -> None:
    none = version(min_replicas=0, downscale_stabilization_period=0.0, window=10.0)
    world.pass_(5.0)  # so that its load is measured between the decisions
    world.serving.deployed(none)
    (worker,) = world.processes
    world.connect(worker)
    world.pass_(11.0)
    world.call(none)

    world.pass_(5.0)

    assert 1 == world.described["replica_counts"]["requested"]
    assert not world.connections[worker].is_told_to_end


def test_load_brings_more_replicas(world: World) -> None:
    busy = version(upscale_stabilization_period=0.0, window=10.0)
    world.serving.deployed(busy)
    world.connect_all()
    for _ in range(8):
        world.call(busy)

    world.pass_(60.0)

    assert 8 == world.described["replica_counts"]["requested"]
    assert 8 == len(world.processes)


def test_a_call_that_takes_too_long_is_refused_and_its_process_replaced_and_killed(world: World) -> None:
    world.serving.deployed(version(timeout=2.0))
    (stuck,) = world.processes
    world.connect(stuck)
    world.call()
    world.call()

    world.pass_(2.0)

    assert [504, 504] == [answer.status for answer in world.answers]
    assert 2 == len(world.processes)
    assert True is world.engine.stopped[stuck]
    world.call()
    world.connect(world.processes[1])
    assert 1 == len(world.connections[world.processes[1]].requests)
    world.exit(stuck)
    assert 1 == len(world.processes)


def test_a_call_that_waits_when_a_timeout_is_deployed_has_no_more_time_than_that(world: World) -> None:
    world.serving.deployed(version(1))
    world.connect_all()
    world.call()
    world.pass_(10.0)

    world.serving.deployed(version(2, timeout=2.0))
    world.pass_(0.0)

    assert [504] == [answer.status for answer in world.answers]


def test_a_call_without_a_timeout_leaves_no_timer(world: World) -> None:
    world.serving.deployed(version())
    world.connect_all()
    before = len(world.timers)

    world.call()

    assert before == len(world.timers)


def test_processes_of_an_earlier_operator_are_taken_over(world: World) -> None:
    world.serving.deployed(version(init_replicas=2))
    workers = world.processes
    world.connect_all()
    world.engine.returning = True
    world.next_operator().recover([version()])
    world.call()

    for worker in workers:
        world.serving.started(worker)
    world.engine.returning = False
    for worker in workers:
        world.connect(worker)

    assert workers == world.processes
    assert 2 == world.described["replica_counts"]["requested"]
    assert [1] == [len(world.connections[worker].requests) for worker in workers if world.connections[worker].requests]


def test_where_nobody_comes_back_replicas_are_started(world: World) -> None:
    world.serving.deployed(version())
    world.engine.gone.update(world.processes)
    world.next_operator().recover([version()])

    assert 1 == len(world.processes)


def test_processes_of_earlier_versions_serve_until_new_ones_are_ready_also_for_the_next_operator(world: World) -> None:
    world.serving.deployed(version(1))
    (old,) = world.processes
    world.engine.returning = True
    world.next_operator().recover([version(2, project="p2")])

    world.serving.started(old)
    world.engine.returning = False
    connection = world.connect(old)
    world.call()

    assert 1 == len(connection.requests)
    assert {"ready": 1} == world.counts("stale")
    assert 2 == len(world.processes)


def test_a_process_of_an_api_that_is_no_more_is_ended(world: World) -> None:
    world.serving.deployed(version())
    (worker,) = world.processes
    world.next_operator().recover([])

    connection = world.connect(worker)

    assert connection.is_told_to_end
    assert True is world.engine.stopped[worker]
    assert [] == list((world.root / "apis").iterdir())


def test_removing_an_api_answers_all_and_tells_when_nothing_is_left(world: World) -> None:
    world.serving.deployed(version())
    (worker,) = world.processes
    world.connect(worker)
    world.call()
    world.call()
    gone: list[bool] = []

    world.serving.remove("api", lambda: gone.append(world.folder.root.exists()))

    assert [503] == [answer.status for answer in world.answers]
    with pytest.raises(NotServing):
        world.call()
    assert (False, []) == (world.engine.stopped[worker], gone)
    world.exit(worker)
    assert [503, 502] == [answer.status for answer in world.answers]
    assert [False] == gone
    assert [] == world.processes


def have_one_behind_another(world: World) -> str:
    """Have a process that has begun one call, and has another one that it has not begun; name it."""
    (worker,) = world.processes
    world.connect(worker)
    world.call()
    world.answer(worker, seconds=0.0001)
    world.answers.clear()
    world.call()
    world.begin_predict(worker)
    world.call()
    assert 3 == len(world.connections[worker].requests)
    return worker


def test_what_the_processes_of_a_deleted_api_had_not_begun_is_refused(world: World) -> None:
    world.serving.deployed(version())
    worker = have_one_behind_another(world)
    gone: list[str] = []
    world.serving.remove("api", lambda: gone.append("gone"))

    world.exit(worker)

    assert ([502, 503], ["gone"]) == ([answer.status for answer in world.answers], gone)


def test_what_a_process_that_dies_while_the_operator_drains_had_not_begun_is_refused(world: World) -> None:
    world.serving.deployed(version())
    worker = have_one_behind_another(world)
    world.serving.drain()

    world.exit(worker)

    assert [502, 503] == [answer.status for answer in world.answers]
    assert world.serving.is_drained


def test_what_a_process_had_not_begun_is_refused_at_once_where_no_other_can_be_started(world: World) -> None:
    world.serving.deployed(version())
    worker = have_one_behind_another(world)
    world.connections.pop(worker)
    world.engine.gone.add(worker)
    world.serving.exited(worker, KILLED)
    world.fail(world.processes[0])

    world.pass_(1.0)

    assert [502, 503] == [answer.status for answer in world.answers]


def test_an_api_that_is_deleted_while_its_environment_is_built_leaves_nothing(world: World) -> None:
    logs: list[Callable[[str], None]] = []
    world.serving.around.set_up = lambda version, log, done: logs.append(log)
    world.serving.deployed(version())
    logs[0]("building")
    assert "building" in world.folder.log.read_text()

    world.serving.remove("api", lambda: None)
    logs[0]("built")

    assert not world.folder.root.exists()


def test_a_process_that_comes_back_to_an_api_that_is_being_deleted_is_ended(world: World) -> None:
    world.serving.deployed(version())
    (worker,) = world.processes
    world.engine.returning = True
    serving = world.next_operator()
    later: list[Callable[[], None]] = []
    serving.around.background = lambda work, then: later.append(lambda: [work(), then()].clear())
    serving.recover([version()])
    serving.remove("api", lambda: None)

    serving.started(worker)

    assert True is world.engine.stopped[worker]
    world.exit(worker)
    later[0]()
    assert not world.folder.root.exists()


def test_a_process_whose_supervisor_dies_before_it_comes_back_is_replaced(world: World) -> None:
    world.serving.deployed(version())
    (worker,) = world.processes
    world.engine.returning = True
    serving = world.next_operator()
    serving.recover([version()])
    connection = world.connect(worker)
    world.call()
    world.engine.gone.add(worker)

    serving.disconnected(worker, connection)
    world.engine.returning = False
    world.pass_(10.0)

    assert [502] == [answer.status for answer in world.answers]
    assert [1, 0] == [len(world.processes), worker in world.processes]


def test_as_many_replicas_are_requested_after_a_restart_in_the_middle_of_an_update(world: World) -> None:
    world.serving.deployed(version(1, init_replicas=4))
    olds = world.processes
    world.connect_all()
    world.serving.deployed(version(2, project="p2"))
    ended = next(old for old in olds if world.connections[old].is_told_to_end)
    world.exit(ended, Exit(status=0))
    world.engine.returning = True
    world.next_operator().recover([version(2, project="p2")])
    back = world.processes
    for worker in back:
        world.serving.started(worker)
    world.engine.returning = False
    (first_new, *_) = set(back) - set(olds)

    for worker in [*(set(olds) - {ended}), first_new]:
        world.connect(worker)
    world.pass_(2.0)

    assert 4 == world.described["replica_counts"]["requested"]
    assert 3 <= world.counts()["ready"] + world.counts("stale")["ready"]


def test_an_api_without_replicas_has_none_after_a_restart(world: World) -> None:
    none = version(min_replicas=0, downscale_stabilization_period=0.0, window=10.0)
    world.serving.deployed(none)
    world.connect_all()
    world.pass_(30.0)
    world.exit(world.processes[0], Exit(status=0))

    world.next_operator().recover([none])

    assert [] == world.processes


def test_an_update_that_is_taken_back_keeps_the_replicas_that_it_had_not_replaced(world: World) -> None:
    world.serving.deployed(version(1, init_replicas=4))
    olds = world.processes
    world.connect_all()
    world.serving.deployed(version(2, project="p2"))
    news = set(world.processes) - set(olds)
    ended = [old for old in olds if world.connections[old].is_told_to_end]

    world.serving.deployed(version(1, init_replicas=4))

    assert news == set(world.engine.stopped)
    assert (1, ended) == (len(ended), [old for old in olds if world.connections[old].is_told_to_end])
    assert {"ready": 3, "initializing": 1, "terminating": 1} == world.counts()
    assert all(world.release.is_updated(old) for old in olds)


def test_what_was_to_be_refreshed_still_is_when_an_update_is_taken_back(world: World) -> None:
    world.serving.deployed(version(1))
    (old,) = world.processes
    world.connect(old)
    world.serving.refresh("api")
    world.serving.deployed(version(2, project="p2"))

    world.serving.deployed(version(1))

    assert 1 == world.counts("stale")["ready"]
    assert not world.release.is_updated(old)


def test_a_refresh_right_after_a_restart_replaces_those_that_have_not_come_back_yet(world: World) -> None:
    world.serving.deployed(version())
    (old,) = world.processes
    world.connect(old)
    world.engine.returning = True
    world.next_operator().recover([version()])

    world.serving.refresh("api")
    world.serving.started(old)
    world.engine.returning = False
    world.connect(old)

    assert {"ready": 1} == world.counts("stale")
    assert 2 == len(world.processes)


def test_an_api_whose_start_has_failed_starts_again_on_the_first_call_after_it_was_scaled_to_zero(world: World) -> None:
    none = version(min_replicas=0, downscale_stabilization_period=0.0, window=10.0)
    world.serving.deployed(none)
    world.fail(world.processes[0])
    with pytest.raises(NotServing):
        world.call(none)
    world.pass_(30.0)
    for worker in world.processes:
        world.exit(worker, Exit(status=None, detail="was not started"))
    assert 0 == world.described["replica_counts"]["requested"]

    world.call(none)

    assert 1 == len(world.processes)


def test_a_process_that_is_stuck_since_before_a_restart_is_replaced_and_killed(world: World) -> None:
    world.serving.deployed(version(timeout=2.0))
    (stuck,) = world.processes
    world.engine.returning = True
    world.next_operator().recover([version(timeout=2.0)])
    world.serving.started(stuck)
    world.engine.returning = False
    world.connect(stuck, busy=[1])
    world.call()

    world.pass_(2.0)

    assert [504] == [answer.status for answer in world.answers]
    assert True is world.engine.stopped[stuck]
    assert 2 == len(world.processes)


def test_pages_of_processes_that_died_unheard_are_removed(world: World) -> None:
    world.serving.deployed(version())
    (lost,) = world.processes
    world.engine.gone.add(lost)

    world.next_operator().recover([version()])

    assert [world.page(world.processes[0])] == list(world.page(lost).parent.iterdir())


def test_starts_that_the_engine_refuses_leave_no_page(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(order: WorkerOrder) -> None:
        raise OSError("no room")

    monkeypatch.setattr(world.engine, "start", refuse)
    world.serving.deployed(version())

    assert [] == list(world.folder.version(version().api_id).workers.iterdir())


def test_a_full_disk_when_an_api_is_deployed_does_not_keep_it_from_being_deployed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("no room")

    with monkeypatch.context() as full:
        full.setattr(Path, "mkdir", refuse)
        full.setattr(world.serving.around, "append_line", lambda log, line: None)
        world.serving.deployed(version())
        assert "status_error" == world.described["status_code"]
    world.pass_(1.0)

    assert 1 == len(world.processes)


def test_an_operator_that_drains_takes_nothing_and_waits_for_what_has_begun(world: World) -> None:
    world.serving.deployed(version())
    (worker,) = world.processes
    world.connect(worker)
    world.call()
    world.call()

    world.serving.drain()

    assert [503] == [answer.status for answer in world.answers]
    assert (1, False) == (world.serving.in_flight, world.serving.is_drained)
    with pytest.raises(OperatorStopping):
        world.call()
    world.answer(worker)
    assert world.serving.is_drained


def test_an_api_that_is_deployed_while_the_operator_drains_is_left_to_the_next_one(world: World) -> None:
    world.serving.drain()

    world.serving.deployed(version())

    assert "status_updating" == world.described["status_code"]
    with pytest.raises(OperatorStopping):
        world.call()
    assert [] == world.processes
    world.next_operator().recover([version()])
    assert 1 == len(world.processes)


def test_an_operator_that_ends_leaves_nobody_without_an_answer(world: World) -> None:
    world.serving.deployed(version())
    (worker,) = world.processes
    world.connect(worker)
    world.call()
    world.serving.drain()

    world.serving.end()

    assert [503] == [answer.status for answer in world.answers]
    world.next_operator().recover([version()])
    assert 1 == world.serving.describe(version())["metrics"]["network_stats"]["total"]


def test_a_process_of_several_that_dies_is_replaced_within_its_replica(world: World) -> None:
    world.serving.deployed(version(processes=2))
    world.connect_all()
    first, second = world.processes
    world.call()
    world.answer(first)

    world.exit(first)

    assert second in world.processes
    assert 2 == len(world.processes)
    assert {"ready": 1} == world.counts()


def test_other_kinds_are_no_matter_of_serving(world: World) -> None:
    world.serving.deployed(replace(version(), kind="BatchAPI"))

    assert [] == world.engine.orders
