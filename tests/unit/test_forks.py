import os
import signal
import subprocess
import sys

import psutil
import pytest

from cortex.enqueuing.forks import in_forks


@pytest.fixture(autouse=True)
def two_cpus(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    BEFORE[:] = psutil.Process().children()
    yield
    assert [] == children()


BEFORE: list[psutil.Process] = []  # what other tests keep running


def children() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if child not in BEFORE]


def who(number: int) -> bytes:
    return f"{number} {os.getpid()}".encode()


def test_results_come_in_order_from_processes_of_their_own():
    results = [result.decode().split() for result in in_forks(who, range(20))]

    assert [str(number) for number in range(20)] == [number for number, _ in results]
    assert 2 == len({pid for _, pid in results} - {str(os.getpid())})


def test_large_results_are_whole():
    assert [bytes([number]) * 1_000_000 for number in range(5)] == list(
        in_forks(lambda n: bytes([n]) * 1_000_000, range(5))
    )


@pytest.mark.parametrize("cpus", [{0}, {0, 1}])
@pytest.mark.parametrize("count", [0, 1])
def test_little_work_is_done_here(monkeypatch, cpus, count):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: cpus)

    assert [who(number) for number in range(count)] == list(in_forks(who, range(count), count))


def test_what_a_killed_process_has_not_done_is_done_here():
    results = in_forks(lambda number: str(number).encode() * 100_000, range(40))
    first = next(results)

    for child in children():
        os.kill(child.pid, signal.SIGKILL)

    assert [str(number).encode() * 100_000 for number in range(40)] == [first, *results]


@pytest.mark.parametrize("possible", [0, 1])
def test_where_no_more_processes_can_be_started_their_work_is_done_here(monkeypatch, possible):
    fork, files = os.fork, psutil.Process().num_fds()
    left = iter(range(possible))

    def fork_some() -> int:
        if next(left, None) is None:
            raise BlockingIOError("too many processes")
        return fork()

    monkeypatch.setattr(os, "fork", fork_some)
    results = [result.decode().split() for result in in_forks(who, range(20))]

    assert [str(number) for number in range(20)] == [number for number, _ in results]
    assert 20 - 10 * possible == [pid for _, pid in results].count(str(os.getpid()))
    assert files == psutil.Process().num_fds()


def test_what_the_work_raises_is_raised_here():
    def work(number: int) -> bytes:
        if number == 3:
            raise OSError("no such block")
        return b"x"

    results = in_forks(work, range(8))

    assert [b"x"] * 3 == [next(results) for _ in range(3)]
    with pytest.raises(OSError, match="no such block"):
        next(results)


def test_to_close_it_early_ends_its_processes():
    results = in_forks(who, range(10_000))
    next(results)
    assert 2 == len(children())

    results.close()


def test_they_end_with_the_process_that_forked_them():
    program = """if True:
        import os, time
        from cortex.enqueuing.forks import in_forks
        os.sched_getaffinity = lambda _: {0, 1}
        results = in_forks(lambda number: time.sleep(number and 600) or str(os.getpid()).encode(), range(3))
        print(next(results).decode(), flush=True)
        next(results)
    """
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    child = psutil.Process(int(parent.stdout.readline()))
    assert parent.pid == child.ppid()

    parent.kill()
    parent.communicate()

    _, left = psutil.wait_procs([child], timeout=60)
    assert [] == left
