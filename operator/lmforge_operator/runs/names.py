"""Names of a run's children: a function of the owner and the attempt, so that doing a thing twice does it once."""

from dataclasses import dataclass

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
