"""References between objects: what another object has made, or why it has nothing yet."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lmforge_api.common import ADAPTER_FORMAT, Ancestor, InputStatus, ModelShape, ObjectRef
from lmforge_operator.inputs.uris import claims_of

Artifact = Mapping[str, Any]
"""status.artifact, or another field of a status that is like it."""

Lookup = Callable[[str, str], dict[str, Any] | None]
"""(kind, name) of the same namespace -> the object, as far as it exists."""


@dataclass(frozen=True)
class Resolved:
    """Where the input is; or, when `uri` is empty, what is waited for.

    What another object has made has a digest, a size in bytes and a format too, and a shape if it is a transformer.
    """

    uri: str = ""
    waiting_for: str = ""
    digest: str = ""
    size: int = 0
    format: str = ""
    shape: ModelShape | None = None
    lineage: tuple[Ancestor, ...] = ()


def resolve(reference: ObjectRef | None, uri: str | None, lookup: Lookup) -> Resolved:
    """Where a whole model or a dataset given by `from` or by `uri` is."""
    if reference is None:
        return Resolved(uri=uri or "")
    return _made(reference, lookup, "artifact", unfit=_no_whole_model)


def resolve_adapter(reference: ObjectRef | None, uri: str | None, lookup: Lookup) -> Resolved:
    """Where an adapter given by `from` (a FineTune) or by `uri` is."""
    if reference is None:
        return Resolved(uri=uri or "")
    return _made(reference, lookup, "adapter", unfit=_no_adapter)


def _no_whole_model(artifact: Artifact) -> str:
    if artifact.get("format") != ADAPTER_FORMAT:
        return ""
    return (
        "it has left an adapter and no whole model: serve the model that it was trained on, with adapters[].from, or "
        "name a FineTune with output.merge: true"
    )


def _no_adapter(artifact: Artifact) -> str:
    if artifact:
        return ""
    return "it has trained a whole model and no adapter: name it in model.from, or a FineTune with method lora or qlora"


def _made(reference: ObjectRef, lookup: Lookup, field: str, *, unfit: Callable[[Artifact], str]) -> Resolved:
    """What the object has in this field of its status once it has succeeded; `unfit` says why that is of no use."""
    label = f"{reference.kind} {reference.name}"
    found = lookup(reference.kind, reference.name)
    if found is None:
        return Resolved(waiting_for=f"{label}: it does not exist in this namespace")
    status = found.get("status") or {}
    artifact = status.get(field) or {}
    if status.get("phase") == "Succeeded" and (why := unfit(artifact)):
        return Resolved(waiting_for=f"{label}: {why}")
    if status.get("phase") == "Succeeded" and artifact.get("uri"):
        return Resolved(
            uri=artifact["uri"],
            digest=artifact.get("digest", ""),
            size=int(artifact.get("sizeBytes") or 0),
            format=artifact.get("format", ""),
            shape=ModelShape.model_validate(artifact["shape"]) if artifact.get("shape") else None,
            lineage=tuple(_lineage(reference.kind, reference.name, lookup, seen=set())),
        )
    if status.get("phase") == "Failed":
        return Resolved(waiting_for=f"{label}: it failed ({status.get('message', 'see its status').rstrip('.')})")
    progress = (status.get("progress") or {}).get("percent") or ""
    at = f" at {progress}" if progress else ""
    return Resolved(waiting_for=f"{label}: it is {status.get('phase') or 'Pending'}{at}")


def _lineage(kind: str, name: str, lookup: Lookup, *, seen: set[str]) -> Iterator[Ancestor]:
    """The inputs that the object was made from, each followed by what it was made from in turn."""
    maker = f"{kind}/{name}"
    seen.add(maker)
    for each in ((lookup(kind, name) or {}).get("status") or {}).get("inputs") or ():
        pinned = InputStatus.model_validate(each)
        yield Ancestor(by=maker, name=pinned.name, uri=pinned.uri, digest=pinned.digest)
        made_by, _, its_name = pinned.source.partition("/")
        if its_name and pinned.source not in seen:
            yield from _lineage(made_by, its_name, lookup, seen=seen)


def missing_claims(uris: list[str], has_claim: Callable[[str], bool]) -> list[str]:
    """What is waited for when inputs are on claims that nobody has made."""
    return [
        f"PersistentVolumeClaim {claim}: it does not exist in this namespace (create it, or correct the uri)"
        for claim in claims_of(uris, store_claim="")
        if not has_claim(claim)
    ]
