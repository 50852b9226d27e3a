"""A process of a replica is started and stopped by a supervisor as a Worker is."""

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from channel_peer import TIMEOUT_SECONDS, Peer, listen
from cortex.domain.frame import Frame
from cortex.worker import start
from lone_replica import WORKER, prepare

PREDICTOR = """
    import os, threading

    imported_in = os.getpid()

    class {name}:
        def __init__(self, {arguments}): ...

        def predict(self, payload):
            print(payload, flush=True)
            if payload == b"for ever":
                threading.Event().wait()
            return [imported_in == os.getpid(), os.getpid()]
"""
PYTHON = PREDICTOR.format(name="PythonPredictor", arguments="config")


class Supervised:
    """A supervisor, and what it has been told to start; the test is their operator."""

    def __init__(self, root: Path) -> None:
        self._listener = listen(root / "channel")
        command = [sys.executable, "-P", start.__file__, "supervisor", str(root / "channel"), "lone"]
        self._process = subprocess.Popen(command)
        self.supervisor = Peer(self._listener)
        self._peers = [self.supervisor]
        self.log = root / "api" / "log"

    def start(self, order: Frame, **changes: Any) -> Peer:
        """Have a process started; it has introduced itself."""
        place = {"job_id": order["job_id"], "devices": [], "millicores": 0, "mem_bytes": 0, "gpus": 0}
        frame = {
            "type": "start",
            "python": sys.executable,
            "env": dict(os.environ),
            "log": str(self.log),
            "log_limit_bytes": 10**6,
            "log_rotates": True,
            "keep_warm_seconds": 0,
            "heartbeat_seconds": TIMEOUT_SECONDS,
            "place": place,
            "order": order,
        }
        self.supervisor.send({**frame, **changes})
        self._peers.append(Peer(self._listener))
        return self._peers[-1]

    def hear(self, kind: str) -> Frame:
        """Give what the supervisor says next of this kind."""
        while (frame := self.supervisor.hear())["type"] != kind:
            continue
        return frame

    def end(self) -> None:
        self.supervisor.send({"type": "end"})
        self._process.wait(TIMEOUT_SECONDS)
        for peer in self._peers:
            peer.close()
        self._listener.close()


@pytest.fixture
def order(tmp_path: Path) -> Frame:
    return prepare(tmp_path, PYTHON, {"threads_per_process": 2})


@pytest.fixture
def supervised(tmp_path: Path) -> Iterator[Supervised]:
    supervised = Supervised(tmp_path)
    yield supervised
    supervised.end()


def ask(replica: Peer, body: bytes) -> bytes:
    replica.send({"type": "request", "id": 1, "content_type": None}, body)
    answer: bytes = replica.hear()["data"]
    return answer


def test_it_is_forked_from_a_template_and_its_output_is_in_the_log_of_its_api(
    supervised: Supervised, order: Frame
) -> None:
    replica = supervised.start(order)
    pid = supervised.hear("started")["pid"]

    assert f"[false,{pid}]".encode() == ask(replica, b"hello")
    replica.send({"type": "end"})
    assert {"worker": WORKER, "exit_status": 0}.items() <= supervised.hear("exited").items()
    assert supervised.log.read_text().splitlines()[-1] == "b'hello'"


def test_it_is_stopped_in_the_middle_of_predict(supervised: Supervised, order: Frame) -> None:
    replica = supervised.start(order)
    for identity, body in enumerate([b"for ever", b"2"]):
        replica.send({"type": "request", "id": identity, "content_type": "text/x"}, body)
    assert 1 == replica.hear()["id"]

    supervised.supervisor.send({"type": "stop", "worker": WORKER, "at_once": True, "grace_seconds": TIMEOUT_SECONDS})

    assert -signal.SIGTERM == supervised.hear("exited")["exit_status"]


def test_its_log_is_rotated(supervised: Supervised, order: Frame) -> None:
    replica = supervised.start(order, log_limit_bytes=100_000)
    for _ in range(5):
        ask(replica, b"x" * 20_000)
    replica.send({"type": "end"})
    supervised.hear("exited")

    older, latest = (path.read_text() for path in (supervised.log.with_name("log.1"), supervised.log))
    printed = [line for line in (older + latest).splitlines() if line.startswith("b'")]  # often two of them at once
    assert {"b'" + "x" * 20_000 + "'"} == set(printed)
    assert latest.endswith(f"{printed[-1]}\n")
    assert older.endswith("\n")


@pytest.mark.parametrize(
    ("kind", "name", "module"),
    [("onnx", "ONNXPredictor", "onnxruntime"), ("tensorflow", "TensorFlowPredictor", "tensorflow")],
)
def test_one_whose_library_is_missing_says_so(
    supervised: Supervised, tmp_path: Path, kind: str, name: str, module: str
) -> None:
    source = textwrap.dedent(PREDICTOR.format(name=name, arguments=f"{kind}_client, config"))
    order = prepare(tmp_path, f"import sys\nsys.modules['{module}'] = None\n{source}", {"predictor_type": kind})

    replica = supervised.start({**order, "predictor_type": kind})

    assert "failed" == replica.hello["phase"]
    assert (
        f"{'an' if kind == 'onnx' else 'a'} `{name}` needs `{module}`, which is not installed" in replica.hello["error"]
    )


def test_an_order_of_an_earlier_operator_is_that_of_a_worker_of_a_job(supervised: Supervised, order: Frame) -> None:
    earlier = {key: value for key, value in order.items() if key not in {"serves", "predictor_type"}}

    worker = supervised.start(earlier, log_rotates=False)

    assert ("ready", False) == (worker.hello["phase"], "serves" in worker.hello)
