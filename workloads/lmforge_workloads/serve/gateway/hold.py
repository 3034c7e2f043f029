"""Whether a replica can answer, and a place to wait until one can.

It is taken to be so until a request finds out otherwise. Then requests wait in a line; while any does, the upstream is
asked ten times a second, and all go on in their order as soon as it answers.
"""

import asyncio
from collections.abc import Awaitable, Callable

from lmforge_api.gateway_run import Hold
from lmforge_workloads.serve.errors import Unavailable

_PROBE_SECONDS = 0.1


class Availability:
    """`probe` asks the upstream; `on_wait` is called when a request begins to wait."""

    def __init__(
        self, probe: Callable[[], Awaitable[bool]], *, hold: Hold, service: str, on_wait: Callable[[], None]
    ) -> None:
        self._probe = probe
        self._hold = hold
        self._service = service
        self._on_wait = on_wait
        self._ready = True
        self._line: dict[asyncio.Future[None], None] = {}
        self._prober: asyncio.Task[None] | None = None
        self._confirming: asyncio.Task[bool] | None = None

    @property
    def waiting(self) -> int:
        """Requests in the line."""
        return len(self._line)

    def lost(self) -> None:
        """The upstream doesn't answer: whoever comes now waits."""
        self._ready = False

    async def confirm(self) -> bool:
        """Asks the upstream now; several who want to know at a time share one answer."""
        if self._confirming is None or self._confirming.done():
            self._confirming = asyncio.create_task(self._ask())
        return await asyncio.shield(self._confirming)

    async def wait(self, *, until: float) -> None:
        """Returns as soon as a replica can answer; `until` is the loop's time at which it is given up."""
        if self._ready:
            return
        is_full = len(self._line) >= self._hold.max_requests
        if self._hold.seconds > 0 and not is_full:
            await self._stand_in_line(until)
        elif not await self.confirm():
            many = f", and {len(self._line)} requests wait for one already" if is_full else ""
            raise Unavailable(
                f"No replica of {self._service} is ready{many}: try again later",
                code="too_many_waiting" if is_full else None,
                headers=_retry_after(5),
            )

    async def _stand_in_line(self, until: float) -> None:
        place = asyncio.get_running_loop().create_future()
        self._line[place] = None
        self._on_wait()
        if self._prober is None or self._prober.done():
            self._prober = asyncio.create_task(self._probe_until_ready())
        try:
            async with asyncio.timeout_at(until):
                await place
        except TimeoutError:
            raise Unavailable(
                f"No replica of {self._service} became ready within {self._hold.seconds:.0f} s: its InferenceService's "
                "status says why; try again later",
                headers=_retry_after(10),
            ) from None
        finally:
            self._line.pop(place, None)

    async def _probe_until_ready(self) -> None:
        while self._line:
            if await self.confirm():
                return
            await asyncio.sleep(_PROBE_SECONDS)

    async def _ask(self) -> bool:
        try:
            self._ready = await self._probe()
        except Exception:  # whatever hinders the probe would hinder a request
            self._ready = False
        if self._ready:
            for place in self._line:
                if not place.done():
                    place.set_result(None)
        return self._ready

    async def close(self) -> None:
        """Stops asking."""
        for task in (self._prober, self._confirming):
            if task is not None:
                task.cancel()


def _retry_after(seconds: int) -> list[tuple[bytes, bytes]]:
    return [(b"retry-after", b"%d" % seconds)]
