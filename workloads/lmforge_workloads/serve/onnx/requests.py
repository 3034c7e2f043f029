"""What a client may ask for. What the engine can't do is refused, unless it asks for nothing (n: 1, tools: [])."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from lmforge_workloads.serve.errors import BadRequest
from lmforge_workloads.serve.onnx.generation import Ask
from lmforge_workloads.serve.onnx.model import Model

_USUAL_COMPLETION = 16  # tokens of a completion that names no maximum, as OpenAI has it
_GREEDY_BELOW = 0.01
_SEEDS = 2**31
_CANT: Mapping[str, tuple[object, ...]] = {
    "n": (1,),
    "best_of": (1,),
    "logprobs": (False, 0),
    "top_logprobs": (0,),
    "tools": ([],),
    "functions": ([],),
    "response_format": ({"type": "text"},),
    "logit_bias": ({},),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "echo": (False,),
    "suffix": ("",),
}
"""What this engine can't do, with the values by which nothing is asked; null is one everywhere."""

Stop = Annotated[str, Field(min_length=1, max_length=1000)]


class _Body(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore")


class StreamOptions(_Body):
    """Of a stream."""

    include_usage: bool | None = None


class Generate(_Body):
    """What both endpoints take."""

    model: str
    max_tokens: int | None = Field(None, ge=1)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    top_k: int | None = Field(None, ge=-1)
    seed: int | None = None
    stop: Stop | Annotated[list[Stop], Field(max_length=16)] | None = None
    ignore_eos: bool | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    @model_validator(mode="before")
    @classmethod
    def _only_what_can_be_done(cls, fields: object) -> object:
        if isinstance(fields, dict):
            for name, nothing in _CANT.items():
                if fields.get(name) is not None and fields[name] not in nothing:
                    raise BadRequest(f"The engine onnxruntime can't do {name}: leave it out", param=name)
        return fields

    @property
    def include_usage(self) -> bool:
        return self.stream_options is not None and bool(self.stream_options.include_usage)

    @property
    def stops(self) -> list[str]:
        return [self.stop] if isinstance(self.stop, str) else self.stop or []

    @property
    def most(self) -> int | None:
        """Tokens that the answer may have, where the request says so."""
        return self.max_tokens

    @property
    def subject(self) -> str:
        """The field that holds the prompt."""
        raise NotImplementedError

    def tokens(self, model: Model) -> list[int]:
        """The prompt's."""
        raise NotImplementedError


class TextPart(_Body):
    """A part of a message."""

    type: Literal["text"]
    text: str


class Message(_Body):
    """One turn."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[TextPart]

    def written(self) -> dict[str, str]:
        """As chat templates read it."""
        text = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        return {"role": "system" if self.role == "developer" else self.role, "content": text}


class Chat(Generate):
    """POST /v1/chat/completions"""

    messages: list[Message] = Field(min_length=1)
    max_completion_tokens: int | None = Field(None, ge=1)

    @property
    def most(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens

    @property
    def subject(self) -> str:
        return "messages"

    def tokens(self, model: Model) -> list[int]:
        return model.encode(model.chat_prompt([message.written() for message in self.messages]))


class Completion(Generate):
    """POST /v1/completions"""

    prompt: str | list[int] | list[str]

    @property
    def most(self) -> int | None:
        return self.max_tokens or _USUAL_COMPLETION

    @property
    def subject(self) -> str:
        return "prompt"

    def tokens(self, model: Model) -> list[int]:
        prompt: Any = self.prompt
        if isinstance(prompt, list) and prompt and isinstance(prompt[0], str):
            if len(prompt) > 1:
                raise BadRequest("The engine onnxruntime takes one prompt a request: send the others by themselves",
                                 param="prompt")  # fmt: skip
            prompt = prompt[0]
        if isinstance(prompt, str):
            return model.encode(prompt)
        size = model.vocabulary
        if strange := next((token for token in prompt if not 0 <= token < size), None):
            raise BadRequest(f"prompt has token {strange}, but the model's are 0 to {size - 1}", param="prompt")
        return list(prompt)


def asked(body: Generate, model: Model) -> Ask:
    """What the engine has to do. Raises BadRequest where it doesn't fit the model."""
    prompt = _tokens(body, model)
    room = model.context - len(prompt)
    if not prompt:
        raise BadRequest("The prompt is empty: send some text", param=body.subject)
    if room < (body.most or 1):
        raise BadRequest(
            f"The model's context is {model.context} tokens, but the prompt has {len(prompt)} and the answer may have "
            f"{body.most or 1}: shorten the prompt, or ask for less",
            code="context_length_exceeded",
            param=body.subject,
        )
    most = body.most or room
    options = _search(body, model.search)
    if body.ignore_eos:
        options |= {"min_length": len(prompt) + most}
    return Ask(prompt, most, body.stops, options)


def _tokens(body: Generate, model: Model) -> list[int]:
    """onnxruntime-genai refuses broken Unicode, and what the chat template doesn't know."""
    try:
        return body.tokens(model)
    except (RuntimeError, UnicodeError) as error:
        raise BadRequest(f"This can't be turned into tokens: {error}", param=body.subject) from None


def _search(body: Generate, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """How tokens are chosen, in onnxruntime-genai's words."""
    temperature = defaults.get("temperature", 1.0) if body.temperature is None else body.temperature
    if temperature < _GREEDY_BELOW:
        return {"do_sample": False}
    return {
        "do_sample": True,
        "temperature": float(temperature),
        "top_p": float(defaults.get("top_p", 1.0) if body.top_p is None else body.top_p),
        "top_k": max(0, int(defaults.get("top_k", 0) if body.top_k is None else body.top_k)),
        **({} if body.seed is None else {"random_seed": body.seed % _SEEDS}),
    }
