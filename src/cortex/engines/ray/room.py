"""What the nodes of a Ray cluster have, and what keeps a Worker from being placed on one of them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from cortex.domain.quantity import write_bytes
from cortex.engines.engine import Needs

NODE_GROUP_LABEL: Final = "ray.io/node-group"
"""What names the group of a node: KubeRay sets it, or `ray start --labels`."""

_SHORT: Final = 6  # characters; an amount of memory that is longer is no round number, and is told to the Mi


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRoom:
    """What a living node has, taken or not, by Ray's names; and the group that it is in."""

    total: Mapping[str, float]
    group: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What the living nodes have, and what is free on all of them together."""

    nodes: Sequence[NodeRoom] = ()
    free: Mapping[str, float]

    @classmethod
    def read(cls, frame: Mapping[str, Any]) -> "Room":
        """Read what the bridge tells."""
        nodes = [NodeRoom(total=node["total"], group=node["group"]) for node in frame["nodes"]]
        return cls(nodes=nodes, free=frame["free"])

    def shortage(self, needs: Needs) -> str:
        """Say what a Worker that needs this waits for."""
        wanted = resources_of(needs)
        nodes = [node for node in self.nodes if not needs.node_groups or node.group in needs.node_groups]
        shown = "{" + ", ".join(f"{name}: {_amount(name, count)}" for name, count in wanted.items()) + "}"
        if needs.node_groups:
            shown += f" on nodes of {', '.join(f'`{group}`' for group in needs.node_groups)}"
            if not nodes:
                return f"Ray has no room for {shown}: it has no such node (a node's label `{NODE_GROUP_LABEL}` says so)"
        if not any(_covers(node.total, wanted) for node in nodes):
            most = {name: max((node.total.get(name, 0) for node in nodes), default=0) for name in wanted}
            has = "its one node has" if len(nodes) == 1 else f"the largest of its {len(nodes)} nodes has"
            return f"Ray has no room for {shown}: {has} {_list(wanted, most)}"
        if not wanted:
            return "Ray is starting them"
        there_is = {name: sum(node.total.get(name, 0) for node in self.nodes) for name in wanted}
        free = f"(free: {_list(wanted, self.free, there_is)})"
        if not needs.node_groups and _covers(self.free, wanted):
            return f"Ray is starting them, or has no room for {shown} on one node {free}"
        return f"Ray has no room for {shown} {free}"


def resources_of(needs: Needs) -> dict[str, float]:
    """Give what a Worker needs, by Ray's names; nothing is said about what it does not need."""
    counts = {"CPU": needs.millicores / 1000, "memory": float(needs.mem_bytes), "GPU": float(needs.gpus)}
    return {name: count for name, count in counts.items() if count}


def _covers(there_is: Mapping[str, float], wanted: Mapping[str, float]) -> bool:
    return all(there_is.get(name, 0) >= count for name, count in wanted.items())


def _list(names: Iterable[str], some: Mapping[str, float], all_of: Mapping[str, float] | None = None) -> str:
    """Write amounts, each of all that there is if that is given; Ray leaves out what there is nothing of."""
    of = {name: f" of {_amount(name, all_of[name])}" if all_of else "" for name in names}
    return ", ".join(f"{name} {_amount(name, some.get(name, 0))}{of[name]}" for name in names)


def _amount(name: str, count: float) -> str:
    if name != "memory":
        return f"{count:g}"
    written = write_bytes(int(count))
    return written if len(written) <= _SHORT else write_bytes(int(count) // 2**20 * 2**20)
