"""`cortex rerun`, `cortex pause` and `cortex resume`: what they ask for, and what they say."""

import json
from typing import Any

import pytest
from stub_operator import Refusal, StubOperator, Then, cortex

JOB, MADE = "69d6faf82e4660d3", "69d6faf82e4660d2"
RERUN = f"POST /image-classifier/{JOB}/rerun"


@pytest.fixture(autouse=True)
def operator(stub: StubOperator) -> StubOperator:
    stub.api()
    stub.answers[RERUN] = {"job_id": MADE, "rerun_of": JOB}
    return stub


def job(status: str, succeeded: int) -> dict[str, Any]:
    return {
        "job_id": MADE,
        "api_name": "image-classifier",
        "workers": 1,
        "api_id": "v1",
        "status": f"status_{status}",
        "total_batch_count": 10,
        "batch_metrics": {"succeeded": succeeded, "failed": 10 - succeeded},
        "created_time": "2020-07-20T01:07:40Z",
        "start_time": "2020-07-20T01:07:44Z",
        **({} if status == "running" else {"end_time": "2020-07-20T01:08:44Z"}),
    }


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], {"what": "failed", "version": "current"}),
        (["--all"], {"what": "all", "version": "current"}),
        (["--hook", "--original"], {"what": "hook", "version": "original"}),
        (["--workers", "4"], {"what": "failed", "version": "current", "workers": 4}),
        (["--workers", "2-8"], {"what": "failed", "version": "current", "workers": {"min": 2, "max": 8}}),
    ],
)
def test_a_rerun_asks_for_what_its_options_say(
    operator: StubOperator, words: list[str], expected: dict[str, Any]
) -> None:
    said = cortex("rerun", "image-classifier", JOB, *words)

    assert (0, f"{MADE}\n") == (said.exit_code, said.stdout)
    assert expected == json.loads(operator.requests[-1].body)
    assert operator.requests[-1].headers["Idempotency-Key"]
    assert f"cortex results image-classifier {MADE}" in said.stderr


def test_the_answer_can_be_had_as_json() -> None:
    said = cortex("rerun", "image-classifier", JOB, "-o", "json")

    assert {"job_id": MADE, "rerun_of": JOB} == json.loads(said.stdout)


def test_a_rerun_can_be_waited_for(operator: StubOperator) -> None:
    operator.job(job("running", 9), job("succeeded", 10))

    said = cortex("rerun", "image-classifier", JOB, "--wait")

    assert (0, f"{MADE}\n") == (said.exit_code, said.stdout)
    assert "succeeded" in said.stderr.splitlines()[-1]


def test_a_rerun_that_fails_is_a_failure_to_those_who_wait(operator: StubOperator) -> None:
    operator.job(job("completed_with_failures", 9))

    said = cortex("rerun", "image-classifier", JOB, "--wait")

    assert (1, f"{MADE}\n") == (said.exit_code, said.stdout)
    assert f"error: job `{MADE}` ended: completed with failures" in said.stderr


def test_all_and_hook_exclude_each_other() -> None:
    said = cortex("rerun", "image-classifier", JOB, "--all", "--hook")

    assert (2, "") == (said.exit_code, said.stdout)
    assert "error: --all and --hook exclude each other" in said.stderr


def test_a_refusal_is_told_as_the_operator_says_it(operator: StubOperator) -> None:
    operator.answers[RERUN] = Refusal(409, "conflict", f"nothing has failed in job `{JOB}`\n\nhint: `--all`")

    said = cortex("rerun", "image-classifier", JOB)

    assert 1 == said.exit_code
    assert said.stderr.endswith(f"error: nothing has failed in job `{JOB}`\n\nhint: `--all`\n")


@pytest.mark.parametrize(("verb", "done"), [("pause", "paused"), ("resume", "resumed")])
def test_a_job_is_paused_and_resumed(operator: StubOperator, verb: str, done: str) -> None:
    message = {"message": f"{done} job {JOB}"}
    refusal = Refusal(409, "conflict", f"job `{JOB}` is {done}")
    operator.answers[f"POST /image-classifier/{JOB}/{verb}"] = Then(message, refusal)

    first, second = (cortex(verb, "image-classifier", JOB) for _ in range(2))

    assert (0, f"{done} job {JOB}\n") == (first.exit_code, first.stdout)
    assert (1, "") == (second.exit_code, second.stdout)
    assert second.stderr.endswith(f"error: job `{JOB}` is {done}\n")
