"""Names of a run's children: a function of the owner and the attempt, so that doing a thing twice does it once."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lmforge_api.kinds import KINDS
from lmforge_operator import owner


@dataclass(frozen=True)
class Owner(owner.Owner):
    """The object that a run belongs to."""

    @property
    def service(self) -> str:
        """The headless Service that gives ranks their DNS names."""
        return f"{self.name}-{self.short}"

    def job(self, attempt: int) -> str:
        """The attempt's Job, and its ConfigMap."""
        return f"{self.name}-{self.short}-{attempt}"

    def host(self, attempt: int, index: int = 0) -> str:
        """DNS name of one of the attempt's pods."""
        return f"{self.job(attempt)}-{index}.{self.service}.{self.namespace}.svc"

    @property
    def directory(self) -> str:
        """The run's own place in the store: not even a later object of the same name shares it."""
        return f"{self.kind.lower()}/{self.namespace}/{self.name}-{self.uid[:8]}"


def owner_of(manifest: Mapping[str, Any]) -> Owner:
    """The object as its children name it."""
    meta = manifest["metadata"]
    kind = next(kind for kind in KINDS if kind.kind == manifest["kind"])
    place = (meta["namespace"], meta["name"], meta["uid"])
    return Owner(kind.api_version, kind.kind, kind.plural, kind.short_names[0], *place)
