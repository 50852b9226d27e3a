"""The section `compute`: what a worker or a replica needs of its machine."""

from typing import Annotated, Final

from pydantic import Field, PlainValidator

from cortex.configuration.section import Section
from cortex.configuration.wording import describe_value
from cortex.domain.quantity import read_bytes, read_cores

LEAST_CPU: Final = "20m"
LEAST_MEM: Final = "20Mi"


def _check_cpu(value: object) -> str | int | float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        allowed = "a number of cores, such as `1`, `0.5` or `200m`"
        raise ValueError(f"got {describe_value(value)}, must be {allowed}")  # noqa: TRY004 (pydantic reports these)
    if read_cores(value) < read_cores(LEAST_CPU):
        raise ValueError(f"got `{value}`, must be at least `{LEAST_CPU}`")
    return value


def _check_mem(value: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        allowed = "text with a unit, such as `512Mi`, `2Gi` or `129M`"
        raise ValueError(f"got {describe_value(value)}, must be {allowed}")  # noqa: TRY004 (pydantic reports these)
    if read_bytes(value) < read_bytes(LEAST_MEM):
        raise ValueError(f"got `{value}` ({read_bytes(value)} bytes), must be at least `{LEAST_MEM}`")
    return value


class Compute(Section):
    """What each worker of a BatchAPI, or each replica of a RealtimeAPI, needs."""

    cpu: Annotated[str | int | float | None, PlainValidator(_check_cpu, json_schema_input_type=str | float | None)] = (
        Field(
            default="200m",
            description=f"Cores that are reserved for each, at least `{LEAST_CPU}`; `null` reserves none.",
            examples=[1, 0.5, "200m"],
        )
    )
    mem: Annotated[str | None, PlainValidator(_check_mem, json_schema_input_type=str | None)] = Field(
        default=None,
        description=f"Memory of each, with its unit, at least `{LEAST_MEM}`; `null` sets no limit.",
        examples=["512Mi", "2Gi"],
    )
    gpu: int = Field(default=0, ge=0, description="GPUs of each.", examples=[0, 1])

    @property
    def cpu_cores(self) -> float:
        """The cores that are reserved for each worker or replica."""
        return 0.0 if self.cpu is None else read_cores(self.cpu)

    @property
    def mem_bytes(self) -> int | None:
        """The memory of each worker or replica, or None where nothing was said about it."""
        return None if self.mem is None else read_bytes(self.mem)
