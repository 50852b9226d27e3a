"""What an engine says to the supervisor of Workers, and what it makes of the answers."""

from pathlib import Path
from typing import Any, Final

from cortex.domain.ending import Exit
from cortex.domain.frame import Frame
from cortex.engines.engine import Needs, WorkerOrder
from cortex.engines.places import Place

LOST_WITH_SUPERVISOR: Final = Exit(status=None, detail="was killed with its supervisor", is_charged=False)
"""How a Worker ends whose supervisor is gone: the kernel kills it."""

_STOP_GRACE_SECONDS: Final = 1.0
_END_GRACE_SECONDS: Final = 3.0


def write_start(
    order: WorkerOrder,
    place: Place,
    *,
    channel: Path,
    env: dict[str, str],
    log_limit_bytes: int,
    keep_warm_seconds: float,
    heartbeat_seconds: float,
) -> Frame:
    """Have a Worker started; `env` are variables that are its own, and that nothing may replace."""
    program = order.program
    what: dict[str, Any] = {
        "worker": order.worker,
        "job_id": order.job_id,
        "folder": str(order.folder),
        "channel": str(channel),
        "project": str(program.project),
        "predictor_path": program.predictor_path,
        "predictor_type": program.predictor_type,
        "python_path": program.python_path,
        "serves": order.serves,
        "env": env,
    }
    return {
        "type": "start",
        "python": str(program.python),
        "env": {**program.inherited, **env},
        "log": str(order.log),
        "log_limit_bytes": log_limit_bytes,
        "log_rotates": order.serves,  # that of an API has no end
        "keep_warm_seconds": keep_warm_seconds,
        "heartbeat_seconds": heartbeat_seconds,
        "place": write_place(place),
        "order": what,
    }


def write_stop(worker: str, *, at_once: bool) -> Frame:
    """Have a Worker end in its own time, or interrupted; in the end it is killed."""
    grace_seconds = _STOP_GRACE_SECONDS if at_once else _END_GRACE_SECONDS
    return {"type": "stop", "worker": worker, "at_once": at_once, "grace_seconds": grace_seconds}


def write_place(place: Place) -> Frame:
    """Give what `read_place` reads: what a supervisor is told of a Worker's place, it tells every later operator."""
    needs = {"millicores": place.needs.millicores, "mem_bytes": place.needs.mem_bytes, "gpus": place.needs.gpus}
    return {"job_id": place.job_id, "devices": place.devices, "lasts": place.lasts, **needs}


def read_place(child: Frame) -> Place:
    """Read what a supervisor says that one of its Workers has been given."""
    given = child["place"]
    needs = Needs(millicores=given["millicores"], mem_bytes=given["mem_bytes"], gpus=given["gpus"])
    return Place(
        worker=child["worker"],
        job_id=given["job_id"],
        needs=needs,
        devices=tuple(given["devices"]),
        lasts=given.get("lasts", False),  # not said by a supervisor that an earlier version of cortex has started
    )


def read_exit(child: Frame, *, mem_limit_bytes: int | None) -> Exit:
    """Read how a Worker has ended that might use so much memory."""
    stopped_seconds = child.get("stopped_seconds")
    was_stopped = f"was stopped for {stopped_seconds:g} s and killed" if stopped_seconds else None
    return Exit(
        status=child["exit_status"],
        is_out_of_memory=child.get("out_of_memory", False),
        mem_limit_bytes=mem_limit_bytes,
        is_charged=was_stopped is None,
        detail=was_stopped or child.get("error"),
    )
