"""How one revision takes over from another: how many replicas each should have now.

Computed from what is observed alone, so it can be asked at any moment and after any interruption. With N replicas that
the load needs and a surge of S:

1. The update starts with S replicas beside the N of the revision that serves, until the first of them is ready.
2. Then each ready replica of the update lets one of the old ones go (which drains), and at most N + S are wanted at a
   time, until the update has all N.
3. The update then is the current revision, and old ones are deleted once their last pod has drained.

So N replicas that were ever ready stay wanted throughout. A revision that never was current and isn't the update any
more gives way at once, as far as its pods aren't ready. A failed update gets none: the current revision has all.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from lmforge_operator.serving.observed import RevisionSeen


@dataclass(frozen=True)
class Plan:
    """Replicas by revision (the update's Deployment may have to be made), who serves, and whose Deployment can go."""

    replicas: Mapping[str, int] = field(default_factory=dict)
    current: str = ""
    retire: tuple[str, ...] = ()


def plan(
    revisions: Mapping[str, RevisionSeen], *, update: str, current: str, wanted: int, surge: int, failed: bool
) -> Plan:
    """The next step. `update` is empty while the inputs of the spec aren't known; `current` while none ever served."""
    serving = current if current in revisions else _most_ready(revisions, update)
    if not update or (failed and serving):
        return _only(revisions, serving or update, wanted)
    if serving in ("", update):
        return _only(revisions, update, wanted)
    if _taken_over(revisions, update, wanted):
        return _only(revisions, update, wanted, retire=True)
    return _shift(revisions, update=update, current=serving, wanted=wanted, surge=surge)


def _only(revisions: Mapping[str, RevisionSeen], chosen: str, wanted: int, *, retire: bool = True) -> Plan:
    replicas = dict.fromkeys(revisions, 0) | ({chosen: wanted} if chosen else {})
    gone = tuple(name for name, revision in revisions.items() if name != chosen and revision.gone)
    return Plan(replicas, chosen, gone if retire else ())


def _shift(revisions: Mapping[str, RevisionSeen], *, update: str, current: str, wanted: int, surge: int) -> Plan:
    seen = revisions.get(update)
    ready = seen.ready if seen else 0
    old = _kept(revisions, update=update, current=current, wanted=wanted, ready=ready)
    unproven = not ready and old[current]
    room = surge if unproven else wanted + surge - sum(old.values())
    new = min(wanted, max(room, seen.replicas if seen else 0))
    return Plan({**old, update: new}, current)


def _kept(
    revisions: Mapping[str, RevisionSeen], *, update: str, current: str, wanted: int, ready: int
) -> dict[str, int]:
    """What old revisions keep: with the update's ready replicas as many as are wanted, the current one first."""
    serving = revisions[current]
    asleep = serving.replicas == 0 and not serving.ready
    need = max(0, wanted - ready)
    kept = {}
    for name in sorted(revisions.keys() - {update}, key=lambda name: (name != current, name)):
        if name != current:
            keep = min(revisions[name].ready, revisions[name].replicas, need)
        elif asleep:
            keep = 0
        else:
            keep = min(need, serving.replicas) if ready else need
        kept[name] = keep
        need -= keep
    return kept


def _taken_over(revisions: Mapping[str, RevisionSeen], update: str, wanted: int) -> bool:
    seen = revisions.get(update)
    return seen is not None and seen.ready >= max(1, wanted)


def _most_ready(revisions: Mapping[str, RevisionSeen], update: str) -> str:
    """Who serves, as far as can be seen, where status doesn't say."""
    ready = [revision for revision in revisions.values() if revision.ready and revision.name != update]
    return max(ready, key=lambda revision: (revision.ready, revision.created_at)).name if ready else ""
