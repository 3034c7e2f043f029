"""Writes the CustomResourceDefinitions, one file a kind, or checks that they are up to date:

python -m lmforge_api.crd [--check] crds [another folder…]
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import yaml
from pydantic.config import JsonDict, JsonValue

from lmforge_api.base import GROUP, VERSION
from lmforge_api.kinds import KINDS, Column, Kind, Scale
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
                    "subresources": {"status": {}} | _scale(kind.scale),
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


def _scale(scale: Scale | None) -> JsonDict:
    if scale is None:
        return {}
    paths: JsonDict = {
        "specReplicasPath": scale.wanted,
        "statusReplicasPath": scale.actual,
        "labelSelectorPath": scale.selector,
    }
    return {"scale": paths}


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


def files() -> dict[str, str]:
    """All files: name and text."""
    return {file_name(kind): render(kind) for kind in KINDS}


def committed(folder: Path) -> dict[str, str]:
    """The definitions that a folder holds."""
    return {path.name: path.read_text() for path in sorted(folder.glob(f"{GROUP}_*.yaml"))}


def write(folder: Path) -> None:
    """Makes the folder hold the definitions of all kinds and no others."""
    folder.mkdir(parents=True, exist_ok=True)
    for stale in committed(folder).keys() - files().keys():
        (folder / stale).unlink()
    for name, text in files().items():
        (folder / name).write_text(text)


def main(arguments: list[str]) -> int:
    """Writes, or says which folder is out of date."""
    parser = argparse.ArgumentParser(prog="python -m lmforge_api.crd", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail when something would change")
    parser.add_argument("folders", nargs="+", type=Path)
    options = parser.parse_args(arguments)
    if not options.check:
        for folder in options.folders:
            write(folder)
        return 0
    stale = [str(folder) for folder in options.folders if committed(folder) != files()]
    if stale:
        print(f"out of date: {', '.join(stale)}: run make generate", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
