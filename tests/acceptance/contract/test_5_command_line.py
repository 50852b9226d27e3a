"""Section 5 of the contract: the command line."""

import fcntl
import json
import os
import pty
import re
import subprocess

import pytest
from contract_world import REALTIME, AtOperator, Gate
from transcript import shows

from operator_process import TIMEOUT_SECONDS, OperatorProcess, follow_lines

SLOW = """\
class PythonPredictor:
    def __init__(self, config):
        self.gate = config.get("gate")

    def predict(self, payload):
        if self.gate and "wait" in payload:
            print("waiting", flush=True)
            with open(self.gate) as gate:
                gate.read()
        return payload if payload != ["one", "value"] else {"not": "a list"}

    def on_job_complete(self):
        print("the hook ran")
"""

CONFIGURATION = "- name: tutorial\n  kind: BatchAPI\n  predictor: {type: python, path: predictor.py}\n"


@pytest.fixture
def tutorial(at_operator: AtOperator) -> AtOperator:
    """The user with the API `tutorial` just deployed, without jobs."""
    at_operator.cortex("delete", "tutorial")
    at_operator.user.write("tutorial/predictor.py", SLOW)
    at_operator.user.write("tutorial/cortex.yaml", CONFIGURATION)
    assert at_operator.out("deploy", "tutorial/cortex.yaml") == "created tutorial (BatchAPI)\n"
    return at_operator


def submit(user: AtOperator, *items: object, batch_size: int = 1, **config: object) -> str:
    request = {"workers": 1, "item_list": {"items": list(items), "batch_size": batch_size}, "config": config}
    said = user.cortex("submit", "tutorial", "-", stdin=json.dumps(request))
    assert said.code == 0, said.err
    return said.out.strip()


def test_there_is_every_command(tutorial: AtOperator) -> None:
    """`deploy [CONFIG]`, `get [API [JOB]] [-w/--watch] [-o json]` …"""
    job = submit(tutorial, 1, "two")
    commands = {
        ("get",): "tutorial ",
        ("get", "-o", "json"): '"tutorial"',
        ("get", "tutorial", "-o", "json"): job,
        ("get", "tutorial", job, "-w"): "succeeded",
        ("get", "tutorial", job, "--watch"): "succeeded",
        ("logs", "tutorial", job): "the hook ran",
        ("logs", "tutorial"): "the hook ran",
        ("results", "tutorial", job): '1\n"two"\n',
        ("env", "list"): "there (default)",
        ("cluster", "info"): "address:",
        ("version",): "operator: ",
    }

    said = {words: tutorial.out(*words) for words in commands}

    assert [] == [words for words, expected in commands.items() if expected not in said[words]]
    for command in ("get -o json", "get tutorial -o json"):
        json.loads(said[tuple(command.split())])


def test_predict_prints_the_answer_and_refresh_replaces_the_replicas(
    tutorial: AtOperator, operator: OperatorProcess
) -> None:
    """`deploy [CONFIG]`, `get [API [JOB]] [-w/--watch] [-o json]` …: `predict API FILE`, `refresh API`."""
    operator.deploy_realtime(REALTIME, name="asked")
    tutorial.user.write("sample.json", '{"a": [1, 2.5]}')

    answer = tutorial.out("predict", "asked", "sample.json")
    refused = tutorial.cortex("predict", "asked", "-", stdin='"raise"')
    refreshed = tutorial.out("refresh", "asked")
    again = tutorial.out("predict", "asked", "sample.json")
    shown = tutorial.out("get", "asked")
    log = tutorial.out("logs", "asked", "--no-follow")
    tutorial.out("delete", "asked")

    assert {"name": None, "payload": {"a": [1, 2.5]}} == json.loads(answer)
    assert answer == again
    assert (1, "") == (refused.code, refused.out)
    assert "error: `predict` raised ValueError" in refused.err
    assert "as asked" not in refused.err
    assert "updating asked (RealtimeAPI)\n" == refreshed
    assert f"endpoint: {operator.address}/asked\n" in shown
    assert f"example curl: curl {operator.address}/asked " in shown
    assert "asked for {'a': [1, 2.5]}" in log
    assert "ValueError: as asked" in log


def test_results_are_bare_rows_as_far_as_the_job_is(
    tutorial: AtOperator, operator: OperatorProcess, gate: Gate
) -> None:
    """`deploy [CONFIG]`, `get [API [JOB]] [-w/--watch] [-o json]` …: `results API JOB`."""
    job = submit(tutorial, 1, "2", "one", "value", "wait", 6, batch_size=2, gate=str(gate.path))
    assert any("waiting" in line for line in follow_lines(operator, job, api="tutorial"))

    so_far = tutorial.out("results", "tutorial", job)
    gate.open()
    followed = tutorial.out("results", "tutorial", job, "--follow")

    assert '1\n"2"\n{"not":"a list"}\n' == so_far.replace('": "', '":"')
    assert f'{so_far}"wait"\n6\n' == followed


def test_environments_are_configured_and_deleted(tutorial: AtOperator, operator: OperatorProcess) -> None:
    """`deploy [CONFIG]`, `get [API [JOB]] [-w/--watch] [-o json]` …: `env configure|list|default|delete`."""
    said = [
        tutorial.out("env", "configure", "second", "--operator-endpoint", operator.address),
        tutorial.out("env", "list"),
        tutorial.out("env", "default", "second"),
        tutorial.out("env", "default", "there"),
        tutorial.out("env", "delete", "second"),
        tutorial.out("env", "list"),
    ]

    assert said[0] == "configured second environment\n"
    assert "second\n" in said[1]
    assert said[2].startswith("set second as the default environment")
    assert "second" not in said[5]


def test_output_is_as_the_documents_show_it(tutorial: AtOperator, operator: OperatorProcess, gate: Gate) -> None:
    """Output as the seeds show it …"""
    endpoint = f"{operator.address}/tutorial"
    assert f"no submitted jobs\n\nendpoint: {endpoint}\n" == tutorial.out("get", "tutorial")
    job = submit(tutorial, "wait", 2, 3, gate=str(gate.path))
    assert any("waiting" in line for line in follow_lines(operator, job, api="tutorial"))

    jobs = f"""
job id             status    progress   start time                 duration
{job}   running   0/3        20 Jul 2020 01:07:44 UTC   26s

endpoint: {endpoint}
"""
    one = f"""
job id: {job}
status: running

start time: 27 Jul 2020 15:02:25 UTC
end time:   -
duration:   42s

batch stats
total   succeeded   failed   avg time per batch
3       0           0        -

worker stats
requested   initializing   running   failed   succeeded
1           0              1         0        0

job endpoint: {endpoint}/{job}
"""
    assert shows(jobs, tutorial.out("get", "tutorial"))
    assert shows(one, tutorial.out("get", "tutorial", job))
    assert f"stopped job {job}\n" == tutorial.out("delete", "tutorial", job)
    assert tutorial.out("delete", "tutorial") == "deleting tutorial\n"


def test_logs_follow_a_running_job_to_its_end(tutorial: AtOperator, gate: Gate) -> None:
    """`cortex logs API JOB` follows a running job …"""
    job = submit(tutorial, 1, "wait", gate=str(gate.path))
    command = ["cortex", "logs", "tutorial", job]
    with subprocess.Popen(
        command, env=tutorial.user.environment(), cwd=tutorial.user.folder, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        before = [next(process.stdout)]
        while "waiting" not in before[-1]:
            before.append(next(process.stdout))
        gate.open()
        after = process.stdout.readlines()

    assert process.returncode == 0
    assert before[0] == "started enqueuing batches to queue\n"
    assert after[-1].endswith("no batches left in queue, job has been completed\n")


def test_log_lines_read_as_the_tutorial_shows_them(tutorial: AtOperator) -> None:
    """Log lines of the operator and of the workers …"""
    job = submit(tutorial, 1, 2, 3, 4, 5, batch_size=2)
    expected = """
started enqueuing batches to queue
partitioning 5 items found in job submission into 3 batches of size 2
completed enqueuing a total of 3 batches
spinning up workers...
...
2020-08-07 14:44:05.557598:cortex:pid-25:INFO:processing batch c9136381-6dcc-45bd-bd97-cc9c66ccc6d6
...
2020-08-07 14:44:26.037276:cortex:pid-25:INFO:executing on_job_complete
...
2020-08-07 14:44:26.208972:cortex:pid-25:INFO:no batches left in queue, job has been completed
"""

    log = tutorial.out("logs", "tutorial", job)

    assert shows(re.sub(r"batch [-0-9a-f]{36}", "batch ...", expected), log), log


def test_errors_are_on_stderr_with_exit_code_1(tutorial: AtOperator) -> None:
    """Errors: `error: ...` on stderr, exit code 1. …"""
    wrong = {
        "get nosuch": "`nosuch` is not deployed",
        "get tutorial 0123456789abcdef": "there is no job `0123456789abcdef`",
        "get -e nosuch": "there is no environment `nosuch`",
        "deploy nosuch.yaml": "there is no `nosuch.yaml`",
        "submit tutorial nosuch.json": "`nosuch.json` cannot be read",
    }

    for command, expected in wrong.items():
        said = tutorial.cortex(*command.split())

        assert (1, "") == (said.code, said.out)
        assert said.err.removeprefix("using there environment\n").startswith("error: ")
        assert expected in said.err


def on_a_terminal(user: AtOperator, *words: str) -> bytes:
    """Run a command on a terminal; give what it writes there."""
    ours, its = pty.openpty()
    env = {**user.user.environment(), "TERM": "xterm-256color"}
    with open(its, "wb") as terminal, open(ours, "rb", buffering=0) as reading:  # noqa: PTH123
        process = subprocess.Popen(
            ["cortex", *words], cwd=user.user.folder, env=env, stdin=terminal, stdout=terminal, stderr=terminal
        )
        terminal.close()
        process.wait(TIMEOUT_SECONDS)
        fcntl.fcntl(ours, fcntl.F_SETFL, os.O_NONBLOCK)
        return reading.read(65_536)


def test_colour_is_for_terminals(tutorial: AtOperator) -> None:
    """Colour only on a terminal. …"""
    piped = tutorial.cortex("get", "nosuch")

    assert b"\x1b[" in on_a_terminal(tutorial, "get", "nosuch")
    assert "\x1b" not in piped.err + piped.out + tutorial.out("get", "tutorial")
