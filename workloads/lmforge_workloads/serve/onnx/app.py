"""The FastAPI application: OpenAI's endpoints, probes and metrics."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import aclosing
from dataclasses import dataclass
from typing import TypeVar

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from lmforge_workloads.serve import error_answers
from lmforge_workloads.serve.errors import ApiError, NotFound, Unavailable, error_event
from lmforge_workloads.serve.onnx.answers import Reply
from lmforge_workloads.serve.onnx.model import Model
from lmforge_workloads.serve.onnx.requests import Chat, Completion, Generate, asked
from lmforge_workloads.serve.onnx.scheduler import Job, Scheduler

T = TypeVar("T")

CLIENT_GONE = Response(status_code=499)  # nobody reads it


@dataclass
class Engine:
    """What requests need."""

    name: str
    """Of the model, in requests."""
    model: Model
    scheduler: Scheduler
    draining: bool = False


def create(engine: Engine) -> FastAPI:
    """The application of an engine whose model is loaded."""
    app = FastAPI(title=f"{engine.name} on onnxruntime", redoc_url=None)
    error_answers.install(app)
    _probes(app, engine)

    @app.post("/v1/chat/completions", summary="Answer a conversation")
    async def chat(body: Chat, request: Request) -> Response:
        return await _answer(engine, body, request)

    @app.post("/v1/completions", summary="Go on with a text")
    async def completions(body: Completion, request: Request) -> Response:
        return await _answer(engine, body, request)

    @app.get("/v1/models", summary="The model")
    async def models() -> JSONResponse:
        model = {"id": engine.name, "object": "model", "created": 0, "owned_by": "lmforge"}
        return JSONResponse({"object": "list", "data": [{**model, "max_model_len": engine.model.context}]})

    return app


def _probes(app: FastAPI, engine: Engine) -> None:
    async def health() -> Response:
        """503 once nothing new is taken, or nothing can be generated any more."""
        well = engine.scheduler.alive and not engine.draining
        return PlainTextResponse("ok\n" if well else "not serving\n", status_code=200 if well else 503)

    for path in ("/health", "/ping"):  # SageMaker asks for the latter
        app.get(path, summary="Requests are welcome", response_model=None)(health)

    @app.get("/metrics", include_in_schema=False)
    async def metrics() -> Response:
        return Response(generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})


async def _answer(engine: Engine, body: Generate, request: Request) -> Response:
    if engine.draining:
        raise Unavailable("This replica finishes its last requests: ask again", code="draining")
    if body.model != engine.name:
        raise NotFound(f"There is no model {body.model}: write {engine.name}", code="model_not_found", param="model")
    ask = asked(body, engine.model)
    reply = Reply(engine.name, isinstance(body, Chat), len(ask.prompt), body.include_usage)
    job = engine.scheduler.submit(ask)
    if body.stream:
        return StreamingResponse(_stream(job, reply), media_type="text/event-stream")
    answer = await _while_client_stays(request, _whole(job, reply))
    return CLIENT_GONE if answer is None else Response(answer, media_type="application/json")


async def _whole(job: Job, reply: Reply) -> bytes:
    async with aclosing(job.pieces()) as pieces:
        found = [piece async for piece in pieces]
    finish = found[-1].finish
    assert finish is not None, "an answer ends with its reason"
    return reply.whole("".join(piece.text for piece in found), finish, tokens=len(found))


async def _stream(job: Job, reply: Reply) -> AsyncIterator[bytes]:
    tokens, events = 0, reply.opening()
    try:
        async with aclosing(job.pieces()) as pieces:
            async for piece in pieces:
                tokens += 1
                if events := events + reply.piece(piece.text, piece.finish):
                    yield events
                events = b""
        yield reply.closing(tokens=tokens)
    except ApiError as error:
        yield error_event(error)


async def _while_client_stays(request: Request, work: Awaitable[T]) -> T | None:
    """What the work gives; or None when the client goes before, and the work is given up."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else None
    finally:
        task.cancel()
        gone.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
