"""One class of an ONNX predictor answers requests and runs jobs: the example `iris-classifier`, with its own model."""

import json
import random
import shutil
from pathlib import Path
from typing import Any

import httpx
from shell import User

EXAMPLE = Path(__file__).parents[2] / "examples" / "iris-classifier" / "onnx"
PARTS = ("cortex.yaml", "predictor.py", "model.onnx", "sample.json", "job.json")  # the base set has the rest
RANGES = {"sepal_length": (4.3, 7.9), "sepal_width": (2.0, 4.4), "petal_length": (1.0, 6.9), "petal_width": (0.1, 2.5)}


def irises(count: int) -> list[dict[str, float]]:
    """Give measurements as flowers have them, the same ones each time."""
    chance = random.Random(0)  # noqa: S311
    return [{name: round(chance.uniform(*ends), 1) for name, ends in RANGES.items()} for _ in range(count)]


def deploy(user: User) -> None:
    for name in PARTS:
        shutil.copy(EXAMPLE / name, user.folder / name)
    deployed = user.cortex("deploy")
    assert deployed.code == 0, deployed.err


def endpoint(user: User) -> str:
    return str(json.loads(user.cortex("get", "iris-classifier", "-o", "json").out)[0]["endpoint"])


def run_job(user: User, request: dict[str, Any]) -> list[str]:
    """Give the rows of a job."""
    waited = user.cortex("submit", "iris-batch", "-", "--wait", stdin=json.dumps(request))
    assert waited.code == 0, waited.err
    return [json.loads(line) for line in user.cortex("results", "iris-batch", waited.out.strip()).out.splitlines()]


def test_an_onnx_predictor_gives_the_same_rows_to_requests_and_to_a_job(user: User) -> None:
    deploy(user)
    samples = irises(60)

    url = endpoint(user)
    with httpx.Client(timeout=user.timeout_seconds) as http:
        answers = [http.post(url, json=sample) for sample in samples]
        together = http.post(url, json=samples)
    rows = run_job(user, {"workers": 2, "item_list": {"items": samples, "batch_size": 7}})

    assert {(200, "text/plain")} == {(one.status_code, one.headers["content-type"].split(";")[0]) for one in answers}
    assert [answer.text for answer in answers] == rows
    assert together.json() == rows
    assert {"setosa", "versicolor", "virginica"} == set(rows)


def test_the_commands_of_the_example(user: User) -> None:
    deploy(user)

    assert "setosa\n" == user.cortex("predict", "iris-classifier", "sample.json").out
    assert ["setosa", "versicolor", "virginica"] == run_job(user, json.loads((EXAMPLE / "job.json").read_text()))
