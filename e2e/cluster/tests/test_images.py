"""Tags follow from contents, layers from those below them, and nothing else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from e2e.cluster import constraints, images, layers
from e2e.cluster.__main__ import choose
from e2e.cluster.errors import ClusterError, ToolMissing
from e2e.cluster.image_builder import ImageBuilder
from e2e.cluster.native import NativeCluster
from e2e.cluster.paths import Paths, default_paths

REGISTRY = "registry.test"


def digest(text: str) -> str:
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def test_the_same_contents_give_the_same_tag() -> None:
    assert images.OPERATOR.read(REGISTRY).reference == images.OPERATOR.read(REGISTRY).reference


def test_a_parent_with_other_contents_gives_another_tag() -> None:
    other_parent = replace(images.BASE, sources=())
    other = replace(images.OPERATOR, parent=other_parent)
    assert other.read(REGISTRY).reference != images.OPERATOR.read(REGISTRY).reference


def test_images_can_be_finished_before_anything_is_compiled(tmp_path: Path) -> None:
    cluster = NativeCluster(Paths(cache=tmp_path, state=tmp_path / "cluster"))
    assert [node.running() for node in cluster.nodes] == [False, False]


def test_a_context_holds_the_sources_and_no_time_of_its_own(tmp_path: Path) -> None:
    contents = images.OPERATOR.read(REGISTRY)
    contents.fill_context(tmp_path)
    files = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert files == set(contents.files)
    assert {path.stat().st_mtime for path in tmp_path.rglob("*")} == {images.FIXED_TIME}


def test_what_images_install_is_what_uv_lock_says() -> None:
    """When this fails: python -m e2e.cluster constraints"""
    expected = constraints.expected(default_paths())
    assert {file: file.read_text() for file in expected} == expected


class Workshop:
    """Engine and destination of builds: notes what it's asked to build upon what, and to send."""

    shares_layers = True

    def __init__(self) -> None:
        self.built: dict[str, str] = {}
        self.sent: list[str] = []

    def build(self, reference: str, *, dockerfile: Path, context: Path, arguments: Mapping[str, str]) -> None:
        assert dockerfile.exists()
        assert reference not in self.built
        self.built[reference] = arguments["BASE"]

    def has(self, reference: str) -> bool:
        return reference in self.built

    def python(self) -> str:
        return "debian"

    def holds(self, reference: str) -> bool:
        return reference in self.sent

    def publish(self, reference: str) -> None:
        self.sent.append(reference)


def test_what_images_share_is_built_once_and_sent_before_them(tmp_path: Path) -> None:
    (tmp_path / "uv").symlink_to(default_paths().cache / "uv")
    workshop = Workshop()
    runnable = ImageBuilder(paths(tmp_path), workshop, workshop, REGISTRY).build_all()
    shared = {image.read(REGISTRY).reference for image in images.SHARED}
    assert set(workshop.sent) == shared | set(runnable.values())
    assert len(workshop.sent) == len(set(workshop.sent))
    for reference in workshop.sent:
        base = workshop.built[reference]
        assert base not in shared or workshop.sent.index(base) < workshop.sent.index(reference)
    assert workshop.built[runnable["train"]] == workshop.built[runnable["finetune"]]


def storage_with(folder: Path) -> Path:
    """buildah's storage with an image of two layers, and an older one of the lower layer only."""
    chain = [
        {"id": "lower", "diff-digest": digest("lower")},
        {"id": "upper", "parent": "lower", "diff-digest": digest("upper")},
    ]
    built = [
        {"layer": "upper", "created": "2026-02-02T00:00:00Z", "names": [f"{REGISTRY}/train:new"]},
        {"layer": "lower", "created": "2026-01-01T00:00:00Z", "names": [f"{REGISTRY}/train:old"]},
        {"layer": "lower", "created": "2026-03-03T00:00:00Z"},
    ]
    for name, content in (("overlay-layers/layers.json", chain), ("overlay-images/images.json", built)):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text(json.dumps(content))
    return folder


def test_a_layers_chain_id_covers_those_below_it(tmp_path: Path) -> None:
    """As the OCI image specification says, under "Layer ChainID"."""
    lower, upper = layers.of_image(storage_with(tmp_path), f"{REGISTRY}/train:new")
    assert (lower.chain_id, lower.parent) == (digest("lower"), "")
    assert (upper.chain_id, upper.parent) == (digest(f"{digest('lower')} {digest('upper')}"), lower.chain_id)


def test_an_image_that_was_not_built_here_has_no_layers(tmp_path: Path) -> None:
    assert layers.of_image(storage_with(tmp_path), f"{REGISTRY}/train:unknown") == []


def test_the_newest_image_is_the_one_built_last(tmp_path: Path) -> None:
    storage = storage_with(tmp_path)
    assert layers.newest(storage, f"{REGISTRY}/train") == f"{REGISTRY}/train:new"
    assert layers.newest(storage, f"{REGISTRY}/operator") is None


def paths(folder: Path) -> Paths:
    return Paths(cache=folder, state=folder / "cluster")


def test_a_kind_of_cluster_that_does_not_exist_is_refused_with_those_that_do(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="native, kind or current"):
        choose("minikube", paths(tmp_path), nodes=2)


def test_an_image_that_does_not_exist_is_refused_with_those_that_do() -> None:
    assert images.on_request("llamacpp") is images.LLAMACPP
    with pytest.raises(ClusterError, match="no image 'triton'; on request there are llamacpp"):
        images.on_request("triton")


def test_a_missing_tool_is_named_with_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolMissing, match=r"needs docker\. Install it with: curl"):
        choose("kind", paths(tmp_path), nodes=2).up()


def test_the_current_cluster_needs_a_registry_for_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REGISTRY", raising=False)
    with pytest.raises(ClusterError, match="REGISTRY="):
        choose("current", paths(tmp_path), nodes=2).images()
