"""Operators that tests have one after the other: to start one for each would be a third of the time of all tests."""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import httpx
import psutil
import pytest

from operator_process import CORTEX, TIMEOUT_SECONDS, OperatorProcess

_PATIENCE_SECONDS = 5.0
_POLL_SECONDS = 0.01

_Start = tuple[tuple[str, ...], dict[str, str], Sequence[str]]


class SharedOperators:
    """Keeps the operator that was asked for last, for the next test that starts one in the same way."""

    def __init__(self, folders: pytest.TempPathFactory) -> None:
        self._folders = folders
        self._kept: tuple[_Start, OperatorProcess] | None = None

    @contextmanager
    def one(
        self, *options: str, env: Mapping[str, str] | None = None, program: Sequence[str] = CORTEX
    ) -> Iterator[OperatorProcess]:
        """Give an operator that knows no API, and has written nothing to stderr."""
        variables = {**os.environ, **(env or {})}
        variables.pop("PYTEST_CURRENT_TEST", None)
        start = options, variables, program
        if self._kept is not None and self._kept[0] != start:
            self.stop()
        if self._kept is None:
            data = self._folders.mktemp("operator") / "data"
            operator = OperatorProcess(data, *options, env=env, program=program).start()
        else:
            operator = self._kept[1]
            operator.http = httpx.Client(base_url=operator.address, timeout=TIMEOUT_SECONDS)
        self._kept = start, operator
        yield operator
        operator.http.close()
        if not _is_as_new(operator):
            self.stop()

    def stop(self) -> None:
        """Stop the operator that is kept."""
        if self._kept is not None and self._kept[1].process is not None:
            self._kept[1].stop(at_once=True)
        self._kept = None


def _is_as_new(operator: OperatorProcess) -> bool:
    """Delete what an operator has; False if it has ended, has complained, or does not become empty."""
    if operator.process is None or operator.process.poll() is not None or operator.errors():
        return False
    if list(operator.data_dir.glob("incoming/*")):
        return False  # it keeps for a day what was sent to it
    port = operator.http.base_url.port
    if any(each.raddr and each.raddr.port == port for each in psutil.Process().net_connections("tcp")):
        return False  # somebody has left a connection open, for the next test to wonder at
    try:
        with httpx.Client(base_url=operator.address, timeout=TIMEOUT_SECONDS) as http:
            for api in http.get("/_cortex/apis").json():
                http.delete(f"/_cortex/apis/{api['name']}")
    except httpx.HTTPError:
        return False
    give_up_at = time.monotonic() + _PATIENCE_SECONDS
    while operator.worker_processes() or any((operator.data_dir / "jobs").iterdir()):
        if time.monotonic() > give_up_at:
            return False
        time.sleep(_POLL_SECONDS)
    return not operator.errors()
