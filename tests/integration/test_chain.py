"""A hook that submits the next job of a chain, with and without keys."""

from collections.abc import Callable

import pytest

from operator_process import OperatorProcess

KEY = "Rather-long-and-not-guessed"

FIRST = """
    import json, os, requests

    class PythonPredictor:
        def __init__(self, config, job_spec):
            self.job_spec = job_spec

        def predict(self, payload):
            return payload

        def on_job_complete(self):
            key = os.environ.get("CORTEX_API_KEY")
            headers = {"Authorization": f"Bearer {key}"} if key else {}
            operator = os.environ["CORTEX_OPERATOR_ENDPOINT"]
            request = {"workers": 1, "item_list": {"items": [os.environ["CORTEX_JOB_ID"]], "batch_size": 1}}
            answer = requests.post(f"{operator}/next", json=request, headers=headers, timeout=30)
            answer.raise_for_status()
            deleted = requests.delete(f"{operator}/_cortex/apis/next", headers=headers, timeout=30) if key else None
            print("may delete:", bool(deleted))
            print("next job:", answer.json()["job_id"])
"""

NEXT = """
    class PythonPredictor:
        def __init__(self, config): ...
        def predict(self, payload): return payload
"""


def run_chain(operator: OperatorProcess) -> tuple[str, str, str]:
    """Run a job whose hook submits another; give the ids of both, and the log of the first."""
    operator.deploy(NEXT, name="next")
    operator.deploy(FIRST, name="first")
    first = operator.submit([1], api="first")
    status, log = operator.wait(first, api="first"), operator.log(first, api="first")
    assert status["status"] == "status_succeeded", log
    return first, log.partition("next job: ")[2].split()[0], log


def test_a_hook_submits_the_next_job(operator: OperatorProcess) -> None:
    first, following, _ = run_chain(operator)

    assert operator.wait(following, api="next")["status"] == "status_succeeded"
    assert [first] == operator.rows(following, api="next")


def test_a_hook_submits_the_next_job_where_keys_are_asked_for_and_may_do_no_more(
    start_operator: Callable[..., OperatorProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CORTEX_API_KEY", KEY)
    operator = start_operator("--keep-warm", "0", "--public-url", "https://cortex.example.com")
    operator.http.headers["Authorization"] = f"Bearer {KEY}"

    first, following, log = run_chain(operator)

    assert operator.wait(following, api="next")["status"] == "status_succeeded"
    assert [first] == operator.rows(following, api="next")
    assert "may delete: False" in log
