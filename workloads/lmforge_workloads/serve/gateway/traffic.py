"""Which revision answers a request: a canary gets its share, and what clients get from each is counted.

The operator tells the shares in its answers to demand reports. A conversation (a session, or X-User-Id) moves to the
canary once at most, since shares only grow: its place in the order of who moves first is a hash. Other requests are
dealt by a sequence without chance (the golden ratio's multiples, which spread evenly however few there are). API keys
are no conversations: where there are few of them, one of them would be more than a canary's share.

A canary's failure before an answer's first byte is no client's: the request goes to the current revision. 5xx and
silence are counted. A router that is gone, and one with no replica ready, say nothing of the revision: that isn't
counted, they aren't asked for a second, and why there is no replica is the operator's business.
"""

import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import aiohttp

from lmforge_api.gateway_run import RevisionCounts, Route
from lmforge_api.gateway_run import Traffic as Told
from lmforge_workloads.serve.errors import ApiError
from lmforge_workloads.serve.gateway.exchange import Exchange
from lmforge_workloads.serve.gateway.relay import Outcome
from lmforge_workloads.serve.gateway.upstream import RequestHeaders, Sent, Upstream

_GOLDEN = 0.6180339887498949
_PASSED_OVER_SECONDS = 1.0


@dataclass
class Tally:
    """What clients got from a revision."""

    revision: str
    requests: int = 0
    errors: int = 0
    first_tokens: int = 0
    first_token_seconds: float = 0.0

    def failed(self) -> None:
        """A request that it didn't answer."""
        self.requests += 1
        self.errors += 1

    def counts(self) -> RevisionCounts:
        return RevisionCounts(
            revision=self.revision,
            requests=self.requests,
            errors=self.errors,
            first_tokens=self.first_tokens,
            first_token_seconds=round(self.first_token_seconds, 6),
        )


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer's head, and whose it is."""

    sent: Sent
    tally: Tally

    @property
    def response(self) -> aiohttp.ClientResponse:
        return self.sent.response

    @contextmanager
    def counted(self, exchange: Exchange, outcome: Outcome) -> Iterator[None]:
        """Takes note of how it ends while it is passed on. A client that leaves says nothing of the revision."""
        try:
            yield
        except ApiError:
            self.tally.failed()
            raise
        else:
            self.tally.requests += 1
            self.tally.errors += exchange.status >= 500
        finally:
            if outcome.is_stream and exchange.first_byte is not None:
                self.tally.first_tokens += 1
                self.tally.first_token_seconds += max(0.0, exchange.first_byte - self.sent.began)


class Traffic:
    """The shares of this moment."""

    def __init__(self, upstream: Upstream) -> None:
        self.id = ""
        self._upstream = upstream
        self._tallies = [Tally("")]
        self._canary: Route | None = None
        self._dealt = 0
        self._passed_over_until = 0.0

    def hear(self, told: Told | None) -> None:
        """From now on requests go so, and are counted anew if that is another way than before."""
        now = told.id if told else ""
        if now == self.id:
            return
        self.id = now
        routes = told.routes if told else []
        self._tallies = [Tally(route.revision) for route in routes] or [Tally("")]
        self._canary = next((route for route in routes[1:] if route.percent), None)
        self._upstream.redirect(routes[0].url if routes else None)

    def counts(self) -> list[RevisionCounts]:
        """Of each revision that was told of."""
        return [tally.counts() for tally in self._tallies if tally.revision]

    async def open(
        self, path: str, body: bytes, headers: RequestHeaders, *, until: float, conversation: str | None
    ) -> Answer:
        """The answer's head. `until` is the loop's time to which the request may wait for a replica."""
        tallies, canary = self._tallies, self._canary
        if canary is not None and self._is_for(canary, conversation) and time.monotonic() >= self._passed_over_until:
            sent = await self._ask(canary, tallies[1], path, body, headers)
            if sent is not None:
                return Answer(sent, tallies[1])
        return Answer(await self._upstream.open(path, body, headers, until=until), tallies[0])

    def _is_for(self, canary: Route, conversation: str | None) -> bool:
        if conversation is not None:
            return place(canary.revision, conversation) < canary.percent / 100
        self._dealt += 1
        return is_dealt(self._dealt, canary.percent)

    async def _ask(self, canary: Route, tally: Tally, path: str, body: bytes, headers: RequestHeaders) -> Sent | None:
        """What the canary answers, if it does."""
        try:
            sent = await self._upstream.send(canary.url, path, body, headers)
        except (aiohttp.ClientError, aiohttp.ConnectionTimeoutError):
            self._pass_over()
            return None
        except TimeoutError:
            tally.failed()
            return None
        if sent.response.status < 500:
            return sent
        sent.response.close()
        if await self._is_ready(canary):
            tally.failed()
        else:
            self._pass_over()
        return None

    async def _is_ready(self, canary: Route) -> bool:
        try:
            return await self._upstream.probe(canary.url)
        except (aiohttp.ClientError, TimeoutError):
            return False

    def _pass_over(self) -> None:
        self._passed_over_until = time.monotonic() + _PASSED_OVER_SECONDS


def is_dealt(number: int, percent: int) -> bool:
    """Whether the request of that number is one of the share."""
    return number * _GOLDEN % 1 < percent / 100


def place(revision: str, conversation: str) -> float:
    """Where a conversation stands among those that move to this revision, from 0 to 1; with each it is elsewhere."""
    digest = hashlib.blake2b(f"{revision}\n{conversation}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) / 2**64
