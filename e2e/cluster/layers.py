"""Gives nodes the layers of locally built images without copying them.

A workload image holds gigabytes of torch. Pulled by each node it would be sent, unpacked and stored once a node, and
its files would be cached in memory once a node too. But the layers already lie unpacked in buildah's storage, and lower
layers are never written to: so they are hard-linked into each node's image store under the names that a pull would give
them (OCI image specification, "Layer ChainID"). The pull that follows finds them there and fetches only the manifest.
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

from e2e.cluster.errors import CommandFailed
from e2e.cluster.node import Node
from e2e.cluster.shell import run

# buildah mounts its folder onto itself, and no link crosses a mount: so that one is taken away, out of others' sight.
LINK = 'umount --lazy "$0"; exec cp --archive --link "$1" "$2"'


@dataclass(frozen=True)
class Layer:
    """An unpacked layer; its chain id names it together with all layers below, its parent's names those."""

    chain_id: str
    parent: str
    files: Path


def of_image(storage: Path, reference: str) -> Sequence[Layer]:
    """The layers of an image in buildah's storage, the lowest first; none when the image isn't there."""
    images = json.loads((storage / "overlay-images" / "images.json").read_text())
    layers = {layer["id"]: layer for layer in json.loads((storage / "overlay-layers" / "layers.json").read_text())}
    top = next((image["layer"] for image in images if reference in (image.get("names") or ())), None)
    chain: list[Layer] = []
    for layer in reversed(_ancestry(layers, top)):
        parent = chain[-1].chain_id if chain else ""
        chain.append(Layer(_chain_id(parent, layer["diff-digest"]), parent, storage / "overlay" / layer["id"] / "diff"))
    return chain


def link(node: Node, layers: Sequence[Layer]) -> None:
    """Makes ``layers`` part of the node's image store, where they aren't yet."""
    for layer in layers:
        try:
            node.ctr("snapshots", "info", layer.chain_id)
        except CommandFailed:
            _link(node, layer)


def _link(node: Node, layer: Layer) -> None:
    key = f"linking-{layer.chain_id}"
    with suppress(CommandFailed):  # what an interrupted command has left
        node.ctr("snapshots", "remove", key)
    node.ctr("snapshots", "prepare", key, *([layer.parent] if layer.parent else []))
    mount = node.ctr("snapshots", "mounts", "/unused", key)
    folder = re.search(r"upperdir=([^,\s]+)", mount) or re.search(r"mount -t bind (\S+)", mount)
    assert folder, f"no folder in {mount!r}"
    run("unshare", "--mount", "sh", "-c", LINK, *(layer.files.parents[1], f"{layer.files}/.", folder[1]))
    node.ctr("snapshots", "commit", layer.chain_id, key)


def _ancestry(layers: dict[str, dict[str, str]], top: str | None) -> Sequence[dict[str, str]]:
    """The layer ``top`` and all below it, the highest first."""
    found = []
    while top:
        found.append(layers[top])
        top = layers[top].get("parent")
    return found


def _chain_id(parent: str, diff_id: str) -> str:
    return "sha256:" + hashlib.sha256(f"{parent} {diff_id}".encode()).hexdigest() if parent else diff_id
