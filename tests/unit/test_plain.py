import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cortex.enqueuing.plain import plain_beginning, plain_line_ends

TOKENS = [
    b"[",
    b"]",
    b",",
    b":",
    b"{",
    b"}",
    b"1",
    b'"',
    b"-",
    b"1.5e3",
    b"true",
    b"nul",
    b"{}",
    b'"a"',
    b'"\\n"',
    b"[1,",
]
OTHERS = [b"\n", b" ", b"\r", b"\t", b"1\n", b"]\n", b"\r\n", b"\\", b"\x00", b"\xff", "ä".encode(), b"\xef\xbb\xbf"]
PIECES = st.sampled_from(TOKENS) | st.sampled_from(OTHERS)
TEXTS = st.lists(PIECES, max_size=12).map(b"".join)


def is_plain(line: bytes) -> bool:
    """Tell it the slow way."""
    line = line.removesuffix(b"\r")
    if not line or line != line.strip(b" \t\r"):
        return False
    try:
        json.JSONDecoder(parse_constant=int).decode(line.decode())
    except ValueError:
        return False
    return b"NaN" not in line and b"Infinity" not in line


def ends_of(lines: list[bytes]) -> list[int]:
    return [sum(map(len, lines[:count])) + count - 1 for count in range(1, len(lines) + 1)]


@settings(max_examples=1000)
@given(TEXTS)
@example(b"[1\n2]\n1,2")
@example(b'"a\nb"\n1 2')
@example(b"[1,\n2]\n3 4")
@example(b'{"a":[{}\n{}]}\n1{}')
@example(b"1 2\n")
@example(b'"\xff"')
@example(b"\r")
@example(b"1\n\r\n2 3")
@example(b'{"a"\n:1}\n1 2')
@example(b"1\r\r\n2")
@example(b"[1]\r\n[2]\r")
def test_lines_are_plain_if_each_of_them_is(text):
    lines = text.split(b"\n")

    ends = plain_line_ends(text)

    assert (ends_of(lines) if all(map(is_plain, lines)) else None) == (None if ends is None else ends.tolist())


@settings(max_examples=300)
@given(TEXTS)
def test_the_plain_beginning_ends_before_the_first_other_line(text):
    lines = text.split(b"\n")
    count = next((index for index, line in enumerate(lines) if not is_plain(line)), len(lines))

    assert ends_of(lines[:count]) == plain_beginning(text).tolist()


@pytest.mark.parametrize("line", [b"[" * 100_000 + b"]" * 100_000, b'"\\ud800"'])
def test_what_the_fast_decoder_does_not_know_is_not_plain(line):
    assert plain_line_ends(b"1\n" + line) is None
