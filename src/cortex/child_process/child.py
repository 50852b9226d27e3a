"""The process of a call: it takes the request, tells events, and ends. Whoever started it waits for it, and kills it.

Nothing but events comes to its standard output: what libraries print goes to standard error, which is a log.
"""

import fcntl
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cortex.child_process.words import Event, Request, Words
from cortex.worker.kernel import die_with_parent, name_process, write_all


def answer(
    name: str,
    words: Words[Request, Event],
    act: Callable[[Request, Callable[[Event], None]], None],
    failed: Callable[[str], Event],
) -> int:
    """Do what is asked for on standard input; give the exit code.

    Where `act` raises, `failed` makes the last word of what is raised; its traceback goes to the log.
    """
    name_process(name)
    request = words.read_request(_take_request())
    tell = _teller(words)
    try:
        act(request, tell)
    except Exception as error:
        traceback.print_exc()
        tell(failed(f"{type(error).__name__}: {error}"))
    return 0


def run_fresh(main: Callable[[str], int]) -> int:
    """Be a process that was not forked: `python -m ROOM ACTION PARENT`. Without its parent, nothing is done."""
    action, parent = sys.argv[1:]
    die_with_parent()
    return main(action) if os.getppid() == int(parent) else 1


@contextmanager
def one_at_a_time(folder: Path) -> Iterator[None]:
    """Wait until no other process is at work in a Job's folder, not even one that was killed and has not quite ended.

    Such a one might undo what its successor has done already.
    """
    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _take_request() -> bytes:
    with open(0, "rb", closefd=False) as stream:
        request = stream.read()
    # What this process starts is to hold no end of the conversation: that it has ended is seen there.
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return request


def _teller(words: Words[Request, Event]) -> Callable[[Event], None]:
    """Keep standard output for events; what is printed goes to standard error from now on."""
    output = os.dup(1)
    os.dup2(2, 1)

    def tell(event: Event) -> None:
        write_all(output, words.write(event))

    return tell
