"""What the tests of the command line share."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from stub_operator import StubOperator, use


@pytest.fixture
def configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own for what the command line keeps."""
    folder = tmp_path / "cortex"
    monkeypatch.setenv("CORTEX_CLI_CONFIG_DIR", str(folder))
    return folder


@pytest.fixture
def stub(configuration: Path) -> Iterator[StubOperator]:
    """An operator that is the default environment of the command line."""
    with StubOperator() as stub:
        use(stub)
        yield stub


@pytest.fixture
def digits(stub: StubOperator) -> StubOperator:
    """The same, with an API `digits` that takes every job."""
    stub.api("digits")
    stub.answers["POST /digits"] = {"job_id": "69d6faf82e4660d3"}
    return stub


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder."""
    working = tmp_path / "work"
    working.mkdir()
    monkeypatch.chdir(working)
    return working
