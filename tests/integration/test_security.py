"""An operator with a key: who is let in, and where the key must not show."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from cortex.clients.operator_client import OperatorClient
from cortex.domain.errors import Forbidden, Unauthorized
from operator_process import TIMEOUT_SECONDS, OperatorProcess
from waiting import wait_until

KEY = "Rather-long-and-not-guessed"

CURIOUS = """
    import os

    class PythonPredictor:
        def __init__(self, config):
            print("variables:", dict(os.environ))

        def predict(self, payload):
            return {name: value for name, value in os.environ.items() if "KEY" in name}
"""


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    path.write_text(KEY + "\n")
    path.chmod(0o600)
    return path


@pytest.fixture
def guarded(
    start_operator: Callable[..., OperatorProcess], key_file: Path, monkeypatch: pytest.MonkeyPatch
) -> OperatorProcess:
    """An operator with a key from a file; its requests have it."""
    monkeypatch.setenv("CORTEX_OPERATOR_API_KEY_FILE", str(key_file))
    monkeypatch.setenv("CORTEX_API_KEY", "One-that-is-not-used-by-anybody")
    operator = start_operator("--keep-warm", "600")
    monkeypatch.delenv("CORTEX_API_KEY")
    monkeypatch.delenv("CORTEX_OPERATOR_API_KEY_FILE")
    operator.http.headers["Authorization"] = f"Bearer {KEY}"
    return operator


def cortex(config: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command line with a configuration of its own."""
    environment = {**os.environ, "CORTEX_CLI_CONFIG_DIR": str(config), **variables}
    return subprocess.run(
        [sys.executable, "-m", "cortex", *words],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        env=environment,
        check=False,
    )


def test_only_who_has_the_key_is_let_in_but_everybody_sees_that_it_is_there(guarded: OperatorProcess) -> None:
    with OperatorClient(guarded.address, KEY) as friend:
        assert friend.apis() == []
    with OperatorClient(guarded.address) as stranger:
        assert stranger.health()["status"] == "ok"
        with pytest.raises(Unauthorized, match=r"cortex env configure NAME .*--api-key"):
            stranger.apis()
    with OperatorClient(guarded.address, "One-that-is-not-used-by-anybody") as other, pytest.raises(Forbidden):
        other.apis()


def test_a_large_request_without_a_key_sees_why_it_is_refused(guarded: OperatorProcess) -> None:
    answer = httpx.post(f"{guarded.address}/_cortex/deploy", content=b"x" * 20_000_000, timeout=TIMEOUT_SECONDS)

    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")


def test_a_worker_has_a_token_of_its_job_and_nothing_else_shows_a_key(guarded: OperatorProcess, key_file: Path) -> None:
    guarded.deploy(CURIOUS)
    job = guarded.submit([1])
    log_of_all = [guarded.wait(job)["status"], guarded.log(job), str(guarded.rows(job))]
    ((variables),) = guarded.rows(job)
    token = variables["CORTEX_API_KEY"]
    guarded.wait_until_at_rest(blanks=1)
    processes = guarded.worker_processes()
    assert guarded.process is not None
    arguments = [" ".join(process.cmdline()) for process in [psutil.Process(guarded.process.pid), *processes]]
    environments = [str(process.environ()) for process in processes]
    answers = [guarded.http.get(path).text for path in ("/_cortex/info", "/_cortex/apis/api", f"/api/{job}", "/docs")]

    assert token.startswith(f"{job}.")
    assert log_of_all[0] == "status_succeeded"
    assert processes != []
    for text in [*log_of_all, *arguments, *environments, *answers]:
        assert KEY not in text
        assert str(key_file) not in text
        assert "One-that-is-not-used" not in text
    assert guarded.stop() == ""
    kept = {path: path.read_bytes() for path in guarded.data_dir.rglob("*") if path.is_file()}
    assert kept != {}
    assert [
        path for path, content in kept.items() if KEY.encode() in content or str(key_file).encode() in content
    ] == []
    with_token = {path.name for path, content in kept.items() if token.encode() in content}
    # Where the predictor itself has written it; the ledger has the rows of a small job until they are synced.
    assert {"log", "rows"} == {name.rpartition(".")[2] for name in with_token} - {"sqlite", "sqlite-wal"}


def test_a_token_ends_with_its_job(guarded: OperatorProcess) -> None:
    guarded.deploy(CURIOUS)
    job = guarded.submit([1])
    guarded.wait(job)
    token = guarded.rows(job)[0]["CORTEX_API_KEY"]

    answer = guarded.http.get("/api", headers={"Authorization": f"Bearer {token}"})

    assert (answer.status_code, answer.json()["kind"]) == (403, "request.forbidden")
    assert "no longer in progress" in answer.json()["message"]


def test_workers_of_a_template_each_have_the_token_of_their_own_job(guarded: OperatorProcess) -> None:
    guarded.deploy(CURIOUS)
    jobs = [guarded.submit([1]) for _ in range(2)]
    for job in jobs:
        guarded.wait(job)

    tokens = [guarded.rows(job)[0]["CORTEX_API_KEY"] for job in jobs]
    # What it forks has its name at first.
    wait_until(lambda: 1 == len(guarded.worker_processes("cortex-template")), "there is one template")

    assert jobs == [token.partition(".")[0] for token in tokens]


def test_the_command_line_says_what_is_wrong_with_a_key(guarded: OperatorProcess, tmp_path: Path) -> None:
    def configure(*more: str) -> str:
        command = ("env", "configure", "far", "--operator-endpoint", guarded.address)
        return cortex(tmp_path, *command, *more).stderr

    assert f"answers at {guarded.address}" in configure("--api-key", KEY)
    assert "cortex env configure far" in configure("--api-key", "One-that-is-not-used-by-anybody")
    said = cortex(tmp_path, "get", "--env", "far", "missing")
    assert said.returncode == 1
    assert "cortex env configure far" in said.stderr
    assert "One-that-is-not-used-by-anybody" not in said.stderr


def test_the_operator_of_local_works_whether_the_shell_has_a_key_or_not(tmp_path: Path) -> None:
    try:
        for variables in ({"CORTEX_API_KEY": KEY}, {}, {"CORTEX_API_KEY": "Another-one-that-is-long"}):
            found = cortex(tmp_path, "get", "--env", "local", **variables)
            assert (found.returncode, "error" in found.stderr) == (0, False), found.stderr
    finally:
        assert cortex(tmp_path, "cluster", "down").returncode == 0


def test_an_operator_in_the_foreground_on_the_data_of_local_takes_the_key_of_the_shell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CORTEX_API_KEY", KEY)
    operator = OperatorProcess(tmp_path / "local").start()
    monkeypatch.delenv("CORTEX_API_KEY")
    try:
        without, with_key = cortex(tmp_path, "get"), cortex(tmp_path, "get", CORTEX_API_KEY=KEY)
    finally:
        operator.stop()

    assert (without.returncode, with_key.returncode) == (1, 0)
    assert "CORTEX_API_KEY" in without.stderr


def test_it_tells_who_sees_its_data_directory_that_it_is_the_one(operator: OperatorProcess) -> None:
    note: dict[str, Any] = json.loads((operator.data_dir / "operator.json").read_text())
    before = operator.http.get("/_cortex/info").json()["instance"]
    operator.stop()
    operator.start()

    assert note["instance"] == before
    assert operator.http.get("/_cortex/info").json()["instance"] != before
