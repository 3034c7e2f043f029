"""Names of a service's children: a function of the service and the revision, so doing a thing twice does it once."""

import hashlib
import json
from dataclasses import dataclass

from lmforge_operator import owner
from lmforge_operator.labels import OWNER_UID, REVISION, ROLE, Role

PORT = 80
"""Of the Services."""


@dataclass(frozen=True)
class Owner(owner.Owner):
    """The service that children belong to. The Service that clients talk to has its name."""

    @property
    def router(self) -> str:
        """The router's Deployment and identity, and the Service that the gateway talks to."""
        return f"{self.name}-router"

    @property
    def gateway(self) -> str:
        """The gateway's Deployment and ConfigMap."""
        return f"{self.name}-gateway"

    def inspection(self, uri: str) -> str:
        """The Job that looks at a model's files."""
        return f"{self.name}-inspect-{digest(uri)}"

    @property
    def adapters(self) -> str:
        """The ConfigMap of its adapters."""
        return f"{self.name}-adapters"

    @property
    def url(self) -> str:
        """What OpenAI clients take as their base URL."""
        return f"http://{self.name}.{self.namespace}.svc/v1"

    def selector(self, role: str, revision: str = "") -> dict[str, str]:
        """Labels that all pods of a role have (and of a revision, if one is named), and no others."""
        return {OWNER_UID: self.uid, ROLE: role} | ({REVISION: revision} if revision else {})

    @property
    def engine_selector(self) -> str:
        """The same for the engines' pods, as text."""
        return ",".join(f"{name}={value}" for name, value in self.selector(Role.ENGINE).items())

    def revision(self, *inputs: object) -> str:
        """Name of the revision that these inputs make."""
        return f"{self.name}-{digest(*inputs)}"

    def revision_labels(self, revision: str) -> dict[str, str]:
        """Labels of a revision's pods."""
        return self.selector(Role.ENGINE, revision)


def router_of(revision: str) -> str:
    """The Deployment and Service of the router that is only for this revision."""
    return f"{revision}-router"


def digest(*parts: object) -> str:
    """A short identity of JSON values."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:8]
