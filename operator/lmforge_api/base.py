"""What every model of the API shares: camelCase on the wire, snake_case in Python, and CEL rules next to the fields."""

from dataclasses import dataclass
from typing import ClassVar

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

GROUP = "lmforge.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
CATEGORY = "lmforge"


@dataclass(frozen=True)
class Rule:
    """One `x-kubernetes-validations` entry of the object whose class declares it.

    `cel` sees the object as `self` (and, for a transition, its former state as `oldSelf`).
    `message` is the sentence that `kubectl apply` prints; `expression`, when given, is CEL that builds a sentence
    with the offending numbers in it, and `message` is what remains when that fails. `path` names the field to point at.
    """

    cel: str
    message: str
    expression: str | None = None
    path: str | None = None


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
