"""The client can be used in a predictor's environment, and `import cortex` costs nobody anything."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import urllib3
import yaml
from stub_operator import StubOperator

import cortex

CHAIN = """
import cortex

job = cortex.client().submit("next", items=["a"], batch_size=1, retries=2)
print(job.id, *job.results(), job.wait(progress=True)["status"])
"""


@pytest.fixture
def operator() -> Iterator[str]:
    with StubOperator() as stub:
        stub.api("next")
        stub.answers["POST /next"] = {"job_id": "1"}
        stub.answers["GET /next/1/results"] = b'"A"\n'
        ended = {"job_id": "1", "status": "status_succeeded", "created_time": "2020-07-20T01:07:40Z"}
        stub.job(ended | {"end_time": "2020-07-20T01:07:41Z"}, api="next")
        yield stub.address


def test_importing_cortex_imports_nothing_of_the_client() -> None:
    program = "import sys; before = set(sys.modules); import cortex; print(*sorted(set(sys.modules) - before))"

    imported = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout.split()

    assert [name for name in imported if name.split(".")[0] == "cortex"] == ["cortex"]
    assert {"urllib3", "yaml", "rich", "asyncio"}.isdisjoint(imported)


def test_a_hook_submits_a_job_with_urllib3_and_yaml_alone(operator: str, tmp_path: Path) -> None:
    for package in (cortex, urllib3, yaml):
        (tmp_path / package.__name__).symlink_to(Path(package.__file__).parent)
    variables = {"PYTHONPATH": str(tmp_path), "CORTEX_OPERATOR_ENDPOINT": operator}
    command = [sys.executable, "-S", "-c", CHAIN]

    ended = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)

    assert ("1 A status_succeeded\n", 0) == (ended.stdout, ended.returncode), ended.stderr
