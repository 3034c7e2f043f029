"""Templates of a spec: {name} stands for the column of that name, {{ and }} for braces."""

from collections.abc import Mapping
from dataclasses import dataclass
from string import Formatter

from lmforge_workloads.common.exits import UserError


@dataclass(frozen=True)
class Pattern:
    """Text with columns in it: literals, each with the column that follows it (None for none)."""

    parts: tuple[tuple[str, str | None], ...]

    @classmethod
    def parse(cls, text: str, *, name: str) -> "Pattern":
        """Raises `UserError` where braces don't match; `name` is what the template is called in the spec."""
        try:
            parts = [_part(*part, name=name) for part in Formatter().parse(text)]
        except ValueError as error:
            raise UserError(f"{name} can't be read: {error}; write {{{{ and }}}} for braces") from error
        return cls(tuple(parts))

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that it names, in order."""
        return tuple(dict.fromkeys(column for _, column in self.parts if column is not None))

    def fill(self, values: Mapping[str, str]) -> str:
        """The text for one row."""
        return "".join(literal + (values[column] if column is not None else "") for literal, column in self.parts)


def _part(
    literal: str, field: str | None, form: str | None, conversion: str | None, *, name: str
) -> tuple[str, str | None]:
    if form or conversion:
        raise UserError(f"{name} has {{{field}…}} with a format: write {{{field}}}, the column's name alone")
    if field == "":
        raise UserError(f"{name} has {{}} without a column's name: write it inside, or {{{{}}}} for braces")
    return literal, field
