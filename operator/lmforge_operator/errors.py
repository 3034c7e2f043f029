"""Everything that can go wrong in the operator, and what each means for trying again.

OperatorError
├── SettingsError          the operator's own configuration is wrong: it stops at once and says why
├── LeadershipLost         another replica leads, or may soon: nothing is written any more
├── UserError              the object asks for something impossible: no retry until it or an input changes
└── ApiError               the API server refused or did not answer
    ├── NotFound           404: the object is gone
    ├── Conflict           409: somebody else was faster; look again
    ├── Gone               410: the resource version is too old; list again
    ├── Forbidden          401, 403: the operator's RBAC lacks a verb, or a quota is used up
    ├── Invalid            400, 413, 422: the API server's validation refused the manifest; retrying can't help
    └── Transient          429, 5xx, time-outs, broken connections: backoff, then again
"""

from collections.abc import Mapping
from typing import Any


class OperatorError(Exception):
    """The base of the tree. Its text is a sentence that a person can act on."""


class SettingsError(OperatorError):
    """The settings file is wrong."""


class LeadershipLost(OperatorError):
    """This replica must not write."""


class UserError(OperatorError):
    """The spec, or what it refers to, can't work as it is.

    `reason` is the CamelCase word that goes into a condition and an Event.
    """

    def __init__(self, message: str, *, reason: str = "InvalidSpec") -> None:
        super().__init__(message)
        self.reason = reason


class ApiError(OperatorError):
    """The API server's answer: HTTP status, Kubernetes reason, its message, and the fields that it names."""

    def __init__(
        self,
        message: str,
        *,
        status: int = 0,
        reason: str = "",
        retry_after: float | None = None,
        fields: tuple[str, ...] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.reason = reason
        self.retry_after = retry_after
        self.fields = fields


class NotFound(ApiError):
    """The object, its namespace or its kind does not exist."""


class Conflict(ApiError):
    """The object changed in between, or exists already."""


class Gone(ApiError):
    """The resource version can't be watched from any more."""


class Forbidden(ApiError):
    """Not allowed."""


class Invalid(ApiError):
    """The manifest was refused."""


class Transient(ApiError):
    """Passes by itself."""


_BY_STATUS: dict[int, type[ApiError]] = {
    400: Invalid,
    401: Forbidden,
    403: Forbidden,
    404: NotFound,
    408: Transient,
    409: Conflict,
    410: Gone,
    413: Invalid,
    422: Invalid,
    429: Transient,
}


def from_status(code: int, body: Mapping[str, Any], *, request: str) -> ApiError:
    """The error for a `v1.Status` body; `request` (verb and path) goes into the message."""
    kind = _BY_STATUS.get(code, Transient if code >= 500 else ApiError)
    details = body.get("details") or {}
    return kind(
        f"{request}: {body.get('message') or f'HTTP {code}'}",
        status=code,
        reason=body.get("reason") or "",
        retry_after=details.get("retryAfterSeconds"),
        fields=tuple(cause.get("field", "") for cause in details.get("causes") or ()),
    )
