"""Text out of files: plain text, JSON lines, CSV and Parquet, one piece at a time, with the place of every error.

A row of jsonl, csv or parquet is a document. So is a text file; a long one comes in pieces of about 16 KiB, cut at
the ends of lines, so that it need not fit into memory and a part of it can be held out. Files may be packed
(.gz, .bz2, .xz).
"""

import codecs
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Literal

from lmforge_workloads.common.exits import DataError
from lmforge_workloads.common.store import Location, locate
from lmforge_workloads.common.tables import format_of, not_utf8, open_unpacked, read_rows

PIECE_BYTES = 16 * 1024

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
    kind = (format_of(file.path) or "text") if source.format == "auto" else source.format
    with open_unpacked(file) as stream:
        if kind == "text":
            yield from _text(stream, file.uri)
            return
        column = source.column

        def check(columns: Sequence[str], line: int | None) -> None:
            if column not in columns:
                raise _no_column(column, columns, file.uri, line)

        for row in read_rows(stream, file.uri, kind, check=check, only=[column]):
            yield from _document(row.values[column], column, row.file, row.line)


def _text(stream: IO[bytes], name: str) -> Iterator[Piece]:
    decoder = codecs.getincrementaldecoder("utf-8-sig")("strict")
    lines = 0
    waiting = ""
    while block := stream.read(PIECE_BYTES):
        block += stream.readline(PIECE_BYTES)
        try:
            text = decoder.decode(block)
        except UnicodeDecodeError as error:
            raise not_utf8(name, lines + bytes(error.object[: error.start]).count(b"\n") + 1) from error
        lines += block.count(b"\n")
        if waiting and text:
            yield Piece(waiting, ends_document=False)
        waiting = text or waiting
    if decoder.getstate()[0]:
        raise not_utf8(name, lines + 1)
    if waiting:
        yield Piece(waiting, ends_document=True)


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


def _no_column(column: str, columns: Sequence[str], name: str, line: int | None) -> DataError:
    there = ", ".join(columns) or "none"
    return DataError(f"there is no column {column!r}: set dataset.column to one of {there}", file=name, line=line)
