import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cortex.domain.batch import MAX_BATCH_BYTES
from cortex.domain.source import FileSource, SourceKind
from cortex.enqueuing.cut import BatchTooLarge, Cutter, join_batches
from cortex.enqueuing.lines import MAX_LINE_BYTES, BadDataset, Lines, Position, read_lines

BOM = b"\xef\xbb\xbf"
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
GOOD = st.builds(
    lambda value, ascii_only, space: json.dumps(value, ensure_ascii=ascii_only, separators=(f",{space}", f":{space}")),
    VALUES,
    st.booleans(),
    st.sampled_from(["", " ", "\t"]),
).map(str.encode)
ODD = st.sampled_from(
    [
        b"[1",
        b"2]",
        b"1,2",
        b"1 2",
        b"{}{}",
        b"[1,]",
        b"NaN",
        b"-Infinity",
        b"'a'",
        b'"a',
        b'a"',
        b"\xff",
        b'"\xff"',
        b",",
        b'"\\ud800"',
        b'"\\udc00"',
        b'"\xed\xa0\x80"',
        b"01",
        b"1.",
        b"tru",
        b"\x00",
        b'"\x01"',
        b"\x0b",
        b"\xa0",
        BOM,
        b"[" * 2000,
    ]
)
PIECES = st.sampled_from([b"[", b"]", b",", b"1", b"\n", b'"', b" ", b"\r", b"1\n", b"]\n", b"[1,", b"{}"])
BLANK = st.sampled_from([b"", b" ", b"\t", b"  \t "])
LINES = st.lists(st.tuples(BLANK, GOOD | BLANK, BLANK, st.sampled_from([b"", b"\r"])).map(b"".join), max_size=8)
CONTENTS = st.builds(
    lambda lines, mark, last: mark + b"\n".join(lines) + last,
    LINES | st.lists(GOOD | ODD | BLANK, max_size=6),
    st.sampled_from([b"", BOM]),
    st.sampled_from([b"", b"\n", b"\r\n"]),
)


def blocks_of(content: bytes, size: int) -> Iterator[bytes]:
    return (content[begin : begin + size] for begin in range(0, len(content), size))


def values_of(lines: list[Lines]) -> list[tuple[int, object]]:
    return [
        (each.number(index), json.loads(item))
        for each in lines
        for index, item in enumerate(each.joined(0, each.count, 1) if each.count else [])
    ]


def read(content: bytes, size: int = 1000, start: Position = Position()):  # noqa: B008 - a constant
    return values_of(list(read_lines(blocks_of(content, size), "u", start)))


def read_naively(content: bytes) -> tuple[list[tuple[int, object]], int | None]:
    """Give the values of the lines, and the number of the first line that is bad."""
    values = []
    for number, line in enumerate(content.removeprefix(BOM).split(b"\n"), 1):
        try:
            if text := line.decode().strip(" \t\r"):
                values.append((number, json.JSONDecoder(parse_constant=int).decode(text)))
        except (ValueError, RecursionError):
            return values, number
    return values, None


def problem_of(content: bytes, size: int = 1000) -> str:
    with pytest.raises(BadDataset) as refused:
        read(content, size)
    return str(refused.value)


@settings(max_examples=300)
@given(CONTENTS | st.lists(PIECES, max_size=12).map(b"".join), st.integers(1, 40))
@example(b"[1\n2]\n1,2\n", 1000)
@example(b"1,2\n3\n", 1000)
@example(b'"a\nb"\n', 1000)
@example(b'"\\ud800"\n1', 1000)
def test_each_line_that_is_not_blank_is_one_item_and_anything_else_is_refused_by_its_number(content, size):
    values, bad_line = read_naively(content)

    if bad_line is None:
        assert values == read(content, size)
    else:
        assert problem_of(content, size).startswith(f"`u`: line {bad_line} ")


@given(st.lists(GOOD, min_size=1, max_size=5), st.data())
def test_a_newline_anywhere_makes_two_lines(lines, data):
    content = b"\n".join(lines)
    place = data.draw(st.integers(0, len(content)))
    content = content[:place] + b"\n" + content[place:]

    values, bad_line = read_naively(content)

    if bad_line is None:
        assert values == read(content)
    else:
        assert f"line {bad_line} " in problem_of(content)


def test_it_does_not_matter_where_a_file_is_cut_into_blocks():
    content = BOM + '{"ä": [1,\t2]}\r\n\n \t\r\n"€😀"\n-1.5e3\r\n\n\nnull'.encode()
    expected = [(1, {"ä": [1, 2]}), (4, "€😀"), (5, -1500.0), (8, None)]

    for first, second in itertools.combinations_with_replacement(range(len(content) + 1), 2):
        blocks = [content[:first], content[first:second], content[second:]]
        assert expected == values_of(list(read_lines(filter(None, blocks), "u", Position())))


@given(CONTENTS.filter(lambda content: read_naively(content)[1] is None), st.integers(1, 40), st.integers(1, 40))
def test_reading_goes_on_after_any_item(content, size, other_size):
    everything = read(content, size)

    done = 0
    for lines in read_lines(blocks_of(content, size), "u", Position()):
        for count in range(1, lines.count + 1):
            position = lines.position_after(count)
            assert everything[done + count :] == read(content[position.offset :], other_size, position)
            assert everything[done : done + count] == values_of([lines.head(count)])
            assert position == lines.head(count).position_after(count)
        done += lines.count


@given(CONTENTS.filter(lambda content: read_naively(content)[1] is None), st.integers(1, 40), st.data())
def test_items_come_joined_in_groups_from_anywhere(content, size, data):
    for lines in read_lines(blocks_of(content, size), "u", Position()):
        items = lines.joined(0, lines.count, 1) if lines.count else []
        first = data.draw(st.integers(0, lines.count))
        end = data.draw(st.integers(first, lines.count))
        group = data.draw(st.integers(1, 5))
        if first < end:
            expected = [b",".join(items[begin : min(begin + group, end)]) for begin in range(first, end, group)]
            assert expected == lines.joined(first, end, group)


@pytest.mark.parametrize("content", [b"", b"\n", b"\r\n\r\n", b" \t\n  ", BOM, BOM + b"\n"])
def test_a_file_without_values_has_no_items(content):
    assert [] == read(content)


@pytest.mark.parametrize(
    ("problem", "line"),
    [
        ("is not UTF-8: the byte 0xff in column 2", b'"\xff"'),
        ("holds more than one value: the second begins in column 3", b"1 2"),
        ("holds more than one value: the second begins in column 3", b"{}{}"),
        ("ends before its value does", b'{"a":'),
        ("ends before its value does", b'"abc'),
        ("is not JSON: `NaN` is no number; write `null`", b"[NaN]"),
        ("is not JSON: expecting value in column 1", b"'a'"),
        ("is not JSON: ", b"[1,]"),
        ("is nested too deeply", b"[" * 100_000),
    ],
)
def test_a_bad_line_is_told_with_what_is_wrong_and_what_to_change(problem, line):
    message = problem_of(b"1\n\n" + line + b"\n4")

    assert message.startswith(f"`u`: line 3 {problem}")
    assert message.endswith("; each line must hold one JSON value")


def test_a_line_that_does_not_end_is_refused_before_it_fills_the_memory():
    taken = []

    def endless() -> Iterator[bytes]:
        for number in itertools.count():
            taken.append(number)
            yield b"1\n" if number == 0 else b"[" + b" " * (1024 * 1024 - 1)

    with pytest.raises(BadDataset, match=r"line 2 is longer than 8388608 bytes \(8 MiB\)"):
        list(read_lines(endless(), "u", Position()))

    assert len(taken) <= 1 + MAX_LINE_BYTES // (1024 * 1024) + 1


@pytest.mark.parametrize("size", [1000, 256 * 1024, 1024 * 1024])
def test_a_line_of_8_mib_is_read_and_one_byte_more_is_refused(size):
    line = b"[" + b" " * (MAX_LINE_BYTES - 2) + b"]"

    assert [(1, 1), (2, []), (3, 3)] == read(b"1\n" + line + b"\n3", size)
    assert "line 2 is longer" in problem_of(b"1\n " + line + b"\n3", size)
    assert "line 2 is longer" in problem_of(b"1\n " + line, size)


@dataclass
class Some:
    items: list[bytes]
    name: str = "p"

    @property
    def count(self) -> int:
        return len(self.items)

    def joined(self, first: int, end: int, size: int) -> list[bytes]:
        return [b",".join(self.items[begin : min(begin + size, end)]) for begin in range(first, end, size)]

    def place(self, index: int) -> str:
        return f"{self.name}{index}"

    def cursor_after(self, count: int):
        raise NotImplementedError


def source(batch_size: int, kind: SourceKind = SourceKind.DELIMITED_FILES) -> FileSource:
    return FileSource(kind=kind, paths=("/",), batch_size=batch_size)


def cut(portions: list[Some], batch_size: int) -> list[bytes]:
    cutter = Cutter(source(batch_size))
    return [*itertools.chain.from_iterable(map(cutter.cut, portions)), *cutter.finish()]


@given(st.lists(st.lists(GOOD, max_size=12), max_size=6), st.integers(1, 12))
def test_batches_do_not_care_about_portions(portions, batch_size):
    items = [item for portion in portions for item in portion]

    batches = cut([Some(portion) for portion in portions], batch_size)

    assert batches == join_batches(items, batch_size)
    assert [json.loads(item) for item in items] == [item for batch in batches for item in json.loads(batch)]
    assert all(len(json.loads(batch)) == batch_size for batch in batches[:-1])
    assert -(-len(items) // batch_size) == len(batches)


@pytest.mark.parametrize(
    ("expected", "items"), [([], 0), ([1], 1), ([6], 6), ([7], 7), ([7, 1], 8), ([7, 7], 14), ([7, 7, 1], 15)]
)
def test_every_batch_but_the_last_is_full(expected, items):
    assert expected == [len(json.loads(batch)) for batch in cut([Some([b"0"] * items)], 7)]
    assert expected == [len(json.loads(batch)) for batch in cut([Some([b"0"])] * items, 7)]


@pytest.mark.parametrize("batch_size", [1, 2])
def test_a_batch_has_less_than_256_kib_and_white_space_does_not_count(batch_size):
    room = MAX_BATCH_BYTES - 1 - len('[""]') - (len(",0") if batch_size == 2 else 0)
    items = [b'"' + b"x" * room + b'"', b"0"]

    spacious = [b"[" + b" " * MAX_BATCH_BYTES + b"1 , 2 ]"]
    assert MAX_BATCH_BYTES - 1 == len(cut([Some(items)], batch_size)[0])
    assert [b"[[1,2]]"] == cut([Some(spacious)], batch_size)
    with pytest.raises(BadDataset, match=f"a batch of {MAX_BATCH_BYTES} bytes as compact JSON, must be less than"):
        cut([Some([b'"x' + items[0][1:], b"0"])], batch_size)


def test_a_batch_that_is_too_large_is_told_by_its_first_and_last_item_and_what_to_change():
    third = b'"' + b"x" * (MAX_BATCH_BYTES // 3) + b'"'

    with pytest.raises(BadDataset) as one:
        cut([Some([b"1", third, b'"' + b"x" * MAX_BATCH_BYTES + b'"'])], 1)
    with pytest.raises(BadDataset) as several:
        cut([Some([b"1", b"2", b"3", third], "a"), Some([third, third, b"4"], "b")], 3)

    assert str(one.value).startswith("p2: ")
    assert str(one.value).endswith("; store the item elsewhere and submit its URL")
    assert str(several.value).startswith("a3 to b1: a batch of 262153 bytes")
    assert str(several.value).endswith("; make `delimited_files.batch_size` smaller")


def test_a_batch_that_would_not_end_is_refused_before_it_fills_the_memory():
    taken = []

    def endless() -> Iterator[Some]:
        for number in itertools.count():
            taken.append(number)
            yield Some([b'"' + b"x" * 10_000 + b'"'], f"{number}/")

    cutter = Cutter(source(2**31 - 1, SourceKind.FILE_PATH_LISTER))
    with pytest.raises(BadDataset, match=r"0/0 to 26/0: .* make `file_path_lister.batch_size` smaller"):
        list(map(cutter.cut, endless()))

    assert len(taken) == MAX_BATCH_BYTES // 10_000 + 1


@pytest.mark.parametrize("items", [1, 2, 3])
def test_a_short_batch_at_the_end_has_less_than_256_kib_too(items):
    rest = [b"0"] * (items - 1)
    room = MAX_BATCH_BYTES - 1 - len('[""]') - len(b",0") * len(rest)

    for portions in (
        [Some([b'"' + b"x" * room + b'"', *rest])],
        [Some([item]) for item in (b'"' + b"x" * room + b'"', *rest)],
    ):
        assert [MAX_BATCH_BYTES - 1] == [len(batch) for batch in cut(portions, 5)]
        portions[0].items[0] = b'"x' + portions[0].items[0][1:]
        with pytest.raises(BadDataset, match=f"a batch of {MAX_BATCH_BYTES} bytes"):
            cut(portions, 5)


def test_white_space_in_what_is_carried_does_not_count():
    spacious = Some([b"[" + b" " * 200_000 + b"]"])

    assert [b"[" + b",".join([b"[]"] * 10) + b"]"] == cut([spacious] * 10, 100)


@given(
    VALUES, st.sampled_from([" ", "\t", "\r\n"]), st.booleans(), st.sampled_from([b"1", b'"\\ud800 \\" "', b'"\\\\"'])
)
def test_only_white_space_between_values_is_taken_out(value, space, ascii_only, other):
    item = json.dumps(value, indent=space, ensure_ascii=ascii_only, separators=(space + ",", ":" + space)).encode()
    padding = b"[" + b" " * MAX_BATCH_BYTES + b"]"

    (batch,) = join_batches([item, other, padding], 3)

    compact = json.dumps(value, ensure_ascii=ascii_only, separators=(",", ":")).encode()
    assert b"[" + compact + b"," + other + b",[]]" == batch


def test_what_is_too_large_is_told_by_index():
    with pytest.raises(BatchTooLarge) as refused:
        join_batches([b"1"] * 5 + [b'"' + b"x" * MAX_BATCH_BYTES + b'"'], 2)

    assert (4, 2) == (refused.value.first, refused.value.count)
