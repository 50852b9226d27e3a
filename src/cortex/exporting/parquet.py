"""Rows as Parquet files: the one module that needs pyarrow.

A column is boolean, int64, double or string where all its values are; otherwise it holds the JSON text of each.
"""

import io
from collections.abc import Callable
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from cortex.exporting.columns import Columns, Kind, read_string
from cortex.exporting.joined import BatchRows

_GROUP_BYTES: Final = 8 * 1024 * 1024
_GROUP_CELLS: Final = 1_000_000
"""A row group is in memory as Python objects until it is written; empty cells take room there, too."""


class ParquetEncoder:
    """One schema for all files of a Job."""

    def __init__(self, columns: Columns, *, has_input: bool) -> None:
        self._columns = columns
        self._has_input = has_input
        found = {name: _column_of(kind) for name, kind in columns.kinds.items()}
        self._readers: dict[str, Callable[[bytes], Any]] = {name: read for name, (_, read) in found.items()}
        fields = [pa.field(name, kind) for name, (kind, _) in found.items()]
        if has_input:
            fields.insert(0, pa.field(columns.input_name, pa.string()))
        self._schema = pa.schema(fields)
        self._file = io.BytesIO()
        self._writer = pq.ParquetWriter(self._file, self._schema)
        self._ended_bytes = 0
        self._begin_group()

    @property
    def size_bytes(self) -> int:
        """Keep the contract: it is what the rows had as JSON."""
        return self._ended_bytes + self._bytes

    def add(self, batch: BatchRows) -> None:
        """Keep the contract."""
        inputs, rows = batch.split(has_input=self._has_input)
        self._inputs += [text.decode() for text in inputs]
        for row in rows:
            cells = self._columns.cells(row)
            for name, values in self._values.items():
                value = cells.get(name, b"null")
                values.append(None if value == b"null" else self._readers[name](value))
            self._rows += 1
            self._bytes += len(row)
        self._bytes += sum(map(len, inputs))
        if self._bytes >= _GROUP_BYTES or self._rows * len(self._values) >= _GROUP_CELLS:
            self._end_group()

    def finish(self) -> bytes:
        """Keep the contract."""
        self._end_group()
        self._writer.close()
        return self._file.getvalue()

    def _begin_group(self) -> None:
        self._inputs: list[str] = []
        self._values: dict[str, list[Any]] = {name: [] for name in self._columns.kinds}
        self._rows = 0
        self._bytes = 0

    def _end_group(self) -> None:
        if self._rows:
            values = [self._inputs] if self._has_input else []
            arrays = [
                pa.array(column, field.type)
                for column, field in zip([*values, *self._values.values()], self._schema, strict=True)
            ]
            self._writer.write_table(pa.Table.from_arrays(arrays, schema=self._schema))
        self._ended_bytes += self._bytes
        self._begin_group()


def _column_of(kind: Kind) -> tuple[Any, Callable[[bytes], Any]]:
    """Give the type of a column that holds these kinds of values, and what makes a value of a JSON text."""
    if kind is Kind.BOOLEAN:
        return pa.bool_(), lambda value: value == b"true"
    if kind and kind in Kind.INTEGER | Kind.LARGE:
        return pa.int64(), int
    if kind and kind in Kind.INTEGER | Kind.FLOAT:
        return pa.float64(), float
    if kind is Kind.STRING:
        return pa.string(), read_string
    return pa.string(), bytes.decode
