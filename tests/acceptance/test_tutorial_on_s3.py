"""The tutorial with its own predictor, as users know it: all of its submissions, against S3."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import tutorial_on_s3
from shell import User
from tutorial_on_s3 import TutorialOnS3

from operator_process import OperatorProcess
from s3_server import S3

STAND_INS = Path(__file__).parent / "stand_ins"


@pytest.fixture
def tutorial(user: User, s3: S3, start_operator: Callable[..., OperatorProcess]) -> Iterator[TutorialOnS3]:
    """The tutorial with stand-ins for torch and torchvision; `make test-extras` has it with themselves."""
    with tutorial_on_s3.prepared(user, s3, start_operator(env=s3.env).address) as tutorial:
        for path in STAND_INS.glob("*.py"):
            shutil.copy(path, user.folder)
        (user.folder / "requirements.txt").unlink()
        tutorial_on_s3.deploy(tutorial)
        yield tutorial


def test_urls_in_the_request_are_classified(tutorial: TutorialOnS3) -> None:
    tutorial_on_s3.classify_urls_in_the_request(tutorial)


def test_urls_in_files_are_classified(tutorial: TutorialOnS3) -> None:
    tutorial_on_s3.classify_urls_in_files(tutorial)


def test_images_in_s3_are_classified(tutorial: TutorialOnS3) -> None:
    tutorial_on_s3.classify_images_in_s3(tutorial)


def test_jobs_are_stopped_and_the_api_is_deleted(tutorial: TutorialOnS3) -> None:
    tutorial_on_s3.stop_jobs(tutorial)
    tutorial_on_s3.delete(tutorial)
