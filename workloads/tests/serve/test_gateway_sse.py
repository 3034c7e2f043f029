"""What a stream tells is the same however its bytes are cut."""

import json
from itertools import pairwise

import pytest
from engine_stub import Manner, events
from gateways import STREAM
from hypothesis import given
from hypothesis import strategies as st

from lmforge_workloads.serve.gateway.conversation import StreamedAnswer
from lmforge_workloads.serve.gateway.sse import EventSplitter, StreamMeter, Usage, is_cut, model_in, usage_in

TRAPS = ["\n\n", "data: [DONE]", '"finish_reason":"stop"', '"usage":{"prompt_tokens":1}']
WORDS = st.lists(st.text(max_size=8) | st.sampled_from(TRAPS), max_size=6)
MANNERS = st.builds(Manner, words=WORDS, finish=st.sampled_from(["stop", "length", "abort", None]), done=st.booleans())
CUTS = st.lists(st.integers(0, 10_000), max_size=12)
LINE_ENDS = st.sampled_from([b"\n", b"\r\n"])
COUNTED = STREAM | {"stream_options": {"include_usage": True}}


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[start:end] for start, end in pairwise(places)]


def run(chunks: list[bytes], **options: object) -> tuple[bytes, StreamMeter, StreamedAnswer, bytes]:
    splitter, meter, answer, passed = EventSplitter(), StreamMeter(**options), StreamedAnswer(), b""  # type: ignore[arg-type]
    for chunk in chunks:
        if block := splitter.feed(chunk):
            answer.see(block)
            passed += meter.see(block)
    return passed, meter, answer, splitter.rest


@given(manner=MANNERS, cuts=CUTS, end=LINE_ENDS, tail=st.sampled_from([b"", b'data: {"x', b"data: [DONE]\n"]))
def test_any_split_gives_the_same_bytes_and_accounts(manner: Manner, cuts: list[int], end: bytes, tail: bytes) -> None:
    data = b"".join(events(COUNTED, manner)).replace(b"\n", end) + tail
    passed, meter, answer, rest = run(pieces(data, cuts))
    whole_passed, whole_meter, whole_answer, _ = run([data])
    assert passed + meter.done + rest == data
    assert passed == whole_passed
    assert meter.usage == whole_meter.usage == Usage(5, len(manner.words))
    assert meter.is_whole == whole_meter.is_whole == (manner.finish in ("stop", "length"))
    assert meter.events == whole_meter.events
    assert bool(meter.done) == manner.done
    assert answer.message() == whole_answer.message()
    assert answer.message()["content"] == "".join(manner.words)


@given(manner=MANNERS, cuts=CUTS)
def test_usage_that_nobody_asked_for_is_taken_out_again(manner: Manner, cuts: list[int]) -> None:
    data = b"".join(events(COUNTED, manner))
    passed, meter, _, _ = run(pieces(data, cuts), strip_usage=True)
    assert passed + meter.done == b"".join(events(STREAM, manner))
    assert meter.usage == Usage(5, len(manner.words))


@given(data=st.lists(st.sampled_from([b"\n", b"\r", b"\r\n", b"data: x", b"\n\n", b":"])).map(b"".join), cuts=CUTS)
def test_no_byte_is_lost_or_doubled_whatever_comes(data: bytes, cuts: list[int]) -> None:
    splitter = EventSplitter()
    passed = [splitter.feed(chunk) for chunk in pieces(data, cuts)]
    assert b"".join(passed) + splitter.rest == data
    assert all(block.endswith((b"\n\n", b"\n\r\n")) for block in passed if block)


TOOL_EVENTS = [
    {"role": "assistant", "content": None},
    {"tool_calls": [{"index": 0, "id": "c1", "type": "function", "function": {"name": "rate", "arguments": ""}}]},
    {"tool_calls": [{"index": 0, "function": {"arguments": '{"of":'}}]},
    {"tool_calls": [{"index": 1, "id": "c2", "type": "function", "function": {"name": "time", "arguments": "{}"}}]},
    {"tool_calls": [{"index": 0, "function": {"arguments": ' "EUR"}'}}]},
]


def test_calls_of_tools_are_put_together_from_their_parts() -> None:
    answer = StreamedAnswer()
    for delta in TOOL_EVENTS:
        answer.see(f"data: {json.dumps({'choices': [{'index': 0, 'delta': delta}]})}\n\n".encode())
    assert answer.message() == {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "rate", "arguments": '{"of": "EUR"}'}},
            {"id": "c2", "type": "function", "function": {"name": "time", "arguments": "{}"}},
        ],
    }


USAGES = [
    ("an answer's", b'{"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4}}', Usage(3, 4)),
    ("embeddings'", b'{"data": [], "usage" : {"prompt_tokens": 3, "total_tokens": 3}}', Usage(3, 0)),
    ("none yet", b'{"usage": null}', None),
    ("text that looks like it", json.dumps({"content": '"usage": {"prompt_tokens": 1}'}).encode(), None),
    ("details inside", b'{"usage":{"prompt_tokens":1,"completion_tokens":2,"details":{"x":1}}}', Usage(1, 2)),
    ("half of it", b'{"usage": {"prompt_tok', None),
    ("numbers as text", b'{"usage": {"prompt_tokens": "3"}}', None),
]  # fmt: skip


@pytest.mark.parametrize(("data", "usage"), [row[1:] for row in USAGES], ids=[row[0] for row in USAGES])
def test_usage_is_found_without_parsing_the_answer(data: bytes, usage: Usage | None) -> None:
    assert usage_in(data) == usage


def test_an_answers_model_and_end_are_found_in_its_bytes() -> None:
    assert model_in(b'{"id": 1, "model" : "legal"}') == "legal"
    assert model_in(b"{}") is None
    assert is_cut(b'{"finish_reason": "abort"}')
    assert not is_cut(b'{"finish_reason": "length"}')
