"""Rows out of files: JSON lines (or one JSON list), CSV and Parquet, one at a time, with the place of every error.

Files may be packed (.gz, .bz2, .xz).
"""

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import PurePosixPath
from typing import IO, Literal

from lmforge_workloads.common.exits import DataError
from lmforge_workloads.common.store import Location

PACKED: Mapping[str, str] = {".gz": "gzip", ".bz2": "bz2", ".xz": "xz"}

TableFormat = Literal["jsonl", "csv", "parquet"]
Check = Callable[[Sequence[str], int | None], None]
"""Gets the columns, and the line that names them, as soon as they are known; raises what is wrong with them."""

BY_SUFFIX: Mapping[str, TableFormat] = {".jsonl": "jsonl", ".csv": "csv", ".parquet": "parquet"}
_ROWS = 256  # of parquet, decoded at a time


@dataclass(frozen=True)
class Row:
    """One row, and where it is. In parquet the line is the row's number; both begin at 1."""

    values: Mapping[str, object]
    file: str
    line: int


def format_of(path: str, *, by_suffix: Mapping[str, TableFormat] = BY_SUFFIX) -> TableFormat | None:
    """What a file's name says that it is; None for anything but a table."""
    suffixes = [suffix for suffix in PurePosixPath(path).suffixes if suffix not in PACKED]
    return by_suffix.get(suffixes[-1]) if suffixes else None


def open_unpacked(file: Location) -> IO[bytes]:
    """The file's content."""
    return file.open(compression=PACKED.get(PurePosixPath(file.path).suffix))


def read_rows(
    stream: IO[bytes],
    name: str,
    kind: TableFormat,
    *,
    check: Check = lambda columns, line: None,
    only: Sequence[str] | None = None,
) -> Iterator[Row]:
    """All rows of a file. `only` these columns are decoded where the format lets others be skipped."""
    match kind:
        case "jsonl":
            return _json(stream, name, check)
        case "csv":
            return _csv(stream, name, check)
        case "parquet":
            return _parquet(stream, name, check, only)


def lines(stream: IO[bytes], name: str) -> Iterator[tuple[int, str]]:
    """Lines with their numbers."""
    for number, line in enumerate(stream, start=1):
        try:
            yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise not_utf8(name, number) from error


def not_utf8(name: str, line: int) -> DataError:
    """The error of a file in another encoding."""
    return DataError(
        "this is not UTF-8: convert the file, or name only text files by a glob such as …/**/*.txt",
        file=name,
        line=line,
    )


def _json(stream: IO[bytes], name: str, check: Check) -> Iterator[Row]:
    numbered = ((number, line) for number, line in lines(stream, name) if line.strip())
    first = next(numbered, None)
    if first is None:
        return
    rest = chain([first], numbered)
    found = _json_list(rest, name) if first[1].lstrip().startswith("[") else _json_lines(rest, name)
    for number, row in found:
        if not isinstance(row, dict):
            raise DataError('each line has to be a JSON object, like {"text": …}', file=name, line=number)
        check(list(row), number)
        yield Row(row, name, number)


def _json_lines(numbered: Iterator[tuple[int, str]], name: str) -> Iterator[tuple[int, object]]:
    for number, line in numbered:
        try:
            yield number, json.loads(line)
        except ValueError as error:
            raise DataError(f"this line is not JSON: {error}", file=name, line=number) from error


def _json_list(numbered: Iterator[tuple[int, str]], name: str) -> Iterator[tuple[int, object]]:
    """A list in one piece; the number of a row stands in for its line."""
    try:
        yield from enumerate(json.loads("".join(line for _, line in numbered)), start=1)
    except ValueError as error:
        raise DataError(f"this is not JSON: {error}", file=name) from error


def _csv(stream: IO[bytes], name: str, check: Check) -> Iterator[Row]:
    csv.field_size_limit(2**31 - 1)  # a document may be long
    rows = csv.reader((line for _, line in lines(stream, name)), strict=True)
    try:
        header = next(rows, [])
        check(header, 1)
        for row in rows:
            if row and len(row) != len(header):
                raise DataError(f"{len(row)} fields, but the header has {len(header)}", file=name, line=rows.line_num)
            if row:
                yield Row(dict(zip(header, row, strict=True)), name, rows.line_num)
    except csv.Error as error:
        raise DataError(f"this is not CSV: {error}", file=name, line=rows.line_num) from error


def _parquet(stream: IO[bytes], name: str, check: Check, only: Sequence[str] | None) -> Iterator[Row]:
    from pyarrow import ArrowException  # 0.5 s: only those who read parquet pay it
    from pyarrow.parquet import ParquetFile

    try:
        table = ParquetFile(stream)
        check(table.schema_arrow.names, None)
        number = 0
        for batch in table.iter_batches(batch_size=_ROWS, columns=only):
            for values in batch.to_pylist():
                number += 1
                yield Row(values, name, number)
    except ArrowException as error:
        raise DataError(f"this can't be read as parquet: {error}", file=name) from error
