"""One RealtimeAPI: its line of calls, its replicas, how many of them there are to be, and what users read of it."""

import json
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from cortex.domain.ending import Exit
from cortex.domain.errors import ApiOverloaded, CortexError, NotServing, OperatorStopping
from cortex.domain.frame import Frame
from cortex.domain.layout import ApiFolder
from cortex.engines.engine import Connection
from cortex.serving.autoscaler import AutoscalingPolicy, History, decide
from cortex.serving.calls import Answer, Incoming
from cortex.serving.counts import RequestCounts
from cortex.serving.crowding import Crowding
from cortex.serving.kept import Kept
from cortex.serving.kept_counts import read_counts
from cortex.serving.line import Line
from cortex.serving.load import InFlight
from cortex.serving.pages import Pages
from cortex.serving.process import read_headers
from cortex.serving.readiness import Readiness
from cortex.serving.release import api_id_of
from cortex.serving.replica_order import ReplicaSetup
from cortex.serving.replicas import Replicas
from cortex.serving.rollout import Drain, End, Fleet, Start, UpdateStrategy, plan
from cortex.serving.status import Facts, describe_metrics, describe_status
from cortex.serving.surroundings import Surroundings
from cortex.serving.timekeeper import Timekeeper
from cortex.serving.versions import restart_key
from cortex.storage.ledger import Version


@dataclass(slots=True, kw_only=True)
class ServedApi:
    """See the module. All methods are called from the operator's thread."""

    version: Version
    folder: ApiFolder
    around: Surroundings
    kept: Kept
    line: Line = field(init=False)
    replicas: Replicas = field(init=False)
    _policy: AutoscalingPolicy = field(init=False)
    _strategy: UpdateStrategy = field(init=False)
    _timekeeper: Timekeeper = field(init=False)
    _readiness: Readiness = field(init=False)
    _history: History = field(default_factory=History)
    _limit: int = 0  # of calls in flight
    _refusal: Callable[[], CortexError] | None = None  # why no call is taken
    _is_returning: bool = True  # what earlier operators have started may still come
    _is_over: bool = False  # no replica is started any more; there is a refusal
    _is_planning: bool = False
    _cancel_plan: Callable[[], None] | None = None
    _crowding: Crowding = field(init=False)
    _when_gone: Callable[[], None] | None = None

    def __post_init__(self) -> None:
        """Begin without any replica."""
        self.line = Line(
            now_ns=self.around.now_ns,
            load=InFlight(self.around.now_ns()),
            counts=read_counts(self.folder.requests(self.version.api_id)),
            first_number=time.time_ns(),  # above those of all earlier operators
        )
        self.replicas = Replicas(
            api_name=self.version.api_name,
            api_id=self.version.api_id,
            processes_per_replica=self.version.spec["predictor"]["processes_per_replica"],
            folder=self.folder,
            pages=Pages(self.folder),
            engine=self.around.engine,
            line=self.line,
            now_ns=self.around.now_ns,
            call_later=self.around.call_later,
            log=self.log,
            changed=self.go_on,
        )
        self._timekeeper = Timekeeper(
            api_name=self.version.api_name,
            line=self.line,
            replicas=self.replicas,
            now_ns=self.around.now_ns,
            call_later=self.around.call_later,
        )
        self._crowding = Crowding(now_ns=self.around.now_ns, call_later=self.around.call_later, is_over=self.go_on)
        self._readiness = Readiness(
            set_up=self.around.set_up,
            call_later=self.around.call_later,
            log=self.log,
            ready=self._ready,
            failed=self.go_on,
        )
        self._read_spec()
        self._update_limit()

    def _read_spec(self) -> None:
        spec = self.version.spec
        self._policy = AutoscalingPolicy.from_spec(spec)
        self.replicas.least = max(1, self._policy.min_replicas)
        self._strategy = UpdateStrategy.from_spec(spec)
        self._timekeeper.allow(spec["networking"]["timeout"])

    def _ready(self, setup: ReplicaSetup) -> None:
        self.replicas.equip(setup)
        self.go_on()

    def log(self, line: str) -> None:
        """Append a line to the API's log."""
        with suppress(OSError):  # then the log cannot be written, either, and that is told
            self.folder.root.mkdir(parents=True, exist_ok=True)
        self.around.append_line(self.folder.log, line)

    # What is asked of it

    def begin(self) -> None:
        """Start replicas, beside those that have come back."""
        if not self._is_returning:
            return
        self._is_returning = False
        if self._is_over:
            return
        self._request(self._policy.clamp(self.requested))
        if not self.around.engine.may_return():
            self.replicas.remove_pages_of_lost()
        self._readiness.prepare(self.version)
        self.go_on()

    @property
    def are_all_back(self) -> bool:
        """True where every process that is known to have come back has introduced itself."""
        processes = [process for replica in self.replicas.all for process in replica.processes.values()]
        return bool(processes) and all(process.is_serving for process in processes)

    def knows(self, api_id: str) -> bool:
        """Tell whether this is, or was, a version of this API."""
        return self.folder.version(api_id).workers.is_dir()

    def deployed(self, version: Version) -> None:
        """Go on with another version; replicas that would be the same go on as they are."""
        if version.api_id == self.version.api_id:
            return
        key = restart_key(version)
        is_other = key != self.kept.release.restart_key
        self.version = version
        self.kept.change(self.kept.release.followed_by(version, key))
        self._read_spec()
        self._history = History()
        self._request(self._policy.clamp(self.requested))
        self.replicas.api_id = version.api_id
        self.replicas.processes_per_replica = version.spec["predictor"]["processes_per_replica"]
        if is_other:
            self.line.counts = RequestCounts()
            self._begin_anew()
        self._prepare_and_go_on()

    def refresh(self) -> None:
        """Replace all replicas, as an update does."""
        names = self.replicas.pages.names()  # also of those that have not come back yet
        self.kept.change(self.kept.release.with_stale(tuple(names)))
        self._begin_anew()
        self._prepare_and_go_on()

    def _prepare_and_go_on(self) -> None:
        if not self._is_returning and not self._is_over:  # else it is to begin, here or in the next operator
            self._readiness.prepare(self.version)
            self.go_on()

    def _begin_anew(self) -> None:
        self.replicas.sort(self.kept.release.is_updated)
        self.replicas.setup = None  # a model may have changed since
        self.replicas.failures.forget()
        self._history = History()
        self.line.predict_seconds = None

    def call(self, incoming: Incoming, answered: Callable[[Answer], None]) -> None:
        """See Serving.call."""
        if self._refusal is not None:
            self.line.counts.add(503, None)
            raise self._refusal()
        if self.line.in_flight >= self._limit:
            self.line.counts.add(503, None)
            raise ApiOverloaded(
                f"`{self.version.api_name}` has {self.line.in_flight} requests in flight, as many as it may",
                hint="send it again in a moment; `autoscaling.max_replica_concurrency` is how many a replica may have",
            )
        self.line.enter(incoming, answered)
        self._timekeeper.call_entered()
        if not self.requested:
            self._request(self._policy.clamp(1))
            self.go_on()

    def drain(self) -> None:
        """Take no more calls, and refuse those that wait: the operator is about to end."""
        self._is_over = True
        self._readiness.cancel()
        self._refuse(_stopping)

    def end(self) -> None:
        """Refuse all that is not answered: no process is there any more."""
        self.drain()
        self.line.refuse_all(_stopping())
        self.kept.keep_counts(self.version.api_id, self.line.counts)

    def remove(self, when_gone: Callable[[], None]) -> None:
        """End all replicas within the grace of a stop; tell when they are gone."""
        self._is_over, self._when_gone = True, when_gone
        self._readiness.cancel()
        self._refuse(lambda: NotServing(f"`{self.version.api_name}` is being deleted"))
        self.replicas.end_all()
        self._tell_if_gone()

    def _refuse(self, refusal: Callable[[], CortexError]) -> None:
        self._refusal = refusal
        self._refuse_waiting()

    def _refuse_waiting(self) -> None:
        if self._refusal is not None and self.line.waiting:
            self.line.refuse_waiting(self._refusal())

    # Processes

    def connected(self, worker: str, connection: Connection, hello: Frame) -> None:
        """See Serving."""
        self._meet(worker)
        self.replicas.connected(worker, connection, hello)

    def says(self, worker: str, frame: Frame) -> None:
        """See Serving."""
        if frame["type"] != "response":
            return
        answer = Answer(frame["status"], read_headers(frame["headers"]), frame.get("data", b""))
        self.line.answer(worker, frame["id"], answer, seconds=frame["seconds"], more=frame["more"])
        if self.replicas.is_condemned(worker):
            self._timekeeper.look()
        if self.replicas.is_draining(worker) and not self.line.given_to(worker):
            self.go_on()

    def disconnected(self, worker: str, connection: Connection) -> None:
        """See Serving."""
        self.replicas.disconnected(worker, connection)

    def started(self, worker: str) -> None:
        """See Serving."""
        self._meet(worker)
        if worker in self.replicas:
            self.replicas.started(worker)
        else:  # it has come back to an API that is being deleted
            self.around.engine.stop(worker, at_once=True)

    def exited(self, worker: str, ending: Exit) -> None:
        """See Serving."""
        self.replicas.exited(worker, ending)

    def _meet(self, worker: str) -> None:
        """Take over a process that an earlier operator has started."""
        if worker not in self.replicas and not self._is_over:
            threads = self._threads_of(api_id_of(worker))
            self.replicas.adopt(worker, is_updated=self.kept.release.is_updated(worker), threads=threads)

    def _threads_of(self, api_id: str) -> int:
        """Say how many threads a process of a version has: it may be one that is deployed no more."""
        with suppress(OSError, ValueError, KeyError):
            return int(json.loads(self.folder.version(api_id).setup.read_bytes())["threads_per_process"])
        return int(self.version.spec["predictor"]["threads_per_process"])

    # How many there are to be

    @property
    def requested(self) -> int:
        """How many replicas there are to be."""
        return self.kept.release.requested

    def _request(self, count: int) -> None:
        self.kept.request(count)
        if not count:  # the next call tries again what has failed
            self.replicas.failures.forget()

    def tick(self) -> None:
        """Decide how many replicas there are to be; to be called every TICK_SECONDS."""
        if self._is_over or self._is_returning:
            return
        now_ns = self.around.now_ns()
        mean = self.line.load.mean(now_ns, self._policy.window_seconds)
        requested, self._history = decide(
            self._policy, self._history, now_ns=now_ns, replicas=self.requested, in_flight=mean
        )
        if requested == 0 and self.line.in_flight:  # it came after the last whole bucket
            requested = min(1, self.requested)
        if requested != self.requested:
            self.log(f"{requested} replicas are requested, {self.requested} were")
        self._request(requested)
        self.kept.keep_counts(self.version.api_id, self.line.counts)
        self.go_on()

    def go_on(self) -> None:
        """Do what brings the replicas nearer to what is requested."""
        if self._is_over:
            self._refuse_waiting()  # what a process that is gone has not begun
            self._tell_if_gone()
            return
        if self._is_planning or self._is_returning:
            return
        self._is_planning = True
        try:
            self.replicas.part_with_lost()
            fleet = self._fleet()
            for action in plan(fleet):
                self._do(action)
            again_at_ns = fleet.starts_again_at_ns
            if again_at_ns is None or fleet.now_ns >= again_at_ns:
                self.replicas.restart_processes()
        finally:
            self._is_planning = False
        self._update_limit()
        self._refuse_if_hopeless()
        self._plan_again()
        if not self.replicas.is_any_stale:
            self.kept.settle(self.version.api_id, self.replicas.processes)

    def _do(self, action: Start | Drain | End) -> None:
        match action:
            case Start(count):
                self.replicas.start(count)
            case Drain(name):
                self.replicas.drain(name)
                if not any(view.requests for view in self.replicas.views() if view.replica == name):
                    self.replicas.end(name)
            case End(name):
                self.replicas.end(name)

    def _fleet(self) -> Fleet:
        failures = self.replicas.failures
        return Fleet(
            now_ns=self.around.now_ns(),
            requested=self.requested,
            strategy=self._crowding.strategy(self._strategy, self.requested, is_crowded=self.replicas.is_crowded),
            replicas=self.replicas.views(),
            can_start=self.replicas.setup is not None,
            failed_starts=failures.count,
            last_failed_at_ns=failures.last_at_ns,
        )

    def _plan_again(self) -> None:
        """Plan again when the next start may be tried."""
        again_at_ns = self._fleet().starts_again_at_ns
        if self._cancel_plan is not None:
            self._cancel_plan()
            self._cancel_plan = None
        if again_at_ns is not None and (seconds := (again_at_ns - self.around.now_ns()) / 1e9) > 0:
            self._cancel_plan = self.around.call_later(seconds, self.go_on)

    def _update_limit(self) -> None:
        self._limit = self._policy.max_replica_concurrency * max(1, self.replicas.serving_or_starting)

    def _refuse_if_hopeless(self) -> None:
        """Refuse calls as long as nobody will be there to answer them."""
        reason = None if self.replicas.is_ready else self._hopelessness()
        if reason is None:
            self._refusal = None
        else:
            name = self.version.api_name
            hint = f"`cortex get {name}` and `cortex logs {name}` say more; it is tried again"
            self._refuse(lambda: NotServing(f"no replica of `{name}` can be started: {reason}", hint=hint))

    def _hopelessness(self) -> str | None:
        if self.replicas.failures.count:
            return self.replicas.failures.reason
        if self._readiness.problem is not None and self.replicas.setup is None:
            return self._readiness.problem
        now_ns = self.around.now_ns()
        is_stalled = any(self.replicas.is_stalled(replica, now_ns=now_ns) for replica in self.replicas.all)
        return self.replicas.shortage() if is_stalled else None

    # What users read

    def describe(self) -> Mapping[str, Any]:
        """See Serving.describe."""
        facts = Facts(
            requested=self.requested,
            min_replicas=self._policy.min_replicas,
            now_ns=self.around.now_ns(),
            failures=self.replicas.failures,
            unprepared=self._readiness.problem,
            is_prepared=self.replicas.setup is not None,
        )
        return {"status": describe_status(facts, self.replicas), "metrics": describe_metrics(self.line)}

    def _tell_if_gone(self) -> None:
        if self._when_gone is not None and not self.replicas.processes:
            tell, self._when_gone = self._when_gone, None
            tell()


def _stopping() -> CortexError:
    return OperatorStopping("the operator is about to stop", hint="send it again in a moment, to the next one")
