"""An artifact as an OCI artifact: each file a layer, as it is, with a manifest as CNCF ModelPack has it.

https://github.com/modelpack/model-spec. A layer's digest is its file's SHA-256, which manifest.json has already, so
nothing is read twice; the same artifact always makes the same OCI manifest. The tag is given last.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from lmforge_api.artifact import Manifest
from lmforge_workloads.common.exits import DataError
from lmforge_workloads.common.registry import MANIFEST_TYPE, Registry

_ARTIFACT = "application/vnd.cncf.model.manifest.v1+json"
_CONFIG = "application/vnd.cncf.model.config.v1+json"
_WEIGHTS = "application/vnd.cncf.model.weight.v1.raw"
_SETTINGS = "application/vnd.cncf.model.weight.config.v1.raw"
_STORY = "application/vnd.cncf.model.doc.v1.raw"
_PATH = "org.cncf.model.filepath"
_TITLE = "org.opencontainers.image.title"  # what other tools name files by
_OURS = "dev.lmforge"


def push(registry: Registry, directory: Path, artifact: Manifest) -> str:
    """Push a complete artifact; gives the digest of its OCI manifest. What the registry has isn't sent again."""
    config = _canonical(_config(registry.reference.repository, artifact))
    manifest = _canonical(_manifest(artifact, config, _lineage(directory)))
    for path, entry in sorted(artifact.files.items()):
        registry.push(directory / path, f"sha256:{entry.sha256}")
    registry.push(config, _digest(config))
    return registry.tag(manifest)


def pull(registry: Registry, into: Path) -> str:
    """Fetch all files, each checked against its digest; gives the digest of the OCI manifest."""
    content, digest = registry.manifest()
    for name, layer in _files(content, registry.reference.uri).items():
        (into / name).parent.mkdir(parents=True, exist_ok=True)
        registry.fetch(layer, into / name)
    return digest


def _files(content: bytes, uri: str) -> dict[str, str]:
    """Path of each file -> digest of its layer."""
    try:
        layers: Sequence[Mapping[str, Any]] = json.loads(content)["layers"]
        found = {_name_of(layer, uri): str(layer["digest"]) for layer in layers}
    except (ValueError, KeyError, TypeError) as error:
        raise DataError("its manifest has no layers: name a model's artifact, not an index", file=uri) from error
    if not found:
        raise DataError("its manifest has no layers", file=uri)
    return found


def _name_of(layer: Mapping[str, Any], uri: str) -> str:
    annotations = layer.get("annotations") or {}
    name = str(annotations.get(_PATH) or annotations.get(_TITLE) or "")
    if ".tar" in layer["mediaType"] or not name:
        raise DataError(f"layer {layer['digest']} is no single file ({layer['mediaType']}): push files as they are, as "
                        f"ModelPack's raw layers", file=uri)  # fmt: skip
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\0" in name or not path.parts:
        raise DataError(f"layer {layer['digest']} would be written outside the model's directory: {name!r}", file=uri)
    return path.as_posix()


def _manifest(artifact: Manifest, config: bytes, lineage: Mapping[str, str]) -> dict[str, object]:
    return {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "artifactType": _ARTIFACT,
        "config": {"mediaType": _CONFIG, "digest": _digest(config), "size": len(config)},
        "layers": [
            {
                "mediaType": _type_of(path),
                "digest": f"sha256:{entry.sha256}",
                "size": entry.size,
                "annotations": {_PATH: path, _TITLE: path},
            }
            for path, entry in sorted(artifact.files.items())
        ],
        "annotations": {
            f"{_OURS}/created-by": artifact.created_by,
            f"{_OURS}/artifact-digest": artifact.digest,
            **lineage,
        },
    }


def _config(repository: str, artifact: Manifest) -> dict[str, object]:
    architecture = artifact.metadata.get("architecture")
    return {
        "descriptor": {"name": repository.rsplit("/", 1)[-1]} | ({"family": architecture} if architecture else {}),
        "config": {"architecture": "transformer", "format": "safetensors"},
        "modelfs": {
            "type": "layers",
            "diffIds": [f"sha256:{each.sha256}" for _, each in sorted(artifact.files.items())],
        },
    }


def _lineage(directory: Path) -> dict[str, str]:
    """What it was made from, as its own story (training.json) says."""
    try:
        inputs: Sequence[Mapping[str, str]] = json.loads((directory / "training.json").read_bytes())["inputs"]
    except (OSError, ValueError, KeyError):
        return {}
    said = {each["name"]: " ".join(each[key] for key in ("uri", "digest") if each.get(key)) for each in inputs}
    return {f"{_OURS}/input.{name}": words for name, words in sorted(said.items()) if words}


def _type_of(path: str) -> str:
    name = PurePosixPath(path)
    if name.suffix in (".safetensors", ".gguf", ".onnx", ".data"):
        return _WEIGHTS
    story = name.suffix in (".md", ".html") or name.name in ("training.json", "metrics.jsonl") or len(name.parts) > 1
    return _STORY if story else _SETTINGS


def _canonical(content: Mapping[str, object]) -> bytes:
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
