"""The process from which Workers are forked: it has imported the predictor's module, once for all of them.

It constructs no predictor and starts nothing itself. Whatever a module can do that does not survive a fork, such as
threads of its own or a GPU context, is found out before the first fork: then each Worker is started as a fresh process.

It forks blanks, on request: processes that wait to be told which Worker to be (see worker.blank). Each gets its own
end of a socket and of a pipe, and closes what is another's. It leaves the Template's process group and memory group
for its own, gets the supervisor for its parent, is killed by the kernel when that ends, and says that it is born. Then
it waits, and ends if nobody is at the other end of its socket any more. Nothing of a Job is in it before its order
comes.

What a Worker does to begin costs little in itself: most of it is the copying of pages that it shares with the Template,
one by one, as they are written to. So whatever is the same for all Workers is done here, before they are forked.
"""

import gc
import json
import os
import socket
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from cortex.domain.frame import Frame, FrameReader, encode
from cortex.predictor import load
from cortex.predictor.models import import_library
from cortex.worker.kernel import can_fork, die_with_parent, join_group, name_process
from cortex.worker.life import end_with, enter_project, live
from cortex.worker.output import Output
from cortex.worker.termination import Termination

_READ_BYTES: Final = 1 << 16
_MAX_FDS: Final = 64
_MINDS_FORKS: Final = frozenset({"jemalloc_bg_thd"})
"""Threads that are not missing in a fork, by their names: what has started them, starts them there when it must.

jemalloc comes with pyarrow, and that with pandas: see its `background_thread_postfork_child`.
"""

PredictorClass = type[Any]


@dataclass(frozen=True, slots=True)
class _Request:
    """A blank that is to be forked, and what it is to have for itself."""

    link: int
    pipe: int
    memory_group: str | None


@dataclass(frozen=True, slots=True)
class _Prepared:
    """What all Workers share until they write to it."""

    predictor_class: PredictorClass
    output: Output
    termination: Termination


def main() -> int:
    """Serve the supervisor, which is at the other end of standard input, until it hangs up."""
    link = socket.socket(fileno=os.dup(0))
    setup = json.loads(sys.argv[2])
    name_process("cortex-template")
    die_with_parent()
    if setup["memory_group"] is not None:
        join_group(setup["memory_group"])  # what the import takes counts; Workers leave it for groups of their own
    if "supervisor_pid" not in setup:  # it has outlived an earlier version of cortex, and asks in another way
        link.sendall(encode({"type": "ready", "can_fork": False}))
        return 0
    predictor_class = _import(setup)
    if predictor_class is None or not can_fork(_MINDS_FORKS):
        link.sendall(encode({"type": "ready", "can_fork": False}))
        return 0
    prepared = _Prepared(predictor_class, _prepare_output(), Termination())
    gc.freeze()  # what is there now stays shared with the Workers
    link.sendall(encode({"type": "ready", "can_fork": True}))
    reader = FrameReader()
    while requests := _receive(link, reader):
        _fork(requests, link.fileno(), setup["supervisor_pid"], prepared)
    return 0


def _import(setup: dict[str, Any]) -> PredictorClass | None:
    """Import the predictor's module; give the class. What it prints goes where the supervisor keeps it.

    If it raises, a fresh Worker will meet the same, and tell.
    """
    try:
        enter_project(setup["project"], setup["python_path"])
        predictor_type = setup.get("predictor_type", "python")  # whoever has outlived an earlier version says none
        predictor_class = load(setup["predictor_path"], predictor_type)
        import_library(predictor_type)
    except BaseException:
        return None
    else:
        return predictor_class
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        null = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(null, stream)
        os.close(null)


def _prepare_output() -> Output:
    """Give an Output that has written a line already. It is made for a pipe, which each Worker will put there."""
    null, (reading, writing) = os.dup(1), os.pipe()
    os.dup2(writing, 1)
    output = Output()
    output.log("")
    os.dup2(null, 1)
    for file in (null, reading, writing):
        os.close(file)
    return output


def _fork_once(run: Callable[[], None]) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            run()
        finally:
            os._exit(0)
    return pid


def _receive(link: socket.socket, reader: FrameReader) -> Sequence[_Request]:
    """Wait until blanks are asked for; give all that are by now, or none once the supervisor has hung up."""
    requests: list[_Request] = []
    while True:
        link.setblocking(not requests)
        try:
            data, files, _, _ = socket.recv_fds(link, _READ_BYTES, _MAX_FDS)
        except BlockingIOError:
            return requests
        if not data:
            return []
        requests += [_Request(files.pop(0), files.pop(0), frame["memory_group"]) for frame in reader.feed(data)]


def _fork(requests: Sequence[_Request], link: int, supervisor: int, prepared: _Prepared) -> None:
    """Fork blanks as grandchildren: their parent, which they share, ends at once, and the supervisor adopts them."""

    def fork_again() -> None:
        between = os.getpid()
        for request in requests:
            others = [link, *(file for each in requests if each is not request for file in (each.link, each.pipe))]
            if os.fork() == 0:
                _be_blank(request, others, between, supervisor, prepared)

    parent = _fork_once(fork_again)
    for request in requests:
        os.close(request.link)
        os.close(request.pipe)
    os.waitpid(parent, 0)


def _be_blank(request: _Request, others: Sequence[int], between: int, supervisor: int, prepared: _Prepared) -> NoReturn:
    """Be a blank, and then the Worker of its order, from its first to its last breath."""
    try:
        order = _wait_for_order(request, others, between, supervisor)
    except BaseException:  # whatever it is, it is no Worker's: the supervisor sees that nothing was printed
        order = None
    if order is None:
        os._exit(0)
    code = 1
    try:
        code = live(order, lambda: prepared.predictor_class, prepared.output, prepared.termination)
        sys.stdout.flush()
    except BaseException:
        traceback.print_exc(file=sys.stdout)
        sys.stdout.flush()
    finally:
        os._exit(code)


def _wait_for_order(request: _Request, others: Sequence[int], between: int, supervisor: int) -> Frame | None:
    """Make a process that nothing of a Job is in yet, and wait for its order; None when nobody is there to give one."""
    for file in others:
        os.close(file)
    os.setpgid(0, 0)
    name_process("cortex-blank")
    for stream in (1, 2):
        os.dup2(request.pipe, stream)
    os.close(request.pipe)
    if request.memory_group is not None:
        join_group(request.memory_group)
    _seed_anew()
    while os.getppid() == between:  # it ends once it has forked the last
        time.sleep(0.0001)
    end_with(supervisor)
    os.write(request.link, encode({"type": "born", "pid": os.getpid()}))
    reader, frames = FrameReader(), list[Frame]()
    while not frames:
        data = os.read(request.link, _READ_BYTES)
        if not data:
            return None
        frames = reader.feed(data)
    os.close(request.link)
    order: Frame = frames[0]["order"]
    return order


def _seed_anew() -> None:
    """Give numpy's global generator a seed of its own in each Worker, unless the module has seeded it."""
    random = sys.modules.get("numpy.random")
    if random is not None and random.get_bit_generator().seed_seq is not None:
        random.seed()
