"""The batch runner of the oldest guides with the model that they mean: scikit-learn, installed for it."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from guide import LABELS, Runner, beside
from shell import User, new_user

from cortex.environments.pip_settings import uv_variables
from operator_process import OperatorProcess

EXAMPLE = Path(__file__).parents[2] / "examples" / "iris-classifier" / "sklearn"
UV = str(Path(sys.executable).with_name("uv"))
SLOW_SECONDS = 600  # for some hundred megabytes to be installed, twice


@pytest.fixture
def user(tmp_path: Path) -> Iterator[User]:
    """A patient user in an empty folder."""
    with new_user(tmp_path, timeout_seconds=SLOW_SECONDS) as somebody:
        yield somebody


def make_model(folder: Path) -> None:
    """Train as the example's README says, with packages from where this machine gets them."""
    command = [UV, "run", "--no-project", "--with-requirements", "requirements-train.txt", "make_model.py"]
    variables = uv_variables(os.environ)
    made = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, check=False)
    if made.returncode != 0 and "CI" not in os.environ:
        pytest.skip(f"scikit-learn cannot be had: {made.stderr}")
    assert "trained on 150 irises" in made.stdout, made.stderr


@pytest.mark.timeout(2 * SLOW_SECONDS)
def test_the_guide_with_a_model_of_scikit_learn(user: User, start_operator: Callable[..., OperatorProcess]) -> None:
    runner = Runner.of(user, start_operator)
    iris = beside(user, "iris")
    shutil.copytree(EXAMPLE, iris.folder, dirs_exist_ok=True)
    make_model(iris.folder)

    assert "created iris-classifier (RealtimeAPI)\n" == iris.cortex("deploy").out
    ready = iris.cortex("predict", "iris-classifier", "sample.json")
    assert "setosa\n" == ready.out, ready.err
    runner.deploy()
    runner.submit()

    assert LABELS == runner.wait_for_labels()
