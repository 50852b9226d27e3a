"""What all tests share."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from operator_process import OperatorProcess


@pytest.fixture
def start_operator(tmp_path: Path) -> Iterator[Callable[..., OperatorProcess]]:
    """Start operators with options of the command line; each is stopped with the test, and nothing is left of it."""
    started: list[OperatorProcess] = []

    def start(*options: str) -> OperatorProcess:
        operator = OperatorProcess(tmp_path / f"data-{len(started)}", *options)
        started.append(operator)
        return operator.start()

    yield start
    for operator in started:
        if operator.process is not None:
            operator.stop()
        operator.http.close()


@pytest.fixture
def operator(start_operator: Callable[..., OperatorProcess]) -> OperatorProcess:
    """An operator with the default options, but nothing kept warm."""
    return start_operator("--keep-warm", "0")
