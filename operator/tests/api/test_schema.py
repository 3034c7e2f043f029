"""The generator: structural OpenAPI v3.0 schemas from pydantic models."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from lmforge_api.base import ApiModel, Rule, keyed_by
from lmforge_api.crd import root_schema
from lmforge_api.kinds import KINDS, Kind
from lmforge_api.schema import UnsupportedSchema, structural

ALL_KINDS = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)


class Inner(ApiModel):
    """What is inside."""

    size: int = Field(3, ge=1, description="A size.")
    label: str | None = Field(None, max_length=9, description="A label.")


class Item(ApiModel):
    """An entry."""

    name: str = Field(max_length=5, description="Its name.")


class Outer(ApiModel):
    """What is outside.

    And more about it.
    """

    cel_rules = (Rule("self.ratio < 1.0 || self.mode == 'a'", "ratio too large for mode {self.mode}: write a"),)
    immutable_fields = ("mode", "perhaps")

    mode: Literal["a", "b"] = Field("a", description="A mode.")
    only: Literal["c"] = Field("c", description="One choice.")
    ratio: float = Field(0.5, gt=0, lt=2, description="A ratio.")
    inner: Inner = Field(default_factory=Inner, description="The inner one.")
    perhaps: Inner | None = Field(None, description="Perhaps another.")
    items: list[Item] = Field([], max_length=4, description="Entries.", json_schema_extra=keyed_by("name"))
    labels: dict[str, Annotated[str, Field(max_length=7)]] = Field({}, max_length=2, description="Labels.")
    anything: (
        Annotated[dict[str, Any], Field(json_schema_extra={"x-kubernetes-preserve-unknown-fields": True})] | None
    ) = Field(None, description="Free form.")


def test_a_model_becomes_a_structural_schema() -> None:
    inner = {
        "size": {"type": "integer", "format": "int64", "minimum": 1, "default": 3, "description": "A size."},
        "label": {"type": "string", "maxLength": 9, "description": "A label."},
    }
    assert structural(Outer) == {
        "type": "object",
        "description": "What is outside.\n\nAnd more about it.",
        "properties": {
            "only": {"type": "string", "enum": ["c"], "default": "c", "description": "One choice."},
            "mode": {
                "type": "string", "enum": ["a", "b"], "default": "a", "description": "A mode.",
                "x-kubernetes-validations": [
                    {
                        "rule": "self == oldSelf",
                        "message": "mode can't change once the object exists: put it back, or create another object "
                        "with the new mode",
                    }
                ],
            },
            "ratio": {
                "type": "number", "default": 0.5, "description": "A ratio.",
                "minimum": 0, "exclusiveMinimum": True, "maximum": 2, "exclusiveMaximum": True,
            },
            "inner": {
                "type": "object", "description": "The inner one.", "default": {"size": 3}, "properties": inner,
            },
            "perhaps": {"type": "object", "description": "Perhaps another.", "properties": inner},
            "items": {
                "type": "array", "default": [], "maxItems": 4, "description": "Entries.",
                "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                "items": {
                    "type": "object", "description": "An entry.", "required": ["name"],
                    "properties": {"name": {"type": "string", "maxLength": 5, "description": "Its name."}},
                },
            },
            "labels": {
                "type": "object", "default": {}, "maxProperties": 2, "description": "Labels.",
                "additionalProperties": {"type": "string", "maxLength": 7},
            },
            "anything": {
                "type": "object", "description": "Free form.", "x-kubernetes-preserve-unknown-fields": True,
            },
        },
        "x-kubernetes-validations": [
            {
                "rule": "self.ratio < 1.0 || self.mode == 'a'",
                "message": "ratio too large for mode mode: write a",
                "messageExpression": "'ratio too large for mode %s: write a'.format([string(self.mode)])",
            },
            {
                "rule": "has(self.perhaps) == has(oldSelf.perhaps) && "
                "(!has(self.perhaps) || self.perhaps == oldSelf.perhaps)",
                "message": "perhaps can't change once the object exists: put it back, or create another object "
                "with the new perhaps",
                "fieldPath": ".perhaps",
            },
        ],
    }  # fmt: skip


def test_a_field_keeps_the_rules_of_its_model_beside_its_own() -> None:
    class Ruled(ApiModel):
        """Has a rule."""

        cel_rules = (Rule("self.size > 0", "size must be more than 0"),)
        size: int = Field(1, description="A size.")

    class Fixed(ApiModel):
        """Holds one that can't change."""

        immutable_fields = ("ruled",)
        ruled: Ruled = Field(default_factory=Ruled, description="A ruled one.")

    ruled: Any = structural(Fixed)["properties"]
    assert [rule["rule"] for rule in ruled["ruled"]["x-kubernetes-validations"]] == ["self.size > 0", "self == oldSelf"]


def test_status_has_no_defaults() -> None:
    def defaults(schema: Any) -> Iterator[Any]:
        for _, node in nodes(schema):
            if "default" in node:
                yield node

    assert list(defaults(structural(Outer)))
    assert not list(defaults(structural(Outer, defaults=False)))


def test_quotes_backslashes_and_percent_signs_of_a_message_survive_in_cel() -> None:
    rule = Rule("true", r"it's 100 % \d: {self.a}")
    assert rule.wire()["messageExpression"] == r"'it\'s 100 %% \\d: %s'.format([string(self.a)])"


def test_unions_and_missing_descriptions_are_named_with_their_place() -> None:
    class Union(ApiModel):
        """A union."""

        value: int | str = Field(1, description="Either.")

    class Silent(ApiModel):
        """Says nothing of its field."""

        value: int = 1

    class Holder(ApiModel):
        """Holds an object that needs more."""

        item: Item = Field(default_factory=lambda: Item(name="x"), description="An item.")

    with pytest.raises(UnsupportedSchema, match=r"Union\.value: .* no unions"):
        structural(Union)
    with pytest.raises(UnsupportedSchema, match=r"Silent\.value has no description"):
        structural(Silent)
    with pytest.raises(UnsupportedSchema, match=r"Holder\.item: its default"):
        structural(Holder)


def nodes(schema: dict[str, Any], where: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every schema inside a schema, with its place."""
    yield where, schema
    for name, child in schema.get("properties", {}).items():
        yield from nodes(child, f"{where}.{name}")
    if "items" in schema:
        yield from nodes(schema["items"], f"{where}[]")
    if isinstance(schema.get("additionalProperties"), dict):
        yield from nodes(schema["additionalProperties"], f"{where}{{}}")


@ALL_KINDS
def test_every_schema_is_structural(kind: Kind) -> None:
    refused = {"$ref", "$defs", "anyOf", "oneOf", "allOf", "not", "const", "title", "examples", "uniqueItems"}
    for where, node in nodes(root_schema(kind)):
        assert isinstance(node["type"], str), where
        assert not refused & node.keys(), where
        assert isinstance(node.get("exclusiveMinimum", True), bool), where
        assert not ("properties" in node and "additionalProperties" in node), where


@ALL_KINDS
def test_every_field_is_explained_in_full_sentences(kind: Kind) -> None:
    for where, node in nodes(root_schema(kind)):
        if where.endswith(("{}", "[]", ".metadata")) or not where:
            continue
        description = node["description"]
        assert description.rstrip().endswith((".", "…")), f"{where}: {description}"


@ALL_KINDS
def test_strings_lists_and_maps_of_a_spec_are_bounded_so_that_rules_are_affordable(kind: Kind) -> None:
    for where, node in nodes(structural(kind.spec)):
        if node["type"] == "string":
            assert "maxLength" in node or "enum" in node, where
        if node["type"] == "array":
            assert "maxItems" in node, where
        if "additionalProperties" in node:
            assert "maxProperties" in node, where


@ALL_KINDS
def test_columns_point_at_fields_of_status(kind: Kind) -> None:
    paths = {f".{where.lstrip('.')}" for where, _ in nodes(root_schema(kind))}
    for column in kind.columns:
        assert column.path in paths or column.path == ".metadata.creationTimestamp"


@ALL_KINDS
def test_immutable_fields_are_fields_of_the_spec(kind: Kind) -> None:
    wire_names = {field.alias for field in kind.spec.model_fields.values()}
    assert set(kind.spec.immutable_fields) <= wire_names
