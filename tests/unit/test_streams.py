"""Streams of results, when their job is removed meanwhile."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from cortex.domain.errors import DataDamaged
from cortex.storage.files import remove_at_once
from cortex.web.streams import while_there


def rows(root: Path) -> Iterator[bytes]:
    for number in range(3):
        yield (root / f"{number}").read_bytes()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "job"
    root.mkdir()
    for number in range(3):
        (root / f"{number}").write_bytes(b"row")
    return root


def test_a_stream_ends_when_its_job_is_removed(root: Path) -> None:
    stream = while_there(root, rows(root))
    first = next(stream)

    remove_at_once([root])

    assert first == b"row"
    assert list(stream) == []
    assert list(root.parent.iterdir()) == []


def test_a_stream_of_a_job_that_is_there_does_not_hide_what_is_missing(root: Path) -> None:
    (root / "2").unlink()

    with pytest.raises(DataDamaged, match="No such file"):
        list(while_there(root, rows(root)))
