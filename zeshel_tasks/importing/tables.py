"""Reads tables: CSV, TSV and Parquet."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from itertools import count
from typing import TYPE_CHECKING

from zeshel_tasks.data.json_lines import BadLine, Record
from zeshel_tasks.errors import DataError
from zeshel_tasks.importing.bad_rows import refuse
from zeshel_tasks.importing.entity_columns import EntityColumns
from zeshel_tasks.importing.inputs import MAX_LINE_BYTES, Input, decoded, lines, pyarrow

if TYPE_CHECKING:
    from _csv import Reader as _CsvReader

_BATCH_ROWS = 256


def csv_records(file: Input, columns: EntityColumns, on_bad: BadLine, delimiter: str = ",") -> Iterator[Record]:
    """Yields the rows of a CSV file as RFC 4180 defines it, whose first row names the columns.

    Raises:
        DataError: the file is empty, damaged or not UTF-8, or its columns are wrong.
        ConfigError: a column is missing.
    """
    csv.field_size_limit(MAX_LINE_BYTES)
    rows = csv.reader(_decoded_lines(file), strict=True, delimiter=delimiter)
    return _records(rows, file, columns, on_bad)


def tsv_records(file: Input, columns: EntityColumns, on_bad: BadLine) -> Iterator[Record]:
    """Yields the rows of a TSV file as IANA defines it: quotation marks have no meaning.

    Raises:
        DataError: the file is empty, damaged or not UTF-8, or its columns are wrong.
        ConfigError: a column is missing.
    """
    csv.field_size_limit(MAX_LINE_BYTES)
    rows = csv.reader(_decoded_lines(file), quoting=csv.QUOTE_NONE, delimiter="\t")
    return _records(rows, file, columns, on_bad)


def parquet_records(file: Input, columns: EntityColumns, on_bad: BadLine) -> Iterator[Record]:
    """Yields the rows of a Parquet file; the line of a record is its row, from 1.

    Raises:
        DataError: the file is damaged, or its columns are wrong.
        ConfigError: a column is missing, or pyarrow is not installed.
    """
    del on_bad  # a damaged page damages all rows
    arrow, parquet = pyarrow("pyarrow"), pyarrow("pyarrow.parquet")
    rows = count(1)
    try:
        with parquet.ParquetFile(file.path) as table:
            columns.check_header(table.schema_arrow.names, file.name)
            for batch in table.iter_batches(batch_size=_BATCH_ROWS):
                for values in batch.to_pylist():
                    yield Record(values, file.name, next(rows))
    except (arrow.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise DataError(f"not a Parquet file, or a damaged one: {error}", file=file.name) from error


def _records(rows: _CsvReader, file: Input, columns: EntityColumns, on_bad: BadLine) -> Iterator[Record]:
    header: list[str] | None = None
    while True:
        line = rows.line_num + 1
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            on_bad(DataError(f"broken row: {error}", file=file.name, line=line, expected="a row of CSV (RFC 4180)"))
            continue
        if header is None:
            header = row
            columns.check_header(header, file.name)
        elif row and len(row) != len(header):
            expected = f"{len(header)} fields, as in the first row"
            on_bad(DataError("wrong number of fields", file=file.name, line=line, expected=expected, got=len(row)))
        elif row:
            yield Record(dict(zip(header, row, strict=True)), file.name, line)


def _decoded_lines(file: Input) -> Iterator[str]:
    """The lines of a table. One that is no text damages all that follow, because a row may have several lines."""
    for number, raw in lines(file, refuse):
        yield decoded(raw, file, number)
