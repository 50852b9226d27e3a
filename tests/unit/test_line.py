"""Calls in line: each is answered once, given to one process at a time, in order, whatever dies or takes too long."""

from collections.abc import Callable
from dataclasses import dataclass, field

import hypothesis.strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from cortex.domain.errors import NotServing, ReplicaDied, RequestTimedOut
from cortex.serving.calls import Answer, Incoming
from cortex.serving.line import MOST_AHEAD, SHORT_SECONDS, Line
from cortex.serving.load import InFlight

SECOND_NS = 10**9
LIMIT_NS = 5 * SECOND_NS
DIED = ReplicaDied("it died")
LONG = SHORT_SECONDS * 2
SHORT = SHORT_SECONDS / 2


def incoming(number: int) -> Incoming:
    return Incoming(query=b"", headers=[], content_type=None, body=b"%d" % number)


def answer(number: int) -> Answer:
    return Answer(200, [], b"%d" % number)


@dataclass
class Story:
    """A line, its clock, what its processes were given, and what its clients were answered."""

    at_ns: int = 0
    given: dict[str, list[tuple[int, int]]] = field(default_factory=dict)  # by process: numbers of the line, and ours
    answers: dict[int, list[Answer]] = field(default_factory=dict)  # by our number
    sent: int = 0

    def __post_init__(self) -> None:
        self.line = Line(now_ns=lambda: self.at_ns, load=InFlight(0))

    @property
    def until_ns(self) -> int:
        """Until when what came has taken too long."""
        return self.at_ns - LIMIT_NS

    def call(self) -> int:
        number = self.sent
        self.sent += 1
        self.answers[number] = []
        self.line.enter(incoming(number), self.answers[number].append)
        return number

    def join(self, name: str, threads: int = 1) -> None:
        self.given[name] = []
        self.line.join(name, threads, self.giver(name))

    def giver(self, name: str) -> Callable[[int, Incoming], None]:
        return lambda number, what: self.given[name].append((number, int(what.body)))

    def answer(self, name: str, index: int = 0, *, seconds: float = LONG) -> int:
        """Have a process answer one of the calls that it has; give which."""
        number, ours = self.given[name].pop(index)
        self.line.answer(name, number, answer(ours), seconds=seconds)
        return ours

    def calls_of(self, name: str) -> list[int]:
        return [ours for _, ours in self.given[name]]

    def statuses(self, number: int) -> list[int]:
        return [each.status for each in self.answers[number]]


def test_a_call_is_given_to_a_process_with_a_free_thread_at_once() -> None:
    story = Story()
    story.join("a", threads=2)

    calls = [story.call(), story.call(), story.call()]

    assert calls[:2] == story.calls_of("a")
    assert (1, 3) == (story.line.waiting, story.line.in_flight)


def test_calls_that_wait_are_given_in_the_order_in_which_they_came() -> None:
    story = Story()
    calls = [story.call() for _ in range(3)]

    story.join("a")
    order = [story.answer("a"), story.answer("a"), story.answer("a")]

    assert calls == order
    assert [[answer(number)] for number in calls] == [story.answers[number] for number in calls]
    assert 0 == story.line.in_flight


def test_processes_take_turns() -> None:
    story = Story()
    story.join("a", threads=2)
    story.join("b", threads=2)

    for _ in range(4):
        story.call()

    assert ([0, 2], [1, 3]) == (story.calls_of("a"), story.calls_of("b"))


def test_calls_are_sent_ahead_only_where_predict_is_short() -> None:
    story = Story()
    story.join("a")
    story.call()
    story.answer("a", seconds=SHORT)

    for _ in range(10):
        story.call()

    assert 1 + MOST_AHEAD == len(story.calls_of("a"))
    for _ in range(10):
        story.answer("a", seconds=1.0)
    story.call()
    story.call()
    assert 1 == len(story.calls_of("a"))


def test_an_idle_process_gets_a_call_before_one_that_is_sent_ahead() -> None:
    story = Story()
    story.join("a")
    story.call()
    story.answer("a", seconds=SHORT)
    story.call()

    story.join("b")
    story.call()

    assert ([1], [2]) == (story.calls_of("a"), story.calls_of("b"))


def test_what_a_dead_process_may_have_begun_is_refused_and_all_else_given_to_another() -> None:
    story = Story()
    story.join("a")
    story.call()
    story.answer("a", seconds=SHORT)
    begun, ahead, behind = story.call(), story.call(), story.call()
    story.join("b")
    latest = story.call()  # b has it
    last_begun = story.given["a"][0][0]

    story.line.leave("a", DIED, begun=last_begun)

    assert [502] == story.statuses(begun)
    assert [] == story.statuses(ahead) + story.statuses(behind)
    assert [latest, ahead, behind] == [story.answer("b") for _ in range(3)]


def test_all_that_a_dead_process_has_is_refused_where_nothing_says_what_it_has_begun() -> None:
    story = Story()
    story.join("a", threads=3)
    calls = [story.call() for _ in range(3)]

    story.line.leave("a", DIED)

    assert [[502]] * 3 == [story.statuses(number) for number in calls]
    assert 0 == story.line.in_flight


def test_a_process_that_is_closed_gets_nothing_more_and_answers_what_it_has() -> None:
    story = Story()
    story.join("a")
    first = story.call()

    story.line.close("a")
    second = story.call()
    story.answer("a")

    assert [200] == story.statuses(first)
    assert ([], 0, 1) == (story.statuses(second), story.line.given_to("a"), story.line.waiting)


def test_a_process_busy_for_an_earlier_operator_gets_calls_when_it_has_answered_that() -> None:
    story = Story()
    story.given["a"] = []
    story.line.join("a", 1, story.giver("a"), busy=[77])
    number = story.call()
    assert [] == story.calls_of("a")

    story.line.answer("a", 77, answer(0), seconds=LONG)

    assert [number] == story.calls_of("a")
    assert 1 == story.line.in_flight


def test_an_answer_in_several_parts_is_put_together() -> None:
    story = Story()
    story.join("a")
    number = story.call()
    ((told, _),) = story.given["a"]

    story.line.answer("a", told, Answer(200, [], b"one "), more=True)
    story.line.answer("a", told, Answer(200, [], b"two"))

    assert [Answer(200, [], b"one two")] == story.answers[number]


def test_a_call_that_takes_too_long_is_refused_and_its_answer_is_dropped() -> None:
    story = Story()
    story.join("a")
    running, waiting = story.call(), story.call()
    story.at_ns = LIMIT_NS

    story.line.expire(story.until_ns, lambda: RequestTimedOut())

    assert ([504], [504]) == (story.statuses(running), story.statuses(waiting))
    assert {"a": True} == story.line.late(story.until_ns)
    assert 1 == story.line.in_flight
    story.answer("a")
    assert [504] == story.statuses(running)
    assert 0 == story.line.in_flight


def test_what_is_due_next_is_the_oldest_call_and_then_the_longest_predict() -> None:
    story = Story()
    story.call()
    story.at_ns = SECOND_NS
    story.join("a")
    assert 0 == story.line.first_after(story.until_ns)

    story.at_ns = LIMIT_NS
    story.line.expire(story.until_ns, lambda: RequestTimedOut())

    assert SECOND_NS == story.line.first_after(story.until_ns)
    assert {} == story.line.late(story.until_ns)
    story.at_ns = SECOND_NS + LIMIT_NS
    assert {"a": True} == story.line.late(story.until_ns)
    assert None is story.line.first_after(story.until_ns)


def test_a_process_that_was_cut_off_goes_on_and_what_it_lost_is_refused() -> None:
    story = Story()
    story.join("a", threads=2)
    lost, kept = story.call(), story.call()
    has = story.given["a"][1][0]
    story.line.close("a")

    story.line.rejoin("a", story.giver("a"), [has], DIED)

    assert ([502], []) == (story.statuses(lost), story.statuses(kept))
    later = story.call()
    assert [lost, kept, later] == story.calls_of("a")


def test_a_client_that_cannot_take_its_answer_harms_no_other() -> None:
    story = Story()
    story.join("a")

    def fail(_: Answer) -> None:
        raise OSError("gone")

    story.line.enter(incoming(99), fail)
    number = story.call()
    story.answer("a")
    story.answer("a")

    assert [200] == story.statuses(number)


class AnyStory(RuleBasedStateMachine):
    """Whatever happens in whatever order, every call is answered once, and only one process ever began it."""

    def __init__(self) -> None:
        super().__init__()
        self.story = Story()
        self.begun: set[int] = set()  # our numbers of the calls that some process may have begun
        self.threads: dict[str, int] = {}
        self.closed: set[str] = set()
        self.processes = 0

    @rule()
    def call(self) -> None:
        self.story.call()

    @rule(threads=st.integers(1, 3))
    def join(self, threads: int) -> None:
        name = f"p{self.processes}"
        self.processes += 1
        self.threads[name] = threads
        self.story.join(name, threads)

    @precondition(lambda self: self.threads)
    @rule(data=st.data(), seconds=st.sampled_from([SHORT, LONG]))
    def answer(self, data: st.DataObject, seconds: float) -> None:
        name = data.draw(st.sampled_from(sorted(self.threads)))
        running = self.story.calls_of(name)[: self.threads[name]]
        if running:
            ours = self.story.answer(name, data.draw(st.integers(0, len(running) - 1)), seconds=seconds)
            assert ours not in self.begun, "another process had begun it"
            self.begun.add(ours)

    @precondition(lambda self: self.threads)
    @rule(data=st.data(), is_told=st.booleans())
    def die(self, data: st.DataObject, is_told: bool) -> None:
        name = data.draw(st.sampled_from(sorted(self.threads)))
        given = self.story.given[name]
        running = given[: self.threads.pop(name)]
        begun = running if is_told else given
        assert not self.begun & {ours for _, ours in begun}
        self.begun |= {ours for _, ours in begun}
        last = max((number for number, _ in begun), default=0)
        self.closed.discard(name)
        self.story.line.leave(name, DIED, begun=last if is_told else None)
        for _, ours in begun:
            assert 1 == len(self.story.answers[ours])

    @precondition(lambda self: self.threads)
    @rule(data=st.data())
    def close(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.threads)))
        self.closed.add(name)
        self.story.line.close(name)

    @rule(seconds=st.integers(0, 7))
    def time_passes(self, seconds: int) -> None:
        self.story.at_ns += seconds * SECOND_NS
        self.story.line.expire(self.story.until_ns, lambda: RequestTimedOut())

    @rule()
    def refuse_waiting(self) -> None:
        self.story.line.refuse_waiting(NotServing())

    @invariant()
    def nobody_is_answered_twice(self) -> None:
        assert all(len(answers) <= 1 for answers in self.story.answers.values())

    @invariant()
    def nobody_waits_beside_a_free_thread(self) -> None:
        line = self.story.line
        open_ones = [name for name in self.threads if name not in self.closed]
        if line.waiting:
            assert all(line.given_to(name) >= self.threads[name] for name in open_ones)
        assert all(line.given_to(name) <= self.threads[name] + MOST_AHEAD for name in self.threads)

    @invariant()
    def all_that_are_not_answered_are_counted(self) -> None:
        line = self.story.line
        given = sum(line.given_to(name) for name in self.threads)
        assert line.in_flight == line.waiting + given
        assert line.unanswered == sum(not answers for answers in self.story.answers.values())

    def teardown(self) -> None:
        for name in sorted(self.threads):
            self.story.line.leave(name, DIED)
        self.story.line.refuse_waiting(NotServing())
        assert all(len(answers) == 1 for answers in self.story.answers.values())
        assert 0 == self.story.line.in_flight


TestAnyStory = AnyStory.TestCase
