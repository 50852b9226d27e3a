"""A predictor that keeps a record of what it runs and where, on a disk that all machines share."""

import json
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from cluster import Node, wait_until
from operator_process import OperatorProcess

CPUS: Final = 2
"""How many workers have room on each of the nodes that tests share."""

RECORDER: Final = """
    import json, os, socket, time

    class PythonPredictor:
        def __init__(self, config):
            self.config = config
            self.record = os.open(config["folder"] + "/record", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            self.node = socket.gethostname()
            self.note("constructed", -1)
            print(f"constructed on {self.node}", flush=True)

        def note(self, what, item):
            os.write(self.record, json.dumps([what, self.node, os.getpid(), item]).encode() + b"\\n")

        def predict(self, payload):
            item = payload[0]
            self.note("begin", item)
            time.sleep(self.config.get("seconds", 0.01))
            while item >= self.config.get("held", item + 1) and not os.path.exists(self.config["folder"] + "/gate"):
                time.sleep(0.01)
            self.note("end", item)
            return [{"item": item, "node": self.node}]

        def on_job_complete(self):
            self.note("hook", -1)
"""
"""Items from `held` on wait in predict for a file `gate` in the folder."""


class Line(NamedTuple):
    """One line of the record."""

    what: str
    node: str
    pid: int  # as it is on its node
    item: int


def read_record(folder: Path) -> list[Line]:
    """Read what has been written so far."""
    path = folder / "record"
    text = path.read_text() if path.exists() else ""
    return [Line(*json.loads(line)) for line in text[: text.rfind("\n") + 1].splitlines()]


def ends(folder: Path) -> Counter[int]:
    """Count how often predict came to the end of each item."""
    return Counter(line.item for line in read_record(folder) if line.what == "end")


def in_predict(folder: Path, node: str) -> dict[int, int]:
    """Give the processes on a node that are in predict, and the item of each."""
    inside: dict[int, int] = {}
    for line in read_record(folder):
        if line.node == node:
            inside[line.pid] = line.item
            if line.what == "end":
                inside.pop(line.pid)
    return {pid: item for pid, item in inside.items() if item >= 0}


def visible(operator: OperatorProcess, job: str) -> list[int]:
    """Give the items whose results can be read already: none of them may be run again."""
    return [row["item"] for row in operator.rows(job)]


def told(operator: OperatorProcess, job: str) -> str:
    """Give the log of a job, but for the line of each batch."""
    return "".join(line for line in operator.log(job).splitlines(keepends=True) if "processing batch" not in line)


def losses_of_nodes(log: str) -> int:
    """Count how often a log says that a worker was lost with its node: by whom it was missed first, is open."""
    return log.count("was lost with its node") + log.count("was cut off: nothing was heard of its node")


def assert_each_once(
    operator: OperatorProcess, job: str, folder: Path, items: Sequence[int], earlier: Collection[int] = ()
) -> dict[str, Any]:
    """Wait for the end of a job: all results are there, once, and nothing of `earlier` was run again."""
    status = operator.wait(job)
    log = told(operator, job)
    rows = operator.rows(job)
    counted = ends(folder)

    assert "status_succeeded" == status["status"], log
    assert len(items) == status["batch_metrics"]["succeeded"], log
    assert list(items) == [row["item"] for row in rows], log
    assert set(items) == set(counted)
    assert {} == {item: counted[item] for item in earlier if counted[item] != 1}
    assert ["hook"] == [line.what for line in read_record(folder) if line.what == "hook"]
    return status


def start_job(
    operator: OperatorProcess, folder: Path, items: int, *, held: int | None = None, workers: int = 2 * CPUS
) -> str:
    """Run a job of batches of one item with the recorder; give its id."""
    config = {"folder": str(folder), **({} if held is None else {"held": held})}
    operator.deploy(RECORDER, config=config, compute={"cpu": 1})
    return operator.submit(list(range(items)), workers=workers)


def wait_until_held(folder: Path, *nodes: Node, lives: int = 1, held: int) -> None:
    """Wait until all workers of each node wait for the gate: those of its last life, if it is not in its first."""

    def all_wait() -> bool:
        return all(
            lives * CPUS == len(constructions(folder, node))
            and all(in_predict(folder, node.name).get(pid, -1) >= held for pid in constructions(folder, node)[-CPUS:])
            for node in nodes
        )

    wait_until(all_wait, "all workers wait for the gate")


def constructions(folder: Path, node: Node) -> list[int]:
    """Give the processes on a node that have constructed the predictor."""
    return [line.pid for line in read_record(folder) if line.what == "constructed" and line.node == node.name]
