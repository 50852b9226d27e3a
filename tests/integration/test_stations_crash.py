"""Everything between an operator and its workers elsewhere breaks: nothing is lost, nothing is counted twice."""

import json
import os
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from crash_story import CrashStory
from cut_link import CuttableLink
from local_placer import cut_off
from operator_process import ELSEWHERE, OperatorProcess, follow_lines
from ports import free_port
from waiting import wait_until

pytestmark = pytest.mark.elsewhere

PLAN = {"worker": 3, "station": 3, "operator": 2, "supervisor": 2, "enqueuer": 1, "stop": 1}

RECORDER = """
    import json, os, time

    class PythonPredictor:
        def __init__(self, config):
            self.folder = config["folder"]
            self.note("constructed")

        def note(self, what, item=None):
            with open(f"{self.folder}/record", "a") as record:
                record.write(json.dumps([what, item, os.getpid()]) + "\\n")

        def wait_for(self, name):
            while not os.path.exists(f"{self.folder}/{name}"):
                time.sleep(0.01)

        def predict(self, payload):
            (item,) = payload
            self.note("begin", item)
            if item == 5:
                print("in predict", flush=True)
                if not os.path.exists(f"{self.folder}/others"):
                    self.wait_for("go")
            if item == 49:
                self.wait_for("last")
            time.sleep(0.002)
            self.note("end", item)
            return {"item": item, "pid": os.getpid()}

        def on_job_complete(self):
            self.note("hook")
"""

ITEMS = list(range(50))


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """An operator whose workers reach it by a link that can be cut, and what its predictor notes."""

    operator: OperatorProcess
    link: CuttableLink
    folder: Path

    def noted(self, what: str) -> list[tuple[int, int]]:
        """Give the items of which the predictor has noted this, with the processes."""
        path = self.folder / "record"
        lines = map(json.loads, path.read_text().splitlines() if path.exists() else [])
        return [(item, pid) for noted, item, pid in lines if noted == what]

    def allow(self, name: str) -> None:
        """Let predict go on that waits for this."""
        (self.folder / name).touch()

    def is_there(self, process: psutil.Process) -> bool:
        """Tell whether a process is alive."""
        return process in self.operator.worker_processes()


@pytest.fixture
def story(tmp_path: Path) -> Iterator[Story]:
    """Begin one."""
    port = free_port()
    folder = tmp_path / "noted"
    folder.mkdir()
    with CuttableLink(port) as link:
        operator = OperatorProcess(
            tmp_path / "data",
            *("--heartbeat", "1", "--channel-port", str(port), "--channel-address", f"127.0.0.1:{link.port}"),
            program=ELSEWHERE,
        ).start()
        operator.deploy(RECORDER, config={"folder": str(folder)})
        yield Story(operator=operator, link=link, folder=folder)
        operator.stop(at_once=True)


def worker_name(process: psutil.Process) -> str:
    """Give the name of a Worker: the last but one word in the command of what holds its station."""
    station = process.parents()[1]
    assert "cortex-station" == station.name()
    holder = station.parent()
    assert holder is not None
    return holder.cmdline()[-2]


@pytest.mark.timeout(300)
def test_kills_at_random_lose_nothing_and_double_nothing_elsewhere(tmp_path: Path) -> None:
    seed = int(os.environ.get("CORTEX_CRASH_SEED") or random.SystemRandom().randrange(10**9))
    story = CrashStory(tmp_path, seed, program=ELSEWHERE)

    story.tell(PLAN)

    print(f"CORTEX_CRASH_SEED={seed}: {dict(story.kills)}, {story.batches} batches, {story.charged} deaths charged")
    assert [] == story.problems, f"CORTEX_CRASH_SEED={seed}"
    assert PLAN == story.kills
    assert 1 <= story.charged <= story.kills["worker"]


def test_a_worker_that_is_cut_off_loses_its_batch_and_what_it_says_later_is_dropped(story: Story) -> None:
    job = story.operator.submit(ITEMS, workers=2)
    assert "in predict" in follow_lines(story.operator, job)
    (pid,) = {pid for item, pid in story.noted("begin") if item == 5}
    process = psutil.Process(pid)
    worker, node = worker_name(process), process.parents()[2].cmdline()[-1]

    story.link.cut(worker)
    nodes = story.operator.data_dir.with_name("data-nodes")
    cut_off(nodes, worker).touch()
    story.allow("others")
    said = f"worker pid-{pid}@{node} was cut off: nothing was heard of its node for 1 s while it processed batch"
    assert any(said in line for line in follow_lines(story.operator, job))
    wait_until(lambda: len(story.noted("begin")) > len(story.noted("end")) + 1, "the last batch waits elsewhere")
    story.allow("go")
    wait_until(lambda: (5, pid) in story.noted("end"), "it has ended its batch, too")
    story.link.mend(worker)
    wait_until(lambda: not story.is_there(process), "it is ended")
    cut_off(nodes, worker).unlink()
    story.allow("last")
    status = story.operator.wait(job)

    rows = story.operator.rows(job)
    runs = Counter(item for item, _ in story.noted("end"))
    assert "status_succeeded" == status["status"], story.operator.log(job)
    assert ITEMS == [row["item"] for row in rows]
    assert pid not in {row["pid"] for row in rows if row["item"] == 5}
    assert 2 == runs[5]
    assert 1 == len(story.noted("hook"))
    assert "death" not in story.operator.log(job)


def test_a_connection_that_breaks_is_made_again_and_no_batch_runs_twice(story: Story) -> None:
    for name in ("go", "last"):
        story.allow(name)
    items = [item for item in range(1000) if item not in (5, 49)]

    job = story.operator.submit(items, workers=2)
    for count in (50, 200, 400, 600):
        wait_until(lambda count=count: len(story.noted("end")) > count, "some batches have ended")
        story.link.drop_all()
    status = story.operator.wait(job)

    assert "status_succeeded" == status["status"], story.operator.log(job)
    assert items == [row["item"] for row in story.operator.rows(job)]
    assert items == sorted(item for item, _ in story.noted("end"))
    assert 2 == len(story.noted("constructed"))


def test_workers_elsewhere_keep_their_model_while_the_operator_is_away(story: Story) -> None:
    job = story.operator.submit(ITEMS)
    assert "in predict" in follow_lines(story.operator, job)

    story.operator.kill()
    story.allow("go")
    wait_until(lambda: (5, 0) < max(story.noted("end")), "the batch ends while nobody is there")
    story.operator.start()
    story.allow("last")
    status = story.operator.wait(job)

    assert "status_succeeded" == status["status"], story.operator.log(job)
    assert ITEMS == [row["item"] for row in story.operator.rows(job)]
    assert ITEMS == [item for item, _ in story.noted("end")]
    assert 1 == len(story.noted("constructed"))


def test_a_station_that_is_killed_takes_its_worker_along_and_no_batch_is_charged(story: Story) -> None:
    job = story.operator.submit(ITEMS)
    assert "in predict" in follow_lines(story.operator, job)
    process = psutil.Process(story.noted("begin")[-1][1])

    process.parents()[1].kill()
    for name in ("go", "last"):
        story.allow(name)
    status = story.operator.wait(job)

    assert "status_succeeded" == status["status"], story.operator.log(job)
    assert ITEMS == [row["item"] for row in story.operator.rows(job)]
    said = (
        f"worker pid-{process.pid}@node-1 was lost with its station on node-1, which was killed by signal 9 (SIGKILL)"
    )
    assert f"{said} while it processed batch" in story.operator.log(job)
    assert "death" not in story.operator.log(job)
    wait_until(lambda: not story.is_there(process), "it is gone with it")
