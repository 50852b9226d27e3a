"""A placer for tests: its nodes are folders of this machine, and its stations outlive the operator as elsewhere."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psutil

from cortex.domain.ending import Exit
from cortex.domain.station_order import StationOrder
from cortex.domain.timing import Timer
from cortex.engines.engine import Needs
from cortex.engines.placement import PlacementListener, Placer, ending_of_station
from cortex.engines.places import Place, Places
from processes import is_alive, kill

HOST: Final = str(Path(__file__).with_name("station_host.py"))

_LOOK_AGAIN_SECONDS: Final = 0.02
_TIMEOUT_SECONDS: Final = 10
_POLL_SECONDS: Final = 0.005


@dataclass(slots=True)
class _Placed:
    """A station that has been started."""

    host: psutil.Process  # its parent
    node: str
    is_withdrawn: bool = False


@dataclass(slots=True, kw_only=True)
class LocalPlacer(Placer):
    """See the module."""

    folder: Path  # what it leaves for the placer of the next operator
    listener: PlacementListener
    call_later: Timer
    places: Places
    nodes: Sequence[str] = ("node-1", "node-2")
    _orders: dict[str, StationOrder] = field(default_factory=dict)  # of those that wait
    _placed: dict[str, _Placed] = field(default_factory=dict)
    _is_known: bool = False
    _has_begun: bool = False

    def place(self, worker: str, order: StationOrder, needs: Needs) -> None:
        """See Placer."""
        self._orders[worker] = order
        self.places.order(worker, json.loads(order.ticket)["job_id"], needs)
        self._begin()
        self.call_later(0, self._fill_places)

    def withdraw(self, worker: str) -> None:
        """See Placer."""
        if self._orders.pop(worker, None):
            self.places.release(worker)
            self.call_later(0, lambda: self.listener.station_gone(worker, Exit(status=None, detail="was withdrawn")))
        elif (placed := self._placed.get(worker)) and self._reaches(worker):
            placed.is_withdrawn = True
            kill(placed.host)

    def recover(self) -> None:
        """See Placer."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for host in hosts_of(self.folder):
            millicores, worker, node = host.info["cmdline"][-3:]
            self._placed[worker] = _Placed(host, node)
            self.places.adopt(Place(worker=worker, job_id=worker, needs=Needs(millicores=int(millicores))))
        self._begin()
        self.call_later(0, self._tell_found)

    def _tell_found(self) -> None:
        self._is_known = True
        found = dict(self._placed)
        self.listener.stations_found(list(found))
        for worker, placed in found.items():
            self.listener.station_placed(worker, placed.node)

    def shortage(self, needs: Needs) -> str:
        """See Placer."""
        return self.places.shortage(needs)

    def is_known(self) -> bool:
        """See Placer."""
        return self._is_known

    def end(self) -> None:
        """See Placer."""
        self._orders.clear()
        kill_with_all_below([placed.host for placed in self._placed.values()])
        self._placed.clear()

    def _begin(self) -> None:
        if not self._has_begun:
            self._has_begun = True
            self._look()

    def _fill_places(self) -> None:
        while place := self.places.place_next():
            node = self.nodes[len(self._placed) % len(self.nodes)]
            process = subprocess.Popen(
                [sys.executable, "-E", "-S", HOST, str(self.folder), str(place.needs.millicores), place.worker, node],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,  # of the operator's, whoever waits for its death waits for the end
                start_new_session=True,
            )
            assert process.stdin is not None
            with process.stdin as stdin:
                stdin.write(self._orders.pop(place.worker).to_json().encode())
            process.returncode = 0  # it is looked for by its id, as those of earlier operators are
            self._placed[place.worker] = _Placed(psutil.Process(process.pid), node)
            self.listener.station_placed(place.worker, node)

    def _look(self) -> None:
        """Find out who is gone."""
        self.call_later(_LOOK_AGAIN_SECONDS, self._look)
        for worker, placed in list(self._placed.items()):
            if not is_alive(placed.host) and self._reaches(worker):
                with suppress(ChildProcessError):  # it is one of an earlier operator
                    os.waitpid(placed.host.pid, os.WNOHANG)
                del self._placed[worker]
                self.places.release(worker)
                self.listener.station_gone(worker, self._ending(worker, placed))
        self._fill_places()

    def _reaches(self, worker: str) -> bool:
        """Tell whether the node of a Worker is reached; of one that is not, nothing is known."""
        return not cut_off(self.folder, worker).exists()

    def _ending(self, worker: str, placed: _Placed) -> Exit:
        status = self.folder / f"{worker}.status"
        if status.exists():
            return ending_of_station(int(status.read_text()), placed.node)
        detail = "was withdrawn" if placed.is_withdrawn else f"was lost with its node {placed.node}"
        return Exit(status=None, detail=detail, is_charged=False)


def cut_off(folder: Path, worker: str) -> Path:
    """Give the file whose presence says that the node of a Worker is out of reach."""
    return folder / f"{worker}.cut"


def hosts_of(folder: Path) -> list[psutil.Process]:
    """Give the processes that stations of this folder are children of."""
    hosts = []
    for process in psutil.process_iter(["cmdline"]):
        command = process.info["cmdline"] or []
        if command[-5:-3] == [HOST, str(folder)]:
            hosts.append(process)
    return hosts


def kill_with_all_below(hosts: Sequence[psutil.Process]) -> None:
    """Kill processes, and wait until all that they have started is gone, too."""
    everybody = list(hosts)
    for host in hosts:
        with suppress(psutil.NoSuchProcess):
            everybody += host.children(recursive=True)
    kill(*hosts)
    give_up_at = time.monotonic() + _TIMEOUT_SECONDS
    while alive := [process for process in everybody if is_alive(process)]:
        assert time.monotonic() < give_up_at, f"{alive} have survived"
        time.sleep(_POLL_SECONDS)
