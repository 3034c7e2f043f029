"""Objects that wait for each other in a circle: none of them can ever start. Pure."""

from collections import deque
from collections.abc import Iterator

from lmforge_api.base import listed
from lmforge_operator.inputs.named import Named, named
from lmforge_operator.inputs.references import Lookup

_WAITING = ("Pending", "Suspended")


def way_back(start: Named, *, to: Named, lookup: Lookup) -> tuple[Named, ...]:
    """The shortest way from `start` over what it waits for up to `to`, which is left out; () where there is none."""
    ways, seen = deque[tuple[Named, ...]]([(start,)]), {start}
    while ways:
        way = ways.popleft()
        for each in _waited_for(way[-1], lookup):
            if each == to:
                return way
            if each not in seen:
                seen.add(each)
                ways.append((*way, each))
    return ()


def never(way: tuple[Named, ...], *, own: Named) -> str:
    """That what is waited for waits for this object, and what to do."""
    first, *others = (" ".join(each) for each in way)
    through = "".join(f"{each}, which waits for " for each in others)
    names = listed([name for _, name in (own, *way)])
    return (
        f"{first}: it waits for {through}{' '.join(own)} in turn, so that {names} can never start: "
        "delete one of them, and create it anew from something else"
    )


def _waited_for(each: Named, lookup: Lookup) -> Iterator[Named]:
    """Who is at work or at its end waits for nothing any more."""
    manifest = lookup(*each) or {}
    status = manifest.get("status") or {}
    attempts = status.get("attempts") or []
    under_way = bool(attempts) and attempts[-1].get("outcome") == "Running"
    waits = status.get("phase", "Pending") in _WAITING and not under_way
    return named(manifest.get("spec") or {}) if waits else iter(())
