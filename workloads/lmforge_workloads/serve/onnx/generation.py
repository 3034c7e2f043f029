"""One answer being made by onnxruntime-genai, a step at a time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from lmforge_workloads.serve.onnx.model import Model, tokens_array
from lmforge_workloads.serve.onnx.stops import StopText

Finish = Literal["stop", "length"]

PROMPT_PIECE = 64
"""Tokens of a prompt that are read in one step.

The others' answers go on in between; the interpreter's lock, which onnxruntime-genai keeps, is free again soon; and
logits are there for these only (a vocabulary of 50,000 takes 200 kB a token).
"""


@dataclass(frozen=True, slots=True)
class Piece:
    """What one token has brought: text that can be shown (often the token's, sometimes none), and whether it's over."""

    text: str
    finish: Finish | None = None


class Generation(Protocol):
    """An answer being made."""

    def step(self) -> Piece | None:
        """Reads some of the prompt (then None), or makes a token. Not to be called after the last piece."""


@dataclass(frozen=True, slots=True)
class Ask:
    """A request as the engine sees it."""

    prompt: Sequence[int]
    max_tokens: int
    stops: Sequence[str] = ()
    options: Mapping[str, Any] = field(default_factory=lambda: {"do_sample": False})
    """How tokens are chosen: search options of onnxruntime-genai. By default the likeliest."""

    @property
    def reserve(self) -> int:
        """Tokens for which there must be room in the KV cache."""
        return len(self.prompt) + self.max_tokens


class GenaiGeneration:
    """The real one."""

    def __init__(self, model: Model, ask: Ask) -> None:
        self._model = model
        self._ask = ask
        self._generator = model.generator(tokens=ask.reserve, options=ask.options)
        self._stream = model.tokenizer.create_stream()  # keeps the bytes of a character that isn't whole
        self._stops = StopText(ask.stops)
        self._read = 0
        self._made = 0

    def step(self) -> Piece | None:
        """See `Generation`."""
        if self._read < len(self._ask.prompt):
            piece = self._ask.prompt[self._read : self._read + PROMPT_PIECE]
            self._generator.append_tokens(tokens_array(piece))
            self._read += len(piece)
            return None
        self._generator.generate_next_token()
        self._made += 1
        return self._piece(int(self._generator.get_next_tokens()[0]))

    def _piece(self, token: int) -> Piece:
        if token in self._model.ends:
            return Piece(self._stops.rest(), "stop")
        text = self._stops.feed(self._stream.decode(token))
        if self._stops.found:
            return Piece(text, "stop")
        if self._made == self._ask.max_tokens:
            return Piece(text + self._stops.rest(), "length")
        return Piece(text)
