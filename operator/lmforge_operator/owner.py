"""The object that children belong to, as they need to know it."""

from dataclasses import dataclass

from lmforge_operator import labels


@dataclass(frozen=True)
class Owner:
    """An object of ours."""

    api_version: str
    kind: str
    plural: str
    short: str
    namespace: str
    name: str
    uid: str

    @property
    def audience(self) -> str:
        """What a pod's token must have been made for, for it to report on this object."""
        return f"lmforge.dev/{self.plural}/{self.namespace}/{self.name}"

    @property
    def labels(self) -> dict[str, str]:
        """Labels of every child."""
        return {
            labels.MANAGED_BY: labels.MANAGED_BY_VALUE,
            labels.OWNER_UID: self.uid,
            labels.OWNER_KIND: self.kind,
            labels.OWNER_NAME: self.name[:63],
        }

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
