"""What the acceptance tests share."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from shell import User, new_user


@pytest.fixture
def user(tmp_path: Path) -> Iterator[User]:
    """A user in an empty folder; the operator that a command has started ends with the test, and nothing is left."""
    with new_user(tmp_path) as somebody:
        yield somebody
