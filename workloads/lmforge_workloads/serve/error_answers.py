"""Gives a FastAPI application OpenAI's way of saying errors."""

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from lmforge_workloads.serve.errors import ApiError, error_body

_TYPES = frozenset({"str", "int", "float", "bool", "dict"})


def install(app: FastAPI) -> None:
    """Ours, the framework's, and what pydantic finds in a body."""

    @app.exception_handler(ApiError)
    async def ours(_: Request, error: ApiError) -> Response:
        headers = {name.decode(): value.decode() for name, value in error.headers}
        return Response(error.body(), status_code=error.status, headers=headers, media_type="application/json")

    @app.exception_handler(HTTPException)
    async def theirs(request: Request, error: HTTPException) -> Response:
        told = {404: f"There is no {request.url.path}", 405: f"{request.url.path} doesn't take {request.method}"}
        message = f"{told.get(error.status_code, error.detail)}: /docs shows what there is"
        body = error_body(message, type_="invalid_request_error", code="not_found")
        headers = dict(error.headers or {})
        return Response(body, status_code=error.status_code, headers=headers, media_type="application/json")

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        message, param = first_problem(error.errors())
        body = error_body(message, type_="invalid_request_error", code="invalid_request", param=param)
        return Response(body, status_code=400, media_type="application/json")


def first_problem(problems: Sequence[Mapping[str, Any]]) -> tuple[str, str | None]:
    """A sentence for what pydantic found first, and the field that it is about."""
    found = problems[0]
    if found["type"] == "json_invalid":
        return f"The body is not JSON: {found['ctx']['error']}", None
    place = found["loc"][1:]  # after "body"; a union's members add their types
    field = ".".join(str(part) for part in place if part not in _TYPES and "[" not in str(part))
    if not field:
        return "The body must be a JSON object, sent with Content-Type: application/json", None
    return f"{field}: {found['msg']}", field
