"""The folder beside cortex.yaml: packed by the client, unpacked and named by its content by the operator."""

from cortex.project.packing import PackedProject, pack
from cortex.project.unpacking import unpack

__all__ = ["PackedProject", "pack", "unpack"]
