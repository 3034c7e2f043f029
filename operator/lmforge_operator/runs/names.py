"""Names of a run's children: a function of the owner and the attempt, so that doing a thing twice does it once."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Owner:
    """The object that a run belongs to, as its children need it."""

    api_version: str
    kind: str
    plural: str
    short: str
    namespace: str
    name: str
    uid: str

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
    def audience(self) -> str:
        """What a pod's token must have been made for, for it to report on this object."""
        return f"lmforge.dev/{self.plural}/{self.namespace}/{self.name}"

    @property
    def directory(self) -> str:
        """The run's own place in the store: not even a later object of the same name shares it."""
        return f"{self.kind.lower()}/{self.namespace}/{self.name}-{self.uid[:8]}"

    @property
    def reference(self) -> dict[str, object]:
        """The ownerReference of its children."""
        return {
            "apiVersion": self.api_version,
            "kind": self.kind,
            "name": self.name,
            "uid": self.uid,
            "controller": True,
            "blockOwnerDeletion": False,
        }
