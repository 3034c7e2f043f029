"""The names that requests may use as their model. Adapters come and go while the gateway runs: the operator tells."""

from collections.abc import Set

import orjson

from lmforge_api.gateway_run import DemandReply, GatewayRun


class Models:
    """The service's model, and its adapters as far as has been heard."""

    def __init__(self, run: GatewayRun) -> None:
        self._model = run.model
        self.names = (run.model, *run.adapters)

    def hear(self, reply: DemandReply) -> None:
        """What the operator answers to a report."""
        if reply.adapters is not None:
            self.names = (self._model, *reply.adapters)

    def is_adapter(self, body: bytes) -> bool:
        """Whether a request is for one of the adapters."""
        try:
            asked = orjson.loads(body)
        except ValueError:
            return False
        return isinstance(asked, dict) and asked.get("model") in self.names[1:]

    def for_key(self, allowed: Set[str]) -> list[str]:
        """Those that a key may use; an empty list of its own allows all."""
        return [name for name in self.names if not allowed or name in allowed]
