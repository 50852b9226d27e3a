"""The files that results are written to: what is in them, in every format, read back by others than us."""

import csv
import hashlib
import io
import json
import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cortex.domain.batch import BatchState
from cortex.domain.errors import FilesError
from cortex.domain.output import Output, OutputFormat
from cortex.exporting.columns import MAX_COLUMNS
from cortex.exporting.events import FileWritten, Written
from cortex.exporting.write import write
from cortex.files.places import AllFiles
from cortex.storage.results import ResultDamaged
from ended_jobs import WORKER, EndedJob, Failed, FailedInPart, Left, Outcome, Rows, end_job

JSON_LINES, CSV, PARQUET = OutputFormat
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(), children, max_size=3),
    max_leaves=8,
)


class Export:
    """The folder of a Job's results, once they are written."""

    def __init__(self, root: Path, job: EndedJob, **options: Any) -> None:
        self.told: list[object] = []
        self.folder = root / "out" / job.job.id
        usual: dict[str, Any] = {"is_success": True, "patience_seconds": 0.0}
        self.written: Written = write(AllFiles(), job.ended, job.folder, self.told.append, **{**usual, **options})

    @property
    def parts(self) -> list[bytes]:
        return [path.read_bytes() for path in sorted(self.folder.glob("part-*"))]

    @property
    def manifest(self) -> dict[str, Any]:
        manifest: dict[str, Any] = json.loads((self.folder / "manifest.json").read_text())
        return manifest

    def contents(self) -> dict[str, bytes]:
        paths = (path for path in self.folder.rglob("*") if path.is_file())
        return {str(path.relative_to(self.folder)): path.read_bytes() for path in paths}


def export(
    root: Path, *outcomes: Outcome, format_: OutputFormat = JSON_LINES, has_input: bool = False, **options: Any
) -> Export:
    output = Output(path=str(root / "out"), format=format_, include_input=has_input)
    return Export(root, end_job(root / "jobs", *outcomes, output=output), **options)


def rows_of(*rows: Any) -> list[Rows]:
    return [Rows(items=[number], rows=[row]) for number, row in enumerate(rows)]


def read_csv(data: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(data.decode(), newline="")))


def read_parquet(data: bytes) -> pa.Table:
    return pq.read_table(io.BytesIO(data))


def test_rows_are_written_as_they_are_in_input_order(tmp_path: Path) -> None:
    written = export(tmp_path, *rows_of({"a": 1.50}, b"1e2", "zwei \N{SNOWMAN}", None))

    assert ['{"a": 1.5}\n1e2\n"zwei \N{SNOWMAN}"\nnull\n'.encode()] == written.parts
    assert Written(files=1, rows=4) == written.written


def test_what_has_failed_or_returned_nothing_has_no_rows(tmp_path: Path) -> None:
    outcomes = [Failed(items=[0]), *rows_of("kept"), Left(items=[2], state=BatchState.SUCCEEDED)]

    assert [b'"kept"\n'] == export(tmp_path, *outcomes).parts


def test_rows_may_stand_with_their_inputs(tmp_path: Path) -> None:
    outcomes = [
        Rows(items=["a", "b"], rows=[1, 2]),  # one row an item
        Rows(items=["c", "d"], rows=["both"]),
        Rows(items=["e"], rows=[["one", "row"]]),
    ]

    lines = export(tmp_path, *outcomes, has_input=True).parts[0].splitlines()

    assert [
        {"input": "a", "output": 1},
        {"input": "b", "output": 2},
        {"input": ["c", "d"], "output": "both"},
        {"input": "e", "output": ["one", "row"]},
    ] == [json.loads(line) for line in lines]


def test_the_rows_of_a_batch_that_failed_in_part_stand_with_the_items_that_were_good(tmp_path: Path) -> None:
    items = ["a", "bad", "b", "c", "bad", "bad", "d", "e"]
    failed = [(1, 2, 1), (4, 6, 2)]  # of b and c together there is one row
    outcome = FailedInPart(items=items, rows=["A", "BC", "D", "E"], failed=failed)

    lines = export(tmp_path, outcome, has_input=True).parts[0].splitlines()

    assert [["a", "A"], [["b", "c"], "BC"], ["d", "D"], ["e", "E"]] == [
        list(json.loads(line).values()) for line in lines
    ]


def test_inputs_keep_their_digits_and_are_one_line_each(tmp_path: Path) -> None:
    job = end_job(
        tmp_path / "jobs", Rows(items=[0], rows=[1]), output=Output(path=f"{tmp_path}/out", include_input=True)
    )
    payload = b'[{"big": 123456789012345678901234567890,\r\n "half": "\\ud800"}]'
    job.folder.payload(0).write_bytes(payload)
    job.folder.offsets(0).write_bytes(b"\0\0\0\0" + len(payload).to_bytes(4, "little"))

    (part,) = Export(tmp_path, job).parts

    assert 1 == part.count(b"\n")
    assert b"123456789012345678901234567890" in part
    assert {"big": 123456789012345678901234567890, "half": "\ud800"} == json.loads(part)["input"]


def test_a_csv_has_a_column_for_each_key_in_the_order_of_their_first_appearance(tmp_path: Path) -> None:
    rows = [{"b": 1, "a": "x"}, {"c": True, "a": None}, {"b": {"deep": [1, 2.0]}}]

    (part,) = export(tmp_path, *rows_of(*rows), format_=CSV).parts

    assert [["b", "a", "c"], ["1", "x", ""], ["", "", "true"], ['{"deep": [1, 2.0]}', "", ""]] == read_csv(part)


def test_what_is_no_object_is_in_one_column(tmp_path: Path) -> None:
    (part,) = export(tmp_path, *rows_of("text", 7, [1], None, {"a": 1}), format_=CSV).parts

    expected = [["output", "a"], ["text", ""], ["7", ""], ["[1]", ""], ["", ""], ["", "1"]]
    assert expected == read_csv(part)


def test_a_csv_keeps_whatever_is_in_a_text(tmp_path: Path) -> None:
    texts = ["line\nline\r\nline", 'a "quote", and\tmore', "\N{GRINNING FACE}ü", "", " space ", "=1+1", "nul\0"]

    (part,) = export(tmp_path, *rows_of(*({"text": text, "n": 1} for text in texts)), format_=CSV).parts

    assert [["text", "n"], *([text, "1"] for text in texts)] == read_csv(part)


def test_a_csv_has_the_inputs_in_a_column_of_their_own(tmp_path: Path) -> None:
    outcomes = [Rows(items=["a", {"b": 1}], rows=[{"input": 1}, {"input": 2}])]

    (part,) = export(tmp_path, *outcomes, format_=CSV, has_input=True).parts

    assert [["_input", "input"], ['"a"', "1"], ['{"b": 1}', "2"]] == read_csv(part)


def test_numbers_keep_every_digit_in_a_csv(tmp_path: Path) -> None:
    digits = [b"123456789012345678901234567890", b"0.1000", b"-1E-7", b"18446744073709551615"]

    (part,) = export(tmp_path, *rows_of(*digits), format_=CSV).parts

    assert ["output", *(number.decode() for number in digits)] == [line[0] for line in read_csv(part)]


@pytest.mark.parametrize(
    ("expected", "values"),
    [
        (pa.int64(), [1, None, 2**63 - 1, -(2**63)]),
        (pa.float64(), [1, 2.5, None]),
        (pa.bool_(), [True, False, None]),
        (pa.string(), ["text", "ü\n\0", None, ""]),
    ],
)
def test_a_parquet_column_has_the_type_of_all_its_values(
    tmp_path: Path, expected: pa.DataType, values: list[Any]
) -> None:
    (part,) = export(tmp_path, *rows_of(*({"v": value} for value in values), {}), format_=PARQUET).parts

    table = read_parquet(part)
    assert expected == table.schema.field("v").type
    assert [*values, None] == table.column("v").to_pylist()


@pytest.mark.parametrize(
    "values",
    [
        [1, "text"],
        [True, 1],
        [2**64, 1],
        [2**53 + 1, 0.5],  # which no float could keep
        [{"a": [1, {"b": "ü"}]}, [1], "text"],
    ],
)
def test_what_no_type_holds_is_the_json_text_of_each_value(tmp_path: Path, values: list[Any]) -> None:
    (part,) = export(tmp_path, *rows_of(*({"v": value} for value in [*values, None])), format_=PARQUET).parts

    column = read_parquet(part).column("v")
    assert pa.string() == column.type
    assert [*values, None] == [None if text is None else json.loads(text) for text in column.to_pylist()]


def test_all_parquet_files_of_a_job_have_one_schema(tmp_path: Path) -> None:
    rows = [{"a": 1}, {"a": 2.5, "b": "x"}, {"a": None}]

    written = export(tmp_path, *rows_of(*rows), format_=PARQUET, part_bytes=1)

    tables = [read_parquet(part) for part in written.parts]
    assert [pa.schema([("a", pa.float64()), ("b", pa.string())])] * 3 == [table.schema for table in tables]
    assert [1.0, 2.5, None] == [value for table in tables for value in table.column("a").to_pylist()]


def test_halves_of_surrogate_pairs_are_spelled_out(tmp_path: Path) -> None:
    row = b'{"half": "\\ud800!", "list": ["\\ud800"], "\\ud800": 1}'

    (as_csv,) = export(tmp_path / "csv", *rows_of(row), format_=CSV).parts
    (as_parquet,) = export(tmp_path / "parquet", *rows_of(row), format_=PARQUET).parts

    assert [["half", "list", "\\ud800"], ["\\ud800!", '["\\ud800"]', "1"]] == read_csv(as_csv)
    assert [{"half": "\\ud800!", "list": '["\\ud800"]', "\\ud800": 1}] == read_parquet(as_parquet).to_pylist()


@pytest.mark.parametrize(("format_", "expected"), [(JSON_LINES, b""), (CSV, b"input,output\r\n"), (PARQUET, None)])
def test_a_job_without_rows_has_one_file_without_rows(
    tmp_path: Path, format_: OutputFormat, expected: bytes | None
) -> None:
    written = export(tmp_path, Left(items=[1], state=BatchState.SUCCEEDED), format_=format_, has_input=True)

    (part,) = written.parts
    assert Written(files=1, rows=0) == written.written
    if expected is None:
        table = read_parquet(part)
        assert (0, ["input", "output"]) == (table.num_rows, table.column_names)
    else:
        assert expected == part


@pytest.mark.parametrize("format_", [CSV, PARQUET])
def test_dictionaries_that_make_too_many_columns_are_one_column(tmp_path: Path, format_: OutputFormat) -> None:
    rows = [{f"key-{number}": number} for number in range(MAX_COLUMNS + 1)]

    (part,) = export(tmp_path, *rows_of(*rows), format_=format_).parts

    if format_ is CSV:
        texts = [line[0] for line in read_csv(part)[1:]]
    else:
        texts = read_parquet(part).column("output").to_pylist()
    assert rows == [json.loads(text) for text in texts]


@pytest.mark.parametrize("format_", list(OutputFormat))
def test_files_are_cut_where_they_are_large_enough_and_name_their_batches(
    tmp_path: Path, format_: OutputFormat
) -> None:
    rows = [{"n": number, "text": "x" * 40} for number in range(100)]
    outcomes = rows_of(*rows)
    outcomes[50:60] = [Failed(items=[number]) for number in range(50, 60)]

    written = export(tmp_path, *outcomes, format_=format_, part_bytes=1000)

    files = written.manifest["files"]
    assert 3 < len(files) == written.written.files
    assert [f"part-{number:05}.{format_}" for number in range(len(files))] == [file["name"] for file in files]
    assert [0, *(file["end_batch"] for file in files)] == [*(file["first_batch"] for file in files), 100]
    assert 90 == sum(file["rows"] for file in files)
    for file, data in zip(files, written.parts, strict=True):
        assert (len(data), hashlib.sha256(data).hexdigest()) == (file["bytes"], file["sha256"])
        numbers = [number for number in range(file["first_batch"], file["end_batch"]) if not 50 <= number < 60]
        assert numbers == numbers_in(format_, data)


def numbers_in(format_: OutputFormat, data: bytes) -> list[int]:
    if format_ is JSON_LINES:
        return [json.loads(line)["n"] for line in data.splitlines()]
    if format_ is CSV:
        return [int(line[0]) for line in read_csv(data)[1:]]
    return [int(number) for number in read_parquet(data).column("n").to_pylist()]


@pytest.mark.parametrize("format_", list(OutputFormat))
def test_to_write_again_gives_the_same_files_byte_for_byte(tmp_path: Path, format_: OutputFormat) -> None:
    output = Output(path=str(tmp_path / "out"), format=format_, include_input=True)
    job = end_job(tmp_path / "jobs", *rows_of(*({"n": n, "f": n / 3} for n in range(50))), output=output, per_segment=7)
    first = Export(tmp_path, job, part_bytes=200).contents()

    again = Export(tmp_path, job, part_bytes=200).contents()

    assert first == again


def test_the_mark_of_an_earlier_attempt_is_gone_before_anything_is_written(tmp_path: Path) -> None:
    job = end_job(tmp_path / "jobs", *rows_of(1, 2), output=Output(path=f"file://{tmp_path}/out"))
    Export(tmp_path, job)
    seen: list[set[str]] = []

    class Watched(AllFiles):
        def write(self, url: str, data: bytes) -> None:
            super().write(url, data)
            seen.append({path.name for path in (tmp_path / "out" / job.job.id).iterdir()})

    write(Watched(), job.ended, job.folder, lambda _: None, is_success=True, patience_seconds=0, part_bytes=1)

    assert {"part-00000.jsonl"} == seen[0] - {"_manifest"}
    assert [False] * (len(seen) - 1) + [True] == ["_SUCCESS" in names for names in seen]


def test_no_manifest_says_that_a_job_succeeded_whose_mark_cannot_be_written(tmp_path: Path) -> None:
    class WithoutMark(AllFiles):
        def write(self, url: str, data: bytes) -> None:
            if url.endswith("/_SUCCESS"):
                raise FilesError("as asked")
            super().write(url, data)

    job = end_job(tmp_path / "jobs", *rows_of(1, 2), output=Output(path=f"file://{tmp_path}/out"))

    with pytest.raises(FilesError, match="as asked"):
        write(WithoutMark(), job.ended, job.folder, lambda _: None, is_success=True, patience_seconds=0)

    assert {"part-00000.jsonl", "_manifest"} == {path.name for path in (tmp_path / "out" / job.job.id).iterdir()}
    assert not job.folder.exported.exists()


def test_what_a_killed_writer_has_left_does_not_stay(tmp_path: Path) -> None:
    job = end_job(tmp_path / "jobs", *rows_of(1), output=Output(path=f"file://{tmp_path}/out"))
    left = [tmp_path / "out" / job.job.id / name for name in (".1.cortex-part", "_manifest/.2.cortex-part")]
    left[1].parent.mkdir(parents=True)
    for path in left:
        path.write_text("half a fi")

    written = Export(tmp_path, job)

    assert {"part-00000.jsonl", "manifest.json", "_manifest/batches-00000.jsonl", "_SUCCESS"} == (
        written.contents().keys()
    )


def test_parts_of_an_earlier_cut_do_not_stay(tmp_path: Path) -> None:
    job = end_job(tmp_path / "jobs", *rows_of(1, 2, 3), output=Output(path=str(tmp_path / "out")))
    Export(tmp_path, job, part_bytes=1)

    again = Export(tmp_path, job)

    assert [b"1\n2\n3\n"] == again.parts


def test_the_mark_is_there_only_where_the_job_has_succeeded(tmp_path: Path) -> None:
    job = end_job(tmp_path / "jobs", Failed(items=[1]), output=Output(path=str(tmp_path / "out")))

    written = Export(tmp_path, job, is_success=False)

    assert {"part-00000.jsonl", "manifest.json", "_manifest/batches-00000.jsonl"} == written.contents().keys()


def test_the_manifest_names_everything_and_adds_up(tmp_path: Path) -> None:
    outcomes = [
        Rows(items=[1, 2], rows=["a", "b"]),
        Failed(items=[3, 4], earlier_attempts=2),
        FailedInPart(items=[5, 6], rows=["c"], failed=[(0, 1, 0)]),
        Left(items=[7], state=BatchState.SUCCEEDED),
    ]

    written = export(tmp_path, *outcomes)

    assert {
        "items": 7,
        "succeeded_items": 4,
        "failed_items": 3,
        "open_items": 0,
        "batches": 4,
        "succeeded": 2,
        "failed": 2,
        "open": 0,
        "rows": 3,
    } == written.manifest["totals"]
    (batches,) = written.manifest["batches"]
    lines = [json.loads(line) for line in (written.folder / batches["name"]).read_text().splitlines()]
    assert [
        (0, 2, "succeeded", 1, 2, 0),
        (2, 2, "failed", 3, 0, 2),
        (4, 2, "failed_in_part", 1, 1, 1),
        (6, 1, "succeeded", 1, 0, 0),
    ] == [
        (line["first_item"], line["items"], line["status"], line["attempts"], line["rows"], line["failed_items"])
        for line in lines
    ]
    told = [event.name for event in written.told if isinstance(event, FileWritten)]
    assert ["part-00000.jsonl", "_manifest/batches-00000.jsonl", "manifest.json", "_SUCCESS"] == told


def test_rows_that_are_damaged_are_not_left_out_in_silence(tmp_path: Path) -> None:
    job = end_job(tmp_path / "jobs", *rows_of(1, 2), output=Output(path=str(tmp_path / "out")))
    job.folder.rows(WORKER).write_bytes(b"1\n3\n")

    with pytest.raises(ResultDamaged, match="the rows of batch 1 are damaged"):
        Export(tmp_path, job)

    assert not (tmp_path / "out" / job.job.id / "_SUCCESS").exists()


@settings(max_examples=30)  # each is three folders, synced
@given(rows=st.lists(JSON_VALUES, max_size=6))
def test_whatever_predict_returns_comes_back(rows: list[Any], tmp_path_factory: pytest.TempPathFactory) -> None:
    root = tmp_path_factory.mktemp("story")

    (lines,) = export(root / "jsonl", *rows_of(*rows)).parts
    (as_csv,) = export(root / "csv", *rows_of(*rows), format_=CSV).parts
    (as_parquet,) = export(root / "parquet", *rows_of(*rows), format_=PARQUET).parts

    assert rows == [json.loads(line) for line in lines.splitlines()]
    objects = [row if isinstance(row, dict) else {"output": row} for row in rows]
    names = list(dict.fromkeys(name for row in objects for name in row)) or ["output"]
    header, *texts = read_csv(as_csv)
    assert names == header
    assert [[csv_text(row.get(name)) for name in names] for row in objects] == texts
    table = read_parquet(as_parquet)
    assert names == table.column_names
    for name in names:
        expected = [row.get(name) for row in objects]
        assert all(map(is_alike, expected, table.column(name).to_pylist())), name


def csv_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "" if value is None else json.dumps(value, ensure_ascii=False)


def is_alike(value: Any, found: Any) -> bool:
    """Tell whether a cell is a value itself, or its JSON text."""
    if type(value) in (int, float) and type(found) is float:
        return math.isclose(value, found, rel_tol=0, abs_tol=0)
    return (type(value) is type(found) and value == found) or (isinstance(found, str) and json.loads(found) == value)
