"""Adapters (LoRA, arXiv:2106.09685): small changes of a served model, which requests choose by name."""

from typing import Annotated, Literal

from pydantic import Field

from lmforge_api.base import ApiModel, Rule, StatusModel
from lmforge_api.common import ObjectRef
from lmforge_api.uris import Uri

AdapterName = Annotated[
    str, Field(pattern="^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$", max_length=63, examples=["legal", "tone-v2"])
]


class Adapter(ApiModel):
    """A LoRA adapter. Requests take it by `model: <its name>`."""

    cel_rules = (
        Rule(
            cel="has(self.from) != has(self.uri)",
            message="adapter {self.name} needs exactly one of from (a FineTune) or uri (a directory with adapter_config.json)",
        ),
        Rule(
            cel="!has(self.from) || self.from.kind == 'FineTune'",
            message="adapter {self.name} can't come from a {self.from.kind}, which makes whole models: name a FineTune, or write a uri",
            path=".from.kind",
        ),
        Rule(
            cel="!has(self.uri) || self.uri.matches('^(pvc|file)://')",
            message="adapter {self.name} is loaded from pvc:// or file:// (inside the image): copy it to a claim, and write pvc://<claim>/<path>",
            path=".uri",
        ),
    )
    name: AdapterName = Field(description="What requests write as their model.")
    from_: ObjectRef | None = Field(None, alias="from", description="The FineTune that makes it.")
    uri: Uri | None = Field(
        None,
        description="Its directory in PEFT's format (adapter_config.json, adapter_model.safetensors): pvc://claim/path, or file:///path inside the image. New weights need a new path.",
    )


class Lora(ApiModel):
    """Room for adapters in each replica."""

    cel_rules = (
        Rule(
            cel="self.maxLoaded >= self.maxActive",
            message="engineArgs.lora.maxLoaded {self.maxLoaded} is less than maxActive {self.maxActive}: write at least that",
            path=".maxLoaded",
        ),
    )
    max_rank: Literal[8, 16, 32, 64, 128, 256, 320, 512] = Field(
        16, description="Largest rank of an adapter. Memory and time of each request grow with it."
    )
    max_active: int = Field(
        4,
        ge=1,
        le=256,
        description="Adapters that one batch may use together; requests for further ones wait for these.",
    )
    max_loaded: int = Field(
        16,
        ge=1,
        le=4096,
        description="Adapters kept in a replica's memory. Those least recently used beyond that are read again when asked for.",
    )


class AdapterStatus(StatusModel):
    """One adapter as it is."""

    name: str = Field(description="What requests write as their model.")
    source: str = Field("", description="Where it comes from: finetune/legal, or the URI.")
    uri: str = Field("", description="Where it is.")
    digest: str = Field("", description="Digest of its manifest, where it has one.")
    loaded: str = Field("", description="Replicas that have it, of those that take requests: 2/3.")
    message: str = Field("", description="What is waited for, or why it can't be loaded, and what to do.")
