"""Sends requests to the router or engines, again where that does no harm, and holds them while no replica is ready.

aiohttp's client rather than httpx: its parser is compiled and hands on what the socket gave. A streamed chunk took it
25 µs where httpx's three layers of Python took 90, and a short request 0.2 ms against several.

Sent again is what got no byte of an answer (no connection, or one that ended), and what the upstream refused as
unavailable. Generating twice costs time and changes nothing.
"""

import asyncio
import logging
import time
from typing import NamedTuple

import aiohttp
from multidict import CIMultiDict

from lmforge_api.gateway_run import Upstream as UpstreamConfig
from lmforge_workloads.serve.errors import BadGateway, Unavailable, UpstreamTimeout
from lmforge_workloads.serve.gateway.hold import Availability

log = logging.getLogger(__name__)

_ATTEMPTS = 4  # of a request that reached an upstream; waiting for one doesn't count
_AGAIN_SECONDS = 0.05
_SHORT_SECONDS = 0.01  # where only connections fail, not the probe
_PROBE_TIMEOUT = 2.0
_KEEP_ALIVE = 4.0  # below uvicorn's 5 s, with which engines close idle connections
_REFUSES = frozenset({502, 503})
_FAILS = frozenset({500, 502, 503})
_NOT_SENT_ON = frozenset(
    b"authorization connection content-length host keep-alive proxy-authorization te trailer transfer-encoding upgrade "
    b"accept-encoding x-prompt-template cookie expect".split()
)

RequestHeaders = list[tuple[bytes, bytes]]


class Sent(NamedTuple):
    """An answer's head, and when the request that it answers was sent (as time.monotonic tells)."""

    response: aiohttp.ClientResponse
    began: float


class Upstream:
    """One pool of connections."""

    def __init__(self, config: UpstreamConfig, availability: Availability) -> None:
        self._config = config
        self._url = config.url
        self._availability = availability
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=config.connect_timeout_seconds, sock_read=config.read_timeout_seconds
        )
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEP_ALIVE),
            timeout=timeout,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding"),
        )

    def redirect(self, url: str | None) -> None:
        """Requests go there from now on, those that wait too; None: where the configuration says."""
        self._url = url or self._config.url

    async def send(self, url: str, path: str, body: bytes, headers: RequestHeaders) -> Sent:
        """One attempt at another place, with whatever aiohttp raises."""
        began = time.monotonic()
        return Sent(await self._session.post(url + path, data=body, headers=_sent_on(headers)), began)

    async def open(self, path: str, body: bytes, headers: RequestHeaders, *, until: float) -> Sent:
        """The answer's head. `until` is the loop's time to which the request may wait for a replica."""
        sent_on = _sent_on(headers)
        for attempt in range(_ATTEMPTS):
            sent = await self._try(path, body, sent_on, until=until, last=attempt == _ATTEMPTS - 1)
            if sent is not None:
                return sent
            await asyncio.sleep(_AGAIN_SECONDS * attempt)
        raise AssertionError("the last attempt returns or raises")

    async def _try(self, path: str, body: bytes, headers: CIMultiDict[str], *, until: float, last: bool) -> Sent | None:
        """One attempt that reached an upstream; None when another should be made."""
        try:
            sent = await self._reach(path, body, headers, until=until)
        except TimeoutError:
            seconds = self._config.read_timeout_seconds
            raise UpstreamTimeout(f"The engine has not answered within {seconds:.0f} s: ask for less") from None
        except aiohttp.ClientError as error:
            if last:
                raise BadGateway(f"The engine broke off before it answered ({type(error).__name__})") from None
            return None
        status = sent.response.status
        if last or status not in _FAILS:
            return sent
        # A router with no engine behind it answers 500; an engine that answers 500 and is well means it.
        if await self._availability.confirm() and status not in _REFUSES:
            return sent
        sent.response.close()
        return None

    async def _reach(self, path: str, body: bytes, headers: CIMultiDict[str], *, until: float) -> Sent:
        """Waits until there is an upstream to connect to."""
        while True:
            await self._availability.wait(until=until)
            began = time.monotonic()
            try:
                return Sent(await self._session.post(self._url + path, data=body, headers=headers), began)
            except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
                if asyncio.get_running_loop().time() >= until:
                    raise Unavailable(f"There is no connection to {self._url}: try again later") from None
                self._availability.lost()
                await asyncio.sleep(_SHORT_SECONDS)

    async def probe(self, url: str | None = None) -> bool:
        """Whether a replica can answer, where requests go or at another place."""
        timeout = aiohttp.ClientTimeout(total=_PROBE_TIMEOUT)
        place = (url or self._url) + self._config.ready_path
        # A kept connection, probed often enough never to be idle, would stay with a pod that has been replaced.
        async with self._session.get(place, timeout=timeout, headers={"Connection": "close"}) as response:
            return response.status == 200

    async def close(self) -> None:
        await self._availability.close()
        await self._session.close()


def _sent_on(headers: RequestHeaders) -> CIMultiDict[str]:
    """What an engine or router may want to know. Not the API key; and answers must come uncompressed to be read."""
    kept = ((name.decode("latin-1"), value.decode("latin-1")) for name, value in headers if name not in _NOT_SENT_ON)
    return CIMultiDict(kept)
