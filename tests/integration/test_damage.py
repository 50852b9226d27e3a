"""Storage that fails, broken on purpose under a real operator: it says so, loses nothing, and goes on when it can."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from cortex.domain.batch import ENTRY
from cortex.domain.layout import JobFolder
from operator_process import TIMEOUT_SECONDS, OperatorProcess, follow_lines
from processes import kill, words_of
from s3_server import S3
from small_disk import SmallDisk, small_disk

ECHO = """
    class PythonPredictor:
        def __init__(self, config): pass
        def predict(self, payload): return payload
"""

GATED = """
    import os, time

    class PythonPredictor:
        def __init__(self, config):
            self.config = config

        def predict(self, payload):
            print("in predict", flush=True)
            while not os.path.exists(self.config["gate"]):
                time.sleep(0.01)
            return [[item, "x" * self.config["row"]] for item in payload]
"""

Check = Callable[[], Any]


def until(check: Check) -> Any:
    """Ask again and again until the answer is one; give it."""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not (answer := check()):
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.02)
    return answer


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """A disk of 24 megabytes."""
    with small_disk(tmp_path / "disk") as disk:
        if disk is None:
            pytest.skip("this machine does not let us mount a disk of our own")
        yield disk


@pytest.fixture
def on_disk(disk: SmallDisk) -> Iterator[OperatorProcess]:
    """An operator whose data directory lies on the small disk."""
    operator = OperatorProcess(disk.path / "data", "--keep-warm", "0", enter=disk.enter).start()
    yield operator
    disk.make_room()
    operator.stop()


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """A file for which the predictor waits."""
    return tmp_path / "gate"


def reason(operator: OperatorProcess, job: str) -> str:
    return str(operator.status(job).get("status_reason", ""))


# A full disk


def test_a_submission_to_a_full_disk_is_refused_and_taken_when_it_has_room(
    on_disk: OperatorProcess, disk: SmallDisk
) -> None:
    on_disk.deploy(ECHO)
    request = {"workers": 1, "item_list": {"items": ["x" * 1000] * 100, "batch_size": 1}}

    disk.fill()
    refused = on_disk.http.post("/api", json=request)
    disk.make_room()

    assert (507, "storage.full") == (refused.status_code, refused.json()["kind"])
    assert "the operator's disk is full\n\nhint: " in refused.json()["message"]
    assert ["x" * 1000] * 100 == on_disk.rows(on_disk.submit(["x" * 1000] * 100), follow=True)
    assert 1 == len(on_disk.http.get("/api").json()["jobs"])


def test_rows_that_find_no_room_wait_for_it(on_disk: OperatorProcess, disk: SmallDisk, gate: Path) -> None:
    on_disk.deploy(GATED, config={"gate": str(gate), "row": 100_000})
    job = on_disk.submit(list(range(20)), workers=2)
    assert "in predict" in follow_lines(on_disk, job)

    disk.fill()
    gate.touch()
    until(lambda: "disk is full" in reason(on_disk, job))
    waiting = on_disk.status(job)
    disk.make_room()

    ended = on_disk.wait(job)
    assert ("status_running", 0) == (waiting["status"], waiting["batch_metrics"]["failed"])
    assert "status_succeeded" == ended["status"]
    assert list(range(20)) == [item for item, _ in on_disk.rows(job)]


def test_a_batch_timeout_does_not_count_while_rows_wait_for_room(
    on_disk: OperatorProcess, disk: SmallDisk, gate: Path
) -> None:
    gate.touch()
    on_disk.deploy(GATED, config={"gate": str(gate), "row": 100_000})
    disk.fill(leave=200_000)

    job = on_disk.submit(list(range(10)), batch_timeout="2s")
    until(lambda: "disk is full" in reason(on_disk, job))
    assert 2 <= until(lambda: on_disk.status(job)["batches_in_queue"])
    disk.make_room()

    assert "status_succeeded" == on_disk.wait(job)["status"]
    assert list(range(10)) == [item for item, _ in on_disk.rows(job)]


def test_files_that_find_no_room_are_enqueued_when_there_is(
    on_disk: OperatorProcess, disk: SmallDisk, tmp_path: Path
) -> None:
    on_disk.deploy(ECHO)
    (tmp_path / "lines").write_text("".join(f'"{number:0500}"\n' for number in range(4000)))
    source = {"s3_paths": [str(tmp_path / "lines")], "batch_size": 100}

    disk.fill(leave=500_000)
    job = on_disk.http.post("/api", json={"workers": 1, "delimited_files": source}).json()["job_id"]
    until(lambda: "disk is full" in reason(on_disk, job))
    waiting = on_disk.status(job)["status"]
    disk.make_room()

    assert "status_enqueuing" == waiting
    assert "status_succeeded" == on_disk.wait(job)["status"]
    assert [f"{number:0500}" for number in range(4000)] == on_disk.rows(job)


def test_an_end_that_cannot_be_recorded_is_recorded_once_it_can(
    on_disk: OperatorProcess, disk: SmallDisk, gate: Path
) -> None:
    on_disk.deploy(GATED.replace('return [[item, "x" * self.config["row"]] for item in payload]', "return"))
    config = {"gate": str(gate)}
    job = on_disk.submit([1, 2, 3], config=config)
    assert "in predict" in follow_lines(on_disk, job)

    disk.fill()
    gate.touch()
    until(lambda: "disk is full" in reason(on_disk, job))
    waiting = on_disk.status(job)
    disk.make_room()

    assert ("status_running", 3) == (waiting["status"], waiting["batch_metrics"]["succeeded"])
    assert "status_succeeded" == on_disk.wait(job)["status"]


def test_an_operator_that_starts_on_a_full_disk_says_so_or_goes_on_when_it_has_room(
    on_disk: OperatorProcess, disk: SmallDisk, gate: Path
) -> None:
    on_disk.deploy(GATED, config={"gate": str(gate), "row": 1})
    job = on_disk.submit([1, 2, 3])
    assert "in predict" in follow_lines(on_disk, job)
    on_disk.kill()

    disk.fill()
    said = refused(on_disk)
    disk.make_room()
    gate.touch()
    on_disk.start()

    assert "disk is full" in said
    assert "status_succeeded" == on_disk.wait(job)["status"]
    assert [1, 2, 3] == [item for item, _ in on_disk.rows(job)]


def refused(operator: OperatorProcess) -> str:
    """Start an operator that must refuse to; give what it says."""
    data = ["--port", "0", "--data-dir", str(operator.data_dir)]
    command = [*operator._enter, sys.executable, "-m", "cortex", "operator", *data]
    found = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False)
    assert (found.returncode, found.stdout) == (1, ""), found.stderr
    assert found.stderr.startswith("error: ")
    assert "Traceback" not in found.stderr
    return found.stderr


# A disk that is read-only


def test_a_read_only_data_directory_is_named(on_disk: OperatorProcess, disk: SmallDisk) -> None:
    on_disk.deploy(ECHO)
    job = on_disk.submit([1])
    on_disk.wait(job)
    on_disk.stop()

    disk.run("mount", "-o", "remount,ro", str(disk.path))
    said = refused(on_disk)
    disk.run("mount", "-o", "remount,rw", str(disk.path))
    on_disk.start()

    assert str(on_disk.data_dir) in said
    assert "Read-only file system" in said
    assert [1] == on_disk.rows(job)


def test_a_disk_that_turns_read_only_takes_no_jobs_until_it_is_writable(
    on_disk: OperatorProcess, disk: SmallDisk
) -> None:
    on_disk.deploy(ECHO)
    jobs = str(on_disk.data_dir / "jobs")
    before = on_disk.submit([1])
    on_disk.wait(before)

    disk.run("mount", "--bind", jobs, jobs)
    disk.run("mount", "-o", "remount,bind,ro", jobs)
    answer = on_disk.http.post("/api", json={"workers": 1, "item_list": {"items": [1], "batch_size": 1}})
    rows = on_disk.rows(before)
    disk.run("umount", jobs)

    assert (507, "storage.failed") == (answer.status_code, answer.json()["kind"])
    assert "the operator cannot write to its disk: Read-only file system\n\nhint: " in answer.json()["message"]
    assert [1] == rows
    assert [2] == on_disk.rows(on_disk.submit([2]), follow=True)


# A damaged ledger


def flip(path: Path, at: int, count: int = 64) -> None:
    """Damage some bytes of a file."""
    with path.open("r+b") as file:
        file.seek(at)
        damaged = bytes(byte ^ 0x55 for byte in file.read(count))
        file.seek(at)
        file.write(damaged)


def page_of_a_table(ledger: Path) -> int:
    """Give where the root page of the jobs lies."""
    with sqlite3.connect(ledger) as db:
        ((root,), (size,)) = (
            db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'jobs'").fetchone(),
            db.execute("PRAGMA page_size").fetchone(),
        )
    db.close()
    return int((root - 1) * size)


@pytest.mark.parametrize(
    "damage",
    [
        lambda ledger: flip(ledger, 0),
        lambda ledger: flip(ledger, page_of_a_table(ledger)),
        lambda ledger: os.truncate(ledger, page_of_a_table(ledger) + 100),
        lambda ledger: ledger.write_bytes(b""),
        lambda ledger: (ledger.unlink(), ledger.mkdir()),
        lambda ledger: ledger.unlink(),
    ],
    ids=["header", "page", "cut short", "empty", "folder", "gone"],
)
def test_a_damaged_ledger_is_refused_and_nothing_of_its_jobs_is_removed(
    operator: OperatorProcess, damage: Callable[[Path], object]
) -> None:
    operator.deploy(ECHO)
    job = operator.submit([1, 2, 3])
    operator.wait(job)
    operator.stop()
    ledger = operator.data_dir / "ledger.sqlite"
    whole = ledger.read_bytes()
    before = files_of(operator.data_dir, "jobs", "projects")

    damage(ledger)
    said = refused(operator)

    assert "hint: " in said
    assert before == files_of(operator.data_dir, "jobs", "projects")
    for path in operator.data_dir.glob("ledger.sqlite*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    ledger.write_bytes(whole)
    operator.start()
    assert [1, 2, 3] == operator.rows(job)


def files_of(data: Path, *names: str) -> set[Path]:
    return {path for name in names for path in (data / name).rglob("*")}


def test_a_ledger_that_has_lost_its_latest_commits_is_refused(operator: OperatorProcess) -> None:
    operator.deploy(ECHO)
    job = operator.submit([1, 2, 3])
    operator.wait(job)
    operator.kill()
    wal = operator.data_dir / "ledger.sqlite-wal"
    before = files_of(operator.data_dir, "jobs", "projects")

    away = wal.rename(operator.data_dir / "away")
    said = refused(operator)
    for path in operator.data_dir.glob("ledger.sqlite-*"):
        path.unlink()
    away.rename(wal)
    (operator.data_dir / "ledger.sqlite").write_bytes(b"")
    said_again = refused(operator)

    assert "which is newer than all that it knows" in said
    assert job in said
    assert said_again
    assert before == files_of(operator.data_dir, "jobs", "projects")


# Damaged files of a job

ITEMS = list(range(40))


def cut(path: Path, size: int) -> None:
    os.truncate(path, size)


def damage_in_the_middle(path: Path) -> None:
    flip(path, path.stat().st_size // 2, 1)


def put(path: Path, at: int, byte: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(bytes([byte]))


def change_a_digit(path: Path) -> None:
    """Make other items of some: JSON as before."""
    path.write_bytes(path.read_bytes().replace(b"[29]", b"[92]"))


LOST_ITEMS = {
    "payload cut short": lambda folder: cut(folder.payload(0), 50),
    "payload gone": lambda folder: folder.payload(0).unlink(),
    "payload damaged": lambda folder: damage_in_the_middle(folder.payload(0)),
    "payload with other items": lambda folder: change_a_digit(folder.payload(0)),
    "offsets cut short": lambda folder: cut(folder.offsets(0), 81),
    "offsets gone": lambda folder: folder.offsets(0).unlink(),
    "offsets damaged": lambda folder: flip(folder.offsets(0), 80, 8),
}

LOST_STATES = {
    "states cut short": lambda folder: cut(folder.states(0), 20),
    "states gone": lambda folder: folder.states(0).unlink(),
    "states that there are not": lambda folder: put(folder.states(0), 20, 77),
}

HARMLESS = {
    "setup gone": lambda folder: folder.setup.unlink(),
    "setup damaged": lambda folder: cut(folder.setup, 10),
    "pages cut short": lambda folder: [cut(page, 10) for page in folder.workers.glob("*.page")],
    "pages of noise": lambda folder: [page.write_bytes(b"\xee" * 128) for page in folder.workers.glob("*.page")],
    "log gone": lambda folder: folder.log.unlink(),
}


@pytest.fixture
def broken_off(operator: OperatorProcess, gate: Path) -> tuple[str, str]:
    """Two jobs that were in their first batch when everything was killed."""
    operator.deploy(GATED, config={"gate": str(gate), "row": 1})
    jobs = operator.submit(ITEMS), operator.submit(ITEMS)
    for job in jobs:
        assert "in predict" in follow_lines(operator, job)
    processes = operator.worker_processes()
    operator.kill()
    kill(*processes)
    return jobs


def folder_of(operator: OperatorProcess, job: str) -> JobFolder:
    return JobFolder(operator.data_dir / "jobs" / job)


def items_of(operator: OperatorProcess, job: str) -> list[int]:
    return [item for item, _ in operator.rows(job)]


@pytest.mark.parametrize("damage", LOST_ITEMS.values(), ids=LOST_ITEMS)
def test_batches_whose_items_are_damaged_fail_as_such_and_the_others_succeed(
    operator: OperatorProcess, gate: Path, broken_off: tuple[str, str], damage: Callable[[JobFolder], object]
) -> None:
    damaged, other = broken_off

    damage(folder_of(operator, damaged))
    gate.touch()
    operator.start()
    ended = operator.wait(damaged)

    failures = operator.http.get(f"/api/{damaged}/failures").text
    assert "status_completed_with_failures" == ended["status"]
    assert "items on the operator's disk are damaged" in ended["status_reason"]
    assert ended["batch_metrics"]["failed"] == failures.count('"type": "DataDamaged"') > 0
    assert ended["batch_metrics"]["succeeded"] == len(items_of(operator, damaged))
    assert set(items_of(operator, damaged)) <= set(ITEMS)
    assert "status_succeeded" == operator.wait(other)["status"]
    assert ITEMS == items_of(operator, other)


@pytest.mark.parametrize("damage", LOST_STATES.values(), ids=LOST_STATES)
@pytest.mark.parametrize("is_restarted", [True, False])
def test_a_job_whose_states_are_damaged_ends_and_says_so(
    operator: OperatorProcess,
    gate: Path,
    broken_off: tuple[str, str],
    damage: Callable[[JobFolder], object],
    is_restarted: bool,
) -> None:
    damaged, other = broken_off

    if not is_restarted:
        operator.start()
        operator.submit([0])  # it is there
    damage(folder_of(operator, damaged))
    if is_restarted:
        operator.start()
    else:
        operator.status(damaged)  # whoever reads the states is the first to see it
    ended = operator.wait(damaged)
    gate.touch()

    assert "status_unexpected_error" == ended["status"]
    assert "its files are damaged: `" in ended["status_reason"]
    assert "states` " in ended["status_reason"]
    assert "submit the rest again" in ended["status_reason"]
    assert "status_succeeded" == operator.wait(other)["status"]
    assert ITEMS == items_of(operator, other)
    assert [] == [process for process in operator.worker_processes() if damaged in " ".join(words_of(process))]


@pytest.mark.parametrize("damage", HARMLESS.values(), ids=HARMLESS)
def test_files_that_can_be_made_again_cost_nothing(
    operator: OperatorProcess, gate: Path, broken_off: tuple[str, str], damage: Callable[[JobFolder], object]
) -> None:
    damage(folder_of(operator, broken_off[0]))
    gate.touch()
    operator.start()

    for job in broken_off:
        assert "status_succeeded" == operator.wait(job)["status"]
        assert ITEMS == items_of(operator, job)


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[OperatorProcess, str]]:
    """An operator with a job that has ended; a part of its batches has failed."""
    operator = OperatorProcess(tmp_path_factory.mktemp("ended") / "data", "--keep-warm", "0").start()
    operator.deploy(
        """
        class PythonPredictor:
            def __init__(self, config): pass
            def predict(self, payload):
                if payload[0] % 5 == 0:
                    raise ValueError("a fifth")
                return [[item, "x"] for item in payload]
        """
    )
    job = operator.submit(ITEMS)
    operator.wait(job)
    yield operator, job
    operator.stop()


def parts_of(folder: JobFolder, what: str) -> list[Path]:
    return sorted(folder.workers.glob(f"*.{what}"))


DAMAGED_ANSWERS = {
    "rows damaged": ("results", lambda folder: [flip(path, 0, 10**6) for path in parts_of(folder, "rows")]),
    "rows cut short": ("results", lambda folder: [cut(path, 50) for path in parts_of(folder, "rows")]),
    "rows gone": ("results", lambda folder: [path.unlink() for path in parts_of(folder, "rows")]),
    "index cut in an entry": (
        "results",
        lambda folder: [cut(path, ENTRY.size * 3 + 7) for path in parts_of(folder, "index")],
    ),
    "index gone": ("results", lambda folder: [path.unlink() for path in parts_of(folder, "index")]),
    "states cut short": ("results", LOST_STATES["states cut short"]),
    "states gone": ("failures", LOST_STATES["states gone"]),
    "states that there are not": ("failures", LOST_STATES["states that there are not"]),
    "payload cut short": ("failures?items=true", lambda folder: cut(folder.payload(0), 3)),
    "payload gone": ("failures?items=true", LOST_ITEMS["payload gone"]),
    "payload damaged": ("failures?items=true", lambda folder: flip(folder.payload(0), 0, 3)),
    "offsets cut short": ("failures?items=true", lambda folder: cut(folder.offsets(0), 4)),
}


@pytest.mark.parametrize(("what", "damage"), DAMAGED_ANSWERS.values(), ids=DAMAGED_ANSWERS)
def test_what_is_damaged_of_an_ended_job_is_told_and_not_left_out(
    ended: tuple[OperatorProcess, str], tmp_path: Path, what: str, damage: Callable[[JobFolder], object]
) -> None:
    operator, job = ended
    folder = folder_of(operator, job)
    shutil.copytree(folder.root, tmp_path / "whole")

    before = operator.http.get(f"/api/{job}/{what}")
    damage(folder)
    answer = operator.http.get(f"/api/{job}/{what}")
    status, listed = operator.http.get(f"/api/{job}"), operator.http.get("/api")
    shutil.rmtree(folder.root)
    shutil.copytree(tmp_path / "whole", folder.root)

    assert (500, "storage.damaged") == (answer.status_code, answer.json()["kind"]), answer.text
    assert "\n\nhint: " in answer.json()["message"]
    assert (200, 200) == (status.status_code, listed.status_code)
    assert before.text == operator.http.get(f"/api/{job}/{what}").text != ""


def test_an_answer_that_meets_damage_on_its_way_breaks_off(ended: tuple[OperatorProcess, str], tmp_path: Path) -> None:
    operator, job = ended
    states = folder_of(operator, job).states(0)
    away = states.rename(states.with_name("away"))

    lines: list[str] = []
    with (
        operator.http.stream("GET", f"/api/{job}/manifest") as answer,
        pytest.raises(httpx.RemoteProtocolError, match="incomplete"),
    ):
        lines.extend(answer.iter_lines())
    away.rename(states)

    told = [json.loads(line) for line in lines]
    assert ["job", "error"] == [line["kind"] for line in told]
    assert f"`{states}` is missing" in told[-1]["message"]


# S3 that fails


def test_s3_that_answers_503_for_a_while_costs_nothing(s3: S3, start_operator: Callable[..., OperatorProcess]) -> None:
    operator = start_operator("--keep-warm", "0")
    operator.deploy(ECHO)
    s3.put("data/lines", body=b"".join(b"%d\n" % number for number in range(100)))
    s3.faults.refuse("503 Slow Down", "SlowDown", times=3, matching="data/lines")
    source = {"s3_paths": [s3.url("data/")], "batch_size": 10}

    job = operator.http.post("/api", json={"workers": 1, "delimited_files": source}).json()["job_id"]

    assert "status_succeeded" == operator.wait(job)["status"]
    assert list(range(100)) == operator.rows(job)


def test_s3_that_fails_for_ever_ends_the_job_with_what_to_do_and_the_next_one_succeeds(
    s3: S3, start_operator: Callable[..., OperatorProcess]
) -> None:
    operator = start_operator("--keep-warm", "0")
    operator.deploy(ECHO)
    s3.put("data/lines", body=b"1\n2\n")
    s3.faults.refuse("503 Slow Down", "SlowDown", times=10**6, matching="data/lines")
    request = {"workers": 1, "delimited_files": {"s3_paths": [s3.url("data/")], "batch_size": 2}}

    failed = operator.wait(operator.http.post("/api", json=request).json()["job_id"])
    s3.faults.clear()
    job = operator.http.post("/api", json=request).json()["job_id"]

    assert "status_enqueue_failed" == failed["status"]
    assert "kept answering 503 SlowDown" in failed["status_reason"]
    assert "submit again when it has recovered" in failed["status_reason"]
    assert "status_succeeded" == operator.wait(job)["status"]
    assert [1, 2] == operator.rows(job)
