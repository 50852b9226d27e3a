"""`cortex verify`: what it shows, and its exit code."""

from typing import Any

import pytest
from stub_operator import StubOperator, cortex

JOB = "69d6faf82e4660d3"
CHECKED = {
    "batches": 3,
    "succeeded": 2,
    "failed": 1,
    "open": 0,
    "items": 6,
    "succeeded_items": 4,
    "failed_items": 2,
    "open_items": 0,
    "rows": 4,
    "bytes": 120,
    "files": 3,
    "inputs": 2,
}


@pytest.fixture
def operator(stub: StubOperator) -> StubOperator:
    job = {"job_id": JOB, "api_name": "shout", "workers": 1, "api_id": "v1", "status": "status_succeeded"}
    stub.api("shout", jobs=({**job, "created_time": "2020-07-20T01:07:40Z"},))
    return stub


def found(**changes: Any) -> dict[str, Any]:
    usual = {"job_id": JOB, "is_complete": True, "is_intact": True, "checked": CHECKED, "problems": [], "notes": []}
    return {**usual, **changes}


@pytest.mark.parametrize("words", [["verify", "shout"], ["verify", "shout", JOB]])
def test_a_job_that_is_complete_and_intact_exits_with_0(operator: StubOperator, words: list[str]) -> None:
    operator.answers[f"GET /shout/{JOB}/verify"] = found()

    verified = cortex(*words)

    assert (0, "using stub environment\n") == (verified.exit_code, verified.stderr)
    assert verified.stdout.splitlines() == [
        "job:          69d6faf82e4660d3",
        "complete:     yes",
        "intact:       yes",
        "batches:      3 (2 succeeded, 1 failed, 0 open)",
        "items:        6 (4 succeeded, 2 failed, 0 open)",
        "rows:         4 (120 bytes read)",
        "result files: 3",
        "input files:  2",
    ]


def test_what_is_damaged_is_told_with_what_to_do(operator: StubOperator) -> None:
    operator.answers[f"GET /shout/{JOB}/verify"] = found(
        is_intact=False, problems=["batch b: gone"], notes=["by the way"]
    )

    verified = cortex("verify", "shout", JOB)

    assert 1 == verified.exit_code
    assert verified.stdout.endswith("\n\nproblems\nbatch b: gone\n\nnotes\nby the way\n")
    assert f"cortex rerun shout {JOB} --all" in verified.stderr


def test_a_job_that_is_not_complete_exits_with_1(operator: StubOperator) -> None:
    operator.answers[f"GET /shout/{JOB}/verify"] = found(is_complete=False)

    verified = cortex("verify", "shout", JOB)

    assert (1, True) == (verified.exit_code, "complete:     no\n" in verified.stdout)
    assert f"cortex get shout {JOB}" in verified.stderr


def test_as_json_it_is_what_the_operator_found(operator: StubOperator) -> None:
    operator.answers[f"GET /shout/{JOB}/verify"] = found(is_complete=False)

    verified = cortex("verify", "shout", JOB, "-o", "json")

    assert (1, '"is_complete": false' in verified.stdout) == (verified.exit_code, True)
