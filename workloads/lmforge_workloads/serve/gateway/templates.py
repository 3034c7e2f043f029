"""Prompt templates, and code with a gap: pure functions from a request's fields to the fields that are sent on."""

from collections.abc import Mapping, Sequence

from lmforge_api.gateway import FillInMiddle, Gateway, PromptTemplate
from lmforge_workloads.serve.errors import BadRequest, Forbidden
from lmforge_workloads.serve.gateway.endpoints import Endpoint, Fields
from lmforge_workloads.serve.gateway.keys import Caller

SYSTEM_ROLES = frozenset({"system", "developer"})


def choose(gateway: Gateway, caller: Caller, asked: str | None, *, endpoint: Endpoint) -> PromptTemplate | None:
    """The template of a request: its key's, else the one that it asks for, else (for a chat) the default."""
    if caller.template is not None and asked not in (None, caller.template):
        raise Forbidden(f"API key {caller.id} always uses the prompt template {caller.template}: leave the header out")
    if not endpoint.generates:
        if asked is not None:
            raise BadRequest(f"Prompt templates are for chats and completions, not for {endpoint.scope}")
        return None
    name = caller.template or asked or (gateway.default_prompt_template if endpoint.is_chat else None)
    if name is None:
        return None
    named = {template.name: template for template in gateway.prompt_templates}
    if name not in named:
        known = ", ".join(named) or "none"
        raise BadRequest(f"There is no prompt template {name}: X-Prompt-Template can name {known}")
    return named[name]


def apply(fields: Fields, template: PromptTemplate, *, endpoint: Endpoint) -> Fields:
    """The request as the template wants it."""
    shaped = _chat(fields, template) if endpoint.is_chat else _completion(fields, template)
    overrides = {"temperature": template.temperature, "top_p": template.top_p, "stop": template.stop or None}
    shaped |= {name: value for name, value in overrides.items() if value is not None}
    return shaped if template.max_tokens is None else shaped | _at_most(fields, template.max_tokens)


def _chat(fields: Fields, template: PromptTemplate) -> Fields:
    messages = messages_of(fields)
    system = "\n\n".join(part for part in (template.system, template.style) if part)
    if system and not template.allow_system and any(message.get("role") in SYSTEM_ROLES for message in messages):
        raise BadRequest(
            f"The prompt template {template.name} says who the assistant is: leave system messages out",
            param="messages",
        )
    if template.prefix:
        messages = _prefixed(messages, template.prefix)
    return fields | {"messages": [{"role": "system", "content": system}, *messages] if system else messages}


def messages_of(fields: Fields) -> list[Fields]:
    """A chat's messages, once it is sure that they are objects in a list."""
    messages = fields.get("messages")
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        raise BadRequest("messages must be a list of objects with role and content", param="messages")
    return messages


def _prefixed(messages: Sequence[Fields], prefix: str) -> list[Fields]:
    """With the prefix in front of the newest user message."""
    for place in range(len(messages) - 1, -1, -1):
        message = messages[place]
        if message.get("role") == "user":
            content = message.get("content")
            changed = prefix + content if isinstance(content, str) else [_text(prefix), *_parts(content)]
            return [*messages[:place], message | {"content": changed}, *messages[place + 1 :]]
    return list(messages)


def _text(text: str) -> Mapping[str, str]:
    return {"type": "text", "text": text}


def _parts(content: object) -> list[object]:
    if not isinstance(content, list):
        raise BadRequest("content of a user message must be text or a list of parts", param="messages")
    return content


def _completion(fields: Fields, template: PromptTemplate) -> Fields:
    if template.system or template.style:
        raise BadRequest(f"The prompt template {template.name} has a role or style, which only chats can take")
    if not template.prefix:
        return dict(fields)
    prompt = fields.get("prompt")
    if isinstance(prompt, str):
        return fields | {"prompt": template.prefix + prompt}
    if isinstance(prompt, list) and all(isinstance(each, str) for each in prompt):
        return fields | {"prompt": [template.prefix + each for each in prompt]}
    raise BadRequest(f"The prompt template {template.name} has a prefix, so prompt must be text", param="prompt")


def _at_most(fields: Fields, limit: int) -> Fields:
    """The limit under the names that the request uses."""
    names = [name for name in ("max_tokens", "max_completion_tokens") if fields.get(name) is not None]
    for name in names:
        if not isinstance(fields[name], int):
            raise BadRequest(f"{name} must be an integer", param=name)
    return {name: min(limit, fields[name]) for name in names} or {"max_tokens": limit}


def filled_in(fields: Fields, tokens: FillInMiddle | None) -> Fields:
    """A completion with a suffix as a prompt in the model's own tokens for a gap; others stay as they are."""
    suffix = fields.get("suffix")
    if suffix is None or suffix == "":
        return {name: value for name, value in fields.items() if name != "suffix"}
    if tokens is None:
        raise BadRequest(
            "suffix: this service doesn't know how its model fills in the middle. If the model was trained for it, "
            "set spec.gateway.fillInMiddle to its tokens",
            param="suffix",
        )
    prompt = fields.get("prompt")
    if not isinstance(prompt, str) or not isinstance(suffix, str):
        raise BadRequest("With a suffix, prompt and suffix must both be text", param="prompt")
    before, after = tokens.prefix + prompt, tokens.suffix + suffix
    whole = (after + before if tokens.suffix_first else before + after) + tokens.middle
    return {name: value for name, value in fields.items() if name != "suffix"} | {"prompt": whole}
