"""Text out of files: plain text, JSON lines, CSV and Parquet, one piece at a time, with the place of every error.

A row of jsonl, csv or parquet is a document. So is a text file; a long one comes in pieces of about 16 KiB, cut at
the ends of lines, so that it need not fit into memory and a part of it can be held out. Files may be packed
(.gz, .bz2, .xz).
"""

import codecs
import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO, Literal

from lmforge_workloads.common.exits import DataError
from lmforge_workloads.common.store import Location, locate

PIECE_BYTES = 16 * 1024
_ROWS = 256  # of parquet, decoded at a time
_PACKED = {".gz": "gzip", ".bz2": "bz2", ".xz": "xz"}

Format = Literal["auto", "text", "jsonl", "csv", "parquet"]


@dataclass(frozen=True)
class TextFiles:
    """Where text is and how to read it. `uri` names a file, a directory or a glob."""

    uri: str
    format: Format = "auto"
    column: str = "text"


@dataclass(frozen=True)
class Piece:
    """A document, or a part of a long one."""

    text: str
    ends_document: bool


def read(source: TextFiles) -> Iterator[Piece]:
    """All documents, file by file in the order of their names. Empty ones are left out."""
    for file in locate(source.uri).files():
        yield from _pieces(file, source)


def total_bytes(source: TextFiles) -> int:
    """Size of all files as they are stored."""
    return sum(file.size() or 0 for file in locate(source.uri).files())


def _pieces(file: Location, source: TextFiles) -> Iterator[Piece]:
    kind = _format_of(file.path) if source.format == "auto" else source.format
    with file.open(compression=_PACKED.get(PurePosixPath(file.path).suffix)) as stream:
        match kind:
            case "jsonl":
                yield from _json_lines(stream, file.uri, source.column)
            case "csv":
                yield from _csv(stream, file.uri, source.column)
            case "parquet":
                yield from _parquet(stream, file.uri, source.column)
            case _:
                yield from _text(stream, file.uri)


def _format_of(path: str) -> str:
    suffixes = [suffix for suffix in PurePosixPath(path).suffixes if suffix not in _PACKED]
    return suffixes[-1][1:] if suffixes and suffixes[-1] in (".jsonl", ".csv", ".parquet") else "text"


def _text(stream: IO[bytes], name: str) -> Iterator[Piece]:
    decoder = codecs.getincrementaldecoder("utf-8-sig")("strict")
    lines = 0
    waiting = ""
    while block := stream.read(PIECE_BYTES):
        block += stream.readline(PIECE_BYTES)
        try:
            text = decoder.decode(block)
        except UnicodeDecodeError as error:
            raise _not_utf8(name, lines + bytes(error.object[: error.start]).count(b"\n") + 1) from error
        lines += block.count(b"\n")
        if waiting and text:
            yield Piece(waiting, ends_document=False)
        waiting = text or waiting
    if decoder.getstate()[0]:
        raise _not_utf8(name, lines + 1)
    if waiting:
        yield Piece(waiting, ends_document=True)


def _json_lines(stream: IO[bytes], name: str, column: str) -> Iterator[Piece]:
    for number, line in _lines(stream, name):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise DataError(f"this line is not JSON: {error}", file=name, line=number) from error
        if not isinstance(row, dict):
            raise DataError('each line has to be a JSON object, like {"text": …}', file=name, line=number)
        if column not in row:
            raise _no_column(column, list(row), name, number)
        yield from _document(row[column], column, name, number)


def _csv(stream: IO[bytes], name: str, column: str) -> Iterator[Piece]:
    csv.field_size_limit(2**31 - 1)  # a document may be long
    rows = csv.reader((line for _, line in _lines(stream, name)), strict=True)
    try:
        header = next(rows, [])
        if column not in header:
            raise _no_column(column, header, name, 1)
        place = header.index(column)
        for row in rows:
            if row and len(row) != len(header):
                raise DataError(f"{len(row)} fields, but the header has {len(header)}", file=name, line=rows.line_num)
            if row:
                yield from _document(row[place], column, name, rows.line_num)
    except csv.Error as error:
        raise DataError(f"this is not CSV: {error}", file=name, line=rows.line_num) from error


def _parquet(stream: IO[bytes], name: str, column: str) -> Iterator[Piece]:
    from pyarrow import ArrowException  # 0.5 s: only those who read parquet pay it
    from pyarrow.parquet import ParquetFile

    try:
        table = ParquetFile(stream)
        columns = table.schema_arrow.names
        if column not in columns:
            raise _no_column(column, columns, name, None)
        number = 0
        for batch in table.iter_batches(batch_size=_ROWS, columns=[column]):
            for value in batch.column(0).to_pylist():
                number += 1
                yield from _document(value, column, name, number)
    except ArrowException as error:
        raise DataError(f"this can't be read as parquet: {error}", file=name) from error


def _lines(stream: IO[bytes], name: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(stream, start=1):
        try:
            yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise _not_utf8(name, number) from error


def _document(value: object, column: str, name: str, number: int) -> Iterator[Piece]:
    if value is None or value == "":
        return
    if not isinstance(value, str):
        raise DataError(f"{column} is {type(value).__name__}, not text", file=name, line=number)
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"{column} holds half of a surrogate pair, which is no character", file=name, line=number
        ) from error
    yield Piece(value, ends_document=True)


def _not_utf8(name: str, line: int) -> DataError:
    return DataError(
        "this is not UTF-8: convert the file, or name only text files by a glob such as …/**/*.txt",
        file=name,
        line=line,
    )


def _no_column(column: str, columns: Sequence[str], name: str, line: int | None) -> DataError:
    there = ", ".join(columns) or "none"
    return DataError(f"there is no column {column!r}: set dataset.column to one of {there}", file=name, line=line)
