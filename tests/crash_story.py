"""One story of an operator and its jobs, in which every kind of process is killed while batches run.

All chance comes from one seed. The predictor keeps a record of its own, one line for each thing that it does, in the
order in which they happen: it says who is in predict, so who is to be killed, and in the end what was run how often.
"""

import json
import random
import textwrap
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import httpx
import numpy as np
import psutil

from cortex.domain.batch import BatchState
from cortex.domain.identity import batch_id, part_id
from cortex.domain.isolation import Part
from cortex.domain.job import Counts, Job, JobStatus
from cortex.domain.layout import JobFolder
from cortex.premises import LEDGER
from cortex.storage.ledger import Ledger
from cortex.storage.segments import States
from cortex.storage.sqlite import SqliteLedger
from operator_process import PREPARED, OperatorProcess
from prepared_operator import SEGMENT_BYTES
from processes import children_named, is_alive
from waiting import wait_until

PREDICTOR: Final = textwrap.dedent(
    """
    import json, os, time

    class PythonPredictor:
        def __init__(self, config):
            self.record = os.open(config["record"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)

        def note(self, what, batch="", items=()):
            line = [what, os.getpid(), os.getppid(), os.environ["CORTEX_JOB_ID"], batch, list(items)]
            os.write(self.record, json.dumps(line).encode() + b"\\n")

        def predict(self, payload, batch_id):
            self.note("begin", batch_id, payload)
            time.sleep(2 if payload[0] % 1000 == 0 else 0.004)
            if any(item % 101 == 50 for item in payload):
                self.note("raise", batch_id, payload)
                raise ValueError(payload)
            self.note("end", batch_id, payload)
            return payload

        def on_job_complete(self):
            self.note("hook")
    """
)

ISOLATE: Final = {"on_failed_batch": "isolate", "retries": {"attempts": 2, "backoff": "50ms"}}
"""What half of the jobs ask for: their poison items fail alone, and after a second attempt."""

_POISON: Final = (101, 50)  # an item with this remainder of this divisor is poison
_LONG: Final = 1000  # the first item of a batch that takes longer than an operator needs to come back is a multiple

PLAN: Final = {"worker": 8, "operator": 5, "enqueuer": 4, "supervisor": 4, "stop": 1}
"""How many of each kind are killed; `stop` is a worker that is stopped for longer than may be."""

BATCH_SIZE: Final = 4
INLINE_BATCHES: Final = 500
FILE_BATCHES: Final = 500
_LITTLE_WORK: Final = 150
_MAX_HITS: Final = 2  # a batch that is the death of three workers is given up


class Line(NamedTuple):
    """One line of the predictor's record."""

    what: str
    pid: int
    parent: int
    job: str
    batch: str
    items: Sequence[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Submitted:
    """A job that was acknowledged."""

    job: str
    items: Sequence[int]
    isolates: bool

    @property
    def batches(self) -> list[Sequence[int]]:
        """Its batches."""
        return [self.items[first : first + BATCH_SIZE] for first in range(0, len(self.items), BATCH_SIZE)]

    @property
    def failures(self) -> list[tuple[int, int]]:
        """Which items are to fail: the number of the first, and how many."""
        failing = [batch for batch in self.batches if any(map(is_poison, batch))]
        parts = [[item] for batch in failing for item in batch if is_poison(item)] if self.isolates else failing
        return [(part[0] - self.items[0], len(part)) for part in parts]

    @property
    def rows(self) -> list[int]:
        """What is to come of it."""
        failed = {first + number for first, count in self.failures for number in range(count)}
        return [item for number, item in enumerate(self.items) if number not in failed]


def is_poison(item: int) -> bool:
    """Tell whether predict raises on it."""
    return item % _POISON[0] == _POISON[1]


def batch_of(items: Sequence[int]) -> int:
    """Name the batch that these items are in, of whatever job."""
    return items[0] // BATCH_SIZE


@dataclass(slots=True)
class Record:
    """The predictor's record, as far as it has been read."""

    path: Path
    lines: list[Line] = field(default_factory=list)
    last_of: dict[int, Line] = field(default_factory=dict)
    _offset: int = 0

    def read(self) -> list[Line]:
        """Read on; give all lines."""
        with suppress(FileNotFoundError), self.path.open("rb") as file:
            file.seek(self._offset)
            new = file.read()
            whole = new[: new.rfind(b"\n") + 1]
            self._offset += len(whole)
            for text in whole.splitlines():
                line = Line(*json.loads(text))
                self.lines.append(line)
                self.last_of[line.pid] = line
        return self.lines


class CrashStory:
    """See the module."""

    def __init__(self, folder: Path, seed: int, *, program: Sequence[str] = PREPARED) -> None:
        self.seed = seed
        self.kills: Counter[str] = Counter()
        self.problems: list[str] = []
        self.submitted: list[Submitted] = []
        self.hits: Counter[str] = Counter()  # how often a worker was killed in a batch or a part of one, by its id
        self._hit_batches: Counter[int] = Counter()
        self._unheard: set[int] = set()  # workers whose last endings nobody here may have heard of
        self.charged = 0  # deaths that batches were charged with
        self._folder = folder
        self._chance = random.Random(seed)  # noqa: S311 - it is to be repeated
        self._record = Record(folder / "record")
        self._enqueued_at_kill: dict[str, int] = {}
        self._next_item = 0
        env = {SEGMENT_BYTES: "24"}
        self.operator = OperatorProcess(
            folder / "data", "--keep-warm", "0", "--heartbeat", "1", env=env, program=program
        )

    @property
    def batches(self) -> int:
        """How many batches there were."""
        return sum(len(each.batches) for each in self.submitted)

    def tell(self, plan: dict[str, int] = PLAN) -> None:
        """Let it happen; afterwards `problems` says what went wrong."""
        kinds = list(Counter(plan).elements())
        self._chance.shuffle(kinds)
        self.operator.start()
        try:
            self.operator.deploy(PREDICTOR, config={"record": str(self._record.path)})
            for kind in kinds:
                self._see_to_it_that_there_is_work()
                self._let_some_batches_end(self._chance.randrange(80))
                {
                    "worker": self._kill_worker,
                    "operator": self._kill_operator,
                    "enqueuer": self._kill_enqueuer,
                    "supervisor": self._kill_supervisor,
                    "stop": self._stop_worker,
                    "station": self._kill_station,
                }[kind]()
                self.kills[kind] += 1
            self._check()
        finally:
            if self.operator.process is not None:
                self.operator.stop()

    # Work

    def _items(self, batches: int) -> list[int]:
        first = self._next_item
        self._next_item += batches * BATCH_SIZE
        return list(range(first, self._next_item - 1))  # the last batch is not full

    def _submit_inline(self, batches: int = INLINE_BATCHES) -> None:
        self._submit(self._items(batches))

    def _submit_files(self) -> None:
        items = self._items(FILE_BATCHES)
        path = self._folder / f"{items[0]}.json"
        path.write_text("".join(f"{item}\n" for item in items))
        self._submit(items, delimited_files={"s3_paths": [str(path)], "batch_size": BATCH_SIZE})

    def _submit(self, items: Sequence[int], **dataset: Any) -> None:
        dataset = dataset or {"item_list": {"items": items, "batch_size": BATCH_SIZE}}
        isolates = self._chance.random() < 0.5
        request = {"workers": 2, **dataset, **(ISOLATE if isolates else {})}
        answer = self.operator.http.post("/api", json=request)
        assert answer.status_code == 200, answer.text
        self.submitted.append(Submitted(job=str(answer.json()["job_id"]), items=items, isolates=isolates))

    def _see_to_it_that_there_is_work(self) -> None:
        """See to it that enough batches of running jobs are open, whatever the pace of this machine."""
        statuses = [self.operator.status(each.job) for each in self.submitted[-4:]]
        running = [each for each in statuses if each["status"] == JobStatus.RUNNING]
        if sum(each["batches_in_queue"] for each in running) < _LITTLE_WORK:
            self._submit_inline()

    def _let_some_batches_end(self, count: int) -> None:
        wanted = len(self._record.read()) + count

        def are_there() -> bool:
            if len(self._record.read()) < wanted:
                self._see_to_it_that_there_is_work()
                return False
            return True

        wait_until(are_there, f"{count} batches have ended")

    # Kills

    def _worker_in_predict(self) -> tuple[psutil.Process, Line]:
        """Stop a worker that is in predict, by its own record, and give it with what it is in."""
        found: list[tuple[psutil.Process, Line]] = []

        def is_found() -> bool:
            self._see_to_it_that_there_is_work()
            self._record.read()
            ours = {process.pid: process for process in self.operator.worker_processes()}
            candidates = [pid for pid in self._record.last_of if pid in ours]
            self._chance.shuffle(candidates)
            for pid in candidates:
                if (line := self._stop_in_predict(ours[pid])) is not None:
                    found.append((ours[pid], line))
                    return True
            return False

        wait_until(is_found, "a worker is in predict")
        return found[0]

    def _stop_in_predict(self, process: psutil.Process) -> Line | None:
        with suppress(psutil.NoSuchProcess):
            process.suspend()
            wait_until(
                lambda: process.status() in (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE), "a worker stands still"
            )
            self._record.read()
            line = self._record.last_of[process.pid]
            if line.what == "begin" and self._hit_batches[batch_of(line.items)] < _MAX_HITS:
                return line
            process.resume()
        return None

    def _kill_worker(self) -> None:
        process, line = self._worker_in_predict()
        self.hits[line.batch] += 1
        self._hit_batches[batch_of(line.items)] += 1
        process.kill()

    def _stop_worker(self) -> None:
        """Stop a worker until it has lost its lease; when it is let go on, there is nobody to do so."""
        process, _ = self._worker_in_predict()
        wait_until(lambda: not is_alive(process), "it is killed")
        with suppress(psutil.NoSuchProcess):
            process.resume()

    def _kill_supervisor(self) -> None:
        process, line = self._worker_in_predict()
        process.resume()
        with suppress(psutil.NoSuchProcess):
            psutil.Process(line.parent).kill()

    def _kill_station(self) -> None:
        """Kill what speaks for a worker elsewhere, with what it has not told yet."""
        process, line = self._worker_in_predict()
        self._unheard.add(process.pid)
        process.resume()
        with suppress(psutil.NoSuchProcess):
            station = psutil.Process(line.parent).parent()
            if station is not None and station.name() == "cortex-station":
                station.kill()

    def _kill_enqueuer(self) -> None:
        """Kill one that has done something: three in a row that have not are a failure of the job."""

        def is_killed() -> bool:
            for each in self.submitted:
                status = self.operator.status(each.job)
                enqueued = status["total_batch_count"]
                if status["status"] == JobStatus.ENQUEUING and enqueued > self._enqueued_at_kill.get(each.job, 0):
                    with suppress(psutil.NoSuchProcess):  # it has just ended
                        for process in self._enqueuers()[:1]:
                            process.kill()
                            self._enqueued_at_kill[each.job] = enqueued
                            return True
            if not self._enqueuers():
                self._submit_files()
            return False

        wait_until(is_killed, "an enqueuing process is at work")

    def _enqueuers(self) -> list[psutil.Process]:
        assert self.operator.process is not None
        with suppress(psutil.NoSuchProcess):
            return children_named("cortex-enqueue", self.operator.process.pid)
        return []

    def _begin_a_long_batch(self) -> None:
        """Let a worker be in a batch when the next operator comes."""
        self._next_item += -self._next_item % _LONG
        items = self._items(8)
        self._submit(items)
        wait_until(lambda: any(items[0] in line.items for line in self._record.read()[-1000:]), "a long batch begins")

    def _kill_operator(self) -> None:
        """Kill it while a job is being submitted: once acknowledged, the job is there; if it was not, it may be."""
        if self._chance.random() < 0.5:
            self._submit_files()
        else:
            self._begin_a_long_batch()
        items, key = self._items(2), f"key-{self._next_item}"
        answers: list[str] = []

        def submit() -> None:
            request = {"workers": 1, "item_list": {"items": items, "batch_size": BATCH_SIZE}}
            with suppress(httpx.TransportError):
                answer = self.operator.http.post("/api", json=request, headers={"Idempotency-Key": key})
                answers.append(answer.json()["job_id"])

        client = threading.Thread(target=submit)
        client.start()
        time.sleep(self._chance.random() * 0.02)  # to hit another moment each time
        assert self.operator.process is not None
        self.operator.process.kill()
        client.join()
        self.operator.kill()
        self.operator.start()
        acknowledged = list(answers)
        submit()
        if len({*answers}) != 1 or len(answers) == len(acknowledged):
            self.problems.append(f"{key} was job {acknowledged} when the operator was killed, and then {answers}")
        self.submitted.append(Submitted(job=answers[-1], items=items, isolates=False))

    # What must hold

    def _check(self) -> None:
        endings = [self.operator.wait(each.job) for each in self.submitted]
        self._record.read()
        for each, status in zip(self.submitted, endings, strict=True):
            self._check_job(each, status)
        self._check_runs()
        errors = self.operator.stop()
        if "Traceback" in errors:
            self.problems.append(f"the operator wrote: {errors}")
        if left := self.operator.worker_processes():
            self.problems.append(f"there are left {left}")
        with closing(SqliteLedger(self.operator.data_dir / LEDGER)) as ledger:
            known = {job.id: job for job in ledger.jobs("api")}
            if known.keys() != {each.job for each in self.submitted}:
                self.problems.append(f"the ledger has the jobs {sorted(known)}")
            for each in self.submitted:
                self._check_ledger(ledger, known[each.job], each)

    def _check_job(self, each: Submitted, status: dict[str, Any]) -> None:
        hooks = [
            number for number, line in enumerate(self._record.lines) if (line.what, line.job) == ("hook", each.job)
        ]
        batches = [number for number, line in enumerate(self._record.lines) if line.job == each.job]
        was_hook_lost = str(status.get("status_reason", "")).startswith(
            "on_job_complete failed: the worker that ran it"
        )
        if len(hooks) != 1 and not (was_hook_lost and not hooks):
            self.problems.append(f"on_job_complete of {each.job} ran {len(hooks)} times")
        if hooks and hooks[0] != batches[-1]:
            self.problems.append(f"on_job_complete of {each.job} ran before its last batch")
        expected = JobStatus.COMPLETED_WITH_FAILURES if each.failures else JobStatus.SUCCEEDED
        if status["status"] != expected and not was_hook_lost:
            log = self.operator.log(each.job)[-2000:]
            self.problems.append(f"{each.job} is {status['status']}: {status.get('status_reason')}\n{log}")
        rows = self.operator.rows(each.job)
        if rows != each.rows:
            lost = set(each.rows) - set(rows)
            doubled = [row for row, times in Counter(rows).items() if times > 1]
            self.problems.append(f"{each.job} has {len(lost)} rows lost, {len(doubled)} doubled, or in another order")
        lines = map(json.loads, self.operator.http.get(f"/api/{each.job}/failures").text.splitlines())
        failures = [(failure["first_item"], failure["items"]) for failure in lines]
        if failures != each.failures:
            self.problems.append(f"{each.job} has failed in {failures}, not in {each.failures}")

    def _check_runs(self) -> None:
        """A batch that has ended is not run again, unless its worker died before it could say so: it did no more."""
        in_batch: dict[int, int] = {}  # the batch that each process was in last
        ended: Counter[int] = Counter()
        for line in self._record.lines:
            if line.what != "hook" and line.pid not in self._unheard:
                batch = batch_of(line.items)
                if (before := in_batch.get(line.pid, batch)) != batch:
                    ended[before] += 1  # or an attempt at it: its worker has gone on with another one
                in_batch[line.pid] = batch
        for each in self.submitted:
            for items in each.batches:
                attempts = 2 if each.isolates and any(map(is_poison, items)) else 1
                if ended[batch_of(items)] > attempts:
                    self.problems.append(f"{items} of {each.job} were run {ended[batch_of(items)]} times")
        submitted = {item for each in self.submitted for item in each.items}
        run = {item for line in self._record.lines for item in line.items}
        if submitted != run:
            self.problems.append(f"{len(submitted - run)} items were never in predict, {len(run - submitted)} are odd")

    def _check_ledger(self, ledger: Ledger, job: Job, each: Submitted) -> None:
        folder, end = JobFolder(self.operator.data_dir / "jobs" / job.id), 0
        states: Counter[int] = Counter()
        for segment in ledger.segments(job.id):
            if segment.first != end:
                self.problems.append(f"{segment} of {job.id} does not follow the one before")
            end = segment.end
            states.update(np.frombuffer(States(folder, segment).read(), np.uint8).tolist())
        failed = sum(any(map(is_poison, batch)) for batch in each.batches)
        counts = Counts(
            succeeded=len(each.batches) - failed,
            failed=failed,
            succeeded_items=len(each.rows),
            failed_items=len(each.items) - len(each.rows),
        )
        if counts != job.final_counts or end != counts.total:
            self.problems.append(f"{job.id} with {end} batches was counted as {job.final_counts}, not as {counts}")
        succeeded = states.pop(BatchState.SUCCEEDED_WITH_ROWS, 0)
        if succeeded != counts.succeeded or not states.keys() <= {BatchState.FAILED, BatchState.FAILED_IN_PART}:
            self.problems.append(f"of {job.id}, {succeeded} batches have succeeded, and others stand at {dict(states)}")
        if workers := ledger.workers(job.id):
            self.problems.append(f"{workers} of {job.id} are not known to be gone")
        for death in ledger.deaths(job.id):
            name = batch_id(job.names_batches, death.batch)
            if death.part != Part(0, job.items_of(death.batch)):
                name = part_id(name, death.part)
            if death.deaths > self.hits[name] or death.timeouts:
                self.problems.append(f"{name} of {job.id}, in which {self.hits[name]} workers were killed, has {death}")
            self.charged += death.deaths
