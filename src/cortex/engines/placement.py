"""The contract of a placer: who runs stations on machines elsewhere, and knows what became of each.

A placer places, and nothing else: what a station says goes over its own connection. A station is named after the
Worker that it is for, since it is for this one only.
"""

from collections.abc import Collection
from typing import Protocol

from cortex.domain.ending import Exit
from cortex.domain.station_order import StationOrder
from cortex.engines.engine import Needs


class PlacementListener(Protocol):
    """Who hears of the places of stations: in the operator's thread, and never from within a call of the placer."""

    def station_waits(self, worker: str, reason: str) -> None:
        """There is no room for it yet, and why not; may be said again with another reason."""

    def station_placed(self, worker: str, node: str) -> None:
        """It runs, or is being started, on this node. Said again for one that is found after `recover`."""

    def station_gone(self, worker: str, ending: Exit) -> None:
        """It runs no more, or has never run, and will not run again: with what is known of the cause.

        Told once for each that was placed and each that was withdrawn, and of none that is not known.
        """

    def stations_found(self, workers: Collection[str]) -> None:
        """These are there of earlier operators, after `recover`: all that are, placed or waiting."""


class Placer(Protocol):
    """Runs stations somewhere. All methods return at once; what comes of them, the listener hears."""

    def place(self, worker: str, order: StationOrder, needs: Needs) -> None:
        """Run a station with this order, once, as soon as there is room for what its Worker needs."""

    def withdraw(self, worker: str) -> None:
        """Kill a station, or do not start it: `station_gone` follows. May be repeated, and of one that is not known."""

    def recover(self) -> None:
        """Find out which stations of earlier operators there are: `stations_found` follows. Before the first order."""

    def shortage(self, needs: Needs) -> str:
        """Say what a station with these needs waits for, to follow the words "workers wait for compute: "."""

    def is_known(self) -> bool:
        """Tell whether it is known which stations of earlier operators there are."""

    def end(self) -> None:
        """Kill all stations. When this returns they are gone, as far as that can be told from here."""


def ending_of_station(status: int, node: str) -> Exit:
    """Give the end of a Worker whose station has ended with this status: negative for a signal, as in `Exit`."""
    detail = f"was lost with its station on {node}, which {Exit(status=status).cause}"
    return Exit(status=None, detail=detail, is_charged=False)
