"""Streaming requests to a served model, one connection each: when the first token came, and how many there were."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass


@dataclass(frozen=True)
class Place:
    """Where requests go."""

    name: str
    host: str
    port: int
    model: str


@dataclass(frozen=True)
class Answer:
    """Seconds from the request to the first token, tokens, and what they say."""

    first: float
    tokens: int
    text: str


def stream(place: Place, prompt: str, *, tokens: int) -> Answer:
    """Asks for exactly so many tokens. Raises RuntimeError when they don't come."""
    body = {
        "model": place.model, "prompt": prompt, "max_tokens": tokens, "temperature": 0, "ignore_eos": True,
        "stream": True, "stream_options": {"include_usage": True},
    }  # fmt: skip
    connection = http.client.HTTPConnection(place.host, place.port, timeout=300)
    connection.connect()
    began, first, made, said = time.monotonic(), 0.0, 0, ""
    connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
    for line in connection.getresponse():
        if line.startswith(b"data: {"):
            first = first or time.monotonic() - began
            event = json.loads(line[6:])
            said += "".join(choice["text"] for choice in event["choices"])
            made = (event.get("usage") or {}).get("completion_tokens", made)
    connection.close()
    if made != tokens:
        raise RuntimeError(f"{place.name} gave {made} of {tokens} tokens")
    return Answer(first, made, said)


def throughput(place: Place, prompts: Sequence[str], *, at_once: int, tokens: int) -> float:
    """Tokens a second of all streams together."""
    began = time.monotonic()
    with ThreadPoolExecutor(at_once) as pool:
        made = sum(answer.tokens for answer in pool.map(lambda prompt: stream(place, prompt, tokens=tokens), prompts))
    return made / (time.monotonic() - began)
