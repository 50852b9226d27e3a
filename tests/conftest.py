"""What all tests share."""

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import settings

from operator_process import OperatorProcess
from s3_faults import Faults
from s3_server import S3, fresh_bucket, run_s3_server
from shared_operators import SharedOperators

settings.register_profile("any machine", deadline=None)  # how long an example takes says nothing on a busy one
settings.load_profile("any machine")


def pytest_xdist_auto_num_workers() -> int:
    """Run more tests at once than there are cores: most of them wait for processes, and those for each other."""
    return 2 * (os.cpu_count() or 1)


@pytest.fixture
def start_operator(tmp_path: Path) -> Iterator[Callable[..., OperatorProcess]]:
    """Start operators with options of the command line; each is stopped with the test, and nothing is left of it."""
    started: list[OperatorProcess] = []

    def start(*options: str, env: Mapping[str, str] | None = None) -> OperatorProcess:
        operator = OperatorProcess(tmp_path / f"data-{len(started)}", *options, env=env)
        started.append(operator)
        return operator.start()

    yield start
    for operator in started:
        if operator.process is not None:
            operator.stop(at_once=True)
        operator.http.close()


@pytest.fixture(scope="session")
def shared_operators(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedOperators]:
    """Operators that tests have one after the other, each with nothing in it."""
    operators = SharedOperators(tmp_path_factory)
    yield operators
    operators.stop()


@pytest.fixture
def operator(shared_operators: SharedOperators) -> Iterator[OperatorProcess]:
    """An operator with the default options, but nothing kept warm; the test may do to it what it likes."""
    with shared_operators.one("--keep-warm", "0") as operator:
        yield operator


@pytest.fixture(scope="session")
def s3_server() -> Iterator[tuple[str, Faults]]:
    """An S3 server of this test process."""
    with run_s3_server() as server:
        yield server


@pytest.fixture
def s3(s3_server: tuple[str, Faults], monkeypatch: pytest.MonkeyPatch) -> Iterator[S3]:
    """A fresh bucket, which this process, and those that it starts, reach with the AWS settings of `s3.env`."""
    with fresh_bucket(*s3_server) as s3:
        for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3"):
            monkeypatch.delenv(name, raising=False)
        for name, value in s3.env.items():
            monkeypatch.setenv(name, value)
        yield s3
