"""The gateway of an InferenceService: the user's part of it, one entry of its Secret of keys, and what its pods are told.

Gateway      spec.gateway: keys, limits, prompt templates, sessions, CORS
ApiKey       the value of one entry of the Secret that gateway.auth.secretName names; the entry's key is the key's ID
GatewayRun   the gateway program's whole configuration
DemandReport, DemandReply    what it tells the operator about once a second, and what it hears
"""

import hashlib
from base64 import urlsafe_b64encode
from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from lmforge_api.base import ApiModel, Rule, keyed_by
from lmforge_api.common import Name

KEY_PREFIX = "lmf-"
_KEY_BYTES = 24

Scope = Literal["chat", "completions", "embeddings", "models"]
ModelName = Annotated[str, Field(min_length=1, max_length=253)]
Origin = Annotated[str, Field(max_length=253, pattern=r"^(\*|https?://[A-Za-z0-9.-]+(:[0-9]+)?)$")]
TemplateName = Annotated[str, Field(max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]


class RateLimits(ApiModel):
    """What one API key may use. A bucket holds a minute's worth and fills steadily, so a key that was idle can spend a minute's worth at once."""

    requests_per_minute: int | None = Field(None, ge=1, le=10_000_000, description="Requests a minute.")
    tokens_per_minute: int | None = Field(
        None,
        ge=1,
        le=10_000_000_000,
        description="Tokens a minute, prompt and completion together: what a request may take (max_tokens) is reserved when it comes, and settled by what it took.",
    )


class GatewayAuth(ApiModel):
    """API keys: clients send them as `Authorization: Bearer`."""

    secret_name: Name = Field(
        description='Secret with one entry for each key: its ID, and as its value JSON like {"hash": "sha256:…", "scopes": ["chat"], "models": [], "rateLimits": {}, "expires": "2027-01-01T00:00:00Z"}. Changes count within seconds of reaching the pod.'
    )
    required: bool = Field(
        True, description="Refuse requests without a key. Otherwise callers without one share rateLimits among them."
    )


class PromptTemplate(ApiModel):
    """A named assistant: its role, style and limits. A request takes it by the header X-Prompt-Template."""

    cel_rules = (
        Rule(
            cel="self.system.size() > 0 || self.style.size() > 0 || self.prefix.size() > 0 || self.stop.size() > 0 || has(self.maxTokens) || has(self.temperature) || has(self.topP)",
            message="promptTemplates {self.name} changes nothing: give it a system, style, prefix, maxTokens, temperature, topP or stop",
        ),
        Rule(
            cel="!self.allowSystem || self.system.size() > 0 || self.style.size() > 0",
            message="promptTemplates {self.name} has no system or style of its own, so callers' system messages are always let through: leave allowSystem out",
            path=".allowSystem",
        ),
    )
    name: TemplateName = Field(description="What requests call it by.")
    system: str = Field(
        "",
        max_length=32768,
        description="Role: who the assistant is, what it may and may not do. Stands first, as the system message of a chat.",
    )
    style: str = Field("", max_length=8192, description="Style: tone, language, length of answers. Follows the role.")
    prefix: str = Field(
        "",
        max_length=8192,
        description="Put before the newest user message of a chat, or before the prompt of a completion.",
    )
    max_tokens: int | None = Field(
        None, ge=1, le=10_000_000, description="Most tokens of an answer. Requests may ask for fewer."
    )
    temperature: float | None = Field(None, ge=0, le=2, description="Takes the place of what a request says.")
    top_p: float | None = Field(None, gt=0, le=1, description="Takes the place of what a request says.")
    stop: list[Annotated[str, Field(min_length=1, max_length=256)]] = Field(
        [], max_length=4, description="Texts that end an answer, in the place of what a request says."
    )
    allow_system: bool = Field(
        False, description="Let callers add system messages of their own after it. Otherwise such requests are refused."
    )


class Redis(ApiModel):
    """A Redis server, by URL or by a Secret that holds the URL."""

    cel_rules = (
        Rule(
            cel="has(self.url) != has(self.secretName)",
            message="redis needs either url (redis://host:6379/0) or secretName (a Secret whose entry secretKey holds the URL)",
        ),
        Rule(
            cel="!has(self.url) || !self.url.contains('@')",
            message="redis.url must not hold a password: put the URL into a Secret and name it by secretName",
            path=".url",
        ),
    )
    url: str | None = Field(
        None, max_length=512, pattern=r"^rediss?://[^\s]+$", description="URL without a password: redis://host:6379/0."
    )
    secret_name: Name | None = Field(None, description="Secret that holds the URL with its password.")
    secret_key: str = Field("url", max_length=253, pattern=r"^[-._a-zA-Z0-9]+$", description="Entry of that Secret.")


class Sessions(ApiModel):
    """Conversations that the gateway remembers: a chat request names one by the header X-Session-Id."""

    redis: Redis | None = Field(
        None,
        description="Where conversations and the state of rate limits are kept, shared by the gateway's replicas. Without it, in memory of a single gateway pod, gone when that restarts.",
    )
    ttl_seconds: int = Field(3600, ge=1, le=31_536_000, description="A session ends so long after its last turn.")
    max_turns: int = Field(
        32, ge=1, le=1000, description="Turns that are remembered, the newest: a turn is a request with its answer."
    )


class Cors(ApiModel):
    """Which web pages may call the API from a browser."""

    cel_rules = (
        Rule(
            cel="!self.credentials || !('*' in self.origins)",
            message="cors.credentials with the origin * would let every web page act for its visitors: name the origins",
            path=".credentials",
        ),
    )
    origins: list[Origin] = Field(
        min_length=1, max_length=64, description="Origins such as https://chat.example.com, or * for any."
    )
    credentials: bool = Field(False, description="Let browsers send cookies and HTTP authentication along.")
    max_age_seconds: int = Field(600, ge=0, le=86400, description="How long browsers may remember the answer.")


class FillInMiddle(ApiModel):
    """The model's own tokens for filling in code, as its tokenizer spells them. (Prefix, suffix, middle: arXiv:2207.14255.)"""

    prefix: str = Field(min_length=1, max_length=64, description="Before the code before the gap: <fim_prefix>.")
    suffix: str = Field(min_length=1, max_length=64, description="Before the code after the gap: <fim_suffix>.")
    middle: str = Field(min_length=1, max_length=64, description="Where the model begins to fill in: <fim_middle>.")
    suffix_first: bool = Field(False, description="The model was trained with the suffix before the prefix.")


class Gateway(ApiModel):
    """What stands in front of the engines: keys, limits, prompt templates, sessions; and it holds requests while replicas start."""

    cel_rules = (
        Rule(
            cel="!has(self.defaultPromptTemplate) || self.promptTemplates.exists(each, each.name == self.defaultPromptTemplate)",
            message="gateway.defaultPromptTemplate {self.defaultPromptTemplate} is not among promptTemplates: write the name of one of them",
            path=".defaultPromptTemplate",
        ),
        Rule(
            cel="self.replicas == 1 || !has(self.sessions) || has(self.sessions.redis)",
            message="gateway.replicas is {self.replicas}, but without sessions.redis each pod would remember other turns: name a Redis, or write replicas: 1",
            path=".replicas",
        ),
    )
    auth: GatewayAuth | None = Field(
        None, description="API keys. Without it everyone who reaches the gateway may use it."
    )
    rate_limits: RateLimits = Field(
        default_factory=RateLimits,
        description="Limits of each key that has none of its own; of all callers together without auth.",
    )
    prompt_templates: list[PromptTemplate] = Field(
        [], max_length=32, description="Named assistants.", json_schema_extra=keyed_by("name")
    )
    default_prompt_template: TemplateName | None = Field(
        None, description="Template of chat requests that name none and whose key has none."
    )
    fill_in_middle: FillInMiddle | None = Field(
        None, description="How the model fills in code: makes /v1/completions take a suffix."
    )
    sessions: Sessions | None = Field(None, description="Remember conversations. Without it X-Session-Id is refused.")
    cors: Cors | None = Field(None, description="Calls from web pages. Without it browsers refuse them.")
    replicas: int = Field(
        1,
        ge=1,
        le=64,
        description="Gateway pods. With more than one, limits hold for each pod unless sessions.redis is set.",
    )
    access_log: bool = Field(
        False, description="Log one line for each request: who, what, how long, how many tokens; never keys or text."
    )


class ApiKey(ApiModel):
    """One key as its Secret's entry says it: the key itself is nowhere but with its owner."""

    hash: str = Field(pattern=r"^sha256:[0-9a-f]{64}$", description="sha256: and the key's SHA-256 in hexadecimal.")
    scopes: list[Scope] = Field(
        ["chat", "completions", "embeddings", "models"], description="Endpoints that it may use."
    )
    models: list[ModelName] = Field([], description="Models and adapters that it may name; all when empty.")
    rate_limits: RateLimits = Field(
        default_factory=RateLimits, description="Its own limits; what it leaves out is the gateway's default."
    )
    prompt_template: TemplateName | None = Field(
        None, description="Template that its requests always get: its caller can choose no other."
    )
    expires: datetime | None = Field(None, description="When it ends (RFC 3339, with a time zone).")


def key_text(entropy: bytes) -> str:
    """The API key that random bytes make: give it 24 of `secrets.token_bytes`, for 192 bits."""
    if len(entropy) < _KEY_BYTES:
        raise ValueError(f"an API key needs {_KEY_BYTES} random bytes, not {len(entropy)}: its hash is not stretched")
    return KEY_PREFIX + urlsafe_b64encode(entropy).decode().rstrip("=")


def key_hash(key: str) -> str:
    """How `ApiKey.hash` says a key.

    Plain SHA-256 is right here: bcrypt and its like slow down guessing of passwords that people choose, but nobody
    guesses 192 random bits, and a slow hash would be paid for at every request.
    """
    return f"sha256:{hashlib.sha256(key.encode()).hexdigest()}"
