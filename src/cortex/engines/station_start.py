"""What a station is told: its own order first, and when it is there, what to start, and what that needs of our files.

The paths are the operator's. What lies there, the station asks for, as bundles: it puts each down on its node under
the name of the bundle, which changes with the content, so that all stations of a node share it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from cortex.domain.frame import MAX_FRAME_BYTES, Frame
from cortex.domain.layout import JobFolder
from cortex.domain.station_order import StationOrder
from cortex.domain.ticket import Ticket, sign
from cortex.engines.engine import WorkerOrder
from cortex.engines.model_looks import model_paths
from cortex.engines.places import Place
from cortex.engines.supervisor_frames import write_start

_REQUIREMENTS: Final = "requirements.txt"
_MOST_SETUP_BYTES: Final = MAX_FRAME_BYTES // 2
"""How large the config of a Worker elsewhere may be, with all else that it is constructed with."""


class CannotStart(Exception):
    """A station cannot be told what to start."""


def write_order(
    order: WorkerOrder,
    *,
    secret: str,
    host: str,
    port: int,
    log_limit_bytes: int,
    heartbeat_seconds: float,
    storage: Mapping[str, Any] | None,
) -> StationOrder:
    """Give what the station of a Worker is placed with, and shows when it comes to this host and port."""
    ticket = Ticket(
        worker=order.worker,
        job_id=order.job_id,
        project_id=order.program.project.name,
        folder=str(order.folder),
        log=str(order.log),
        log_limit_bytes=log_limit_bytes,
        log_rotates=order.serves,
        serves=order.serves,
    ).to_json()
    return StationOrder(
        ticket=ticket,
        signature=sign(secret, ticket),
        host=host,
        port=port,
        heartbeat_seconds=heartbeat_seconds,
        storage=storage,
    )


def read_setup(order: WorkerOrder) -> tuple[str, list[Path]]:
    """Give the `setup.json` of a Worker's Job, and where its models lie.

    Raises CannotStart, as where the Job's folder has been removed.
    """
    try:
        setup = JobFolder(order.folder).setup.read_text(encoding="utf-8")
        paths = model_paths(setup)
    except (OSError, ValueError) as error:
        raise CannotStart(str(error)) from error
    if len(setup.encode()) > _MOST_SETUP_BYTES:
        raise CannotStart(f"what it is constructed with has {len(setup.encode())} bytes, more than {_MOST_SETUP_BYTES}")
    return setup, paths


def write_station_start(
    order: WorkerOrder,
    *,
    setup: str,
    models: Mapping[str, str],
    node: str | None,
    log_limit_bytes: int,
    heartbeat_seconds: float,
) -> Frame:
    """Have a station start its Worker, which is told that it is on this node, with these bundles for its models."""
    program = order.program
    # Which GPUs it has, only its node knows; here it counts that it has any.
    devices = tuple(str(number) for number in range(program.needs.gpus))
    place = Place(worker=order.worker, job_id=order.job_id, needs=program.needs, devices=devices, lasts=order.serves)
    start = write_start(
        order,
        place,
        channel=order.folder,  # where it listens itself, the station says
        env=dict(program.env),
        log_limit_bytes=log_limit_bytes,
        keep_warm_seconds=0.0,  # it starts one Worker only
        heartbeat_seconds=heartbeat_seconds,
    )
    return {
        **start,
        "place": {**start["place"], "node": node},  # its supervisor tells it every operator
        "order": {**start["order"], "node": node},
        "env": dict(program.env),  # what is inherited comes from its node: of our own, much is nobody else's
        "setup": setup,
        "project_id": program.project.name,
        "models": dict(models),
        "requirements": (program.project / _REQUIREMENTS).is_file(),
        "wants_gpu": program.needs.gpus > 0,
    }
