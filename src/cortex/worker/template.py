"""The process from which Workers are forked: it has imported the predictor's module, once for all of them.

It constructs no predictor and starts nothing itself. Whatever a module can do that does not survive a fork, such as
threads of its own or a GPU context, is found out before the first Worker: then each is started as a fresh process.
"""

import gc
import json
import os
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

from cortex.domain.frame import FrameReader, encode
from cortex.predictor import load
from cortex.worker.kernel import die_with_parent, join_group, name_process
from cortex.worker.life import enter_project, live

_READ_BYTES: Final = 1 << 16
_MAX_FDS: Final = 64

PredictorClass = type[Any]


def main() -> int:
    """Serve the supervisor, which is at the other end of standard input, until it hangs up."""
    link = socket.socket(fileno=os.dup(0))
    setup = json.loads(sys.argv[2])
    name_process("cortex-template")
    die_with_parent()
    if setup["memory_group"] is not None:
        join_group(setup["memory_group"])  # what the import takes counts; Workers leave it for groups of their own
    printed, predictor_class = _import(setup)
    if predictor_class is None or not _can_fork():
        link.sendall(encode({"type": "ready", "can_fork": False}))
        return 0
    gc.freeze()  # what is there now stays shared with the Workers
    link.sendall(encode({"type": "ready", "can_fork": True}))
    reader, pipes = FrameReader(), []
    while True:
        data, fds, _, _ = socket.recv_fds(link, _READ_BYTES, _MAX_FDS)
        if not data:
            return 0
        pipes += fds
        for frame in reader.feed(data):
            pipe = pipes.pop(0)
            while printed:  # before the Worker, which may be stopped before it says a word
                printed = printed[os.write(pipe, printed) :]
            pid = _fork(partial(_become, [link.fileno(), *pipes], frame["order"], pipe, predictor_class))
            os.close(pipe)
            link.sendall(encode({"type": "forked", "worker": frame["order"]["worker"], "pid": pid}))


def _import(setup: dict[str, Any]) -> tuple[bytes, PredictorClass | None]:
    """Import the predictor's module; give what that printed, for the log of the first Job, and the class.

    If it raises, nothing is printed: a fresh Worker will meet the same, and tell.
    """
    with tempfile.TemporaryFile() as output:
        for stream in (1, 2):
            os.dup2(output.fileno(), stream)
        try:
            enter_project(setup["project"], setup["python_path"])
            predictor_class = load(setup["predictor_path"])
        except BaseException:
            return b"", None
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
        output.seek(0)
        printed = output.read()
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    return printed, predictor_class


def _can_fork() -> bool:
    """Tell whether a fork of this process is whole: no thread is left that would be missing in it.

    A library whose threads survive forks, as OpenBLAS's do, ends them before each: so fork once, and count after.
    """
    tasks = Path("/proc/self/task")
    if not tasks.is_dir():
        return False
    os.waitpid(_fork_once(lambda: None), 0)
    return len(list(tasks.iterdir())) == 1


def _fork_once(run: Callable[[], None]) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            run()
        finally:
            os._exit(0)
    return pid


def _fork(run: Callable[[int], None]) -> int:
    """Fork a grandchild and give its id: its parent, whose id it gets, ends at once, and the supervisor adopts it."""
    reading, writing = os.pipe()

    def fork_again() -> None:
        between = os.getpid()

        def run_alone() -> None:
            os.close(reading)
            os.close(writing)
            run(between)

        os.write(writing, str(_fork_once(run_alone)).encode())

    parent = _fork_once(fork_again)
    os.close(writing)
    pid = int(os.read(reading, _READ_BYTES))
    os.close(reading)
    os.waitpid(parent, 0)
    return pid


def _become(
    others: list[int],
    order: dict[str, Any],
    pipe: int,
    predictor_class: PredictorClass,
    between: int,
) -> None:
    """Be the Worker of this order, from its first to its last breath, and hold nothing that is another's."""
    for file in others:
        os.close(file)
    os.setsid()
    for stream in (1, 2):
        os.dup2(pipe, stream)
    os.close(pipe)
    while os.getppid() == between:  # it ends within microseconds
        time.sleep(0.0001)
    code = 1
    try:
        _seed_anew()
        code = live(order, lambda: predictor_class)
        sys.stdout.flush()
    except BaseException:
        traceback.print_exc(file=sys.stdout)
        sys.stdout.flush()
    finally:
        os._exit(code)


def _seed_anew() -> None:
    """Give numpy's global generator a seed of its own in each Worker, unless the module has seeded it."""
    random = sys.modules.get("numpy.random")
    if random is not None and random.get_bit_generator().seed_seq is not None:
        random.seed()
