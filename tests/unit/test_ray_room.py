"""What a Worker waits for in a Ray cluster, in words."""

import pytest

from cortex.engines.engine import Needs
from cortex.engines.ray.room import NodeRoom, Room

GIB = 2**30
ROOM = Room(
    nodes=(
        NodeRoom(total={"memory": 1.0 * GIB}),  # the head, which takes no Workers
        NodeRoom(total={"CPU": 4.0, "memory": 8.0 * GIB + 5}, group="large"),
        NodeRoom(total={"CPU": 2.0, "GPU": 1.0, "memory": 4.0 * GIB}, group="gpu"),
    ),
    free={"CPU": 1.5, "memory": 3.0 * GIB + 7},
)


@pytest.mark.parametrize(
    ("expected", "needs"),
    [
        ("Ray has no room for {CPU: 2} (free: CPU 1.5 of 6)", Needs(millicores=2000)),
        (
            "Ray has no room for {CPU: 2, memory: 2Gi} (free: CPU 1.5 of 6, memory 3Gi of 13Gi)",
            Needs(millicores=2000, mem_bytes=2 * GIB),
        ),
        ("Ray has no room for {GPU: 1} (free: GPU 0 of 1)", Needs(gpus=1)),
        ("Ray has no room for {CPU: 8}: the largest of its 3 nodes has CPU 4", Needs(millicores=8000)),
        (
            "Ray has no room for {CPU: 4, GPU: 1}: the largest of its 3 nodes has CPU 4, GPU 1",
            Needs(millicores=4000, gpus=1),
        ),
        (
            "Ray has no room for {CPU: 4} on nodes of `gpu`: its one node has CPU 2",
            Needs(millicores=4000, node_groups=("gpu",)),
        ),
        (
            "Ray has no room for {CPU: 1} on nodes of `a`, `b`: it has no such node (a node's label `ray.io/",
            Needs(millicores=1000, node_groups=("a", "b")),
        ),
        ("Ray has no room for {CPU: 1} on nodes of `gpu`", Needs(millicores=1000, node_groups=("gpu",))),
        (
            "Ray is starting them, or has no room for {CPU: 1} on one node (free: CPU 1.5 of 6)",
            Needs(millicores=1000),
        ),
        ("Ray is starting them", Needs()),
    ],
)
def test_a_shortage_says_what_is_needed_and_what_there_is(expected: str, needs: Needs) -> None:
    assert ROOM.shortage(needs).startswith(expected)


def test_a_cluster_without_nodes_has_no_room() -> None:
    assert "Ray has no room for {CPU: 1}: the largest of its 0 nodes has CPU 0" == Room(free={}).shortage(
        Needs(millicores=1000)
    )
