"""The artifact of a run: where it is, whether it is there, what status says of it, and how it tells its own story.

artifact/training.json metrics.jsonl tensorboard/ report.html     how it was trained
artifact/manifest.json                                            sizes and SHA-256 of all of it
"""

import json
from collections.abc import Mapping
from pathlib import Path

from lmforge_api.artifact import Manifest
from lmforge_api.common import ArtifactStatus, ModelShape
from lmforge_api.run import FineTuneRun, TrainingRun
from lmforge_workloads.common import artifact, metrics
from lmforge_workloads.common.report import report

SHAPE = "shape"
"""Name of the model's sizes (JSON) in the manifest's metadata."""

AnyRun = TrainingRun | FineTuneRun


def directory_of(run: AnyRun, *, name: str = "artifact") -> Path:
    """Where it is or will be."""
    return Path(run.store.root) / name


def exported(run: AnyRun, *, name: str = "artifact") -> ArtifactStatus | None:
    """The artifact, if an earlier attempt has already written it."""
    manifest = artifact.read_manifest(directory_of(run, name=name))
    return None if manifest is None else status_of(run, manifest, name=name)


def status_of(run: AnyRun, manifest: Manifest, *, name: str = "artifact") -> ArtifactStatus:
    """What status says of it."""
    uri = f"{run.store.uri.rstrip('/')}/{name}" if run.store.uri else f"file://{directory_of(run, name=name)}"
    sizes = manifest.metadata.get(SHAPE)
    return ArtifactStatus(
        uri=uri,
        digest=manifest.digest,
        size_bytes=manifest.size_bytes,
        format=manifest.metadata["format"],
        shape=ModelShape.model_validate_json(sizes) if sizes else None,
    )


def write_story(run: AnyRun, staged: Path, *, facts: Mapping[str, str], inputs: list[dict[str, object]]) -> None:
    """How it was trained: its facts and spec, and everything that was measured."""
    history = metrics.history(Path(run.store.root))
    write_json(staged / "training.json", {"facts": dict(facts), "inputs": inputs, "spec": run.spec.wire()})
    metrics.write_history(history, staged)
    (staged / "report.html").write_text(report(f"{run.namespace}/{run.name}", facts=facts, records=history))


def write_json(path: Path, content: Mapping[str, object]) -> None:
    """A JSON file for people too."""
    path.write_text(json.dumps(content, indent=2) + "\n")
