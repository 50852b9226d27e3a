"""A job whose operator is killed at each boundary of what it writes ends as if nothing had happened.

A boundary is the moment just before or just after a commit of the ledger, or a file brought to the disk. They are
enumerated by a run that is not disturbed, and their number is part of the test: a new one is a new place to die at.
"""

import json
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from cortex.domain.job import JobStatus
from cortex.premises import LEDGER
from cortex.storage.sqlite import SqliteLedger
from operator_process import PREPARED, DidNotStart, OperatorProcess
from prepared_operator import BOUNDARIES, END_AT, SEGMENT_BYTES, SYNC_SECONDS

PREDICTOR = """
    import os

    class PythonPredictor:
        def __init__(self, config):
            self.folder = config["folder"]

        def predict(self, payload):
            if 3 in payload:
                self.die_once()
            if 5 in payload:
                raise ValueError("five")
            return payload

        def die_once(self):
            try:
                os.close(os.open(f"{self.folder}/died", os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                return
            os._exit(7)

        def on_job_complete(self):
            with open(f"{self.folder}/hook", "a") as file:
                file.write("ran\\n")
"""

ITEMS = list(range(7))

STARTING = ["make_schema", "begin_epoch", "deploy"]
"""What an operator writes before it knows of a job."""

RUNNING = ["add_worker", "charge_death", "add_worker", "start_hook", "move", "end_worker"]
"""What it writes for a job that runs: its first worker dies in a batch."""

COMMITS = {
    "inline": [*STARTING, "add_job", *RUNNING],
    "files": [*STARTING, *2 * ["sync_file folder"], "add_job", *2 * ["publish"], "move", *RUNNING],
}
"""What is written in a story, in order, but that the last two may change places.

The dataset that came with its request, and what is left of a small job, are written down in `add_job` and the last
`move`: nothing else of them is synced. When they are, and forgotten, is a matter of time; here never.
"""


def boundaries_of(story: str) -> Counter[str]:
    """Give the names of the boundaries in a story."""
    return Counter(f"{moment} {name}" for name in COMMITS[story] for moment in ("before", "after"))


def points() -> list[tuple[str, int]]:
    """Give every boundary at which an operator is to die, but for those that are in both stories only once."""
    begins_to_differ = 2 * len(STARTING)
    is_the_same_again = boundaries_of("inline").total() - 2 * len(RUNNING[1:])
    numbers = {
        "inline": range(is_the_same_again),
        "files": range(begins_to_differ, boundaries_of("files").total()),
    }
    return [(kind, number) for kind in numbers for number in numbers[kind]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """What is left of a job."""

    status: JobStatus
    counts: tuple[int, ...]  # batches that have succeeded, have failed, are in the queue; items likewise
    rows: Sequence[Any]
    failures: Sequence[tuple[int, str]]  # the first item of each failed batch, and why it failed
    hooks: int
    jobs: int
    folders: int
    workers_not_gone: int


UNDISTURBED = Ending(
    status=JobStatus.COMPLETED_WITH_FAILURES,
    counts=(6, 1, 0, 6, 1),
    rows=[item for item in ITEMS if item != 5],
    failures=[(5, "ValueError")],
    hooks=1,
    jobs=1,
    folders=1,
    workers_not_gone=0,
)

ENDINGS = {"inline": UNDISTURBED, "files": replace(UNDISTURBED, counts=(3, 1, 0, 6, 1))}
"""What is left of each story: where items are isolated, batches are of two."""

ISOLATE = {"on_failed_batch": "isolate", "retries": {"attempts": 2, "backoff": 0}}
DYING_BATCH = {"inline": 3, "files": 1}


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """An operator, and one job that it is asked for until it has it."""

    kind: str
    operator: OperatorProcess
    folder: Path

    def start(self, **env: str) -> None:
        """Start the operator, to be told of each boundary."""
        self.operator.start({BOUNDARIES: str(self.boundaries), SYNC_SECONDS: "3600", **env})

    @property
    def boundaries(self) -> Path:
        """The file of the boundaries that were reached."""
        return self.folder / "boundaries"

    def reached(self) -> list[str]:
        """Name the boundaries that were reached."""
        return self.boundaries.read_text().splitlines()

    def tell(self) -> str:
        """Deploy, submit and wait for the end of the job; give its id. May be told again."""
        self.operator.deploy(PREDICTOR, config={"folder": str(self.folder)})
        dataset: dict[str, Any] = {"item_list": {"items": ITEMS, "batch_size": 1}}
        if self.kind == "files":
            dataset = {"delimited_files": {"s3_paths": [str(self.folder / "lines.json")], "batch_size": 2}, **ISOLATE}
        answer = self.operator.http.post(
            "/api", json={"workers": 1, **dataset}, headers={"Idempotency-Key": "the-only-one"}
        )
        assert answer.status_code == 200, answer.text
        job = str(answer.json()["job_id"])
        self.operator.wait(job)
        return job

    def ending(self, job: str) -> Ending:
        """Stop the operator and give what is left; no worker is."""
        rows = self.operator.rows(job)
        failures = [json.loads(line) for line in self.operator.http.get(f"/api/{job}/failures").text.splitlines()]
        errors = self.operator.stop()
        assert (errors, self.operator.worker_processes()) == ("", [])
        with closing(SqliteLedger(self.operator.data_dir / LEDGER)) as ledger:
            jobs = ledger.jobs("api")
            counts = jobs[0].final_counts
            assert counts is not None
            return Ending(
                status=jobs[0].status,
                counts=(
                    *(counts.succeeded, counts.failed, counts.in_queue),
                    *(counts.succeeded_items, counts.failed_items),
                ),
                rows=rows,
                failures=[(failure["first_item"], failure["type"]) for failure in failures],
                hooks=len((self.folder / "hook").read_text().splitlines()),
                jobs=len(jobs),
                folders=len(list((self.operator.data_dir / "jobs").iterdir())),
                workers_not_gone=sum(len(ledger.workers(each.id)) for each in jobs),
            )

    def deaths(self) -> dict[int, int]:
        """Say how many deaths each batch was charged with."""
        with closing(SqliteLedger(self.operator.data_dir / LEDGER)) as ledger:
            return {death.batch: death.deaths for job in ledger.jobs("api") for death in ledger.deaths(job.id)}


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Callable[[str], Story]]:
    """Begin a story of this kind."""
    env = {SEGMENT_BYTES: "10"}  # two batches of two digits: there are two segments
    operator = OperatorProcess(tmp_path / "data", "--keep-warm", "0", env=env, program=PREPARED)
    (tmp_path / "lines.json").write_text("".join(f"{item}\n" for item in ITEMS))
    yield lambda kind: Story(kind=kind, operator=operator, folder=tmp_path)
    if operator.process is not None:
        operator.stop()


@pytest.mark.parametrize("kind", COMMITS)
def test_the_boundaries_of_a_job_are_these(begin: Callable[[str], Story], kind: str) -> None:
    story = begin(kind)
    story.start()

    job = story.tell()
    while story.reached().count("after end_worker") < 1:  # the last worker is gone a moment after the job's end
        story.operator.status(job)

    assert ENDINGS[kind] == story.ending(job)
    assert boundaries_of(kind) == Counter(story.reached())
    assert {DYING_BATCH[kind]: 1} == story.deaths()


@pytest.mark.parametrize(("kind", "number"), points())
def test_an_operator_that_dies_at_any_boundary_changes_nothing(
    begin: Callable[[str], Story], kind: str, number: int
) -> None:
    story = begin(kind)

    with suppress(DidNotStart, httpx.TransportError):
        story.start(**{END_AT: str(number)})
        story.tell()
    if story.operator.process is not None:
        assert -signal.SIGKILL == story.operator.wait_for_death()
    died_at = story.reached()
    story.start()
    ending = story.ending(story.tell())

    assert ENDINGS[kind] == ending
    assert number + 1 == len(died_at)
    assert {DYING_BATCH[kind]: 1} == story.deaths()


@pytest.mark.parametrize("moment", ["before", "after"])
def test_an_operator_that_dies_where_the_ledger_forgets_the_files_changes_nothing(
    begin: Callable[[str], Story], moment: str
) -> None:
    story = begin("inline")

    with suppress(httpx.TransportError):
        story.start(**{END_AT: f"{moment} forget_unsynced", SYNC_SECONDS: "0.01"})
        story.tell()
    assert -signal.SIGKILL == story.operator.wait_for_death()
    story.start()
    ending = story.ending(story.tell())

    assert ENDINGS["inline"] == ending
