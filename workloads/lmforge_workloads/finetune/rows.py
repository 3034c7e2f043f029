"""The rows of a FineTune's files as tokens, one at a time; what can't be used is counted, and the first ones named."""

import hashlib
import json
import posixpath
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import chain

from lmforge_api.artifact import MANIFEST_NAME
from lmforge_api.finetune_dataset import FineTuneDataset, RowSource
from lmforge_workloads.common.exits import DataError, UserError
from lmforge_workloads.common.store import Location, locate
from lmforge_workloads.common.tables import BY_SUFFIX, Row, format_of, not_utf8, open_unpacked, read_rows
from lmforge_workloads.finetune.encode import Encoder, Pair, Tokens
from lmforge_workloads.finetune.examples import Example, Preference, is_empty
from lmforge_workloads.finetune.forms import decide

SHOWN = 10
_BY_SUFFIX = {**BY_SUFFIX, ".json": "jsonl"}
_SAY_EVERY = 1000  # rows


@dataclass
class Counts:
    """What became of rows so far."""

    read: int = 0
    empty: int = 0
    oversize: int = 0
    examples: list[str] = field(default_factory=list)
    format: str = ""
    digest: "hashlib._Hash" = field(default_factory=hashlib.sha256)

    def note(self, row: Row, what: str) -> None:
        """Remember one of the first rows that something is wrong with."""
        if len(self.examples) < SHOWN:
            self.examples.append(f"{posixpath.basename(row.file)}:{row.line}: {what}")

    def add(self, row: Row) -> None:
        """Count it, and take it into the digest of what was read."""
        self.read += 1
        raw = json.dumps(row.values, sort_keys=True, default=str).encode()
        self.digest.update(len(raw).to_bytes(8, "little") + raw)


def encoded(
    uri: str,
    source: RowSource,
    dataset: FineTuneDataset,
    encoder: Encoder,
    counts: Counts,
    *,
    length: int,
    preference: bool,
    say: Callable[[str], None],
) -> Iterator[Tokens | Pair]:
    """The usable rows of all files as tokens, at most `length` a row."""
    for row, example in _examples(uri, source, dataset, counts, bool(encoder.tokenizer.chat_template), preference):
        if is_empty(example):
            counts.empty += 1
            counts.note(row, "empty")
            continue
        try:
            made = encoder.pair(example) if isinstance(example, Preference) else encoder.tokens(example)
        except UserError as error:
            raise UserError(f"{row.file}:{row.line}: {error}") from error
        kept = _fitted(made, row, counts, length=length, oversize=dataset.oversize)
        if kept is not None:
            yield kept
        if counts.read % _SAY_EVERY == 0:
            say(f"tokenized {counts.read:,} rows")


def _fitted(made: Tokens | Pair, row: Row, counts: Counts, *, length: int, oversize: str) -> Tokens | Pair | None:
    size = len(made) if isinstance(made, Pair) else len(made.ids)
    if size > length:
        counts.oversize += 1
        counts.note(row, f"{size:,} tokens")
        if oversize == "fail":
            message = f"this row has {size:,} tokens, more than sequenceLength {length:,}"
            remedy = "raise it, or write dataset.oversize: truncate or drop"
            raise DataError(f"{message}: {remedy}", file=row.file, line=row.line)
        if oversize == "drop":
            return None
    if isinstance(made, Pair):
        # trl's collator cuts both answers at the length; a prompt that fills it would leave nothing of them.
        return made if len(made.prompt) < length else None
    cut = made.cut(length)
    return cut if cut.teaches() else None


def _examples(
    uri: str, source: RowSource, dataset: FineTuneDataset, counts: Counts, knows_chat: bool, preference: bool
) -> Iterator[tuple[Row, Example]]:
    for file in _files(uri):
        rows = _rows(file, source)
        first = next(rows, None)
        if first is None:
            continue
        form = decide(
            dataset, columns=list(first.values), knows_chat=knows_chat, preference=preference, file=first.file
        )
        counts.format = counts.format or form.format
        for row in chain([first], rows):
            counts.add(row)
            yield row, form.example(row)


def _files(uri: str) -> Iterator[Location]:
    """The manifest of an artifact isn't part of what it holds."""
    found = locate(uri).files()
    return (file for file in found if len(found) == 1 or posixpath.basename(file.path) != MANIFEST_NAME)


def _rows(file: Location, source: RowSource) -> Iterator[Row]:
    kind = format_of(file.path, by_suffix=_BY_SUFFIX) if source.file_format == "auto" else source.file_format
    with open_unpacked(file) as stream:
        if kind is None or kind == "text":
            content = stream.read()
            try:
                yield Row({"text": content.decode("utf-8-sig")}, file.uri, 1)
            except UnicodeDecodeError as error:
                raise not_utf8(file.uri, content[: error.start].count(b"\n") + 1) from error
        else:
            yield from read_rows(stream, file.uri, kind)
