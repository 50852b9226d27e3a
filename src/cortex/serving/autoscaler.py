"""How many replicas an API should have: the load of a while in, a number out."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

NOISE = 1e-9
"""What is left of a sum of fractions that should be whole: it must not cost a replica."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoscalingPolicy:
    """What `autoscaling` of an API says."""

    min_replicas: int
    max_replicas: int
    init_replicas: int
    target_replica_concurrency: float  # requests in flight that a replica is to have
    max_replica_concurrency: int
    window_seconds: float
    downscale_stabilization_seconds: float
    upscale_stabilization_seconds: float
    max_downscale_factor: float  # the share that one step leaves at least: the larger, the slower it shrinks
    max_upscale_factor: float
    downscale_tolerance: float
    upscale_tolerance: float

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any]) -> "AutoscalingPolicy":
        """Read it from the specification of a version, in which every default is filled in."""
        autoscaling = spec["autoscaling"]
        return cls(
            min_replicas=autoscaling["min_replicas"],
            max_replicas=autoscaling["max_replicas"],
            init_replicas=autoscaling["init_replicas"],
            target_replica_concurrency=autoscaling["target_replica_concurrency"],
            max_replica_concurrency=autoscaling["max_replica_concurrency"],
            window_seconds=autoscaling["window"],
            downscale_stabilization_seconds=autoscaling["downscale_stabilization_period"],
            upscale_stabilization_seconds=autoscaling["upscale_stabilization_period"],
            max_downscale_factor=autoscaling["max_downscale_factor"],
            max_upscale_factor=autoscaling["max_upscale_factor"],
            downscale_tolerance=autoscaling["downscale_tolerance"],
            upscale_tolerance=autoscaling["upscale_tolerance"],
        )

    def clamp(self, replicas: int) -> int:
        """Give the nearest number of replicas that is allowed."""
        return max(self.min_replicas, min(replicas, self.max_replicas))


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommendation:
    """How many replicas the load called for at an instant."""

    at_ns: int
    replicas: int


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What the decisions so far leave to the next one; a new one begins with each deployment and each operator."""

    began_at_ns: int | None = None  # the first decision
    decided: int | None = None  # what the last decision was
    recommendations: tuple[Recommendation, ...] = ()  # no older than the longer stabilization period


def decide(
    policy: AutoscalingPolicy, history: History, *, now_ns: int, replicas: int, in_flight: float | None
) -> tuple[int, History]:
    """Say how many replicas there should be, and what to remember for the next time. To be asked every TICK_SECONDS.

    `replicas` is how many are requested now, `in_flight` the mean number of requests in flight over the window, those
    that wait included; None where it is not known yet, and then nothing changes. The result is never outside the
    policy's bounds, and 0 only where those allow it and nothing was in flight.
    """
    began_at_ns = now_ns if history.began_at_ns is None else history.began_at_ns
    recommendations = history.recommendations
    if history.decided is not None and replicas > history.decided:
        # A request has started one in the meantime, and may not be in the load yet: that must not end it again.
        recommendations += (Recommendation(at_ns=now_ns, replicas=replicas),)
    if in_flight is None:
        decided = policy.clamp(replicas)
    else:
        recommendation = recommend(policy, replicas=replicas, in_flight=in_flight)
        recommendations += (Recommendation(at_ns=now_ns, replicas=recommendation),)
        decided = _stabilize(policy, recommendations, began_at_ns=began_at_ns, now_ns=now_ns, replicas=replicas)
    longest = max(policy.downscale_stabilization_seconds, policy.upscale_stabilization_seconds)
    kept = tuple(each for each in recommendations if _age(each.at_ns, now_ns) <= longest)
    return decided, History(began_at_ns=began_at_ns, decided=decided, recommendations=kept)


def recommend(policy: AutoscalingPolicy, *, replicas: int, in_flight: float) -> int:
    """Say how many replicas the load calls for, as one step from those that there are."""
    ideal = in_flight / policy.target_replica_concurrency
    wanted = math.ceil(ideal - NOISE)
    is_near_below = replicas * (1 - policy.downscale_tolerance) < ideal < replicas
    is_near_above = replicas < ideal < replicas * (1 + policy.upscale_tolerance)
    if is_near_below or is_near_above:
        wanted = replicas
    lowest = min(replicas - 1, math.ceil(replicas * policy.max_downscale_factor - NOISE))
    highest = max(replicas + 1, math.ceil(replicas * policy.max_upscale_factor - NOISE))
    step = max(lowest, min(wanted, highest))
    return policy.clamp(max(step, 1 if in_flight > 0 else 0))


def _stabilize(
    policy: AutoscalingPolicy,
    recommendations: tuple[Recommendation, ...],
    *,
    began_at_ns: int,
    now_ns: int,
    replicas: int,
) -> int:
    """Hold back what may pass: shrink to the most that was called for in a while, grow to the least.

    These are two periods, and each holds one direction only. Applied one after the other to the same number, the
    period for growing would undo what the one for shrinking holds: the least of a while is never above the latest.
    """
    most, least = (
        [each.replicas for each in recommendations if _age(each.at_ns, now_ns) <= period]
        for period in (policy.downscale_stabilization_seconds, policy.upscale_stabilization_seconds)
    )
    age = _age(began_at_ns, now_ns)
    decided = replicas
    if age >= policy.downscale_stabilization_seconds:
        decided = min(decided, max(most))
    if age >= policy.upscale_stabilization_seconds:
        decided = max(decided, min(least))
    return policy.clamp(decided)


def _age(at_ns: int, now_ns: int) -> float:
    return (now_ns - at_ns) / 1_000_000_000
