"""The Python client with a real operator: from a script, beside an event loop, from a hook."""

import ast
import asyncio
import inspect
import os
import textwrap
import threading
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

import cortex
from cortex.clients.connect import client_of
from cortex.clients.environments import Environment, Environments, write_environments
from cortex.domain.batch import MAX_REQUEST_BYTES
from cortex.domain.errors import Conflict, Forbidden, IdempotencyKeyReused, InvalidConfiguration, InvalidSubmission
from operator_process import OperatorProcess

KEY = "Rather-long-and-not-guessed"
PATIENCE_SECONDS = 60

LENGTHS = """\
class PythonPredictor:
    def __init__(self, config):
        self.gate = config.get("gate")

    def predict(self, payload):
        if "wait" in payload and self.gate:
            with open(self.gate) as gate:
                gate.read()
        return [{"text": text, "length": len(text)} for text in payload]
"""

CONFIGURATION = "- name: lengths\n  kind: BatchAPI\n  predictor: {type: python, path: predictor.py}\n"


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operator: OperatorProcess) -> None:
    """Be a user whose default environment is the operator, in the folder of a project."""
    monkeypatch.setenv("CORTEX_CLI_CONFIG_DIR", str(tmp_path / "cli"))
    there = Environment(name="there", operator_endpoint=operator.address)
    write_environments(Environments(default="there", known=(*Environments().known, there)))
    project = tmp_path / "project"
    project.mkdir()
    (project / "predictor.py").write_text(LENGTHS)
    (project / "cortex.yaml").write_text(CONFIGURATION)
    monkeypatch.chdir(project)


@pytest.fixture
def client() -> Iterator[cortex.Client]:
    """A client of the operator, where `lengths` is deployed."""
    with cortex.client() as client:
        client.deploy()
        yield client


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """A pipe that `predict` waits at until somebody opens it for writing."""
    path = tmp_path / "gate"
    os.mkfifo(path)
    return path


def open_gate(gate: Path) -> None:
    gate.open("w").close()


def test_from_the_deployment_to_the_results(client: cortex.Client) -> None:
    seen: list[str] = []

    job = client.submit("lengths", items=(f"item {number}" for number in range(1000)), batch_size=7, workers=2)
    status = job.wait(progress=lambda status: seen.append(status["status"]), timeout=PATIENCE_SECONDS, check=True)

    assert "status_succeeded" == status["status"] == seen[-1]
    assert [f"item {number}" for number in range(1000)] == [row["text"] for row in job.results()]
    assert [row["length"] for row in job.results(follow=True)] == [row["length"] for row in job.results()]
    assert [] == list(job.failures())
    assert job.id in [found["job_id"] for found in client.api("lengths")["job_statuses"]]
    assert "spinning up workers..." in list(job.logs())
    assert b'{"text":"item 0","length":6}\n' == b"".join(job.stream("results"))[:29]
    assert ["lengths"] == [api["name"] for api in client.apis()]
    assert "deleting lengths" == client.delete_api("lengths")


def test_what_failed_is_mended_and_submitted_again(client: cortex.Client) -> None:
    job = client.submit("lengths", items=["a", 5, "b", None], batch_size=1)
    status = job.wait()

    assert "status_completed_with_failures" == status["status"]
    assert [(1, "TypeError"), (3, "TypeError")] == [(each["first_item"], each["type"]) for each in job.failures()]
    assert [5, None] == list(job.failed_items())

    mended = client.submit("lengths", items=map(str, job.failed_items()), batch_size=2)

    assert ["5", "None"] == [row["text"] for row in mended.results(follow=True)]


def test_items_beyond_a_request_are_items_like_others(client: cortex.Client) -> None:
    count = MAX_REQUEST_BYTES // 10_000 + 1

    job = client.submit("lengths", items=("x" * (10_000 + number % 3) for number in range(count)), batch_size=20)
    job.wait(check=True)

    assert [10_000 + number % 3 for number in range(count)] == [row["length"] for row in job.results()]


def test_lines_of_files_here_are_items(client: cortex.Client, tmp_path: Path) -> None:
    (tmp_path / "words.jsonl").write_text('"a"\n"bc"\n')

    job = client.submit("lengths", lines=tmp_path / "words.jsonl", batch_size=2)

    assert [1, 2] == [row["length"] for row in job.results(follow=True)]


def test_the_same_key_is_the_same_job(client: cortex.Client) -> None:
    first = client.submit("lengths", items=["a"], batch_size=1, idempotency_key="monday")
    again = client.submit("lengths", items=["a"], batch_size=1, idempotency_key="monday")

    assert first.id == again.id
    with pytest.raises(IdempotencyKeyReused, match="`monday`"):
        client.submit("lengths", items=["b"], batch_size=1, idempotency_key="monday")


def test_mistakes_are_told_by_the_operator(client: cortex.Client) -> None:
    Path("cortex.yaml").write_text(CONFIGURATION.replace("type: python", "typ: python"))

    with pytest.raises(InvalidConfiguration, match=r"cortex\.yaml:3"):
        client.deploy()
    with pytest.raises(InvalidSubmission, match="workers"):
        client.submit("lengths", items=["a"], batch_size=1, workers=0)


def test_a_job_is_stopped_and_what_it_gave_is_kept(client: cortex.Client, gate: Path) -> None:
    job = client.submit("lengths", items=["a", "wait", "b"], batch_size=1, config={"gate": str(gate)})
    rows = job.results(follow=True)
    first = next(rows)
    rows.close()

    assert f"stopped job {job.id}" == job.stop()
    assert "status_stopped" == job.wait()["status"]
    assert [first] == list(job.results())


def test_a_job_is_paused_and_goes_on(client: cortex.Client, gate: Path) -> None:
    job = client.submit("lengths", items=["a", "wait", "b"], batch_size=1, config={"gate": str(gate)})
    assert "a" == next(job.results(follow=True))["text"]

    with gate.open("w"):  # predict waits there
        assert f"paused job {job.id}" == job.pause()
        assert "status_paused" == job.status()["status"]
    assert f"resumed job {job.id}" == job.resume()

    assert "status_succeeded" == job.wait()["status"]
    assert ["a", "wait", "b"] == [row["text"] for row in job.results()]


def test_what_failed_runs_again_and_the_receipt_is_whole(client: cortex.Client) -> None:
    items = ["a", 5, "b"]
    first = client.submit("lengths", items=items, batch_size=1)
    first.wait()
    Path("predictor.py").write_text(LENGTHS.replace("len(text)", "len(str(text))"))
    client.deploy()

    again = first.rerun(workers=1)
    again.wait(check=True)
    receipt = list(again.manifest())
    verification = again.verify()

    assert items == [row["text"] for row in again.results()]
    assert first.id == again.status()["rerun_of"]
    assert ("job", "total") == (receipt[0]["kind"], receipt[-1]["kind"])
    assert (3, 0) == (receipt[-1]["succeeded_items"], receipt[-1]["failed_items"])
    assert (True, True, []) == tuple(verification[name] for name in ("is_complete", "is_intact", "problems"))
    with pytest.raises(Conflict):
        again.rerun()


def test_a_wait_outlives_the_operator(client: cortex.Client, operator: OperatorProcess, gate: Path) -> None:
    job = client.submit("lengths", items=["wait"], batch_size=1, config={"gate": str(gate)})
    next(job.logs(follow=True))
    is_seen = threading.Event()
    ends: list[Any] = []
    waiting = threading.Thread(target=lambda: ends.append(job.wait(progress=lambda _: is_seen.set())))
    waiting.start()
    assert is_seen.wait(PATIENCE_SECONDS)

    operator.kill()
    operator.start()
    open_gate(gate)
    waiting.join(PATIENCE_SECONDS)

    assert ["status_succeeded"] == [end["status"] for end in ends]


def test_beside_an_event_loop(client: cortex.Client) -> None:
    async def story() -> list[list[int]]:
        async with cortex.async_client() as client:
            jobs = [await client.submit("lengths", items=["x" * n] * 3, batch_size=1) for n in (1, 2, 3)]
            ends = await asyncio.gather(*(job.wait(check=True) for job in jobs))
            assert ["status_succeeded"] * 3 == [end["status"] for end in ends]
            return [[row["length"] async for row in job.results()] for job in jobs]

    assert [[1] * 3, [2] * 3, [3] * 3] == asyncio.run(story())


def cells(*sources: str) -> dict[str, Any]:
    """Run programs one after the other in one running event loop, with `await` at their top, as a notebook does."""
    names: dict[str, Any] = {}

    async def run() -> None:
        for source in sources:
            code = compile(textwrap.dedent(source), "cell", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            running = types.FunctionType(code, names)()
            if inspect.iscoroutine(running):
                await running

    asyncio.run(run())
    return names


def test_in_a_notebook(client: cortex.Client) -> None:
    names = cells(
        """
        import cortex
        client = cortex.client()
        job = client.submit("lengths", items=["a", "bc"], batch_size=1)
        status = job.wait()
        rows = list(job.results())
        """,
        """
        async_client = cortex.async_client()
        async_job = await async_client.submit("lengths", items=["def"], batch_size=1)
        """,
        """
        async_status = await async_job.wait(progress=True)
        async_rows = [row async for row in async_job.results()]
        await async_client.aclose()
        client.close()
        """,
    )

    assert "status_succeeded" == names["status"]["status"] == names["async_status"]["status"]
    assert [1, 2, 3] == [row["length"] for row in names["rows"] + names["async_rows"]]


def connections(operator: OperatorProcess) -> int:
    """Count the connections from this process to the operator."""
    port = int(operator.address.rsplit(":", 1)[1])
    mine = psutil.Process().net_connections("tcp")
    return sum(each.status == psutil.CONN_ESTABLISHED and bool(each.raddr) and each.raddr.port == port for each in mine)


def client_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("cortex-client")]


def test_following_that_is_left_leaves_nothing(client: cortex.Client, operator: OperatorProcess, gate: Path) -> None:
    job = client.submit("lengths", items=["a", "wait"], batch_size=1, config={"gate": str(gate)})
    client.close()
    operator.http.close()
    assert 0 == connections(operator)

    for row in job.results(follow=True):
        assert 1 == connections(operator)
        assert "a" == row["text"]
        break

    assert 0 == connections(operator)
    open_gate(gate)


async def follow(job: cortex.AsyncJob, lines: list[str]) -> None:
    async for line in job.logs(follow=True):
        lines.append(line)  # noqa: PERF401 - what came before is kept


def test_following_that_is_left_or_cancelled_leaves_nothing_of_the_loop(
    client: cortex.Client, operator: OperatorProcess, gate: Path
) -> None:
    job_id = client.submit("lengths", items=["a", "wait"], batch_size=1, config={"gate": str(gate)}).id
    client.close()
    operator.http.close()

    async def story() -> None:
        there = cortex.async_client()
        job = await there.job("lengths", job_id)
        async for row in job.results(follow=True):
            assert "a" == row["text"]
            break
        lines: list[str] = []
        following = asyncio.create_task(follow(job, lines))
        while not lines:
            await asyncio.sleep(0)
        following.cancel()
        with pytest.raises(asyncio.CancelledError):
            await following
        with pytest.raises(TimeoutError, match="it goes on"):
            await job.wait(timeout=0)
        assert connections(operator) <= 1  # one that is kept for the next call
        await there.aclose()
        assert 0 == connections(operator)

    asyncio.run(story())
    for thread in client_threads():
        thread.join(PATIENCE_SECONDS)

    assert [] == client_threads()
    open_gate(gate)


CHAINED = """
    import cortex

    class PythonPredictor:
        def __init__(self, config, job_spec):
            self.job_id = job_spec["job_id"]

        def predict(self, payload):
            return [text * 2 for text in payload]

        def on_job_complete(self):
            client = cortex.client()
            rows = client.job("chained", self.job_id).results()
            print("next job:", client.submit("lengths", items=rows, batch_size=10, idempotency_key=self.job_id).id)
            try:
                client.delete_api("lengths")
            except cortex.CortexError as error:
                print("refused:", error.message, "/", error.hint)
"""


def test_a_hook_submits_the_next_job(client: cortex.Client, operator: OperatorProcess) -> None:
    operator.deploy(CHAINED.replace('client.delete_api("lengths")', "pass"), name="chained")

    first = client.submit("chained", items=["a", "bc"], batch_size=1)
    first.wait(check=True)
    (line,) = [line for line in first.logs() if line.startswith("next job: ")]
    following = client.job("lengths", line.split()[-1])

    assert ["aa", "bcbc"] == [row["text"] for row in following.results(follow=True)]


def test_a_hook_has_the_token_of_its_job(
    start_operator: Callable[..., OperatorProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CORTEX_API_KEY", KEY)
    guarded = start_operator("--keep-warm", "0")
    monkeypatch.delenv("CORTEX_API_KEY")
    guarded.http.headers["Authorization"] = f"Bearer {KEY}"
    guarded.deploy(LENGTHS, name="lengths")
    guarded.deploy(CHAINED, name="chained")
    environment = Environment(name="guarded", operator_endpoint=guarded.address, api_key=KEY)

    with cortex.Client(client_of(environment, guarded.address)) as client:
        first = client.submit("chained", items=["a"], batch_size=1)
        first.wait(check=True)
        said = dict(line.split(": ", 1) for line in first.logs() if line.startswith(("next job", "refused")))
        following = client.job("lengths", said["next job"])

        assert ["aa"] == [row["text"] for row in following.results(follow=True)]
        assert "the token of a job or an API may only be used for the endpoints of APIs" in said["refused"]
        assert said["refused"].endswith(" / deploying, deleting and pruning ask for the operator's own key")

    wrong = Environment(name="guarded", operator_endpoint=guarded.address, api_key="not-the-key-that-is-asked-for")
    with cortex.Client(client_of(wrong, guarded.address)) as client, pytest.raises(Forbidden) as error:
        client.apis()
    assert "cortex env configure guarded" in str(error.value.hint)
