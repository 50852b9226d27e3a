"""The process itself; `main` is called with what it is to do."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable

from cortex.child_process.child import answer, run_fresh
from stub_room.words import WORDS, Asked, Last, Told

Tell = Callable[[Told | Last], None]

if "STUB_ROOM_THREAD" in os.environ:
    threading.Thread(target=time.sleep, args=(600,), daemon=True).start()


def main(action: str) -> int:
    return answer("stub-room", WORDS, globals()[action], lambda reason: Last(text=reason))


def count(_: Asked, tell: Tell) -> None:
    for number in range(1, 4):
        tell(Told(text=str(number)))
    tell(Last(text="the last"))


def measure(asked: Asked, tell: Tell) -> None:
    tell(Last(text=str(len(asked.padding))))


def parent(_: Asked, tell: Tell) -> None:
    tell(Last(text=str(os.getppid())))


def raise_(_: Asked, __: Tell) -> None:
    print("printed", flush=True)
    raise ValueError("as asked")


globals()["raise"] = raise_


def exit(_: Asked, __: Tell) -> None:  # noqa: A001
    os._exit(3)


def die(_: Asked, __: Tell) -> None:
    os.kill(os.getpid(), 9)


def hang(_: Asked, tell: Tell) -> None:
    tell(Told(text=str(os.getpid())))
    time.sleep(600)


def start_another(_: Asked, tell: Tell) -> None:
    other = subprocess.Popen(["sleep", "600"])
    tell(Told(text=f"{os.getpid()} {other.pid}"))
    other.wait()


def start_another_and_die(asked: Asked, tell: Tell) -> None:
    other = subprocess.Popen(["sleep", "600"])
    tell(Told(text=str(other.pid)))
    die(asked, tell)


def wait_to_be_asked_twice(asked: Asked, tell: Tell) -> None:
    try:
        begun = os.open(asked.file, os.O_WRONLY | os.O_NONBLOCK)  # a FIFO that somebody reads, the first time
    except OSError:
        tell(Last(text="asked twice"))
        return
    os.close(begun)
    time.sleep(600)


if __name__ == "__main__":
    sys.exit(run_fresh(main))
