"""What of a request is read, and what is sent on. Pure.

A body goes through byte for byte unless something has to be known of it or changed in it. `must_parse` says when:

- a prompt template, a session or a suffix changes it; a key's models or tokens a minute need what it says;
- a key's stream doesn't ask for its usage. Usage is accounted by key, so it has to be exact: the gateway then asks for
  it (stream_options.include_usage) and takes that last event out of the stream again.

Callers without a key pay nothing for accounting: what engines tell unasked is counted, their own metrics have the rest.
Patterns that look for a name in bytes may also find one deeper in the body; then it is parsed, and that tells.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import orjson

from lmforge_api.gateway import Gateway, PromptTemplate
from lmforge_workloads.serve.errors import BadRequest
from lmforge_workloads.serve.gateway import templates
from lmforge_workloads.serve.gateway.conversation import with_history
from lmforge_workloads.serve.gateway.endpoints import COMPLETIONS, Endpoint, Fields
from lmforge_workloads.serve.gateway.keys import Caller

_STREAMS = re.compile(rb'"stream"\s*:\s*true')
_ASKS_USAGE = re.compile(rb'"include_usage"\s*:\s*true')
_SEVERAL = re.compile(rb'"n"\s*:\s*(?!1\b)\d|"prompt"\s*:\s*\[|"best_of"\s*:')
_BYTES_A_TOKEN = 4  # of English text, roughly: only reservations and cut streams are estimated by it
_USUAL_ANSWER = 256  # tokens that are reserved for a request that names no maximum


@dataclass(frozen=True, slots=True)
class Prepared:
    """What is sent on, and what is known of it."""

    body: bytes
    fields: Fields | None = None
    choices: int = 1
    strip_usage: bool = False

    @property
    def prompt_estimate(self) -> int:
        """Tokens of the prompt, roughly."""
        return len(self.body) // _BYTES_A_TOKEN

    @property
    def reserve(self) -> int:
        """Tokens that it may take."""
        fields = self.fields or {}
        asked = fields.get("max_completion_tokens") or fields.get("max_tokens")
        if "input" in fields:  # embeddings
            return self.prompt_estimate
        return self.prompt_estimate + self.choices * (asked if isinstance(asked, int) and asked > 0 else _USUAL_ANSWER)


def prepare(
    body: bytes,
    *,
    endpoint: Endpoint,
    caller: Caller,
    gateway: Gateway,
    template: PromptTemplate | None = None,
    in_session: bool = False,
) -> Prepared:
    """The request as it is sent on, but for a session's history."""
    if not must_parse(body, endpoint=endpoint, caller=caller, template=template, in_session=in_session):
        return Prepared(body)
    fields = _parsed(body)
    caller.check_model(fields.get("model"))
    if template is not None:
        fields = templates.apply(fields, template, endpoint=endpoint)
    if endpoint is COMPLETIONS:
        fields = templates.filled_in(fields, gateway.fill_in_middle)
    choices = _choices(fields)
    if in_session:
        _check_session(fields, choices)
    strip_usage = caller.has_key and endpoint.generates and fields.get("stream") is True and not _asks_usage(fields)
    if strip_usage:
        fields = fields | {"stream_options": (fields.get("stream_options") or {}) | {"include_usage": True}}
    return Prepared(orjson.dumps(fields), fields, choices, strip_usage)


def must_parse(
    body: bytes, *, endpoint: Endpoint, caller: Caller, template: PromptTemplate | None, in_session: bool
) -> bool:
    """Whether the body has to be read; see above."""
    if template is not None or in_session or caller.models or caller.limits.tokens_per_minute is not None:
        return True
    if not endpoint.generates:
        return False
    if _SEVERAL.search(body) or (endpoint is COMPLETIONS and b'"suffix"' in body):
        return True
    return caller.has_key and bool(_STREAMS.search(body)) and not _ASKS_USAGE.search(body)


def _parsed(body: bytes) -> Fields:
    try:
        fields = orjson.loads(body)
    except ValueError as error:
        raise BadRequest(f"The body is not JSON: {error}") from None
    if not isinstance(fields, dict):
        raise BadRequest("The body must be a JSON object")
    return fields


def _asks_usage(fields: Fields) -> bool:
    options = fields.get("stream_options")
    if options is not None and not isinstance(options, dict):
        raise BadRequest("stream_options must be an object", param="stream_options")
    return bool(options and options.get("include_usage"))


def _choices(fields: Fields) -> int:
    """Answers that come for it: n for each prompt."""
    n, prompt = fields.get("n"), fields.get("prompt")
    prompts = len(prompt) if isinstance(prompt, list) and prompt and not isinstance(prompt[0], int) else 1
    return prompts * (n if isinstance(n, int) and n > 0 else 1)


def _check_session(fields: Fields, choices: int) -> None:
    templates.messages_of(fields)
    if choices != 1:
        raise BadRequest("A session remembers one answer a turn: leave n out", param="n")


def continued(prepared: Prepared, turns: Sequence[bytes]) -> Prepared:
    """With a session's turns before it."""
    assert prepared.fields is not None
    fields = prepared.fields | {"messages": with_history(prepared.fields["messages"], turns)}
    return replace(prepared, body=orjson.dumps(fields), fields=fields)
