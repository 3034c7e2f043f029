"""As much of the OCI distribution protocol as models need: blobs and manifests, streamed, by digest.

https://github.com/opencontainers/distribution-spec
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO
from urllib.parse import urljoin

import httpx2

from lmforge_api.oci import Reference
from lmforge_api.registry import RegistryAccess
from lmforge_workloads.common.exits import DataError, RegistryUnavailable, UserError
from lmforge_workloads.common.registry_login import Auth, Login
from lmforge_workloads.common.store import addresses, refuse_internal

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
_MOST_OF_A_MANIFEST = 4 * 2**20  # what the specification asks registries to take
_TIMEOUT = httpx2.Timeout(300, connect=10)  # a registry may move a large blob before it answers


class Registry:
    """One repository of a registry, as long as `opened` lasts."""

    def __init__(self, reference: Reference, access: RegistryAccess, *, login: Login | None) -> None:
        self.reference = reference
        self._access = access
        scheme = "http" if access.insecure else "https"
        self._base = f"{scheme}://{reference.registry}/v2/{reference.repository}/"
        self._client = httpx2.Client(
            auth=Auth(login, reference.registry),
            timeout=_TIMEOUT,
            follow_redirects=True,
            event_hooks={"request": [self._guard]},
        )

    def manifest(self) -> tuple[bytes, str]:
        """The manifest and its digest, verified. Raises DataError when there is none."""
        with self._stream(f"manifests/{self.reference.version}", headers={"Accept": MANIFEST_TYPE}) as answer:
            content = b""
            for chunk in answer.iter_bytes():
                content += chunk
                if len(content) > _MOST_OF_A_MANIFEST:
                    raise DataError("its manifest is larger than 4 MiB", file=self.reference.uri)
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        if self.reference.digest and digest != self.reference.digest:
            raise DataError(f"the registry's manifest has digest {digest}", file=self.reference.uri)
        return content, digest

    def fetch(self, digest: str, to: Path) -> None:
        """Write a blob to a file. Raises DataError when it isn't what its digest says."""
        found = hashlib.sha256()
        with self._stream(f"blobs/{digest}") as answer, to.open("wb") as file:
            for chunk in answer.iter_bytes():
                found.update(chunk)
                file.write(chunk)
        if f"sha256:{found.hexdigest()}" != digest:
            raise DataError(f"blob {digest} came damaged", file=self.reference.uri)

    def may_push(self) -> None:
        """Raises what a push would, without sending anything."""
        begun = self._send("POST", "blobs/uploads/")
        self._send("DELETE", urljoin(str(begun.url), begun.headers["Location"]), missing_ok=True)

    def push(self, content: Path | bytes, digest: str) -> bool:
        """Send a blob, in pieces of 64 KiB, unless it's there already: then gives False."""
        if self._send("HEAD", f"blobs/{digest}", missing_ok=True).status_code == 200:
            return False
        begun = self._send("POST", "blobs/uploads/")
        place = httpx2.URL(urljoin(str(begun.url), begun.headers["Location"])).copy_add_param("digest", digest)
        headers = {"Content-Type": "application/octet-stream"}
        if isinstance(content, bytes):
            self._send("PUT", str(place), content=content, headers=headers)
        else:
            with content.open("rb") as file:
                self._send("PUT", str(place), content=file, headers=headers)
        return True

    def tag(self, manifest: bytes) -> str:
        """Make the tag name this manifest; gives its digest. All that it names has to be there."""
        headers = {"Content-Type": MANIFEST_TYPE}
        self._send("PUT", f"manifests/{self.reference.version}", content=manifest, headers=headers)
        return f"sha256:{hashlib.sha256(manifest).hexdigest()}"

    def close(self) -> None:
        """Close its connections."""
        self._client.close()

    def _send(
        self,
        method: str,
        place: str,
        *,
        content: bytes | IO[bytes] | None = None,
        headers: dict[str, str] | None = None,
        missing_ok: bool = False,
    ) -> httpx2.Response:
        with self._plainly():
            answer = self._client.request(method, urljoin(self._base, place), content=content, headers=headers)
        if not (missing_ok and answer.status_code in (404, 405)):
            self._check(answer)
        return answer

    @contextmanager
    def _stream(self, place: str, *, headers: dict[str, str] | None = None) -> Iterator[httpx2.Response]:
        with self._plainly(), self._client.stream("GET", urljoin(self._base, place), headers=headers) as answer:
            self._check(answer)
            yield answer

    @contextmanager
    def _plainly(self) -> Iterator[None]:
        """What goes wrong on the way in words of ours."""
        try:
            yield
        except httpx2.HTTPError as error:
            plain = "" if self._access.insecure else " (one that speaks plain http needs insecure: true)"
            raise RegistryUnavailable(f"registry {self.reference.registry} can't be reached: {error}{plain}") from error

    def _check(self, answer: httpx2.Response) -> None:
        """Raise for what isn't a success: what only the user can mend, or what another try may mend."""
        status, registry = answer.status_code, self.reference.registry
        if answer.is_success:
            return
        if status in (401, 403):
            raise UserError(f"registry {registry} refuses {self._who} at {self.reference.repository} ({status}): "
                            f"{self._remedy}")  # fmt: skip
        if status == 404:
            raise DataError(f"registry {registry} has no such artifact, or not all of it", file=self.reference.uri)
        if status == 429 or status >= 500:
            raise RegistryUnavailable(f"registry {registry} answers {status}: it is overloaded or broken")
        raise UserError(f"registry {registry} takes no {answer.request.method} of {self.reference.uri} ({status})")

    @property
    def _who(self) -> str:
        return f"the login of Secret {self._access.secret}" if self._access.secret else "requests without a login"

    @property
    def _remedy(self) -> str:
        if self._access.secret:
            return "correct the Secret's user name and password, or give that user the right to it"
        return "name a Secret of type kubernetes.io/dockerconfigjson"

    def _guard(self, request: httpx2.Request) -> None:
        """Also for where a registry redirects to, or has tokens made."""
        refuse_internal(request.url.host, resolve=addresses)


@contextmanager
def opened(reference: Reference, access: RegistryAccess, *, login: Login | None) -> Iterator[Registry]:
    """The registry, until the end of the block."""
    registry = Registry(reference, access, login=login)
    try:
        yield registry
    finally:
        registry.close()
