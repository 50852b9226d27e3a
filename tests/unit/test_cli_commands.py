"""The commands that ask an operator: what goes to stdout, what to stderr, and how they exit."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from stub_operator import Refusal, StubOperator, Then, cortex, cut_off

from cortex.cli import watch
from cortex.cli.main import COMMANDS
from cortex.clients import waiting as wait
from cortex.clients.bar import progress_bar
from cortex.clients.progress import TerseProgress

JOB = "69d6faf82e4660d3"


pytestmark = pytest.mark.usefixtures("configuration")


@pytest.fixture
def operator(stub: StubOperator) -> StubOperator:
    return stub


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look without a pause between."""
    monkeypatch.setattr(watch, "INTERVAL_SECONDS", 0)
    monkeypatch.setattr(wait, "LONGEST_PAUSE_SECONDS", 0)
    monkeypatch.setattr(wait, "FIRST_PAUSE_SECONDS", 0)


def job(succeeded: int = 0, *, failed: int = 0, status: str = "running", **changes: Any) -> dict[str, Any]:
    return {
        "job_id": JOB,
        "api_name": "image-classifier",
        "workers": 1,
        "api_id": "v1",
        "status": f"status_{status}",
        "total_batch_count": 10,
        "batch_metrics": {"succeeded": succeeded, "failed": failed},
        "created_time": "2020-07-20T01:07:40Z",
        "start_time": "2020-07-20T01:07:44Z",
    } | changes


def ended(succeeded: int = 10, *, status: str = "succeeded", **changes: Any) -> dict[str, Any]:
    return job(succeeded, status=status, end_time="2020-07-20T01:11:10Z", **changes)


def test_get_an_api(operator: StubOperator) -> None:
    endpoint = operator.api()

    result = cortex("get", "image-classifier", "-e", "stub")

    assert f"no submitted jobs\n\nendpoint: {endpoint}\n" == result.stdout
    assert result.stderr == ""


def test_commands_may_be_cut_short(operator: StubOperator) -> None:
    operator.api()

    assert cortex("get", "image-classifier").stdout == cortex("g", "image-classifier").stdout
    assert "`de` may be `deploy` or `delete`" in cortex("de").stderr
    assert cortex("nonsense").exit_code == 2


def test_get_as_json_is_what_the_operator_says(operator: StubOperator) -> None:
    endpoint = operator.api(jobs=(job(),))

    everything = json.loads(cortex("get", "-o", "json").stdout)
    stub = json.loads(cortex("get", "-o", "json", "-e", "stub").stdout)
    api = json.loads(cortex("get", "image-classifier", "-o", "json").stdout)
    one = json.loads(cortex("get", "image-classifier", JOB, "-o", "json").stdout)

    assert [{"env_name": "stub", "apis": stub, "error": ""}] == everything
    assert [each["name"] for each in stub] == ["image-classifier"]
    assert [
        {"spec": {"name": "image-classifier", "kind": "BatchAPI"}, "endpoint": endpoint, "job_statuses": [job()]}
    ] == api
    assert {"job_status": job(), "endpoint": endpoint} == one


@pytest.mark.parametrize("words", [["get"], ["get", "-o", "json"]])
def test_an_output_that_is_full_is_told_in_a_line(operator: StubOperator, words: list[str]) -> None:
    operator.api()

    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "cortex", *words]
        ended = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)

    assert 1 == ended.returncode
    assert re.fullmatch(r"error: .*No space left on device\n", ended.stderr)


def test_get_lists_the_apis_of_every_environment(operator: StubOperator) -> None:
    operator.api()
    with StubOperator() as gone:
        pass
    cortex("env", "configure", "gone", "--operator-endpoint", gone.address)

    everywhere = cortex("get")
    here = cortex("get", "-e", "stub")
    there = cortex("get", "-e", "gone")

    assert re.match(r"env    batch api .*\nstub   image-classifier   0 ", everywhere.stdout)
    assert f"not shown: no operator answers at `{gone.address}`" in everywhere.stdout
    assert here.stdout.startswith("batch api ")
    assert there.exit_code == 1
    assert there.stderr.startswith("error: no operator answers")


def test_watching_a_job_off_a_terminal_writes_what_changes_and_ends_with_the_job(
    operator: StubOperator, impatient: None
) -> None:
    operator.api(jobs=(job(),))
    operator.job(job(status="enqueuing"), job(1), job(1), job(9, failed=1), ended(9, status="worker_oom", failed=1))

    result = cortex("get", "image-classifier", JOB, "--watch")

    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "enqueuing: 0/10 batches",
        "running: 1/10 batches",
        "running: 9/10 batches, 1 failed",
        "out of memory: 9/10 batches, 1 failed",
    ]


def test_watching_shows_how_files_are_enqueued_and_why_a_job_has_failed(
    operator: StubOperator, impatient: None
) -> None:
    operator.api(jobs=(job(),))
    progress = [{"files_listed": 1, "batches_enqueued": 0}, {"files_listed": 7, "batches_enqueued": 10}]
    reason = "s3://b/urls.json:3: is not JSON"
    operator.job(
        *(job(status="enqueuing", enqueuing=each) for each in progress),
        ended(0, status="enqueue_failed", total_batch_count=0, status_reason=reason),
    )

    result = cortex("get", "image-classifier", JOB, "--watch")

    assert result.stdout.splitlines() == [
        "enqueuing: listed 1 file, enqueued 0 batches",
        "enqueuing: listed 7 files, enqueued 10 batches",
        "failed while enqueuing: 0/0 batches",
        f"reason: {reason}",
    ]


def test_watching_is_for_people(operator: StubOperator) -> None:
    assert cortex("get", "--watch", "-o", "json").exit_code == 2


def on_a_terminal(*words: str, **variables: str) -> tuple[str, int]:
    """Run a command with a terminal of 60 columns as its stdin, stdout and stderr; return what it drew."""
    controlling, terminal = pty.openpty()
    environment = os.environ | {"COLUMNS": "60", "LINES": "24", "TERM": "xterm"} | variables
    with subprocess.Popen(
        [sys.executable, "-m", "cortex", *words], stdin=terminal, stdout=terminal, stderr=terminal, env=environment
    ) as process:
        os.close(terminal)
        drawn = b""
        try:
            while chunk := os.read(controlling, 65536):
                drawn += chunk
        except OSError:  # nobody writes any more
            pass
        os.close(controlling)
    return drawn.decode().replace("\r\n", "\n"), process.returncode


def test_watching_a_job_on_a_terminal_redraws_in_place(operator: StubOperator) -> None:
    operator.api(jobs=(job(),))
    operator.job(ended())

    drawn, code = on_a_terminal("get", "image-classifier", JOB, "--watch")

    assert code == 0
    header, *_ = drawn[drawn.index("$") :].splitlines()
    assert re.fullmatch(r"\$ cortex get image-classifier [-0-9a-f w]+\d+:\d\d:\d\d[ap]m \w+\x1b\[K", header)
    assert 60 + len("\x1b[K") == len(header)
    assert f"job id: {JOB}\x1b[K" in drawn
    assert drawn.endswith("\x1b[J")


def test_colour_is_for_terminals_and_only_where_it_is_wanted(operator: StubOperator) -> None:
    operator.api(jobs=(ended(),))

    coloured, _ = on_a_terminal("get", "image-classifier")
    plain, _ = on_a_terminal("get", "image-classifier", NO_COLOR="1")

    assert "\x1b[1mjob id" in coloured
    assert "\x1b" not in plain
    assert "\x1b" not in cortex("get", "image-classifier").stdout


def test_logs_of_the_newest_job(operator: StubOperator) -> None:
    operator.api(jobs=(ended(), ended() | {"job_id": "older"}))
    operator.answers[f"GET /image-classifier/{JOB}/logs?follow=true"] = b"spinning up workers...\n"

    result = cortex("logs", "image-classifier", "-e", "stub")

    assert result.exit_code == 0
    assert result.stdout == "spinning up workers...\n"
    assert result.stderr == ""


def test_logs_follow_a_job_and_say_how_it_ended(operator: StubOperator) -> None:
    operator.api(jobs=(job(),))
    operator.job(job(), ended(3, status="worker_error"))
    operator.answers[f"GET /image-classifier/{JOB}/logs?follow=true"] = b"processing batch\n"

    result = cortex("logs", "image-classifier", JOB, "-e", "stub")

    assert result.exit_code == 0
    assert result.stdout == "processing batch\n"
    assert f"job {JOB} has ended: worker error: 3/10 batches\n" == result.stderr


def test_logs_of_an_operator_that_goes_away(operator: StubOperator) -> None:
    operator.api(jobs=(job(),))
    operator.answers[f"GET /image-classifier/{JOB}/logs?follow=true"] = cut_off(b"processing batch\n")

    result = cortex("logs", "image-classifier", JOB)

    assert result.exit_code == 1
    assert result.stdout == "processing batch\n"
    assert f"error: the operator at `{operator.address}` went away in the middle of its answer" in result.stderr
    assert "hint: what it has accepted is safe" in result.stderr


def test_a_key_that_is_asked_for_is_named_with_the_environment(operator: StubOperator) -> None:
    operator.answers["GET /_cortex/apis"] = Refusal(
        401, "request.unauthorized", "a key is asked for\n\nhint: --api-key"
    )
    command = f"cortex env configure stub --operator-endpoint {operator.address} --api-key KEY"

    result = cortex("logs", "image-classifier", "-e", "stub")

    assert result.exit_code == 1
    assert f"error: a key is asked for\n\nhint: give `stub` a key: `{command}`\n" == result.stderr


def test_logs_without_any_job(operator: StubOperator) -> None:
    operator.api()

    result = cortex("logs", "image-classifier", "-e", "stub")

    assert result.exit_code == 1
    assert (
        result.stderr
        == "error: `image-classifier` has no jobs yet\n\nhint: `cortex submit image-classifier FILE` submits one\n"
    )


def test_an_api_that_is_not_there(operator: StubOperator) -> None:
    operator.api("iris")

    for command in (["logs"], ["results", JOB], ["get", JOB], ["delete", JOB]):
        result = cortex(command[0], "image-classifier", *command[1:], "-e", "stub")

        assert result.exit_code == 1
        assert (
            result.stderr == "error: `image-classifier` is not deployed\n\nhint: `cortex get` lists the APIs that are\n"
        )


def test_results_are_the_bare_bytes(operator: StubOperator) -> None:
    operator.api(jobs=(job(),))
    rows = '{"class": "Zürich"}\r\n[1]\n'.encode()
    operator.answers[f"GET /image-classifier/{JOB}/results"] = rows
    operator.answers[f"GET /image-classifier/{JOB}/results?follow=true"] = rows + b"[2]\n"

    so_far = cortex("results", "image-classifier", JOB)
    to_the_end = cortex("results", "image-classifier", JOB, "--follow")

    assert rows == so_far.stdout_bytes
    assert rows + b"[2]\n" == to_the_end.stdout_bytes


def test_no_results_are_explained(operator: StubOperator) -> None:
    operator.api(jobs=(ended(),))
    operator.answers[f"GET /image-classifier/{JOB}/results"] = b""

    result = cortex("results", "image-classifier", JOB, "-e", "stub")

    assert result.stdout == ""
    assert result.stderr == "no results (succeeded: 10/10 batches); results are what `predict` returns\n"


def test_results_stop_quietly_when_the_reader_has_seen_enough(operator: StubOperator) -> None:
    operator.api(jobs=(ended(),))
    operator.answers[f"GET /image-classifier/{JOB}/results"] = b'"row"\n' * 1_000_000
    command = [sys.executable, "-m", "cortex", "results", "image-classifier", JOB, "-e", "stub"]

    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as results:
        assert results.stdout is not None
        assert results.stderr is not None
        first = results.stdout.readline()
        results.stdout.close()
        complaints = results.stderr.read()

    assert first == b'"row"\n'
    assert complaints == b""
    assert results.returncode == 128 + signal.SIGPIPE


def test_delete_prints_what_the_operator_says(operator: StubOperator) -> None:
    operator.api()
    operator.answers |= {
        f"DELETE /image-classifier/{JOB}": {"message": f"stopped job {JOB}"},
        "DELETE /_cortex/apis/image-classifier": {"message": "deleting image-classifier"},
        "DELETE /_cortex/apis/iris": Refusal(404, "api.not_found", "`iris` is not deployed"),
    }

    assert f"stopped job {JOB}\n" == cortex("delete", "image-classifier", JOB).stdout
    assert cortex("delete", "image-classifier").stdout == "deleting image-classifier\n"
    assert cortex("delete", "iris", "-e", "stub").stderr == "error: `iris` is not deployed\n"


def test_submit_prints_the_id_alone_and_talks_to_stderr(operator: StubOperator, tmp_path: Path) -> None:
    operator.api()
    operator.answers["POST /image-classifier"] = {"job_id": JOB}
    (tmp_path / "job.json").write_text('{"workers": 1}')
    expected = f"""
cortex get image-classifier {JOB} --watch  (show the job until it has ended)
cortex logs image-classifier {JOB}         (follow its log)
cortex results image-classifier {JOB}      (print its results)
cortex delete image-classifier {JOB}       (stop it)
"""

    from_file = cortex("submit", "image-classifier", str(tmp_path / "job.json"), "-e", "stub")
    from_stdin = cortex("submit", "image-classifier", "-", "-e", "stub", input='{"workers": 2}')
    as_json = cortex("submit", "image-classifier", "-", "-o", "json", input="{}")

    assert f"{JOB}\n" == from_file.stdout == from_stdin.stdout
    assert expected == from_file.stderr
    assert json.loads(as_json.stdout) == {"job_id": JOB}
    bodies = [request.body for request in operator.requests if request.line == "POST /image-classifier"]
    assert bodies == [b'{"workers": 1}', b'{"workers": 2}', b"{}"]


def test_a_refused_submission_shows_the_message(operator: StubOperator) -> None:
    operator.api()
    message = "`item_list.batch_size` must be at least 1, got `0`\n\nhint: leave it out"
    operator.answers["POST /image-classifier"] = Refusal(400, "submission.invalid", message)

    result = cortex("submit", "image-classifier", "-", input="{}", catch_exceptions=False)

    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.endswith(f"error: {message}\n")


def test_waiting_for_a_job_that_succeeds(operator: StubOperator, impatient: None) -> None:
    operator.api()
    operator.answers["POST /image-classifier"] = {"job_id": JOB}
    operator.job(job(status="enqueuing"), job(), job(), ended())

    result = cortex("submit", "image-classifier", "-", "--wait", "-e", "stub", input="{}")

    assert result.exit_code == 0
    assert f"{JOB}\n" == result.stdout
    assert result.stderr.splitlines() == [
        "enqueuing: 0/10 batches",
        "running: 0/10 batches",
        "succeeded: 10/10 batches in 3m26s",
    ]


@pytest.mark.parametrize(
    ("end", "message"),
    [
        (ended(9, status="worker_error", status_reason="`__init__` raised"), "worker error: `__init__` raised"),
        (ended(9, status="stopped"), "stopped"),
    ],
)
def test_waiting_for_a_job_that_does_not_succeed(
    operator: StubOperator, impatient: None, end: dict[str, Any], message: str
) -> None:
    operator.api()
    operator.answers["POST /image-classifier"] = {"job_id": JOB}
    operator.job(job(), end)

    result = cortex("submit", "image-classifier", "-", "--wait", input="{}")

    assert result.exit_code == 1
    assert result.stderr.endswith(
        f"\nerror: job `{JOB}` ended: {message}\n\nhint: `cortex logs image-classifier {JOB}` shows its log\n"
    )


def test_waiting_shows_how_files_are_enqueued(
    operator: StubOperator, impatient: None, capsys: pytest.CaptureFixture[str]
) -> None:
    operator.api()
    operator.answers["POST /image-classifier"] = {"job_id": JOB}
    enqueuing = job(status="enqueuing", enqueuing={"files_listed": 7, "batches_enqueued": 10})
    operator.job(enqueuing, ended())

    result = cortex("submit", "image-classifier", "-", "--wait", input="{}")
    with progress_bar() as show:
        show(enqueuing)

    assert "enqueuing: listed 7 files, enqueued 10 batches\n" in result.stderr
    assert re.search(r"^enqueuing\s+listed 7 files, enqueued 10 batches$", capsys.readouterr().err, re.MULTILINE)


def test_waiting_outlives_a_restart_of_the_operator(operator: StubOperator, impatient: None) -> None:
    operator.api()
    operator.answers["POST /image-classifier"] = {"job_id": JOB}
    states = operator.answers
    states[f"GET /image-classifier/{JOB}"] = Then(cut_off(), {"job_status": ended(), "endpoint": ""})

    assert cortex("submit", "image-classifier", "-", "--wait", input="{}").exit_code == 0


def test_waiting_ends_when_the_operator_stays_away(
    operator: StubOperator, impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wait, "PATIENCE_SECONDS", 0)
    operator.api()
    operator.answers["POST /image-classifier"] = {"job_id": JOB}
    operator.answers[f"GET /image-classifier/{JOB}"] = cut_off()

    result = cortex("submit", "image-classifier", "-", "--wait", input="{}")

    assert result.exit_code == 1
    assert f"hint: the job goes on once the operator is back: `cortex get image-classifier {JOB}`\n" in result.stderr


def test_waiting_on_a_terminal_draws_a_bar(operator: StubOperator, tmp_path: Path) -> None:
    operator.api()
    operator.answers["POST /image-classifier"] = {"job_id": JOB}
    operator.job(job(), job(3, failed=1), ended(8, status="completed_with_failures", failed=2))
    (tmp_path / "job.json").write_text("{}")

    drawn, code = on_a_terminal("submit", "image-classifier", str(tmp_path / "job.json"), "--wait")

    assert code == 1
    assert "completed with failures" in drawn
    assert "8/10, 2 failed" in drawn
    assert "━" in drawn


def test_an_upload_on_a_terminal_draws_a_bar(operator: StubOperator, tmp_path: Path) -> None:
    operator.api()
    operator.answers["POST /image-classifier"] = {"job_id": JOB}
    operator.answers["GET /_cortex/info"] = {"data_dir": "/nowhere", "instance": "another"}
    (tmp_path / "items.jsonl").write_text("1\n" * 1024)

    drawn, code = on_a_terminal("submit", "image-classifier", "--lines", str(tmp_path / "items.jsonl"))

    assert code == 0
    assert "uploading" in drawn
    assert "2.0/2.0 KiB" in drawn
    assert "uploading 1 file" not in drawn


def test_progress_says_what_a_job_waits_for(capsys: pytest.CaptureFixture[str]) -> None:
    progress = TerseProgress(clock=lambda: 0.0)

    for counts in (
        {"pending": 2},
        {"pending": 2},
        {"pending": 1, "initializing": 1},
        {"initializing": 1, "running": 1},
    ):
        progress.show(job(worker_counts=counts))
    progress.show(job(1, worker_counts={"pending": 1}))

    assert capsys.readouterr().err.splitlines() == [
        "running: 0/10 batches, 2 workers pending",
        "running: 0/10 batches, 1 worker initializing",
        "running: 0/10 batches",
        "running: 1/10 batches",
    ]


def test_progress_of_a_job_that_is_paused_says_so_and_goes_on_with_it(capsys: pytest.CaptureFixture[str]) -> None:
    now = 0.0
    progress = TerseProgress(clock=lambda: now)

    for count, status in ((0, "running"), (5, "running"), (5, "paused"), (5, "paused"), (5, "running"), (6, "running")):
        now += 1
        progress.show(job(count, status=status))

    assert capsys.readouterr().err.splitlines() == [
        "running: 0/10 batches",
        "running: 5/10 batches, 5.0 batches/s, 1s left",
        "paused: 5/10 batches, until it is resumed",
        "running: 5/10 batches",
        "running: 6/10 batches, 1.0 batches/s, 4s left",
    ]


def test_terse_progress_is_terse(capsys: pytest.CaptureFixture[str]) -> None:
    now = 0.0
    progress = TerseProgress(clock=lambda: now)

    for count in (0, 0, 5, 5, 5, 5, 5, 5, 10, 11, 12, 13, 14, 15, 25):
        now += 1
        progress.show(job(count, total_batch_count=100))

    assert capsys.readouterr().err.splitlines() == [
        "running: 0/100 batches",
        "running: 5/100 batches, 1.0 batches/s, 1m35s left",
        "running: 10/100 batches, 1.2 batches/s, 1m12s left",
        "running: 15/100 batches, 1.2 batches/s, 1m13s left",
        "running: 25/100 batches, 1.8 batches/s, 42s left",
    ]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "cortex.yaml").write_text("- name: image-classifier\n")
    (folder / "predictor.py").write_text("class PythonPredictor: ...\n")
    monkeypatch.chdir(folder)
    return folder


def deployment(name: str, **changes: str) -> dict[str, Any]:
    return {"api": {"name": name, "kind": "BatchAPI"}, "message": f"created {name} (BatchAPI)", "error": ""} | changes


def test_deploy_says_what_became_of_the_api_and_what_to_do_next(operator: StubOperator, project: Path) -> None:
    operator.answers["POST /_cortex/deploy"] = [deployment("image-classifier")]
    cortex("env", "default", "local")

    result = cortex("deploy", "-e", "stub")

    assert result.exit_code == 0
    assert result.stdout == "created image-classifier (BatchAPI)\n"
    assert (
        result.stderr
        == """
cortex get --env stub                           (show api statuses)
cortex get image-classifier --env stub          (show api info)
cortex submit image-classifier FILE --env stub  (submit a job)
"""
    )
    assert b'name="config"; filename="cortex.yaml"' in operator.requests[-1].body


def test_deploy_of_several_apis(operator: StubOperator, project: Path) -> None:
    operator.answers["POST /_cortex/deploy"] = [deployment("a"), deployment("b", message="b (BatchAPI) is up to date")]

    result = cortex("deploy", "./cortex.yaml")
    as_json = cortex("deploy", "-o", "json")

    assert result.stdout == "created a (BatchAPI)\nb (BatchAPI) is up to date\n"
    assert "cortex get <api_name>" in result.stderr
    assert json.loads(as_json.stdout)[1] == deployment("b", message="b (BatchAPI) is up to date")


def test_deploy_fails_where_one_api_has_failed(operator: StubOperator, project: Path) -> None:
    operator.answers["POST /_cortex/deploy"] = [deployment("a"), deployment("b", message="", error="b: no such class")]

    result = cortex("deploy", "-e", "stub")

    assert result.exit_code == 1
    assert result.stdout == "created a (BatchAPI)\n"
    assert result.stderr == "error: b: no such class\n"


def test_deploy_without_a_configuration_file(operator: StubOperator, project: Path) -> None:
    missing = cortex("deploy", "elsewhere/cortex.yaml")
    folder = cortex("deploy", ".")

    assert missing.exit_code == 1
    assert missing.stderr.startswith(f"error: there is no `elsewhere/cortex.yaml` in {project}\n\nhint: change to")
    assert folder.stderr == (
        "error: `.` cannot be read: Is a directory\n\nhint: name the file: `cortex deploy cortex.yaml`\n"
    )
    assert operator.requests == []


def test_help_and_version_import_nothing_heavy() -> None:
    program = """
import sys
from cortex.cli.main import main
for words in (["--help"], ["version"], ["version", "--help"]):
    try:
        main(words)
    except SystemExit as end:
        assert end.code == 0, end.code
heavy = {"urllib3", "rich", "pydantic", "asyncio", "starlette", "uvicorn", "numpy", "sqlite3"}
print("heavy:", sorted(heavy & set(sys.modules)))
import cortex.cli.get
print("with HTTP:", "urllib3" in sys.modules, "rich" in sys.modules)
"""

    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert "heavy: []" in result.stdout
    assert "with HTTP: True False" in result.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str) -> None:
    result = cortex(name, "--help")

    assert result.exit_code == 0
    assert result.stdout.startswith(f"Usage: cortex {name} ")
