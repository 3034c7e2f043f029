"""Which adapters a service should have, where they are, and which claims its replicas need to see them. Pure."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from lmforge_api.inferenceservice import InferenceServiceSpec
from lmforge_api.inferenceservice_adapters import Adapter as AdapterSpec
from lmforge_api.inferenceservice_adapters import AdapterStatus
from lmforge_operator.inputs.references import Lookup, Resolved, missing_claims, resolve
from lmforge_operator.inputs.uris import claims_of, in_pod
from lmforge_operator.settings import Store


@dataclass(frozen=True)
class Adapter:
    """One adapter: where it is, or what is waited for."""

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
    """The spec's adapters. One that is pinned stays when the FineTune that made it is gone or has begun anew."""
    known = {each.name: each for each in pinned}
    return tuple(_find(each, known.get(each.name), lookup, has_claim) for each in spec.adapters)


def _find(
    adapter: AdapterSpec, pinned: AdapterStatus | None, lookup: Lookup, has_claim: Callable[[str], bool]
) -> Adapter:
    reference = adapter.from_
    source = f"{reference.kind.lower()}/{reference.name}" if reference else adapter.uri or ""
    found = resolve(reference, adapter.uri, lookup)
    if found.waiting_for and pinned and pinned.uri and pinned.source == source:
        found = Resolved(uri=pinned.uri, digest=pinned.digest)
    waiting_for = found.waiting_for or next(iter(missing_claims([found.uri], has_claim)), "")
    if waiting_for:
        return Adapter(adapter.name, source, waiting_for=f"waits for {waiting_for}")
    return Adapter(adapter.name, source, found.uri, found.digest)


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
