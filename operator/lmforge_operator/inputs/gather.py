"""All inputs of an object: where each is, what is still waited for, and what they were made from. Pure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from lmforge_api.common import Ancestor, InputStatus, ObjectRef
from lmforge_operator.inputs.circles import never, way_back
from lmforge_operator.inputs.named import Named
from lmforge_operator.inputs.references import Lookup, missing_claims, resolve
from lmforge_operator.labels import Reason


@dataclass(frozen=True)
class Input:
    """One input as the spec gives it: by `reference` or by `uri`."""

    name: str
    reference: ObjectRef | None = None
    uri: str | None = None


@dataclass(frozen=True)
class Inputs:
    """Whether what the run reads is there; `waiting_for` is the sentence for when it isn't."""

    waiting_for: str = ""
    reason: str = Reason.INPUTS_NOT_READY
    found: Mapping[str, InputStatus] = field(default_factory=dict)
    """By the name of each input that is there: where the spec says it comes from, and its URI."""
    lineage: tuple[Ancestor, ...] = ()
    """What they were made from."""

    @property
    def ready(self) -> bool:
        """Nothing is waited for."""
        return not self.waiting_for

    @property
    def uris(self) -> list[str]:
        """Where they are."""
        return [each.uri for each in self.found.values()]

    def uri(self, name: str) -> str | None:
        """Where this one is, if it is there."""
        return self.found[name].uri if name in self.found else None


NO_INPUTS = Inputs()


def gather(inputs: Sequence[Input], lookup: Lookup, has_claim: Callable[[str], bool], *, own: Named) -> Inputs:
    """Look each of them up for the object `own`. An input that the spec doesn't give is none."""
    waiting, found, lineage = list[str](), dict[str, InputStatus](), list[Ancestor]()
    reason = Reason.INPUTS_NOT_READY
    for each in inputs:
        resolved = resolve(each.reference, each.uri, lookup)
        if resolved.waiting_for and (way := _way_back(each, own, lookup)):
            waiting.append(never(way, own=own))
            reason = Reason.CIRCULAR_INPUTS
        elif resolved.waiting_for:
            waiting.append(resolved.waiting_for)
        if resolved.uri:
            source = f"{each.reference.kind}/{each.reference.name}" if each.reference else "spec"
            found[each.name] = InputStatus(name=each.name, source=source, uri=resolved.uri, digest=resolved.digest)
            lineage += resolved.lineage
    waiting += missing_claims([each.uri for each in found.values()], has_claim)
    return Inputs("; ".join(waiting), reason, found, tuple(dict.fromkeys(lineage)))


def _way_back(each: Input, own: Named, lookup: Lookup) -> tuple[Named, ...]:
    if each.reference is None:
        return ()
    return way_back((each.reference.kind, each.reference.name), to=own, lookup=lookup)
