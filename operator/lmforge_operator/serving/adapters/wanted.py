"""Which adapters a service should have, where they are, and which claims its replicas need to see them. Pure."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from lmforge_api.inferenceservice import InferenceServiceSpec
from lmforge_api.inferenceservice_adapters import Adapter as AdapterSpec
from lmforge_api.inferenceservice_adapters import AdapterStatus
from lmforge_operator.inputs.references import Lookup, missing_claims, resolve_adapter
from lmforge_operator.inputs.uris import claims_of, in_pod
from lmforge_operator.settings import Store


@dataclass(frozen=True)
class Adapter:
    """One adapter: where it is, or what is waited for. With both, its former weights serve meanwhile."""

    name: str
    source: str = ""
    uri: str = ""
    digest: str = ""
    waiting_for: str = ""

    @property
    def path(self) -> str:
        """Its directory as replicas see it."""
        return in_pod(self.uri, store_claim="", store_mount="").removeprefix("file://")


def find_adapters(
    spec: InferenceServiceSpec, pinned: Iterable[AdapterStatus], lookup: Lookup, has_claim: Callable[[str], bool]
) -> tuple[Adapter, ...]:
    """The spec's adapters. What is pinned stays when the FineTune that made it is gone, or until another is done."""
    known = {each.name: each for each in pinned}
    return tuple(_find(each, known.get(each.name), lookup, has_claim) for each in spec.adapters)


def _find(
    adapter: AdapterSpec, pinned: AdapterStatus | None, lookup: Lookup, has_claim: Callable[[str], bool]
) -> Adapter:
    reference = adapter.from_
    source = f"{reference.kind.lower()}/{reference.name}" if reference else adapter.uri or ""
    found = resolve_adapter(reference, adapter.uri, lookup)
    waiting_for = found.waiting_for or _missing(found.uri, has_claim)
    if not waiting_for:
        return Adapter(adapter.name, source, found.uri, found.digest)
    told = f"waits for {waiting_for}"
    if pinned is None or not pinned.uri or _missing(pinned.uri, has_claim):
        return Adapter(adapter.name, source, waiting_for=told)
    return Adapter(adapter.name, pinned.source, pinned.uri, pinned.digest, "" if pinned.source == source else told)


def _missing(uri: str, has_claim: Callable[[str], bool]) -> str:
    return next(iter(missing_claims([uri], has_claim)), "")


def claims(
    spec: InferenceServiceSpec,
    adapters: Sequence[Adapter],
    has_claim: Callable[[str], bool],
    store: Store,
    *,
    model_uri: str,
) -> tuple[str, ...]:
    """Claims that replicas mount besides the model's, so that most adapters can be added later without new pods.

    The store, where FineTunes leave theirs, is mounted unasked only where any number of nodes may mount it.
    """
    if spec.lora is None:
        return ()
    named = claims_of([*(each.uri for each in adapters), *(each.uri or "" for each in spec.adapters)], store_claim="")
    wants_store = any(each.from_ for each in spec.adapters) or any(mode.endswith("Many") for mode in store.access_modes)
    wanted = {*named, *([store.claim_name] if wants_store else [])} - set(claims_of([model_uri], store_claim=""))
    return tuple(sorted(claim for claim in wanted if has_claim(claim)))
