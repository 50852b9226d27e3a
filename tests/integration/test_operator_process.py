"""The operator as a process: where it starts, where it refuses to, and how it stops."""

import json
import os
import resource
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from operator_process import TIMEOUT_SECONDS, OperatorProcess

ECHO = "class PythonPredictor:\n    def __init__(self, config): ...\n    def predict(self, payload): return payload\n"


def refused(*options: str, env: dict[str, str] | None = None) -> str:
    """Start an operator that must refuse to; give what it says."""
    command = [sys.executable, "-m", "cortex", "operator", *options]
    found = subprocess.run(
        command, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, env={**os.environ, **(env or {})}, check=False
    )
    assert (found.returncode, found.stdout) == (1, "")
    assert found.stderr.startswith("error: ")
    assert "Traceback" not in found.stderr
    return found.stderr


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.7", "example.org", "::"])
def test_a_host_beyond_loopback_is_refused(tmp_path: Path, host: str) -> None:
    said = refused("--host", host, "--port", "0", "--data-dir", str(tmp_path))

    assert f"`{host}` can be reached from other machines" in said
    assert "hint: " in said


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        said = refused("--port", str(port), "--data-dir", str(tmp_path))

    assert f"cannot listen on 127.0.0.1:{port}" in said
    assert "--port" in said


def test_data_of_a_newer_version_are_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "ledger.sqlite") as ledger:
        ledger.execute("PRAGMA user_version = 999")
    ledger.close()

    said = refused("--port", "0", "--data-dir", str(tmp_path))

    assert "newer version of cortex" in said


def test_a_data_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    said = refused("--port", "0", "--data-dir", str(tmp_path / "file" / "data"))

    assert "data" in said


@pytest.mark.parametrize("folder", ["projects", "uploads", "incoming", "jobs"])
def test_a_folder_that_others_use_is_refused_and_left_as_it_is(tmp_path: Path, folder: str) -> None:
    home = tmp_path / "home"
    precious = home / folder / "mine" / "precious"
    precious.parent.mkdir(parents=True)
    precious.write_text("all my work")
    home.chmod(0o755)

    said = refused("--port", "0", "--data-dir", str(home))

    assert f"it has `{folder}`" in said
    assert precious.read_text() == "all my work"
    assert stat.S_IMODE(home.stat().st_mode) == 0o755


def test_a_full_disk_is_told_to_who_deploys(operator: OperatorProcess) -> None:
    assert operator.process is not None
    _, hard = resource.prlimit(operator.process.pid, resource.RLIMIT_FSIZE)
    for limit, code in ((100_000, 507), (hard, 200)):
        resource.prlimit(operator.process.pid, resource.RLIMIT_FSIZE, (limit, hard))

        assert operator.try_to_deploy(ECHO, files={"weights": "0" * 200_000}).status_code == code

    assert list((operator.data_dir / "uploads").iterdir()) == []
    assert operator.stop() == ""


def test_options_come_from_the_environment_too(tmp_path: Path) -> None:
    said = refused(env={"CORTEX_OPERATOR_HOST": "0.0.0.0", "CORTEX_OPERATOR_DATA_DIR": str(tmp_path)})

    assert "`0.0.0.0`" in said


def test_it_says_where_it_listens_and_keeps_its_data_to_itself(operator: OperatorProcess) -> None:
    announced = json.loads((operator.data_dir / "operator.json").read_text())
    assert operator.process is not None

    assert announced["address"] == operator.address
    assert announced["pid"] == operator.process.pid
    assert stat.S_IMODE(operator.data_dir.stat().st_mode) == 0o700
    assert stat.S_IMODE((operator.data_dir / "channel.sock").stat().st_mode) == 0o600
    assert operator.http.get("/healthz").json()["status"] == "ok"


def test_a_second_operator_on_the_same_data_is_refused(operator: OperatorProcess) -> None:
    said = refused("--port", "0", "--data-dir", str(operator.data_dir))

    assert "another operator runs on the data directory" in said
    assert operator.http.get("/healthz").status_code == 200


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly_with_all_that_it_started(
    start_operator: Callable[..., OperatorProcess], number: signal.Signals
) -> None:
    operator = start_operator("--keep-warm", "600")
    operator.deploy(ECHO)
    operator.wait(operator.submit([1]))
    processes = operator.worker_processes()
    assert operator.process is not None

    process = operator.process
    process.send_signal(number)
    process.wait(TIMEOUT_SECONDS)

    assert (process.returncode, operator.stop()) == (0, "")
    assert processes != []
    assert psutil.wait_procs(processes, timeout=TIMEOUT_SECONDS)[1] == []
    assert not (operator.data_dir / "operator.json").exists()


def test_a_data_directory_may_lie_deep(tmp_path: Path) -> None:
    """The kernel takes 107 characters for the address of a socket."""
    operator = OperatorProcess(tmp_path / ("deep" * 30) / "data", "--keep-warm", "0").start()
    try:
        operator.deploy(ECHO)

        assert operator.wait(operator.submit([1]))["status"] == "status_succeeded"
    finally:
        operator.stop()


def test_a_worker_that_can_never_fit_is_refused_at_deploy(operator: OperatorProcess) -> None:
    answers = [
        operator.try_to_deploy(ECHO, compute=compute) for compute in ({"cpu": 6400}, {"mem": "900Ti"}, {"gpu": 1000})
    ]

    assert [answer.status_code for answer in answers] == [400] * 3
    for answer, field in zip(answers, ("cpu", "mem", "gpu"), strict=True):
        assert f"compute.{field}" in answer.json()["message"]
        assert "the machine has that" in answer.json()["message"]
