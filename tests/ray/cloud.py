"""A cloud for Ray's autoscaler: it asks for machines as it does of a provider's API, and gets nodes of the cluster."""

import json
import threading
from collections.abc import Mapping
from multiprocessing.connection import Client, Listener
from pathlib import Path
from typing import Any, Final

from cluster import Node, RayCluster

_CLOSE: Final = "close"
_NOTHING: Final = {
    **{name: {} for name in ("auth", "head_node", "worker_nodes", "docker", "file_mounts")},
    **{f"{name}setup_commands": [] for name in ("", "head_", "worker_")},
    **{f"{name}_start_ray_commands": [] for name in ("head", "worker")},
    **{name: [] for name in ("initialization_commands", "cluster_synced_files", "rsync_exclude", "rsync_filter")},
    "file_mounts_sync_continuously": False,
}
"""What the autoscaler asks of every configuration, and none of these machines needs."""


class Cloud:
    """Has no machine at first, and at most `most`, each with this much; see the module. `close` it in the end."""

    def __init__(self, cluster: RayCluster, *, most: int, cpus: float, memory: int) -> None:
        self._cluster = cluster
        self._size: dict[str, Any] = {"cpus": cpus, "memory": memory}
        self._most = most
        self._tags: dict[str, dict[str, str]] = {}
        self._nodes: dict[str, Node] = {}
        self.rented: list[str] = []
        """All machines that there ever were."""
        self._socket = str(cluster.folder / "cloud")
        self._listener = Listener(self._socket, authkey=None)
        # One thread for as long as there are machines: their processes end with the thread that has started them.
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def configuration(self) -> Path:
        """Write the configuration that the head's autoscaler is started with."""
        resources = {"CPU": self._size["cpus"], "memory": self._size["memory"]}
        provider = {
            "type": "external",
            "module": "cloud_provider.CloudProvider",
            "socket": self._socket,
            "head_address": self._cluster.host,
            "disable_node_updaters": True,
            "foreground_node_launch": True,
        }
        path = self._cluster.folder / "autoscaler.json"
        given = {
            "cluster_name": "tests",
            "max_workers": self._most,
            "upscaling_speed": 100.0,
            "idle_timeout_minutes": 0.05,
            "provider": provider,
            "head_node_type": "head",
            "available_node_types": {
                "head": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
                "small": {"resources": resources, "node_config": {}, "min_workers": 0, "max_workers": self._most},
            },
        }
        path.write_text(json.dumps({**_NOTHING, **given}))
        return path

    @property
    def nodes(self) -> list[Node]:
        """The machines that there are."""
        return list(self._nodes.values())

    def close(self) -> None:
        """End its API, and the machines with it."""
        with Client(self._socket) as client:
            client.send((_CLOSE, ()))
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        while True:
            with self._listener.accept() as connection:
                what, arguments = connection.recv()
                if what == _CLOSE:
                    return
                connection.send({"create": self._create, "end": self._end, "list": self._list}[what](*arguments))

    def _create(self, tags: Mapping[str, str], count: int) -> None:
        for _ in range(count):
            name = f"cloud{len(self.rented) + 1}"
            node = self._cluster.add_node(name, **self._size, waits=False)
            self.rented.append(name)
            self._nodes[name], self._tags[name] = node, dict(tags)

    def _end(self, name: str) -> None:
        self._tags.pop(name)
        self._nodes.pop(name).remove()

    def _list(self) -> dict[str, tuple[str, dict[str, str]]]:
        return {name: (node.address, self._tags[name]) for name, node in self._nodes.items()}
