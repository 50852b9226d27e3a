"""The operator of `local`: found, started and stopped, against a program that behaves as `cortex operator` promises."""

import fcntl
import json
import os
import shutil
import socket
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from io import TextIOWrapper
from pathlib import Path

import psutil
import pytest
from stub_operator import cortex

from cortex.clients import connect
from cortex.clients import local as background
from cortex.clients.local import LocalOperator
from cortex.domain.errors import OperatorUnreachable, StartRefused
from ports import free_port
from processes import open_files_of

PROGRAM = """
import argparse, fcntl, json, os, pathlib, signal, socketserver, sys
from http.server import BaseHTTPRequestHandler

parser = argparse.ArgumentParser()
for option in ("--host", "--port", "--data-dir", "--ready-fd"):
    parser.add_argument(option)
options = parser.parse_args()
data = pathlib.Path(options.data_dir)
lock = (data / "operator.lock").open("w")
fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        answers = {
            "/_cortex/apis": [],
            "/_cortex/info": {
                "version": "0.1.0", "engine": "processes", "data_dir": options.data_dir, "apis": 0,
                "jobs_in_progress": 0, "machine": {"cpu": 2, "mem": 2**32},
            },
        }
        body = json.dumps(answers[self.path]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

class Server(socketserver.TCPServer):
    allow_reuse_address = True

def stop(*_):
    (data / "operator.json").unlink()
    sys.exit()

with Server((options.host, int(options.port)), Handler) as server:
    signal.signal(signal.SIGTERM, stop)
    address = f"http://127.0.0.1:{server.server_address[1]}"
    description = {"pid": os.getpid(), "address": address, "version": "0.1.0", "started_time": ""}
    (data / "operator.json").write_text(json.dumps(description))
    with open(int(options.ready_fd), "w") as ready:
        ready.write(address + "\\n")
    server.serve_forever()
"""

OVERTAKEN = """
import os, subprocess, sys

reading, writing = os.pipe()
subprocess.Popen([sys.executable, "{program}", *sys.argv[1:-1], str(writing)], pass_fds=[writing])
os.read(reading, 1)
sys.exit("error: another operator runs")
"""
"""Starts as if somebody had started one in the foreground a moment ago."""


@pytest.fixture(name="free_port")
def a_free_port() -> int:
    return free_port()


@pytest.fixture(autouse=True)
def local(tmp_path: Path, free_port: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalOperator]:
    """An operator of `local` that the command line uses, and that ends with the test."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    operator = LocalOperator(data_dir=tmp_path / "cli" / "local", program=(sys.executable, str(program)))
    monkeypatch.setenv("CORTEX_CLI_CONFIG_DIR", str(tmp_path / "cli"))
    monkeypatch.setattr(background, "PORT", free_port)
    monkeypatch.setattr(connect, "local_operator", lambda: operator)
    monkeypatch.setattr("cortex.cli.cluster.local_operator", lambda: operator)
    yield operator
    operator.stop()


def test_there_is_none_at_first_and_looking_leaves_nothing_behind(local: LocalOperator) -> None:
    assert local.find() is None
    assert local.stop() is None
    assert not local.data_dir.exists()


def test_it_is_started_once_and_found_again(local: LocalOperator, free_port: int) -> None:
    started, was_started = local.start()
    again, was_started_again = local.start()

    assert was_started
    assert not was_started_again
    assert started == again == local.find()
    assert started.address == f"http://127.0.0.1:{free_port}"
    assert {folder.stat().st_mode & 0o777 for folder in (local.data_dir, local.data_dir.parent)} == {0o700}


def test_it_is_detached(local: LocalOperator) -> None:
    running, _ = local.start()

    assert os.getsid(running.pid) == running.pid
    assert psutil.Process(running.pid).cwd() == str(local.data_dir)
    assert {"/dev/null", str(local.data_dir / "operator.log")} <= set(open_files_of(running.pid))


def test_many_commands_at_once_start_one(local: LocalOperator) -> None:
    with ThreadPoolExecutor(8) as commands:
        answers = list(commands.map(lambda _: local.start(), range(8)))

    assert len({running.pid for running, _ in answers}) == 1
    assert [was_started for _, was_started in answers].count(True) == 1


def test_whoever_waits_while_the_folder_is_removed_waits_for_whoever_has_come_since(local: LocalOperator) -> None:
    def waits_for(lock: TextIOWrapper) -> bool:
        inode = os.fstat(lock.fileno()).st_ino
        return any("->" in line and f":{inode} " in line for line in Path("/proc/locks").read_text().splitlines())

    def until_waiting(lock: TextIOWrapper) -> None:
        end = time.monotonic() + 10
        while not waits_for(lock):
            assert time.monotonic() < end
            time.sleep(0.01)

    with ThreadPoolExecutor(1) as commands:
        local.data_dir.mkdir(parents=True)
        with (local.data_dir / "start.lock").open("w") as first:
            fcntl.flock(first, fcntl.LOCK_EX)
            command = commands.submit(local.start)
            until_waiting(first)
            shutil.rmtree(local.data_dir)
            local.data_dir.mkdir()
            second = (local.data_dir / "start.lock").open("w")
            fcntl.flock(second, fcntl.LOCK_EX)
        with second:
            until_waiting(second)

        running, _ = command.result()

    assert running == local.find()


def test_one_that_others_have_started_meanwhile_is_used(local: LocalOperator) -> None:
    program = OVERTAKEN.format(program=local.program[1])
    overtaken = LocalOperator(data_dir=local.data_dir, program=(sys.executable, "-c", program))

    running, was_started = overtaken.start()

    assert running == local.find()
    assert not was_started


def test_a_taken_port_is_replaced_by_a_free_one(local: LocalOperator, free_port: int) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", free_port))
        other.listen()

        running, _ = local.start()

    assert running.address != f"http://127.0.0.1:{free_port}"


def test_a_port_that_is_taken_in_the_last_moment_is_replaced_too(
    local: LocalOperator, free_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter([True, False])
    monkeypatch.setattr(background, "_is_free", lambda _: next(answers))
    with socket.socket() as other:
        other.bind(("127.0.0.1", free_port))
        other.listen()

        running, was_started = local.start()

    assert was_started
    assert running.address != f"http://127.0.0.1:{free_port}"


def test_once_stop_returns_it_is_gone(local: LocalOperator) -> None:
    running, _ = local.start()

    stopped = local.stop()

    assert stopped == running
    assert os.waitpid(running.pid, os.WNOHANG)[0] == running.pid
    assert local.find() is None


def test_one_that_cannot_start_shows_the_end_of_this_starts_log(local: LocalOperator) -> None:
    local.data_dir.mkdir(parents=True)
    (local.data_dir / "operator.log").write_text("an older failure\n")
    failing = LocalOperator(
        data_dir=local.data_dir, program=(sys.executable, "-c", "raise SystemExit('error: no room for the ledger')")
    )

    with pytest.raises(StartRefused) as refusal:
        failing.start()

    assert "the operator did not start; its last lines:\nerror: no room for the ledger" in str(refusal.value)
    assert "an older failure" not in str(refusal.value)
    assert str(local.data_dir / "operator.log") in str(refusal.value)


def test_one_that_is_neither_up_nor_down_is_not_taken_for_another(local: LocalOperator) -> None:
    local.data_dir.mkdir(parents=True)
    with (local.data_dir / "operator.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)

        with pytest.raises(OperatorUnreachable, match="just starting or stopping"):
            local.find()


def test_what_a_crashed_operator_left_is_not_a_running_one(local: LocalOperator) -> None:
    local.data_dir.mkdir(parents=True)
    (local.data_dir / "operator.lock").touch()
    (local.data_dir / "operator.json").write_text(json.dumps({"pid": 1, "address": "http://x", "version": "0"}))

    assert local.find() is None
    assert local.stop() is None


def test_a_command_that_needs_an_operator_starts_it_and_says_so(free_port: int) -> None:
    first = cortex("get", "-e", "local")
    second = cortex("get", "-e", "local")

    assert first.stdout == second.stdout == "no apis are deployed\n"
    assert (
        first.stderr == f"started the operator at http://127.0.0.1:{free_port} (stop it with `cortex cluster down`)\n"
    )
    assert second.stderr == ""


def test_by_hand(local: LocalOperator, free_port: int) -> None:
    address = f"http://127.0.0.1:{free_port}"

    before = cortex("cluster", "info")
    up = cortex("cluster", "up")
    again = cortex("cluster", "up")
    info = cortex("cluster", "info")
    as_json = cortex("cluster", "info", "-o", "json")
    down = cortex("cluster", "down")
    after = cortex("cluster", "down")

    pid = json.loads(as_json.stdout)["pid"]
    expected = f"""\
environment:      local
address:          {address}
pid:              {pid}
version:          0.1.0
engine:           processes
machine:          2 cores, 4.0 GiB
data directory:   {local.data_dir}
apis:             0
jobs in progress: 0
"""
    assert before.stderr.startswith("error: no operator runs\n\nhint: `cortex cluster up` starts one")
    assert up.stdout == f"started the operator at {address} (pid {pid})\n"
    assert again.stdout == f"the operator already runs at {address} (pid {pid})\n"
    assert info.stdout == expected
    assert down.stdout == f"stopped the operator at {address} (pid {pid})\n"
    assert after.stdout == "no operator runs\n"


def test_only_the_operator_of_local_is_started_and_stopped() -> None:
    cortex("env", "configure", "prod", "--operator-endpoint", "http://127.0.0.1:9")

    result = cortex("cluster", "down", "-e", "prod")

    assert result.exit_code == 1
    assert "cortex starts and stops the operator of `local` alone, not that of `prod`" in result.stderr
