"""The rows that a FineTune learns from: which files, which columns, and how a row becomes text."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

from pydantic import Field

from lmforge_api.base import ApiModel, Rule, listed
from lmforge_api.sources import FileSource

RowFormat = Literal["auto", "text", "prompt-completion", "chat", "preference"]
ColumnName = Annotated[str, Field(min_length=1, max_length=253)]
Pattern = Annotated[str, Field(min_length=1, max_length=65536)]

COLUMNS: Mapping[str, tuple[str, ...]] = {
    "text": ("text",),
    "prompt-completion": ("prompt", "completion"),
    "chat": ("messages", "system", "prompt", "completion"),
    "preference": ("system", "prompt", "chosen", "rejected"),
}
"""Format -> the columns that it reads."""
TEMPLATES: Mapping[str, tuple[str, ...]] = {
    "text": ("text",),
    "prompt-completion": ("prompt", "completion"),
    "chat": ("system", "prompt", "completion", "chat"),
    "preference": ("system", "prompt", "chat"),
}
"""Format -> the templates that it can be given."""

_PATTERNS = ("text", "system", "prompt", "completion")


class Columns(ApiModel):
    """Which column (or JSON key) holds what. What isn't said is looked for under the names in use."""

    text: ColumnName | None = Field(None, description="The whole text.")
    messages: ColumnName | None = Field(
        None, description="A conversation: a list of {role, content}, as JSON where the file has strings."
    )
    system: ColumnName | None = Field(None, description="What the assistant is told about its role.")
    prompt: ColumnName | None = Field(None, description="What is asked.")
    completion: ColumnName | None = Field(None, description="What is answered.")
    chosen: ColumnName | None = Field(None, description="The answer that was preferred.")
    rejected: ColumnName | None = Field(None, description="The answer that was not.")


class Template(ApiModel):
    """How columns become text. {name} stands for the column of that name, {{ and }} for braces."""

    cel_rules = tuple(
        Rule(
            cel=f"!has(self.{field}) || self.{field}.matches('[{{][^{{}}]+[}}]')",
            message=f"dataset.template.{field} names no column, so that it is the same for every row: put a column's name in braces",
            path=f".{field}",
        )
        for field in ("text", "prompt", "completion")
    )
    text: Pattern | None = Field(None, description="The whole text: 'Title: {title}\\n{body}'.")
    system: Pattern | None = Field(None, description="What the assistant is told about its role.")
    prompt: Pattern | None = Field(None, description="What is asked: 'Question: {question}\\nAnswer:'.")
    completion: Pattern | None = Field(None, description="What is answered: ' {answer}'.")
    chat: Pattern | None = Field(
        None, description="Jinja template for conversations in place of the tokenizer's own; it goes into the artifact."
    )


class Split(ApiModel):
    """Rows held out, chosen by the seed."""

    evaluation: float = Field(0.05, gt=0, le=0.5, description="Share of the rows to evaluate on.")


class RowSource(FileSource):
    """Files with rows."""

    file_format: Literal["auto", "text", "jsonl", "csv", "parquet"] = Field(
        "auto",
        description="Format of the files; auto goes by their names (.jsonl, .json, .csv, .parquet, anything else is text: a row for each file).",
    )


def _needless() -> Iterator[Rule]:
    """Columns and templates that the format doesn't read."""
    for part, known in (("columns", COLUMNS), ("template", TEMPLATES)):
        for field in dict.fromkeys(name for names in known.values() for name in names):
            formats = [each for each, names in known.items() if field in names]
            yield Rule(
                cel=f"!has(self.{part}.{field}) || self.format in {['auto', *formats]}",
                message=f"dataset.{part}.{field} is for format {listed(formats)}: leave it out with format {{self.format}}",
                path=f".{part}.{field}",
            )


def _twice() -> Iterator[Rule]:
    """Two places that say the same thing."""
    for field in _PATTERNS:
        yield Rule(
            cel=f"!has(self.columns.{field}) || !has(self.template.{field})",
            message=f"dataset.columns.{field} and dataset.template.{field} both say what the {field} is: leave one out",
            path=f".columns.{field}",
        )
    yield Rule(
        cel="!has(self.columns.messages) || !(has(self.columns.prompt) || has(self.columns.completion) || has(self.columns.system))",
        message="dataset.columns.messages holds whole conversations: leave columns.system, prompt and completion out",
        path=".columns.messages",
    )


class FineTuneDataset(RowSource):
    """Rows to learn from."""

    cel_rules = (*FileSource.cel_rules, *_needless(), *_twice())

    format: RowFormat = Field(
        "auto",
        description="What a row is. text: one text. prompt-completion: the completion is learned, as plain text after the prompt. chat: a conversation in the model's chat template, whose answers are learned. preference: a prompt with a chosen and a rejected answer (dpo). auto goes by the columns, and takes a prompt with an answer for chat where the model has a chat template.",
    )
    columns: Columns = Field(default_factory=Columns, description="Which column holds what.")
    template: Template = Field(default_factory=Template, description="How columns become text.")
    packing: bool = Field(False, description="Fill each sequence with several rows.")
    split: Split | None = Field(
        None,
        description="Rows held out for evaluation. Default: evaluation: 0.05, where evaluation.dataset isn't named.",
    )
    oversize: Literal["truncate", "drop", "fail"] = Field(
        "truncate",
        description="What becomes of rows longer than sequenceLength. They are counted in status either way, as empty rows are, which are left out.",
    )
