"""API keys: who may do what, and keys that come and go while the gateway runs."""

import json
import os
import secrets
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from engine_stub import Engine
from gateways import CHAT, MODEL, STREAM, gateway, until, write_keys
from openai import AuthenticationError, PermissionDeniedError

from lmforge_api.gateway import RateLimits, key_hash, key_text, new_key
from lmforge_workloads.serve.gateway.keys import parse

AUTH: dict[str, Any] = {"auth": {"secretName": "keys"}}
PAST, FUTURE = "2020-01-01T00:00:00Z", "2999-01-01T00:00:00+02:00"


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


async def test_the_official_client_needs_a_key_that_is_known(engine: Engine, keys_path: Path) -> None:
    key, entry = new_key(secrets.token_bytes(24), {"scopes": ["chat"], "expires": FUTURE})
    write_keys(keys_path, bank=entry)
    async with gateway(engine, gateway=AUTH, keysPath=str(keys_path)) as running:
        async with running.client(key) as client:
            assert (await client.chat.completions.create(**CHAT)).choices
        async with running.client(key + "x") as client:
            with pytest.raises(AuthenticationError, match="This API key is not known"):
                await client.chat.completions.create(**CHAT)


REFUSED = [
    ("no key", {}, 401, "invalid_api_key", "An API key is needed"),
    ("another scheme", {"Authorization": "Basic YTpi"}, 401, "invalid_api_key", "An API key is needed"),
    ("an empty key", bearer(""), 401, "invalid_api_key", "An API key is needed"),
    ("the hash in the key's place", bearer(key_hash("k-bank")), 401, "invalid_api_key", "not known"),
    ("a key that has expired", bearer("k-old"), 401, "expired_api_key", "API key old expired at 2020-01-01"),
    ("a key for embeddings", bearer("k-vectors"), 403, "insufficient_permissions", "its scopes are embeddings"),
    ("a key for another model", bearer("k-legal"), 403, "insufficient_permissions", "it is for legal"),
]


@pytest.mark.parametrize(("headers", "status", "code", "why"), [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED])
async def test_it_is_refused_with_a_reason(
    engine: Engine, keys_path: Path, headers: dict[str, str], status: int, code: str, why: str
) -> None:
    write_keys(
        keys_path,
        bank={"key": "k-bank"},
        old={"key": "k-old", "expires": PAST},
        vectors={"key": "k-vectors", "scopes": ["embeddings"]},
        legal={"key": "k-legal", "models": ["legal"]},
    )
    async with gateway(engine, gateway=AUTH, keysPath=str(keys_path)) as running:
        answer = await running.post(CHAT, **headers)
    assert (answer.status, answer.error["code"]) == (status, code)
    assert why in answer.error["message"]
    assert ("www-authenticate" in answer.headers) == (status == 401)
    assert not engine.seen


async def test_a_key_may_do_what_it_is_for(engine: Engine, keys_path: Path) -> None:
    write_keys(keys_path, legal={"key": "k", "models": ["legal"], "scopes": ["chat", "models"], "expires": FUTURE})
    more: Any = {"adapters": ["legal", "tax"], "gateway": AUTH, "keysPath": str(keys_path)}
    async with gateway(engine, **more) as running, running.client("k") as client:
        assert (await client.chat.completions.create(**CHAT | {"model": "legal"})).model == "legal"
        assert [model.id async for model in client.models.list()] == ["legal"]
        with pytest.raises(PermissionDeniedError, match="may not use completions: its scopes are chat, models"):
            await client.completions.create(model="legal", prompt="x")


async def test_a_body_with_two_models_names_the_one_that_is_checked(engine: Engine, keys_path: Path) -> None:
    write_keys(keys_path, legal={"key": "k", "models": ["legal"]})
    twice = b'{"model": "smollm2", "messages": [], "model": "legal"}'
    async with gateway(engine, gateway=AUTH, keysPath=str(keys_path)) as running:
        assert (await running.post(twice, **bearer("k"))).status == 200
        assert (await running.post(b'{"model": "legal", "model": "smollm2"}', **bearer("k"))).status == 403
    assert all(seen.raw.count(b'"model"') == 1 for seen in engine.seen)


async def test_keys_may_be_optional(engine: Engine, keys_path: Path) -> None:
    write_keys(keys_path, bank={"key": "k"})
    optional = {"auth": {"secretName": "keys", "required": False}}
    async with gateway(engine, gateway=optional, keysPath=str(keys_path)) as running:
        statuses = [(await running.post(CHAT, **headers)).status for headers in ({}, bearer("k"), bearer("wrong"))]
    assert statuses == [200, 200, 401]


async def test_keys_come_and_go_without_a_restart(engine: Engine, tmp_path: Path) -> None:
    """As the kubelet does it: a link to a directory of one version is swapped for another."""
    mount = tmp_path / "mount"
    mount.mkdir()

    def publish(version: str, **entries: Any) -> None:
        write_keys(tmp_path / "mount" / f"..{version}", **entries)
        (mount / "..new").symlink_to(f"..{version}")
        os.replace(mount / "..new", mount / "..data")
        for key_id in entries:
            if not (mount / key_id).is_symlink():
                (mount / key_id).symlink_to(f"..data/{key_id}")
        for path in mount.iterdir():
            if not path.name.startswith("..") and not path.exists():
                path.unlink()

    publish("1", bank={"key": "old"})
    async with gateway(engine, gateway=AUTH, keysPath=str(mount)) as running:
        assert (await running.post(CHAT, **bearer("old"))).status == 200
        publish("2", bank={"key": "new"}, shop={"key": "shop"})

        async def swapped() -> bool:
            return (await running.post(CHAT, **bearer("shop"))).status == 200

        await until(swapped, what="the new keys are known")
        assert (await running.post(CHAT, **bearer("old"))).status == 401
        assert (await running.post(CHAT, **bearer("new"))).status == 200


BROKEN = [
    ("no JSON", "k-secret", "API key broken is ignored: its value: Invalid JSON"),
    ("the key itself", json.dumps({"hash": "lmf-secret"}), "API key broken is ignored: hash: String should match"),
    ("an unknown field", json.dumps({"hash": key_hash("k"), "scope": []}), "scope: Extra inputs are not permitted"),
    ("an unknown scope", json.dumps({"hash": key_hash("k"), "scopes": ["admin-secret"]}), "scopes.0: Input should be"),
    ("a time without a zone", json.dumps({"hash": key_hash("k"), "expires": "2030-01-01T00:00:00"}), "no time zone"),
]


@pytest.mark.parametrize(("text", "why"), [row[1:] for row in BROKEN], ids=[row[0] for row in BROKEN])
def test_a_broken_entry_is_an_error_on_that_key_alone(text: str, why: str) -> None:
    good = json.dumps({"hash": key_hash("good")})
    keyring, problems = parse({"broken": text, "bank": good}, defaults=RateLimits())
    assert keyring.find("good", now=datetime.now(UTC)).id == "bank"
    assert len(problems) == 1
    assert why in problems[0]
    assert "secret" not in problems[0]


def test_a_key_is_known_until_it_expires() -> None:
    ends = datetime(2030, 1, 1, tzinfo=UTC)
    keyring, _ = parse(
        {"bank": json.dumps({"hash": key_hash("k"), "expires": ends.isoformat()})}, defaults=RateLimits()
    )
    assert keyring.find("k", now=ends - timedelta(seconds=1)).id == "bank"
    with pytest.raises(Exception, match="API key bank expired"):
        keyring.find("k", now=ends)


def test_what_a_key_leaves_open_is_the_gateways_default() -> None:
    entry = {"hash": key_hash("k"), "rateLimits": {"tokensPerMinute": 7}}
    defaults = RateLimits(requests_per_minute=5, tokens_per_minute=100)
    keyring, _ = parse({"bank": json.dumps(entry)}, defaults=defaults)
    limits = keyring.find("k", now=datetime.now(UTC)).limits
    assert (limits.requests_per_minute, limits.tokens_per_minute) == (5, 7)


def test_keys_are_made_of_enough_randomness() -> None:
    assert key_text(bytes(24)) == "lmf-" + "A" * 32
    with pytest.raises(ValueError, match="24 random bytes, not 8"):
        key_text(bytes(8))


async def test_without_a_key_for_models_none_are_told(engine: Engine, keys_path: Path) -> None:
    write_keys(keys_path, chat={"key": "k", "scopes": ["chat"]})
    async with gateway(engine, gateway=AUTH, keysPath=str(keys_path)) as running:
        assert (await running.get("/v1/models")).status == 401
        assert (await running.get("/v1/models", **bearer("k"))).status == 403
        assert MODEL not in (await running.post(STREAM)).body.decode()
