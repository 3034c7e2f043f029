import json
from pathlib import Path
from typing import Literal, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmforge_api.trainingjob import TokenizerTraining
from lmforge_workloads.common.exits import UserError
from lmforge_workloads.train import tokenizer as tokenizers
from lmforge_workloads.train.tokenizer import TextTokenizer

Kind = Literal["BPE", "WordPiece", "Unigram"]
KINDS: tuple[Kind, ...] = get_args(Kind)
TRICKY = [
    " leading,  double  and trailing spaces  ",
    "tabs\t\tnewlines\n\n\r\n",
    "日本語と🎉👩‍👩‍👧 ǅ \u0301combining \u202e",
    "it 's . done , n't ## ##x ▁▁ Ġ",
    "\x00\x7f\ufeff\ufffd",
    "=" * 5000,
    "x" * 5000,
    "<|endoftext|> <|pad|> [UNK] <s>",
    "",
]


@pytest.fixture(scope="session")
def trained(real_files: list[Path]) -> dict[str, TextTokenizer]:
    texts = [path.read_text() for path in real_files[:8]]
    return {kind: tokenizers.train(TokenizerTraining(type=kind, vocab_size=1000), texts) for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", TRICKY, ids=range(len(TRICKY)))
def test_decoding_gives_the_text_back(trained: dict[str, TextTokenizer], kind: Kind, text: str) -> None:
    (ids,) = trained[kind].encode([text])
    assert trained[kind].decode(ids) == text


@pytest.mark.parametrize("kind", KINDS)
@given(text=st.text(st.characters(exclude_categories=["Cs"])))
def test_decoding_gives_any_text_back(trained: dict[str, TextTokenizer], kind: Kind, text: str) -> None:
    (ids,) = trained[kind].encode([text])
    assert trained[kind].decode(ids) == text


@pytest.mark.parametrize("kind", KINDS)
def test_transformers_loads_it_and_agrees(
    trained: dict[str, TextTokenizer], kind: Kind, tmp_path: Path, real_files: list[Path]
) -> None:
    from transformers import AutoTokenizer

    trained[kind].save(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    text = real_files[9].read_text()
    (ids,) = trained[kind].encode([text])
    assert theirs(text)["input_ids"] == ids
    assert theirs.decode(ids) == text
    assert theirs.eos_token_id == trained[kind].end_of_text
    assert theirs.pad_token_id not in (None, theirs.eos_token_id)


@pytest.mark.parametrize("kind", KINDS)
def test_it_has_the_size_asked_for_and_packs_text(
    trained: dict[str, TextTokenizer], kind: Kind, real_files: list[Path]
) -> None:
    assert trained[kind].vocabulary == 1000
    text = real_files[9].read_text()
    (ids,) = trained[kind].encode([text])
    assert len(text.encode()) / len(ids) > 2.0


@pytest.mark.parametrize("kind", ["BPE", "WordPiece"])
def test_training_twice_gives_the_same_bytes(kind: Kind, real_files: list[Path]) -> None:
    texts = [path.read_text() for path in real_files[:3]]
    training = TokenizerTraining(type=kind, vocab_size=500)
    assert tokenizers.train(training, texts).files == tokenizers.train(training, iter(texts)).files


@pytest.mark.parametrize("kind", KINDS)
def test_what_looks_like_a_special_token_in_a_text_is_text(trained: dict[str, TextTokenizer], kind: Kind) -> None:
    (ids,) = trained[kind].encode(["a <|endoftext|> b"])
    assert trained[kind].end_of_text not in ids
    assert trained[kind].decode([trained[kind].end_of_text]) == "<|endoftext|>"


def test_a_saved_tokenizer_loads_from_its_directory_or_file(trained: dict[str, TextTokenizer], tmp_path: Path) -> None:
    trained["BPE"].save(tmp_path)
    for uri in (tmp_path, f"file://{tmp_path}", tmp_path / "tokenizer.json"):
        loaded = tokenizers.load(uri)
        assert loaded.files == trained["BPE"].files
        assert loaded.encode(TRICKY) == trained["BPE"].encode(TRICKY)


def test_the_end_token_may_be_written_as_an_object(trained: dict[str, TextTokenizer], tmp_path: Path) -> None:
    trained["BPE"].save(tmp_path)
    (tmp_path / "special_tokens_map.json").unlink()
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": {"content": "<|pad|>", "lstrip": false}}')
    assert tokenizers.load(tmp_path).end_of_text == 1


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({}, "holds no tokenizer.json"),
        ({"tokenizer.json": "{}"}, "can't be read"),
        ({"tokenizer_config.json": "{}", "special_tokens_map.json": "{}"}, "set eos_token"),
    ],
)
def test_what_is_no_tokenizer_is_refused_with_what_to_do(
    trained: dict[str, TextTokenizer], tmp_path: Path, files: dict[str, str], says: str
) -> None:
    if files:
        trained["BPE"].save(tmp_path)
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=says):
        tokenizers.load(tmp_path)
