"""What a job asks for besides its dataset, from cortex.yaml and the submission to its status and its workers."""

import json
import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from operator_process import OperatorProcess

ECHO = """
    class PythonPredictor:
        def __init__(self, config):
            pass

        def predict(self, payload):
            return payload
"""

DEFAULTS = {
    "retries": {"attempts": 3, "backoff": "2s", "no_retry": ["KeyError"]},
    "batch_timeout": "30s",
    "timeout": "2h",
    "max_failures": "5%",
    "on_failed_batch": "isolate",
}
RETRIES = {"attempts": 3, "backoff": 2.0, "max_backoff": 60.0, "no_retry": ["KeyError"]}
SHOWN = {
    "retries": RETRIES,
    "batch_timeout": 30.0,
    "timeout": 7200.0,
    "max_failures": "5%",
    "on_failed_batch": "isolate",
}
NAMES = {*SHOWN, "results", "rerun_of"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OperatorProcess]:
    """An operator with an API that has defaults, `careful`, and one that has none, `plain`."""
    server = OperatorProcess(tmp_path_factory.mktemp("operator") / "data").start()
    server.deploy(ECHO, name="careful", job=DEFAULTS)
    server.deploy(ECHO, name="plain")
    yield server
    assert server.stop() == ""


def asked(status: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in status.items() if name in NAMES}


def test_a_job_without_options_shows_none_and_counts_its_items(server: OperatorProcess) -> None:
    status = server.wait(server.submit([1, 2, 3], api="plain", batch_size=2), api="plain")

    assert {} == asked(status)
    assert {"succeeded": 3, "failed": 0} == status["item_metrics"]


def test_the_defaults_of_an_api_hold_for_its_jobs(server: OperatorProcess) -> None:
    status = server.wait(server.submit([1], api="careful"), api="careful")

    assert SHOWN == asked(status)


def test_a_submission_overrides_defaults_and_switches_them_off(server: OperatorProcess) -> None:
    more = {"retries": {"attempts": 2}, "batch_timeout": None, "timeout": 90, "max_failures": 0}

    status = server.wait(server.submit([1], api="careful", on_failed_batch=None, **more), api="careful")

    assert {"retries": {**RETRIES, "attempts": 2}, "timeout": 90.0, "max_failures": 0} == asked(status)


def test_results_are_shown_with_the_folder_of_the_job(server: OperatorProcess, tmp_path: Path) -> None:
    results = {"path": f"{tmp_path}/out/", "format": "csv", "include_input": True}

    job = server.submit([1], api="plain", results=results)

    assert {"results": {**results, "path": f"{tmp_path}/out/{job}"}} == asked(server.wait(job, api="plain"))


def test_workers_are_told_what_to_do_where_predict_raises(server: OperatorProcess) -> None:
    job = server.submit([1], api="careful")
    server.wait(job, api="careful")

    setup = json.loads((server.data_dir / "jobs" / job / "setup.json").read_text())
    assert {"attempts": 3, "no_retry": ["KeyError"], "isolate": True} == setup["policy"]
    assert job == setup["names_batches"]


def test_a_dry_run_checks_the_options_too(server: OperatorProcess) -> None:
    request = {"workers": 1, "item_list": {"items": [1], "batch_size": 1}, "retries": -1}

    answer = server.http.post("/plain?dryRun=true", json=request)

    assert (400, "submission.invalid") == (answer.status_code, answer.json()["kind"])


def test_what_a_job_asks_for_outlives_the_operator(tmp_path: Path) -> None:
    server = OperatorProcess(tmp_path / "data").start()
    server.deploy(ECHO, job=DEFAULTS)
    job = server.submit([1])
    server.wait(job)

    server.kill()
    server.start()

    assert SHOWN == asked(server.status(job))
    assert DEFAULTS["retries"].items() <= server.http.get("/_cortex/apis/api").json()["spec"]["job"]["retries"].items()  # type: ignore[attr-defined]
    server.stop()


def test_the_defaults_of_a_job_are_checked_when_its_api_is_deployed(server: OperatorProcess) -> None:
    answer = server.try_to_deploy(ECHO, name="wrong", job={"retries": -1, "results": {"path": "out"}})

    assert (400, "configuration.invalid") == (answer.status_code, answer.json()["kind"])
    assert "wrong (BatchAPI): job.retries: got `-1` (integer), must be a number of" in answer.json()["message"]
    assert "wrong (BatchAPI): job.results.path: `out` is not absolute" in answer.json()["message"]


@pytest.fixture
def without_pyarrow(tmp_path: Path) -> Iterator[OperatorProcess]:
    """An operator whose Python has no pyarrow, installed or not."""
    (tmp_path / "hide").mkdir()
    hidden = "import importlib.util as util\nfind = util.find_spec\n"
    hidden += "util.find_spec = lambda name, package=None: None if name == 'pyarrow' else find(name, package)\n"
    (tmp_path / "hide" / "sitecustomize.py").write_text(hidden)
    path = os.pathsep.join([str(tmp_path / "hide"), *filter(None, [os.environ.get("PYTHONPATH")])])
    server = OperatorProcess(tmp_path / "data", env={"PYTHONPATH": path}).start()
    yield server
    server.stop()


def test_parquet_is_refused_at_deploy_and_at_submission_where_it_cannot_be_written(
    without_pyarrow: OperatorProcess, tmp_path: Path
) -> None:
    results = {"path": f"{tmp_path}/out", "format": "parquet"}
    without_pyarrow.deploy(ECHO)
    request = {"workers": 1, "item_list": {"items": [1], "batch_size": 1}, "results": results}

    deployed = without_pyarrow.try_to_deploy(ECHO, name="b", job={"results": results})
    submitted = without_pyarrow.http.post("/api", json=request)

    assert (400, 400) == (deployed.status_code, submitted.status_code)
    assert "b (BatchAPI): job.results.format: `parquet` needs pyarrow, which is" in deployed.json()["message"]
    assert submitted.json()["message"].startswith("results.format: `parquet` needs pyarrow, which is not installed")
    for refusal in (deployed, submitted):
        assert "install `cortex[parquet]` there, or choose `jsonl` or `csv`" in refusal.json()["message"]


@pytest.mark.skipif(find_spec("pyarrow") is None, reason="pyarrow is an extra")
def test_parquet_is_taken_where_it_can_be_written(server: OperatorProcess, tmp_path: Path) -> None:
    job = server.submit([1], api="plain", results={"path": f"{tmp_path}/out", "format": "parquet"})

    assert server.wait(job, api="plain")["results"]["format"] == "parquet"
