"""The placer of a real Ray: where stations come to be, what they wait for, and what is told of their ends."""

import asyncio
import mmap
import os
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from cluster import Node, RayCluster, wait_until
from cortex.domain.ending import Exit
from cortex.domain.frame import FrameReader, encode
from cortex.domain.station_order import StationOrder
from cortex.domain.ticket import Ticket
from cortex.engines.engine import Needs
from cortex.engines.placement import PlacementListener
from cortex.engines.ray.client import RayPlacer
from processes import children_running, is_alive, kill

TIMEOUT_SECONDS = 60
SMALL = Needs(millicores=500, mem_bytes=64 * 2**20)

pytestmark = pytest.mark.timeout(180)


class Heard(PlacementListener):
    """All that a placer has told."""

    def __init__(self) -> None:
        self.reasons: dict[str, str] = {}
        self.nodes: dict[str, str] = {}
        self.ends: dict[str, Exit] = {}
        self.found: Collection[str] | None = None
        self.told: list[str] = []  # of ends, as often as they were told

    def station_waits(self, worker: str, reason: str) -> None:
        """See PlacementListener."""
        self.reasons[worker] = reason

    def station_placed(self, worker: str, node: str) -> None:
        """See PlacementListener."""
        self.nodes[worker] = node

    def station_gone(self, worker: str, ending: Exit) -> None:
        """See PlacementListener."""
        self.ends[worker] = ending
        self.told.append(worker)

    def stations_found(self, workers: Collection[str]) -> None:
        """See PlacementListener."""
        self.found = workers


class Door:
    """Where stations come in: they find somebody who listens, and says nothing but that."""

    def __init__(self) -> None:
        self.workers: set[str] = set()
        self._writers: dict[str, asyncio.StreamWriter] = {}

    def end(self, worker: str) -> None:
        """Tell a station that it may end."""
        self._writers[worker].write(encode({"type": "end"}))

    async def hear(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Note who comes, and keep the connection."""
        frames = FrameReader()
        try:
            while data := await reader.read(65536):
                for frame in frames.feed(data):
                    if frame.get("role") == "station":
                        worker = Ticket.from_json(frame["ticket"]).worker
                        self.workers.add(worker)
                        self._writers[worker] = writer
        except ConnectionError:
            return
        finally:
            writer.close()


class Placement:
    """A placer, what it has told, and where its stations come in."""

    def __init__(self, cluster: RayCluster, data: Path, port: int, door: Door, *, keep_warm_seconds: float = 0) -> None:
        data.mkdir(exist_ok=True)
        self.heard = Heard()
        self.door = door
        self._host, self._port = cluster.host, port
        self.placer = RayPlacer(
            data=data, address=cluster.address, listener=self.heard, keep_warm_seconds=keep_warm_seconds
        )

    def place(self, worker: str, needs: Needs = SMALL) -> None:
        """Place a station for a worker."""
        ticket = Ticket(
            worker=worker,
            job_id="job",
            project_id="p1",
            folder="/nowhere/job",
            log="/nowhere/job/log",
            log_limit_bytes=1000,
            log_rotates=False,
            serves=False,
        )
        order = StationOrder(
            ticket=ticket.to_json(),
            signature="nobody looks at it",
            host=self._host,
            port=self._port,
            heartbeat_seconds=60,
            storage=None,
        )
        self.placer.place(worker, order, needs)

    async def end(self, worker: str) -> None:
        """Have a station end well, as at the end of a job."""
        self.door.end(worker)
        assert (await self.end_of(worker)).detail == "ended with its station"

    async def until(self, is_so: Callable[[], Any], what: str) -> None:
        """Wait for what the placer is to tell."""
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while not is_so():
                await asyncio.sleep(0.02)
        assert is_so(), what

    async def has_come(self, worker: str) -> None:
        """Wait until a station runs, and has introduced itself."""
        await self.until(lambda: worker in self.heard.nodes and worker in self.door.workers, f"{worker} has come")

    async def end_of(self, worker: str) -> Exit:
        """Wait until a station is gone."""
        await self.until(lambda: worker in self.heard.ends, f"{worker} is gone")
        return self.heard.ends[worker]

    async def lose(self, node: Node) -> None:
        """Switch a node off, and wait until Ray knows: it would place others there."""
        of_node = Needs(node_groups=(node.name,))
        await self.until(lambda: "has no such node" not in self.placer.shortage(of_node), f"{node.name} is there")
        await asyncio.to_thread(node.kill)
        await self.until(lambda: "has no such node" in self.placer.shortage(of_node), f"{node.name} is lost")

    def kill_bridge(self) -> None:
        """kill -9 of what speaks with Ray."""
        kill(*children_running("cortex.engines.ray.bridge"))


@pytest.fixture(scope="module")
def node(cluster: RayCluster) -> Node:
    """A cluster with one node that always runs."""
    cluster.start_head()
    return cluster.add_node("small", cpus=2, memory=2**30)


@pytest.fixture(autouse=True)
def _environment(cluster: RayCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in cluster.env.items():
        if name.startswith("RAY_"):
            monkeypatch.setenv(name, value)


@pytest.fixture
def run(cluster: RayCluster, node: Node, tmp_path: Path) -> Iterator[Callable[..., None]]:
    """Run a story with a placer; nothing is left on the node."""

    @asynccontextmanager
    async def door() -> AsyncIterator[tuple[Door, int]]:
        door = Door()
        server = await asyncio.start_server(door.hear, cluster.host, 0)
        try:
            yield door, server.sockets[0].getsockname()[1]
        finally:
            server.close()

    async def tell(story: Callable[..., Coroutine[Any, Any, None]], count: int, keep_warm_seconds: float) -> None:
        async with door() as (opened, port):
            data = tmp_path / "data"
            placements = [
                Placement(cluster, data, port, opened, keep_warm_seconds=keep_warm_seconds) for _ in range(count)
            ]
            try:
                await story(*placements)
            finally:
                for placement in placements:
                    placement.placer.end()

    yield lambda story, count=1, keep_warm_seconds=0: asyncio.run(tell(story, count, keep_warm_seconds))
    wait_until(lambda: not stations(node), "no station is left")


def stations(node: Node) -> list[psutil.Process]:
    """Give the stations of a node."""
    return [each for each in node.ray.all_named("-m cortex.station") if is_alive(each)]


def actors(node: Node) -> list[psutil.Process]:
    """Give what Ray has started for stations on a node."""
    return [process.parent() for process in stations(node)]


def test_a_station_runs_on_a_node_until_it_is_withdrawn(run, node):
    async def story(placement):
        placement.place("worker")
        await placement.has_come("worker")
        assert node.address == placement.heard.nodes["worker"]
        assert 1 == len(stations(node))

        placement.placer.withdraw("worker")
        assert "was withdrawn" == (await placement.end_of("worker")).cause
        await placement.until(lambda: not stations(node), "its process is gone")
        placement.placer.withdraw("worker")
        placement.place("next")
        await placement.has_come("next")
        assert ["worker"] == placement.heard.told

    run(story)


def test_a_station_without_room_waits_for_it_and_says_what_is_free(run, node):
    async def story(placement):
        placement.place("first", Needs(millicores=1500))
        await placement.has_come("first")
        placement.place("second", Needs(millicores=1000, mem_bytes=2**28))
        wanted = "Ray has no room for {CPU: 1, memory: 256Mi} (free: CPU 0.5 of 2, memory "
        await placement.until(lambda: placement.heard.reasons.get("second", "").startswith(wanted), wanted)
        assert placement.placer.shortage(Needs(millicores=1000, mem_bytes=2**28)).startswith(wanted)

        placement.placer.withdraw("first")
        await placement.has_come("second")

    run(story)


def test_what_no_node_has_is_named_beside_the_most_that_one_has(run, node):
    async def story(placement):
        placement.place("large", Needs(millicores=64_000))
        wanted = "Ray has no room for {CPU: 64}: the largest of its 2 nodes has CPU 2"
        await placement.until(lambda: wanted == placement.heard.reasons.get("large"), wanted)
        placement.placer.withdraw("large")
        assert "was withdrawn" == (await placement.end_of("large")).cause

    run(story)


def test_a_station_of_a_node_group_runs_on_a_node_of_it_only(run, cluster, node):
    async def story(placement):
        placement.place("worker", Needs(millicores=100, node_groups=("fast", "faster")))
        wanted = "Ray has no room for {CPU: 0.1} on nodes of `fast`, `faster`: it has no such node"
        await placement.until(lambda: placement.heard.reasons.get("worker", "").startswith(wanted), wanted)

        grouped = await asyncio.to_thread(cluster.add_node, "faster", cpus=1, env={"RAY_NODE_TYPE_NAME": "faster"})
        try:
            await placement.has_come("worker")
            assert grouped.address == placement.heard.nodes["worker"]
        finally:
            await placement.lose(grouped)

    run(story)


@pytest.mark.parametrize(
    ("whose", "cause"),
    [
        (actors, "was killed with what ran it on its node {}"),
        (stations, "was lost with its station on {}, which was killed by signal 9 (SIGKILL)"),
    ],
    ids=["actor", "station"],
)
def test_the_end_of_a_station_is_told_with_its_cause_and_charged_to_nobody(run, node, whose, cause):
    async def story(placement):
        placement.place("worker")
        await placement.has_come("worker")
        [process] = whose(node)
        process.kill()

        ending = await placement.end_of("worker")
        assert (cause.format(node.address), False) == (ending.cause, ending.is_charged)
        await placement.until(lambda: not stations(node), "the station has gone with its actor")

    run(story)


def test_a_lost_node_is_named_and_charged_to_nobody(run, cluster):
    async def story(placement):
        lost = await asyncio.to_thread(cluster.add_node, "lost", cpus=1, env={"RAY_NODE_TYPE_NAME": "lost"})
        placement.place("worker", Needs(node_groups=("lost",)))
        await placement.has_come("worker")
        await placement.lose(lost)

        ending = await placement.end_of("worker")
        assert (f"was lost with its node {lost.address}", False) == (ending.cause, ending.is_charged)

    run(story)


def test_what_ray_kills_for_the_memory_of_its_node_has_run_out_of_memory(run, cluster):
    async def story(placement):
        memory = psutil.virtual_memory()
        share = (memory.total - memory.available + 2 * 2**30) / memory.total
        limits = {
            "RAY_NODE_TYPE_NAME": "full",
            "RAY_memory_usage_threshold": f"{share:.4f}",
            "RAY_memory_monitor_refresh_ms": "100",
        }
        full = await asyncio.to_thread(cluster.add_node, "full", cpus=1, env=limits)
        placement.place("worker", Needs(node_groups=("full",)))
        await placement.has_come("worker")
        taken: list[mmap.mmap] = []
        try:
            while "worker" not in placement.heard.ends and len(taken) < 30:
                taken.append(mmap.mmap(-1, 2**27))
                await asyncio.to_thread(taken[-1].write, os.urandom(2**20) * 128)
                await asyncio.sleep(0.2)
            ending = await placement.end_of("worker")
        finally:
            for each in taken:
                each.close()
            await placement.lose(full)
        cause = f"ran out of memory: its node {full.address} had no more, and Ray killed it"
        assert (cause, True, True) == (ending.cause, ending.is_out_of_memory, ending.is_charged)

    run(story)


def test_stations_outlive_the_bridge_and_the_next_one_hears_of_them(run, node):
    async def story(placement):
        placement.place("worker")
        await placement.has_come("worker")
        placement.place("waiting", Needs(millicores=2000))
        await placement.until(lambda: "waiting" in placement.heard.reasons, "one waits")
        placement.kill_bridge()
        await placement.until(lambda: "cannot be reached" in placement.placer.shortage(SMALL), "the bridge is gone")

        placement.placer.withdraw("waiting")
        assert "was withdrawn" == (await placement.end_of("waiting")).cause
        assert ["waiting"] == placement.heard.told
        [process] = stations(node)
        process.kill()
        cause = f"was lost with its station on {node.address}, which was killed by signal 9 (SIGKILL)"
        assert cause == (await placement.end_of("worker")).cause
        placement.place("next")
        await placement.has_come("next")

    run(story)


def test_the_next_operator_finds_the_stations_of_the_last_one_and_may_withdraw_them(run, node):
    async def story(last, following):
        last.place("kept")
        last.place("dropped")
        last.place("waiting", Needs(millicores=2000))
        await last.has_come("kept")
        await last.has_come("dropped")
        await last.until(lambda: "waiting" in last.heard.reasons, "one waits")
        last.kill_bridge()  # as it ends with its operator
        last.placer._is_over = True
        last.placer._stations.clear()

        following.placer.recover()
        assert not following.placer.is_known()
        await following.until(lambda: following.heard.found is not None, "they are found")
        assert following.placer.is_known()
        assert {"kept", "dropped", "waiting"} == set(following.heard.found or ())
        await following.has_come("kept")
        following.placer.withdraw("dropped")
        following.placer.withdraw("waiting")
        assert "was withdrawn" == (await following.end_of("dropped")).cause
        assert "was withdrawn" == (await following.end_of("waiting")).cause
        assert 1 == len(stations(node))

    run(story, 2)


def test_the_end_of_a_placer_is_that_of_its_stations_and_of_nobody_elses(run, cluster, node, tmp_path):
    async def story(placement):
        other = Placement(cluster, tmp_path / "other", placement._port, placement.door)
        placement.place("worker")
        other.place("elsewhere")
        await placement.has_come("worker")
        await other.has_come("elsewhere")

        await asyncio.to_thread(lambda: None)
        placement.placer.end()
        await placement.until(lambda: 1 == len(stations(node)), "its station has gone")
        other.placer.end()
        await placement.until(lambda: not stations(node), "the other's has gone, too")

    run(story)


def test_what_has_run_a_station_is_kept_for_the_next_that_needs_the_same(run, node):
    async def story(placement):
        placement.place("first")
        await placement.has_come("first")
        [actor] = actors(node)
        await placement.end("first")
        await placement.until(lambda: stations(node), "the next station waits for its order")

        placement.place("second")
        await placement.has_come("second")
        assert [actor] == actors(node)
        assert node.address == placement.heard.nodes["second"]
        placement.kill_bridge()
        await placement.until(lambda: "cannot be reached" in placement.placer.shortage(SMALL), "the bridge is gone")
        await placement.end("second")
        assert ["first", "second"] == placement.heard.told

    run(story, keep_warm_seconds=600)


def test_what_is_kept_makes_room_for_who_needs_something_else(run, node):
    async def story(placement):
        placement.place("first", Needs(millicores=1500))
        await placement.has_come("first")
        [kept] = actors(node)
        await placement.end("first")
        placement.place("second", Needs(millicores=1000))
        await placement.has_come("second")
        assert [kept] != actors(node)

        placement.place("third", Needs(millicores=1500))
        await placement.until(lambda: "third" in placement.heard.reasons, "one waits")
        await placement.end("second")
        await placement.has_come("third")

    run(story, keep_warm_seconds=600)


def test_what_was_kept_and_is_gone_is_replaced(run, node):
    async def story(placement):
        placement.place("first")
        await placement.has_come("first")
        [actor] = actors(node)
        await placement.end("first")
        actor.kill()
        await placement.until(lambda: not is_alive(actor), "it is gone")

        placement.place("second")
        await placement.has_come("second")
        assert [actor] != actors(node)

    run(story, keep_warm_seconds=600)


def test_nothing_is_kept_for_longer_than_was_said(run, node):
    async def story(placement):
        placement.place("first")
        await placement.has_come("first")
        [actor] = actors(node)
        await placement.end("first")
        await placement.until(lambda: not is_alive(actor), "it is gone")
        await placement.until(lambda: not stations(node), "and what it kept")

    run(story, keep_warm_seconds=0.5)


def test_the_next_operator_finds_the_second_station_of_what_was_kept_by_its_worker(run, node):
    async def story(last, following):
        last.place("first")
        await last.has_come("first")
        await last.end("first")
        last.place("second")
        await last.has_come("second")
        last.kill_bridge()  # as it ends with its operator
        last.placer._is_over = True
        last.placer._stations.clear()

        following.placer.recover()
        await following.until(lambda: following.heard.found is not None, "it is found")
        assert ["second"] == following.heard.found
        following.placer.withdraw("second")
        assert "was withdrawn" == (await following.end_of("second")).cause

    run(story, 2, keep_warm_seconds=600)


def test_who_waits_when_the_head_is_lost_is_placed_when_it_returns_and_who_ran_is_told_lost(run, cluster, node):
    async def story(placement):
        placement.place("ran", Needs(millicores=100))
        await placement.has_come("ran")
        placement.place("waiting", Needs(millicores=2000))
        await placement.until(lambda: "waiting" in placement.heard.reasons, "one waits")
        await asyncio.to_thread(cluster.kill_head)
        await placement.until(lambda: "cannot be reached" in placement.placer.shortage(SMALL), "its loss is seen")
        assert [] == placement.heard.told

        await asyncio.to_thread(cluster.start_head)
        await asyncio.to_thread(node.kill)
        await asyncio.to_thread(node.start)
        await placement.has_come("waiting")
        assert "was lost with Ray's head, or while it could not be asked" == (await placement.end_of("ran")).cause
        assert ["ran"] == placement.heard.told

    run(story)
