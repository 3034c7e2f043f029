"""Which objects and claims a spec names. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

CLAIM = "PersistentVolumeClaim"

Named = tuple[str, str]
"""Kind and name of an object of the same namespace."""


def named(fields: Mapping[str, Any]) -> Iterator[Named]:
    """Every `from: {kind, name}` and every `pvc://claim/…`, at any depth."""
    for name, value in fields.items():
        if isinstance(value, dict):
            if name == "from" and "kind" in value and "name" in value:
                yield value["kind"], value["name"]
            yield from named(value)
        elif isinstance(value, list):
            for each in value:
                yield from named(each if isinstance(each, dict) else {})
        elif isinstance(value, str) and value.startswith("pvc://"):
            yield CLAIM, urlsplit(value).netloc
