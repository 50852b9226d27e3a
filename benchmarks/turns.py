"""The contestants of a workload: cortex, and the peers that were asked for and can run here."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from benchmarks.load import Load
from benchmarks.options import Options
from benchmarks.peers import Peer, chosen_peers
from benchmarks.rounds import Contestant, Run
from benchmarks.service import NOTHING, lines_of, running_service

CORTEX = "cortex"

RunningS3 = Callable[[], AbstractContextManager[Mapping[str, str]]]
"""Runs one; gives the variables by which it is reached."""


def cortex(load: Load, folder: Path, predictor: str, *, name: str = CORTEX, units: int | None = None) -> Contestant:
    """Let the service run a job over the lines of a load."""
    ready = partial(ready_service, folder, predictor, lines_of(load))
    return Contestant(name=name, units=units or load.batches, ready=ready)


def cortex_on_s3(s3: RunningS3, folder: Path, units: int, *, name: str = CORTEX, batch_size: int = 100) -> Contestant:
    """Let the service run a job over the lines of all objects of an S3, which runs while it has its turn."""
    request = {"delimited_files": {"s3_paths": ["s3://bucket/data/"], "batch_size": batch_size}}
    return Contestant(name=name, units=units, ready=partial(_ready_on_s3, s3, folder, request))


@contextmanager
def _ready_on_s3(s3: RunningS3, folder: Path, request: Mapping[str, Any]) -> Iterator[Run]:
    with s3() as env, ready_service(folder, NOTHING, request, env) as run:
        yield run


@contextmanager
def ready_service(
    folder: Path,
    predictor: str,
    request: Mapping[str, Any],
    env: Mapping[str, str] | None = None,
    options: Sequence[str] = (),
    **what: Any,
) -> Iterator[Run]:
    """Give what runs a job over files on a warm operator with these options; `what` is what is deployed besides."""
    with running_service(folder, predictor, *options, env=env, **what) as service:
        service.list_files(request)
        yield lambda: service.run(request)


def peers(
    load: Load,
    task: str,
    options: Options,
    at_most: Mapping[str, int],
    *,
    repeats: int = 1,
    among: Mapping[str, Peer] | None = None,
    helpers: tuple[int, ...] = (),
) -> list[Contestant]:
    """Let the peers that `at_most` names run so many batches of a load; `among` are others than those of every run."""
    return [
        Contestant(
            name=peer.name,
            units=min(at_most[key], load.batches),
            ready=partial(_ready_peer, peer, task, load.cut(at_most[key]), options.folder),
            repeats=repeats,
            helpers=helpers,
        )
        for key, peer in (chosen_peers(options) if among is None else among).items()
        if key in at_most
    ]


@contextmanager
def _ready_peer(peer: Peer, task: str, load: Load, folder: Path) -> Iterator[Run]:
    if task != "parse":
        load.items()  # in memory before a clock starts, and before memory is looked at
    own: AbstractContextManager[Callable[[Load], float]] = peer.running(task, Path(mkdtemp(dir=folder)))
    with own as run:
        yield lambda: run(load)
