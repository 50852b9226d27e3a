"""SIGTERM ends a worker only if its supervisor means it, and whatever the worker starts as ever."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cortex.domain.batch import Page
from cortex.worker.page import write_word

WORKER = """
import mmap, os, signal, subprocess, sys
from cortex.worker.termination import Termination

{before}
termination = Termination()
{between}
with open(sys.argv[1], "r+b") as file:
    termination.heed_the_supervisor_alone(memoryview(mmap.mmap(file.fileno(), 0)).cast("Q"))

def end(pid):
    os.kill(pid, signal.SIGTERM)
    return -os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

def fork():
    ready, told = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(told, b"1")
        signal.pause()
    os.read(ready, 1)
    return pid

print("ready", flush=True)
for line in sys.stdin:
    print(eval(line), flush=True)
"""


class Worker:
    def __init__(self, page: Path, before: str = "", between: str = "") -> None:
        command = [sys.executable, "-c", WORKER.format(before=before, between=between), str(page)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.heard() == "ready"

    def heard(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def ask(self, question: str) -> str:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{question}\n")
        self.process.stdin.flush()
        return self.heard()


@pytest.fixture
def page(tmp_path: Path) -> Path:
    path = tmp_path / "page"
    path.write_bytes(bytes(Page.SIZE))
    return path


@pytest.fixture
def worker(page: Path) -> Iterator[Worker]:
    worker = Worker(page)
    yield worker
    worker.process.kill()
    worker.process.communicate()


def test_a_worker_lives_on_unless_its_supervisor_means_it(worker: Worker, page: Path) -> None:
    worker.process.send_signal(signal.SIGTERM)
    assert worker.ask("1 + 1") == "2"

    write_word(page, Page.IS_TO_END, 1)
    worker.process.send_signal(signal.SIGTERM)
    assert worker.process.wait(timeout=60) == -signal.SIGTERM


def test_a_worker_that_was_forked_from_what_was_made_ready_lives_on_unless_its_supervisor_means_it(page: Path) -> None:
    worker = Worker(page, between="if os.fork(): os._exit(-os.waitstatus_to_exitcode(os.wait()[1]))")
    to_itself = "os.kill(os.getpid(), signal.SIGTERM)"

    answer = worker.ask(to_itself)
    write_word(page, Page.IS_TO_END, 1)
    last_answer = worker.ask(to_itself)

    assert ("None", "", signal.SIGTERM) == (answer, last_answer, worker.process.wait(timeout=60))
    worker.process.communicate()


def test_what_a_worker_starts_dies_of_it_as_ever(worker: Worker) -> None:
    assert worker.ask("end(fork())") == str(int(signal.SIGTERM))
    assert worker.ask("end(subprocess.Popen(['sleep', '600']).pid)") == str(int(signal.SIGTERM))


def test_a_handler_of_the_predictor_stays(page: Path) -> None:
    worker = Worker(page, before="signal.signal(signal.SIGTERM, lambda *_: os._exit(7))")

    worker.process.send_signal(signal.SIGTERM)

    assert worker.process.wait(timeout=60) == 7
    worker.process.communicate()
