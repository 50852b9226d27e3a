"""The engine of other machines: who is waited for, who is given up, and what is told of each."""

import json
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from cortex.domain.ending import Exit
from cortex.domain.frame import MAX_FRAME_BYTES, Frame
from cortex.domain.station_order import StationOrder
from cortex.domain.ticket import Ticket, is_signed
from cortex.engines.engine import Needs, Program, WorkerOrder
from cortex.engines.model_looks import ModelLooks
from cortex.engines.placement import Placer, ending_of_station
from cortex.engines.stations import StationEngine

SECRET = "what only the operator knows"

DEADLINE = 3
"""How many seconds of silence are too many; there is one look each second, and the first one begins to count."""


class Heard:
    """A listener that keeps what it has heard."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []
        self.endings: dict[str, Exit] = {}

    def worker_started(
        self, worker: str, *, pid: int, process_started_at: float, supervisor: str, node: str | None = None
    ) -> None:
        self.told.append((worker, f"started {pid}"))

    def worker_drained(self, worker: str) -> None:
        self.told.append((worker, "drained"))

    def worker_exited(self, worker: str, ending: Exit) -> None:
        self.told.append((worker, ending.cause))
        self.endings[worker] = ending


class Nowhere(Placer):
    """A placer that places nobody by itself."""

    def __init__(self) -> None:
        self.orders: dict[str, StationOrder] = {}
        self.withdrawn: list[str] = []
        self.knows = True

    def place(self, worker: str, order: StationOrder, needs: Needs) -> None:
        self.orders[worker] = order

    def withdraw(self, worker: str) -> None:
        self.withdrawn.append(worker)

    def recover(self) -> None:
        pass

    def shortage(self, needs: Needs) -> str:
        return f"no room for {needs.millicores}"

    def is_known(self) -> bool:
        return self.knows

    def end(self) -> None:
        pass


class Peer:
    """A station, or a supervisor, that keeps what it was told."""

    def __init__(self) -> None:
        self.heard: list[Frame] = []
        self.is_closed = False
        self.elsewhere = None

    def send(self, frame: Frame, data: bytes | None = None) -> None:
        self.heard.append(frame)

    def close(self) -> None:
        self.is_closed = True

    @property
    def types(self) -> list[str]:
        return [frame["type"] for frame in self.heard]


class Story:
    """An engine, what it has heard and said, and the time that passes: a second a step."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.folder = data / "jobs" / "a"
        self.folder.mkdir(parents=True)
        self.configure({})
        self.heard = Heard()
        self.placer = Nowhere()
        self.now = 0.0
        self.is_answered = True
        self.readings: list[tuple[Callable[[], Any], Callable[[Callable[[], Any]], None]]] = []
        self.timers: list[tuple[float, Callable[[], None]]] = []
        self.engine = StationEngine(
            secret=SECRET,
            host="there",
            port=7,
            storage=None,
            log_limit_bytes=1000,
            heartbeat_seconds=DEADLINE,
            call_later=self.call_later,
            models=ModelLooks(data=data, apart=self.read),
            listener=self.heard,
        )
        self.engine.placer = self.placer

    def call_later(self, seconds: float, call: Callable[[], None]) -> Callable[[], None]:
        self.timers.append((self.now + seconds, call))
        return lambda: None

    def read(self, read: Callable[[], Any], then: Callable[[Callable[[], Any]], None]) -> None:
        """Read at once, unless nothing answers."""
        self.readings.append((read, then))
        if self.is_answered:
            self.answer()

    def answer(self) -> None:
        """Have all that is read come."""
        while self.readings:
            read, then = self.readings.pop(0)
            reading: Future[Any] = Future()
            try:
                reading.set_result(read())
            except OSError as error:
                reading.set_exception(error)
            then(reading.result)

    def pass_seconds(self, seconds: float, *, heard: tuple[str, ...] = ()) -> None:
        """Let time pass, in which these stations, and their supervisors, are heard."""
        until = self.now + seconds
        while due := sorted((timer for timer in self.timers if timer[0] <= until), key=lambda timer: timer[0])[:1]:
            self.timers.remove(due[0])
            self.now = due[0][0]
            for worker in heard:
                self.engine.station_heard(worker)
                self.engine.supervisor_says({"type": "beat", "worker": worker, "pid": 1})
            due[0][1]()
        self.now = until

    def configure(self, config: Any) -> None:
        (self.folder / "setup.json").write_text(json.dumps({"config": config, "models": []}))

    def order(self, worker: str = "a-1", **needs: int) -> None:
        program = Program(
            python=Path("python"),
            project=self.data / "projects" / "p1",
            predictor_path="predictor.py",
            python_path=None,
            inherited={"SECRET": "of the operator's"},
            env={"OWN": "1"},
            needs=Needs(**needs),
        )
        log = self.folder / "log"
        self.engine.start(WorkerOrder(worker=worker, job_id="a", folder=self.folder, log=log, program=program))

    def connect(self, worker: str = "a-1") -> Peer:
        station = Peer()
        self.engine.station_connected(worker, station)
        return station

    def introduce(self, worker: str = "a-1", **child: Any) -> Peer:
        """Have its supervisor introduce itself, with its Worker if there is something to say of that."""
        supervisor = Peer()
        place = {"job_id": "a", "millicores": 0, "mem_bytes": 2**30, "gpus": 0, "devices": []}
        known = {"worker": worker, "place": place, "pid": None, "exit_status": None, **child}
        hello = {"supervisor": "s", "pid": 1, "worker": worker, "workers": [known] if child else []}
        self.engine.supervisor_connected(supervisor, hello)
        return supervisor

    def run(self, worker: str = "a-1") -> tuple[Peer, Peer]:
        """Order a Worker that runs."""
        self.order(worker)
        self.engine.station_placed(worker, "node-1")
        station, supervisor = self.connect(worker), self.introduce(worker)
        self.engine.supervisor_says({"type": "started", "worker": worker, "pid": 5})
        return station, supervisor

    def cause(self, worker: str = "a-1") -> tuple[str, bool]:
        ending = self.heard.endings[worker]
        return ending.cause, ending.is_charged


CUT_OFF = ("was cut off: nothing was heard of its node for 3 s", False)


@pytest.fixture
def story(tmp_path: Path) -> Story:
    return Story(tmp_path)


def test_a_station_is_placed_with_a_signed_ticket_that_says_whose_it_is(story: Story) -> None:
    story.order()

    order = story.placer.orders["a-1"]
    ticket = Ticket.from_json(order.ticket)
    assert is_signed(SECRET, order.ticket, order.signature)
    assert ("a-1", "a", str(story.folder)) == (ticket.worker, ticket.job_id, ticket.folder)
    assert ("there", 7) == (order.host, order.port)


def test_a_station_has_a_place_when_it_is_placed_or_comes(story: Story) -> None:
    story.order("a-1")
    story.order("a-2")
    before = [story.engine.has_place(worker) for worker in ("a-1", "a-2")]

    story.engine.station_placed("a-1", "node-1")
    story.connect("a-2")

    after = [story.engine.has_place(worker) for worker in ("a-1", "a-2")]
    assert ([False, False], [True, True]) == (before, after)


def test_what_a_worker_waits_for_is_the_placers_word_once_it_knows_who_is_there(story: Story) -> None:
    story.placer.knows = False
    before = story.engine.shortage(Needs(millicores=9))

    story.placer.knows = True

    assert "those that an earlier operator has started are looked for first" == before
    assert "no room for 9" == story.engine.shortage(Needs(millicores=9))


def test_the_start_of_a_worker_says_what_it_needs_of_the_operators_files_and_nothing_of_its_variables(
    story: Story,
) -> None:
    (story.data / "projects" / "p1").mkdir(parents=True)
    (story.data / "projects" / "p1" / "requirements.txt").touch()

    story.order(gpus=2, mem_bytes=9)
    story.connect()
    (start,) = story.introduce().heard

    assert ("start", "p1", True, True) == tuple(
        start[key] for key in ("type", "project_id", "requirements", "wants_gpu")
    )
    assert ({"OWN": "1"}, {"OWN": "1"}) == (start["env"], start["order"]["env"])
    assert (2, 9) == (len(start["place"]["devices"]), start["place"]["mem_bytes"])
    assert json.loads(start["setup"]) == {"config": {}, "models": []}


def test_models_are_named_by_where_they_lie_and_change_their_names_with_their_content(story: Story) -> None:
    other = story.data / "model.onnx"
    fetched, packed = story.data / "models" / "k1" / "files" / "m.onnx", story.data / "projects" / "p1" / "m.onnx"
    names = []

    for content in ("one", "two, longer"):
        other.write_text(content)
        models = [{"path": str(path)} for path in (fetched, packed, other)]
        (story.folder / "setup.json").write_text(json.dumps({"models": models}))
        worker = f"a-{content}"
        story.order(worker)
        story.connect(worker)
        names.append(story.introduce(worker).heard[0]["models"])

    home = str(story.data / "models" / "k1")
    assert [{home, str(other)}] * 2 == [each.keys() for each in names]
    assert ["model/k1"] * 2 == [each[home] for each in names]
    assert names[0][str(other)] != names[1][str(other)]


def test_a_worker_with_more_config_than_a_frame_holds_is_not_started(story: Story) -> None:
    story.configure("x" * MAX_FRAME_BYTES)

    story.order()
    story.connect()
    supervisor = story.introduce()

    assert "start" not in supervisor.types
    assert story.cause()[0].startswith("could not start: ")


def test_a_worker_whose_job_is_removed_is_not_started(story: Story) -> None:
    (story.folder / "setup.json").unlink()

    story.order()
    station = story.connect()
    story.introduce()

    assert story.cause()[0].startswith("could not start: ")
    assert ["end"] == station.types


def own_model(story: Story) -> Path:
    """Have the job load a model that its user keeps."""
    path = story.data / "model.onnx"
    path.write_text("weights")
    (story.folder / "setup.json").write_text(json.dumps({"models": [{"path": str(path)}]}))
    return path


def test_models_on_a_disk_that_does_not_answer_are_waited_for_by_their_job_alone_and_by_one_thread(
    story: Story,
) -> None:
    path = own_model(story)
    story.is_answered = False
    waiting = []
    for worker in ("a-1", "a-2"):
        story.order(worker)
        story.connect(worker)
        waiting.append(story.introduce(worker))
    looks = len(story.readings)

    story.folder = story.data / "jobs" / "b"
    story.folder.mkdir()
    story.configure({})  # it has no models
    story.order("b-1")
    story.connect("b-1")
    other = story.introduce("b-1")
    before = [each.types for each in waiting]
    story.answer()

    assert (1, [[], []], ["start"]) == (looks, before, other.types)
    assert [{str(path)}] * 2 == [each.heard[0]["models"].keys() for each in waiting]


def test_a_model_that_is_gone_is_told(story: Story) -> None:
    own_model(story).unlink()

    story.order()
    station = story.connect()
    story.introduce()

    assert "model.onnx" in story.cause()[0]
    assert story.cause()[0].startswith("could not start: ")
    assert ["end"] == station.types


def test_a_worker_that_was_stopped_while_its_models_were_looked_at_is_not_started(story: Story) -> None:
    own_model(story)
    story.is_answered = False
    story.order()
    story.connect()
    supervisor = story.introduce()

    story.engine.stop("a-1", at_once=False)
    story.pass_seconds(0)
    story.answer()

    assert "start" not in supervisor.types
    assert ("was not started", False) == story.cause()


@pytest.mark.parametrize("damaged", [b"{", b"\xff"])
def test_a_worker_whose_setup_is_damaged_is_not_started(story: Story, damaged: bytes) -> None:
    (story.folder / "setup.json").write_bytes(damaged)

    story.order()
    station = story.connect()
    story.introduce()

    assert story.cause()[0].startswith("could not start: ")
    assert ["end"] == station.types


def test_a_start_that_was_lost_on_its_way_is_sent_again(story: Story) -> None:
    story.order()
    story.connect()
    first = story.introduce()
    story.engine.station_lost("a-1")
    story.engine.supervisor_lost(first)

    story.connect()
    second = story.introduce()
    story.engine.station_lost("a-1")
    story.connect()
    third = story.introduce(pid=5)

    assert (["start"], ["start"], []) == (first.types, second.types, third.types)


def test_a_station_is_ended_when_its_worker_is_gone_and_killed_if_it_does_not_end(story: Story) -> None:
    station, supervisor = story.run()

    story.engine.supervisor_says({"type": "drained", "worker": "a-1"})
    story.engine.supervisor_says({"type": "exited", "worker": "a-1", "exit_status": 7})
    at_once = list(story.placer.withdrawn)
    story.pass_seconds(4)

    assert [("a-1", "started 5"), ("a-1", "drained"), ("a-1", "exited with code 7")] == story.heard.told
    assert (["start", "forget"], ["end"]) == (supervisor.types, station.types)
    assert ([], ["a-1"]) == (at_once, story.placer.withdrawn)


def test_a_station_that_ends_by_itself_in_time_is_not_killed(story: Story) -> None:
    story.run()
    story.engine.supervisor_says({"type": "exited", "worker": "a-1", "exit_status": 0})

    story.engine.station_lost("a-1")
    story.engine.station_gone("a-1", ending_of_station(0, "node-1"))
    story.pass_seconds(4)

    assert [] == story.placer.withdrawn
    assert ("exited with code 0", True) == story.cause()


def test_a_station_that_is_not_heard_for_the_deadline_is_given_up_and_ended_if_it_comes_back(story: Story) -> None:
    station, _ = story.run()
    story.pass_seconds(10, heard=("a-1",))

    story.pass_seconds(3)
    before = list(story.heard.endings)
    story.pass_seconds(1)
    back = story.connect()

    assert [] == before
    assert CUT_OFF == story.cause()
    assert (True, ["a-1"], ["end"]) == (station.is_closed, story.placer.withdrawn, back.types)


def test_a_station_that_comes_back_within_the_deadline_goes_on(story: Story) -> None:
    _, supervisor = story.run()

    story.engine.station_lost("a-1")
    story.engine.supervisor_lost(supervisor)
    story.pass_seconds(3)
    story.connect()
    story.introduce(pid=5)
    story.pass_seconds(10, heard=("a-1",))

    assert [("a-1", "started 5")] * 2 == story.heard.told


def test_a_station_that_does_not_come_back_within_the_deadline_is_given_up(story: Story) -> None:
    _, supervisor = story.run()

    story.engine.station_lost("a-1")
    story.engine.supervisor_lost(supervisor)
    story.pass_seconds(6)

    assert CUT_OFF == story.cause()


def test_a_supervisor_that_is_silent_while_its_station_is_heard_is_ended_with_it(story: Story) -> None:
    station, _ = story.run()

    for _ in range(6):
        story.engine.station_heard("a-1")
        story.pass_seconds(1)

    assert ("was killed with its supervisor", False) == story.cause()
    assert ["end"] == station.types


def test_the_last_words_of_a_worker_whose_supervisor_is_dead_are_waited_for(story: Story) -> None:
    _, supervisor = story.run()

    story.engine.supervisor_lost(supervisor)
    before = list(story.heard.endings)
    story.engine.station_lost("a-1")

    assert [] == before
    assert ("was killed with its supervisor", False) == story.cause()


def test_a_station_without_a_supervisor_is_not_waited_for_for_ever(story: Story) -> None:
    _, supervisor = story.run()

    story.engine.supervisor_lost(supervisor)
    story.pass_seconds(4, heard=("a-1",))

    assert ("was killed with its supervisor", False) == story.cause()


def test_what_a_dead_station_has_sent_comes_before_its_end(story: Story) -> None:
    story.run()
    ending = ending_of_station(-9, "node-1")

    story.engine.station_gone("a-1", ending)
    before = list(story.heard.endings)
    story.engine.supervisor_says({"type": "exited", "worker": "a-1", "exit_status": 3})
    story.pass_seconds(3)

    assert ([], ("exited with code 3", True)) == (before, story.cause())


@pytest.mark.parametrize("hangs_up", [True, False])
def test_of_a_dead_station_the_placer_knows_the_cause(story: Story, hangs_up: bool) -> None:
    story.run()

    story.engine.station_gone("a-1", ending_of_station(-9, "node-1"))
    if hangs_up:
        story.engine.station_lost("a-1")
    else:  # its node is dead, and nobody has closed the connection
        story.pass_seconds(2)

    cause = "was lost with its station on node-1, which was killed by signal 9 (SIGKILL)"
    assert (cause, False) == story.cause()


def test_a_station_that_never_ran_is_gone_by_the_placers_word(story: Story) -> None:
    story.order()

    story.engine.station_gone("a-1", Exit(status=None, detail="could not be placed"))

    assert [("a-1", "drained"), ("a-1", "could not be placed")] == story.heard.told


def test_a_station_that_was_placed_and_is_never_heard_is_given_up(story: Story) -> None:
    story.order("a-1")
    story.order("a-2")  # waits for a place, and may do so for ever
    story.engine.station_placed("a-1", "node-1")

    story.pass_seconds(60)
    before = list(story.heard.endings)
    story.pass_seconds(2)

    assert ([], ["a-1"]) == (before, list(story.heard.endings))
    assert "could not start: nothing was heard of its supervisor on node-1 for 60 s" == story.cause()[0]
    assert ["a-1"] == story.placer.withdrawn


def test_a_station_whose_supervisor_never_comes_is_given_up(story: Story) -> None:
    story.order()
    story.engine.station_placed("a-1", "node-1")
    station = story.connect()

    for _ in range(62):
        story.engine.station_heard("a-1")
        story.pass_seconds(1)

    assert "could not start: nothing was heard of its supervisor on node-1 for 60 s" == story.cause()[0]
    assert ["end"] == station.types


def test_why_a_station_cannot_start_its_worker_is_told(story: Story) -> None:
    story.order()
    station = story.connect()

    story.engine.station_failed("a-1", "could not start: there is no such package")

    assert ("could not start: there is no such package", True) == story.cause()
    assert ["end"] == station.types


def test_a_worker_is_stopped_by_its_supervisor(story: Story) -> None:
    _, supervisor = story.run()

    story.engine.stop("a-1", at_once=False)

    assert {"type": "stop", "worker": "a-1", "at_once": False, "grace_seconds": 3.0} == supervisor.heard[-1]


def test_a_worker_that_is_stopped_while_it_is_cut_off_is_stopped_when_it_comes_back(story: Story) -> None:
    _, supervisor = story.run()
    story.engine.station_lost("a-1")
    story.engine.supervisor_lost(supervisor)

    story.engine.stop("a-1", at_once=True)
    story.connect()
    back = story.introduce(pid=5)

    assert ["stop"] == back.types


@pytest.mark.parametrize("is_connected", [True, False])
def test_a_worker_that_is_stopped_before_it_runs_is_told_to_be_gone_a_moment_later(
    story: Story, is_connected: bool
) -> None:
    story.order()
    station = story.connect() if is_connected else Peer()

    story.engine.stop("a-1", at_once=True)
    at_once = list(story.heard.endings)
    story.pass_seconds(0)
    late = story.connect()

    assert ([], "was not started") == (at_once, story.cause()[0])
    assert (["end"] if is_connected else [], ["end"]) == (station.types, late.types)
    assert ([] if is_connected else ["a-1"]) == story.placer.withdrawn


# After an earlier operator


@pytest.fixture
def next_one(story: Story) -> Story:
    """The engine of an operator that has just begun, and does not know yet who is there."""
    story.placer.knows = False
    story.engine.recover()
    return story


def find(story: Story, *workers: str) -> None:
    story.placer.knows = True
    story.engine.stations_found(workers)


def test_a_worker_of_an_earlier_operator_is_taken_over_when_it_comes(next_one: Story) -> None:
    may_return = next_one.engine.may_return()
    next_one.connect()
    next_one.introduce(pid=5)
    find(next_one, "a-1")

    assert (True, False) == (may_return, next_one.engine.may_return())
    assert next_one.engine.has_place("a-1")
    assert [("a-1", "started 5")] == next_one.heard.told


def test_how_a_worker_has_ended_that_comes_back_is_told(next_one: Story) -> None:
    next_one.connect()
    next_one.introduce(pid=5, exit_status=-9, out_of_memory=True)

    assert "ran out of memory: it is limited to 1Gi (compute.mem)" == next_one.cause()[0]


def test_a_worker_that_was_found_may_come_for_a_while_and_is_lost_then(next_one: Story) -> None:
    next_one.engine.heartbeat_seconds = 30
    find(next_one, "a-1")
    may_return = next_one.engine.may_return()

    next_one.engine.end_lost("a-1", pid=5, process_started_at=0)
    next_one.pass_seconds(4)
    before = list(next_one.heard.endings)
    next_one.pass_seconds(1)

    assert (True, []) == (may_return, before)
    assert ("ended while the operator was away", False) == next_one.cause()
    assert (["a-1"], ["end"]) == (next_one.placer.withdrawn, next_one.connect().types)


def test_a_worker_that_is_not_found_is_lost_at_once(next_one: Story) -> None:
    next_one.engine.end_lost("a-1", pid=5, process_started_at=0)
    before = list(next_one.heard.endings)

    find(next_one, "a-2")

    assert ([], ["a-1"]) == (before, list(next_one.heard.endings))


def test_a_worker_that_comes_back_is_not_lost(next_one: Story) -> None:
    find(next_one, "a-1")
    next_one.engine.end_lost("a-1", pid=5, process_started_at=0)

    next_one.connect()
    next_one.introduce(pid=5)
    next_one.pass_seconds(10, heard=("a-1",))

    assert [("a-1", "started 5")] == next_one.heard.told


def test_who_is_given_up_before_it_is_known_who_is_there_is_withdrawn_when_it_is_found(next_one: Story) -> None:
    next_one.engine.end_lost("a-1", pid=5, process_started_at=0)
    next_one.pass_seconds(6)

    find(next_one, "a-1")

    assert ["a-1", "a-1"] == next_one.placer.withdrawn
    assert not next_one.engine.has_place("a-1")


def test_a_station_that_comes_without_its_supervisor_is_ended_after_the_deadline(next_one: Story) -> None:
    station = next_one.connect()

    for _ in range(6):
        next_one.engine.station_heard("a-1")
        next_one.pass_seconds(1)

    assert ("was killed with its supervisor", False) == next_one.cause()
    assert ["end"] == station.types


def test_a_station_that_an_earlier_operator_never_told_what_to_start_is_ended(next_one: Story) -> None:
    station = next_one.connect()

    next_one.introduce()

    assert ("was not started", False) == next_one.cause()
    assert ["end"] == station.types


def test_a_station_that_comes_when_all_are_known_is_ended(next_one: Story) -> None:
    find(next_one)
    next_one.pass_seconds(6)

    assert ["end"] == next_one.connect().types
