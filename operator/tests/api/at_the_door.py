"""What tests of several kinds ask of the API server, and of the rules in its schemas."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from apiserver import ApiServer, Reply
from specs import Refused


def assert_points_at_the_field(reply: Reply, row: Refused) -> None:
    """It was refused, with this sentence at this field."""
    assert not reply.ok
    causes = {(cause.get("field"), cause["message"]) for cause in reply.body["details"]["causes"]}
    assert any(field == f"spec.{row.field}" and row.sentence in message for field, message in causes), causes


@contextmanager
def made(server: ApiServer, path: str, manifest: dict[str, Any]) -> Iterator[str]:
    """The path of an object that is there for as long as the block runs."""
    reply = server.request("POST", path, manifest)
    assert reply.ok, reply.message
    own = f"{path}/{manifest['metadata']['name']}"
    yield own
    server.request("DELETE", own)


def change(server: ApiServer, path: str, spec: dict[str, Any]) -> Reply:
    """The answer to a change of these fields, which is not carried out."""
    return server.request("PATCH", f"{path}?dryRun=All", {"spec": spec}, content_type="merge-patch+json")


def messages(schema: dict[str, Any]) -> Iterator[str]:
    """The sentence of every rule in a schema, values replaced by %s."""
    for rule in schema.get("x-kubernetes-validations", []):
        expression = rule.get("messageExpression")
        found = re.match(r"'(.*)'\.format\(", expression) if expression else None
        text = found[1].replace("%%", "%").replace(r"\'", "'") if found else rule["message"]
        yield text
    for child in schema.get("properties", {}).values():
        yield from messages(child)
    if "items" in schema:
        yield from messages(schema["items"])
