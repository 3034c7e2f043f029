"""Tells the operator about requests: at once when one has to wait, each second while there are any, else each ten.

The operator scales by it, from zero and back to it. A gateway that can't reach the operator goes on serving.
"""

import asyncio
import logging
import math
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp

from lmforge_api.gateway_run import DemandReply, DemandReport, DemandTarget

log = logging.getLogger(__name__)

_AT_LEAST = 0.1  # between two posts
_SILENCE = 60.0


class Demand:
    """Counts requests."""

    def __init__(self, *, pod: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.running = 0
        self.total = 0
        self._pod = pod
        self._clock = clock
        self._ended = clock()

    @contextmanager
    def counted(self) -> Iterator[None]:
        """While a request is here. Not for those that are refused: they must not keep a service from its sleep."""
        self.running += 1
        self.total += 1
        try:
            yield
        finally:
            self.running -= 1
            self._ended = self._clock()

    def report(self, *, waiting: int) -> DemandReport:
        """`waiting` of the requests that are here stand in line."""
        idle = 0.0 if self.running else self._clock() - self._ended
        return DemandReport(
            pod=self._pod,
            waiting=waiting,
            running=max(0, self.running - waiting),
            total=self.total,
            idle_seconds=round(idle, 3),
        )


class Reporter:
    """Posts what `report` gives; `on_reply` hears the answers."""

    def __init__(
        self, target: DemandTarget, *, report: Callable[[], DemandReport], on_reply: Callable[[DemandReply], None]
    ) -> None:
        self._target = target
        self._report = report
        self._on_reply = on_reply
        self._poked = asyncio.Event()
        self._complained = -_SILENCE
        self._tls: tuple[int, ssl.SSLContext] | None = None

    def poke(self) -> None:
        """A request has to wait: post at once."""
        self._poked.set()

    async def run(self) -> None:
        """Until cancelled."""
        posted, at, every = None, -math.inf, self._target.every_seconds
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
            while True:
                report = self._report()
                if self._poked.is_set() or _is_news(report, posted) or time.monotonic() - at >= 10 * every:
                    self._poked.clear()
                    posted, at = (report if await self._post(session, report) else None), time.monotonic()
                    await asyncio.sleep(_AT_LEAST)
                try:
                    async with asyncio.timeout(every):
                        await self._poked.wait()
                except TimeoutError:
                    pass

    async def _post(self, session: aiohttp.ClientSession, report: DemandReport) -> bool:
        try:
            async with session.post(
                self._target.url,
                data=report.model_dump_json(by_alias=True),
                headers=self._headers(),
                ssl=self._context(),
            ) as response:
                body = await response.read()
                response.raise_for_status()
                self._on_reply(DemandReply.model_validate_json(body or b"{}"))
                return True
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            self._complain(error)
            return False

    def _headers(self) -> dict[str, str]:
        token = Path(self._target.token_path).read_text().strip()  # read each time: the kubelet rotates it
        return {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

    def _context(self) -> ssl.SSLContext | bool:
        """Made anew when the authority's file changes; connections are kept as long as it stays the same."""
        if not self._target.url.startswith("https:"):
            return True
        changed = Path(self._target.ca_path).stat().st_mtime_ns
        if self._tls is None or self._tls[0] != changed:
            self._tls = changed, ssl.create_default_context(cafile=self._target.ca_path)
        return self._tls[1]

    def _complain(self, error: Exception) -> None:
        if time.monotonic() - self._complained >= _SILENCE:
            self._complained = time.monotonic()
            log.warning("demand can't be reported, serving goes on: %s: %s", type(error).__name__, error)


def _is_news(report: DemandReport, posted: DemandReport | None) -> bool:
    """Whether there is demand, or was since the last post."""
    return (
        posted is None
        or bool(report.waiting or report.running)
        or report.total != posted.total
        or (posted.running + posted.waiting > 0)
    )
