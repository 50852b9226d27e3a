"""What Ray's autoscaler, in the process of its monitor, knows of the tests' cloud."""

from collections.abc import Mapping
from multiprocessing.connection import Client
from typing import Any

from ray.autoscaler.node_provider import NodeProvider
from ray.autoscaler.tags import (
    NODE_KIND_HEAD,
    STATUS_UP_TO_DATE,
    TAG_RAY_NODE_KIND,
    TAG_RAY_NODE_STATUS,
    TAG_RAY_USER_NODE_TYPE,
)

_HEAD = "head"


class CloudProvider(NodeProvider):  # type: ignore[misc]
    """Passes on what it is asked; the head is not the cloud's."""

    def _ask(self, what: str, *arguments: Any) -> Any:
        with Client(self.provider_config["socket"]) as client:
            client.send((what, arguments))
            return client.recv()

    def _machines(self) -> dict[str, tuple[str, dict[str, str]]]:
        head = {
            TAG_RAY_NODE_KIND: NODE_KIND_HEAD,
            TAG_RAY_USER_NODE_TYPE: _HEAD,
            TAG_RAY_NODE_STATUS: STATUS_UP_TO_DATE,
        }
        return {_HEAD: (self.provider_config["head_address"], head), **self._ask("list")}

    def non_terminated_nodes(self, tag_filters: Mapping[str, str]) -> list[str]:
        """Give the machines with these tags."""
        return [name for name, (_, tags) in self._machines().items() if tag_filters.items() <= tags.items()]

    def is_running(self, node_id: str) -> bool:
        """Tell whether there is this machine."""
        return node_id in self._machines()

    def is_terminated(self, node_id: str) -> bool:
        """Tell whether there is not."""
        return node_id not in self._machines()

    def node_tags(self, node_id: str) -> dict[str, str]:
        """Give the tags of a machine."""
        return self._machines()[node_id][1]

    def internal_ip(self, node_id: str) -> str:
        """Give its address."""
        return self._machines()[node_id][0]

    external_ip = internal_ip

    def set_node_tags(self, node_id: str, tags: Mapping[str, str]) -> None:
        """Leave them as they are: what is created is up to date."""

    def create_node(self, node_config: Mapping[str, Any], tags: Mapping[str, str], count: int) -> None:
        """Rent machines."""
        self._ask("create", {**tags, TAG_RAY_NODE_STATUS: STATUS_UP_TO_DATE}, count)

    def terminate_node(self, node_id: str) -> None:
        """Give a machine back."""
        self._ask("end", node_id)
