"""Directories that are there as a whole or not at all.

Files are written into a staging directory beside the final one; then they are flushed, listed in manifest.json
with size and SHA-256, and the directory is renamed. A crash at any moment leaves the old state, or the new one, and
perhaps a staging directory that `sweep` removes. No manifest, no artifact.
"""

import hashlib
import os
import posixpath
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lmforge_api.artifact import MANIFEST_NAME, FileEntry, Manifest
from lmforge_workloads.common.store import Location

_STAGING = ".staging-"
_RETIRED = ".retired-"


@dataclass(frozen=True)
class Problem:
    """What is wrong with one file of an artifact."""

    path: str
    kind: Literal["missing", "damaged", "extra"]

    def __str__(self) -> str:
        return f"{self.path} is {self.kind}" if self.kind != "extra" else f"{self.path} is not in the manifest"


@contextmanager
def writing(
    destination: Path, *, kind: str, created_by: str, metadata: Mapping[str, str] | None = None
) -> Iterator[Path]:
    """Yield a staging directory; on success it becomes `destination`, on an error nothing is left."""
    shutil.rmtree(_beside(destination, _STAGING), ignore_errors=True)
    staged = stage(destination)
    try:
        yield staged
        commit(staged, destination, kind=kind, created_by=created_by, metadata=metadata)
    except BaseException:
        shutil.rmtree(staged, ignore_errors=True)
        raise


def stage(destination: Path) -> Path:
    """An empty staging directory for `destination`; every rank that calls this gets the same one."""
    staged = _beside(destination, _STAGING)
    staged.mkdir(parents=True, exist_ok=True)
    return staged


def commit(
    staged: Path,
    destination: Path,
    *,
    kind: str,
    created_by: str,
    metadata: Mapping[str, str] | None = None,
    known: Mapping[str, FileEntry] | None = None,
) -> Manifest:
    """Turn `staged` into `destination`, replacing what was there. Entries in `known` are not hashed again."""
    known = known or {}
    files = {path: known.get(path) or entry_of(staged / path) for path in _files(staged) if path != MANIFEST_NAME}
    manifest = Manifest(kind=kind, created_by=created_by, files=files, metadata=dict(metadata or {}))
    for path in files:
        flush(staged / path)
    (staged / MANIFEST_NAME).write_text(manifest.model_dump_json(by_alias=True, indent=1))
    flush(staged / MANIFEST_NAME)
    for folder in sorted({(staged / path).parent for path in files} | {staged}):
        flush(folder)
    _swap(staged, destination)
    return manifest


def read_manifest(directory: Path) -> Manifest | None:
    """The manifest, or None where there is none or it can't be parsed: then it is no artifact."""
    try:
        return Manifest.model_validate_json((directory / MANIFEST_NAME).read_bytes())
    except (OSError, ValueError):
        return None


def digest_of(place: Location) -> str:
    """Identity of a directory anywhere: what its manifest says, or what a manifest of its files would say."""
    listed = place.join(MANIFEST_NAME)
    if listed.exists():
        return Manifest.model_validate_json(listed.read()).digest
    files = {posixpath.relpath(file.path, place.path): _entry_at(file) for file in place.files()}
    return Manifest(kind="", created_by="", files=files).digest


def _entry_at(file: Location) -> FileEntry:
    with file.open() as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()  # type: ignore[arg-type]
        return FileEntry(size=content.tell(), sha256=digest)


def verify(directory: Path) -> list[Problem]:
    """Every file that is missing, damaged or extra; an empty list when all is well. Reads all of it."""
    manifest = read_manifest(directory)
    if manifest is None:
        return [Problem(MANIFEST_NAME, "damaged" if (directory / MANIFEST_NAME).exists() else "missing")]
    found = {path for path in _files(directory) if path != MANIFEST_NAME}
    problems = [Problem(path, "missing") for path in manifest.files.keys() - found]
    problems += [Problem(path, "extra") for path in found - manifest.files.keys()]
    problems += [
        Problem(path, "damaged")
        for path, entry in manifest.files.items()
        if path in found and not _matches(directory / path, entry)
    ]
    return sorted(problems, key=lambda problem: problem.path)


def sweep(parent: Path) -> list[Path]:
    """Remove what a crash left in `parent`: staging directories, and an old version that was being replaced.

    Only for a moment when nobody writes there.
    """
    left = [path for path in parent.glob(".*") if path.name.startswith((_STAGING, _RETIRED))]
    for path in left:
        destination = parent / path.name.removeprefix(_RETIRED)
        if path.name.startswith(_RETIRED) and not destination.exists():
            path.rename(destination)  # killed between the two renames: the old version is still the newest
        else:
            shutil.rmtree(path)
    return left


def entry_of(path: Path) -> FileEntry:
    """Size and SHA-256 of a file."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return FileEntry(size=file.tell(), sha256=digest)


def flush(path: Path) -> None:
    """Returns when a file, or a directory's list of files, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _matches(path: Path, entry: FileEntry) -> bool:
    return path.stat().st_size == entry.size and entry_of(path) == entry


def _files(directory: Path) -> Iterator[str]:
    for path in directory.rglob("*"):
        if not path.is_dir():
            yield path.relative_to(directory).as_posix()


def _swap(staged: Path, destination: Path) -> None:
    retired = _beside(destination, _RETIRED)
    if destination.exists():
        shutil.rmtree(retired, ignore_errors=True)
        destination.rename(retired)
    staged.rename(destination)
    flush(destination.parent)
    shutil.rmtree(retired, ignore_errors=True)


def _beside(destination: Path, prefix: str) -> Path:
    return destination.with_name(prefix + destination.name)
