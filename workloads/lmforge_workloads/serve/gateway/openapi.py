"""The OpenAPI page's words for what is passed on: engines check bodies, so only what everyone needs is described."""

from fastapi import FastAPI

from lmforge_api.gateway_run import GatewayRun
from lmforge_workloads.serve.gateway.endpoints import CHAT, COMPLETIONS, EMBEDDINGS, Endpoint, Fields

_SUMMARIES = {
    CHAT: "Answer a conversation",
    COMPLETIONS: "Go on with a text, or fill in code between prompt and suffix",
    EMBEDDINGS: "Turn text into vectors",
}
_FIELDS: dict[Endpoint, Fields] = {
    CHAT: {
        "messages": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["role"],
                "properties": {
                    "role": {"type": "string", "enum": ["system", "user", "assistant", "tool"]},
                    "content": {},
                },
            },
        }
    },
    COMPLETIONS: {"prompt": {"type": "string"}, "suffix": {"type": "string", "description": "Code after the gap."}},
    EMBEDDINGS: {"input": {"description": "A text, or a list of them."}},
}
_GENERATING: Fields = {
    "stream": {"type": "boolean", "default": False},
    "max_tokens": {"type": "integer", "minimum": 1},
    "temperature": {"type": "number", "minimum": 0},
    "top_p": {"type": "number"},
    "stop": {"description": "A text, or a list of them, that ends the answer."},
}
_ERROR: Fields = {
    "type": "object",
    "properties": {
        "error": {
            "type": "object",
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": "string", "nullable": True},
                "code": {"type": "string", "nullable": True},
            },
        }
    },
}
_STATUSES = {
    "400": "The request can't be done as it is",
    "401": "No API key, or one that is not known",
    "403": "The key may not do this",
    "429": "The key's minute is used up: see Retry-After",
    "502": "The engine broke off",
    "503": "No replica became ready in time",
    "504": "The engine fell silent",
}


def describe(app: FastAPI, run: GatewayRun) -> None:
    """Adds the endpoints that are passed on to the application's own description."""
    own = app.openapi

    def whole() -> Fields:
        if app.openapi_schema is None:
            schema = own()
            for endpoint in _SUMMARIES:
                schema["paths"][endpoint.path] = {"post": operation(endpoint, run)}
            if run.gateway.auth is not None:
                schema.setdefault("components", {})["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
                schema["security"] = [{"key": []}]
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = whole  # type: ignore[method-assign]  # FastAPI's documented way to extend it


def operation(endpoint: Endpoint, run: GatewayRun) -> Fields:
    """One endpoint as OpenAPI says it."""
    error = {"content": {"application/json": {"schema": _ERROR}}}
    return {
        "summary": _SUMMARIES[endpoint],
        "parameters": [_header(name, text) for name, text in _headers(endpoint, run).items()],
        "requestBody": {"required": True, "content": {"application/json": {"schema": _body(endpoint, run)}}},
        "responses": {"200": {"description": "As OpenAI's API answers; with stream: true as server-sent events"}}
        | {status: {"description": text} | error for status, text in _STATUSES.items()},
    }


def _body(endpoint: Endpoint, run: GatewayRun) -> Fields:
    model = {"type": "string", "description": "The model, or an adapter: see GET /v1/models", "examples": [run.model]}
    fields = {"model": model} | _FIELDS[endpoint] | (_GENERATING if endpoint.generates else {})
    return {"type": "object", "required": ["model"], "properties": fields, "additionalProperties": True}


def _headers(endpoint: Endpoint, run: GatewayRun) -> dict[str, str]:
    found = {}
    if endpoint.generates and run.gateway.prompt_templates:
        names = ", ".join(template.name for template in run.gateway.prompt_templates)
        found["X-Prompt-Template"] = f"The assistant that answers: {names}."
    if endpoint.is_chat and run.gateway.sessions is not None:
        found["X-Session-Id"] = "Goes on with the conversation of this name; send only what is new."
    return found


def _header(name: str, text: str) -> Fields:
    return {"name": name, "in": "header", "required": False, "description": text, "schema": {"type": "string"}}
