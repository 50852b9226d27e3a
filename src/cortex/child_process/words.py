"""What the operator and a kind of process say to each other: one request, and events, each a line."""

from collections.abc import Collection, Mapping
from typing import Any, Final, Generic, TypeVar

import msgspec

Request = TypeVar("Request")
Event = TypeVar("Event")

_LINE: Final = msgspec.json.Decoder(tuple[str, msgspec.Raw])


class Words(Generic[Request, Event]):
    """The request that a kind of process takes, and the events that it tells, by their names.

    All are dataclasses. A request is a JSON object with its fields; a line holds the event's name and such an object.
    """

    def __init__(self, request: type[Request], events: Mapping[str, type[Event]], last: Collection[str]) -> None:
        """`last` names the events after which no other comes."""
        self._request = msgspec.json.Decoder(request)
        self._names: dict[type[Any], str] = {kind: name for name, kind in events.items()}
        self._events = {name: msgspec.json.Decoder(kind) for name, kind in events.items()}
        self._last = tuple(events[name] for name in last)

    def write_request(self, request: Request) -> bytes:
        """Give a request as the process reads it."""
        return msgspec.json.encode(request)

    def read_request(self, data: bytes) -> Request:
        """Read what `write_request` gave. Raises msgspec.MsgspecError for anything else."""
        return self._request.decode(data)

    def write(self, event: Event) -> bytes:
        """Give an event as a line, which ends in a newline and has no other."""
        return msgspec.json.encode((self._names[type(event)], event)) + b"\n"

    def read(self, line: bytes) -> Event:
        """Read what `write` gave."""
        name, fields = _LINE.decode(line)
        return self._events[name].decode(fields)

    def is_last(self, event: Event) -> bool:
        """Tell whether no other event comes after this one."""
        return isinstance(event, self._last)
