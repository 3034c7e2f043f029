"""Who calls: API keys, read from a mounted Secret and read again when it changes.

A key is found by the first 16 digits of its SHA-256, and the whole digest compared in constant time. (What the
look-up's time tells is about the digest of a guess, which brings nobody nearer to a key.) Why plain SHA-256: see
`key_hash`.
"""

import asyncio
import hmac
import logging
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from lmforge_api.gateway import ApiKey, Gateway, RateLimits, Scope, key_hash
from lmforge_workloads.serve.errors import Forbidden, Unauthenticated

log = logging.getLogger(__name__)

_POLL_SECONDS = 1.0
_ALL_SCOPES: frozenset[Scope] = frozenset({"chat", "completions", "embeddings", "models"})


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sends a request, and what they may. The empty ID is for callers without a key."""

    id: str
    limits: RateLimits
    scopes: frozenset[Scope] = _ALL_SCOPES
    models: frozenset[str] = frozenset()
    template: str | None = None
    digest: str = ""
    expires: datetime | None = None

    @property
    def has_key(self) -> bool:
        return bool(self.digest)

    def check_scope(self, scope: Scope) -> None:
        """Refuses an endpoint that the key isn't for."""
        if scope not in self.scopes:
            raise Forbidden(f"API key {self.id} may not use {scope}: its scopes are {', '.join(sorted(self.scopes))}")

    def check_model(self, model: object) -> None:
        """Refuses a model that the key isn't for."""
        if self.models and model not in self.models:
            allowed = ", ".join(sorted(self.models))
            raise Forbidden(f"API key {self.id} may not use this model: it is for {allowed}", param="model")


class Keyring:
    """The keys of one reading of the Secret."""

    def __init__(self, callers: Iterable[Caller] = ()) -> None:
        self._by_digest = {_short(caller.digest): caller for caller in callers}

    def __len__(self) -> int:
        return len(self._by_digest)

    def find(self, key: str, *, now: datetime) -> Caller:
        """The caller whose key it is."""
        digest = key_hash(key)
        caller = self._by_digest.get(_short(digest))
        if caller is None or not hmac.compare_digest(caller.digest, digest):
            raise Unauthenticated("This API key is not known: check it, or ask for a new one")
        if caller.expires is not None and caller.expires <= now:
            raise Unauthenticated(
                f"API key {caller.id} expired at {caller.expires.isoformat()}: ask for a new one",
                code="expired_api_key",
            )
        return caller


def _short(digest: str) -> str:
    return digest.removeprefix("sha256:")[:16]


def parse(entries: Mapping[str, str], *, defaults: RateLimits) -> tuple[Keyring, list[str]]:
    """The keys of a Secret, and what is wrong with entries that are left out."""
    callers, problems = [], []
    for key_id, text in entries.items():
        try:
            entry = ApiKey.model_validate_json(text)
            if entry.expires is not None and entry.expires.tzinfo is None:
                raise ValueError("expires has no time zone: end it with Z")
        except ValueError as error:
            problems.append(f"API key {key_id} is ignored: {_first_problem(error)}")
            continue
        callers.append(_caller(key_id, entry, defaults))
    return Keyring(callers), problems


def _first_problem(error: ValueError) -> str:
    """Where and why, without the value: someone may have put the key itself there."""
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors(include_input=False, include_url=False)[0]
    return f"{'.'.join(str(part) for part in first['loc']) or 'its value'}: {first['msg']}"


def _caller(key_id: str, entry: ApiKey, defaults: RateLimits) -> Caller:
    own = entry.rate_limits.model_dump(exclude_none=True)
    return Caller(
        id=key_id,
        limits=defaults.model_copy(update=own),
        scopes=frozenset(entry.scopes),
        models=frozenset(entry.models),
        template=entry.prompt_template,
        digest=entry.hash,
        expires=entry.expires,
    )


class Keys:
    """The Secret's directory. `watch` runs as long as the gateway does."""

    def __init__(self, gateway: Gateway, directory: Path) -> None:
        self._required = gateway.auth is not None and gateway.auth.required
        self._enabled = gateway.auth is not None
        self._defaults = gateway.rate_limits
        self._directory = directory
        self._anonymous = Caller(id="", limits=gateway.rate_limits)
        self._seen: object = None
        self._keyring = Keyring()
        if self._enabled:
            self.refresh()

    def identify(self, authorization: str | None, *, now: datetime | None = None) -> Caller:
        """The caller that an Authorization header stands for."""
        if not self._enabled:
            return self._anonymous
        scheme, _, key = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            if self._required:
                raise Unauthenticated("An API key is needed: send it as Authorization: Bearer <key>")
            return self._anonymous
        return self._keyring.find(key.strip(), now=now or datetime.now(UTC))

    def refresh(self) -> bool:
        """Reads the directory again if it changed. Returns whether it did."""
        found = _fingerprint(self._directory)
        if found == self._seen:
            return False
        self._keyring, problems = parse(_read(self._directory), defaults=self._defaults)
        self._seen = found
        for problem in problems:
            log.warning(problem)
        log.info("API keys read", extra={"keys": len(self._keyring)})
        return True

    async def watch(self) -> None:
        """The kubelet swaps a Secret's files as a whole; seen within a second."""
        while self._enabled:
            await asyncio.sleep(_POLL_SECONDS)
            try:
                self.refresh()
            except OSError as error:  # in the middle of a swap; the keys that are known stay
                log.warning("API keys can't be read at the moment: %s", error)


def _fingerprint(directory: Path) -> object:
    """What changes when the keys do: where the kubelet's link points, or each file's time and size."""
    try:
        return os.readlink(directory / "..data")
    except OSError:
        files = [(path.name, path.stat()) for path in _files(directory)]
        return [(name, stat.st_mtime_ns, stat.st_size) for name, stat in files]


def _read(directory: Path) -> dict[str, str]:
    return {path.name: path.read_text(errors="replace") for path in _files(directory)}


def _files(directory: Path) -> list[Path]:
    if not directory.is_dir():
        return []
    return sorted(path for path in directory.iterdir() if not path.name.startswith(".") and path.is_file())
