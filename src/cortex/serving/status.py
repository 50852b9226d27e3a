"""How an API stands, in the words of the HTTP API."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cortex.serving.failures import Failures
from cortex.serving.line import Line
from cortex.serving.process import Phase, Replica
from cortex.serving.replicas import Replicas


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the status depends on, beside the replicas."""

    requested: int
    min_replicas: int
    now_ns: int
    failures: Failures
    unprepared: str | None  # why there is no environment
    is_prepared: bool


def describe_status(facts: Facts, replicas: Replicas) -> Mapping[str, Any]:
    """Describe how an API stands: `status_code`, `message` and `replica_counts`."""
    updated = _count(replicas, [each for each in replicas.all if each.is_updated], now_ns=facts.now_ns)
    stale = _count(replicas, [each for each in replicas.all if not each.is_updated], now_ns=facts.now_ns)
    if facts.failures.count or facts.unprepared:
        # One is tried at a time: those that are missing, and the one that is tried, have failed until it is ready.
        updated["failed"] = max(facts.requested - updated["ready"], 0)
        updated["pending"] = updated["initializing"] = 0
    elif not facts.is_prepared:
        updated["pending"] += max(facts.requested - sum(updated.values()), 0)
    code, message = _status(facts, updated, replicas)
    counts = {"requested": facts.requested, "updated": updated, "stale": stale}
    return {"status_code": code, "message": message, "replica_counts": counts}


def describe_metrics(line: Line) -> Mapping[str, Any]:
    """Describe what an API has answered, and what it has not answered yet."""
    counts = line.counts
    return {
        "network_stats": {
            "total": counts.total,
            "code_2xx": counts.code_2xx,
            "code_4xx": counts.code_4xx,
            "code_5xx": counts.code_5xx,
            "latency": counts.latency_ms,
            "in_flight": line.in_flight,
            "queued": line.waiting,
        }
    }


def _status(facts: Facts, updated: Mapping[str, int], replicas: Replicas) -> tuple[str, str]:
    if updated["ready"] >= facts.requested:
        return "status_live", "" if facts.requested else "no replica runs; the next request starts one"
    if updated["failed"]:
        reason = facts.unprepared or facts.failures.reason or ""
        code = "status_oom" if facts.failures.is_out_of_memory and not facts.unprepared else "status_error"
        meanwhile = "; meanwhile the earlier replicas answer" if replicas.is_ready else ""
        hint = f"`cortex logs {replicas.api_name}` says more; it is tried again{meanwhile}"
        return code, f"no replica can be started: {reason}\n\nhint: {hint}"
    shortage = replicas.shortage() or ""
    if updated["stalled"]:
        return "status_stalled", shortage
    if updated["ready"] >= max(1, facts.min_replicas):
        return "status_live", shortage
    if not facts.is_prepared:
        return "status_updating", "what the replicas need is being made ready: environment, models"
    return "status_updating", shortage


def _count(replicas: Replicas, some: list[Replica], *, now_ns: int) -> dict[str, int]:
    counts = dict.fromkeys(("pending", "initializing", "ready", "failed", "stalled", "terminating"), 0)
    for replica in some:
        counts[_standing(replicas, replica, now_ns=now_ns)] += 1
    return counts


def _standing(replicas: Replicas, replica: Replica, *, now_ns: int) -> str:
    if replica.is_draining or replica.is_ending:
        return "terminating"
    if replica.phase is Phase.READY:
        return "ready"
    if replicas.waits_for_place(replica):
        return "stalled" if replicas.is_stalled(replica, now_ns=now_ns) else "pending"
    return "initializing"
