"""Predictors with models, in a real operator: from the project, from S3 and from the operator's machine."""

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from operator_process import TIMEOUT_SECONDS, OperatorProcess
from s3_server import S3
from shared_operators import SharedOperators
from tiny_models import write_scale

PREDICTOR = """
    class ONNXPredictor:
        def __init__(self, onnx_client, config):
            self.client = onnx_client
            self.name = config.get("model")

        def predict(self, payload):
            (rows,) = self.client.predict(payload, self.name)
            return rows
"""
ROWS = [[1, 2, 3, 4], [5, 6, 7, 8], [0, 0, 0, 1]]


def deploy(operator: OperatorProcess, **what: Any) -> None:
    operator.deploy(PREDICTOR, type="onnx", **what)


def run(operator: OperatorProcess, **more: Any) -> tuple[dict[str, Any], list[Any], str]:
    """Run a job; give its status, rows and log."""
    job = operator.submit(ROWS, batch_size=2, **more)
    return operator.wait(job), operator.rows(job), operator.log(job)


def environment(operator: OperatorProcess) -> dict[str, str]:
    found: dict[str, str] = operator.http.get("/_cortex/apis/api").json()["environment"]
    return found


def until(condition: Callable[[], Any]) -> None:
    """Wait for a fact that nobody announces."""
    give_up_at = time.monotonic() + TIMEOUT_SECONDS
    while not condition():
        assert time.monotonic() < give_up_at
        time.sleep(0.01)


def times(factor: float) -> list[list[float]]:
    return [[number * factor for number in row] for row in ROWS]


def written(tmp_path: Path, factor: float = 2.0) -> bytes:
    return write_scale(tmp_path / "models" / f"{factor}.onnx", factor).read_bytes()


@pytest.fixture
def s3_operator(s3: S3, shared_operators: SharedOperators) -> Any:
    """An operator that reaches the bucket: `s3` comes before it."""
    with shared_operators.one("--keep-warm", "0") as operator:
        yield operator


def test_a_model_of_the_project(operator: OperatorProcess, tmp_path: Path) -> None:
    deploy(operator, model_path="models", files={"models/2/scale.onnx": written(tmp_path)})

    status, rows, log = run(operator)

    assert "status_succeeded" == status["status"], log
    assert times(2) == rows
    assert "fetching model" not in log
    assert {"status": "none", "message": ""} == environment(operator)


def test_several_models_are_called_by_name_wherever_they_lie(operator: OperatorProcess, tmp_path: Path) -> None:
    write_scale(tmp_path / "elsewhere" / "1" / "triple.onnx", 3)
    models = [
        {"name": "double", "model_path": "double.onnx"},
        {"name": "triple", "model_path": str(tmp_path / "elsewhere")},
    ]
    deploy(operator, models=models, files={"double.onnx": written(tmp_path)})

    assert times(2) == run(operator, config={"model": "double"})[1]
    assert times(3) == run(operator, config={"model": "triple"})[1]


def test_a_model_in_s3_is_fetched_once_and_again_when_it_has_changed(
    s3_operator: OperatorProcess, s3: S3, tmp_path: Path
) -> None:
    url = s3.url("models/scale.onnx")
    s3.put("models/scale.onnx", body=written(tmp_path, 2))
    deploy(s3_operator, model_path=url)

    first = run(s3_operator)
    second = run(s3_operator)
    s3.put("models/scale.onnx", body=written(tmp_path, 3))
    third = run(s3_operator)

    assert [times(2), times(2), times(3)] == [rows for _, rows, _ in (first, second, third)], first[2]
    assert "fetching model" not in second[2]
    assert f"fetching model {url} (" in third[2]
    assert f"fetched model {url}\n" in third[2]
    assert "ready" == environment(s3_operator)["status"]
    assert 2 == len(list((s3_operator.data_dir / "models").iterdir()))


def test_replicas_have_models_too_and_get_what_has_changed_with_a_refresh(
    s3_operator: OperatorProcess, s3: S3, tmp_path: Path
) -> None:
    s3.put("scale.onnx", body=written(tmp_path, 2))
    s3_operator.deploy_realtime(PREDICTOR, type="onnx", model_path=s3.url("scale.onnx"))

    assert times(2) == s3_operator.http.post("/api", json=ROWS).json()

    s3.put("scale.onnx", body=written(tmp_path, 3))
    assert 200 == s3_operator.http.post("/_cortex/apis/api/refresh").status_code
    until(lambda: s3_operator.http.post("/api", json=ROWS).json() == times(3))


def test_requests_of_an_api_whose_model_cannot_be_had_are_told_why(s3_operator: OperatorProcess, s3: S3) -> None:
    s3_operator.deploy_realtime(PREDICTOR, type="onnx", model_path=s3.url("scale.onnx"))

    answer = s3_operator.http.post("/api", json=ROWS)

    assert 503 == answer.status_code
    assert f"there is nothing at `{s3.url('scale.onnx')}`" in answer.json()["message"]


def test_what_is_no_model_ends_the_job_and_shows_at_the_api(s3_operator: OperatorProcess, s3: S3) -> None:
    s3.put("models/a.txt")
    deploy(s3_operator, model_path=s3.url("models/"))

    status, rows, log = run(s3_operator)

    message = f"model {s3.url('models/')}: there is no `.onnx` file in `{s3.url('models/')}`; found `a.txt`"
    assert ("status_worker_error", []) == (status["status"], rows)
    assert message in status["status_reason"]
    assert f"{message}\n\nhint: the path of an ONNX model is" in log
    shown = environment(s3_operator)
    assert "failed" == shown["status"]
    assert shown["message"].startswith(message)


def test_what_is_no_model_of_the_project_is_named_as_it_is_there(operator: OperatorProcess) -> None:
    deploy(operator, model_path="models", files={"models/a.txt": "x"})

    status, _, _ = run(operator)

    assert "status_worker_error" == status["status"]
    message = "model models: there is no `.onnx` file in `models/`; found `a.txt`"
    assert message in status["status_reason"]
    assert environment(operator)["message"].startswith(message)


def test_fetched_models_that_no_version_names_are_pruned(s3_operator: OperatorProcess, s3: S3, tmp_path: Path) -> None:
    s3.put("a.onnx", body=written(tmp_path, 2))
    s3.put("b.onnx", body=written(tmp_path, 3))
    deploy(s3_operator, model_path=s3.url("a.onnx"))
    run(s3_operator)
    deploy(s3_operator, model_path=s3.url("b.onnx"))
    run(s3_operator)

    answer = s3_operator.http.post("/_cortex/prune", json={"older_than": "0s"}).json()

    assert 1 == {one["kind"]: one["count"] for one in answer["removed"]}["models"]
    (left,) = (s3_operator.data_dir / "models").iterdir()
    assert s3.url("b.onnx") == json.loads((left / "model.json").read_text())["url"]
    assert times(3) == run(s3_operator)[1]


def test_an_operator_that_is_killed_or_stopped_while_it_fetches_leaves_nothing_that_is_taken_for_whole(
    start_operator: Callable[..., OperatorProcess], s3: S3, tmp_path: Path
) -> None:
    s3.put("scale.onnx", body=written(tmp_path))
    let_go = threading.Event()
    s3.faults.before(let_go.wait, times=3, matching="/scale.onnx")  # when it is read: a listing asks for the bucket
    operator = start_operator(env=s3.env)
    deploy(operator, model_path=s3.url("scale.onnx"))
    try:
        for end in (operator.kill, operator.stop):
            until(lambda: environment(operator)["status"] == "building")
            until(lambda: list((operator.data_dir / "uploads").iterdir()))
            assert not end()
            assert not (operator.data_dir / "models").exists()
            operator.start()
            job = operator.submit(ROWS, batch_size=2)
    finally:
        let_go.set()

    assert "status_succeeded" == operator.wait(job)["status"], operator.log(job)
    assert 1 == len(list((operator.data_dir / "models").iterdir()))
    assert [] == list((operator.data_dir / "uploads").iterdir())
