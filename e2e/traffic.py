"""Clients that ask again and again while something happens to a service, and remember every request that failed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from openai import OpenAI

SHORT, LONG = 8, 500
TIMEOUT = 240.0
PAUSE = 0.4
"""Seconds between an answer and the next question: a replica that loads needs some of the two cores."""


@dataclass
class Traffic:
    """What became of the requests so far."""

    url: str
    model: str
    prompt: str = ""
    """With one, clients ask for streams that go on from it."""
    answered: int = 0
    failures: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _over: threading.Event = field(default_factory=threading.Event)

    def stop(self) -> None:
        """Clients end after their next answer."""
        self._over.set()

    def short(self) -> None:
        """Asks for a few tokens, until all is over."""
        with self._client() as client:
            while not self._over.wait(PAUSE):
                self._note(lambda: self._ask(client))

    def stream(self) -> None:
        """One long stream, which has to reach its end. Counts as one request."""
        with self._client() as client:
            self._note(lambda: _stream(client, self.model))

    def _ask(self, client: OpenAI) -> str:
        if self.prompt:
            return _stream(client, self.model, prompt=self.prompt, tokens=SHORT)
        return _whole(client, self.model)

    def _client(self) -> OpenAI:
        return OpenAI(base_url=self.url, api_key="none", timeout=TIMEOUT, max_retries=0)

    def _note(self, ask: Callable[[], str]) -> None:
        try:
            problem = ask()
        except Exception as error:
            problem = f"{type(error).__name__}: {error}"
        with self._lock:
            self.answered += not problem
            self.failures += [problem] if problem else []


def _whole(client: OpenAI, model: str) -> str:
    """What is wrong with the answer, if anything."""
    answer = client.completions.create(model=model, prompt="One, two,", max_tokens=SHORT, extra_body=_EXACTLY)
    made = answer.usage.completion_tokens if answer.usage else 0
    return "" if made == SHORT else f"{made} of {SHORT} tokens: {answer.choices[0].finish_reason}"


def _stream(client: OpenAI, model: str, *, prompt: str = "Once upon a time", tokens: int = LONG) -> str:
    """The same of a stream: a cut one may well end with [DONE], so its tokens and its reason to end are looked at."""
    reason, made = None, 0
    for chunk in client.completions.create(
        model=model, prompt=prompt, max_tokens=tokens, stream=True, stream_options={"include_usage": True},
        extra_body=_EXACTLY,
    ):  # fmt: skip
        made = chunk.usage.completion_tokens if chunk.usage else made
        reason = next((choice.finish_reason for choice in chunk.choices if choice.finish_reason), reason)
    whole = (reason, made) == ("length", tokens)
    return "" if whole else f"a stream ended with {reason} after {made} of {tokens} tokens"


_EXACTLY = {"ignore_eos": True}


@contextmanager
def traffic(url: str, model: str, *, clients: int = 2, prompt: str = "") -> Iterator[Traffic]:
    """So many clients ask while the block runs; afterwards all have their last answers."""
    flow = Traffic(url, model, prompt)
    threads = [threading.Thread(target=flow.short) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield flow
    finally:
        flow.stop()
        for thread in threads:
            thread.join(TIMEOUT)
