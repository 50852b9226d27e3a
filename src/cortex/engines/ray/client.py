"""The placer that has Ray run stations, as the operator has it: it never speaks with Ray itself, see `bridge`."""

import asyncio
import logging
import secrets
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Final

from cortex.domain.ending import Exit
from cortex.domain.errors import StartRefused
from cortex.domain.frame import Frame
from cortex.domain.station_order import StationOrder
from cortex.engines.engine import Needs
from cortex.engines.placement import PlacementListener, Placer
from cortex.engines.ray.bridge_process import BridgeProcess
from cortex.engines.ray.causes import ending_of
from cortex.engines.ray.room import Room
from cortex.storage.files import write_whole

logger = logging.getLogger(__name__)

_LOOK_SECONDS: Final = 5.0
_SILENT_SECONDS: Final = 10.0
_LOST_SECONDS: Final = 90.0  # Ray itself waits for up to a minute
_FIRST_RETRY_SECONDS: Final = 0.5
_LONGEST_RETRY_SECONDS: Final = 5.0
_END_SECONDS: Final = 15.0


def check_installed() -> None:
    """Raise StartRefused where Ray is not installed. It is not imported."""
    try:
        distribution("ray")
    except PackageNotFoundError as error:
        raise StartRefused(
            "the engine `ray` needs Ray, which is not installed", hint="pip install 'cortex[ray]'"
        ) from error


@dataclass(slots=True)
class _Station:
    """A station that is to be there, or is there."""

    order: StationOrder | None = None  # None for one of an earlier operator
    needs: Needs | None = None
    actor: str | None = None  # what runs it, once it is placed
    node: str | None = None  # where that is
    reason: str | None = None  # why it waits, as it was told last


@dataclass(slots=True, kw_only=True)
class RayPlacer(Placer):
    """See the module. Made and called in the thread of a running loop; what Ray tells is heard there, too."""

    data: Path
    address: str | None  # None: as Ray finds its cluster on this machine
    listener: PlacementListener
    keep_warm_seconds: float = 0.0  # how long what has run a station is kept for the next one
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)
    _stations: dict[str, _Station] = field(default_factory=dict)
    _bridge: BridgeProcess | None = None
    _is_connected: bool = False
    _is_known: bool = True  # unless `recover` is to find them out
    _is_over: bool = False
    _has_placed: bool = False  # so that something may have been kept
    _room: Room | None = None
    _trouble: str = ""  # why there is no connection
    _heard_at: float = 0.0
    _retry_seconds: float = _FIRST_RETRY_SECONDS

    def recover(self) -> None:
        """See Placer."""
        self._is_known = False
        self._start_bridge()

    def is_known(self) -> bool:
        """See Placer."""
        return self._is_known

    def place(self, worker: str, order: StationOrder, needs: Needs) -> None:
        """See Placer."""
        self._stations[worker] = station = _Station(order=order, needs=needs)
        if self._bridge is not None:
            self._bridge.send({"type": "place", "worker": worker, **_written(worker, station)})
        else:
            self._start_bridge()  # which is told of all that there are

    def withdraw(self, worker: str) -> None:
        """See Placer."""
        if self._bridge is not None:
            self._bridge.send({"type": "withdraw", "worker": worker})
        if not self._is_connected and worker in self._stations:  # whoever connects ends it, if it is there
            ending = Exit(status=None, detail="was withdrawn", is_charged=False)
            self._loop.call_soon(self._gone, worker, ending)

    def shortage(self, needs: Needs) -> str:
        """See Placer."""
        where = f" at {self.address}" if self.address else ""
        if not self._is_connected or self._room is None:
            return f"Ray{where} cannot be reached{self._trouble}" if self._trouble else f"Ray{where} is being asked"
        if self._silent_seconds() > _SILENT_SECONDS:
            return f"Ray{where} has not answered for {self._silent_seconds():.0f} s"
        return self._room.shortage(needs)

    def end(self) -> None:
        """See Placer."""
        self._is_over = True
        if self._bridge is not None:
            is_needed = self._stations or self._has_placed or not self._is_known
            self._bridge.end({"type": "end"}, seconds=_END_SECONDS if is_needed else 0)
            self._bridge = None

    # The bridge

    def _start_bridge(self) -> None:
        if self._bridge is not None or self._is_over:
            return
        self._bridge = BridgeProcess(self._loop, log=self.data / "ray.log", hear=self._hear, lost=self._lost)
        self._heard_at = time.monotonic()
        self._bridge.send(
            {
                "type": "hello",
                "address": self.address,
                "namespace": f"cortex-{_instance(self.data / 'ray.instance')}",
                "recovers": not self._is_known,
                "keep_warm_seconds": self.keep_warm_seconds,
                "stations": {worker: _written(worker, station) for worker, station in self._stations.items()},
            }
        )
        self._loop.call_later(_LOOK_SECONDS, self._look, self._bridge)

    def _look(self, bridge: BridgeProcess) -> None:
        """Kill a bridge that has been silent for longer than Ray waits for anything: it hangs, or was stopped."""
        if bridge is not self._bridge:
            return
        if self._silent_seconds() > _LOST_SECONDS:
            logger.warning("the bridge to Ray was silent for %.0f s and is killed", self._silent_seconds())
            bridge.kill()
        self._loop.call_later(_LOOK_SECONDS, self._look, bridge)

    def _silent_seconds(self) -> float:
        return time.monotonic() - self._heard_at

    def _lost(self, bridge: BridgeProcess) -> None:
        """The bridge has ended: the next one compares what is there with what should be."""
        if bridge is not self._bridge:
            return
        self._bridge, self._is_connected, self._room = None, False, None
        self._trouble = self._trouble or f": see `{self.data / 'ray.log'}`"
        self._loop.call_later(self._retry_seconds, self._start_bridge)
        self._retry_seconds = min(2 * self._retry_seconds, _LONGEST_RETRY_SECONDS)
        self._tell_who_waits()

    def _hear(self, frame: Frame) -> None:
        self._heard_at = time.monotonic()
        what = frame["type"]
        if what == "connected":
            self._is_connected, self._trouble, self._retry_seconds = True, "", _FIRST_RETRY_SECONDS
        elif what == "unreachable":
            self._trouble = f": {frame['error']}"
        elif what == "found":
            self._found(frame["workers"])
        elif what == "room":
            self._room = Room.read(frame)
            self._tell_who_waits()
        elif what == "placed" and (station := self._stations.get(frame["worker"])):
            station.node, station.actor = frame["node"], frame["actor"]
            self._has_placed = True
            self.listener.station_placed(frame["worker"], frame["node"])
        elif what == "gone" and (station := self._stations.get(frame["worker"])):
            self._gone(frame["worker"], ending_of(frame, station.node))

    def _found(self, workers: Collection[str]) -> None:
        self._is_known = True
        for worker in workers:
            self._stations.setdefault(worker, _Station())
        self.listener.stations_found(workers)

    def _gone(self, worker: str, ending: Exit) -> None:
        if self._stations.pop(worker, None) is not None:
            self.listener.station_gone(worker, ending)

    def _tell_who_waits(self) -> None:
        reasons: dict[Needs, str] = {}
        for worker, station in list(self._stations.items()):
            if station.needs is None or station.node is not None:
                continue
            if station.needs not in reasons:
                reasons[station.needs] = self.shortage(station.needs)
            if station.reason != reasons[station.needs]:
                station.reason = reasons[station.needs]
                self.listener.station_waits(worker, station.reason)


def _written(worker: str, station: _Station) -> Frame:
    """Give what the bridge is told of a station."""
    needs = station.needs or Needs()
    return {
        "actor": station.actor or worker,
        "order": station.order.to_json() if station.order else None,
        "needs": {
            "millicores": needs.millicores,
            "mem_bytes": needs.mem_bytes,
            "gpus": needs.gpus,
            "node_groups": needs.node_groups,
        },
        "is_placed": station.node is not None,
    }


def _instance(path: Path) -> str:
    """Give what names the operators of this data directory in a cluster that others use, too; made up once."""
    if not path.exists():
        write_whole(path, secrets.token_hex(8))
    return path.read_text(encoding="ascii")
