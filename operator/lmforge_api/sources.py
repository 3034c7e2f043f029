"""What a run starts from: a model, text, a tokenizer."""

from typing import ClassVar, Literal

from pydantic import Field

from lmforge_api.base import ApiModel, Rule
from lmforge_api.common import ObjectRef
from lmforge_api.uris import Uri

_TRANSFORMER = "self.architecture in ['llama', 'gpt2']"


def _only(architectures: list[str], field: str, *, unless: str | None = None) -> Rule:
    """The field means something to these architectures; on others it has to be unset (or as `unless` says)."""
    return Rule(
        cel=f"self.architecture in {architectures} || {unless or f'!has(self.{field})'}",
        message=f"{field} is for {' and '.join(architectures)}: leave it out with architecture {{self.architecture}}",
        path=f".{field}",
    )


def heads_share_the_width(*, unless: str = "false") -> Rule:
    """hiddenSize is a multiple of heads, where the model has any."""
    return Rule(
        cel=f"{unless} || self.hiddenSize % self.heads == 0",
        message="hiddenSize {self.hiddenSize} is not a multiple of heads {self.heads}: "
        "write {(self.hiddenSize / self.heads + 1) * self.heads}, or a number of heads that divides it",
        path=".hiddenSize",
    )


KV_HEADS_SHARE_HEADS = Rule(
    cel="!has(self.kvHeads) || self.heads % self.kvHeads == 0",
    message="heads {self.heads} is not a multiple of kvHeads {self.kvHeads}: "
    "each key/value head serves as many query heads; write a kvHeads that divides heads",
    path=".kvHeads",
)
NO_TEXT = Rule(
    cel="!has(self.from) || self.from.kind != 'Dataset'",
    message="a model can't come from a Dataset, which holds text: name a TrainingJob, FineTune or QuantizeJob",
    path=".from.kind",
)


class ModelInit(ApiModel):
    """A new model, its weights drawn from the seed."""

    cel_rules = (
        _only(["llama", "gpt2"], "intermediateSize"),
        _only(["llama"], "kvHeads"),
        _only(["gpt2"], "positionEncoding"),
        _only(["ngram"], "order"),
        _only(["gpt2", "lstm"], "dropout", unless="self.dropout == 0.0"),
        _only(["llama"], "ropeTheta", unless="self.ropeTheta == 10000.0"),
        heads_share_the_width(unless=f"!({_TRANSFORMER})"),
        Rule(
            cel="self.architecture != 'llama' || self.hiddenSize % self.heads != 0 || self.hiddenSize / self.heads % 2 == 0",
            message="hiddenSize / heads is {self.hiddenSize / self.heads}, but llama's rotary positions turn pairs: "
            "write sizes that make it even",
            path=".hiddenSize",
        ),
        KV_HEADS_SHARE_HEADS,
        Rule(
            cel="!has(self.positionEncoding) || self.positionEncoding != 'sinusoidal' || self.hiddenSize % 2 == 0",
            message="sinusoidal positions are pairs of a sine and a cosine: write an even hiddenSize, not {self.hiddenSize}",
            path=".hiddenSize",
        ),
    )
    architecture: Literal["llama", "gpt2", "lstm", "ngram"] = Field(
        "llama",
        description="Family of the model. lstm and ngram are baselines to compare a transformer with.",
    )
    layers: int = Field(4, ge=1, le=512, description="Transformer blocks (or LSTM layers).")
    hidden_size: int = Field(256, ge=8, le=65536, description="Width of the residual stream.")
    intermediate_size: int | None = Field(
        None,
        ge=8,
        le=262144,
        description="Width of the feed-forward block. Default: for llama 8/3 of hiddenSize rounded up to a multiple of 32, for gpt2 4 times hiddenSize.",
    )
    heads: int = Field(4, ge=1, le=1024, description="Attention heads.")
    kv_heads: int | None = Field(
        None, ge=1, le=1024, description="Key/value heads (llama, grouped-query attention). Default: heads."
    )
    position_encoding: Literal["learned", "sinusoidal"] | None = Field(
        None,
        description="gpt2 only: learned (default), or the fixed sinusoids of 'Attention Is All You Need', section 3.5.",
    )
    rope_theta: float = Field(10000.0, gt=0, description="llama: base of the rotary position encoding.")
    tie_embeddings: bool = Field(True, description="Share the input embedding with the output layer.")
    dropout: float = Field(0.0, ge=0, lt=1, description="Dropout rate (lstm and gpt2).")
    order: int | None = Field(None, ge=1, le=8, description="ngram only: length of the n-grams. Default 3.")


class ModelSource(ApiModel):
    """Which model is trained: a new one, or one to go on from."""

    cel_rules = (
        Rule(
            cel="(has(self.init) ? 1 : 0) + (has(self.from) ? 1 : 0) + (has(self.uri) ? 1 : 0) == 1",
            message="model needs exactly one of init (a new model), from (another object's artifact) or uri (a Hugging Face directory)",
        ),
        NO_TEXT,
    )
    init: ModelInit | None = Field(None, description="A new model of this shape.")
    from_: ObjectRef | None = Field(None, alias="from", description="Go on from the artifact of this object.")
    uri: Uri | None = Field(None, description="Go on from this Hugging Face directory (config.json and safetensors).")


class ModelReference(ApiModel):
    """A model that exists."""

    cel_rules = (
        Rule(
            cel="has(self.from) != has(self.uri)",
            message="a model needs exactly one of from (another object's artifact) or uri (a Hugging Face directory)",
        ),
        NO_TEXT,
    )
    from_: ObjectRef | None = Field(None, alias="from", description="The artifact of this object, once it is ready.")
    uri: Uri | None = Field(None, description="This Hugging Face directory (config.json, safetensors, tokenizer).")
    trust_remote_code: bool = Field(
        False,
        description="Run the Python code that comes with the model. Architectures that transformers doesn't know need it; it can do whatever the pod can.",
    )


class TokenizerTraining(ApiModel):
    """A tokenizer trained on the dataset itself."""

    type: Literal["BPE", "WordPiece", "Unigram"] = Field("BPE", description="Kind of tokenizer.")
    vocab_size: int = Field(8192, ge=260, le=1_000_000, description="Size of the vocabulary, special tokens included.")


class TokenizerSource(ApiModel):
    """How text becomes tokens."""

    cel_rules = (
        Rule(
            cel="(has(self.train) ? 1 : 0) + (has(self.uri) ? 1 : 0) == 1",
            message="dataset.tokenizer needs exactly one of train (train one on this text) or uri (an existing one)",
        ),
    )
    train: TokenizerTraining | None = Field(None, description="Train one on this dataset.")
    uri: Uri | None = Field(None, description="Directory with tokenizer.json, e.g. of a model.")


class FileSource(ApiModel):
    """Files to read, or the object that wrote them."""

    cel_rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="(has(self.from) ? 1 : 0) + (has(self.uri) ? 1 : 0) == 1",
            message="a dataset needs exactly one of uri (files) or from (a Dataset)",
        ),
        Rule(
            cel="!has(self.from) || self.from.kind == 'Dataset'",
            message="text comes from a Dataset, not from a {self.from.kind}: write kind: Dataset, or a uri",
            path=".from.kind",
        ),
    )
    uri: Uri | None = Field(
        None,
        description="A file, a directory (read recursively) or a glob of text, jsonl, csv or parquet files.",
    )
    from_: ObjectRef | None = Field(None, alias="from", description="A Dataset, used once it is ready.")


class TextSource(FileSource):
    """Text to read."""

    format: Literal["auto", "text", "jsonl", "csv", "parquet"] = Field(
        "auto",
        description="Format of the files; auto goes by their names (.jsonl, .csv, .parquet, anything else is text).",
    )
    column: str = Field(
        "text", max_length=253, description="Column or JSON key that holds the text (jsonl, csv, parquet)."
    )


class DatasetSource(TextSource):
    """Text to train on, and how it becomes tokens."""

    tokenizer: TokenizerSource | None = Field(
        None,
        description="Default: the model's or the Dataset's own tokenizer, or else a BPE of 8192 trained on this text.",
    )
