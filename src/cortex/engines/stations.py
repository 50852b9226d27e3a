"""The engine of other machines: each Worker has a station there, which a placer runs, and which speaks for it here.

A Worker that is cut off cannot be killed from here, and need not be: what its station says is not heard any more, and
what it does has no place to go. When it comes back, or its placer can reach it, it is ended.
"""

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from cortex.domain.ending import Exit
from cortex.domain.frame import Frame
from cortex.domain.silence import BEAT_SECONDS, Silence
from cortex.domain.timing import Timer
from cortex.engines.engine import Connection, Engine, EngineListener, Needs, WorkerOrder
from cortex.engines.known_station import KnownStation
from cortex.engines.model_looks import Found, ModelLooks
from cortex.engines.placement import PlacementListener, Placer
from cortex.engines.station_side import StationLink, StationSide
from cortex.engines.station_start import CannotStart, read_setup, write_order, write_station_start
from cortex.engines.supervisor_frames import LOST_WITH_SUPERVISOR, read_exit, read_place, write_stop

logger = logging.getLogger(__name__)

_RETURN_SECONDS: Final = 5.0
"""So long stations of an earlier operator have to come back before others take over: they try every 0.2 s."""

_CONNECT_SECONDS: Final = 60.0
"""So long one that was placed has to introduce itself: it may be the first of its node."""

_LAST_WORDS_SECONDS: Final = 2.0
"""So long what a station has sent before it ended may be on its way."""

_END_SECONDS: Final = 3.0
"""So long a station that is told to end has to do so by itself."""


@dataclass(slots=True, kw_only=True)
class StationEngine(Engine, StationSide, PlacementListener):
    """See the module. All methods are called from the operator's thread."""

    secret: str  # that tickets are signed with
    host: str  # where stations find this operator
    port: int
    storage: Mapping[str, Any] | None
    log_limit_bytes: int
    heartbeat_seconds: float
    call_later: Timer
    models: ModelLooks
    listener: EngineListener
    placer: Placer = field(init=False)  # to be set before anything else: it is made with this as its listener
    _stations: dict[str, KnownStation] = field(default_factory=dict)
    _ending: set[str] = field(default_factory=set)  # told to end, and perhaps still there
    _is_returning: bool = False  # those of an earlier operator are waited for
    _lost: set[str] = field(default_factory=set)  # who is to be ended unless it comes back in this time
    _given_up: set[str] = field(default_factory=set)  # since this operator began, as long as it matters
    _heard: set[tuple[str, str]] = field(default_factory=set)
    _silence: Silence[tuple[str, str]] = field(default_factory=Silence)
    _unborn: Silence[str] = field(default_factory=Silence)
    _is_listening: bool = False

    def recover(self) -> None:
        """Look for stations of earlier operators. To be called once, before the first order."""
        self._is_returning = True
        self.call_later(_RETURN_SECONDS, self._end_return)
        self.placer.recover()

    def _end_return(self) -> None:
        self._is_returning = False
        lost, self._lost = self._lost, set()
        for worker in lost:
            self._end_unless_back(worker)
        self._forget_given_up()

    # Engine

    def start(self, order: WorkerOrder) -> None:
        """See Engine."""
        station_order = write_order(
            order,
            secret=self.secret,
            host=self.host,
            port=self.port,
            log_limit_bytes=self.log_limit_bytes,
            heartbeat_seconds=self.heartbeat_seconds,
            storage=self.storage,
        )
        needs = order.program.needs
        self._add(order.worker, KnownStation(order=order, needs=needs))
        self.placer.place(order.worker, station_order, needs)

    def warm_up(self, order: WorkerOrder, count: int) -> None:
        """See Engine. Nothing: on which nodes there will be Workers is not known before."""

    def may_keep(self, job_id: str, *, least: int) -> int | None:  # noqa: ARG002 - the contract's
        """See Engine. Who waits, a placer keeps in its own order."""
        return None

    def has_place(self, worker: str) -> bool:
        """See Engine."""
        station = self._stations.get(worker)
        return station is not None and (station.node is not None or station.link is not None)

    def shortage(self, needs: Needs) -> str:
        """See Engine."""
        if not self.placer.is_known():
            return "those that an earlier operator has started are looked for first"
        return self.placer.shortage(needs)

    def stop(self, worker: str, *, at_once: bool) -> None:
        """See Engine."""
        station = self._stations.get(worker)
        if station is None:
            return
        if station.pid is None:
            # Not at once: who stops several Workers must not hear of the first before it has stopped the last.
            ending = Exit(status=None, detail="was not started", is_charged=False)
            self.call_later(0, partial(self._give_up, worker, station, ending))
            return
        station.stop = write_stop(worker, at_once=at_once)
        if station.supervisor is not None:
            station.supervisor.send(station.stop)

    def may_return(self) -> bool:
        """See Engine."""
        return self._is_returning and (
            not self.placer.is_known()
            or any(station.order is None and station.supervisor is None for station in self._stations.values())
        )

    def end_lost(self, worker: str, *, pid: int, process_started_at: float) -> None:  # noqa: ARG002 - there, not here
        """See Engine."""
        if self._is_returning and (worker in self._stations or not self.placer.is_known()):
            self._lost.add(worker)
        else:
            self._end_unless_back(worker)

    def _end_unless_back(self, worker: str) -> None:
        station = self._stations.get(worker)
        ending = Exit(status=None, detail="ended while the operator was away", is_charged=False)
        if station is None:
            self._given_up.add(worker)
            self.placer.withdraw(worker)
            self.listener.worker_exited(worker, ending)
        elif station.link is None:
            self._give_up(worker, station, ending)

    def idle(self) -> None:
        """See Engine. No station is kept without a Worker."""

    def end(self) -> None:
        """See Engine."""
        self._stations.clear()
        self.placer.end()

    # PlacementListener

    def station_waits(self, worker: str, reason: str) -> None:
        """See PlacementListener. What it waits for, `shortage` says."""

    def station_placed(self, worker: str, node: str) -> None:
        """See PlacementListener."""
        if station := self._stations.get(worker):
            station.node = node

    def station_gone(self, worker: str, ending: Exit) -> None:
        """See PlacementListener."""
        self._ending.discard(worker)
        station = self._stations.get(worker)
        if station is None:
            return
        if station.ending is None:
            station.ending = ending
        if station.link is None:
            self._exited(worker, station.ending)
        else:
            self.call_later(_LAST_WORDS_SECONDS, partial(self._give_up, worker, station, station.ending))

    def stations_found(self, workers: Collection[str]) -> None:
        """See PlacementListener."""
        for worker in workers:
            if worker in self._given_up:
                self.placer.withdraw(worker)
            elif worker not in self._stations:
                self._add(worker, KnownStation(was_heard=True, is_supervised=True))
        for worker in self._lost - self._stations.keys():
            self._lost.discard(worker)
            self._end_unless_back(worker)
        self._forget_given_up()

    # StationSide

    def station_connected(self, worker: str, station: StationLink) -> None:
        """See StationSide."""
        known = self._stations.get(worker)
        if known is None:
            if self._knows_all or worker in self._given_up:
                station.send({"type": "end"})  # it was cut off for too long
                return
            known = self._add(worker, KnownStation(is_supervised=True))
        known.link, known.was_heard = station, True
        self._heard.add((worker, "station"))

    def station_heard(self, worker: str) -> None:
        """See StationSide."""
        self._heard.add((worker, "station"))

    def station_lost(self, worker: str) -> None:
        """See StationSide."""
        station = self._stations.get(worker)
        if station is None:
            return
        station.link = station.supervisor = None
        if station.ending is not None:
            self._give_up(worker, station, station.ending)

    def station_failed(self, worker: str, error: str) -> None:
        """See StationSide."""
        if station := self._stations.get(worker):
            self._give_up(worker, station, Exit(status=None, detail=error))

    def supervisor_connected(self, connection: Connection, hello: Frame) -> None:
        """See StationSide."""
        worker = hello["worker"]
        station = self._stations.get(worker)
        if station is None:
            return
        station.supervisor, station.supervisor_name, station.ending = connection, hello["supervisor"], None
        station.is_supervised = True
        self._heard.add((worker, "supervisor"))
        child = next((each for each in hello["workers"] if each["worker"] == worker), None)
        if child is None:
            self._start(worker, station, connection)
            return
        station.needs = read_place(child).needs
        station.node = station.node or child["place"].get("node")
        if child["pid"] is not None:
            self._started(worker, station, child["pid"])
        if child["exit_status"] is not None:
            self.supervisor_says({"type": "exited", **child})
        elif station.stop is not None:
            connection.send(station.stop)

    def supervisor_says(self, frame: Frame) -> None:
        """See StationSide."""
        worker = frame["worker"]
        self._heard.add((worker, "supervisor"))
        station = self._stations.get(worker)
        if station is None:
            return
        if frame["type"] == "started":
            self._started(worker, station, frame["pid"])
        elif frame["type"] == "drained":
            self._drained(worker, station)
        elif frame["type"] == "exited":
            self._exited(worker, read_exit(frame, mem_limit_bytes=station.needs.mem_bytes))

    def supervisor_lost(self, connection: Connection) -> None:
        """See StationSide. While its station is there, it is dead, and the Worker with it."""
        for worker, station in self._stations.items():
            if station.supervisor is connection:
                station.supervisor, station.ending = None, LOST_WITH_SUPERVISOR
                self.call_later(self.heartbeat_seconds, partial(self._end_without_supervisor, worker, station))
                return

    def _end_without_supervisor(self, worker: str, station: KnownStation) -> None:
        if station.ending is LOST_WITH_SUPERVISOR:
            self._give_up(worker, station, station.ending)

    # Who is silent

    def _add(self, worker: str, station: KnownStation) -> KnownStation:
        self._stations[worker] = station
        if not self._is_listening:
            self._is_listening = True
            self.call_later(BEAT_SECONDS, self._listen)
        return station

    def _listen(self) -> None:
        """Part with stations that have long been silent, and with those whose supervisor is."""
        self._is_listening = bool(self._stations)
        if self._is_listening:
            self.call_later(BEAT_SECONDS, self._listen)
        known = self._stations.items()
        expected = {(worker, "station") for worker, station in known if station.was_heard}
        expected |= {(worker, "supervisor") for worker, station in known if station.link and station.is_supervised}
        silent, self._heard = expected - self._heard, set()
        for worker, who in self._silence.look(silent, seconds=self.heartbeat_seconds):
            is_cut_off = who == "supervisor" and (worker, "station") in silent  # of that one, nothing can be known
            if (station := self._stations.get(worker)) and not is_cut_off:
                self._part_with_silent(worker, station, who)
        placed = [worker for worker, station in known if self.has_place(worker) and not station.is_supervised]
        for worker in self._unborn.look(placed, seconds=_CONNECT_SECONDS):
            station = self._stations[worker]
            detail = (
                f"could not start: nothing was heard of its supervisor on {station.node} for {_CONNECT_SECONDS:g} s"
            )
            self._give_up(worker, station, Exit(status=None, detail=detail))

    def _part_with_silent(self, worker: str, station: KnownStation, who: str) -> None:
        seconds = self.heartbeat_seconds
        if who == "supervisor":
            logger.warning("the supervisor of worker %s was silent for %g s and is ended", worker, seconds)
            self._give_up(worker, station, LOST_WITH_SUPERVISOR)
            return
        logger.warning("the station of worker %s was silent for %g s and is given up", worker, seconds)
        link, station.link = station.link, None  # what is said there is heard by nobody
        detail = f"was cut off: nothing was heard of its node for {seconds:g} s"
        self._give_up(worker, station, Exit(status=None, detail=detail, is_charged=False))
        if link is not None:
            link.close()

    # What becomes of a Worker

    @property
    def _knows_all(self) -> bool:
        """True once whoever comes unknown is nobody's."""
        return not self._is_returning and self.placer.is_known()

    def _forget_given_up(self) -> None:
        if self._knows_all:
            self._given_up.clear()

    def _start(self, worker: str, station: KnownStation, supervisor: Connection) -> None:
        """Have the Worker started; it may be that this was lost on its way before."""
        if station.order is None:  # an earlier operator has died before it could say what it is to start
            self._give_up(worker, station, Exit(status=None, detail="was not started", is_charged=False))
            return
        try:
            setup, paths = read_setup(station.order)
        except CannotStart as error:
            self._give_up(worker, station, Exit(status=None, detail=f"could not start: {error}"))
        else:
            self.models.look(station.order.job_id, paths, partial(self._send_start, worker, station, supervisor, setup))

    def _send_start(self, worker: str, station: KnownStation, supervisor: Connection, setup: str, found: Found) -> None:
        if self._stations.get(worker) is not station or station.order is None:
            return  # it is not waited for any more
        try:
            models = found()
        except (OSError, ValueError) as error:
            self._give_up(worker, station, Exit(status=None, detail=f"could not start: {error}"))
            return
        start = write_station_start(
            station.order,
            setup=setup,
            models=models,
            node=station.node,
            log_limit_bytes=self.log_limit_bytes,
            heartbeat_seconds=self.heartbeat_seconds,
        )
        supervisor.send(start)

    def _started(self, worker: str, station: KnownStation, pid: int) -> None:
        station.pid = pid
        # When it has started, is a matter of its node, as its process id is: nobody here looks for it.
        supervisor, node = station.supervisor_name, station.node
        self.listener.worker_started(worker, pid=pid, process_started_at=0.0, supervisor=supervisor, node=node)

    def _drained(self, worker: str, station: KnownStation) -> None:
        if not station.is_drained:
            station.is_drained = True
            self.listener.worker_drained(worker)

    def _give_up(self, worker: str, station: KnownStation, ending: Exit) -> None:
        """Hear no more of a Worker, unless it is gone already."""
        if self._stations.get(worker) is station:
            self._exited(worker, ending)

    def _exited(self, worker: str, ending: Exit) -> None:
        station = self._stations[worker]
        self._drained(worker, station)
        del self._stations[worker]
        if not self._knows_all:
            self._given_up.add(worker)
        self.listener.worker_exited(worker, ending)
        # Not before it is written down: until then, the next operator is to hear it.
        if station.supervisor is not None:
            station.supervisor.send({"type": "forget", "worker": worker})
        if station.link is not None:
            station.link.send({"type": "end"})
            self._ending.add(worker)
            self.call_later(_END_SECONDS, partial(self._withdraw_if_there, worker))
        else:
            self.placer.withdraw(worker)

    def _withdraw_if_there(self, worker: str) -> None:
        if worker in self._ending:
            self._ending.discard(worker)
            self.placer.withdraw(worker)
