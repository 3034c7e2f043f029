"""What the gateway passes on: the official client's calls, and bytes as they are."""

import json
from dataclasses import replace

import aiohttp
import pytest
from engine_stub import Engine, Manner, events, whole
from gateways import CHAT, MODEL, STREAM, gateway

TEXT = "The capital of France is Paris."


async def test_the_official_client_gets_answers_to_its_calls(engine: Engine) -> None:
    async with gateway(engine) as running, running.client() as client:
        chat = await client.chat.completions.create(**CHAT)
        assert chat.choices[0].message.content == TEXT
        completion = await client.completions.create(model=MODEL, prompt="The capital")
        assert completion.choices[0].text == TEXT
        embeddings = await client.embeddings.create(model=MODEL, input=["a", "b"], encoding_format="float")
        assert [each.embedding for each in embeddings.data] == [[0.5, 0.25], [0.5, 0.25]]
        assert [each.path for each in engine.seen] == ["/v1/chat/completions", "/v1/completions", "/v1/embeddings"]


async def test_the_official_client_gets_a_stream_word_by_word(engine: Engine) -> None:
    async with gateway(engine) as running, running.client() as client:
        stream = await client.chat.completions.create(**STREAM)
        words = [chunk.choices[0].delta.content async for chunk in stream]
    assert "".join(word or "" for word in words) == TEXT
    assert len(words) == len(engine.manner.words) + 1


async def test_a_stream_arrives_byte_for_byte(engine: Engine) -> None:
    engine.will(words=("Zürich", ' "usage": {"prompt_tokens": 9}', " data: [DONE]", "\n\n", "東京"))
    async with gateway(engine) as running:
        answer = await running.post(STREAM)
    assert answer.body == b"".join(events(STREAM, engine.manner))
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["x-accel-buffering"] == "no"


async def test_an_answer_arrives_byte_for_byte(engine: Engine) -> None:
    async with gateway(engine) as running:
        answer = await running.post(CHAT)
    assert answer.body == json.dumps(whole(CHAT, engine.manner)).encode()


@pytest.mark.parametrize("body", [CHAT, STREAM], ids=["whole", "stream"])
async def test_a_request_goes_on_byte_for_byte_where_nothing_has_to_be_known_of_it(
    engine: Engine, body: dict[str, object]
) -> None:
    odd = json.dumps(body, indent=3).encode() + b"  \n"
    async with gateway(engine) as running:
        assert (await running.post(odd)).status == 200
    assert engine.seen[0].raw == odd


async def test_the_first_event_arrives_while_the_engine_still_works(engine: Engine) -> None:
    async with gateway(engine) as running:
        engine.go.clear()
        async with running.http.post(f"{running.url}/v1/chat/completions", json=STREAM) as response:
            first = await response.content.readuntil(b"\n\n")
            assert first == events(STREAM, engine.manner)[0]
            engine.go.set()
            assert (await response.read()).endswith(b"data: [DONE]\n\n")


async def test_headers_go_on_but_for_keys_and_hops(engine: Engine) -> None:
    async with gateway(engine) as running:
        await running.post(CHAT, Authorization="Bearer secret", X_Request_Id="42", Traceparent="00-1", Cookie="a=b")
    headers = {name.lower(): value for name, value in engine.seen[0].headers.items()}
    assert headers["x-request-id"] == "42"
    assert headers["traceparent"] == "00-1"
    assert headers["content-type"] == "application/json"
    assert not {"authorization", "cookie", "accept-encoding"} & headers.keys()


ERRORS = [
    ("an engine's error in OpenAI's shape", 400, b'{"error": {"message": "too long", "type": "x"}}', "too long"),
    ("an engine's error in an older shape", 404, b'{"object": "error", "message": "no such model"}', "no such model"),
    ("a router's plain text", 500, b"No available workers", "No available workers"),
    ("FastAPI's detail", 422, b'{"detail": "bad field"}', "bad field"),
    ("a list of details", 422, b'{"detail": [{"loc": ["body"]}]}', "The engine answered 422"),
    ("nothing", 418, b"", "The engine answered 418"),
    ("no object", 400, b"[1]", "The engine answered 400"),
]


@pytest.mark.parametrize(("status", "body", "message"), [row[1:] for row in ERRORS], ids=[row[0] for row in ERRORS])
async def test_errors_come_in_openais_shape(engine: Engine, status: int, body: bytes, message: str) -> None:
    engine.will(status=status, body=body)
    async with gateway(engine) as running:
        answer = await running.post(CHAT)
    assert (answer.status, answer.error["message"]) == (status, message)
    assert answer.headers["content-type"].startswith("application/json") or body.startswith(b'{"error"')


async def test_models_are_told_without_asking_an_engine(engine: Engine) -> None:
    await engine.stop()
    async with gateway(engine, adapters=["legal"]) as running, running.client() as client:
        assert [model.id async for model in client.models.list()] == [MODEL, "legal"]
        assert (await client.models.retrieve("legal")).owned_by == "demo/helpdesk"
        missing = await running.get("/v1/models/gpt-5")
    assert (missing.status, missing.error["code"]) == (404, "model_not_found")


async def test_an_adapter_that_a_replica_is_only_being_given_is_asked_for_again(engine: Engine) -> None:
    engine.refuse = [replace(engine.manner, status=404, body=b'{"error": {"message": "not here"}}')] * 2
    async with gateway(engine, adapters=["legal"]) as running:
        assert (await running.post(CHAT | {"model": "legal"})).status == 200
        assert len(engine.seen) == 3
        engine.will(status=404, body=b'{"error": {"message": "not here"}}')
        assert (await running.post(CHAT | {"model": "unknown"})).status == 404
        assert len(engine.seen) == 4
        assert (await running.post(CHAT | {"model": "legal"})).error["message"] == "not here"


async def test_what_is_not_there_is_told_as_openai_does(engine: Engine) -> None:
    async with gateway(engine) as running:
        unknown, wrong = await running.get("/v1/images"), await running.get("/v1/chat/completions")
    assert (unknown.status, unknown.error["message"]) == (404, "There is no /v1/images: /docs shows what there is")
    assert (wrong.status, wrong.error["type"]) == (405, "invalid_request_error")


async def test_a_body_that_is_too_long_is_refused(engine: Engine) -> None:
    async with gateway(engine, maxBodyBytes=1000) as running:
        answer = await running.post(CHAT | {"user": "x" * 1000})
        assert (answer.status, answer.error["code"]) == (413, "request_too_large")

        async def chunked() -> object:
            for _ in range(20):
                yield b"x" * 100

        async with running.http.post(f"{running.url}/v1/chat/completions", data=chunked()) as response:
            assert response.status == 413
    assert not engine.seen


async def test_several_answers_to_one_request_stream_to_the_last(engine: Engine) -> None:
    body = STREAM | {"n": 3}
    async with gateway(engine) as running:
        answer = await running.post(body)
    assert answer.body == b"".join(events(body, engine.manner))


async def test_the_openapi_page_describes_what_is_passed_on(engine: Engine) -> None:
    more = {"auth": {"secretName": "keys"}, "sessions": {}, "promptTemplates": [{"name": "bank", "system": "You…"}]}
    async with gateway(engine, gateway=more) as running:
        page, schema = await running.get("/docs"), (await running.get("/openapi.json")).json
    assert page.status == 200
    chat = schema["paths"]["/v1/chat/completions"]["post"]
    assert [each["name"] for each in chat["parameters"]] == ["X-Prompt-Template", "X-Session-Id"]
    assert {"/v1/models", "/v1/completions", "/v1/embeddings"} < schema["paths"].keys()
    assert schema["security"] == [{"key": []}]


async def test_web_pages_of_named_origins_may_call(engine: Engine) -> None:
    cors = {"origins": ["https://chat.example.com"]}
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    async with gateway(engine, gateway={"cors": cors}) as running:
        for origin, status in (("https://chat.example.com", 200), ("https://evil.example.com", 400)):
            headers = asked | {"Origin": origin}
            async with running.http.options(f"{running.url}/v1/chat/completions", headers=headers) as response:
                assert response.status == status
        answer = await running.post(STREAM, Origin="https://chat.example.com")
    assert answer.headers["access-control-allow-origin"] == "https://chat.example.com"
    assert answer.body == b"".join(events(STREAM, Manner()))


async def test_health_needs_no_key(engine: Engine) -> None:
    async with gateway(engine, gateway={"auth": {"secretName": "keys"}}) as running:
        assert [(await running.get(path)).status for path in ("/healthz", "/readyz")] == [200, 200]
        async with aiohttp.ClientSession() as http, http.get(f"{running.url}/metrics") as response:
            assert response.status == 404
