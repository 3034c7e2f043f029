"""The adapters that a replica loads before it takes requests: a ConfigMap, mounted by replicas. Pure."""

import json
from collections.abc import Sequence
from pathlib import PurePosixPath

from lmforge_operator.labels import TEMPLATE_HASH
from lmforge_operator.manifests import Manifest
from lmforge_operator.serving.adapters.wanted import Adapter
from lmforge_operator.serving.engines.engine import ADAPTERS_PATH
from lmforge_operator.serving.names import Owner, digest

_PATH = PurePosixPath(ADAPTERS_PATH)


def config(owner: Owner, adapters: Sequence[Adapter]) -> Manifest:
    """The ConfigMap. One that has no place yet isn't in it."""
    paths = {each.name: each.path for each in adapters if each.uri}
    data = {_PATH.name: json.dumps(paths)}
    meta = {
        "name": owner.adapters,
        "namespace": owner.namespace,
        "labels": {**owner.labels, TEMPLATE_HASH: digest(data)},
        "ownerReferences": [owner.reference],
    }
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data}


def mount() -> Manifest:
    """Where replicas see it."""
    return {"name": "adapters", "mountPath": str(_PATH.parent), "readOnly": True}


def volume(owner: Owner) -> Manifest:
    """Optional: a replica starts without it too, and is brought its adapters afterwards."""
    return {"name": "adapters", "configMap": {"name": owner.adapters, "optional": True}}
