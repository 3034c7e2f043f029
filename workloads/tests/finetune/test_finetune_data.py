"""Rows become sequences: what is learned of them, what is counted, what is held out."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tuning import a_run, a_tokenizer, questions, save_rows

from lmforge_workloads.common.exits import DataError, UserError
from lmforge_workloads.finetune.data import Data, find, prepare, split
from lmforge_workloads.finetune.encode import IGNORED, Encoder, Tokens
from lmforge_workloads.finetune.examples import Chat, Completion, Message, Preference, Text

TOKENIZER = a_tokenizer()
MARKED = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% if m['role'] == 'assistant' %}{% generation %}"
    "{{ m['content'] }}<|im_end|>{% endgeneration %}{% else %}{{ m['content'] }}<|im_end|>{% endif %}\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
FORGETFUL = (  # as Qwen3's, which leaves out what was thought in earlier turns
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% if loop.last %}{{ m['content'] }}"
    "{% else %}{{ m['content'].split('|')[-1] }}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def a_talk(*turns: str) -> list[Message]:
    return [{"role": ("user", "assistant")[n % 2], "content": turn} for n, turn in enumerate(turns)]


def learned(tokens: Tokens) -> str:
    """The text of the tokens that are learned."""
    return str(TOKENIZER.decode([label for label in tokens.labels if label != IGNORED]))


def test_all_of_a_text_is_learned_and_its_end() -> None:
    assert learned(Encoder(TOKENIZER).tokens(Text("one"))) == "one<|endoftext|>"


def test_of_a_completion_the_completion_is_learned_and_its_end() -> None:
    tokens = Encoder(TOKENIZER).tokens(Completion("Say: ", "yes"))
    assert learned(tokens) == "yes<|endoftext|>"
    assert TOKENIZER.decode(tokens.ids) == "Say: yes<|endoftext|>"


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        (None, "b<|im_end|>\nd<|im_end|>\n"),
        (MARKED, "b<|im_end|>d<|im_end|>"),
        (FORGETFUL, "d<|im_end|>\n"),
    ],
    ids=["by turns", "by marks", "only what stays as it was said"],
)
def test_of_a_conversation_the_answers_are_learned(template: str | None, expected: str) -> None:
    tokenizer = a_tokenizer()
    tokenizer.chat_template = template or tokenizer.chat_template
    talk = a_talk("a", "x|b" if template == FORGETFUL else "b", "c", "d")
    tokens = Encoder(tokenizer).tokens(Chat(talk))
    assert learned(tokens) == expected


def test_a_pair_parts_where_the_answers_do() -> None:
    pair = Encoder(TOKENIZER).pair(Preference(a_talk("Hi"), "Hello", "Ho"))
    decode = TOKENIZER.decode
    assert decode(pair.prompt) == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    assert (decode(pair.chosen), decode(pair.rejected)) == ("Hello<|im_end|>\n", "Ho<|im_end|>\n")


def made(tmp_path: Path, rows: list[dict[str, object]], **spec: Any) -> Data:
    run = a_run(tmp_path / "run", model=tmp_path, rows=save_rows(tmp_path / "rows.jsonl", rows), **spec)
    data = prepare(run, Encoder(TOKENIZER), say=lambda message: None)
    assert find(run) == data
    return data


def test_what_cannot_be_used_is_counted_and_the_first_ones_named(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{"text": "x" * n} for n in (5, 0, 5, 300, 5, 0)]
    found = made(tmp_path, rows, sequenceLength=20)
    assert found.rows.model_dump() == {
        "read": 6, "train": 3, "evaluation": 1, "empty": 2, "oversize": 1,
        "examples": ["rows.jsonl:2: empty", "rows.jsonl:4: 301 tokens", "rows.jsonl:6: empty"],
    }  # fmt: skip
    assert found.format == "text"


@pytest.mark.parametrize(("oversize", "longest", "rows"), [("truncate", 20, 4), ("drop", 6, 3)])
def test_rows_that_are_too_long_are_cut_or_left_out(tmp_path: Path, oversize: str, longest: int, rows: int) -> None:
    dataset = {"uri": "pvc://a/b", "oversize": oversize}
    found = made(tmp_path, [{"text": "x" * n} for n in (5, 5, 5, 300)], sequenceLength=20, dataset=dataset)
    lengths = [len(row["input_ids"]) for part in (found.train, found.evaluation) for row in part]
    assert (max(lengths), len(lengths)) == (longest, rows)


def test_rows_that_are_too_long_can_end_it(tmp_path: Path) -> None:
    dataset = {"uri": "pvc://a/b", "oversize": "fail"}
    with pytest.raises(DataError, match=r"rows.jsonl:2: this row has 31 tokens, more than sequenceLength 20"):
        made(tmp_path, [{"text": "x" * n} for n in (5, 30)], sequenceLength=20, dataset=dataset)


def test_a_row_that_the_template_refuses_is_named(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{"messages": a_talk("a", "b")}, {"messages": a_talk("c", "d")}]
    tokenizer = a_tokenizer()
    tokenizer.chat_template = "{% if messages[0].content == 'c' %}{{ raise_exception('no c') }}{% endif %}x"
    run = a_run(tmp_path / "run", model=tmp_path, rows=save_rows(tmp_path / "rows.jsonl", rows))
    with pytest.raises(UserError, match=r"rows.jsonl:2: the chat template doesn't take .* user, assistant: no c"):
        prepare(run, Encoder(tokenizer), say=lambda message: None)
    assert not (tmp_path / "run/data").exists() or not list((tmp_path / "run/data").iterdir())


def test_packing_keeps_every_token_and_where_rows_begin(tmp_path: Path) -> None:
    rows = questions(60)
    plain = made(tmp_path, rows, dataset={"uri": "pvc://a/b"})
    packed = made(tmp_path, rows, dataset={"uri": "pvc://a/b", "packing": True}).train
    assert len(packed) < len(plain.train) / 1.5
    assert max(len(row["input_ids"]) for row in packed) <= 128
    pieces = [
        tuple(row["input_ids"][end - length : end])
        for row in packed
        for end, length in zip(np.cumsum(row["seq_lengths"]), row["seq_lengths"], strict=True)
    ]
    assert sorted(pieces) == sorted(tuple(row["input_ids"]) for row in plain.train)


def test_other_rows_can_be_named_to_evaluate_on(tmp_path: Path) -> None:
    other = save_rows(tmp_path / "other.jsonl", questions(5))
    run = a_run(
        tmp_path / "run", model=tmp_path, rows=save_rows(tmp_path / "rows.jsonl", questions(10)),
        evaluation={"dataset": {"uri": "pvc://a/c"}, "samples": 3},
    ).model_copy(update={"evaluation_path": str(other)})  # fmt: skip
    found = prepare(run, Encoder(TOKENIZER), say=lambda message: None)
    assert (len(found.train), len(found.evaluation), found.rows.evaluation) == (10, 3, 3)
    assert [each.name for each in found.inputs()] == ["dataset", "evaluation"]


def test_the_seed_decides_what_is_held_out() -> None:
    train, evaluation = split(100, share=0.1, most=256, seed=0)
    assert len(evaluation) == 10
    assert sorted([*train, *evaluation]) == list(range(100))
    assert list(split(100, share=0.1, most=256, seed=0)[1]) == list(evaluation)
    assert list(split(100, share=0.1, most=256, seed=1)[1]) != list(evaluation)
    assert len(split(100, share=0.1, most=4, seed=0)[1]) == 4
    assert len(split(2, share=0.01, most=4, seed=0)[1]) == 1
