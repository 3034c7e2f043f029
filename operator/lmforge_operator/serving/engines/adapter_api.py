"""How an engine takes adapters while it runs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Call:
    """A POST to the engine."""

    path: str
    body: Mapping[str, object]


@dataclass(frozen=True)
class AdapterApi:
    """What to ask of an engine. Calls are made one after the other, up to the first that fails. Functions are pure."""

    list_path: str
    loaded: Callable[[Mapping[str, object]], Mapping[str, str]]
    """From the answer to GET list_path: names of the adapters that it has, and the paths they came from."""
    load: Callable[[str, str], tuple[Call, ...]]
    """(name, path)"""
    replace: Callable[[str, str], tuple[Call, ...]]
    """The same for a name that it has already. The old weights go only when the new ones can be loaded."""
    unload: Callable[[str], tuple[Call, ...]]
    explain: Callable[[str], str]
    """What an engine's error means, and what to do."""
