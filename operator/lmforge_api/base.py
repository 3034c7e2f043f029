"""What every model of the API shares: camelCase on the wire, snake_case in Python, and CEL rules next to the fields."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel
from pydantic.config import JsonDict

GROUP = "lmforge.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
CATEGORY = "lmforge"

_PLACEHOLDER = re.compile(r"\{([^}]*)\}")


@dataclass(frozen=True)
class Rule:
    """One `x-kubernetes-validations` entry of the object whose class declares it.

    `cel` sees the object as `self` (and, for a transition, its former state as `oldSelf`).
    `message` is the sentence that `kubectl apply` prints: what is wrong, and what to write instead. What stands in
    braces is CEL and is replaced by its value, an integer or a string: `"heads {self.heads} is too many"`.
    `path` points at the field that is to blame, below the object: `.parallelism.tensor`.
    """

    cel: str
    message: str
    path: str | None = None

    def wire(self) -> JsonDict:
        """The entry as it stands in a CRD."""
        entry: JsonDict = {"rule": self.cel, "message": _PLACEHOLDER.sub(lambda found: _plain(found[1]), self.message)}
        if _PLACEHOLDER.search(self.message):
            entry["messageExpression"] = _formatted(self.message)
        if self.path:
            entry["fieldPath"] = self.path
        return entry


def _plain(expression: str) -> str:
    """An expression as it reads when the API server can't tell its value."""
    return expression.replace("self.", "")


def _formatted(message: str) -> str:
    """CEL that puts the values into the message. (By format: the API server can't bound the cost of `+`.)"""
    template = _PLACEHOLDER.sub("%s", message.replace("%", "%%"))
    values = ", ".join(f"string({value})" for value in _PLACEHOLDER.findall(message))
    return f"{_quoted(template)}.format([{values}])"


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


class ApiModel(BaseModel):
    """A part of the API: unknown fields are refused, instances are immutable."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True)

    cel_rules: ClassVar[tuple[Rule, ...]] = ()
    """Checked by the API server at `kubectl apply`; see `Rule`."""
    immutable_fields: ClassVar[tuple[str, ...]] = ()
    """Wire names of the fields that can't change once set."""

    def wire(self) -> dict[str, object]:
        """The JSON object as the API server stores it: aliases, no nulls."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class StatusModel(ApiModel):
    """A part of status: read leniently, since another version of the operator may have written it."""

    model_config = ConfigDict(extra="ignore")

    def wire(self) -> dict[str, object]:
        """As the API server stores it: what says nothing (empty text, lists, objects) is left out; zeros stay."""
        said = _said(super().wire())
        assert isinstance(said, dict)
        return said


def _said(value: object) -> object:
    if isinstance(value, dict):
        kept = ((key, _said(item)) for key, item in value.items())
        return {key: item for key, item in kept if item not in ("", [], {})}
    return [_said(item) for item in value] if isinstance(value, list) else value


def listed(names: Sequence[str]) -> str:
    """As in a sentence: a, b and c."""
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last


def keyed_by(key: str) -> JsonDict:
    """`json_schema_extra` of a list whose entries are told apart by one of their fields."""
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [key]}
