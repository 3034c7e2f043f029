"""The endpoints that are passed on, and what a request to one is once it is read."""

from dataclasses import dataclass
from typing import Any

from lmforge_api.gateway import Scope

Fields = dict[str, Any]  # a request's or an answer's JSON object: the engine checks it, not we


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One path of OpenAI's API."""

    path: str
    scope: Scope
    generates: bool = True

    @property
    def is_chat(self) -> bool:
        return self.scope == "chat"


CHAT = Endpoint("/v1/chat/completions", "chat")
COMPLETIONS = Endpoint("/v1/completions", "completions")
EMBEDDINGS = Endpoint("/v1/embeddings", "embeddings", generates=False)
PROXIED = (CHAT, COMPLETIONS, EMBEDDINGS)
