"""The process that speaks with Ray for an operator: `python -m cortex.engines.ray.bridge PARENT`.

Ray ends the process of a driver, without a word, when its head has been away for a while: so this is one that the
operator can lose. It knows nothing that would be missed; the next one is told all that should be there, and compares.

Each station is run by a detached actor, which outlives this process and the operator, named after the first Worker that
it ran in a namespace that is the operator's own. When its station has ended it is kept for a while, with what it has of
its node, for the next Worker that needs the same; not while another one waits.
"""

import asyncio
import logging
import os
import socket
import sys
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, NoReturn

import ray
from ray.exceptions import (
    ActorDiedError,
    ActorUnavailableError,
    ActorUnschedulableError,
    OutOfMemoryError,
    RayActorError,
    RayError,
    RayTaskError,
    RuntimeEnvSetupError,
)

from cortex.domain.frame import Frame, FrameReader, encode
from cortex.engines.ray.actor import StationActor
from cortex.engines.ray.causes import ENDED, FORGOTTEN, KILLED, NODE_LOST, OUT_OF_MEMORY, REFUSED, WITHDRAWN
from cortex.engines.ray.room import NODE_GROUP_LABEL
from cortex.worker.kernel import die_with_parent, name_process

logger = logging.getLogger(__name__)

_LOOK_SECONDS: Final = 1.0
_AGAIN_SECONDS: Final = 0.5
_END_SECONDS: Final = 5.0
_ANSWER_SECONDS: Final = 2.0  # so long an actor may take that is there, and does nothing
_READ_BYTES: Final = 65536
_MOST_ERROR_CHARACTERS: Final = 500
_NODE_DIED: Final = "its node has died"
"""What Ray says, also of an actor that died with its node before it ran."""


_ENDS: Final = (ActorUnschedulableError, OutOfMemoryError, RayActorError, RayTaskError, RuntimeEnvSetupError)
"""What Ray raises of an actor that is gone, or will never be there."""


@dataclass(slots=True, eq=False)
class _Actor:
    """An actor that runs a station, or has."""

    name: str
    handle: Any  # one that is dropped would end nothing: it is detached
    needs: Frame | None  # None of one that an earlier operator has asked for
    node: str = ""  # where it is; empty while it waits for its place


class Bridge:
    """See the module."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._frames: asyncio.Queue[Frame] = asyncio.Queue()
        self._keep_warm_seconds = 0.0
        self._actors: dict[str, _Actor] = {}  # by the Workers whose stations they run
        self._idle: dict[_Actor, asyncio.TimerHandle] = {}  # those without a station, and when they are ended
        self._watches: dict[str, asyncio.Task[None]] = {}
        self._withdrawn: set[str] = set()
        self._break: asyncio.Future[None] = asyncio.get_running_loop().create_future()  # of the connection to Ray

    async def run(self) -> int:
        """Do what the operator says until it says that all is to end; give the exit status."""
        reading = asyncio.create_task(self._read())
        hello = await self._frames.get()
        try:
            ray.init(
                address=hello["address"] or "auto",
                namespace=hello["namespace"],
                log_to_driver=False,
                logging_level=logging.WARNING,
            )
            names = _actor_names()
            self._tell({"type": "connected"})
            await self._begin(hello, names)
            looking, obeying = asyncio.create_task(self._look()), asyncio.create_task(self._obey())
            done, _ = await asyncio.wait({reading, looking, obeying, self._break}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        except Exception as error:  # whatever it is, the next one may find it mended
            logger.exception("Ray cannot be reached")
            self._tell({"type": "unreachable", "error": _shorten(str(error) or type(error).__name__)})
            return 1
        return 0

    async def _begin(self, hello: Frame, names: Collection[str]) -> None:
        """Compare what is there with what should be."""
        self._keep_warm_seconds = hello["keep_warm_seconds"]
        stations: dict[str, Frame] = hello["stations"]
        unknown = sorted(set(names) - {station["actor"] for station in stations.values()})
        if hello["recovers"]:
            found = dict(zip(await asyncio.gather(*map(_worker_of, unknown)), unknown, strict=True))
            for worker, name in found.items():
                self._watch_named(worker, name, None)
            self._tell({"type": "found", "workers": sorted(found)})
        else:
            for name in unknown:
                _end_named(name)
        for worker, station in stations.items():
            if station["actor"] in names:
                self._watch_named(worker, station["actor"], station["needs"])
            elif station["order"] is None or station["is_placed"]:
                self._tell({"type": "gone", "worker": worker, "cause": FORGOTTEN})
            else:
                self._place(worker, station)

    async def _obey(self) -> None:
        while (frame := await self._frames.get())["type"] != "end":
            if frame["type"] == "place":
                self._place(frame["worker"], frame)
            elif frame["type"] == "withdraw":
                self._withdraw(frame["worker"])
        for name in _actor_names():
            _end_named(name)
        with suppress(TimeoutError):
            async with asyncio.timeout(_END_SECONDS):
                while _actor_names():
                    await asyncio.sleep(_AGAIN_SECONDS / 10)

    def _place(self, worker: str, station: Frame) -> None:
        kept = next((actor for actor in self._idle if actor.needs == station["needs"]), None)
        if kept is not None:
            self._idle.pop(kept).cancel()
            self._watch(worker, kept, station)
            return
        self._part_with_idle()  # what they have may be what this one waits for
        if actor := self._make(worker, station):
            self._watch(worker, actor)

    def _make(self, worker: str, station: Frame) -> _Actor | None:
        """Ask Ray for an actor. Tells that the station is gone where Ray refuses."""
        needs = station["needs"]
        groups = {NODE_GROUP_LABEL: f"in({','.join(needs['node_groups'])})"} if needs["node_groups"] else None
        try:
            handle = (
                ray.remote(StationActor)
                .options(
                    name=worker,
                    lifetime="detached",
                    max_restarts=0,
                    num_cpus=needs["millicores"] / 1000,
                    num_gpus=needs["gpus"],
                    memory=needs["mem_bytes"] or None,
                    label_selector=groups,
                )
                .remote(worker, station["order"], self._keep_warm_seconds)
            )
        except Exception as error:
            logger.exception("%s cannot be placed", worker)
            self._tell({"type": "gone", "worker": worker, "cause": REFUSED, "error": _shorten(str(error))})
            return None
        return _Actor(worker, handle, needs)

    def _withdraw(self, worker: str) -> None:
        actor = self._actors.get(worker)
        if actor is None:
            self._tell({"type": "gone", "worker": worker, "cause": WITHDRAWN})
        else:
            self._withdrawn.add(worker)
            _end(actor.handle)

    def _watch_named(self, worker: str, name: str, needs: Frame | None) -> None:
        try:
            handle = ray.get_actor(name)
        except ValueError:  # it has just ended
            self._tell({"type": "gone", "worker": worker, "cause": FORGOTTEN})
        else:
            self._watch(worker, _Actor(name, handle, needs))

    def _watch(self, worker: str, actor: _Actor, station: Frame | None = None) -> None:
        """See to a Worker's actor, which is first to start its `station` if it has run another one."""
        self._actors[worker] = actor
        self._watches[worker] = watch = asyncio.create_task(self._see_to(worker, actor, station))
        watch.add_done_callback(self._watch_ended)

    def _watch_ended(self, watch: asyncio.Task[None]) -> None:
        """Take what a watch has raised for the end of the connection to Ray: it says nothing about the station."""
        if not watch.cancelled() and (error := watch.exception()) and not self._break.done():
            self._break.set_exception(error)

    async def _see_to(self, worker: str, actor: _Actor, station: Frame | None) -> None:
        """Tell when a station is placed, and how it has ended."""
        if station is not None and not await _start_again(actor, worker, station):
            _end(actor.handle)
            made = None if worker in self._withdrawn else self._make(worker, station)
            if made is not None:
                actor = self._actors[worker] = made
        gone = await self._end_of(worker, actor)
        if worker in self._withdrawn:
            gone = {"cause": WITHDRAWN}
        self._withdrawn.discard(worker)
        del self._watches[worker], self._actors[worker]
        if gone == {"cause": ENDED, "status": 0} and self._may_keep(actor):
            self._keep(actor)
        else:
            _end(actor.handle)
        self._tell({"type": "gone", "worker": worker, **gone})

    async def _end_of(self, worker: str, actor: _Actor) -> Frame:
        try:
            actor.node, address = await _ask(actor.handle, "node")
            self._tell({"type": "placed", "worker": worker, "node": address, "actor": actor.name})
            return {"cause": ENDED, "status": await _ask(actor.handle, "ended")}
        except _ENDS as error:
            if worker not in self._withdrawn:
                logger.warning("the station of %s is gone: %s", worker, error)
            return await asyncio.to_thread(_cause_of, error, actor.node)

    # Actors without a station

    def _may_keep(self, actor: _Actor) -> bool:
        nobody_waits = all(other.node for other in self._actors.values())
        return self._keep_warm_seconds > 0 and actor.needs is not None and nobody_waits

    def _keep(self, actor: _Actor) -> None:
        loop = asyncio.get_running_loop()
        self._idle[actor] = loop.call_later(self._keep_warm_seconds, self._part_with, actor)

    def _part_with(self, actor: _Actor) -> None:
        self._idle.pop(actor).cancel()
        _end(actor.handle)

    def _part_with_idle(self) -> None:
        for actor in list(self._idle):
            self._part_with(actor)

    async def _look(self) -> None:
        """Tell what the cluster has, every now and then: this also shows that Ray answers."""
        while True:
            self._tell({"type": "room", **await asyncio.to_thread(_room)})
            await asyncio.sleep(_LOOK_SECONDS)

    async def _read(self) -> None:
        reader = FrameReader()
        loop = asyncio.get_running_loop()
        while data := await loop.sock_recv(self._channel, _READ_BYTES):
            for frame in reader.feed(data):
                self._frames.put_nowait(frame)

    def _tell(self, frame: Frame) -> None:
        """Tell the operator; it reads, or it is gone and this process with it."""
        rest = memoryview(encode(frame))
        while rest:
            try:
                rest = rest[self._channel.send(rest) :]
            except BlockingIOError:
                self._channel.setblocking(True)
                self._channel.sendall(rest)
                self._channel.setblocking(False)
                return


async def _ask(actor: Any, method: str) -> Any:
    """Call a method of an actor; of one that cannot be reached for the moment, again and again."""
    while True:
        try:
            return await getattr(actor, method).remote()
        except ActorUnavailableError:
            await asyncio.sleep(_AGAIN_SECONDS)


def _cause_of(error: Exception, node: str) -> Frame:
    """Tell why an actor is gone, as far as Ray tells."""
    if isinstance(error, OutOfMemoryError):
        return {"cause": OUT_OF_MEMORY}
    if not isinstance(error, RayActorError):  # its methods raise nothing
        return {"cause": REFUSED, "error": _shorten(str(error))}
    if isinstance(error, ActorDiedError) and error.actor_init_failed:
        return {"cause": REFUSED, "error": _shorten(str(error))}
    if _NODE_DIED in str(error) or (node and not any(each["NodeID"] == node and each["Alive"] for each in ray.nodes())):
        return {"cause": NODE_LOST}
    return {"cause": KILLED}


async def _worker_of(name: str) -> str:
    """Name the Worker whose station an actor runs; one that does not answer has not run another, as far as is known."""
    with suppress(TimeoutError, RayError, ValueError):
        async with asyncio.timeout(_ANSWER_SECONDS):
            return str(await ray.get_actor(name).worker.remote())
    return name


async def _start_again(actor: _Actor, worker: str, station: Frame) -> bool:
    """Have an actor that was kept start another station; False if it does not answer, or is gone."""
    with suppress(TimeoutError, RayError):
        async with asyncio.timeout(_ANSWER_SECONDS):
            await actor.handle.start.remote(worker, station["order"])
            return True
    return False


def _room() -> Frame:
    nodes = [
        {"total": node["Resources"], "group": node["Labels"].get(NODE_GROUP_LABEL)}
        for node in ray.nodes()
        if node["Alive"]
    ]
    return {"nodes": nodes, "free": ray.available_resources()}


def _actor_names() -> Collection[str]:
    names: list[str] = ray.util.list_named_actors()
    return names


def _end_named(name: str) -> None:
    with suppress(ValueError, RayError):  # it is gone
        _end(ray.get_actor(name))


def _end(handle: Any) -> None:
    with suppress(ValueError, RayError):  # it is gone
        ray.kill(handle)


def _shorten(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " ".join(lines)[-_MOST_ERROR_CHARACTERS:]


async def _run(channel: socket.socket) -> NoReturn:
    status = await Bridge(channel).run()
    logging.shutdown()
    os._exit(status)  # a Ray that does not answer would not let its driver go: threads wait for it


def main() -> int:
    """Be the process."""
    name_process("cortex-ray")
    die_with_parent()
    if os.getppid() != int(sys.argv[1]):
        return 1
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    with socket.socket(fileno=os.dup(0)) as channel:
        channel.setblocking(False)
        return asyncio.run(_run(channel))


if __name__ == "__main__":
    raise SystemExit(main())
