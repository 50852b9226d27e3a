"""One job on several machines while all that can be lost is, at random; every result comes once all the same."""

import os
import random
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

import psutil
import pytest

from cluster import Node, wait_until
from operator_process import OperatorProcess
from processes import children_running, kill_one, name_of
from record import assert_each_once, ends, losses_of_nodes, read_record, start_job, told, visible

ITEMS: Final = 6000
PLAN: Final = {
    "cortex-worker": 3,
    "cortex-superv": 2,
    "cortex-station": 2,
    "ray::StationActor.ended": 2,
    "operator": 2,
    "bridge": 1,
    "raylet": 1,
    "machine": 1,
    "short cut": 1,
    "long cut": 1,
}
"""How many of each are lost: a process of a node by its name, or what the story knows to do."""

pytestmark = pytest.mark.timeout(300)


class Story:
    """Takes away, and brings back."""

    def __init__(
        self, operator: OperatorProcess, nodes: tuple[Node, Node], folder: Path, chance: random.Random
    ) -> None:
        self._operator, self._nodes, self._folder, self._chance = operator, nodes, folder, chance
        self._special: dict[str, Callable[[Node], None]] = {
            "operator": self._kill_operator,
            "bridge": self._kill_bridge,
            "raylet": self._kill_raylet,
            "machine": self._switch_off_and_on,
            "short cut": self._cut_shortly,
            "long cut": self._cut_for_long,
        }
        self.job = start_job(operator, folder, ITEMS, held=ITEMS - 1)

    def lose(self, what: str) -> None:
        """Take this away from a node, at some moment of the job."""
        self._let_some_end(self._chance.randrange(20, 100))
        node = self._chance.choice(self._nodes)
        if node.was_cut:  # Ray may have given it up: then its raylet has ended, and nothing runs there any more
            self._switch_off_and_on(node)
        if what in self._special:
            self._special[what](node)
            return

        def found() -> list[psutil.Process]:
            processes = [each for each in node.ray.processes() if name_of(each) == what]
            return self._chance.sample(processes, len(processes))

        kill_one(found)

    def _let_some_end(self, count: int) -> None:
        wanted = min(ITEMS - 1, len(ends(self._folder)) + count)
        wait_until(lambda: len(ends(self._folder)) >= wanted, "some batches end")

    def _kill_operator(self, node: Node) -> None:
        self._operator.kill()
        self._operator.start()

    def _kill_bridge(self, node: Node) -> None:
        assert self._operator.process is not None
        kill_one(partial(children_running, "cortex.engines.ray.bridge", self._operator.process.pid))

    def _kill_raylet(self, node: Node) -> None:
        node.kill_raylet()
        self._let_some_end(20)
        self._switch_off_and_on(node)

    def _switch_off_and_on(self, node: Node) -> None:
        node.kill()
        node.start()

    def _cut_shortly(self, node: Node) -> None:
        node.cut()
        self._let_some_end(20)
        node.mend()

    def _cut_for_long(self, node: Node) -> None:
        missed = losses_of_nodes(told(self._operator, self.job))
        node.cut()
        wait_until(lambda: losses_of_nodes(told(self._operator, self.job)) > missed, "it was missed")
        node.mend()


def test_whatever_is_lost_each_result_comes_once(
    operator: OperatorProcess, nodes: tuple[Node, Node], folder: Path
) -> None:
    seed = int(os.environ.get("CORTEX_RAY_STORY_SEED") or random.randrange(10**6))  # noqa: S311 - it is to be repeated
    print(f"CORTEX_RAY_STORY_SEED={seed}")
    chance = random.Random(seed)  # noqa: S311
    losses = list(Counter(PLAN).elements())
    chance.shuffle(losses)
    story = Story(operator, nodes, folder, chance)

    seen: list[tuple[str, int, list[int]]] = []
    for what in losses:
        done = visible(operator, story.job)  # before the record, which goes on meanwhile
        seen.append((what, len(read_record(folder)), done))
        print(f"{what}: {len(done)} batches are done")
        story.lose(what)
    (folder / "gate").touch()

    assert_each_once(operator, story.job, folder, range(ITEMS))
    record = read_record(folder)
    for what, lines, done in seen:
        if "cut" in what:
            continue
        again = {line.item for line in record[lines:] if line.what == "begin"} & set(done)
        assert set() == again, f"done before the loss of {what}, and run again"
