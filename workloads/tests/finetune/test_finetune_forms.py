"""Which columns hold what, and what a row teaches."""

import json
from pathlib import Path
from typing import Any

import pytest

from lmforge_api.finetune_dataset import FineTuneDataset
from lmforge_workloads.common.exits import DataError, UserError
from lmforge_workloads.common.tables import Row, read_rows
from lmforge_workloads.finetune.examples import Chat, Completion, Example, Preference, Text, is_empty
from lmforge_workloads.finetune.forms import decide
from lmforge_workloads.finetune.patterns import Pattern


def a_dataset(**fields: Any) -> FineTuneDataset:
    return FineTuneDataset.model_validate({"uri": "pvc://a/b", **fields})


def taught(row: dict[str, object], *, knows_chat: bool = True, preference: bool = False, **fields: Any) -> Example:
    form = decide(a_dataset(**fields), columns=list(row), knows_chat=knows_chat, preference=preference, file="a.csv")
    return form.example(Row(row, "a.csv", 2))


def a_chat(*turns: str, system: str = "") -> list[dict[str, str]]:
    roles = ("user", "assistant")
    said = [{"role": roles[n % 2], "content": turn} for n, turn in enumerate(turns)]
    return [{"role": "system", "content": system}] * bool(system) + said


CHAT = a_chat("Hi", "Hello")
SHARE_GPT = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]
PARTS = [{"role": "user", "content": [{"type": "text", "text": "H"}, {"text": "i"}]}, CHAT[1]]


@pytest.mark.parametrize(
    ("row", "fields", "expected"),
    [
        ({"text": "one"}, {}, Text("one")),
        ({"id": 7, "body": "one"}, {"columns": {"text": "body"}}, Text("one")),
        ({"title": "T", "n": 3}, {"template": {"text": "{title}: {n} {{x}}"}}, Text("T: 3 {x}")),
        ({"messages": CHAT}, {}, Chat(CHAT)),
        ({"messages": json.dumps(CHAT)}, {}, Chat(CHAT)),
        ({"conversations": SHARE_GPT}, {}, Chat(CHAT)),
        ({"messages": PARTS}, {}, Chat(CHAT)),
        ({"question": "Hi", "answer": "Hello"}, {}, Chat(CHAT)),
        ({"system": "Be kind", "prompt": "Hi", "completion": "Hello"}, {},
         Chat(a_chat("Hi", "Hello", system="Be kind"))),
        ({"system": "", "prompt": "Hi", "completion": "Hello"}, {}, Chat(CHAT)),
        ({"instruction": "Add", "input": "1 2", "output": "3"}, {}, Chat(a_chat("Add\n\n1 2", "3"))),
        ({"instruction": "Add", "input": "", "output": "3"}, {}, Chat(a_chat("Add", "3"))),
        ({"q": "Hi", "a": "Hello"}, {"columns": {"prompt": "q", "completion": "a"}}, Chat(CHAT)),
        ({"prompt": "Hi", "completion": "Hello"}, {"format": "prompt-completion"}, Completion("Hi", "Hello")),
        ({"prompt": "Hi", "completion": "Hello"}, {"format": "text", "template": {"text": "{prompt} {completion}"}},
         Text("Hi Hello")),
        ({"prompt": None, "completion": "Hello"}, {"format": "prompt-completion"}, Completion("", "Hello")),
    ],
)  # fmt: skip
def test_a_row_teaches(row: dict[str, object], fields: dict[str, Any], expected: Example) -> None:
    assert taught(row, **fields) == expected


def test_a_model_without_a_chat_template_learns_completions() -> None:
    assert taught({"question": "Hi", "answer": "Hello"}, knows_chat=False) == Completion("Hi", "Hello")


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Hi", "chosen": "Hello", "rejected": "Go"},
        {"prompt": CHAT[0]["content"], "chosen": CHAT, "rejected": a_chat("Hi", "Go")},
        {"prompt": "Hi", "chosen": CHAT[1:], "rejected": a_chat("Hi", "Go")[1:]},
        {"chosen": CHAT, "rejected": json.dumps(a_chat("Hi", "Go"))},
    ],
)
def test_a_preference_is_a_prompt_with_two_answers(row: dict[str, object]) -> None:
    assert taught(row, preference=True) == Preference(CHAT[:1], "Hello", "Go")


@pytest.mark.parametrize(
    ("row", "fields", "says"),
    [
        ({"a": "x", "b": "y"}, {}, "say by dataset.columns which is what. There are a, b"),
        ({"a": "x"}, {"format": "text"}, "no column is called text: .* by dataset.columns.text. There are a"),
        ({"text": ["x"]}, {}, "a.csv:2: text is list, not text"),
        ({"text": "\ud800"}, {}, "a.csv:2: text holds half of a surrogate pair"),
        ({"messages": "hello"}, {}, "a.csv:2: messages is not JSON of a conversation"),
        ({"messages": [{"role": "user"}]}, {},
         "message 1 of messages needs role and content, both text; it has the keys role"),
        ({"messages": ["x"]}, {}, "message 1 of messages is str, not {role, content}"),
        ({"text": "x"}, {"format": "chat", "columns": {"messages": "talk"}},
         "dataset.columns.messages names the column 'talk'"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_told_with_its_place(row: dict[str, object], fields: dict[str, Any], says: str) -> None:
    with pytest.raises(DataError, match=says):
        taught(row, **fields)


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"prompt": "x", "chosen": "a"}, "no column is called rejected"),
        ({"chosen": "a", "rejected": "b"}, "no column is its prompt"),
        ({"chosen": CHAT, "rejected": a_chat("Bye", "Go", "x")},
         "one conversation but for the assistant's last answer"),
    ],
)  # fmt: skip
def test_what_is_no_preference_is_told(row: dict[str, object], says: str) -> None:
    with pytest.raises(DataError, match=says):
        taught(row, preference=True)


def test_a_later_row_that_lacks_a_column_is_told() -> None:
    form = decide(a_dataset(), columns=["text"], knows_chat=True, preference=False)
    with pytest.raises(DataError, match=r"a.jsonl:9: this row has no 'text' .* it has body"):
        form.example(Row({"body": "x"}, "a.jsonl", 9))


def test_conversations_need_a_chat_template() -> None:
    with pytest.raises(UserError, match=r"no chat template.*: write dataset.template.chat"):
        taught({"messages": CHAT}, knows_chat=False, format="chat")


def test_preferences_need_their_method() -> None:
    with pytest.raises(UserError, match="are for method dpo"):
        taught({"prompt": "x", "chosen": "a", "rejected": "b"})


@pytest.mark.parametrize("text", ["{a", "a}", "{}", "{a!r}", "{a:>3}"])
def test_a_template_with_other_braces_is_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"dataset\.template\.text"):
        Pattern.parse(text, name="dataset.template.text")


@pytest.mark.parametrize(
    ("example", "empty"),
    [
        (Text(" \n"), True),
        (Completion("x", " "), True),
        (Completion("", "x"), False),
        (Chat([]), True),
        (Chat(CHAT[:1]), True),
        (Chat(CHAT), False),
        (Preference([], "x", ""), True),
    ],
)
def test_a_row_without_anything_to_learn_is_empty(example: Example, empty: bool) -> None:
    assert is_empty(example) == empty


def test_json_may_be_one_list(tmp_path: Path) -> None:
    path = tmp_path / "alpaca.json"
    path.write_text(json.dumps([{"text": "a"}, {"text": "b"}], indent=1))
    with path.open("rb") as stream:
        assert [row.values["text"] for row in read_rows(stream, "alpaca.json", "jsonl")] == ["a", "b"]
