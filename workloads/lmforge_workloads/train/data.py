"""The training text as tokens: made once, then only mapped into memory.

    data = prepare(run, on_progress=print)           # one rank does this; a second call finds the result
    data = wait_for(run, ...)                        # the others wait for it
    data.train_order(sequence_length=512, seed=0).sample(7)

The directory is named after what was asked for (text, tokenizer, held-out share), so that the next attempt reuses it
even when the source has changed since, and goes on with the very same samples. It appears as a whole or not at all.
"""

import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from lmforge_api.common import InputStatus
from lmforge_api.run import TrainingRun
from lmforge_api.trainingjob import TokenizerTraining
from lmforge_workloads.common import artifact
from lmforge_workloads.common.exits import DataError, HangDetected
from lmforge_workloads.common.store import locate
from lmforge_workloads.train import tokenizer as tokenizers
from lmforge_workloads.train.indexed import IndexedDataset, IndexedWriter, token_dtype
from lmforge_workloads.train.order import EvaluationSamples, SampleOrder
from lmforge_workloads.train.sources import Piece, TextFiles, read, total_bytes
from lmforge_workloads.train.tokenizer import TextTokenizer

log = logging.getLogger(__name__)

_VERSION = 1  # of what is below: another number makes new data
_BATCH_BYTES = 4 * 1024 * 1024  # of text encoded at a time: its tokens take some 100 times that in memory

OnProgress = Callable[[str], None]


@dataclass(frozen=True)
class Data:
    """A directory of tokens."""

    directory: Path
    metadata: dict[str, str]

    @cached_property
    def tokenizer(self) -> TextTokenizer:
        """The tokenizer that made the tokens."""
        return tokenizers.load(self.directory / "tokenizer")

    @cached_property
    def train(self) -> IndexedDataset:
        """Tokens to train on."""
        return IndexedDataset(self.directory / "train")

    @cached_property
    def evaluation(self) -> IndexedDataset:
        """Tokens to evaluate on."""
        return IndexedDataset(self.directory / "eval")

    @property
    def vocabulary(self) -> int:
        """Number of token ids."""
        return int(self.metadata["vocabulary"])

    def train_order(self, *, sequence_length: int, seed: int) -> SampleOrder:
        """Training samples."""
        return SampleOrder(self.train.tokens, sequence_length=sequence_length, seed=seed)

    def evaluation_samples(self, *, sequence_length: int, limit: int) -> EvaluationSamples:
        """Evaluation samples."""
        if len(self.evaluation.tokens) <= sequence_length:
            raise DataError(
                f"the evaluation text has {len(self.evaluation.tokens)} tokens, and one sample needs"
                f" {sequence_length + 1}: raise evaluation.holdout, name evaluation.dataset, or lower sequenceLength"
            )
        return EvaluationSamples(self.evaluation.tokens, sequence_length=sequence_length, limit=limit)

    def inputs(self) -> list[InputStatus]:
        """What it was made of, by digest."""
        known = ("dataset", "evaluation", "tokenizer", "model")
        names = [name for name in known if f"{name}.digest" in self.metadata]
        return [
            InputStatus(name=name, uri=self.metadata[f"{name}.uri"], digest=self.metadata[f"{name}.digest"])
            for name in names
        ]


def directory_of(run: TrainingRun) -> Path:
    """Where the tokens of this run are or will be."""
    request = {
        "version": _VERSION,
        "text": vars(_training_text(run)),
        "evaluation": vars(_evaluation_text(run) or TextFiles("")),
        "holdout": run.spec.evaluation.holdout,
        "tokenizer": run.tokenizer_path or run.model_path or _tokenizer_training(run).wire(),
    }
    digest = hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()
    return Path(run.store.root) / "data" / digest[:16]


def find(run: TrainingRun) -> Data | None:
    """The tokens, if they are complete."""
    directory = directory_of(run)
    manifest = artifact.read_manifest(directory)
    return None if manifest is None else Data(directory, manifest.metadata)


def wait_for(run: TrainingRun, *, timeout: float, on_progress: OnProgress = log.info) -> Data:
    """Wait until another rank has prepared the tokens. `on_progress` is called about every second."""
    deadline = time.monotonic() + timeout
    while (data := find(run)) is None:
        if time.monotonic() > deadline:
            raise HangDetected(f"no tokens after {timeout:.0f} s in {directory_of(run)}: see the log of rank 0")
        on_progress("waiting for rank 0 to tokenize the text")
        time.sleep(min(1.0, timeout / 10))
    return data


def prepare(run: TrainingRun, *, on_progress: OnProgress = log.info) -> Data:
    """Tokenize the text unless that is done. Raises `DataError` with file and line."""
    if (data := find(run)) is not None:
        return data
    directory = directory_of(run)
    directory.parent.mkdir(parents=True, exist_ok=True)
    artifact.sweep(directory.parent)
    metadata: dict[str, str] = {}
    with artifact.writing(directory, kind="tokens", created_by=run.creator, metadata=metadata) as staged:
        metadata.update(_write(run, staged, on_progress))
    return Data(directory, metadata)


def _write(run: TrainingRun, staged: Path, on_progress: OnProgress) -> dict[str, str]:
    text, evaluation = _training_text(run), _evaluation_text(run)
    tokenizer = _tokenizer(run, text, on_progress)
    tokenizer.save(staged / "tokenizer")
    dtype = token_dtype(tokenizer.vocabulary)
    with (
        IndexedWriter(staged / "train", dtype=dtype) as train_file,
        IndexedWriter(staged / "eval", dtype=dtype) as evaluation_file,
    ):
        train, held_out = _Split(train_file, tokenizer.end_of_text), _Split(evaluation_file, tokenizer.end_of_text)
        every = None if evaluation else round(1 / run.spec.evaluation.holdout)
        digests = {"dataset": _encode(text, tokenizer, train, held_out, every, on_progress)}
        if evaluation:
            digests["evaluation"] = _encode(evaluation, tokenizer, held_out, held_out, None, on_progress)
        train.close()
        held_out.close()
        counts = {"train.tokens": train_file.tokens, "evaluation.tokens": evaluation_file.tokens}
    digests["tokenizer"] = "sha256:" + hashlib.sha256(tokenizer.files["tokenizer.json"]).hexdigest()
    uris = {"dataset": text.uri, "evaluation": evaluation.uri if evaluation else ""}
    uris["tokenizer"] = run.tokenizer_path or run.model_path or ""
    if run.model_path:
        uris["model"], digests["model"] = run.model_path, artifact.digest_of(locate(run.model_path))
    return {
        "vocabulary": str(tokenizer.vocabulary),
        **{name: str(count) for name, count in counts.items()},
        **{f"{name}.digest": digest for name, digest in digests.items()},
        **{f"{name}.uri": uris[name] for name in digests},
    }


class _Split:
    """One of the two outputs. A document that stops being written here gets its end-of-text token all the same."""

    def __init__(self, writer: IndexedWriter, end_of_text: int) -> None:
        self._writer = writer
        self._end = end_of_text
        self._open = False

    def add(self, ids: list[int], *, ends_document: bool) -> None:
        self._writer.add([*ids, self._end] if ends_document else ids, ends_document=ends_document)
        self._open = not ends_document

    def close(self) -> None:
        """End the document that is open, if one is."""
        if self._open:
            self.add([], ends_document=True)


def _encode(
    source: TextFiles, tokenizer: TextTokenizer, train: _Split, held_out: _Split, every: int | None, say: OnProgress
) -> str:
    """Encode all of a source; one piece in `every` is held out. Returns the digest of the text."""
    digest = hashlib.sha256()
    size, done, number = total_bytes(source), 0, 0
    for batch in _batches(read(source)):
        for piece, ids in zip(batch, tokenizer.encode([piece.text for piece in batch]), strict=True):
            raw = piece.text.encode()
            done += len(raw)
            digest.update(len(raw).to_bytes(8, "little") + raw)
            target, other = (held_out, train) if every and _is_held_out(number, every) else (train, held_out)
            if other is not target:
                other.close()
            target.add(ids, ends_document=piece.ends_document)
            number += 1
        say(f"tokenized {done / 1e6:.1f} MB of text ({size / 1e6:.1f} MB of files)")
    if number == 0:
        raise DataError("there is no text in these files", file=source.uri)
    return "sha256:" + digest.hexdigest()


def _is_held_out(number: int, every: int) -> bool:
    """One of each `every` pieces, at a place that the block's number gives; the second of the first block, so that
    even a short text has something held out. Not the run's seed: runs of all seeds are measured on the same text."""
    block, place = divmod(number, every)
    chosen = hashlib.sha256(f"held out {block}".encode()).digest()
    return place == (int.from_bytes(chosen[:8], "little") % every if block else 1)


def _batches(pieces: Iterable[Piece]) -> Iterator[list[Piece]]:
    batch: list[Piece] = []
    size = 0
    for piece in pieces:
        batch.append(piece)
        size += len(piece.text)
        if size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _tokenizer(run: TrainingRun, text: TextFiles, say: OnProgress) -> TextTokenizer:
    existing = run.tokenizer_path or run.model_path
    if existing:
        return tokenizers.load(existing)
    training = _tokenizer_training(run)
    say(f"training a {training.type} tokenizer of {training.vocab_size} tokens")
    return tokenizers.train(training, (piece.text for piece in read(text)))


def _tokenizer_training(run: TrainingRun) -> TokenizerTraining:
    source = run.spec.dataset.tokenizer
    return (source and source.train) or TokenizerTraining()


def _training_text(run: TrainingRun) -> TextFiles:
    dataset = run.spec.dataset
    return TextFiles(run.dataset_path, dataset.format, dataset.column)


def _evaluation_text(run: TrainingRun) -> TextFiles | None:
    dataset = run.spec.evaluation.dataset
    if dataset is None or run.evaluation_path is None:
        return None
    return TextFiles(run.evaluation_path, dataset.format, dataset.column)
