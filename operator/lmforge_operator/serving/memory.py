"""What the operator remembers of services between two looks. Losing it costs a delay and nothing else."""

from dataclasses import dataclass, field
from datetime import datetime

from lmforge_operator.serving.adapters.book import AdapterBook
from lmforge_operator.serving.autoscaler import History
from lmforge_operator.serving.demand import DemandBook
from lmforge_operator.serving.load import LoadBook


@dataclass
class Memory:
    """By the service's UID."""

    loads: LoadBook = field(default_factory=LoadBook)
    demand: DemandBook = field(default_factory=DemandBook)
    adapters: AdapterBook = field(default_factory=AdapterBook)
    scaling: dict[str, History] = field(default_factory=dict)
    _shown: dict[str, datetime] = field(default_factory=dict)

    def due(self, uid: str, now: datetime, *, seconds: float) -> bool:
        """Whether measurements should be shown again: at most so often."""
        shown = self._shown.get(uid)
        if shown is not None and (now - shown).total_seconds() < seconds:
            return False
        self._shown[uid] = now
        return True

    def forget(self, uid: str) -> None:
        """The service is gone."""
        self.loads.forget(uid)
        self.demand.forget(uid)
        self.adapters.forget(uid)
        self.scaling.pop(uid, None)
        self._shown.pop(uid, None)
