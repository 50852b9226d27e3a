"""Clients that send numbered requests to a RealtimeAPI all the time, and the predictor's own record of them.

Every number is sent once. The predictor writes it down with its process and answers with it, so that both together say
what was lost, mixed up, or done twice.
"""

import http.client
import itertools
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import psutil

from operator_process import TIMEOUT_SECONDS, OperatorProcess
from processes import is_alive
from waiting import wait_until

ECHO: Final = """
import os
import time


class PythonPredictor:
    def __init__(self, config):
        self.record = os.open(config["record"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self.gate = config.get("gate")
        self.seconds = config.get("seconds", 0)
        self.edition = config.get("edition", 1)

    def predict(self, payload):
        os.write(self.record, b"%d %d\\n" % (payload, os.getpid()))
        while self.gate and not os.path.exists(self.gate):
            time.sleep(0.005)
        time.sleep(self.seconds)
        return [payload, self.edition]
"""
"""Answers a number with the number and an edition, once a gate is there, if one is given."""


_POLL_SECONDS: Final = 0.02
"""Looking takes time from those who work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """What a client got for a number."""

    number: int
    status: int
    body: Any
    has_retry_after: bool


@dataclass(slots=True)
class Clients:
    """What clients have sent, and what they got; `problems` are requests that ended without an answer."""

    address: str
    answers: list[Answered] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=itertools.count)
    _is_over: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def sending(self, count: int) -> Iterator[None]:
        """Let so many send one request after the other while a block runs; afterwards all are answered."""
        self._is_over.clear()
        threads = [threading.Thread(target=self._send_until_over) for _ in range(count)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._is_over.set()
            for thread in threads:
                thread.join()

    def burst(self, count: int) -> None:
        """Send so many at once, and wait for all answers."""
        threads = [threading.Thread(target=self._send_one) for _ in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def wait_for_more(self, count: int) -> None:
        """Wait until so many more were answered, whatever the answer was."""
        wanted = len(self.answers) + count
        wait_until(
            lambda: len(self.answers) >= wanted or self.problems,
            f"{count} more are answered",
            poll_seconds=_POLL_SECONDS,
        )

    def statuses(self) -> Counter[int]:
        """Count the answers by their status."""
        return Counter(each.status for each in self.answers)

    def not_good(self) -> list[Answered]:
        """Give the answers other than 200."""
        return [each for each in self.answers if each.status != http.HTTPStatus.OK]

    def mixed_up(self) -> list[Answered]:
        """Give the good answers to another number than was sent."""
        return [each for each in self.answers if each.status == http.HTTPStatus.OK and each.body[0] != each.number]

    def editions(self) -> list[int]:
        """Give which editions of the predictor have answered, in the order in which answers came."""
        return [each.body[1] for each in self.answers if each.status == http.HTTPStatus.OK]

    def _send_until_over(self) -> None:
        connection = http.client.HTTPConnection(self.address, timeout=TIMEOUT_SECONDS)
        while not self._is_over.is_set():
            self._send(connection, next(self._numbers))
        connection.close()

    def _send_one(self) -> None:
        connection = http.client.HTTPConnection(self.address, timeout=TIMEOUT_SECONDS)
        self._send(connection, next(self._numbers))
        connection.close()

    def _send(self, connection: http.client.HTTPConnection, number: int) -> None:
        try:
            connection.request("POST", "/api", str(number), {"Content-Type": "application/json"})
            response = connection.getresponse()
            body = json.loads(response.read())
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            self.problems.append(f"{number}: {type(error).__name__}: {error}")
            return
        has_retry_after = response.getheader("Retry-After") is not None
        self.answers.append(Answered(number=number, status=response.status, body=body, has_retry_after=has_retry_after))


class LoadedApi:
    """A RealtimeAPI of an operator, its clients, and its predictor's record."""

    def __init__(self, operator: OperatorProcess, folder: Path) -> None:
        self.operator = operator
        self.clients = Clients(operator.address.removeprefix("http://"))
        self.gate = folder / "gate"
        self.record = folder / "record"
        self.record.touch()

    def deploy(self, *, config: dict[str, Any] | None = None, processes: int = 1, **autoscaling: Any) -> None:
        """Deploy it with these fields of `autoscaling`."""
        self.operator.deploy_realtime(
            ECHO,
            config={"record": str(self.record), **(config or {})},
            processes_per_replica=processes,
            sections={"autoscaling": autoscaling},
        )

    def describe(self) -> dict[str, Any]:
        """Ask the operator how it is served."""
        response = self.operator.http.get("/_cortex/apis/api")
        assert response.status_code == 200, response.text
        found: dict[str, Any] = response.json()
        return found

    def replicas(self) -> dict[str, Any]:
        """Give its numbers of replicas."""
        counts: dict[str, Any] = self.describe()["status"]["replica_counts"]
        return counts

    def requests(self) -> dict[str, Any]:
        """Give what the operator has counted."""
        counts: dict[str, Any] = self.describe()["metrics"]["network_stats"]
        return counts

    def wait_for_replicas(self, ready: int) -> None:
        """Wait until there are so many, all of the present version, and no others."""

        def are_there() -> bool:
            counts = self.replicas()
            updated = counts["updated"]
            others = sum(counts["stale"].values()) + sum(updated.values()) - updated["ready"]
            return bool(updated["ready"] == ready and others == 0)

        wait_until(are_there, f"there are {ready} replicas", poll_seconds=_POLL_SECONDS)

    def wait_for(self, is_so: Callable[[], Any], what: str) -> None:
        """Wait until something is so."""
        wait_until(is_so, what, poll_seconds=_POLL_SECONDS)

    def wait_until_gone(self, processes: Iterable[psutil.Process]) -> None:
        """Wait until these processes are no more."""
        wait_until(lambda: not any(map(is_alive, processes)), "they are gone", poll_seconds=_POLL_SECONDS)

    def entries(self) -> list[tuple[int, int]]:
        """Give the record: each number that has come to predict, and the process that it came to."""
        lines = self.record.read_text().splitlines()
        return [(int(number), int(pid)) for number, pid in (line.split() for line in lines)]

    def done_twice(self) -> list[int]:
        """Give the numbers that have come to predict more than once."""
        return [number for number, count in Counter(number for number, _ in self.entries()).items() if count > 1]

    def not_done(self) -> set[int]:
        """Give the numbers that have a good answer, and never came to predict."""
        good = {each.number for each in self.clients.answers} - {each.number for each in self.clients.not_good()}
        return good - {number for number, _ in self.entries()}

    def processes(self) -> list[psutil.Process]:
        """Give its living processes that have come to predict."""
        found = []
        for pid in {pid for _, pid in self.entries()}:
            with suppress(psutil.NoSuchProcess):
                found.append(psutil.Process(pid))
        return [process for process in found if is_alive(process)]
