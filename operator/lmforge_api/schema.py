"""From a pydantic model to a structural OpenAPI v3.0 schema, as `apiextensions.k8s.io/v1` wants it.

JSON Schema as pydantic writes it differs in what the API server refuses: `$ref` is inlined, `anyOf … null` collapses to
an optional field, exclusive bounds become flags, a constant an enumeration of one, and `additionalProperties: false` goes
(unknown fields are the API server's business). Nested objects whose fields all have defaults get these as their own
default, in full: the server checks a default against the rules before it fills in what is missing. Rules come from
`cel_rules` and `immutable_fields` of each model.
"""

import inspect
from typing import cast

from pydantic import BaseModel
from pydantic.config import JsonDict, JsonValue
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from lmforge_api.base import ApiModel, Rule

_KEPT = (
    "type", "description", "default", "enum", "pattern", "format", "minimum", "maximum", "minLength", "maxLength",
    "minItems", "maxItems", "maxProperties", "required",
)  # fmt: skip
_EXCLUSIVE = {"exclusiveMinimum": "minimum", "exclusiveMaximum": "maximum"}
_EXTENSION = "x-kubernetes-"
_RULES = "x-kubernetes-validations"
_CANT_CHANGE = "{field} can't change once the object exists: put it back, or create another object with the new {field}"


class UnsupportedSchema(ValueError):
    """A model uses something that a structural schema can't say."""


class _Generator(GenerateJsonSchema):
    """pydantic's own, with the rules of each model added to its schema."""

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        generated = super().model_schema(schema)
        model = schema["cls"]
        if not issubclass(model, ApiModel):
            return generated
        rules = [rule.wire() for rule in model.cel_rules]
        for name in model.immutable_fields:
            field = generated["properties"][name]
            if _is_optional(field):
                rules.append(immutable_optional(name).wire())
            else:
                field[_RULES] = [*field.get(_RULES, []), immutable(name).wire()]
        return generated | ({_RULES: rules} if rules else {})


def immutable(field: str) -> Rule:
    """Refuses to change a field that is always there. Stands at the field itself.

    (Not at its parent, for all fields: each access to a field of a wide object costs the API server a map of all of
    its fields, and rules are checked at every write of status.)
    """
    return Rule("self == oldSelf", _CANT_CHANGE.format(field=field))


def immutable_optional(field: str) -> Rule:
    """Refuses to set, change or unset a field that need not be there. Stands at its parent."""
    now, before = f"self.{field}", f"oldSelf.{field}"
    return Rule(
        cel=f"has({now}) == has({before}) && (!has({now}) || {now} == {before})",
        message=_CANT_CHANGE.format(field=field),
        path=f".{field}",
    )


def structural(model: type[BaseModel], *, defaults: bool = True) -> JsonDict:
    """The structural schema of a model. Without `defaults` (for status) nothing is filled in by the server."""
    schema = cast(JsonDict, model.model_json_schema(by_alias=True, schema_generator=_Generator))
    definitions = cast(dict[str, JsonDict], schema.pop("$defs", {}))
    return _Structural(definitions, defaults=defaults).convert(schema, where=model.__name__)


class _Structural:
    """Converts one schema with its definitions at hand."""

    def __init__(self, definitions: dict[str, JsonDict], *, defaults: bool) -> None:
        self._definitions = definitions
        self._defaults = defaults

    def convert(self, schema: JsonDict, *, where: str) -> JsonDict:
        schema = self._inline(schema, where=where)
        converted: JsonDict = {key: schema[key] for key in _KEPT if key in schema}
        if "const" in schema:  # a Literal of one word
            converted["enum"] = [schema["const"]]
        converted |= _bounds(schema)
        if "type" not in converted:
            raise UnsupportedSchema(f"{where}: a structural schema needs a type, this is {schema}")
        if isinstance(description := converted.get("description"), str):
            converted["description"] = inspect.cleandoc(description)
        if not self._defaults or converted.get("default", ...) is None:
            converted.pop("default", None)
        if converted["type"] == "integer":
            converted["format"] = "int64"
        extensions = {key: value for key, value in schema.items() if key.startswith(_EXTENSION)}
        return converted | self._children(schema, where=where) | extensions

    def _children(self, schema: JsonDict, *, where: str) -> JsonDict:
        children: JsonDict = {}
        if isinstance(properties := schema.get("properties"), dict):
            required = cast(list[str], schema.get("required", []))
            children["properties"] = {
                name: self._property(cast(JsonDict, value), required=name in required, where=f"{where}.{name}")
                for name, value in properties.items()
            }
        if isinstance(items := schema.get("items"), dict):
            children["items"] = self.convert(items, where=f"{where}[]")
        values = schema.get("additionalProperties")
        if isinstance(values, dict):
            children["additionalProperties"] = self.convert(values, where=f"{where}{{}}")
        return children

    def _property(self, schema: JsonDict, *, required: bool, where: str) -> JsonDict:
        converted = self.convert(schema, where=where)
        if self._defaults and not required and not _is_optional(schema) and "default" not in converted:
            if converted["type"] != "object" or "required" in converted:
                raise UnsupportedSchema(f"{where}: its default can't be written into a schema")
            converted["default"] = _defaults_of(converted)
        if not converted.get("description"):
            raise UnsupportedSchema(f"{where} has no description, and kubectl explain would say nothing")
        return converted

    def _inline(self, schema: JsonDict, *, where: str) -> JsonDict:
        """Replaces a reference and an optional by what they stand for; the field's own description wins."""
        while "$ref" in schema or "anyOf" in schema:
            rest = {key: value for key, value in schema.items() if key not in ("$ref", "anyOf")}
            target = self._target(schema, where=where)
            rules = [*cast(list[JsonValue], target.get(_RULES, [])), *cast(list[JsonValue], rest.get(_RULES, []))]
            schema = target | rest | ({_RULES: rules} if rules else {})
        return schema

    def _target(self, schema: JsonDict, *, where: str) -> JsonDict:
        if isinstance(reference := schema.get("$ref"), str):
            return self._definitions[reference.removeprefix("#/$defs/")]
        choices = [choice for choice in cast(list[JsonDict], schema["anyOf"]) if choice != {"type": "null"}]
        if len(choices) != 1:
            raise UnsupportedSchema(f"{where}: a structural schema has no unions, this is {schema}")
        return choices[0]


def _is_optional(field: JsonSchemaValue) -> bool:
    """Whether an object may lack the field even after defaults have been filled in."""
    return "default" in field and field["default"] is None


def _defaults_of(converted: JsonDict) -> JsonDict:
    """The object that a converted schema makes of `{}`."""
    properties = cast(dict[str, JsonDict], converted.get("properties", {}))
    return {name: schema["default"] for name, schema in properties.items() if "default" in schema}


def _bounds(schema: JsonDict) -> JsonDict:
    """Exclusive bounds as OpenAPI v3.0 says them: the bound, and a flag."""
    bounds: JsonDict = {}
    for exclusive, bound in _EXCLUSIVE.items():
        if exclusive in schema:
            bounds |= {bound: schema[exclusive], exclusive: True}
    return bounds
