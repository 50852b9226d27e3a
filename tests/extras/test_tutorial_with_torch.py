"""The tutorial with its own requirements: real torch and torchvision; only what the internet holds is stood in for."""

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import tutorial_on_s3
from shell import User, new_user
from tutorial_on_s3 import URLS_IN_S3, TutorialOnS3

from operator_process import OperatorProcess
from s3_server import S3

HERE = Path(__file__).parent
SLOW_SECONDS = 900  # what the first job may take, whose worker waits for some gigabytes to be installed


@pytest.fixture
def user(tmp_path: Path) -> Iterator[User]:
    """A patient user in an empty folder."""
    with new_user(tmp_path, timeout_seconds=SLOW_SECONDS) as somebody:
        yield somebody


@pytest.fixture
def operator(start_operator: Callable[..., OperatorProcess], s3: S3) -> OperatorProcess:
    """An operator for which the versions that the requirements leave open are fixed."""
    operator = start_operator(env={**s3.env, "UV_CONSTRAINT": str(HERE / "constraints.txt")})
    operator.http.timeout = httpx.Timeout(SLOW_SECONDS)
    return operator


@pytest.fixture
def tutorial(user: User, s3: S3, operator: OperatorProcess) -> Iterator[TutorialOnS3]:
    """The tutorial with random weights in place of those that the network downloads."""
    with tutorial_on_s3.prepared(user, s3, operator.address) as tutorial:
        for path in (HERE / "project").iterdir():
            shutil.copy(path, user.folder)
        with (user.folder / ".env").open("a") as env:
            env.write(f"TORCH_HOME={user.home / 'torch'}\n")
            env.write("PYTHONPATH=$PWD\n")  # where `sitecustomize.py` is: it says what torchvision lacks otherwise
        classes = make_weights(tutorial, operator)
        class_of_image = {tutorial.image_at[url]: f"label {number}" for url, number in classes.items()}
        yield replace(tutorial, class_of=lambda url: class_of_image[tutorial.image_at[url]])


def make_weights(tutorial: TutorialOnS3, operator: OperatorProcess) -> dict[str, int]:
    """Have a job write random weights where torchvision looks for them, in the environment that the tutorial's has.

    Gives the class that a network with them sees in each image.
    """
    deployed = tutorial.user.cortex("deploy", "weights.yaml", "--env", "aws")
    assert deployed.code == 0, deployed.err
    urls = sorted(URLS_IN_S3)
    job = operator.submit(urls, api="weights", batch_size=len(urls))
    status = operator.wait(job, api="weights")
    if may_be_skipped(status):
        pytest.skip(status["status_reason"])
    log = operator.log(job, api="weights")
    assert status["status"] == "status_succeeded", log
    assert "torch 2.13.0" in log
    classes = dict(zip(urls, operator.rows(job, api="weights"), strict=True))
    tutorial.user.cortex("delete", "weights", "--env", "aws")
    return classes


def may_be_skipped(status: dict[str, Any]) -> bool:
    """Tell whether this is a laptop that cannot get torch."""
    return "requirements cannot be installed" in status.get("status_reason", "") and "CI" not in os.environ


@pytest.mark.timeout(2 * SLOW_SECONDS)
def test_the_tutorial_with_its_own_requirements(tutorial: TutorialOnS3) -> None:
    assert len({tutorial.class_of(url) for url in URLS_IN_S3}) > 1
    tutorial_on_s3.deploy(tutorial)

    tutorial_on_s3.classify_urls_in_the_request(tutorial)
    tutorial_on_s3.classify_urls_in_files(tutorial)
    tutorial_on_s3.classify_images_in_s3(tutorial)

    tutorial_on_s3.stop_jobs(tutorial)
    tutorial_on_s3.delete(tutorial)
