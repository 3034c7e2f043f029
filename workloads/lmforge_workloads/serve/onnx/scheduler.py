"""One thread gives each running answer a step in turn; the others wait in line, first come first served.

onnxruntime-genai's generators each have a KV cache of their own, made for all the tokens that the request may take. So
a request begins when a slot is free and the cache's budget has room for it. (Its batching engine needs paged attention,
which is for CUDA: on CPU it would let requests wait for each other.)
"""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass

from lmforge_workloads.serve.errors import ApiError, Unavailable
from lmforge_workloads.serve.onnx import metrics
from lmforge_workloads.serve.onnx.generation import Ask, Generation, Piece

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Room:
    """How much there is."""

    slots: int = 16
    """Requests at a time."""
    cache_tokens: int = 2**20
    waiting: int = 256
    """Requests in line; more are refused."""


class Job:
    """A request on its way. Made and read in the event loop, filled by the thread."""

    def __init__(self, ask: Ask) -> None:
        self.ask = ask
        self.arrived = time.monotonic()
        self.generation: Generation | None = None
        self.tokens = 0
        self.cancelled = False
        self._loop = asyncio.get_running_loop()
        self._pieces: asyncio.Queue[Piece | ApiError] = asyncio.Queue()

    async def pieces(self) -> AsyncGenerator[Piece]:
        """The answer, to its end. Whoever stops reading before has it cancelled. Raises ApiError."""
        try:
            while True:
                piece = await self._pieces.get()
                if isinstance(piece, ApiError):
                    raise piece
                yield piece
                if piece.finish:
                    return
        finally:
            self.cancelled = True

    def tell(self, piece: Piece | ApiError) -> None:
        """From the thread."""
        self._loop.call_soon_threadsafe(self._pieces.put_nowait, piece)


class Scheduler:
    """The line and the thread. `begin` makes a generation of an ask; it is called in the thread."""

    def __init__(self, begin: Callable[[Ask], Generation], room: Room) -> None:
        self._begin = begin
        self._room = room
        self._waiting: deque[Job] = deque()
        self._running: list[Job] = []
        self._changed = threading.Condition()
        self._stop: ApiError | None = None
        self._thread = threading.Thread(target=self._run, name="generation", daemon=True)
        metrics.WAITING.set_function(lambda: len(self._waiting))
        metrics.RUNNING.set_function(lambda: len(self._running))
        metrics.KV_CACHE_USE.set_function(lambda: self.reserved / room.cache_tokens)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether answers can come at all."""
        return self._thread.is_alive()

    @property
    def busy(self) -> bool:
        return bool(self._waiting or self._running)

    @property
    def reserved(self) -> int:
        """Tokens of the KV cache that running requests may take."""
        return sum(job.ask.reserve for job in self._running)

    def submit(self, ask: Ask) -> Job:
        """Puts a request in line. Raises Unavailable when the line is full, or the end has come."""
        with self._changed:
            if self._stop is not None:
                raise self._stop
            if len(self._waiting) >= self._room.waiting:
                raise Unavailable(
                    f"{len(self._waiting)} requests wait already: ask again later", code="engine_overloaded"
                )
            job = Job(ask)
            self._waiting.append(job)
            self._changed.notify_all()
        return job

    def wait_idle(self, *, seconds: float) -> None:
        """Until nothing runs or waits, or it was stopped. For another thread than the event loop's."""
        with self._changed:
            self._changed.wait_for(lambda: not self.busy or self._stop is not None, timeout=seconds)

    def stop(self, why: ApiError) -> None:
        """Ends everything with this error, and the thread."""
        with self._changed:
            self._stop = self._stop or why
            self._changed.notify_all()

    def _run(self) -> None:
        while self._admit():
            for job in list(self._running):
                self._step(job)
        for job in [*self._running, *self._waiting]:
            self._end(job, "failed", self._stop)

    def _admit(self) -> bool:
        """Waits for work, lets in what there is room for. False: it's over."""
        with self._changed:
            self._changed.wait_for(lambda: self.busy or self._stop is not None)
            while self._stop is None and self._waiting and (self._waiting[0].cancelled or self._fits(self._waiting[0])):
                job = self._waiting.popleft()
                self._running.append(job)
            return self._stop is None

    def _fits(self, job: Job) -> bool:
        room = self._room
        return len(self._running) < room.slots and self.reserved + job.ask.reserve <= room.cache_tokens

    def _step(self, job: Job) -> None:
        if job.cancelled:
            self._end(job, "cancelled")
            return
        try:
            if job.generation is None:
                job.generation = self._begin(job.ask)
                metrics.PROMPT_TOKENS.inc(len(job.ask.prompt))
            piece = job.generation.step()
        except Exception as error:  # one request's failure is not the others'
            log.exception("a request failed")
            self._end(job, "failed", ApiError(f"The engine failed at this request ({type(error).__name__}: {error})"))
            return
        if piece is not None:
            self._count(job)
            job.tell(piece)
            if piece.finish:
                self._end(job, piece.finish)

    def _count(self, job: Job) -> None:
        metrics.TOKENS.inc()
        if job.tokens == 0:
            metrics.FIRST_TOKEN.observe(time.monotonic() - job.arrived)
        job.tokens += 1

    def _end(self, job: Job, reason: str, error: ApiError | None = None) -> None:
        metrics.FINISHED.labels(reason).inc()
        job.generation = None  # frees its KV cache
        with self._changed:
            if job in self._running:
                self._running.remove(job)
            self._changed.notify_all()
        if error is not None:
            job.tell(error)
