"""Gives nodes the layers of locally built images without copying them.

A workload image holds gigabytes of torch. Pulled by each node it would be sent, unpacked and stored once a node, and
its files would be cached in memory once a node too. But the layers already lie unpacked in buildah's storage, and lower
layers are never written to: so each node's image store gets symbolic links to them, under the names that a pull would
give them (OCI image specification, "Layer ChainID"). The pull that follows finds them and fetches only the manifest.
Deleting a link never deletes what it points to.
It's a shortcut: without it, or when it fails, nodes pull from the registry as anywhere else.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e2e.cluster.errors import CommandFailed
from e2e.cluster.node import Node


@dataclass(frozen=True)
class Layer:
    """An unpacked layer; its chain id names it together with all layers below, its parent's names those."""

    chain_id: str
    parent: str
    files: Path


def of_image(storage: Path, reference: str) -> Sequence[Layer]:
    """The layers of an image in buildah's storage, the lowest first; none when the image isn't there."""
    top = next((image["layer"] for image in _images(storage) if reference in _names(image)), None)
    layers = {layer["id"]: layer for layer in json.loads((storage / "overlay-layers" / "layers.json").read_text())}
    chain: list[Layer] = []
    for layer in reversed(_ancestry(layers, top)):
        parent = chain[-1].chain_id if chain else ""
        chain.append(Layer(_chain_id(parent, layer["diff-digest"]), parent, storage / "overlay" / layer["id"] / "diff"))
    return chain


def newest(storage: Path, repository: str) -> str | None:
    """The reference of the image ``<registry>/<name>`` that was built last."""
    built = [
        (image["created"], name)
        for image in _images(storage)
        for name in _names(image)
        if name.startswith(f"{repository}:")
    ]
    return max(built)[1] if built else None


def link(node: Node, layers: Sequence[Layer]) -> None:
    """Makes ``layers`` part of the node's image store, where they aren't yet."""
    present = {line.split()[0] for line in node.ctr("snapshots", "list").splitlines()}
    for layer in layers:
        if layer.chain_id not in present:
            _link(node, layer)


def _link(node: Node, layer: Layer) -> None:
    key = f"linking-{layer.chain_id}"
    with suppress(CommandFailed):  # what an interrupted command has left
        node.ctr("snapshots", "remove", key)
    node.ctr("snapshots", "prepare", key, *([layer.parent] if layer.parent else []))
    mount = node.ctr("snapshots", "mounts", "/unused", key)
    folder = re.search(r"upperdir=([^,\s]+)", mount) or re.search(r"mount -t bind (\S+)", mount)
    assert folder, f"no folder in {mount!r}"
    Path(folder[1]).rmdir()
    Path(folder[1]).symlink_to(layer.files)
    node.ctr("snapshots", "commit", layer.chain_id, key)


def _images(storage: Path) -> Sequence[dict[str, Any]]:
    file = storage / "overlay-images" / "images.json"
    return list(json.loads(file.read_text())) if file.exists() else []


def _names(image: dict[str, Any]) -> Sequence[str]:
    return image.get("names") or ()


def _ancestry(layers: dict[str, dict[str, str]], top: str | None) -> Sequence[dict[str, str]]:
    """The layer ``top`` and all below it, the highest first."""
    found = []
    while top:
        found.append(layers[top])
        top = layers[top].get("parent")
    return found


def _chain_id(parent: str, diff_id: str) -> str:
    return "sha256:" + hashlib.sha256(f"{parent} {diff_id}".encode()).hexdigest() if parent else diff_id
