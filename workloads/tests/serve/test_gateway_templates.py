"""Prompt templates and fill-in-the-middle: what a request becomes, and what is refused."""

from pathlib import Path
from typing import Any

import pytest
from engine_stub import Engine
from gateways import CHAT, MODEL, gateway, write_keys

from lmforge_api.gateway import FillInMiddle
from lmforge_workloads.serve.errors import BadRequest
from lmforge_workloads.serve.gateway.templates import filled_in

BANK = {
    "name": "bank",
    "system": "You serve the customers of a bank.",
    "style": "Answer in two sentences.",
    "maxTokens": 100,
    "temperature": 0.0,
}
SQL = {"name": "sql", "prefix": "-- PostgreSQL\n", "stop": [";"], "topP": 0.9}
OPEN = {"name": "open", "system": "Be kind.", "allowSystem": True}
GATEWAY: dict[str, Any] = {"promptTemplates": [BANK, SQL, OPEN]}
ROLE = {"role": "system", "content": "You serve the customers of a bank.\n\nAnswer in two sentences."}
USER = CHAT["messages"][0]
SAYING = {"role": "assistant", "content": "It"}
PREFIXED = USER | {"content": "-- PostgreSQL\nWhat is the capital of France?"}
RHYME = {"role": "system", "content": "Rhyme."}
EARLIER = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
PICTURE = {"type": "image_url", "image_url": {"url": "data:,"}}

CHATS = [
    ("a role comes first", "bank", {}, {"messages": [ROLE, USER], "max_tokens": 100, "temperature": 0.0}),
    ("fewer tokens stay", "bank", {"max_tokens": 7, "temperature": 2}, {"max_tokens": 7, "temperature": 0.0}),
    ("more tokens don't", "bank", {"max_completion_tokens": 500}, {"max_completion_tokens": 100}),
    (
        "a prefix comes before the newest user message",
        "sql",
        {"messages": [*EARLIER, USER, SAYING]},
        {"messages": [*EARLIER, PREFIXED, SAYING]},
    ),
    (
        "a prefix comes before parts",
        "sql",
        {"messages": [{"role": "user", "content": [PICTURE]}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "-- PostgreSQL\n"}, PICTURE]}]},
    ),
    ("its own stop and top_p", "sql", {"stop": "x", "top_p": 1}, {"stop": [";"], "top_p": 0.9}),
    (
        "callers' own system messages where they may",
        "open",
        {"messages": [RHYME, USER]},
        {"messages": [{"role": "system", "content": "Be kind."}, RHYME, USER]},
    ),
]  # fmt: skip


@pytest.mark.parametrize(("name", "sent", "arrives"), [row[1:] for row in CHATS], ids=[row[0] for row in CHATS])
async def test_a_chat_becomes_what_its_template_says(
    engine: Engine, name: str, sent: dict[str, Any], arrives: dict[str, Any]
) -> None:
    async with gateway(engine, gateway=GATEWAY) as running, running.client() as client:
        await client.chat.completions.create(**CHAT | sent, extra_headers={"X-Prompt-Template": name})
    body = engine.seen[0].body
    assert {key: body[key] for key in arrives} == arrives
    assert "x-prompt-template" not in {name.lower() for name in engine.seen[0].headers}


REFUSED = [
    ("a template that isn't there", "legal", {}, "template legal: X-Prompt-Template can name bank, sql, open"),
    ("another role", "bank", {"messages": [RHYME, USER]}, "leave system messages out"),
    ("another role by its new name", "bank", {"messages": [USER, RHYME | {"role": "developer"}]}, "leave system"),
    ("messages that are none", "bank", {"messages": "hello"}, "messages must be a list of objects"),
    ("content that is none", "sql", {"messages": [{"role": "user", "content": 5}]}, "must be text or a list of parts"),
    ("tokens that are none", "bank", {"max_tokens": "many"}, "max_tokens must be an integer"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "sent", "why"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
async def test_it_is_refused_before_an_engine_sees_it(
    engine: Engine, name: str, sent: dict[str, Any], why: str
) -> None:
    async with gateway(engine, gateway=GATEWAY) as running:
        answer = await running.post(CHAT | sent, X_Prompt_Template=name)
    assert answer.status == 400
    assert why in answer.error["message"]
    assert not engine.seen


async def test_completions_take_templates_without_a_role(engine: Engine) -> None:
    body = {"model": MODEL, "prompt": ["SELECT", "DELETE"]}
    async with gateway(engine, gateway=GATEWAY) as running:
        assert (await running.post(body, path="/v1/completions", X_Prompt_Template="sql")).status == 200
        refused = await running.post(body, path="/v1/completions", X_Prompt_Template="bank")
        tokens = await running.post(body | {"prompt": [1, 2]}, path="/v1/completions", X_Prompt_Template="sql")
        vectors = await running.post({"input": "x"}, path="/v1/embeddings", X_Prompt_Template="sql")
    assert engine.seen[0].body["prompt"] == ["-- PostgreSQL\nSELECT", "-- PostgreSQL\nDELETE"]
    assert [each.status for each in (refused, tokens, vectors)] == [400, 400, 400]
    assert "a role or style, which only chats can take" in refused.error["message"]
    assert len(engine.seen) == 1


async def test_a_key_can_be_bound_to_its_template(engine: Engine, keys_path: Path) -> None:
    write_keys(keys_path, kiosk={"key": "k", "promptTemplate": "bank"})
    more: Any = {"gateway": GATEWAY | {"auth": {"secretName": "keys"}}, "keysPath": str(keys_path)}
    async with gateway(engine, **more) as running:
        bound = await running.post(CHAT, Authorization="Bearer k")
        other = await running.post(CHAT, Authorization="Bearer k", X_Prompt_Template="sql")
        raw = await running.post({"prompt": "x"}, path="/v1/completions", Authorization="Bearer k")
        vectors = await running.post({"input": "x"}, path="/v1/embeddings", Authorization="Bearer k")
    assert [each.status for each in (bound, other, raw, vectors)] == [200, 403, 400, 200]
    assert engine.seen[0].body["messages"][0] == ROLE


async def test_a_default_template_is_for_chats_that_name_none(engine: Engine) -> None:
    async with gateway(engine, gateway=GATEWAY | {"defaultPromptTemplate": "bank"}) as running:
        await running.post(CHAT)
        await running.post(CHAT, X_Prompt_Template="sql")
        await running.post({"prompt": "x"}, path="/v1/completions")
    assert engine.seen[0].body["messages"] == [ROLE, USER]
    assert engine.seen[1].body["messages"][0]["content"].startswith("-- PostgreSQL\n")
    assert engine.seen[2].body == {"prompt": "x"}


TOKENS = FillInMiddle(prefix="<P>", suffix="<S>", middle="<M>")
FILLED = [
    ("in the model's order", TOKENS, {"prompt": "a(", "suffix": ")"}, {"prompt": "<P>a(<S>)<M>"}),
    (
        "with the suffix first",
        TOKENS.model_copy(update={"suffix_first": True}),
        {"prompt": "a(", "suffix": ")", "n": 2},
        {"prompt": "<S>)<P>a(<M>", "n": 2},
    ),
    ("an empty suffix", None, {"prompt": "a", "suffix": ""}, {"prompt": "a"}),
    ("no suffix", None, {"prompt": [1, 2], "suffix": None}, {"prompt": [1, 2]}),
]


@pytest.mark.parametrize(("tokens", "sent", "arrives"), [row[1:] for row in FILLED], ids=[row[0] for row in FILLED])
def test_code_with_a_gap_becomes_a_prompt(
    tokens: FillInMiddle | None, sent: dict[str, Any], arrives: dict[str, Any]
) -> None:
    assert filled_in(sent, tokens) == arrives


NOT_FILLED = [
    ("a model that can't", None, {"prompt": "a", "suffix": "b"}, "set spec.gateway.fillInMiddle to its tokens"),
    ("a prompt of tokens", TOKENS, {"prompt": [1], "suffix": "b"}, "prompt and suffix must both be text"),
    ("a suffix of tokens", TOKENS, {"prompt": "a", "suffix": [1]}, "prompt and suffix must both be text"),
]


@pytest.mark.parametrize(("tokens", "sent", "why"), [row[1:] for row in NOT_FILLED], ids=[r[0] for r in NOT_FILLED])
def test_a_gap_that_can_not_be_filled_is_refused(tokens: FillInMiddle | None, sent: dict[str, Any], why: str) -> None:
    with pytest.raises(BadRequest, match=why):
        filled_in(sent, tokens)


async def test_the_official_client_has_code_filled_in(engine: Engine) -> None:
    more = GATEWAY | {"fillInMiddle": {"prefix": "<P>", "suffix": "<S>", "middle": "<M>"}}
    async with gateway(engine, gateway=more) as running, running.client() as client:
        await client.completions.create(
            model=MODEL, prompt="SELECT ", suffix=" FROM t", extra_headers={"X-Prompt-Template": "sql"}
        )
    assert engine.seen[0].body["prompt"] == "<P>-- PostgreSQL\nSELECT <S> FROM t<M>"
    assert "suffix" not in engine.seen[0].body
