"""A model directory as `python -m onnxruntime_genai.models.builder` writes it, loaded."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime_genai as og

from lmforge_workloads.common.exits import UserError

CONFIG = "genai_config.json"
GIB = 2**30
_CACHE_NUMBER_BYTES = 4
"""On CPU the KV cache is in float32, whatever the weights are in."""


class Model:
    """Weights, tokenizer, and what genai_config.json says. Raises UserError where it can't be loaded."""

    def __init__(self, directory: Path, *, max_model_len: int | None = None, threads: int | None = None) -> None:
        self.config = _read_config(directory)
        self.context = _context(self.config, max_model_len)
        try:
            config = og.Config(str(directory))
            if threads is not None:
                config.overlay(json.dumps({"model": {"decoder": {"session_options": _threads(threads)}}}))
            self.weights = og.Model(config)
            self.tokenizer = og.Tokenizer(self.weights)
        except Exception as error:  # onnxruntime raises RuntimeError and a dozen of its own
            raise UserError(f"onnxruntime can't load the model in {directory}: {_first_line(error)}") from None
        self.ends = frozenset(int(token) for token in self.tokenizer.eos_token_ids)

    @property
    def vocabulary(self) -> int:
        """How many tokens there are."""
        return int(self.config["model"]["vocab_size"])

    @property
    def search(self) -> Mapping[str, Any]:
        """The model's own defaults for sampling."""
        found: Mapping[str, Any] = self.config.get("search", {})
        return found

    def encode(self, text: str) -> list[int]:
        """Its tokens. Raises UnicodeError."""
        text.encode()  # a lone surrogate: onnxruntime-genai would only say that arguments are wrong
        return [int(token) for token in self.tokenizer.encode(text)]

    def chat_prompt(self, messages: Sequence[Mapping[str, str]]) -> str:
        """The conversation as the model's template writes it, ready for the answer. Raises RuntimeError."""
        return str(self.tokenizer.apply_chat_template(json.dumps(messages), add_generation_prompt=True))

    def generator(self, *, tokens: int, options: Mapping[str, Any]) -> og.Generator:
        """A generator whose KV cache holds so many tokens, prompt and answer."""
        params = og.GeneratorParams(self.weights)
        params.set_search_options(max_length=tokens, **options)
        return og.Generator(self.weights, params)

    def cache_tokens(self, gib: int) -> int:
        """Tokens for which a KV cache of so many GiB has room. Raises UserError when not even one request fits."""
        room = gib * GIB // cache_bytes_a_token(self.config)
        if room < self.context:
            needed = -(-self.context * cache_bytes_a_token(self.config) // GIB)
            raise UserError(
                f"one request of {self.context} tokens takes {needed} GiB of KV cache, which has {gib}: "
                f"raise --kv-cache-gib to {needed}, or lower --max-model-len to {room}"
            )
        return room


def cache_bytes_a_token(config: Mapping[str, Any]) -> int:
    """A key and a value for each head of each layer."""
    decoder = config["model"]["decoder"]
    heads = decoder["num_hidden_layers"] * decoder["num_key_value_heads"]
    return int(2 * heads * decoder["head_size"] * _CACHE_NUMBER_BYTES)


def tokens_array(tokens: Sequence[int]) -> np.ndarray[Any, np.dtype[np.int32]]:
    """As the generator takes them."""
    return np.asarray(tokens, dtype=np.int32)


def _read_config(directory: Path) -> dict[str, Any]:
    file = directory / CONFIG
    try:
        config: dict[str, Any] = json.loads(file.read_text())
        cache_bytes_a_token(config)
        int(config["model"]["vocab_size"])
    except OSError:
        raise UserError(
            f"{directory} holds no {CONFIG}: it is no ONNX model directory. Make one with "
            "python -m onnxruntime_genai.models.builder, or serve Hugging Face directories with engine vllm"
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file} can't be read as onnxruntime-genai's configuration of a language model "
                        f"({type(error).__name__}: {error})") from None  # fmt: skip
    return config


def _context(config: Mapping[str, Any], wanted: int | None) -> int:
    longest = int(config["model"].get("context_length", 0)) or int(config["search"]["max_length"])
    if wanted is not None and wanted > longest:
        raise UserError(f"--max-model-len is {wanted}, but the model's context is {longest} tokens: write at most that")
    return wanted or longest


def _threads(threads: int) -> dict[str, int]:
    return {"intra_op_num_threads": threads, "inter_op_num_threads": 1}


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
