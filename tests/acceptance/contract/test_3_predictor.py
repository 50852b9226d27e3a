"""Section 3 of the contract: the predictor."""

import json
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from contract_world import ECHO, AtOperator, Gate

from cortex.environments import BASE_SET
from operator_process import OperatorProcess, follow_lines

CURIOUS = """
    import os, sys

    class PythonPredictor:
        def __init__(self, config, job_spec):
            self.seen = {"config": config, "job_spec": job_spec}

        def predict(self, payload, batch_id):
            import below
            print("in predict")
            print("to stderr", file=sys.stderr)
            if payload == ["fail"]:
                raise ValueError("as asked")
            variables = {name: os.environ.get(name) for name in ("A", "B")}
            more = {"files": sorted(os.listdir(".")), "below": below.NAME, "variables": variables}
            return {**self.seen, "payload": payload, "batch_id": batch_id, **more}

        def on_job_complete(self):
            print("the hook ran")
"""


@pytest.fixture
def curious(operator: OperatorProcess) -> OperatorProcess:
    """The operator with a predictor that gives back all that it sees."""
    operator.deploy(
        CURIOUS,
        name="curious",
        config={"model": {"path": "m", "size": 1}, "labels": [1]},
        env={"B": "from predictor.env"},
        python_path="lib",
        files={"lib/below.py": "NAME = 'below'\n", ".env": "A=1\nB=2\n"},
    )
    return operator


@pytest.mark.parametrize(
    ("init", "predict"),
    [
        ("self, config", "self, payload"),
        ("self, config, job_spec", "self, payload, batch_id"),
        ("self, job_spec, config", "self, batch_id, payload"),
    ],
)
def test_arguments_are_passed_by_name_and_only_those_that_are_named(
    operator: OperatorProcess, init: str, predict: str
) -> None:
    """Class `PythonPredictor` in `predictor.path` …"""
    source = f"""
        class PythonPredictor:
            def __init__({init}):
                assert config == {{"is": "config"}}

            def predict({predict}):
                return {{"payload": payload}}
        """
    operator.deploy(source, name="named", config={"is": "config"})

    job = operator.submit([1], api="named")

    assert operator.wait(job, api="named")["status"] == "status_succeeded", operator.log(job, api="named")
    assert [{"payload": [1]}] == operator.rows(job, api="named")  # a list, even of one


@pytest.mark.parametrize(
    ("said", "source"),
    [
        ("PythonPredictor", "class Predictor:\n    pass\n"),
        ("__init__", "class PythonPredictor:\n    def __init__(self): ...\n    def predict(self, payload): ...\n"),
        ("predict", "class PythonPredictor:\n    def __init__(self, config): ...\n"),
        ("item", "class PythonPredictor:\n    def __init__(self, config): ...\n    def predict(self, item): ...\n"),
        (
            "on_job_complete",
            ECHO + "\n    def on_job_complete(self, job): ...\n",
        ),
    ],
    ids=["class", "no config", "no predict", "unknown argument", "hook"],
)
def test_a_class_that_cannot_work_is_refused_at_deploy_without_importing_it(
    operator: OperatorProcess, said: str, source: str
) -> None:
    """Class `PythonPredictor` in `predictor.path` …: the signature is checked at deploy time."""
    refused = operator.try_to_deploy(f"import no_such_module\n{source}", name="refused")
    accepted = operator.try_to_deploy(f"import no_such_module\n{ECHO}", name="accepted")

    assert (400, "predictor.invalid") == (refused.status_code, refused.json()["kind"])
    assert said in refused.json()["message"]
    assert accepted.status_code == 200


def test_the_signature_is_checked_again_in_the_worker(operator: OperatorProcess) -> None:
    """Class `PythonPredictor` in `predictor.path` …: and again in the worker."""
    made_elsewhere = f"{ECHO}\nPythonPredictor.predict = lambda self, item: item\n"
    operator.deploy(made_elsewhere, name="late")

    status = operator.wait(operator.submit([1], api="late"), api="late")

    assert status["status"] == "status_worker_error"
    assert "predict" in status["status_reason"]
    assert "item" in status["status_reason"]


def test_the_config_of_a_job_is_merged_into_that_of_the_api(curious: OperatorProcess) -> None:
    """`config` = the API's `predictor.config` …"""
    job = curious.submit(["x"], api="curious", config={"model": {"size": 2}, "labels": [2], "more": None})
    curious.wait(job, api="curious")

    (seen,) = curious.rows(job, api="curious")
    assert {"model": {"path": "m", "size": 2}, "labels": [2], "more": None} == seen["config"]


def test_a_predictor_is_told_of_its_job(curious: OperatorProcess) -> None:
    """`job_spec` holds job_id …"""
    job = curious.submit(["x", "y"], api="curious", workers=2, config={"labels": [2]})
    status = curious.wait(job, api="curious")

    seen, _ = (row["job_spec"] for row in curious.rows(job, api="curious"))
    assert {
        "job_id": job,
        "api_name": "curious",
        "config": {"labels": [2]},
        "workers": 2,
        "total_batch_count": 2,
        "start_time": status["start_time"],
        "created_time": status["created_time"],
    } == seen


def test_a_worker_has_the_project_its_variables_and_the_log(curious: OperatorProcess) -> None:
    """The worker's working directory is the project …"""
    job = curious.submit(["x", "fail"], api="curious")
    curious.wait(job, api="curious")

    (seen,) = curious.rows(job, api="curious")
    log = curious.log(job, api="curious")
    assert {"predictor.py", "lib"} <= set(seen["files"])
    assert {"A": "1", "B": "from predictor.env"} == seen["variables"]
    assert seen["below"] == "below"
    for written in ("in predict", "to stderr", "Traceback", "ValueError: as asked", "the hook ran"):
        assert written in log


def test_a_project_without_requirements_runs_on_the_base_set(operator: OperatorProcess) -> None:
    """The base set that the tutorial relies on …"""
    modules = "requests, boto3, numpy, PIL.Image, yaml, msgspec, orjson"
    operator.deploy(f"import {modules}\n{ECHO}", name="based")

    job = operator.submit([1], api="based")

    assert operator.wait(job, api="based")["status"] == "status_succeeded", operator.log(job, api="based")
    assert operator.http.get("/_cortex/apis/based").json()["environment"] == {"status": "none", "message": ""}
    assert "install" not in operator.log(job, api="based")


def test_requirements_that_fail_end_the_job_with_the_installers_words(
    operator: OperatorProcess, at_operator: AtOperator
) -> None:
    """The base set that the tutorial relies on …: environments are built after deploy has answered; a failure …"""
    name = "no-such-package-of-anybody-9f3a"
    operator.deploy(ECHO, name="failing", files={"requirements.txt": f"{name}==1.0\n"})

    status = operator.wait(operator.submit([1], api="failing"), api="failing")

    assert status["status"] == "status_worker_error"
    assert name in status["status_reason"]
    assert name in at_operator.out("get", "failing")


def test_requirements_are_installed_over_the_base_set_in_an_environment_of_their_own(
    start_operator: Callable[..., OperatorProcess], tmp_path: Path
) -> None:
    """The base set that the tutorial relies on …: others get an isolated environment, and torch its CPU build."""
    packages = [("mine", "1.0"), ("mine", "2.0"), ("numpy", "1.0"), ("torch", "2.1"), ("torch", "2.0+cpu")]
    for name, version in [*packages, *((name, "99.0") for name in BASE_SET)]:
        make_wheel(tmp_path, name, version)
    only_these = {"PIP_CONFIG_FILE": "/dev/null", "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path)}
    operator = start_operator("--keep-warm", "0", env=only_these)
    versions = "[[mine.version, numpy.version, requests.version, torch.version]]"
    source = f"import mine, numpy, requests, torch\n{ECHO.replace('return payload', f'return {versions}')}"
    jobs = {}
    for api, requirements in (("first", "mine<2\nnumpy<2\ntorch\n"), ("second", "mine\ntorch\n")):
        operator.deploy(source, name=api, files={"requirements.txt": requirements})
        jobs[api] = operator.submit([1], api=api)

    ended = {api: operator.wait(job, api=api)["status"] for api, job in jobs.items()}
    log = operator.log(jobs["first"], api="first")

    assert {"first": "status_succeeded", "second": "status_succeeded"} == ended, log
    rows = [operator.rows(job, api=api) for api, job in jobs.items()]
    assert [[["1.0", "1.0", "99.0", "2.0+cpu"]], [["2.0", "99.0", "99.0", "2.0+cpu"]]] == rows
    assert "torch 2.0+cpu is the CPU build" in log


def make_wheel(folder: Path, name: str, version: str) -> Path:
    """Make a package of one module that knows its version; but the worker would use one that is called orjson."""
    python = f"cp{sys.version_info.major}{sys.version_info.minor}" if "+" in version else "py3"
    wheel = folder / f"{name}-{version}-{python}-none-any.whl"
    information = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": f"version = '{version}'\n" if name != "orjson" else "raise ImportError\n",
        f"{information}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{information}/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {python}-none-any\n",
        f"{information}/RECORD": "",
    }
    with zipfile.ZipFile(wheel, "w") as content:
        for path, text in files.items():
            content.writestr(path, text)
    return wheel


def test_a_project_is_sent_without_what_does_not_belong_to_it(at_operator: AtOperator) -> None:
    """Project packaging: `.cortexignore` …"""
    listing = "sorted(str(path) for path in pathlib.Path().rglob('*') if path.is_file())"
    predictor = f"import pathlib\nHERE = {listing}\n{ECHO.replace('return payload', 'return HERE')}"
    config = "- name: packed\n  kind: BatchAPI\n  predictor: {type: python, path: packed/predictor.py}\n"
    files = {"cortex.yaml": config, "packed/predictor.py": predictor, ".env": "A=1\n", ".hidden": "", "kept.txt": ""}
    files |= {"data/big.bin": "", "data/keep.bin": "", "notes.pyc": "", "packed/__pycache__/x.pyc": ""}
    files |= {".cortexignore": "data/*\n!data/keep.bin\n*.md\n", "README.md": ""}
    for name, text in files.items():
        at_operator.user.write(f"packing/{name}", text)

    at_operator.out("deploy", "packing/cortex.yaml")
    job = at_operator.cortex("submit", "packed", "-", "--wait", stdin=json.dumps(ONE_ITEM)).out.strip()

    rows = [json.loads(line) for line in at_operator.out("results", "packed", job).splitlines()]
    sent = [name for name in rows[0] if not name.startswith("packed/__pycache__/predictor.")]  # written since
    assert [".env", "data/keep.bin", "kept.txt", "packed/predictor.py"] == sent


ONE_ITEM = {"workers": 1, "item_list": {"items": [1], "batch_size": 1}}


def test_a_running_job_stays_on_its_version(operator: OperatorProcess, gate: Gate) -> None:
    """Running jobs stay on the version they were submitted to …"""
    source = """
        class PythonPredictor:
            def __init__(self, config):
                print("constructing", flush=True)
                with open(config["gate"]) as gate:
                    gate.read()

            def predict(self, payload):
                return "VERSION"
        """
    operator.deploy(source.replace("VERSION", "old"), name="moving")
    old = operator.submit([1], api="moving", config={"gate": str(gate.path)})
    assert any("constructing" in line for line in follow_lines(operator, old, api="moving"))
    operator.deploy(source.replace("VERSION", "new"), name="moving")
    gate.open()
    ended = operator.wait(old, api="moving")
    new = operator.submit([1], api="moving", config={"gate": "/dev/null"})

    assert ended["api_id"] != operator.wait(new, api="moving")["api_id"]
    assert [["old"], ["new"]] == [operator.rows(job, api="moving") for job in (old, new)]
