"""The tutorial for Batch APIs, from `cortex deploy` to `cortex delete`: its commands, layouts and answers."""

import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from shell import Said, User
from transcript import shows

from operator_process import OperatorProcess

CONFIGURATION = """\
- name: image-classifier
  kind: BatchAPI
  predictor:
    type: python
    path: predictor.py
  compute:
    cpu: 1
"""

PREDICTOR = """\
import json
import os
from pathlib import Path


class PythonPredictor:
    def __init__(self, config, job_spec):
        if len(config.get("dest_dir", "")) == 0:
            raise Exception("'dest_dir' field was not provided in job submission")
        self.dest = Path(config["dest_dir"], job_spec["job_id"])
        self.dest.mkdir(parents=True)
        self.gate = config.get("gate")

    def predict(self, payload, batch_id):
        if self.gate:
            Path(self.gate, "arrived").write_text("here")  # a named pipe: waits for the test to read it
            Path(self.gate, "open").read_text()
        rows = [{"url": url, "class": url.split("-")[0]} for url in payload]
        Path(self.dest, f"{batch_id}.json").write_text(json.dumps(rows))

    def on_job_complete(self):
        rows = [row for path in sorted(self.dest.iterdir()) for row in json.loads(path.read_text())]
        Path(self.dest, "aggregated_results.json").write_text(json.dumps(rows))
"""

URLS = ["cat-0", "dog-1", "cat-2", "fox-3", "dog-4"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """Holds the batches of a job in `predict` until it is opened."""

    folder: Path

    def make(self) -> "Gate":
        self.folder.mkdir()
        for name in ("arrived", "open"):
            os.mkfifo(self.folder / name)
        return self

    def wait_for_a_batch(self) -> None:
        assert (self.folder / "arrived").read_text().startswith("here")  # of one worker, or of two at once

    def let_through(self) -> None:
        (self.folder / "open").write_text("go")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tutorial:
    """The user of the tutorial; `env` are the options that name the environment."""

    user: User
    env: tuple[str, ...]

    def cortex(self, *words: str, stdin: str = "") -> Said:
        return self.user.cortex(*words, *self.env, stdin=stdin)

    def out(self, *words: str) -> str:
        """Run a command that has nothing to complain about; give its answer."""
        said = self.cortex(*words)
        assert said.code == 0, said.err
        return said.out

    @property
    def endpoint(self) -> str:
        return self.out("get", "image-classifier").splitlines()[-1].removeprefix("endpoint: ")

    def submission(self, **config: str) -> dict[str, object]:
        items = {"items": URLS, "batch_size": 2}
        return {"workers": 1, "item_list": items, "config": {"dest_dir": str(self.user.home / "dest"), **config}}

    def submit(self, **config: str) -> str:
        """Submit a job over HTTP, as the tutorial does with curl."""
        answer = httpx.post(self.endpoint, json=self.submission(**config))
        assert answer.status_code == 200, answer.text
        return str(answer.json()["job_id"])


@pytest.fixture
def tutorial(user: User, start_operator: Callable[..., OperatorProcess]) -> Tutorial:
    """The deployed project, in an environment that was configured."""
    user.write("predictor.py", PREDICTOR)
    user.write("cortex.yaml", CONFIGURATION)
    address = start_operator().address
    assert user.cortex("env", "configure", "aws", "--operator-endpoint", address).code == 0
    tutorial = Tutorial(user=user, env=("--env", "aws"))
    assert "created image-classifier (BatchAPI)\n" == tutorial.out("deploy")
    return tutorial


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(folder=tmp_path / "gate").make()


def test_the_layouts_of_the_tutorial(tutorial: Tutorial, gate: Gate) -> None:
    endpoint = tutorial.endpoint
    assert f"no submitted jobs\n\nendpoint: {endpoint}\n" == tutorial.out("get", "image-classifier")

    job = tutorial.submit(gate=str(gate.folder))
    gate.wait_for_a_batch()

    running = f"""
job id             status    progress   start time                 duration
{job}   running   0/3        20 Jul 2020 01:07:44 UTC   3s

endpoint: {endpoint}
"""
    assert shows(running, tutorial.out("get", "image-classifier"))
    running_job = f"""
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
    assert shows(running_job, tutorial.out("get", "image-classifier", job))

    gate.let_through()
    for _ in range(2):
        gate.wait_for_a_batch()
        gate.let_through()

    log = """
started enqueuing batches to queue
partitioning 5 items found in job submission into 3 batches of size 2
completed enqueuing a total of 3 batches
spinning up workers...
...
2020-08-07 14:44:05.557598:cortex:pid-25:INFO:processing batch ...
...
2020-08-07 14:44:26.037276:cortex:pid-25:INFO:executing on_job_complete
2020-08-07 14:44:26.208972:cortex:pid-25:INFO:no batches left in queue, job has been completed
"""
    assert shows(log, tutorial.out("logs", "image-classifier", job))
    assert "status: succeeded" in tutorial.out("get", "image-classifier", job)
    results = sorted(path.name for path in (tutorial.user.home / "dest" / job).iterdir())
    assert re.fullmatch(r"(?:[-0-9a-f]{36}\.json ){3}aggregated_results\.json", " ".join(results))
    aggregated = json.loads((tutorial.user.home / "dest" / job / "aggregated_results.json").read_text())
    assert URLS == [row["url"] for row in aggregated]


def test_a_job_over_http(tutorial: Tutorial) -> None:
    endpoint, submission = tutorial.endpoint, tutorial.submission()

    dry_run = httpx.post(endpoint, params={"dryRun": "true"}, json=submission)
    submitted = httpx.post(endpoint, json=submission).json()
    job = submitted["job_id"]
    status = httpx.get(endpoint, params={"jobID": job}).json()

    assert dry_run.text.strip() == "validations passed"
    assert submitted["api_name"] == "image-classifier"
    assert submission["config"] == submitted["config"]
    assert job == status["job_status"]["job_id"]
    assert endpoint == status["endpoint"]
    assert f"endpoint: {endpoint}\n" in tutorial.out("get", "image-classifier")


def test_stop_a_job_and_delete_the_api(tutorial: Tutorial, gate: Gate) -> None:
    by_command, by_request = (tutorial.submit(gate=str(gate.folder)) for _ in range(2))
    gate.wait_for_a_batch()

    assert f"stopped job {by_command}\n" == tutorial.out("delete", "image-classifier", by_command)
    stopped = httpx.delete(tutorial.endpoint, params={"jobID": by_request})
    assert {"message": f"stopped job {by_request}"} == stopped.json()
    assert "status: stopped" in tutorial.out("get", "image-classifier", by_command)
    again = tutorial.cortex("delete", "image-classifier", by_command)
    assert again.code == 1
    assert again.err.startswith("error: ")
    assert "has already ended" in again.err

    assert tutorial.out("delete", "image-classifier") == "deleting image-classifier\n"
    assert tutorial.out("get") == "no apis are deployed\n"
    gone = tutorial.cortex("get", "image-classifier")
    assert gone.code == 1
    assert "is not deployed\n\nhint: " in gone.err


def test_two_environments_and_json(user: User, start_operator: Callable[..., OperatorProcess]) -> None:
    user.write("predictor.py", PREDICTOR)
    user.write("cortex.yaml", CONFIGURATION)
    address = start_operator().address
    configured = user.cortex("env", "configure", "aws", "--operator-endpoint", address)
    here, there = user.cortex("deploy"), user.cortex("deploy", "--env", "aws")
    user.cortex("env", "default", "aws")

    assert configured.out == "configured aws environment\n"
    assert here.out == there.out == "created image-classifier (BatchAPI)\n"
    assert here.err.startswith("using local environment\nstarted the operator at http://127.0.0.1:")
    listed = user.cortex("get").out
    assert shows(
        """
env     batch api          running jobs   latest job id   last update
local   image-classifier   0              -               ...
aws     image-classifier   0              -               ...
""",
        listed,
    )
    by_default, named = (user.cortex("get", "image-classifier", *env) for env in ((), ("-e", "local")))
    assert by_default.err == "using aws environment\n"
    assert named.err == ""
    assert f"endpoint: {address}/image-classifier\n" in by_default.out
    assert f"endpoint: {address}/image-classifier\n" not in named.out

    everywhere = json.loads(user.cortex("get", "-o", "json").out)
    api = json.loads(user.cortex("get", "image-classifier", "-o", "json", "-e", "aws").out)
    assert [("local", ""), ("aws", "")] == [(env["env_name"], env["error"]) for env in everywhere]
    assert {"spec", "endpoint", "job_statuses"} == set(api[0])

    assert f"aws (default)\noperator endpoint: {address}\n" in user.cortex("env", "list").out
    assert user.cortex("env", "delete", "aws").err == "set local as the default environment\n"


def test_messages_when_there_is_nothing_to_talk_to(user: User) -> None:
    nowhere = "http://127.0.0.1:1"

    missing = user.cortex("deploy")
    configured = user.cortex("env", "configure", "gone", "--operator-endpoint", nowhere)
    gone = user.cortex("get", "image-classifier", "-e", "gone")
    unknown = user.cortex("get", "-e", "nosuch")
    malformed = user.cortex("env", "configure", "gone", "--operator-endpoint", "127.0.0.1")

    assert (missing.code, missing.out) == (1, "")
    assert missing.err.startswith(f"error: there is no `cortex.yaml` in {user.folder}\n\nhint: ")
    assert configured.code == 0
    assert configured.err == f"warning: no operator answers at `{nowhere}`: connection refused\n"
    assert (gone.code, gone.out) == (1, "")
    assert gone.err.startswith(f"error: no operator answers at `{nowhere}`: connection refused\n\nhint: ")
    assert unknown.err.startswith("error: there is no environment `nosuch`; there is `local`, `gone`\n\nhint: ")
    assert malformed.err.startswith("error: `127.0.0.1` is not the address of an operator\n\nhint: ")


def test_messages_about_what_is_not_right(tutorial: Tutorial) -> None:
    user = tutorial.user
    user.write("bad.yaml", "- name: iris\n  kind: BatchAPI\n  predictor:\n    typ: python\n    path: nowhere.py\n")
    user.write("broken.yaml", "- name: [\n")
    request = {"worker": 1, "workers": 0, "item_list": {"items": [1], "batch_size": "2"}}

    bad = tutorial.cortex("deploy", "bad.yaml")
    broken = tutorial.cortex("deploy", "broken.yaml")
    no_api = tutorial.cortex("logs", "iris")
    no_job = tutorial.cortex("get", "image-classifier", "0123456789abcdef")
    refused = tutorial.cortex("submit", "image-classifier", "-", stdin=json.dumps(request))
    no_file = tutorial.cortex("submit", "image-classifier", "nosuch.json")
    misused = tutorial.cortex("submit", "image-classifier")

    for said in (bad, broken, no_api, no_job, refused, no_file):
        assert (said.code, said.out) == (1, "")
        assert said.err.startswith("error: ")
    assert "bad.yaml:4: iris (BatchAPI): predictor.typ: unknown field; did you mean `type`?" in bad.err
    assert broken.err.startswith("error: broken.yaml:")
    assert "is not valid YAML" in broken.err
    assert no_api.err.startswith("error: `iris` is not deployed\n\nhint: `cortex get")
    assert re.search(r"there is no job `?0123456789abcdef`?", no_job.err)
    assert "workers: got `0`, must be at least 1\n" in refused.err
    assert 'item_list.batch_size: got `"2"`, must be a whole number\n' in refused.err
    assert "worker: unknown field; did you mean `workers`?" in refused.err
    assert no_file.err.startswith("error: `nosuch.json` cannot be read: No such file or directory\n\nhint: ")
    assert misused.code == 2
    assert misused.err.startswith("error: missing argument `FILE`, or a dataset: --items, --files or --lines\n\nhint: ")
    assert "hint: `cortex submit --help`" in misused.err


def test_a_predictor_that_cannot_start_says_why(tutorial: Tutorial) -> None:
    submission = json.dumps({"workers": 1, "item_list": {"items": URLS, "batch_size": 2}})

    waited = tutorial.cortex("submit", "image-classifier", "-", "--wait", stdin=submission)
    job = waited.out.strip()

    assert waited.code == 1
    assert f"error: job `{job}` ended: worker error: " in waited.err
    assert f"hint: `cortex logs image-classifier {job}" in waited.err
    log = tutorial.out("logs", "image-classifier", job)
    assert "Exception: 'dest_dir' field was not provided in job submission" in log
    assert tutorial.out("get", "image-classifier").count("worker error") == 1
