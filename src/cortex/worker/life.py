"""One Worker of a Job: construct the predictor, run leased Batches, run on_job_complete, end.

Per Batch, in this order: the page names it (so a death has a suspect), the page's limit is read (so the operator can
take back what has not begun), it is attempted and what came of that is written, the state byte is stored, unless
another attempt is to follow. The byte is the ending; a death anywhere before it leaves the Batch open.
"""

import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from cortex.domain.batch import BatchState, HookState, Page
from cortex.domain.frame import Frame
from cortex.domain.identity import batch_ids
from cortex.predictor import LoadedPredictor, load
from cortex.worker.attempts import AttemptPolicy, Attempts
from cortex.worker.kernel import die_with_parent, join_group, name_process
from cortex.worker.link import OperatorGone
from cortex.worker.output import Output
from cortex.worker.predictor_process import PredictorProcess, Setup
from cortex.worker.raised import show, summarize
from cortex.worker.rows import RowsFile
from cortex.worker.segment import LeasedSegment
from cortex.worker.termination import Termination


def main() -> int:
    """Be the Worker that the order on standard input describes, in a fresh process; give the exit code."""
    order = json.loads(sys.stdin.buffer.read())
    end_with(order["supervisor_pid"])
    if order["memory_group"] is not None:
        join_group(order["memory_group"])  # before anything of the user's runs

    def load_class() -> type[Any]:
        enter_project(order["project"], order["python_path"])
        return load(order["predictor_path"], order.get("predictor_type", "python"))  # an earlier operator says none

    return live(order, load_class, Output(), Termination())


def live(order: dict[str, Any], load_class: Callable[[], type[Any]], output: Output, termination: Termination) -> int:
    """Be the Worker that an order describes; give the exit code."""
    name_process("cortex-worker")
    for name, value in order["env"].items():
        os.environ[name] = value  # again: the project's .env was read after these were set
    output.take_over(order.get("node"))
    kind: type[PredictorProcess] = Worker
    if order.get("serves"):  # Workers of Jobs need not wait until what reads requests is imported
        kind = importlib.import_module("cortex.worker.replica").Replica
    try:
        return kind(order, load_class, output, termination).live()
    except OperatorGone:
        return 0


def enter_project(project: str, python_path: str | None) -> None:
    """Make the project what relative paths and imports start from."""
    os.chdir(project)
    sys.path.insert(0, str(Path(project, python_path or "")))


def end_with(supervisor: int) -> None:
    """Let the kernel kill this process when its supervisor ends, so that no Worker is left without one."""
    die_with_parent()
    if os.getppid() != supervisor:
        os._exit(0)


class Worker(PredictorProcess):
    """See the module."""

    FACTS: ClassVar = {"has_hook": False}

    _setup: Setup
    _segment: LeasedSegment | None = None

    def _work(self, predictor: LoadedPredictor, setup: Setup) -> None:
        self._setup = setup
        ready = {"phase": "ready", "has_hook": predictor.has_on_job_complete, "error": None}
        link = self._introduce(lambda: ready)
        attempts = self._attempts(predictor)  # while the operator looks for a Lease
        while (frame := link.receive())["type"] != "end":
            if frame["type"] == "lease":
                link.send(self._run(frame, attempts))
            elif frame["type"] == "run_hook":
                link.send(self._run_hook(predictor))
            elif frame["type"] == "finish":
                self._output.log(frame["message"])
                self._output.close()
                return

    def _attempts(self, predictor: LoadedPredictor) -> Attempts:
        return Attempts(
            folder=self._folder,
            policy=AttemptPolicy.from_setup(self._setup),
            predictor=predictor,
            rows=RowsFile(self._folder.rows(self._order["worker"]), self._folder.index(self._order["worker"])),
            page=self._page,
            output=self._output,
        )

    def _run(self, lease: Frame, attempts: Attempts) -> Frame:
        """Run the Batches of a Lease; give what is to be said at its end."""
        if self._segment is None or self._segment.number != lease["segment"]:
            if self._segment is not None:
                self._segment.close()
            self._segment = LeasedSegment(self._folder, lease["segment"], lease["segment_first"])
        attempts.begin(lease, self._segment.problem)
        told = self._run_batches(lease, self._segment, attempts)
        self._page[Page.CURRENT] = 0
        self._output.flush()
        return {"type": "lease_ended", "token": lease["token"], **told}

    def _run_batches(self, lease: Frame, segment: LeasedSegment, attempts: Attempts) -> Frame:
        """Run the Batches of a Lease; tell how many have ended, how many of these have failed, and how long it took."""
        page, states, log_at, clock = self._page, segment.states, self._output.log_at, time.time_ns
        started_word, current_word, limit_word = Page.STARTED_AT_NS, Page.CURRENT, Page.LIMIT
        name = batch_ids(self._setup.get("names_batches", self._order["job_id"]))
        segment_first = lease["segment_first"]
        is_logged, left_out = not page[Page.LOG_IS_FULL], page[Page.LINES_LEFT_OUT]
        finished = failed = 0
        finished_before, busy_ns = page[Page.FINISHED], page[Page.BUSY_NS]
        began_at_ns = clock()
        for batch, payload in segment.batches(lease["first"], lease["end"]):
            started_at_ns = clock()
            page[started_word] = started_at_ns
            page[current_word] = batch + 1
            if batch >= page[limit_word]:
                break
            identity = name(batch)
            if is_logged:
                log_at(started_at_ns, f"processing batch {identity}")
            else:
                left_out += 1
                page[Page.LINES_LEFT_OUT] = left_out
            state = attempts.run(batch, identity, payload)
            if state:
                states[batch - segment_first] = state
                finished += 1
                page[Page.FINISHED] = finished_before + finished
                failed += state >= BatchState.FAILED
            busy_ns += max(0, clock() - started_at_ns)
            page[Page.BUSY_NS] = busy_ns
        return {"finished": finished, "failed": failed, "seconds": (clock() - began_at_ns) / 1e9}

    def _run_hook(self, predictor: LoadedPredictor) -> Frame:
        self._page[Page.HOOK] = HookState.STARTED
        self._output.log("executing on_job_complete")
        error_summary = None
        try:
            predictor.on_job_complete()
            self._page[Page.HOOK] = HookState.SUCCEEDED
        except (Exception, SystemExit) as error:
            print(show(error))  # noqa: T201
            error_summary = summarize(error)
            self._page[Page.HOOK] = HookState.FAILED
        self._output.flush()
        return {"type": "hook_ended", "error": error_summary}
