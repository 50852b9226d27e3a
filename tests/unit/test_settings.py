"""The options of an operator."""

import pytest

from cortex.domain.errors import StartRefused
from cortex.settings import parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [("256MB", 256_000_000), ("1000", 1000), ("1.5G", 1_500_000_000), ("256 MiB", 2**28), ("2gib", 2**31), ("0", 0)],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "MB", "-1", "1 apple", "1e9", "1.MB"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(StartRefused, match="is not a size"):
        parse_size(text)
