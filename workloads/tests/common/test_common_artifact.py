import hashlib
import os
import threading
from pathlib import Path

import pytest

from lmforge_api.artifact import FileEntry
from lmforge_workloads.common import artifact
from lmforge_workloads.common.store import locate


def make(destination: Path, files: dict[str, bytes]) -> None:
    with artifact.writing(destination, kind="test", created_by="me", metadata={"step": "3"}) as staged:
        for name, content in files.items():
            (staged / name).parent.mkdir(parents=True, exist_ok=True)
            (staged / name).write_bytes(content)


FILES = {"config.json": b"{}", "shards/0.bin": b"\x00" * 1000, "empty": b""}


def test_a_written_directory_has_a_manifest_of_every_file(tmp_path: Path) -> None:
    make(tmp_path / "a", FILES)
    manifest = artifact.read_manifest(tmp_path / "a")
    assert manifest is not None
    assert manifest.metadata == {"step": "3"}
    assert {path: (entry.size, entry.sha256) for path, entry in manifest.files.items()} == {
        path: (len(content), hashlib.sha256(content).hexdigest()) for path, content in FILES.items()
    }
    assert artifact.verify(tmp_path / "a") == []


def test_a_directory_has_the_same_identity_with_and_without_its_manifest(tmp_path: Path) -> None:
    make(tmp_path / "a", FILES)
    manifest = artifact.read_manifest(tmp_path / "a")
    assert manifest is not None
    assert artifact.digest_of(locate(str(tmp_path / "a"))) == manifest.digest
    (tmp_path / "a/manifest.json").unlink()
    assert artifact.digest_of(locate(f"file://{tmp_path}/a")) == manifest.digest


def test_its_digest_depends_on_contents_and_not_on_time_or_place(tmp_path: Path) -> None:
    digests = set()
    for name in ("a", "b"):
        make(tmp_path / name, FILES)
        manifest = artifact.read_manifest(tmp_path / name)
        assert manifest is not None
        digests.add(manifest.digest)
    make(tmp_path / "c", FILES | {"empty": b"no more"})
    other = artifact.read_manifest(tmp_path / "c")
    assert other is not None
    assert len(digests) == 1
    assert other.digest not in digests


@pytest.mark.parametrize(
    ("harm", "expected"),
    [
        (lambda d: (d / "config.json").unlink(), ["config.json is missing"]),
        (lambda d: (d / "config.json").write_bytes(b"[]"), ["config.json is damaged"]),
        (lambda d: os.truncate(d / "shards/0.bin", 999), ["shards/0.bin is damaged"]),
        (lambda d: (d / "new").write_bytes(b""), ["new is not in the manifest"]),
        (lambda d: (d / "manifest.json").unlink(), ["manifest.json is missing"]),
        (lambda d: os.truncate(d / "manifest.json", 20), ["manifest.json is damaged"]),
    ],
)
def test_harm_is_found_and_named(tmp_path: Path, harm: object, expected: list[str]) -> None:
    make(tmp_path / "a", FILES)
    assert callable(harm)
    harm(tmp_path / "a")
    assert [str(problem) for problem in artifact.verify(tmp_path / "a")] == expected


def test_an_error_while_writing_leaves_the_former_version_and_nothing_else(tmp_path: Path) -> None:
    make(tmp_path / "a", FILES)
    with pytest.raises(IsADirectoryError), artifact.writing(tmp_path / "a", kind="test", created_by="me") as staged:
        staged.write_bytes(b"")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert artifact.verify(tmp_path / "a") == []


def test_writing_again_replaces_all_of_the_former_version(tmp_path: Path) -> None:
    make(tmp_path / "a", FILES)
    make(tmp_path / "a", {"only": b"1"})
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["manifest.json", "only"]


def test_what_a_killed_writer_left_is_not_an_artifact_and_is_swept(tmp_path: Path) -> None:
    (artifact.stage(tmp_path / "a") / "half").write_bytes(b"1")
    assert artifact.read_manifest(tmp_path / "a") is None
    assert len(artifact.sweep(tmp_path)) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_writer_killed_between_its_two_renames_gives_the_former_version_back(tmp_path: Path) -> None:
    make(tmp_path / "a", FILES)
    (tmp_path / "a").rename(tmp_path / ".retired-a")
    artifact.sweep(tmp_path)
    assert artifact.verify(tmp_path / "a") == []


def test_several_writers_share_a_staging_directory_and_hand_in_their_own_hashes(tmp_path: Path) -> None:
    known: dict[str, FileEntry] = {}

    def write(rank: int) -> None:
        path = artifact.stage(tmp_path / "a") / f"rank-{rank}"
        path.write_bytes(bytes([rank]) * 100)
        known[path.name] = artifact.entry_of(path)

    ranks = [threading.Thread(target=write, args=(rank,)) for rank in range(4)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join()
    artifact.commit(artifact.stage(tmp_path / "a"), tmp_path / "a", kind="test", created_by="me", known=known)
    assert artifact.verify(tmp_path / "a") == []
