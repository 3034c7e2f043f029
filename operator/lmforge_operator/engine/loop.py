"""The loop: takes a key, reconciles its object, and decides from what came of it when to look again.

a number of seconds, or None
    Again after these, or when something changes.
UserError
    Condition and Event; again when something changes.
Invalid, Forbidden
    The same, and again slowly, since what the API server refused may depend on what nobody watches.
any other ApiError
    Backoff with jitter, at least as long as the server asks for.
a bug
    Traceback in the log, condition and Event, backoff. Other objects don't notice.
"""

import asyncio
import logging
from collections.abc import Mapping
from functools import partial
from time import perf_counter

from lmforge_operator import metrics
from lmforge_operator.engine.context import Context, Reconcile
from lmforge_operator.engine.queue import WorkQueue
from lmforge_operator.engine.trouble import Trouble
from lmforge_operator.errors import ApiError, Forbidden, Invalid, LeadershipLost, Transient, UserError
from lmforge_operator.kube.resources import Key
from lmforge_operator.manifests import Manifest

__all__ = ["Context", "Loop", "Reconcile"]

log = logging.getLogger(__name__)

REFUSED_RETRY_SECONDS = 60.0
"""Quotas, RBAC and admission webhooks change without a word to us."""


class Loop:
    """Reconciles whatever the queue gives, so many at a time."""

    def __init__(self, queue: WorkQueue[Key], context: Context, kinds: Mapping[str, Reconcile]) -> None:
        self._queue = queue
        self._context = context
        self._kinds = kinds
        self._trouble = Trouble(context)
        self.beat = 0.0
        """When it last took or finished something (the event loop's clock)."""

    async def run(self) -> None:
        """Works until cancelled; what is being worked on is cancelled with it."""
        slots = asyncio.Semaphore(self._context.settings.queue.workers)
        async with asyncio.TaskGroup() as tasks:
            while True:
                await slots.acquire()
                key = await self._queue.take()
                self.beat = asyncio.get_running_loop().time()
                # A callback and not a `finally`: a task that is cancelled before it starts runs none of its own code.
                tasks.create_task(self._work(key)).add_done_callback(partial(self._finished, key, slots))

    def _finished(self, key: Key, slots: asyncio.Semaphore, task: asyncio.Task[None]) -> None:
        self._queue.done(key, forget=self._context.objects.get(key) is None)
        slots.release()
        self.beat = asyncio.get_running_loop().time()

    async def _work(self, key: Key) -> None:
        try:
            manifest = self._context.objects.get(key)
            if manifest is not None:
                await self._attempt(key, manifest)
        except Exception:
            log.exception("a failure could not be handled", extra={"key": key})
            self._queue.retry(key)

    async def _attempt(self, key: Key, manifest: Manifest) -> None:
        started = perf_counter()
        result = "error"
        try:
            async with asyncio.timeout(self._context.settings.queue.reconcile_timeout_seconds):
                again = await self._kinds[key.kind](self._context, manifest)
                await self._trouble.clear(key, manifest)
            result = "success"
            self._queue.succeeded(key)
            if again is not None:
                self._queue.add(key, after=again)
        except Exception as error:
            await self._failed(key, manifest, error)
        finally:
            metrics.RECONCILES.labels(key.kind, result).inc()
            metrics.RECONCILE_SECONDS.labels(key.kind).observe(perf_counter() - started)

    async def _failed(self, key: Key, manifest: Manifest, error: Exception) -> None:
        metrics.ERRORS.labels(key.kind, type(error).__name__).inc()
        match error:
            case LeadershipLost():
                # Either all work is cancelled next, or the lease is renewed late and this replica goes on.
                self._queue.retry(key)
            case UserError():
                log.info("%s", error, extra={"key": key})
                await self._trouble.report(key, manifest, reason=error.reason, message=str(error))
            case Invalid() | Forbidden():
                self._retry(key, error, at_least=REFUSED_RETRY_SECONDS)
                await self._trouble.report(key, manifest, reason="Refused", message=f"The API server refused: {error}")
            case ApiError():
                self._retry(key, error, at_least=error.retry_after or 0.0)
            case TimeoutError():
                self._retry(key, Transient("the reconcile took too long"))
            case _:
                log.exception("reconcile failed by a bug", exc_info=error, extra={"key": key})
                self._queue.retry(key)
                message = f"The operator failed on this object and will try again: {type(error).__name__}: {error}"
                await self._trouble.report(key, manifest, reason="OperatorBug", message=message)

    def _retry(self, key: Key, error: ApiError, *, at_least: float = 0.0) -> None:
        delay = self._queue.retry(key, at_least=at_least)
        log.warning("%s; again in %.1f s", error, delay, extra={"key": key})
