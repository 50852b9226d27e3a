"""What the tests of the contract share: one operator, one bucket, and users at a shell."""

import os
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from contract_world import ECHO, AtOperator, Gate
from shell import User

from operator_process import OperatorProcess
from s3_faults import Faults
from s3_server import S3, fresh_bucket


@pytest.fixture(scope="session")
def s3(s3_server: tuple[str, Faults]) -> Iterator[S3]:
    """A bucket; each test has a prefix of its own."""
    with fresh_bucket(*s3_server) as s3:
        yield s3


@pytest.fixture(scope="session")
def operator(s3: S3, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OperatorProcess]:
    """One operator that reaches S3, with an API that gives back what it gets; each test deploys others by its own."""
    # Nothing leaves this machine: the other clouds are asked for here, where nobody speaks TLS.
    clouds = {"GOOGLE_BASE_URL": s3.endpoint, "GOOGLE_SKIP_SIGNATURE": "true", "AZURE_STORAGE_ACCOUNT_NAME": "nobody"}
    clouds |= {"AZURE_STORAGE_ENDPOINT": s3.endpoint, "AZURE_SKIP_SIGNATURE": "true"}
    data_dir = tmp_path_factory.mktemp("operator") / "data"
    operator = OperatorProcess(data_dir, "--keep-warm", "600", env={**s3.env, **clouds}).start()
    operator.deploy(ECHO, name="echo")
    yield operator
    processes = operator.worker_processes()
    assert operator.stop() == ""  # what it cannot answer, it writes to stderr
    assert psutil.wait_procs(processes, timeout=10)[1] == []


@pytest.fixture(scope="session")
def at_operator(operator: OperatorProcess, tmp_path_factory: pytest.TempPathFactory) -> AtOperator:
    """One user for all; what a test writes into the folder is its own."""
    root = tmp_path_factory.mktemp("user")
    user = User(home=root / "home", folder=root / "project")
    user.home.mkdir()
    user.folder.mkdir()
    at_operator = AtOperator(user=user)
    at_operator.out("env", "configure", "there", "--operator-endpoint", operator.address)
    at_operator.out("env", "default", "there")
    return at_operator


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    os.mkfifo(tmp_path / "gate")
    return Gate(path=tmp_path / "gate")
