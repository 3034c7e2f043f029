"""The manifest that makes a directory an artifact: every file with its size and SHA-256."""

import hashlib
import json

from pydantic import Field

from lmforge_api.base import ApiModel

MANIFEST_NAME = "manifest.json"


class FileEntry(ApiModel):
    """One file of an artifact."""

    size: int = Field(ge=0, description="Bytes.")
    sha256: str = Field(pattern="^[0-9a-f]{64}$", description="SHA-256 of the contents, hexadecimal.")


class Manifest(ApiModel):
    """Written last: a directory without one is not an artifact."""

    kind: str = Field(description="What it is: checkpoint, model, dataset…")
    created_by: str = Field(description="kind/namespace/name of the object, and the attempt.")
    files: dict[str, FileEntry] = Field(description="Path below the directory -> entry.")
    metadata: dict[str, str] = Field({}, description="More about it: step, architecture, lineage…")

    @property
    def digest(self) -> str:
        """Identity of the contents: SHA-256 over the canonical JSON of `files`."""
        files = {path: entry.model_dump() for path, entry in self.files.items()}
        canonical = json.dumps(files, sort_keys=True, separators=(",", ":")).encode()
        return "sha256:" + hashlib.sha256(canonical).hexdigest()

    @property
    def size_bytes(self) -> int:
        """Bytes of all files together."""
        return sum(entry.size for entry in self.files.values())
