"""What a body asks of the engine, and what is refused; with a model that takes letters for tokens."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from lmforge_workloads.serve.errors import BadRequest
from lmforge_workloads.serve.onnx.model import Model
from lmforge_workloads.serve.onnx.requests import Chat, Completion, asked

CONTEXT = 64


class Letters:
    """Tokens are letters; the template writes role and content."""

    context = CONTEXT
    vocabulary = 128
    search: Mapping[str, Any] = {"temperature": 0.5, "top_k": 50, "top_p": 0.9}

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def chat_prompt(self, messages: Sequence[Mapping[str, str]]) -> str:
        return "".join(f"{message['role']}:{message['content']}\n" for message in messages)


MODEL = cast(Model, Letters())
HELLO: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Hello"}]}


def chat(**more: Any) -> Any:
    return asked(Chat.model_validate(HELLO | more), MODEL)


def completion(**more: Any) -> Any:
    return asked(Completion.model_validate({"model": "m", "prompt": "Hello", **more}), MODEL)


def test_an_answer_may_be_as_long_as_the_context_has_room_unless_it_says_less() -> None:
    prompt = len("user:Hello\n")
    assert chat().max_tokens == CONTEXT - prompt
    assert chat(max_tokens=5).max_tokens == 5
    assert chat(max_tokens=5, max_completion_tokens=7).max_tokens == 7
    assert completion().max_tokens == 16
    assert chat(max_tokens=CONTEXT - prompt).reserve == CONTEXT


def test_how_tokens_are_chosen() -> None:
    assert chat(temperature=0).options == {"do_sample": False}
    assert chat(temperature=0, max_tokens=5, ignore_eos=True).options == {"do_sample": False, "min_length": 11 + 5}
    assert chat().options == {"do_sample": True, "temperature": 0.5, "top_p": 0.9, "top_k": 50}
    assert chat(temperature=1, top_p=0.5, top_k=-1, seed=-1).options == {
        "do_sample": True, "temperature": 1.0, "top_p": 0.5, "top_k": 0, "random_seed": 2**31 - 1,
    }  # fmt: skip


def test_messages_may_come_in_parts_and_prompts_as_tokens() -> None:
    parts = [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}]
    assert chat(messages=[{"role": "developer", "content": parts}]).prompt == list(b"system:Hello\n")
    assert completion(prompt=[72, 105]).prompt == [72, 105]
    assert completion(prompt=["Hi"]).prompt == list(b"Hi")


def test_stops_are_a_text_or_several() -> None:
    assert chat(stop="x").stops == ["x"]
    assert chat(stop=["x", "y"]).stops == ["x", "y"]
    assert chat(stop=None).stops == []


@pytest.mark.parametrize("nothing", [{"n": 1, "tools": [], "logprobs": False, "presence_penalty": 0, "echo": None}])
def test_what_asks_for_nothing_is_let_through(nothing: dict[str, Any]) -> None:
    chat(**nothing)


@pytest.mark.parametrize(
    ("asks", "field", "sentence"),
    [
        ({"n": 2}, "n", "can't do n: leave it out"),
        ({"tools": [{"type": "function"}]}, "tools", "can't do tools"),
        ({"logprobs": True}, "logprobs", "can't do logprobs"),
        ({"response_format": {"type": "json_object"}}, "response_format", "can't do response_format"),
        ({"max_tokens": CONTEXT}, "messages", "context is 64 tokens, but the prompt has 11 and the answer may have 64"),
        ({"messages": [{"role": "user", "content": "x" * 99}]}, "messages", "the prompt has 105"),
    ],
    ids=str,
)
def test_what_cannot_be_done_is_refused_with_its_name(asks: dict[str, Any], field: str, sentence: str) -> None:
    with pytest.raises(BadRequest, match=sentence) as refused:
        chat(**asks)
    assert refused.value.param == field


@pytest.mark.parametrize(
    ("prompt", "sentence"),
    [
        ("", "The prompt is empty"),
        ([], "The prompt is empty"),
        ([128], "prompt has token 128, but the model's are 0 to 127"),
        ([-1], "prompt has token -1"),
        (["a", "b"], "takes one prompt a request"),
        ("\ud800", "can't be turned into tokens"),
    ],
)
def test_prompts_that_are_none_are_refused(prompt: object, sentence: str) -> None:
    with pytest.raises((BadRequest, ValidationError), match=f"{sentence}|valid string"):
        completion(prompt=prompt)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-10, 2**40) | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=8,
)
FIELDS = sorted({*Chat.model_fields, *Completion.model_fields, "n", "tools", "logprobs", "stream"})


@given(st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=6), st.booleans())
def test_any_body_is_either_refused_as_bad_or_fits_the_engine(fields: dict[str, Any], is_chat: bool) -> None:
    kind, usual = (Chat, HELLO) if is_chat else (Completion, {"model": "m", "prompt": "Hello"})
    try:
        ask = asked(kind.model_validate(usual | fields), MODEL)
    except (ValidationError, BadRequest):
        return
    assert ask.prompt
    assert 0 < ask.max_tokens <= ask.reserve <= CONTEXT
    assert all(ask.stops)
    if ask.options["do_sample"]:
        assert 0 < ask.options["temperature"] <= 2
        assert 0 < ask.options["top_p"] <= 1
        assert 0 <= ask.options.get("random_seed", 0) < 2**31
