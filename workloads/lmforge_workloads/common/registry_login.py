"""Who we are to an OCI registry: a Secret of type kubernetes.io/dockerconfigjson, mounted. No message holds any of it.

Tokens as https://distribution.github.io/distribution/spec/auth/token says.
"""

import base64
import json
import re
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx2

from lmforge_api.registry import LOGIN_PATH, RegistryAccess
from lmforge_workloads.common.exits import UserError

_SECRET_KEYS = "kubectl create secret docker-registry"


@dataclass(frozen=True)
class Login:
    """Who we are to a registry."""

    user: str
    password: str

    def __repr__(self) -> str:
        return f"Login({self.user!r})"


def read_login(registry: str, access: RegistryAccess, *, mounted: Path = Path(LOGIN_PATH)) -> Login | None:
    """What the Secret has for this registry. Raises UserError, without quoting any of it, when that's nothing."""
    if access.secret is None:
        return None
    try:
        entries = json.loads((mounted / ".dockerconfigjson").read_bytes())["auths"]
    except OSError as error:
        raise UserError(
            f"Secret {access.secret} isn't in this namespace, or has no key .dockerconfigjson: make it with "
            f"`{_SECRET_KEYS} {access.secret} --docker-server={registry} …`"
        ) from error
    except (ValueError, KeyError, TypeError):
        raise UserError(f"Secret {access.secret}: .dockerconfigjson isn't JSON with auths: make it anew") from None
    entry = next((each for key, each in entries.items() if _host_of(key) == registry), None)
    login = _login_of(entry) if entry else None
    if login is None:
        raise UserError(
            f"Secret {access.secret} has no user name and password for registry {registry}, only an entry for "
            f"{', '.join(map(_host_of, entries)) or 'none'}: add it with `{_SECRET_KEYS}`"
        )
    return login


def _host_of(key: str) -> str:
    return re.sub("^https?://", "", key).split("/")[0]


def _login_of(entry: Mapping[str, str]) -> Login | None:
    try:
        user, _, password = base64.b64decode(entry.get("auth", "")).decode().partition(":")
    except ValueError:
        return None
    user, password = entry.get("username") or user, entry.get("password") or password
    return Login(user, password) if user and password else None


class Auth(httpx2.Auth):
    """Basic or bearer, as the registry asks. Asked once, it goes along with all that follows."""

    def __init__(self, login: Login | None, host: str) -> None:
        self._login, self._host = login, host
        self._header = ""

    def auth_flow(self, request: httpx2.Request) -> Generator[httpx2.Request, httpx2.Response, None]:
        if request.url.netloc.decode() != self._host:
            yield request  # storage elsewhere, which gives out signed URLs
            return
        if self._header:
            request.headers["Authorization"] = self._header
        response = yield request
        challenge = response.headers.get("WWW-Authenticate", "")
        if response.status_code != 401 or not challenge:
            return
        if challenge.lower().startswith("basic") and self._login:
            self._header = self._basic
        elif challenge.lower().startswith("bearer"):
            said = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
            answer = yield self._token_request(said)
            answer.read()
            if answer.status_code != 200:
                return
            token = answer.json()
            self._header = f"Bearer {token.get('token') or token.get('access_token')}"
        else:
            return
        request.headers["Authorization"] = self._header
        yield request

    @property
    def _basic(self) -> str:
        assert self._login
        return "Basic " + base64.b64encode(f"{self._login.user}:{self._login.password}".encode()).decode()

    def _token_request(self, said: Mapping[str, str]) -> httpx2.Request:
        parameters = {key: said[key] for key in ("service", "scope") if key in said}
        headers = {"Authorization": self._basic} if self._login else {}
        return httpx2.Request("GET", said.get("realm", ""), params=parameters, headers=headers)
