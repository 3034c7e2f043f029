"""From a standby to the leader: the Service sends pods to either, only the leader keeps the book.

The leader's address is in the Lease. TLS is verified against the same authority and for the Service's name, since
certificates don't name pod addresses. A request is passed on once.
"""

import ssl
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
from aiohttp import web

from lmforge_operator.kube.lease import Identity

FORWARDED = "X-LMForge-Forwarded"
TIMEOUT = aiohttp.ClientTimeout(total=5)


class Forwarder:
    """Passes requests on to whoever leads."""

    def __init__(self, *, holder: Callable[[], str], ca_path: Path, service_url: str | None) -> None:
        self._holder = holder
        self._ca_path = ca_path
        self._server_name = urlsplit(service_url).hostname if service_url else None
        self._session: aiohttp.ClientSession | None = None

    async def forward(self, request: web.Request, body: bytes) -> web.Response:
        """The leader's answer, or 503: the pod tries again within a second."""
        address = Identity.address_of(self._holder())
        if address is None or FORWARDED in request.headers:
            return web.Response(status=503, text="no replica leads at the moment")
        headers = {"Authorization": request.headers.get("Authorization", ""), FORWARDED: "1"}
        try:
            return await self._post(f"https://{address}{request.rel_url}", body, headers)
        except (aiohttp.ClientError, TimeoutError, OSError):
            return web.Response(status=503, text="the leader does not answer")

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def _post(self, url: str, body: bytes, headers: dict[str, str]) -> web.Response:
        session = self._open()
        async with session.post(url, data=body, headers=headers, server_hostname=self._server_name) as answer:
            content = await answer.read()
            return web.Response(status=answer.status, body=content, content_type=answer.content_type)

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            context = ssl.create_default_context(cafile=str(self._ca_path))
            connector = aiohttp.TCPConnector(ssl=context, limit=16)
            self._session = aiohttp.ClientSession(connector=connector, timeout=TIMEOUT)
        return self._session
