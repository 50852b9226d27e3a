"""The section `autoscaling`: how many replicas a RealtimeAPI has, and when it gets more or fewer."""

from typing import Annotated, Final

from pydantic import AfterValidator, Field, model_validator

from cortex.configuration.disagreement import Findings, refuse_all
from cortex.configuration.durations import Seconds
from cortex.configuration.section import Section

MOST_CONCURRENT: Final = 65535
_MOST: Final = 2**31 - 1

TICK_SECONDS: Final = 10
"""How often it is decided. More often would not know more: the load is measured in spans of this length."""


def _check_window(seconds: float) -> float:
    if seconds < TICK_SECONDS or seconds % TICK_SECONDS:
        raise ValueError(f"got `{seconds:g}s`, must be at least `10s` and a multiple of it: load is measured so often")
    return seconds


class Autoscaling(Section):
    """How many replicas there are, and when there are more or fewer."""

    min_replicas: int = Field(
        default=1,
        ge=0,
        le=_MOST,
        description="The fewest replicas; with `0` the first request starts one.",
        examples=[1, 0],
    )
    max_replicas: int = Field(default=100, ge=1, le=_MOST, description="The most replicas.", examples=[10])
    init_replicas: int | None = Field(
        default=None,
        ge=0,
        le=_MOST,
        description="How many there are at first; `null` is `min_replicas`.",
        examples=[2],
    )
    max_replica_concurrency: int = Field(
        default=1024,
        ge=1,
        le=MOST_CONCURRENT,
        description="How many requests there may be for each replica, waiting included; more are answered with 503.",
        examples=[100],
    )
    target_replica_concurrency: float | None = Field(
        default=None,
        gt=0,
        description="How many requests in flight a replica is there for; `null` is `processes_per_replica` times"
        " `threads_per_process`.",
        examples=[1, 2.5],
    )
    window: Annotated[Seconds, AfterValidator(_check_window)] = Field(
        default="60s",
        validate_default=True,
        description="Over how long the requests in flight are averaged: at least `10s`, and a multiple of it.",
        examples=["60s"],
    )
    downscale_stabilization_period: Seconds = Field(
        default="5m",
        validate_default=True,
        description="How long fewer replicas must have been enough before there are fewer.",
        examples=["5m"],
    )
    upscale_stabilization_period: Seconds = Field(
        default="1m",
        validate_default=True,
        description="How long more replicas must have been wanted before there are more.",
        examples=["1m"],
    )
    max_downscale_factor: float = Field(
        default=0.75,
        ge=0,
        lt=1,
        description="The smallest share of the replicas that one step down leaves.",
        examples=[0.75],
    )
    max_upscale_factor: float = Field(
        default=1.5, gt=1, description="How many times as many replicas one step up may make.", examples=[1.5]
    )
    downscale_tolerance: float = Field(
        default=0.05,
        ge=0,
        lt=1,
        description="How far below the present number what is wanted may be without a step down, as a share of it.",
        examples=[0.05],
    )
    upscale_tolerance: float = Field(
        default=0.05,
        ge=0,
        description="How far above the present number what is wanted may be without a step up, as a share of it.",
        examples=[0.05],
    )

    @model_validator(mode="after")
    def _check_order(self) -> "Autoscaling":
        refuse_all(self._unfit_replicas())
        return self

    def _unfit_replicas(self) -> Findings:
        if self.min_replicas > self.max_replicas:
            text = f"got `{self.min_replicas}`, must be at most `max_replicas`, which is `{self.max_replicas}`"
            return [(("min_replicas",), text)]
        if self.init_replicas is not None and not self.min_replicas <= self.init_replicas <= self.max_replicas:
            allowed = f"from `min_replicas` ({self.min_replicas}) to `max_replicas` ({self.max_replicas})"
            return [(("init_replicas",), f"got `{self.init_replicas}`, must be {allowed}")]
        return []

    def resolved(self, concurrency: int) -> "Autoscaling":
        """Give this with the defaults that depend on others; `concurrency` is what a replica handles at once.

        Raises Disagreement where more is to be in flight for each replica than may be.
        """
        target = float(concurrency) if self.target_replica_concurrency is None else self.target_replica_concurrency
        if target > self.max_replica_concurrency:
            what = "" if self.target_replica_concurrency else " (`processes_per_replica` times `threads_per_process`)"
            allowed = f"at most `max_replica_concurrency`, which is `{self.max_replica_concurrency}`"
            refuse_all([(("target_replica_concurrency",), f"got `{target:g}`{what}, must be {allowed}")])
        first = self.min_replicas if self.init_replicas is None else self.init_replicas
        return self.model_copy(update={"target_replica_concurrency": target, "init_replicas": first})
