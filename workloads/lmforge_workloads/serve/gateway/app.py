"""The FastAPI application: what is passed on goes straight to `Proxy`, what the gateway answers itself is here."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from lmforge_api.gateway_run import GatewayRun
from lmforge_workloads.serve import error_answers
from lmforge_workloads.serve.errors import NotFound
from lmforge_workloads.serve.gateway import openapi
from lmforge_workloads.serve.gateway.endpoints import PROXIED, Fields
from lmforge_workloads.serve.gateway.keys import Caller
from lmforge_workloads.serve.gateway.proxy import Proxy
from lmforge_workloads.serve.gateway.wiring import Gatehouse

_ANSWER_HEADERS = ["x-request-id", "retry-after"] + [
    f"x-ratelimit-{what}-{kind}" for what in ("limit", "remaining", "reset") for kind in ("requests", "tokens")
]


def create(house: Gatehouse) -> ASGIApp:
    """The application of a gateway whose parts stand."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with house.running():
            yield

    app = FastAPI(title=f"{house.run.name} ({house.run.model})", lifespan=lifespan, redoc_url=None)
    proxies = {endpoint.path: Proxy(endpoint, house.parts) for endpoint in PROXIED}
    for path, proxy in proxies.items():
        app.router.routes.append(Route(path, proxy, methods=["POST"]))  # so that it knows them, and refuses a GET
    _own_routes(app, house)
    error_answers.install(app)
    openapi.describe(app, house.run)
    return _cors(Front(app, proxies), house.run)


class Front:
    """Takes requests that are passed on past FastAPI's layers: every token of a stream would go through each of them.

    (Measured: an eighth of the CPU of a request, a fifteenth of a token's.)
    """

    def __init__(self, app: ASGIApp, proxies: Mapping[str, Proxy]) -> None:
        self._app = app
        self._proxies = proxies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        proxy = self._proxies.get(scope["path"]) if scope["type"] == "http" and scope["method"] == "POST" else None
        await (proxy or self._app)(scope, receive, send)


def _own_routes(app: FastAPI, house: Gatehouse) -> None:
    run, keys, known = house.run, house.parts.keys, house.parts.models

    @app.get("/v1/models", summary="The model and its adapters, as far as the key may use them")
    async def models(request: Request) -> JSONResponse:
        caller = _reader(keys.identify(request.headers.get("authorization")))
        return JSONResponse({"object": "list", "data": [_model(run, name) for name in known.for_key(caller.models)]})

    @app.get("/v1/models/{name:path}", summary="One of them")
    async def model(name: str, request: Request) -> JSONResponse:
        caller = _reader(keys.identify(request.headers.get("authorization")))
        if name not in known.for_key(caller.models):
            raise NotFound(f"There is no model {name}: see GET /v1/models", code="model_not_found", param="model")
        return JSONResponse(_model(run, name))

    @app.get("/healthz", summary="The process answers", include_in_schema=False)
    async def healthz() -> Response:
        return PlainTextResponse("ok\n")

    @app.get("/readyz", summary="New connections are welcome", include_in_schema=False)
    async def readyz() -> Response:
        """Also while no replica is ready: requests then wait here."""
        return PlainTextResponse("draining\n", status_code=503) if house.draining else PlainTextResponse("ok\n")


def _reader(caller: Caller) -> Caller:
    caller.check_scope("models")
    return caller


def _model(run: GatewayRun, name: str) -> Fields:
    """As OpenAI lists it. Told without asking an engine: that must not wake a service at zero."""
    return {"id": name, "object": "model", "created": 0, "owned_by": f"{run.namespace}/{run.name}"}


def _cors(app: ASGIApp, run: GatewayRun) -> ASGIApp:
    cors = run.gateway.cors
    if cors is None:
        return app
    return CORSMiddleware(
        app,
        allow_origins=cors.origins,
        allow_credentials=cors.credentials,
        allow_methods=["GET", "POST"],
        allow_headers=["*"],
        expose_headers=_ANSWER_HEADERS,
        max_age=cors.max_age_seconds,
    )
