"""Which columns hold what: from a spec's format, columns and template, and from the columns that there are.

form = decide(dataset, columns=["question", "answer"], knows_chat=True, preference=False)
form.example(row)        # Chat([{"role": "user", …}, {"role": "assistant", …}])
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from lmforge_api.finetune_dataset import FineTuneDataset
from lmforge_workloads.common.exits import DataError, UserError
from lmforge_workloads.common.tables import Row
from lmforge_workloads.finetune.examples import (
    Chat,
    Completion,
    Example,
    Message,
    Preference,
    Text,
    common_prefix,
    is_conversation,
    messages_of,
    text_of,
)
from lmforge_workloads.finetune.patterns import Pattern

IN_USE: Mapping[str, tuple[str, ...]] = {
    "text": ("text",),
    "messages": ("messages", "conversations", "conversation"),
    "system": ("system", "system_prompt"),
    "prompt": ("prompt", "question", "instruction", "user", "query", "input"),
    "completion": ("completion", "answer", "response", "output", "assistant"),
    "chosen": ("chosen",),
    "rejected": ("rejected",),
}
"""Field -> names of columns that are taken for it where the spec says nothing."""

Read = Callable[[Row], str]
"""One field of a row as text."""


@dataclass(frozen=True)
class Form:
    """How rows are read."""

    format: str
    columns: tuple[str, ...]
    """Those that every row needs."""
    read: Callable[[Row], Example]

    def example(self, row: Row) -> Example:
        """What the row teaches. Raises `DataError` where it lacks a column or holds something else."""
        missing = [column for column in self.columns if column not in row.values]
        if missing:
            there = ", ".join(row.values) or "none"
            message = f"this row has no {missing[0]!r} as the rows before it do; it has {there}"
            raise DataError(message, file=row.file, line=row.line)
        return self.read(row)


def decide(
    dataset: FineTuneDataset, *, columns: Sequence[str], knows_chat: bool, preference: bool, file: str = ""
) -> Form:
    """How to read rows with these columns. `knows_chat`: the model, or the spec, has a chat template."""
    fields = _Fields(dataset, columns, file)
    chosen: str = dataset.format
    if chosen == "auto":
        chosen = "preference" if preference else _guess(fields, knows_chat=knows_chat)
    if chosen == "chat" and not knows_chat:
        raise UserError(
            "the model's tokenizer has no chat template, which conversations need: write dataset.template.chat,"
            " or dataset.format: prompt-completion"
        )
    match chosen:
        case "text":
            return _text(fields)
        case "prompt-completion":
            return _completion(fields)
        case "chat":
            return _chat(fields)
        case _:
            return _preference(fields)


class _Fields:
    """The fields of a dataset: each a pattern, a column that the spec names, or one with a name in use."""

    def __init__(self, dataset: FineTuneDataset, columns: Sequence[str], file: str) -> None:
        self.columns = columns
        self._file = file
        self._named: dict[str, str | None] = dict(dataset.columns)
        patterns = {name: text for name, text in dict(dataset.template).items() if text is not None and name != "chat"}
        self._patterns = {name: Pattern.parse(text, name=f"dataset.template.{name}") for name, text in patterns.items()}

    def said(self, field: str) -> bool:
        """Whether the spec says what it is."""
        return field in self._patterns or self._named.get(field) is not None

    def found(self, field: str) -> bool:
        """Whether there is something for it."""
        return self.said(field) or any(name in self.columns for name in IN_USE[field])

    def column(self, field: str) -> str:
        """The column that holds it. Raises `DataError` with the names that exist."""
        named = self._named.get(field)
        if named is not None:
            self._check(named, f"dataset.columns.{field}")
            return named
        for name in IN_USE[field]:
            if name in self.columns:
                return name
        names = " or ".join(IN_USE[field])
        raise self._error(f"no column is called {names}: say which one is the {field} by dataset.columns.{field}")

    def text(self, field: str) -> tuple[Read, tuple[str, ...]]:
        """Its text, and the columns that it needs."""
        pattern = self._patterns.get(field)
        if pattern is None:
            column = self.column(field)
            return (lambda row: text_of(row, column)), (column,)
        for name in pattern.columns:
            self._check(name, f"dataset.template.{field}")
        return (lambda row: pattern.fill({name: text_of(row, name) for name in pattern.columns})), pattern.columns

    def prompt(self) -> tuple[Read, tuple[str, ...]]:
        """The prompt; Alpaca's files have a part of it in a column of its own, `input`."""
        read, columns = self.text("prompt")
        if self.said("prompt") or columns != ("instruction",) or "input" not in self.columns:
            return read, columns
        return lambda row: "\n\n".join(filter(None, (read(row), text_of(row, "input")))), (*columns, "input")

    def _check(self, column: str, who: str) -> None:
        if column not in self.columns:
            raise self._error(f"{who} names the column {column!r}, which doesn't exist")

    def _error(self, message: str) -> DataError:
        return DataError(f"{message}. There are {', '.join(self.columns) or 'none'}", file=self._file or None)


def _guess(fields: _Fields, *, knows_chat: bool) -> str:
    if fields.found("chosen") and fields.found("rejected"):
        raise UserError("chosen and rejected answers are for method dpo: write that, or name other columns")
    if fields.found("messages") and not any(map(fields.said, ("text", "prompt", "completion"))):
        return "chat"
    if fields.said("text"):
        return "text"
    if fields.found("prompt") and fields.found("completion"):
        return "chat" if knows_chat else "prompt-completion"
    if fields.found("text"):
        return "text"
    raise fields._error(
        "no columns are known by their names (text; messages; prompt and completion, or question and answer):"
        " say by dataset.columns which is what"
    )


def _text(fields: _Fields) -> Form:
    read, columns = fields.text("text")
    return Form("text", columns, lambda row: Text(read(row)))


def _completion(fields: _Fields) -> Form:
    (prompt, of_prompt), (completion, of_completion) = fields.prompt(), fields.text("completion")
    return Form("prompt-completion", (*of_prompt, *of_completion), lambda row: Completion(prompt(row), completion(row)))


def _chat(fields: _Fields) -> Form:
    if fields.found("messages") and not any(map(fields.said, ("prompt", "completion"))):
        column = fields.column("messages")
        return Form("chat", (column,), lambda row: Chat(messages_of(row, column)))
    asked, of_asked = _asked(fields)
    completion, of_completion = fields.text("completion")

    def read(row: Row) -> Example:
        return Chat([*asked(row), {"role": "assistant", "content": completion(row)}])

    return Form("chat", (*of_asked, *of_completion), read)


def _asked(fields: _Fields) -> tuple[Callable[[Row], list[Message]], tuple[str, ...]]:
    """The conversation before the answer, out of columns."""
    prompt, of_prompt = fields.prompt()
    system, of_system = fields.text("system") if fields.found("system") else (lambda row: "", ())

    def read(row: Row) -> list[Message]:
        said: list[Message] = [{"role": "system", "content": system(row)}, {"role": "user", "content": prompt(row)}]
        return [message for message in said if message["role"] == "user" or message["content"].strip()]

    return read, (*of_prompt, *of_system)


def _preference(fields: _Fields) -> Form:
    chosen, rejected = fields.column("chosen"), fields.column("rejected")
    asked, of_asked = _asked(fields) if fields.found("prompt") else (None, ())

    def read(row: Row) -> Example:
        if is_conversation(row.values[chosen]):
            return _preferred_conversation(row, chosen, rejected, asked)
        if asked is None:
            message = f"{chosen} is an answer alone, and no column is its prompt: name one by dataset.columns.prompt"
            raise DataError(message, file=row.file, line=row.line)
        return Preference(asked(row), text_of(row, chosen), text_of(row, rejected))

    return Form("preference", (chosen, rejected, *of_asked), read)


def _preferred_conversation(
    row: Row, chosen: str, rejected: str, asked: Callable[[Row], list[Message]] | None
) -> Preference:
    good, bad = messages_of(row, chosen), messages_of(row, rejected)
    shared = min(common_prefix(good, bad), max(0, min(len(good), len(bad)) - 1))
    prompt = good[:shared] if shared else asked(row) if asked is not None else []
    answers = [*good[shared:], *bad[shared:]]
    if len(good) != shared + 1 or len(bad) != shared + 1 or any(each["role"] != "assistant" for each in answers):
        message = f"{chosen} and {rejected} have to be one conversation but for the assistant's last answer"
        raise DataError(message, file=row.file, line=row.line)
    return Preference(prompt, good[-1]["content"], bad[-1]["content"])
