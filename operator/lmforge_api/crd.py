"""Writes the CustomResourceDefinitions, one file a kind:

python -m lmforge_api.crd crds [another folder…]
"""

import sys
from pathlib import Path
from typing import Any

import yaml
from pydantic.config import JsonDict, JsonValue

from lmforge_api.base import GROUP, VERSION
from lmforge_api.kinds import KINDS, Column, Kind
from lmforge_api.schema import structural

HEADER = "# Generated from lmforge_api by `make generate`. Don't edit.\n"


class _Dumper(yaml.SafeDumper):
    """Writes equal parts out instead of pointing at the first."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def definition(kind: Kind) -> JsonDict:
    """The CustomResourceDefinition of a kind."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": kind.crd_name},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": kind.kind,
                "listKind": f"{kind.kind}List",
                "plural": kind.plural,
                "singular": kind.singular,
                "shortNames": list(kind.short_names),
                "categories": [kind.category],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [_column(column) for column in kind.columns],
                    "schema": {"openAPIV3Schema": root_schema(kind)},
                }
            ],
        },
    }


def root_schema(kind: Kind) -> JsonDict:
    """Schema of the whole object."""
    schema: JsonDict = {
        "type": "object",
        "description": kind.description,
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string", "description": f"Always {kind.api_version}."},
            "kind": {"type": "string", "description": f"Always {kind.kind}."},
            "metadata": {"type": "object"},
            "spec": structural(kind.spec),
            "status": structural(kind.status, defaults=False),
        },
    }
    rules: list[JsonValue] = [rule.wire() for rule in kind.rules]
    return schema | ({"x-kubernetes-validations": rules} if rules else {})


def _column(column: Column) -> JsonDict:
    return {
        "name": column.name,
        "type": column.type,
        "jsonPath": column.path,
        "description": column.description,
        "priority": 1 if column.wide else 0,
    }


def render(kind: Kind) -> str:
    """The file of a kind."""
    return HEADER + yaml.dump(definition(kind), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def file_name(kind: Kind) -> str:
    """As controller-gen calls them."""
    return f"{GROUP}_{kind.plural}.yaml"


def write(folder: Path) -> None:
    """Makes the folder hold the definitions of all kinds and no others."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {file_name(kind): render(kind) for kind in KINDS}
    for stale in set(folder.glob(f"{GROUP}_*.yaml")) - {folder / name for name in files}:
        stale.unlink()
    for name, text in files.items():
        (folder / name).write_text(text)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("name at least one folder: python -m lmforge_api.crd crds")
    for argument in sys.argv[1:]:
        write(Path(argument))
