"""The contract of who hears stations: they come to the operator, and an engine has started them."""

from typing import Protocol

from cortex.domain.frame import Frame
from cortex.engines.engine import Connection


class StationLink(Protocol):
    """The connection of a station."""

    def send(self, frame: Frame, data: bytes | None = None) -> None:
        """Send it a frame, with what follows it; lost if it is gone."""

    def close(self) -> None:
        """Cut it off."""


class StationSide(Protocol):
    """Who hears stations, and the supervisors that they speak for.

    A station has one connection, which its supervisor and its Worker share: where that is closed, `station_lost` is
    told before their connections are lost; where it comes again, before `station_connected` of the next one.
    """

    def station_connected(self, worker: str, station: StationLink) -> None:
        """The station of a Worker introduces itself; its supervisor does after it."""

    def station_heard(self, worker: str) -> None:
        """It shows that it lives."""

    def station_lost(self, worker: str) -> None:
        """Its connection is closed."""

    def station_failed(self, worker: str, error: str) -> None:
        """It can be no station for its Worker: why, in words that follow "the worker"."""

    def supervisor_connected(self, connection: Connection, hello: Frame) -> None:
        """Its supervisor introduces itself: `worker` in the `hello` is that of the station's ticket."""

    def supervisor_says(self, frame: Frame) -> None:
        """Its supervisor says something: `worker` in every frame, a beat's too, is that of the station's ticket."""

    def supervisor_lost(self, connection: Connection) -> None:
        """The connection of its supervisor is closed."""
