"""The batch runner of the oldest guides: an API that sends each item of a list to another one, and waits for it."""

import json
import re
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from guide import LABELS, Runner, beside
from shell import User

from operator_process import OperatorProcess
from waiting import wait_until

EXAMPLES = Path(__file__).parents[2] / "examples"
IRIS = """\
import time
import uuid
from pathlib import Path


class PythonPredictor:
    def __init__(self, config):
        self.edition, self.gate = config["edition"], Path(config["gate"])

    def predict(self, payload):
        Path(self.gate, f"{uuid.uuid4()}.{self.edition}").touch()
        while not Path(self.gate, "open").exists():
            time.sleep(0.01)
        length = payload["petal_length"]
        return "setosa" if length < 2.5 else "versicolor" if length < 5 else "virginica"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The API that classifies one item; what comes to its `predict` stays there until the gate is open."""

    user: User
    gate: Path

    def deploy(self, *, edition: str = "first", **autoscaling: int) -> None:
        config = {"edition": edition, "gate": str(self.gate)}
        predictor = {"type": "python", "path": "predictor.py", "config": config}
        api = {"name": "iris-classifier", "predictor": predictor, "autoscaling": autoscaling}
        self.user.write("predictor.py", IRIS)
        self.user.write("cortex.yaml", json.dumps([api]))
        deployed = self.user.cortex("deploy")
        assert deployed.code == 0, deployed.err

    def arrived(self) -> dict[str, int]:
        """Give how many have come to `predict`, of each edition."""
        return dict(Counter(path.suffix.removeprefix(".") for path in self.gate.iterdir() if path.suffix))

    def wait_for(self, **arrived: int) -> None:
        wait_until(lambda: self.arrived() == arrived, f"{arrived} have come to predict")

    def open(self) -> None:
        Path(self.gate, "open").touch()


@pytest.fixture
def target(user: User, tmp_path: Path) -> Target:
    """The target, which is not deployed yet; its gate is closed."""
    target = Target(user=beside(user, "iris"), gate=tmp_path / "gate")
    target.gate.mkdir()
    return target


@pytest.fixture
def runner(user: User, start_operator: Callable[..., OperatorProcess]) -> Runner:
    """The runner, which is not deployed yet."""
    return Runner.of(user, start_operator)


@pytest.fixture(autouse=True)
def nothing_is_left(target: Target) -> Iterator[None]:
    """Open the gate at the end, or a replica would wait behind it for ever."""
    yield
    target.open()


def test_all_samples_are_classified_though_nobody_waits_for_that(target: Target, runner: Runner) -> None:
    target.deploy(max_replicas=1)
    runner.deploy()

    runner.submit()
    target.wait_for(first=1)
    assert [] == runner.labels()
    target.open()

    assert LABELS == runner.wait_for_labels()


def test_a_list_counts_even_if_its_sender_is_gone_before_the_operator_has_looked(
    target: Target, runner: Runner
) -> None:
    target.deploy()
    target.open()
    runner.deploy()
    assert runner.operator.process is not None

    runner.operator.process.send_signal(signal.SIGSTOP)
    runner.submit()
    runner.operator.process.send_signal(signal.SIGCONT)

    assert LABELS == runner.wait_for_labels()


def test_the_runner_survives_its_target_being_redeployed_and_scaled(target: Target, runner: Runner) -> None:
    target.deploy(max_replicas=1)
    runner.deploy()
    runner.submit()
    target.wait_for(first=1)

    target.deploy(edition="second", max_replicas=1)
    target.wait_for(first=1, second=1)
    target.deploy(edition="second", min_replicas=2, max_replicas=2)
    target.wait_for(first=1, second=2)
    target.deploy(edition="second", max_replicas=1)
    wait_until(lambda: runner.replicas("iris-classifier")["updated"]["ready"] == 1, "one replica is left")
    target.open()

    assert LABELS == runner.wait_for_labels()
    assert {"first": 1, "second": 2} == target.arrived()
    wait_until(lambda: all_of(runner.replicas("iris-classifier")) == 1, "those that were let go have ended")

    runner.submit()
    assert sorted(2 * LABELS) == runner.wait_for_labels(6)


def test_a_target_that_is_scaled_to_zero_is_started_by_the_first_item(target: Target, runner: Runner) -> None:
    target.deploy(min_replicas=0, max_replicas=1)
    runner.deploy()
    assert 0 == all_of(runner.replicas("iris-classifier"))

    target.open()
    runner.submit()

    assert LABELS == runner.wait_for_labels()
    assert {"first": 3} == target.arrived()


def test_the_configuration_of_the_later_edition_deploys(target: Target, runner: Runner) -> None:
    target.deploy()
    target.open()

    configuration = runner.guide.later_configuration(runner.endpoint_of("iris-classifier"))
    runner.deploy(configuration)
    runner.submit()

    assert re.search(
        r"^  autoscaling:\n    max_replicas: 1 .*\n    threads_per_process: 1 ", configuration, re.MULTILINE
    )
    assert LABELS == runner.wait_for_labels()


def test_the_guide_with_the_iris_classifier_of_the_examples(user: User, runner: Runner) -> None:
    iris = beside(user, "onnx")
    without_requirements = shutil.ignore_patterns("requirements*.txt")  # the base set has them here
    shutil.copytree(EXAMPLES / "iris-classifier" / "onnx", iris.folder, ignore=without_requirements, dirs_exist_ok=True)
    deployed = iris.cortex("deploy")
    assert deployed.code == 0, deployed.err
    runner.deploy()

    runner.submit()

    assert LABELS == runner.wait_for_labels()


def test_the_example_gives_the_labels_to_those_who_wait_and_goes_on_for_those_who_do_not(
    target: Target, runner: Runner
) -> None:
    target.deploy()
    target.open()
    shutil.copytree(EXAMPLES / "batch-runner", runner.user.folder, dirs_exist_ok=True)
    deployed = runner.user.cortex("deploy")
    assert deployed.code == 0, deployed.err

    waited = runner.user.cortex("predict", "batch-runner", "samples.json")
    assert waited.code == 0, waited.err
    assert LABELS == json.loads(waited.out)

    assert "" == runner.user.shell(f"python send_and_forget.py {runner.endpoint_of('batch-runner')}")
    log = ["logs", "batch-runner", "--no-follow"]
    wait_until(lambda: runner.user.cortex(*log).out.count("classified as ") == 6, "all are classified twice")


def all_of(counts: dict[str, Any]) -> int:
    """Give how many replicas there are, in whatever state."""
    return sum(counts["updated"].values()) + sum(counts["stale"].values())
