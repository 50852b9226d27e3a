"""The replicas of one API: started, found again, given requests, let go, and mourned.

The promises:

- A process that is gone leaves nothing behind: its calls are answered or given again, its page is removed, its replica
  is planned anew.
- A process is ended only when it has answered what it has, unless it is wanted at once.
- What fails here (a disk that is full) is an attempt to start that has failed: it is told, and tried again in time.
"""

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from itertools import count as count_up
from typing import Final

from cortex.domain.ending import Exit
from cortex.domain.errors import ReplicaDied
from cortex.domain.frame import Frame
from cortex.domain.layout import ApiFolder
from cortex.domain.timing import Timer
from cortex.engines.engine import STALLED_AFTER_NS, Connection, Engine
from cortex.serving.failures import Failures
from cortex.serving.line import Line
from cortex.serving.pages import Pages
from cortex.serving.process import Phase, Process, Replica, giver
from cortex.serving.release import PREFIX, process_name
from cortex.serving.replica_order import ReplicaSetup
from cortex.serving.rollout import ReplicaView

_LAST_WORDS_SECONDS: Final = 1.0  # of a process that is gone: what it has answered lies in the socket

_END_SECONDS: Final = 60.0  # for a process that has answered everything: `post_predict` may still run

_SETTLED_NS: Final = 5 * 10**9
"""A process that dies sooner than this after it was ready, and has answered nothing, has failed to start."""

_LOST: Final = Exit(status=None, detail="ended while the operator was away", is_charged=False)


@dataclass(slots=True, kw_only=True)
class Replicas:
    """See the module. `changed` is called after every event that the plan may depend on."""

    api_name: str
    api_id: str  # of the version that new ones are started for
    processes_per_replica: int
    folder: ApiFolder
    pages: Pages
    engine: Engine
    line: Line
    now_ns: Callable[[], int]
    call_later: Timer
    log: Callable[[str], None]
    changed: Callable[[], None]
    least: int = 1  # replicas that the API always is to have
    setup: ReplicaSetup | None = None  # set when the environment is ready
    failures: Failures = field(default_factory=Failures)
    _replicas: dict[str, Replica] = field(default_factory=dict)
    _of: dict[str, Replica] = field(default_factory=dict)  # the replica of each process
    _gone: dict[str, Connection] = field(default_factory=dict)  # processes that may still be heard
    _leaving: dict[str, Process] = field(default_factory=dict)  # those that are in no replica any more
    _equipped: str | None = None  # the version whose folder has what its processes are started with
    _numbers: Callable[[], int] = field(default_factory=lambda: count_up(1).__next__)

    # What there is

    @property
    def all(self) -> Iterable[Replica]:
        """The replicas, those included that were told to end."""
        return self._replicas.values()

    @property
    def processes(self) -> list[str]:
        """Name the processes that may still be heard."""
        return [*self._of, *self._leaving, *self._gone]

    @property
    def is_ready(self) -> bool:
        """True as long as requests can be given to anybody."""
        return any(replica.is_ready and not replica.is_draining for replica in self._replicas.values())

    @property
    def serving_or_starting(self) -> int:
        """How many replicas take requests, or will."""
        return sum(not replica.is_draining and not replica.is_ending for replica in self._replicas.values())

    def __contains__(self, process: str) -> bool:
        """Tell whether a process is known, and perhaps gone a moment ago."""
        return process in self._of or process in self._leaving or process in self._gone

    @property
    def is_crowded(self) -> bool:
        """True as long as new replicas wait for a place on the machine while old ones have theirs."""
        replicas = self._replicas.values()
        waits = any(each.is_updated and not each.is_ending and self.waits_for_place(each) for each in replicas)
        return waits and any(not each.is_updated and not each.is_draining for each in replicas)

    @property
    def is_any_stale(self) -> bool:
        """True as long as replicas are there that are not as new ones would be."""
        return any(not replica.is_updated for replica in self._replicas.values())

    def views(self) -> tuple[ReplicaView, ...]:
        """Give what counts for the plan."""
        return tuple(
            ReplicaView(
                replica=replica.name,
                is_updated=replica.is_updated,
                state=replica.state,
                was_ready=replica.was_ready,
                requests=sum(self.line.given_to(name) for name in replica.processes),
            )
            for replica in self._replicas.values()
            if not replica.is_ending
        )

    def waits_for_place(self, replica: Replica) -> bool:
        """Tell whether none of the processes of a replica has been given a place on the machine."""
        processes = replica.processes.values()
        return all(each.phase is Phase.PENDING and not self.engine.has_place(each.name) for each in processes)

    def is_stalled(self, replica: Replica, *, now_ns: int) -> bool:
        """Tell whether a replica has waited very long for a place."""
        ordered_at_ns = min((each.ordered_at_ns for each in replica.processes.values()), default=now_ns)
        return self.waits_for_place(replica) and now_ns - ordered_at_ns >= STALLED_AFTER_NS

    def shortage(self) -> str | None:
        """Say what replicas wait for that have no place on the machine; None where none does."""
        if self.setup is None or not any(self.waits_for_place(each) for each in self._replicas.values()):
            return None
        return f"they wait for compute: {self.engine.shortage(self.setup.program.needs)}"

    # What is to be done

    def equip(self, setup: ReplicaSetup) -> None:
        """Make it possible to start replicas."""
        self.setup, self._equipped = setup, None

    def start(self, count: int) -> None:
        """Start replicas of the present version."""
        for _ in range(count):
            if not self._complete(self._new_replica(is_updated=True)):
                return

    def restart_processes(self) -> None:
        """Start again what is missing of replicas of the present version: a replica may outlive its processes."""
        for replica in list(self._replicas.values()):
            if replica.stays and not self._complete(replica):
                return

    def drain(self, name: str) -> None:
        """Give a replica no more requests."""
        replica = self._replicas[name]
        replica.is_draining = True
        for process in replica.processes.values():
            self.line.close(process.name)

    def end(self, name: str, *, at_once: bool = False) -> None:
        """End a replica: each of its processes when it has answered what it has, or `at_once` within seconds."""
        replica = self._replicas[name]
        self.drain(name)
        replica.is_ending = True
        for process in replica.processes.values():
            self._end(process, at_once=at_once)
        self._drop_if_empty(replica)

    def end_all(self) -> None:
        """End all of them within the grace of a stop."""
        for name in list(self._replicas):
            self.end(name, at_once=True)
        for process in self._leaving.values():
            self.engine.stop(process.name, at_once=True)

    def sort(self, is_updated: Callable[[str], bool]) -> None:
        """Tell anew which replicas are to be replaced, from what is known of their processes."""
        for replica in self._replicas.values():
            replica.is_updated = all(is_updated(process) for process in replica.processes)

    def is_draining(self, process: str) -> bool:
        """True of a process whose replica is to end when it has answered what it has."""
        replica = self._of.get(process)
        return replica is not None and replica.is_draining and not replica.is_ending

    def is_condemned(self, process: str) -> bool:
        """True of a process that is to be killed when all else that it runs is done."""
        return process in self._leaving

    def condemn(self, name: str, *, is_idle_else: bool) -> None:
        """Part with a process in which predict has taken too long: it is replaced, and killed when all else is done."""
        process = self._process(name)
        if process is None:
            return
        if not process.is_condemned:
            process.is_condemned = True
            self.log(f"process {name} is replaced: `predict` takes longer there than `networking.timeout` allows")
            self.line.close(name)
            replica = self._of.pop(name, None)
            if replica is not None:
                del replica.processes[name]
                self._leaving[name] = process
                self._drop_if_empty(replica)
            self.changed()
        if is_idle_else and not process.is_ending:
            process.is_ending = True
            self.engine.stop(name, at_once=True)

    def _new_replica(self, *, is_updated: bool) -> Replica:
        name = f"r{self._numbers()}"
        replica = self._replicas[name] = Replica(name=name, is_updated=is_updated)
        return replica

    def _complete(self, replica: Replica) -> bool:
        """Order the processes that a replica lacks; False where that has failed."""
        if self.setup is None:
            return False
        folder = self.folder.version(self.api_id)
        while len(replica.processes) < self.processes_per_replica:
            name = process_name(self.api_id, os.urandom(4).hex())
            try:
                if self._equipped != self.api_id:
                    self.setup.write(folder)
                    self._equipped = self.api_id
                self.pages.create(name)
                owner, log, comes_first = f"{PREFIX}{self.api_id}", self.folder.log, self._is_needed(replica)
                self.engine.start(self.setup.order(name, owner, folder, log, comes_first=comes_first))
            except OSError as error:
                self.engine.stop(name, at_once=True)
                self.pages.remove(name)
                self.failures.note(f"the operator cannot write to its disk: {error}", at_ns=self.now_ns())
                self._drop_if_empty(replica)
                return False
            self._add(replica, Process(name=name, threads=self.setup.threads_per_process, ordered_at_ns=self.now_ns()))
        return True

    def _is_needed(self, replica: Replica) -> bool:
        """Tell whether the API has as many replicas as it always is to have only with this one."""
        return replica in [each for each in self._replicas.values() if each.stays][: self.least]

    def _add(self, replica: Replica, process: Process) -> None:
        replica.processes[process.name] = process
        self._of[process.name] = replica

    def _end(self, process: Process, *, at_once: bool) -> None:
        if process.is_ending and not at_once:
            return
        process.is_ending = True
        if process.connection is not None and process.phase is Phase.READY and not at_once:
            process.connection.send({"type": "end"})
            self.call_later(_END_SECONDS, partial(self.engine.stop, process.name, at_once=False))
        elif at_once and process.phase is Phase.READY:
            self.engine.stop(process.name, at_once=False)  # it has the grace of a stop
            if process.connection is not None:
                process.connection.send({"type": "end"})
        else:
            self.engine.stop(process.name, at_once=True)

    # What is heard

    def adopt(self, name: str, *, is_updated: bool, threads: int) -> Process:
        """Take over a process of an earlier operator, in a replica that still lacks one."""
        process = Process(name=name, threads=threads, ordered_at_ns=self.now_ns(), phase=Phase.INITIALIZING)
        for replica in self._replicas.values():
            has_room = len(replica.processes) < self.processes_per_replica
            if replica.is_updated == is_updated and has_room and not replica.is_draining:
                self._add(replica, process)
                break
        else:
            self._add(self._new_replica(is_updated=is_updated), process)
        return process

    def started(self, name: str) -> None:
        """A process runs."""
        process = self._process(name)
        if process is not None and process.phase is Phase.PENDING:
            process.phase = Phase.INITIALIZING

    def connected(self, name: str, connection: Connection, hello: Frame) -> None:
        """A process introduces itself: it takes requests from now on, or has failed to start."""
        process = self._process(name)
        if process is None or (process.is_ending and process.phase is not Phase.READY):
            connection.send({"type": "end"})
            return
        process.connection = connection
        if hello["phase"] == "failed":
            process.error = hello["error"]
            connection.send({"type": "end"})
            return
        give = giver(connection, tuple(hello["names"]))
        if process.phase is Phase.READY:  # it was cut off
            self.line.rejoin(name, give, hello["busy"], _died(self.api_name))
        else:
            process.phase, process.ready_at_ns = Phase.READY, self.now_ns()
            self.line.join(name, process.threads, give, hello["busy"])
        replica = self._of.get(name)
        if replica is None or replica.is_draining:
            self.line.close(name)
        else:
            replica.was_ready = True
        if replica is not None and replica.is_ending:
            connection.send({"type": "end"})
        self.call_later(_SETTLED_NS / 1e9, partial(self._settle, process))
        self.changed()

    def disconnected(self, name: str, connection: Connection) -> None:
        """The connection of a process is closed: it is gone, as a rule, or comes back with another one."""
        if self._gone.get(name) is connection:
            self._leave(name)
            return
        process = self._process(name)
        if process is not None and process.connection is connection:
            process.connection = None
            self.line.close(name)
            self.changed()

    def exited(self, name: str, ending: Exit) -> None:
        """A process is gone."""
        process = self._process(name)
        if process is None:
            return
        replica = self._of.pop(name, None)
        self._leaving.pop(name, None)
        if replica is not None:
            del replica.processes[name]
        if not process.is_ending:
            self._mourn(process, ending, is_updated=replica is not None and replica.is_updated)
        if replica is not None:
            self._drop_if_empty(replica)
        if process.connection is None:
            self._leave(name)
        else:
            self._gone[name] = process.connection
            self.line.close(name)
            self.call_later(_LAST_WORDS_SECONDS, partial(self._hear_no_more, name))
            self.changed()

    def _mourn(self, process: Process, ending: Exit, *, is_updated: bool) -> None:
        """Tell the log of a process that has died, and count it where it never was of use."""
        now_ns = self.now_ns()
        reason = process.error or f"its process {ending.cause}"
        if process.ready_at_ns is None:
            self.log(f"a replica could not be started: {reason}")
        else:
            self.log(f"process {process.name} {ending.cause}, and is replaced")
        if not ending.is_charged or not is_updated:
            return
        is_new = process.ready_at_ns is None or now_ns - process.ready_at_ns < _SETTLED_NS
        if is_new and not self.line.has_answered(process.name):
            self.failures.note(reason, at_ns=now_ns, is_out_of_memory=ending.is_out_of_memory)

    def _settle(self, process: Process) -> None:
        """A process has been ready for a while: starts do not fail any more."""
        replica = self._of.get(process.name)
        if self.failures.count and replica is not None and replica.is_updated and process.is_serving:
            self.failures.forget()
            self.changed()

    def _hear_no_more(self, name: str) -> None:
        if name in self._gone:
            self._leave(name)

    def _leave(self, name: str) -> None:
        """Nothing more is heard of a process that is gone."""
        self._gone.pop(name, None)
        self.line.leave(name, _died(self.api_name), begun=self.pages.begun(name))
        self.pages.remove(name)
        self.changed()

    def part_with_lost(self) -> None:
        """Part with processes that have come back, and then died with a supervisor that had not: nobody tells."""
        if self.engine.may_return():
            return
        lost = [name for name in self.processes if not self.engine.has_place(name)]
        for name in lost:
            process = self._process(name)
            if process is not None and process.phase is not Phase.PENDING and process.connection is None:
                self.exited(name, _LOST)

    def remove_pages_of_lost(self) -> None:
        """Remove the pages of processes that have died while no operator was there to hear of it."""
        for name in self.pages.names():
            if name not in self and not self.engine.has_place(name):
                self.pages.remove(name)

    def _drop_if_empty(self, replica: Replica) -> None:
        if not replica.processes:
            self._replicas.pop(replica.name, None)

    def _process(self, name: str) -> Process | None:
        replica = self._of.get(name)
        return replica.processes[name] if replica else self._leaving.get(name)


def _died(api_name: str) -> ReplicaDied:
    return ReplicaDied(
        f"the replica of `{api_name}` that had the request has died; it may have run `predict` or a part of it",
        hint=f"`cortex logs {api_name}` says how; send the request again if it may run twice",
    )
