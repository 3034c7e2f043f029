"""Which model an InferenceService serves, and whether it can be: an ordered chain of checks. Pure."""

from collections.abc import Callable
from dataclasses import dataclass

from lmforge_api.inferenceservice import InferenceServiceSpec, ServedModelStatus
from lmforge_api.inspection import Inspection
from lmforge_operator.inputs.references import Lookup, Resolved, missing_claims, resolve
from lmforge_operator.labels import Reason
from lmforge_operator.serving import inspection, node_cache
from lmforge_operator.serving.engines import ENGINES
from lmforge_operator.serving.inspection import Look
from lmforge_operator.serving.service import Model
from lmforge_operator.words import number_of, short_bytes

NOT_BEGUN = Look()


@dataclass(frozen=True)
class _Candidate:
    """What was found, before it is known to be of use."""

    spec: InferenceServiceSpec
    found: Resolved
    has_claim: Callable[[str], bool]
    look: Look
    former_problem: str
    """What was wrong with the same files when they were looked at before."""
    has_groups: bool
    """Whether replicas of several pods can be made."""
    has_node_cache: bool
    """Whether the administrator has named a folder of the nodes."""

    @property
    def problem(self) -> str:
        """What is wrong with the files, as far as is known."""
        return self.look.found.problem if self.look.found else self.former_problem

    @property
    def unseen(self) -> bool:
        """Whether a pod has to look at the files first."""
        return self.spec.model.from_ is None and inspection.needed(self.found.uri) and not self.found.format


def find_model(
    spec: InferenceServiceSpec,
    pinned: ServedModelStatus | None,
    lookup: Lookup,
    has_claim: Callable[[str], bool],
    look: Look = NOT_BEGUN,
    *,
    has_groups: bool = True,
    has_node_cache: bool = True,
) -> Model:
    """The model. One that is pinned stays when the object that made it is gone or has begun anew."""
    reference = spec.model.from_
    source = f"{reference.kind.lower()}/{reference.name}" if reference else spec.model.uri or ""
    same = pinned if pinned and pinned.source == source else None
    found = resolve(reference, inspection.place(spec), lookup)
    if same and same.uri and (found.waiting_for or (found.uri == same.uri and not found.format)):
        found = _as_pinned(same)
    if look.found and not look.found.problem and not found.format:
        found = _as_seen(found.uri, look.found)
    candidate = _Candidate(spec, found, has_claim, look, same.problem if same else "", has_groups, has_node_cache)
    problem = next((each for check in _CHECKS if (each := check(candidate))), None)
    if problem:
        return _unfit(source, candidate, *problem)
    return Model(source, found.uri, found.digest, found.format, found.size, found.shape, found.lineage)


def _as_pinned(pinned: ServedModelStatus) -> Resolved:
    return Resolved(
        uri=pinned.uri,
        digest=pinned.digest,
        size=pinned.size_bytes,
        format=pinned.format,
        shape=pinned.shape,
        lineage=tuple(pinned.lineage),
    )


def _as_seen(uri: str, seen: Inspection) -> Resolved:
    return Resolved(uri=uri, digest=seen.digest, size=seen.size_bytes, format=seen.format, shape=seen.shape)


def _unfit(source: str, candidate: _Candidate, reason: str, message: str) -> Model:
    looks = reason in (Reason.INSPECTING, Reason.UNREADABLE)
    return Model(
        source,
        waiting_for=message,
        reason=reason,
        problem=candidate.problem if reason == Reason.UNREADABLE else "",
        inspect=looks and not candidate.look.begun,
    )


def _groups(candidate: _Candidate) -> tuple[str, str] | None:
    nodes = candidate.spec.nodes
    if nodes == 1 or candidate.has_groups:
        return None
    return (
        Reason.NOT_INSTALLED,
        f"nodes is {nodes}, and replicas of several pods need LeaderWorkerSet, which is not known here: install it "
        "(lws.sigs.k8s.io), or write nodes: 1",
    )


def _node_cache(candidate: _Candidate) -> tuple[str, str] | None:
    if candidate.has_node_cache or not node_cache.wanted(candidate.spec):
        return None
    return (
        Reason.NODE_CACHE_OFF,
        "cache.nodeLocal keeps models in a folder of the nodes, and none is set: have the administrator set "
        "nodeCache.path in LMForge's chart (e.g. /var/lib/lmforge/models), or write cache.claim",
    )


def _unfinished(candidate: _Candidate) -> tuple[str, str] | None:
    waits = candidate.found.waiting_for
    return (Reason.INPUTS_NOT_READY, f"waits for {waits}") if waits else None


def _claim(candidate: _Candidate) -> tuple[str, str] | None:
    missing = missing_claims([candidate.found.uri], candidate.has_claim)
    return (Reason.INPUTS_NOT_READY, f"waits for {missing[0]}") if missing else None


def _inspection(candidate: _Candidate) -> tuple[str, str] | None:
    look = candidate.look
    if not candidate.unseen:
        return None
    if candidate.problem:
        return (Reason.UNREADABLE, f"the model can't be loaded: {candidate.problem}")
    uri, cache = candidate.spec.model.uri, candidate.spec.cache
    done = f"brought to claim {cache.claim}" if cache and cache.claim else "looked at"
    if look.holdup:
        return (Reason.INSPECTING, f"the files of {uri} can't be {done}: {look.holdup}")
    return (Reason.INSPECTING, f"the files of {uri} are being {done}")


def _format(candidate: _Candidate) -> tuple[str, str] | None:
    found, engine = candidate.found, ENGINES[candidate.spec.engine]
    if not found.format or found.format in engine.formats:
        return None
    other = next((each.name for each in ENGINES.values() if found.format in each.formats), "")
    remedy = f"write engine: {other}" if other else "serve a transformer (architecture llama or gpt2)"
    return (
        Reason.WRONG_FORMAT,
        f"engine {engine.name} loads {engine.loads}, and this model is in the format {found.format}: {remedy}",
    )


def _context(candidate: _Candidate) -> tuple[str, str] | None:
    longest, shape = candidate.spec.engine_args.max_model_len, candidate.found.shape
    if shape is None or longest is None or longest <= shape.context_length:
        return None
    return (
        Reason.WRONG_SHAPE,
        f"engineArgs.maxModelLen is {longest}, but the model's context is {shape.context_length} tokens: "
        f"write at most {shape.context_length}, or leave it out",
    )


def _split(candidate: _Candidate) -> tuple[str, str] | None:
    wanted, shape = candidate.spec.parallelism, candidate.found.shape
    if shape is None:
        return None
    if shape.heads % wanted.tensor:
        return (
            Reason.WRONG_SHAPE,
            f"parallelism.tensor is {wanted.tensor}, which doesn't divide the model's {shape.heads} heads: "
            "write a number that does",
        )
    if shape.layers < wanted.pipeline:
        return (
            Reason.WRONG_SHAPE,
            f"parallelism.pipeline is {wanted.pipeline}, but the model has {shape.layers} layers: write at most that",
        )
    return None


def _cache(candidate: _Candidate) -> tuple[str, str] | None:
    """The engine refuses to start when not even one request of full length fits into its cache."""
    spec, shape = candidate.spec, candidate.found.shape
    engine = ENGINES[spec.engine]
    if spec.resources.accelerator or shape is None or not engine.shares_cache:
        return None
    tokens = spec.engine_args.max_model_len or shape.context_length
    numbers = 2 * shape.layers * shape.kv_heads * shape.head_size  # a key and a value for each head of each layer
    needed = tokens * numbers * (engine.cache_number_bytes or (4 if spec.engine_args.dtype == "float32" else 2))
    needed = -(-needed // spec.nodes)
    cache = engine.cache_bytes(spec.engine_args)
    if needed <= cache:
        return None
    return (
        Reason.NOT_ENOUGH_MEMORY,
        f"one request of {tokens} tokens takes {short_bytes(needed)} of KV cache{_on_each(spec)}, which has "
        f"{short_bytes(cache)}: raise engineArgs.kvCache to {-(-needed // 2**30)}, or lower engineArgs.maxModelLen",
    )


def _memory(candidate: _Candidate) -> tuple[str, str] | None:
    """Weights and KV cache have to fit before anything else is counted, so too little is certain to fail."""
    spec = candidate.spec
    weights = -(-candidate.found.size // spec.nodes)
    if spec.resources.accelerator or not weights:
        return None
    cache = ENGINES[spec.engine].cache_bytes(spec.engine_args)
    if weights + cache < number_of(spec.resources.memory):
        return None
    return (
        Reason.NOT_ENOUGH_MEMORY,
        f"the model's files take {short_bytes(weights)}{_on_each(spec)} and the KV cache {short_bytes(cache)}, but "
        f"resources.memory is {spec.resources.memory}: raise it above their sum, or lower engineArgs.kvCache",
    )


def _on_each(spec: InferenceServiceSpec) -> str:
    return f" on each of {spec.nodes} nodes" if spec.nodes > 1 else ""


_CHECKS: tuple[Callable[[_Candidate], tuple[str, str] | None], ...] = (
    _groups,
    _node_cache,
    _unfinished,
    _claim,
    _inspection,
    _format,
    _context,
    _split,
    _cache,
    _memory,
)
