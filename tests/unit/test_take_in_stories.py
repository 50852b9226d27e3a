"""Random stories of an operator and Workers elsewhere: whatever is cut, repeated or late, what they write is fenced.

The Workers take the steps of worker/life.py on pages and files of their own, and their stations tell of it as
cortex/station does; a story can cut a connection, give a Worker up that goes on, or end the operator, between any two
steps and between any two words. However it goes, an ending is stored at most once, and by whoever holds the Lease of
the Batch; and none that has ended runs again, unless its Worker was lost.
"""

import itertools
import tempfile
import zlib
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from cortex.domain.batch import ENTRY, BatchState, EntryKind, Page, ResultEntry
from cortex.domain.frame import Frame
from cortex.domain.lease import Lease, Pace, token
from cortex.operator.run.dispatch import Dispatch, LeaseLost
from cortex.operator.run.taking_in import Written
from cortex.operator.stations.intake import Intake
from cortex.storage.pages import create_page
from cortex.storage.results import read_rows
from cortex.storage.segments import States
from job_files import job_of, make_job
from scripted_station import ticket_of

SEGMENTS = (30, 1, 20)
TOTAL = sum(SEGMENTS)


class Step(Enum):
    """What a Worker did last."""

    WAITS = auto()  # for a frame
    BETWEEN = auto()  # two Batches
    NAMED = auto()  # the next Batch on its page, and has not looked at the limit
    RUNS = auto()  # predict
    WROTE = auto()  # what predict returned, and has not stored the byte
    SPEAKS = auto()  # its page is cleared, and its station does not know yet that the Lease is over


@dataclass
class Node:
    """One Worker elsewhere, with its station and the files there."""

    name: str
    intake: Intake  # of the operator, for the present connection
    words: dict[int, int] = field(default_factory=dict)  # of the page
    step: Step = Step.WAITS
    lease: Frame | None = None  # the last one
    states: bytearray = field(default_factory=bytearray)
    batch: int = 0
    finished: int = 0
    rows: bytes = b""
    index: bytes = b""
    told_index: int = 0
    known_index: int = 0
    known_rows: int = 0
    told_rows: int = 0
    is_connected: bool = False
    is_introduced: bool = False  # the Worker, on this connection
    is_alive: bool = True
    is_given_up: bool = False
    has_run: set[int] = field(default_factory=set)
    to_operator: deque[Frame] = field(default_factory=deque)
    to_station: deque[Frame] = field(default_factory=deque)

    @property
    def running(self) -> int | None:
        """The Batch that is in predict."""
        return self.batch if self.is_alive and self.step in (Step.RUNS, Step.WROTE) else None

    # Its station

    def page(self) -> Frame:
        page = bytearray(Page.SIZE)
        for word, value in self.words.items():
            memoryview(page).cast("Q")[word] = value
        return {"type": "page", "now_ns": 0, "data": bytes(page)}

    def outcome(self) -> list[Frame]:
        """Tell all that has come of the last Lease."""
        told = [self.page()]
        if self.lease is None:
            return told
        if self.told_rows < len(self.rows):
            told.append({"type": "rows", "offset": self.told_rows, "data": self.rows[self.told_rows :]})
            self.told_rows = len(self.rows)
        self.told_index = len(self.index)
        written = {"token": self.lease["token"], "first": self.lease["first"], "index_at": self.known_index}
        data = bytes(self.states) + self.index[self.known_index :]
        return [*told, {"type": "written", **written, "states": len(self.states), "data": data}]

    def tell(self, *frames: Frame) -> None:
        if self.is_connected:
            self.to_operator.extend(frames)

    def connect(self) -> None:
        self.is_connected = True
        self.told_rows = self.known_rows
        self.tell(*self.outcome(), {"type": "started"})
        if not self.is_alive:
            self.tell({"type": "exited"})
        self.introduce()

    def introduce(self) -> None:
        """Have the Worker say that it is ready: it finds out that it is not connected when it has nothing to do."""
        if self.is_alive and self.is_connected and not self.is_introduced and self.step is Step.WAITS:
            self.is_introduced = True
            self.tell(*self.outcome(), {"type": "hello"})

    def cut(self) -> None:
        self.is_connected = self.is_introduced = False
        self.to_operator.clear()
        self.to_station.clear()

    def hear(self, frame: Frame) -> None:
        if frame["type"] == "lease" and self.is_alive and self.is_introduced:
            self.known_index, self.known_rows = self.told_index, self.told_rows
            self.lease, self.states = frame, bytearray(frame["end"] - frame["first"])
            self.words.update({Page.LIMIT: frame["end"]})
            self.batch, self.finished, self.step = frame["first"], 0, Step.BETWEEN
        elif frame["type"] == "limit":
            if self.lease is not None and self.lease["token"] == frame["token"]:
                self.words[Page.LIMIT] = frame["limit"]
            self.tell(*self.outcome(), {"type": "page_seen", "id": frame["id"]})

    # Its Worker

    def leave_lease(self) -> None:
        self.words[Page.CURRENT] = 0
        self.step = Step.SPEAKS

    def speak(self) -> None:
        assert self.lease is not None
        self.step = Step.WAITS
        if self.is_introduced:
            ended = {"type": "lease_ended", "token": self.lease["token"], "finished": self.finished}
            self.tell(*self.outcome(), ended)
        else:
            self.introduce()

    def write(self) -> None:
        assert self.lease is not None
        if self.batch % 3:
            data = b"%d:%d\n" % (self.batch, self.lease["token"])
            entry = ResultEntry(
                self.batch, self.lease["token"], len(self.rows), len(data), 1, EntryKind.ROWS, zlib.crc32(data)
            )
            self.rows += data
            self.index += ENTRY.pack(*entry)

    def store(self) -> None:
        assert self.lease is not None
        state = BatchState.SUCCEEDED_WITH_ROWS if self.batch % 3 else BatchState.SUCCEEDED
        self.states[self.batch - self.lease["first"]] = state
        self.words[Page.FINISHED] = self.words.get(Page.FINISHED, 0) + 1
        self.finished += 1
        self.batch += 1
        self.step = Step.BETWEEN


class Stories(RuleBasedStateMachine):
    """See the module."""

    @initialize()
    def submit(self) -> None:
        self.directory = tempfile.TemporaryDirectory()
        self.folder, self.segments = make_job(Path(self.directory.name), *SEGMENTS)
        self.names = itertools.count()
        self.epochs = itertools.count(1)
        self.nodes: dict[str, Node] = {}
        self.granted: dict[int, tuple[str, int]] = {}  # of each Batch, the last Lease
        self.stored: dict[int, int] = {}  # under which token
        self.runs: Counter[int] = Counter()
        self.losses: Counter[int] = Counter()
        self.begin_operator()
        for _ in range(2):
            self.start_worker()
        self.pump()
        self.feed()
        self.pump()
        self.step_all(6)
        self.pump()  # now it is known that a Batch is cheap, and Leases grow
        self.feed()

    def begin_operator(self) -> None:
        epoch, counter = next(self.epochs), itertools.count(1)
        self.dispatch = Dispatch(
            job_of(self.segments, workers=2),
            self.folder,
            self.segments,
            next_token=lambda: token(epoch, next(counter)),
        )
        self.missing = {node.name for node in self.here}
        self.settling: dict[int, Callable[[], None]] = {}
        self.asked = itertools.count()
        self.is_filled = False
        self.resume()

    @property
    def here(self) -> list[Node]:
        """Those that the operator has not parted with."""
        return [node for node in self.nodes.values() if not node.is_given_up]

    def resume(self) -> None:
        if not self.missing and not self.is_filled:
            self.is_filled = True
            self.dispatch.fill()

    def teardown(self) -> None:
        if hasattr(self, "directory"):
            self.tell_to_the_end()
            self.check_the_end()
            for node in self.nodes.values():
                node.intake.close()
            self.directory.cleanup()

    def pick(self, data: st.DataObject) -> Node:
        return self.nodes[data.draw(st.sampled_from(sorted(self.nodes)))]

    # Workers and stations

    @rule()
    def start_worker(self) -> None:
        if len(self.here) < 3:
            name = f"worker-{next(self.names)}"
            create_page(self.folder, name)
            intake = Intake(ticket_of(self.folder, name), now_ns=lambda: 0)
            assert intake.begin(1)
            self.nodes[name] = node = Node(name, intake)
            node.connect()

    @precondition(lambda self: self.nodes)
    @rule(data=st.data(), steps=st.integers(1, 12))
    def step(self, data: st.DataObject, steps: int) -> None:
        node = self.pick(data)
        for _ in range(steps):
            self.take_step(node)

    @precondition(lambda self: self.nodes)
    @rule(data=st.data())
    def do_all_but_say_so(self, data: st.DataObject) -> None:
        node = self.pick(data)
        while node.is_alive and node.step not in (Step.WAITS, Step.SPEAKS):
            self.take_step(node)

    def step_all(self, steps: int) -> None:
        for node in self.nodes.values():
            for _ in range(steps):
                self.take_step(node)

    def take_step(self, node: Node) -> None:
        if not node.is_alive:
            return
        match node.step:
            case Step.BETWEEN if node.lease is not None and node.batch == node.lease["end"]:
                node.leave_lease()
            case Step.BETWEEN:
                node.words[Page.CURRENT] = node.batch + 1
                node.step = Step.NAMED
            case Step.NAMED if node.batch >= node.words[Page.LIMIT]:
                node.leave_lease()
            case Step.NAMED:
                self.check_begin(node)
                node.step = Step.RUNS
            case Step.RUNS:
                node.write()
                node.step = Step.WROTE
            case Step.WROTE:
                node.store()
            case Step.SPEAKS:
                node.speak()

    def check_begin(self, node: Node) -> None:
        if node.is_given_up:
            return
        batch = node.batch
        node.has_run.add(batch)
        self.runs[batch] += 1
        others = [other.name for other in self.here if other is not node and other.running == batch]
        assert others == [], f"batch {batch} runs twice at a time"
        assert self.states[batch] is BatchState.OPEN, f"batch {batch} has ended and is run again"
        assert self.runs[batch] <= 1 + self.losses[batch], f"batch {batch} runs again for nothing"

    @precondition(lambda self: self.nodes)
    @rule(data=st.data())
    def tell_a_page(self, data: st.DataObject) -> None:
        node = self.pick(data)
        node.tell(node.page())

    @precondition(lambda self: self.nodes)
    @rule(data=st.data())
    def tell_again(self, data: st.DataObject) -> None:
        """Tell what has come of the last Lease although nobody has asked."""
        node = self.pick(data)
        node.tell(*node.outcome())

    @precondition(lambda self: self.nodes)
    @rule(data=st.data())
    def cut(self, data: st.DataObject) -> None:
        self.pick(data).cut()

    @precondition(lambda self: any(not node.is_connected for node in self.nodes.values()))
    @rule(data=st.data())
    def connect(self, data: st.DataObject) -> None:
        names = sorted(node.name for node in self.nodes.values() if not node.is_connected)
        self.nodes[data.draw(st.sampled_from(names))].connect()

    @precondition(lambda self: self.nodes)
    @rule(data=st.data())
    def die(self, data: st.DataObject) -> None:
        """A Worker dies, and its station tells."""
        node = self.pick(data)
        if node.is_alive and node.is_connected:
            self.lose(node)
            node.is_alive = False
            node.tell(*node.outcome(), {"type": "exited"})

    def lose(self, node: Node) -> None:
        self.losses.update(node.has_run)
        node.has_run.clear()

    # The operator

    @precondition(lambda self: self.nodes)
    @rule(data=st.data(), count=st.integers(1, 5), to_station=st.booleans())
    def deliver(self, data: st.DataObject, count: int, to_station: bool) -> None:
        node = self.pick(data)
        for _ in range(count):
            self.deliver_one(node, to_station=to_station)

    def deliver_one(self, node: Node, *, to_station: bool) -> None:
        if to_station and node.to_station:
            node.hear(node.to_station.popleft())
        elif not to_station and node.to_operator:
            self.hear(node, node.to_operator.popleft())

    def pump(self) -> None:
        for node in self.nodes.values():
            while node.to_operator or node.to_station:
                self.deliver_one(node, to_station=bool(node.to_station))

    def hear(self, node: Node, frame: Frame) -> None:
        if node.intake.take(frame):
            return
        if node.name in self.missing:
            self.dispatch.adopt(node.name)
            self.missing.discard(node.name)
        kind = frame["type"]
        if kind == "written":
            self.take_in(node, frame)
        self.resume()
        if node.is_given_up:
            return  # the door would not even have heard what it has written
        if kind == "hello":
            self.dispatch.release(node.name)
        elif kind == "lease_ended":
            try:
                pace = Pace(batches=frame["finished"], seconds=frame["finished"] * 1e-6)
                self.dispatch.end_lease(node.name, frame["token"], pace)
            except LeaseLost:
                pass
        elif kind == "page_seen" and frame["id"] in self.settling:
            self.settling.pop(frame["id"])()
        elif kind == "exited":
            self.dispatch.release(node.name)
            node.is_given_up = True

    def take_in(self, node: Node, frame: Frame) -> None:
        before = self.states
        self.dispatch.take_in(node.name, Written.from_frame(frame))
        for batch, (was, is_now) in enumerate(zip(before, self.states, strict=True)):
            if was is not is_now:
                assert was is BatchState.OPEN, f"batch {batch} ends twice"
                assert (node.name, frame["token"]) == self.granted[batch], f"{node.name} does not hold batch {batch}"
                self.stored[batch] = frame["token"]

    @rule()
    def feed(self) -> None:
        for node in self.here:
            is_idle = node.is_introduced and not any(each["type"] == "hello" for each in node.to_operator)
            if self.missing or not is_idle or node.name in self.missing or self.dispatch.held_by(node.name):
                continue
            lease = self.dispatch.lease(node.name)
            if lease is None:
                return
            covered = range(lease.first, lease.end)
            assert all(self.states[batch] is BatchState.OPEN for batch in covered)
            self.granted.update(dict.fromkeys(covered, (node.name, lease.token)))
            if node.is_connected:
                node.to_station.append(self.dispatch.frame(lease))

    @precondition(lambda self: not self.missing)
    @rule(most=st.integers(1, 2))
    def take_back(self, most: int) -> None:
        for lease in self.dispatch.unstarted(most):
            self.ask_back(lease)

    def ask_back(self, lease: Lease) -> None:
        limit = self.dispatch.take_back(lease)
        assert limit is not None
        node = self.nodes[lease.worker]
        if node.is_connected and node.is_introduced:
            number = next(self.asked)
            self.settling[number] = lambda: self.dispatch.shorten(lease, limit)
            node.to_station.append({"type": "limit", "id": number, "token": lease.token, "limit": limit})

    @precondition(lambda self: not self.missing and self.here)
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        """Part with a Worker of which nothing was heard for too long; it goes on, for all we know."""
        node = data.draw(st.sampled_from(sorted(self.here, key=lambda node: node.name)))
        self.lose(node)
        node.is_given_up = True
        self.dispatch.release(node.name)

    @rule()
    def restart_operator(self) -> None:
        for node in self.nodes.values():
            node.cut()
        self.begin_operator()

    # What holds at any time

    @property
    def states(self) -> list[BatchState]:
        return [BatchState(byte) for segment in self.segments for byte in States(self.folder, segment).read()]

    @invariant()
    def an_ending_is_stored_by_who_holds_the_batch_and_stays(self) -> None:
        ended = {batch for batch, state in enumerate(self.states) if state is not BatchState.OPEN}
        assert ended == self.stored.keys()

    @invariant()
    def what_runs_is_leased_to_who_runs_it(self) -> None:
        for node in self.here:
            if node.running is not None and node.name not in self.missing:
                lease = self.dispatch.held_by(node.name)
                assert lease is not None
                assert lease.first <= node.running < lease.end

    def tell_to_the_end(self) -> None:
        for _ in range(20 * TOTAL):
            self.start_worker()
            for node in self.nodes.values():
                if not node.is_connected:
                    node.connect()
            self.pump()
            self.feed()
            self.step_all(8)
            if not self.missing and self.dispatch.is_done:
                return
        raise AssertionError("the job does not come to its end")

    def check_the_end(self) -> None:
        assert BatchState.OPEN not in self.states
        rows = [b"%d:%d\n" % (batch, self.stored[batch]) for batch in range(TOTAL) if batch % 3]
        assert b"".join(rows) == b"".join(read_rows(self.folder, self.segments))


TestStories = Stories.TestCase
TestStories.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)


def test_what_is_done_and_not_said_yet_is_not_taken_back() -> None:
    story = Stories()
    story.submit()
    story.pump()
    (lease,) = story.dispatch.unstarted(1)
    holder = story.nodes[lease.worker]
    story.ask_back(lease)
    while holder.step is not Step.SPEAKS:
        story.take_step(holder)
    story.deliver_one(holder, to_station=True)
    while holder.to_operator:
        story.deliver_one(holder, to_station=False)

    assert story.dispatch.held_by(lease.worker) is not None
    assert all(story.states[batch] is not BatchState.OPEN for batch in range(lease.first, lease.end))
    story.teardown()
