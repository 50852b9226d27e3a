import json
import math
import zlib
from collections.abc import Iterator
from types import ModuleType

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cortex.domain.batch import ENTRY, EntryKind, ResultEntry
from cortex.predictor import json_values
from cortex.worker import rows
from cortex.worker.rows import NotJson, RowsFile, decode, encode
from full_disk import files_of_at_most

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**80), 2**80)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@pytest.fixture(params=[orjson, None], ids=["with libraries", "without libraries"], autouse=True)
def fast_json(request: pytest.FixtureRequest) -> Iterator[ModuleType | None]:
    """Both kinds of environment: a user's may lack orjson and msgspec, and must not behave differently for it."""
    before = json_values.orjson, json_values.fast_decode
    json_values.orjson = request.param
    json_values.fast_decode = request.param and json_values.fast_decode
    yield request.param
    json_values.orjson, json_values.fast_decode = before


@given(st.lists(JSON, max_size=5))
def test_predict_gets_the_items_as_they_were_submitted(items):
    assert items == decode(json.dumps(items).encode())
    assert items == decode(json.dumps(items, ensure_ascii=False).encode())


@pytest.mark.parametrize(
    ("items", "payload"),
    [
        ([2**63 - 1, 2**63, 2**64, -(2**63), -(2**63) - 1, 10**40], None),
        (["1234567890123456789012"], None),
        ([0.1, 1e300, -0.0], None),
        (["\ud800"], b'["\\ud800"]'),
        (["\U0001f600"], b'["\\ud83d\\ude00"]'),
        ([{"a": 2}], b'[{"a":1,"a":2}]'),
        ([1, [2]], b" [ 1 ,\n [2]\t] "),
    ],
)
def test_nothing_is_lost_in_an_item(items, payload):
    got = decode(json.dumps(items).encode() if payload is None else payload)

    assert items == got
    assert [type(item) for item in items] == [type(item) for item in got]


@pytest.mark.parametrize("before", ["", "1,", "1, ", "1,\n", "1,\t", "1,\r", '{"a":', '{"a": ', "-", '"."    ,-'])
@pytest.mark.parametrize("place", range(7))
@pytest.mark.parametrize("number", [9223372036854775809, 18446744073709551616])
def test_a_long_integer_is_kept_wherever_it_lies(number, place, before):
    payload = f"[{' ' * place}{before}{number}{'}' if '{' in before else ''}]"

    got = decode(payload.encode())

    assert repr(json.loads(payload)) == repr(got)  # 1.8446744073709552e+19 is equal to the integer


@given(
    st.lists(
        st.sampled_from(['"123456789012345678901"', "0.00012345678901234567", "1.5e-300", '"-"', '{"1":2}'])
        | st.integers(-(2**70), 2**70).map(str),
        max_size=5,
    ),
    st.sampled_from([",", ", ", " ,\n"]),
)
def test_a_long_integer_is_kept_among_fractions_and_texts_of_as_many_digits(items, separator):
    payload = f"[{separator.join(items)}]"

    assert repr(json.loads(payload)) == repr(decode(payload.encode()))


def test_a_payload_that_no_one_can_hold_is_a_plain_error():
    with pytest.raises(ValueError, match="digits"):
        decode(b"[" + b"9" * 5000 + b"]")


@pytest.mark.parametrize(
    ("expected", "value", "payload_length"),
    [
        (["1", "2"], [1, 2], 2),
        (["1", "2"], (1, 2), 2),
        (["1.5", "2.5"], np.array([1.5, 2.5]), 2),
        (["[1,2]", "[3,4]"], np.array([[1, 2], [3, 4]]), 2),
        (["[1,2]"], [1, 2], 3),
        (["[1,2]"], (1, 2), 1),
        (["[]"], [], 1),
        (["[1]", "[2]"], [[1], [2]], 2),
        (['{"a":1}'], {"a": 1}, 1),
        (['"ab"'], "ab", 2),
        (["7"], 7, 1),
        (["7"], np.int64(7), 1),
        (["true"], True, 1),
        (["null", "null"], [None, None], 2),
        (['{"a":[1,2]}'], {"a": np.array([1, 2])}, 1),
        (['{"a":1.5}'], {"a": np.float64(1.5)}, 1),
        (['"ä\\n"'], "ä\n", 1),
        (['{"1":2}'], {1: 2}, 1),
        (["null"], math.nan, 1),
        (["1.0", "null"], [1.0, -math.inf], 2),
        (['{"a":[null,1180591620717411303424]}'], {"a": [math.nan, 2**70]}, 1),
        (["null", "1.5"], np.array([math.nan, 1.5]), 2),
        (["1180591620717411303424"], 2**70, 1),
        (['["ä",1180591620717411303424]'], ["ä", 2**70], 1),
        (["-9223372036854775809", "18446744073709551616"], [-(2**63) - 1, 2**64], 2),
    ],
)
def test_a_list_as_long_as_the_payload_is_one_row_an_item_and_anything_else_one_row(expected, value, payload_length):
    data, count = encode(value, payload_length)

    assert expected == data.decode().splitlines()
    assert len(expected) == count


@given(st.lists(JSON, min_size=1, max_size=5))
def test_rows_are_one_line_each_and_read_back_as_they_were(values):
    data, count = encode(values, len(values))

    lines = data.split(b"\n")
    assert lines.pop() == b""
    assert len(values) == len(lines) == count
    assert values == [json.loads(line) for line in lines]


def test_what_predict_got_may_be_what_it_returns():
    items = decode(b'["\\ud800", 123456789012345678901234567890, {"\\udc00": 1}]')

    data, _ = encode(items, len(items))

    assert items == [json.loads(line) for line in data.splitlines()]


def test_one_row_that_needs_the_slow_way_changes_no_other():
    values = [{"a": 1.5}, 2**70, np.array([1, 2]), "\ud800", math.nan, {1: None}]

    data, count = encode(values, len(values))

    assert [
        b'{"a":1.5}',
        b"1180591620717411303424",
        b"[1,2]",
        b'"\\ud800"',
        b"null",
        b'{"1":null}',
    ] == data.splitlines()
    assert len(values) == count


@pytest.mark.parametrize("value", [math.nan, -math.inf, np.float64("nan"), np.array([math.inf])])
def test_what_is_no_number_in_json_is_null(value):
    data, _ = encode({"score": value}, 1)

    assert json.loads(data)["score"] in (None, [None])


class Unknown:
    """A class of the user's own."""


DEEP: list[object] = []
for _ in range(100_000):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    "value",
    [
        {1, 2},
        b"bytes",
        Unknown(),
        [Unknown()],
        {(1, 2): 3},
        1j,
        DEEP,
    ],
    ids=lambda value: str(type(value).__name__),
)
def test_what_has_no_json_form_is_refused_with_advice(value):
    with pytest.raises(NotJson, match=r"(?s)predict returned a value that is not JSON: .*Return None, or a JSON value"):
        encode(value, 2)


def entries_in(data: bytes) -> list[ResultEntry]:
    return [ResultEntry(*fields) for fields in ENTRY.iter_unpack(data)]


def test_bytes_and_entry_are_in_the_files_when_append_returns(tmp_path):
    file = RowsFile(tmp_path / "w.rows", tmp_path / "w.index")

    file.append(7, 3, EntryKind.ROWS, b"1\n2\n", 2)
    file.append(8, 3, EntryKind.FAILURE, b"{}\n", 1)

    assert (tmp_path / "w.rows").read_bytes() == b"1\n2\n{}\n"
    assert entries_in((tmp_path / "w.index").read_bytes()) == [
        ResultEntry(7, 3, 0, 4, 2, EntryKind.ROWS, zlib.crc32(b"1\n2\n")),
        ResultEntry(8, 3, 4, 3, 1, EntryKind.FAILURE, zlib.crc32(b"{}\n")),
    ]
    file.close()


def test_a_file_that_is_opened_again_is_gone_on_with(tmp_path):
    for batch in range(3):
        file = RowsFile(tmp_path / "w.rows", tmp_path / "w.index")
        file.append(batch, batch, EntryKind.ROWS, f"{batch}\n".encode(), 1)
        file.close()

    assert (tmp_path / "w.rows").read_bytes() == b"0\n1\n2\n"
    assert [(0, 0), (1, 2), (2, 4)] == [(e.batch, e.offset) for e in entries_in((tmp_path / "w.index").read_bytes())]


def test_the_kernel_is_asked_to_write_what_has_gathered_once_and_all_of_it(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(rows, "_WRITE_BACK_BYTES", 10)
    monkeypatch.setattr(rows, "begin_write_back", lambda _, first, end: asked.append((first, end)))
    file = RowsFile(tmp_path / "w.rows", tmp_path / "w.index")

    for batch in range(8):
        file.append(batch, 1, EntryKind.ROWS, b"1234\n" if batch < 5 else b"1\n", 1)
    file.close()

    assert [(0, 10), (10, 20), (20, 31)] == asked


def test_rows_are_whole_after_the_kernel_was_asked_to_write_them(tmp_path, monkeypatch):
    monkeypatch.setattr(rows, "_WRITE_BACK_BYTES", 1)
    file = RowsFile(tmp_path / "w.rows", tmp_path / "w.index")

    for batch in range(3):
        file.append(batch, 1, EntryKind.ROWS, f"{batch}\n".encode(), 1)
    file.close()

    assert b"0\n1\n2\n" == (tmp_path / "w.rows").read_bytes()


@pytest.mark.parametrize(
    ("limit", "data"),
    [
        (100, b"x" * 200 + b"\n"),  # the rows do not fit
        (ENTRY.size + 10, b"1\n"),  # the rows fit, their entry only in part
        (ENTRY.size, b"1\n"),  # the rows fit, their entry not at all
    ],
)
def test_what_could_not_be_written_leaves_nothing_and_the_next_can_be(tmp_path, limit, data):
    file = RowsFile(tmp_path / "w.rows", tmp_path / "w.index")
    file.append(0, 1, EntryKind.ROWS, b"0\n", 1)

    with files_of_at_most(limit), pytest.raises(OSError, match="File too large"):
        file.append(1, 1, EntryKind.ROWS, data, 1)
    file.append(2, 1, EntryKind.ROWS, b"2\n", 1)
    file.close()

    written, index = (tmp_path / "w.rows").read_bytes(), (tmp_path / "w.index").read_bytes()
    assert len(index) == 2 * ENTRY.size
    kept = [(entry.batch, written[entry.offset : entry.offset + entry.length]) for entry in entries_in(index)]
    assert kept == [(0, b"0\n"), (2, b"2\n")]
