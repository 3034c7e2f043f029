"""The rows as token sequences: made once by rank 0, then only mapped into memory.

    data/<digest>/train.arrow evaluation.arrow     what trl's trainers take: input_ids and labels, or a pair
    data/<digest>/manifest.json

The directory is named after what was asked for, so that the next attempt goes on with the very same sequences even
when the source has changed since. It appears as a whole or not at all.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset
from trl import pack_dataset

from lmforge_api import derive_finetune
from lmforge_api.common import InputStatus
from lmforge_api.finetune_results import Rows
from lmforge_api.run import FineTuneRun
from lmforge_workloads.common import artifact
from lmforge_workloads.common.exits import DataError, HangDetected
from lmforge_workloads.finetune.encode import Encoder, Pair, Tokens
from lmforge_workloads.finetune.rows import Counts, encoded

_VERSION = 1  # of what is below: another number makes new data
_AT_ONCE = 1000  # sequences written, or packed, at a time
_TRAIN, _EVALUATION, _ALL = "train.arrow", "evaluation.arrow", "rows.arrow"

Say = Callable[[str], None]


@dataclass(frozen=True)
class Data:
    """A directory of sequences."""

    directory: Path
    metadata: dict[str, str]

    @property
    def train(self) -> Dataset:
        """What is learned from."""
        return Dataset.from_file(str(self.directory / _TRAIN))

    @property
    def evaluation(self) -> Dataset:
        """What is evaluated on."""
        return Dataset.from_file(str(self.directory / _EVALUATION))

    @property
    def rows(self) -> Rows:
        """What became of the files' rows."""
        return Rows.model_validate_json(self.metadata["rows"])

    @property
    def format(self) -> str:
        """What the rows were taken for."""
        return self.metadata["format"]

    def inputs(self) -> list[InputStatus]:
        """What it was made of, by digest."""
        return [InputStatus.model_validate(each) for each in json.loads(self.metadata["inputs"])]


def directory_of(run: FineTuneRun) -> Path:
    """Where the sequences of this run are or will be."""
    spec = run.spec
    request = {
        "version": _VERSION,
        "rows": run.dataset_path,
        "evaluation": run.evaluation_path,
        "evaluationFormat": spec.evaluation.dataset and spec.evaluation.dataset.file_format,
        "samples": spec.evaluation.samples,
        "dataset": spec.dataset.wire(),
        "length": spec.sequence_length,
        "seed": spec.seed,
        "tokenizer": run.model_path,
        "preference": spec.method == "dpo",
    }
    digest = hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()
    return Path(run.store.root) / "data" / digest[:16]


def find(run: FineTuneRun) -> Data | None:
    """The sequences, if they are complete."""
    directory = directory_of(run)
    manifest = artifact.read_manifest(directory)
    return None if manifest is None else Data(directory, manifest.metadata)


def wait_for(run: FineTuneRun, *, timeout: float, say: Say) -> Data:
    """Wait until rank 0 has prepared them. `say` is called about every second."""
    deadline = time.monotonic() + timeout
    while (data := find(run)) is None:
        if time.monotonic() > deadline:
            raise HangDetected(f"no data after {timeout:.0f} s in {directory_of(run)}: see the log of rank 0")
        say("waiting for rank 0 to tokenize the rows")
        time.sleep(0.2)
    return data


def prepare(run: FineTuneRun, encoder: Encoder, *, say: Say) -> Data:
    """Find the sequences, or make them. Raises `DataError` or `UserError` where the rows can't be used."""
    if (found := find(run)) is not None:
        return found
    destination = directory_of(run)
    artifact.sweep(destination.parent)
    metadata: dict[str, str] = {}
    with artifact.writing(destination, kind="data", created_by=run.creator, metadata=metadata) as staged:
        metadata |= _make(run, encoder, staged, say)
    return Data(destination, metadata)


def _make(run: FineTuneRun, encoder: Encoder, staged: Path, say: Say) -> dict[str, str]:
    spec, counts = run.spec, Counts()
    schema = _schema(preference=spec.method == "dpo")

    def read(uri: str, source: Any, into: Counts) -> Iterator[Tokens | Pair]:
        return encoded(uri, source, spec.dataset, encoder, into, length=spec.sequence_length,
                       preference=spec.method == "dpo", say=say)  # fmt: skip

    everything = staged / _ALL
    _write(everything, map(_record, read(run.dataset_path, spec.dataset, counts)), schema)
    usable = Dataset.from_file(str(everything))
    inputs = [_input("dataset", run.dataset_path, counts)]
    if run.evaluation_path is not None and spec.evaluation.dataset is not None:
        train, other = np.arange(len(usable)), Counts()
        _write(staged / _EVALUATION, map(_record, read(run.evaluation_path, spec.evaluation.dataset, other)), schema,
               limit=spec.evaluation.samples)  # fmt: skip
        inputs.append(_input("evaluation", run.evaluation_path, other))
        held_out = len(Dataset.from_file(str(staged / _EVALUATION)))
        _check_any(held_out, other, run.evaluation_path, spec.sequence_length)
        _check_any(len(train), counts, run.dataset_path, spec.sequence_length)
    else:
        share = derive_finetune.evaluation_share(spec)
        _check_any(len(usable), counts, run.dataset_path, spec.sequence_length)
        train, evaluation = split(len(usable), share=share, most=spec.evaluation.samples, seed=spec.seed)
        _write(staged / _EVALUATION, _select(usable, evaluation), schema)
        held_out = len(evaluation)
    say("packing rows" if spec.dataset.packing else "writing rows")
    packed = _packed(usable, train, spec.sequence_length) if spec.dataset.packing else _select(usable, train)
    _write(staged / _TRAIN, packed, _schema(preference=spec.method == "dpo", packed=spec.dataset.packing))
    everything.unlink()
    rows = Rows(read=counts.read, train=len(train), evaluation=held_out, empty=counts.empty,
                oversize=counts.oversize, examples=counts.examples)  # fmt: skip
    return {
        "rows": rows.model_dump_json(by_alias=True),
        "format": counts.format,
        "inputs": json.dumps([each.model_dump(by_alias=True) for each in inputs]),
    }


def split(rows: int, *, share: float, most: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Which rows are trained and which evaluated on, chosen by the seed; in order."""
    if rows < 2:
        raise DataError(
            f"only {rows} row is left, and there has to be one to train and another to evaluate on:"
            " add rows, or name others by evaluation.dataset"
        )
    held_out = min(max(1, round(share * rows)), most, rows - 1)
    order = np.random.default_rng(seed).permutation(rows)
    return np.sort(order[held_out:]), np.sort(order[:held_out])


def _check_any(left: int, counts: Counts, uri: str, length: int) -> None:
    if left == 0:
        examples = f" ({'; '.join(counts.examples[:3])})" if counts.examples else ""
        raise DataError(
            f"no row is left to learn from: of {counts.read} rows {counts.empty} are empty, and {counts.oversize}"
            f" have more than {length} tokens{examples}",
            file=uri,
        )


def _input(name: str, uri: str, counts: Counts) -> InputStatus:
    return InputStatus(name=name, uri=uri, digest=f"sha256:{counts.digest.hexdigest()}")


def _schema(*, preference: bool, packed: bool = False) -> pa.Schema:
    names = ["prompt_ids", "chosen_ids", "rejected_ids"] if preference else ["input_ids", "labels"]
    return pa.schema([(name, pa.list_(pa.int32())) for name in [*names, *(["seq_lengths"] if packed else [])]])


def _record(made: Tokens | Pair) -> dict[str, list[int]]:
    if isinstance(made, Pair):
        return {"prompt_ids": made.prompt, "chosen_ids": made.chosen, "rejected_ids": made.rejected}
    return {"input_ids": made.ids, "labels": made.labels}


def _write(path: Path, records: Iterable[dict[str, list[int]]], schema: pa.Schema, *, limit: int | None = None) -> None:
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, schema) as writer:
        rest = iter(records if limit is None else _first(records, limit))
        while some := list(islice(rest, _AT_ONCE)):
            writer.write_batch(pa.RecordBatch.from_pylist(some, schema=schema))


def _first(records: Iterable[dict[str, list[int]]], limit: int) -> Iterator[dict[str, list[int]]]:
    """The first so many; all of them are read, since they are counted on the way."""
    for number, record in enumerate(records):
        if number < limit:
            yield record


def _select(dataset: Dataset, indices: Sequence[int] | np.ndarray) -> Iterator[dict[str, list[int]]]:
    return iter(dataset.select(indices))


def _packed(dataset: Dataset, indices: np.ndarray, length: int) -> Iterator[dict[str, list[int]]]:
    """Several rows a sequence, as many at a time as trl packs together."""
    for begin in range(0, len(indices), _AT_ONCE):
        some = Dataset.from_list(list(_select(dataset, indices[begin : begin + _AT_ONCE])))
        yield from pack_dataset(some, length, "bfd", {"keep_in_memory": True})
