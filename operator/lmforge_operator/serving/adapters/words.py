"""What status says of adapters. Pure."""

from collections.abc import Iterator, Mapping, Sequence

from lmforge_api.inferenceservice_adapters import AdapterStatus
from lmforge_operator.labels import Reason
from lmforge_operator.pods.holdups import Finding, one_line, sentence
from lmforge_operator.serving.adapters.replica import ReplicaAdapters, version_of
from lmforge_operator.serving.adapters.wanted import Adapter
from lmforge_operator.serving.observed import ReplicaSeen

_KEPT = " The former weights are kept."


def statuses(
    adapters: Sequence[Adapter],
    serving: Sequence[ReplicaSeen],
    replicas: Mapping[str, ReplicaAdapters],
) -> list[AdapterStatus]:
    """One for each adapter of the spec. `serving`: the replicas that take requests."""
    found = [replicas.get(pod.name, ReplicaAdapters()) for pod in serving]
    return [_status(each, found) for each in adapters]


def _status(adapter: Adapter, found: Sequence[ReplicaAdapters]) -> AdapterStatus:
    having = sum(replica.has(adapter) for replica in found)
    return AdapterStatus(
        name=adapter.name,
        source=adapter.source,
        uri=adapter.uri,
        digest=adapter.digest,
        loaded=f"{having}/{len(found)}",
        message=_message(adapter, found),
    )


def _message(adapter: Adapter, found: Sequence[ReplicaAdapters]) -> str:
    if adapter.waiting_for:
        return sentence(adapter.waiting_for) + (_KEPT if adapter.uri else "")
    refused = [failure for replica in found if (failure := _failure(adapter, replica))]
    if not refused:
        return ""
    share = "" if len(refused) == len(found) else f" ({len(refused)} of {len(found)} replicas)"
    kept = any(adapter.name in replica.loaded and not replica.has(adapter) for replica in found)
    return sentence(f"can't be loaded{share}: {one_line(refused[0])}") + (_KEPT if kept else "")


def _failure(adapter: Adapter, replica: ReplicaAdapters) -> str:
    failure = replica.failures.get(adapter.name)
    return failure.message if failure and failure.version == version_of(adapter) else ""


def first_problem(adapters: Sequence[AdapterStatus]) -> Finding | None:
    """Why not all adapters are where they should be; None when they are."""
    return next(_problems(adapters), None)


def _problems(adapters: Sequence[AdapterStatus]) -> Iterator[Finding]:
    for each in adapters:
        if each.message:
            yield Finding(Reason.ADAPTER_FAILED, f"adapter {each.name}: {each.message}")
    for each in adapters:
        having, _, of = each.loaded.partition("/")
        if having != of and not each.message:
            yield Finding(Reason.LOADING, f"adapter {each.name} is on {having} of {of} replicas", stuck=False)


def settled(adapters: Sequence[AdapterStatus]) -> bool:
    """Whether nothing is under way: each is waited for, loaded everywhere, or refused."""
    return not any(finding for finding in _problems(adapters) if not finding.stuck)
