"""What can be wrong with a request, each with its status and OpenAI's words for it.

    ApiError             500
    ├── BadRequest       400   the body or a header asks for what can't be done
    ├── Unauthenticated  401   no key, an unknown one, an expired one
    ├── Forbidden        403   the key may not do this
    ├── NotFound         404   no such model or path
    ├── Conflict         409   the session is busy with another request
    ├── TooLarge         413   the body is too long
    ├── RateLimited      429   the key has used up its minute
    ├── BadGateway       502   the engine's answer is broken
    ├── Unavailable      503   no replica came up in time
    └── UpstreamTimeout  504   the engine is silent

A message says what was wrong, and what to do.
"""

from typing import ClassVar

import orjson

Headers = list[tuple[bytes, bytes]]


class ApiError(Exception):
    """Root of the tree; itself a bug of ours."""

    status: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"
    code: str = "internal_error"

    def __init__(
        self, message: str, *, code: str | None = None, param: str | None = None, headers: Headers | None = None
    ) -> None:
        super().__init__(message)
        self.code = code or self.code
        self.param = param
        self.headers = headers or []

    def body(self) -> bytes:
        """As OpenAI's clients read it."""
        return error_body(str(self), type_=self.type, code=self.code, param=self.param)


class BadRequest(ApiError):
    status = 400
    type = "invalid_request_error"
    code = "invalid_request"


class Unauthenticated(ApiError):
    status = 401
    type = "invalid_request_error"
    code = "invalid_api_key"

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message, code=code, headers=[(b"www-authenticate", b"Bearer")])


class Forbidden(ApiError):
    status = 403
    type = "invalid_request_error"
    code = "insufficient_permissions"


class NotFound(ApiError):
    status = 404
    type = "invalid_request_error"
    code = "not_found"


class Conflict(ApiError):
    status = 409
    type = "invalid_request_error"
    code = "session_busy"


class TooLarge(ApiError):
    status = 413
    type = "invalid_request_error"
    code = "request_too_large"


class RateLimited(ApiError):
    status = 429
    type = "rate_limit_error"
    code = "rate_limit_exceeded"


class BadGateway(ApiError):
    status = 502
    code = "upstream_error"


class Unavailable(ApiError):
    status = 503
    code = "no_replica_ready"


class UpstreamTimeout(ApiError):
    status = 504
    code = "upstream_timeout"


def error_body(message: str, *, type_: str, code: str | None = None, param: str | None = None) -> bytes:
    """`{"error": …}`."""
    return orjson.dumps({"error": {"message": message, "type": type_, "param": param, "code": code}})


def error_event(error: ApiError) -> bytes:
    """What ends a stream that can't go on: clients raise it, where a mere end would look like a whole answer."""
    return b"data: " + error.body() + b"\n\n"
