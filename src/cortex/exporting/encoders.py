"""How rows become the bytes of a file."""

import csv
import io
from collections.abc import Callable, Sequence
from typing import Protocol

from cortex.domain.output import Output, OutputFormat
from cortex.exporting.columns import Columns, Kind, kind_of, read_string
from cortex.exporting.joined import BatchRows


class Encoder(Protocol):
    """One file that is being made, in memory."""

    @property
    def size_bytes(self) -> int:
        """About how large it is by now. The same rows give the same number."""

    def add(self, batch: BatchRows) -> None:
        """Write the rows of a Batch."""

    def finish(self) -> bytes:
        """Give the file. The same rows give the same bytes."""


def encoder_maker(output: Output, columns: Columns) -> Callable[[], Encoder]:
    """Give what makes the encoder of a file; `columns` have seen all rows, where the format has any."""
    if output.format is OutputFormat.JSON_LINES:
        return lambda: JsonLinesEncoder(has_input=output.include_input)
    if output.format is OutputFormat.CSV:
        return lambda: CsvEncoder(columns, has_input=output.include_input)
    # An extra: who does not write Parquet does without it.
    from cortex.exporting.parquet import ParquetEncoder  # noqa: PLC0415, RUF100

    return lambda: ParquetEncoder(columns, has_input=output.include_input)


class JsonLinesEncoder:
    """Rows as they are, or objects with `input` and `output`."""

    def __init__(self, *, has_input: bool) -> None:
        self._has_input = has_input
        self._data = bytearray()

    @property
    def size_bytes(self) -> int:
        """Keep the contract."""
        return len(self._data)

    def add(self, batch: BatchRows) -> None:
        """Keep the contract."""
        if self._has_input:
            self._data += b"".join(b'{"input":%b,"output":%b}\n' % pair for pair in batch.joined())
        else:
            self._data += batch.data

    def finish(self) -> bytes:
        """Keep the contract."""
        return bytes(self._data)


class CsvEncoder:
    """UTF-8 with a header in each file, lines that end in CR LF, and quotes where they are needed (RFC 4180)."""

    def __init__(self, columns: Columns, *, has_input: bool) -> None:
        self._columns = columns
        self._has_input = has_input
        self._names = list(columns.kinds)
        self._data = bytearray()
        self._write([[columns.input_name] if has_input else []], [self._names])

    @property
    def size_bytes(self) -> int:
        """Keep the contract."""
        return len(self._data)

    def add(self, batch: BatchRows) -> None:
        """Keep the contract."""
        inputs, rows = batch.split(has_input=self._has_input)
        cells = [self._columns.cells(row) for row in rows]
        self._write(
            [[text.decode()] for text in inputs] if self._has_input else [[]] * len(rows),
            [[_field(row[name]) if name in row else "" for name in self._names] for row in cells],
        )

    def finish(self) -> bytes:
        """Keep the contract."""
        return bytes(self._data)

    def _write(self, inputs: Sequence[list[str]], rows: Sequence[list[str]]) -> None:
        text = io.StringIO(newline="")
        csv.writer(text).writerows([*before, *row] for before, row in zip(inputs, rows, strict=True))
        self._data += text.getvalue().encode()


def _field(value: bytes) -> str:
    kind = kind_of(value) if value[:1] in b'n"' else Kind.OTHER
    if kind is Kind.STRING:
        return read_string(value)
    return "" if kind is Kind.NULL else value.decode()
