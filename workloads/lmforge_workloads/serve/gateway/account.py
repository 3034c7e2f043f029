"""What is kept of a request: counters, and a line in the log where that is wanted. Never keys or text."""

import logging
import time

from lmforge_workloads.serve.gateway import metrics
from lmforge_workloads.serve.gateway.endpoints import Endpoint
from lmforge_workloads.serve.gateway.exchange import Exchange
from lmforge_workloads.serve.gateway.relay import Outcome

log = logging.getLogger(__name__)

CLIENT_GONE = 499  # as nginx logs it


class Record:
    """Of one request. `models` bounds what a label can be: some engines repeat whatever name a request has."""

    def __init__(self, endpoint: Endpoint, *, models: frozenset[str]) -> None:
        self.key_id = ""
        self.outcome = Outcome()
        self._endpoint = endpoint
        self._models = models

    def close(self, exchange: Exchange, *, access_log: bool) -> None:
        """Counts the request."""
        outcome, seconds = self.outcome, time.monotonic() - exchange.began
        model = self._model()
        metrics.REQUESTS.labels(self.key_id, model, self._endpoint.scope, str(exchange.status)).inc()
        metrics.DURATION.labels(self._endpoint.scope).observe(seconds)
        if outcome.usage is not None:
            metrics.PROMPT_TOKENS.labels(self.key_id, model).inc(outcome.usage.prompt)
            metrics.COMPLETION_TOKENS.labels(self.key_id, model).inc(outcome.usage.completion)
        elif outcome.is_answered:
            metrics.UNCOUNTED.labels(self.key_id, model).inc()
        if outcome.is_stream and exchange.first_byte is not None:
            metrics.FIRST_TOKEN.labels(model).observe(exchange.first_byte - exchange.began)
        if outcome.is_cut:
            metrics.CUT_STREAMS.labels(model).inc()
            log.warning("an answer was cut", extra=self._line(exchange, seconds))
        elif access_log:
            log.info("request", extra=self._line(exchange, seconds))

    def _model(self) -> str:
        name = self.outcome.model
        return "" if name is None else name if name in self._models else "other"

    def _line(self, exchange: Exchange, seconds: float) -> dict[str, object]:
        usage, first = self.outcome.usage, exchange.first_byte
        return {
            "key": self.key_id,
            "model": self._model(),
            "endpoint": self._endpoint.path,
            "status": exchange.status,
            "seconds": round(seconds, 4),
            "first_token_seconds": None if first is None else round(first - exchange.began, 4),
            "prompt_tokens": usage.prompt if usage else None,
            "completion_tokens": usage.completion if usage else None,
            "request_id": exchange.header(b"x-request-id"),
        }
