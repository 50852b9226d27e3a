"""The counts of workers that are kept as they change are those that counting all of them would give."""

from hypothesis import given
from hypothesis import strategies as st

from cortex.operator.run.roster import Roster
from cortex.operator.run.workers import Phase, WorkerView


class Deaf:
    """A connection that nobody listens to."""

    def send(self, frame: object) -> None:
        """Nobody hears it."""


CONNECTION = Deaf()
NAMES = st.sampled_from("abcd")
CHANGES = st.one_of(
    st.tuples(st.just("phase"), st.sampled_from(Phase)),
    st.tuples(st.just("connection"), st.sampled_from([None, CONNECTION])),
    st.tuples(st.just("pid"), st.sampled_from([None, 7])),
    st.tuples(st.just("is_drained"), st.booleans()),
    st.tuples(st.just("gone"), st.none()),
)


@given(st.lists(st.tuples(NAMES, CHANGES), max_size=40))
def test_what_is_counted_as_it_changes_is_what_counting_all_would_give(story):
    roster = Roster()
    for worker, (what, value) in story:
        if worker not in roster.views:
            roster.add(worker, WorkerView())
        if what == "gone":
            roster.remove(worker)
        else:
            setattr(roster.views[worker], what, value)
            roster.changed(worker)

        views = roster.views
        assert {name for name, view in views.items() if view.is_waiting} == set(roster.waiting)
        unreleased = {name for name, view in views.items() if view.phase is not Phase.RELEASED}
        assert unreleased - set(roster.waiting) == set(roster.starting)
        assert {name for name, view in views.items() if view.phase is Phase.PENDING} == set(roster.pending)
        assert len(unreleased) == roster.unreleased
        assert sum(view.has_said_all for view in views.values()) == roster.have_said_all
        assert sum(v.phase is Phase.RELEASED and v.pid is not None for v in views.values()) == roster.ending
        assert all(sum(v.phase is phase for v in views.values()) == roster.phases[phase] for phase in Phase)


def test_who_was_ready_first_is_the_first_of_those_that_wait():
    roster = Roster()
    for worker in "ab":
        roster.add(worker, WorkerView(connection=CONNECTION, pid=1))
    for worker in "ba":
        roster.views[worker].phase = Phase.READY
        roster.changed(worker)

    assert ["b", "a"] == list(roster.waiting)
