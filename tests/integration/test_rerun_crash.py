"""An operator that is killed while it makes a rerun has made it, or has not: nothing is in between."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from operator_process import PREPARED, OperatorProcess
from prepared_operator import BOUNDARIES, END_AT, SYNC_SECONDS

PREDICTOR = """
    from pathlib import Path

    class PythonPredictor:
        def __init__(self, config):
            self.broken = Path(config["broken"])

        def predict(self, payload):
            if "bad" in payload and self.broken.exists():
                raise ValueError("broken")
            return payload
"""

ITEMS = ["a", "bad", "b", "c"]

FILES = [
    "sync_file .offsets",
    "sync_file .payload",
    "write_durably .states",
    "sync_file .index",
    "sync_file .rows",
    "sync_file folder",  # what was kept, whose name has no suffix
    "sync_file .index",  # of what was kept
    *4 * ["sync_file folder"],
]
WRITTEN = [*FILES, "add_job", "move"]
"""What an operator writes of a rerun before its batches run."""

POINTS = [number for number in range(2 * len(WRITTEN)) if number % 2 or number == 2 * len(FILES)]
"""After each of them, and before the commit: before the others is after those that come before."""


class Story:
    """An operator with a job of which one item has failed."""

    def __init__(self, folder: Path) -> None:
        self.boundaries = folder / "boundaries"
        self.operator = OperatorProcess(folder / "data", "--keep-warm", "0", program=PREPARED).start()
        self.operator.deploy(PREDICTOR, config={"broken": str(folder / "broken")})
        (folder / "broken").touch()
        self.job = self.operator.submit(ITEMS, batch_size=4, on_failed_batch="isolate")
        assert 1 == self.operator.wait(self.job)["batch_metrics"]["failed"]
        (folder / "broken").unlink()
        self.operator.stop()
        self.start()
        self.begun = len(self.reached())  # the boundaries that an operator passes until it listens
        self.operator.stop()

    def start(self, **env: str) -> None:
        """Start an operator that tells its boundaries."""
        self.boundaries.write_text("")
        self.operator.start({BOUNDARIES: str(self.boundaries), SYNC_SECONDS: "3600", **env})

    def reached(self) -> list[str]:
        return self.boundaries.read_text().splitlines()

    def rerun(self, key: str) -> str:
        answer = self.operator.http.post(f"/api/{self.job}/rerun", headers={"Idempotency-Key": key})
        assert 200 == answer.status_code, answer.text
        return str(answer.json()["job_id"])

    def jobs(self) -> list[str]:
        return sorted(job["job_id"] for job in self.operator.http.get("/api").json()["jobs"])

    def folders(self) -> list[str]:
        return sorted(path.name for path in (self.operator.data_dir / "jobs").iterdir())


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    story = Story(tmp_path_factory.mktemp("rerun"))
    yield story
    if story.operator.process is not None:
        story.operator.stop()


def test_these_are_the_places_where_a_rerun_may_be_cut_off(story: Story) -> None:
    story.start()

    assert ITEMS == story.operator.rows(story.rerun("undisturbed"), follow=True)

    expected = [f"{moment} {name}" for name in WRITTEN for moment in ("before", "after")]
    assert expected == story.reached()[story.begun :][: len(expected)]
    story.operator.stop()


@pytest.mark.parametrize("point", POINTS)
def test_a_rerun_that_is_cut_off_is_a_whole_job_or_none(story: Story, point: int) -> None:
    before = story.folders()
    story.start(**{END_AT: str(story.begun + point)})
    with suppress(httpx.HTTPError):
        story.rerun(f"key-{point}")
    assert -9 == story.operator.wait_for_death()

    story.operator.start()
    is_recorded = point > 2 * len(FILES)
    assert (len(before) + is_recorded, story.jobs()) == (len(story.jobs()), story.folders())
    job = story.rerun(f"key-{point}")

    assert ITEMS == story.operator.rows(job, follow=True)
    assert "status_succeeded" == story.operator.wait(job)["status"]
    assert sorted([*before, job]) == story.jobs() == story.folders()
    assert "" == story.operator.stop()
