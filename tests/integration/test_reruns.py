"""A rerun gives what the first run would have given, had nothing failed."""

import json
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from operator_process import OperatorProcess, follow_lines

PREDICTOR = """
    import os
    from pathlib import Path

    VERSION = 1

    class PythonPredictor:
        def __init__(self, config):
            self.world = Path(config["world"])

        def predict(self, payload, batch_id):
            with (self.world / "calls").open("a") as calls:
                calls.write(f"{batch_id} {payload}\\n")
            if (self.world / "gate").exists() and "wait" in payload:
                print("waiting", flush=True)
                (self.world / "gate").read_text()
            if (self.world / "broken").exists():
                if "bad" in payload:
                    raise ValueError("broken")
                if "deadly" in payload:
                    os._exit(7)
            return [f"{item} by {VERSION}" for item in payload]

        def on_job_complete(self):
            with (self.world / "hook").open("a") as hook:
                hook.write(f"{VERSION}\\n")
            if (self.world / "hook is broken").exists():
                raise RuntimeError("the hook is broken")
"""


class World:
    """What the predictor sees, and writes down."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder

    @property
    def config(self) -> dict[str, str]:
        return {"world": str(self.folder)}

    @contextmanager
    def broken(self, what: str = "broken") -> Iterator[None]:
        """Let what is bad fail meanwhile."""
        (self.folder / what).touch()
        yield
        (self.folder / what).unlink()

    def calls(self) -> list[tuple[str, str]]:
        """Give the ids and payloads that predict was called with since the last time, in order of the payloads."""
        path = self.folder / "calls"
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        calls = (line.split(" ", 1) for line in lines)
        return sorted(((batch, payload) for batch, payload in calls), key=lambda call: call[1])

    def hooks(self) -> str:
        """Give by which versions the hook was run."""
        path = self.folder / "hook"
        return path.read_text().replace("\n", "") if path.exists() else ""


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "world")


@pytest.fixture
def server(operator: OperatorProcess) -> OperatorProcess:
    operator.deploy(PREDICTOR)
    return operator


ITEMS = ["a", "bad", "b", "c", "d", "bad", "e"]


def submit(server: OperatorProcess, world: World, items: list[str], **options: Any) -> str:
    return server.submit(items, config=world.config, **options)


def ask(server: OperatorProcess, job: str, key: str | None = None, **request: Any) -> httpx.Response:
    headers = {"Idempotency-Key": key} if key else {}
    return server.http.post(f"/api/{job}/rerun", json=request, headers=headers)


def rerun(server: OperatorProcess, job: str, **request: Any) -> str:
    response = ask(server, job, **request)
    assert 200 == response.status_code, response.text
    return str(response.json()["job_id"])


def jobs(server: OperatorProcess) -> list[str]:
    return [job["job_id"] for job in server.http.get("/api").json()["jobs"]]


def failures(server: OperatorProcess, job: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in server.http.get(f"/api/{job}/failures").text.splitlines()]


def remove_all_but(server: OperatorProcess, job: str) -> None:
    """Remove all jobs but the one that has ended last."""
    assert 200 == server.http.post("/_cortex/prune", json={"keep": 1}).status_code
    assert [job] == [path.name for path in (server.data_dir / "jobs").iterdir()]


def outcome(server: OperatorProcess, job: str) -> tuple[str, int, int]:
    status = server.wait(job)
    metrics = status["batch_metrics"]
    return status["status"].removeprefix("status_"), metrics["succeeded"], metrics["failed"]


def expected_rows(items: list[str], version: int = 1) -> list[str]:
    return [f"{item} by {version}" for item in items]


def test_a_rerun_runs_what_failed_and_its_results_are_whole(server: OperatorProcess, world: World) -> None:
    with world.broken():
        job = submit(server, world, ITEMS, batch_size=2, workers=2)
        assert ("completed_with_failures", 2, 2) == outcome(server, job)
    failed = {line["batch_id"] for line in failures(server, job)}
    before = dict(world.calls())

    answer = ask(server, job)
    again = answer.json()["job_id"]

    assert ("succeeded", 4, 0) == outcome(server, again)
    calls = world.calls()
    assert failed == {batch for batch, _ in calls}
    assert [(batch, before[batch]) for batch, _ in calls] == calls
    assert expected_rows(ITEMS) == server.rows(again)
    assert [] == failures(server, again)
    assert ("completed_with_failures", 2, 2) == outcome(server, job)  # the first job stays as it was
    assert failed == {line["batch_id"] for line in failures(server, job)}
    assert "11" == world.hooks()
    status = server.status(again)
    assert [job, job, 4, 2] == [
        answer.json()["rerun_of"],
        status["rerun_of"],
        status["total_batch_count"],
        status["workers"],
    ]
    assert f"rerunning 2 failed batches of job {job}" == server.log(again).splitlines()[0]


def test_a_rerun_needs_the_first_job_no_more(server: OperatorProcess, world: World) -> None:
    with world.broken():
        job = submit(server, world, ITEMS)
        server.wait(job)
        again = rerun(server, job)  # fails as the first one
        assert ("completed_with_failures", 5, 2) == outcome(server, again)
    remove_all_but(server, again)

    last = rerun(server, again)

    assert ("succeeded", 7, 0) == outcome(server, last)
    assert expected_rows(ITEMS) == server.rows(last)
    assert 3 * 2 + 5 == len(world.calls())


def test_what_a_stopped_job_did_not_get_to_is_run(server: OperatorProcess, world: World) -> None:
    items = ["a", "wait", "b", "c"]
    os.mkfifo(world.folder / "gate")
    job = submit(server, world, items)
    assert any("waiting" in line for line in follow_lines(server, job))
    server.http.delete(f"/api/{job}")
    assert ("stopped", 1, 0) == outcome(server, job)
    (world.folder / "gate").unlink()
    world.calls()

    again = rerun(server, job)

    assert ("succeeded", 4, 0) == outcome(server, again)
    assert ["['b']", "['c']", "['wait']"] == [payload for _, payload in world.calls()]
    assert expected_rows(items) == server.rows(again)
    assert f"rerunning 3 unfinished batches of job {job}" == server.log(again).splitlines()[0]


def test_all_batches_run_again_if_that_is_asked_for(server: OperatorProcess, world: World) -> None:
    job = submit(server, world, ["a", "b"])
    server.wait(job)
    first = world.calls()
    server.deploy(PREDICTOR.replace("VERSION = 1", "VERSION = 2"))

    refused = ask(server, job)
    again = rerun(server, job, what="all", workers=2)

    assert (409, "conflict") == (refused.status_code, refused.json()["kind"])
    assert ("succeeded", 2, 0) == outcome(server, again)
    assert first == world.calls()
    assert expected_rows(["a", "b"], version=2) == server.rows(again)
    assert expected_rows(["a", "b"], version=1) == server.rows(job)
    assert 2 == server.status(again)["workers"]


@pytest.mark.parametrize(("version", "number"), [("current", 2), ("original", 1)])
def test_a_rerun_is_done_by_the_version_that_is_asked_for(
    server: OperatorProcess, world: World, version: str, number: int
) -> None:
    with world.broken():
        job = submit(server, world, ["a", "bad"])
        server.wait(job)
    server.deploy(PREDICTOR.replace("VERSION = 1", "VERSION = 2"))

    again = rerun(server, job, version=version)

    assert ("succeeded", 2, 0) == outcome(server, again)
    assert ["a by 1", f"bad by {number}"] == server.rows(again)
    assert f"1{number}" == world.hooks()


def test_a_failed_hook_is_run_again_alone(server: OperatorProcess, world: World) -> None:
    with world.broken(), world.broken("hook is broken"):
        job = submit(server, world, ["a", "bad"])
        assert ("worker_error", 1, 1) == outcome(server, job)
    calls = world.calls()

    again = rerun(server, job, what="hook")

    assert ("completed_with_failures", 1, 1) == outcome(server, again)
    assert (2, []) == (len(calls), world.calls())
    assert "11" == world.hooks()
    assert ["a by 1"] == server.rows(again)
    assert [(line["batch_id"], line["message"]) for line in failures(server, job)] == [
        (line["batch_id"], line["message"]) for line in failures(server, again)
    ]


def test_a_batch_that_was_given_up_stays_so_where_only_the_hook_runs(server: OperatorProcess, world: World) -> None:
    with world.broken(), world.broken("hook is broken"):
        job = submit(server, world, ["a", "deadly"])
        assert ("worker_error", 1, 1) == outcome(server, job)

    again = rerun(server, job, what="hook")

    assert ("worker_error", 1, 1) == outcome(server, again)
    assert failures(server, job) == failures(server, again)
    mended = rerun(server, again)
    assert ("succeeded", 2, 0) == outcome(server, mended)


def test_a_hook_that_there_is_not_is_not_run(server: OperatorProcess, world: World) -> None:
    server.deploy(PREDICTOR.partition("def on_job_complete")[0])
    job = submit(server, world, ["a"])
    server.wait(job)

    assert ("succeeded", 1, 0) == outcome(server, rerun(server, job, what="hook"))


def test_only_the_items_that_failed_are_run_again(server: OperatorProcess, world: World) -> None:
    with world.broken():
        job = submit(server, world, ITEMS, batch_size=7, on_failed_batch="isolate")
        assert ("completed_with_failures", 0, 1) == outcome(server, job)
        assert expected_rows([item for item in ITEMS if item != "bad"]) == server.rows(job)
        world.calls()

        again = rerun(server, job)
        assert ("completed_with_failures", 0, 1) == outcome(server, again)
        assert {"['bad']": 2} == Counter(payload for _, payload in world.calls())
        assert expected_rows([item for item in ITEMS if item != "bad"]) == server.rows(again)

    last = rerun(server, again)

    assert ("succeeded", 1, 0) == outcome(server, last)
    assert {"['bad']": 2} == Counter(payload for _, payload in world.calls())
    assert expected_rows(ITEMS) == server.rows(last)
    assert {"succeeded": 7, "failed": 0} == server.status(last)["item_metrics"]


def test_lines_of_files_are_not_enqueued_again(server: OperatorProcess, world: World, tmp_path: Path) -> None:
    lines = tmp_path / "lines.json"
    lines.write_text("".join(f"{json.dumps(item)}\n" for item in ITEMS))
    request = {"workers": 1, "delimited_files": {"s3_paths": [str(lines)], "batch_size": 2}, "config": world.config}
    with world.broken():
        job = server.http.post("/api", json=request).json()["job_id"]
        assert ("completed_with_failures", 2, 2) == outcome(server, job)
    lines.unlink()

    answers = [ask(server, job, key="k"), ask(server, job, key="k")]

    again = answers[0].json()["job_id"]
    assert ("succeeded", 4, 0) == outcome(server, again)
    assert expected_rows(ITEMS) == server.rows(again)
    assert answers[0].json() == answers[1].json()
    assert 4 == answers[0].json()["total_batch_count"]
    assert (server.data_dir / "jobs" / again / "listing").read_text() == f'["{lines}"{_rest_of_listing(server, job)}'


def _rest_of_listing(server: OperatorProcess, job: str) -> str:
    listing = (server.data_dir / "jobs" / job / "listing").read_text()
    return listing[listing.index(",") :]


def test_uploaded_files_that_are_items_outlive_the_job_they_were_sent_for(
    server: OperatorProcess, world: World
) -> None:
    upload = f"/_cortex/uploads/{'ab' * 16}"
    for name in ("one.txt", "two.txt"):
        sent = server.http.patch(f"{upload}/{name}", content=name.encode(), headers={"Upload-Offset": "0"})
        assert 204 == sent.status_code
    source = {"s3_paths": [f"upload://{'ab' * 16}/"], "batch_size": 1}
    request = {"workers": 1, "file_path_lister": source, "config": world.config}
    job = server.http.post("/api", json=request).json()["job_id"]
    assert ("succeeded", 2, 0) == outcome(server, job)

    again = rerun(server, job, what="all")
    assert ("succeeded", 2, 0) == outcome(server, again)
    remove_all_but(server, again)

    paths = [Path(row.removesuffix(" by 1")) for row in server.rows(again)]
    assert ["one.txt", "two.txt"] == [path.read_text() for path in paths]
    assert {again} == {path.parents[2].name for path in paths}


def test_the_key_of_a_rerun_is_that_of_no_other_one(server: OperatorProcess, world: World) -> None:
    with world.broken():
        first, second = submit(server, world, ["bad"]), submit(server, world, ["bad"])
        server.wait(first)
        server.wait(second)

    made = [ask(server, job, key="k", what="failed") for job in (first, first, second)]

    assert [200, 200, 409] == [answer.status_code for answer in made]
    assert made[0].json() == made[1].json()
    assert "submission.key_reused" == made[2].json()["kind"]
    assert 3 == len(jobs(server))


def test_what_cannot_be_rerun_is_refused(server: OperatorProcess, world: World) -> None:
    os.mkfifo(world.folder / "gate")
    job = submit(server, world, ["wait"])
    assert any("waiting" in line for line in follow_lines(server, job))

    answers = [
        ask(server, job),
        ask(server, f"{0:016x}"),
        ask(server, job, what="nothing"),
        server.http.get(f"/api/{job}/rerun"),
        server.http.post(f"/api/{job}/rerun", content=b"]"),
    ]

    assert [409, 404, 400, 405, 400] == [answer.status_code for answer in answers]
    assert "is still in progress" in answers[0].json()["message"]
    assert [job] == jobs(server)


def test_damage_is_told_and_no_job_is_made(server: OperatorProcess, world: World) -> None:
    with world.broken():
        job = submit(server, world, ITEMS)
        server.wait(job)
    (server.data_dir / "jobs" / job / "segments" / "000000.offsets").unlink()

    answer = ask(server, job)

    assert (500, "storage.damaged") == (answer.status_code, answer.json()["kind"])
    assert f"job `{job}` cannot be rerun: " in answer.json()["message"]
    assert [job] == jobs(server)
    assert [job] == [path.name for path in (server.data_dir / "jobs").iterdir()]


def test_results_are_written_for_the_rerun_too_and_where_they_cannot_be_it_is_refused(
    server: OperatorProcess, world: World, tmp_path: Path
) -> None:
    with world.broken():
        job = submit(server, world, ["a", "bad"], results={"path": str(tmp_path / "out")})
        server.wait(job)

    again = rerun(server, job)
    assert ("succeeded", 2, 0) == outcome(server, again)
    (tmp_path / "out").rename(tmp_path / "moved")
    (tmp_path / "out").touch()
    refused = ask(server, job)

    assert expected_rows(["a", "bad"]) == [
        json.loads(line) for line in (tmp_path / "moved" / again / "part-00000.jsonl").read_text().splitlines()
    ]
    assert (400, "submission.invalid") == (refused.status_code, refused.json()["kind"])
    assert [again, job] == jobs(server) == sorted(path.name for path in (server.data_dir / "jobs").iterdir())


def test_only_what_runs_is_paused_and_only_what_is_paused_is_resumed(server: OperatorProcess, world: World) -> None:
    os.mkfifo(world.folder / "gate")
    job = submit(server, world, ["wait", "a"])
    assert any("waiting" in line for line in follow_lines(server, job))

    def post(what: str) -> tuple[int, str]:
        answer = server.http.post(f"/api/{job}/{what}")
        return answer.status_code, answer.json()["message"]

    answers = [post(what) for what in ("resume", "pause", "pause", "resume")]
    (world.folder / "gate").write_text("")
    (world.folder / "gate").unlink()

    assert ("succeeded", 2, 0) == outcome(server, job)
    running, paused = (
        f"job `{job}` is {status}: only a {rule}"
        for status, rule in (
            ("running", "paused job can be resumed"),
            ("paused", "running job can be paused"),
        )
    )
    assert [(409, running), (200, f"paused job {job}"), (409, paused), (200, f"resumed job {job}")] == answers
    assert [(409, f"job `{job}` has already ended")] * 2 == [post(what) for what in ("pause", "resume")]
    assert 405 == server.http.get(f"/api/{job}/pause").status_code
