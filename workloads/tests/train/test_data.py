import multiprocessing
import os
import threading
import time
from pathlib import Path

import pytest
from workload_builders import a_corpus, a_run, a_spec

from lmforge_api.trainingjob import Evaluation, TextSource
from lmforge_workloads.common import artifact
from lmforge_workloads.common.exits import DataError, HangDetected
from lmforge_workloads.train import data
from lmforge_workloads.train.sources import TextFiles, read


def a_small_spec(*, vocabulary: int = 400, holdout: float = 0.1, **fields: object) -> object:
    return a_spec(
        dataset=a_corpus(vocabulary=vocabulary),
        evaluation=Evaluation(holdout=holdout),
        **fields,
    )


@pytest.fixture(scope="session")
def prepared(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> data.Data:
    return data.prepare(a_run(tmp_path_factory.mktemp("store"), dataset=corpus, spec=a_small_spec()))


def test_the_whole_text_can_be_read_back_from_the_tokens(prepared: data.Data, corpus: Path) -> None:
    end = prepared.tokenizer.decode([prepared.tokenizer.end_of_text])
    both = [prepared.tokenizer.decode(split.tokens.tolist()) for split in (prepared.train, prepared.evaluation)]
    pieces = [piece.text for piece in read(TextFiles(str(corpus)))]
    assert sum(len(text.replace(end, "")) for text in both) == sum(map(len, pieces))
    assert all((piece in both[0]) != (piece in both[1]) for piece in pieces)


def test_about_the_share_asked_for_is_held_out(prepared: data.Data) -> None:
    train, evaluation = len(prepared.train.tokens), len(prepared.evaluation.tokens)
    assert 0.05 < evaluation / (train + evaluation) < 0.15
    assert prepared.metadata["train.tokens"] == str(train)
    assert prepared.metadata["evaluation.tokens"] == str(evaluation)


def test_every_document_ends_with_the_end_of_text_token(prepared: data.Data) -> None:
    for split in (prepared.train, prepared.evaluation):
        ends = [int(split.documents[n]) - 1 for n in range(1, len(split.documents))]
        assert all(split[end][-1] == prepared.tokenizer.end_of_text for end in ends)
        assert (split.tokens == prepared.tokenizer.end_of_text).sum() == len(ends)


def test_it_is_an_artifact_with_the_digests_of_what_it_was_made_of(prepared: data.Data, corpus: Path) -> None:
    assert artifact.verify(prepared.directory) == []
    inputs = {status.name: status for status in prepared.inputs()}
    assert inputs.keys() == {"dataset", "tokenizer"}
    assert inputs["dataset"].uri == str(corpus)
    assert all(status.digest.startswith("sha256:") for status in inputs.values())


def test_two_runs_over_the_same_text_make_the_same_bytes_whatever_their_seed(
    prepared: data.Data, corpus: Path, tmp_path: Path
) -> None:
    again = data.prepare(a_run(tmp_path, dataset=corpus, spec=a_small_spec(seed=7, sequence_length=64)))
    manifests = [artifact.read_manifest(found.directory) for found in (prepared, again)]
    assert manifests[0] == manifests[1]


def test_the_next_attempt_reuses_the_tokens_even_when_the_text_has_changed(tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.mkdir()
    for name in "abc":
        (text / f"{name}.txt").write_text(" ".join(f"{name}{n}" for n in range(300)))
    first = data.prepare(a_run(tmp_path / "store", dataset=text, spec=a_small_spec(), attempt=1))
    samples = first.train_order(sequence_length=8, seed=0).batch(range(20))
    (text / "a.txt").write_text("something else")
    second = data.prepare(a_run(tmp_path / "store", dataset=text, spec=a_small_spec(), attempt=2))
    assert second.directory == first.directory
    assert (second.train_order(sequence_length=8, seed=0).batch(range(20)) == samples).all()


@pytest.mark.parametrize(
    "other", [a_small_spec(vocabulary=500), a_small_spec(holdout=0.2)], ids=["vocabulary", "holdout"]
)
def test_what_changes_the_tokens_changes_their_directory(tmp_path: Path, other: object) -> None:
    one, two = (data.directory_of(a_run(tmp_path, spec=spec)) for spec in (a_small_spec(), other))
    assert one != two


def test_a_text_of_two_documents_is_enough(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "one two three four"}\n{"text": "five six seven eight"}\n')
    prepared = data.prepare(a_run(tmp_path / "store", dataset=tmp_path / "a.jsonl", spec=a_small_spec(holdout=0.02)))
    assert prepared.tokenizer.decode(prepared.evaluation.tokens.tolist()) == "five six seven eight<|endoftext|>"
    assert len(prepared.evaluation_samples(sequence_length=4, limit=9)) >= 1


def test_a_named_evaluation_text_is_used_and_nothing_is_held_out(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("train " * 100)
    (tmp_path / "eval.csv").write_text("body\nmeasured here\n")
    spec = a_small_spec().model_copy(
        update={"evaluation": Evaluation(dataset=TextSource(uri="pvc://a/eval.csv", column="body"))}
    )
    run = a_run(
        tmp_path / "store", dataset=tmp_path / "train.txt", evaluation_path=str(tmp_path / "eval.csv"), spec=spec
    )
    prepared = data.prepare(run)
    assert prepared.tokenizer.decode(prepared.evaluation.tokens.tolist()) == "measured here<|endoftext|>"
    assert prepared.tokenizer.decode(prepared.train.tokens.tolist()) == "train " * 100 + "<|endoftext|>"
    assert [status.name for status in prepared.inputs()] == ["dataset", "evaluation", "tokenizer"]


def test_an_existing_tokenizer_is_used_and_kept_with_the_tokens(prepared: data.Data, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("import os\n" * 50)
    tokenizer = prepared.directory / "tokenizer"
    spec = a_spec(evaluation=Evaluation(holdout=0.5))
    run = a_run(tmp_path / "store", dataset=tmp_path / "a.txt", tokenizer_path=f"file://{tokenizer}", spec=spec)
    again = data.prepare(run)
    assert again.vocabulary == prepared.vocabulary
    assert again.metadata["tokenizer.digest"] == prepared.metadata["tokenizer.digest"]
    assert (again.directory / "tokenizer/tokenizer.json").read_bytes() == (tokenizer / "tokenizer.json").read_bytes()


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"a.txt": b"fine\n\xff"}, "a.txt:2: this is not UTF-8"),
        ({"a.jsonl": b'{"text": ""}\n'}, "there is no text"),
        ({"a.txt": b""}, "there is no text"),
        ({}, "no files are here"),
    ],
)
def test_a_text_that_can_not_be_read_is_refused_and_leaves_nothing(
    tmp_path: Path, files: dict[str, bytes], says: str
) -> None:
    (tmp_path / "text").mkdir()
    for name, content in files.items():
        (tmp_path / "text" / name).write_bytes(content)
    run = a_run(tmp_path / "store", dataset=tmp_path / "text", spec=a_small_spec())
    with pytest.raises(DataError, match=says):
        data.prepare(run)
    assert data.find(run) is None
    assert list((tmp_path / "store/data").iterdir()) == []


def test_an_evaluation_text_shorter_than_a_sample_is_refused_with_what_to_do(prepared: data.Data) -> None:
    with pytest.raises(DataError, match=r"raise evaluation.holdout"):
        prepared.evaluation_samples(sequence_length=10_000_000, limit=1)


def _prepare_and_be_killed(run: object) -> None:
    data.prepare(run, on_progress=lambda message: os._exit(9) if message.startswith("tokenized") else None)


def test_a_killed_preparation_leaves_nothing_that_the_next_one_trips_over(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("some text\n" * 5000)
    run = a_run(tmp_path / "store", dataset=tmp_path / "a.txt", spec=a_small_spec())
    process = multiprocessing.get_context("spawn").Process(target=_prepare_and_be_killed, args=(run,))
    process.start()
    process.join(60)
    assert process.exitcode == 9
    assert data.find(run) is None
    assert data.prepare(run).vocabulary <= 400
    assert [path.name for path in (tmp_path / "store/data").iterdir()] == [data.directory_of(run).name]


def test_other_ranks_wait_until_the_tokens_are_complete(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("some text\n" * 5000)
    run = a_run(tmp_path / "store", dataset=tmp_path / "a.txt", spec=a_small_spec())
    said: list[str] = []
    threading.Thread(target=lambda: (time.sleep(0.3), data.prepare(run))).start()
    assert data.wait_for(run, timeout=20, on_progress=said.append).vocabulary > 0
    assert said
    with pytest.raises(HangDetected, match="rank 0"):
        data.wait_for(a_run(tmp_path / "other"), timeout=0.01)


def test_progress_is_said_in_megabytes(corpus: Path, tmp_path: Path) -> None:
    said: list[str] = []
    data.prepare(a_run(tmp_path, dataset=corpus, spec=a_small_spec()), on_progress=said.append)
    assert said[0] == "training a BPE tokenizer of 400 tokens"
    assert said[-1] == "tokenized 1.0 MB of text (1.0 MB of files)"
