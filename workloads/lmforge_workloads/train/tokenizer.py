"""Tokenizers: one that exists, or one trained on the text.

All trained ones work on bytes (Radford et al. 2019, section 2.2), whatever their model: every text can be written,
nothing is unknown, and decode(encode(text)) == text. They are saved so that `transformers.AutoTokenizer` loads them.
`tokenizers` is used directly: importing transformers takes seconds that every attempt would pay.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from lmforge_api.trainingjob import TokenizerTraining
from lmforge_workloads.common.exits import UserError
from lmforge_workloads.common.store import locate

END_OF_TEXT = "<|endoftext|>"
PADDING = "<|pad|>"
TRAINING_BYTES = 512 * 1024 * 1024  # of text that a tokenizer is trained on, at most: more changes little
_LONGEST_WORD = 64  # bytes; WordPiece takes time quadratic in it
_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja")


@dataclass(frozen=True)
class TextTokenizer:
    """A tokenizer and what training needs to know of it."""

    backend: Tokenizer
    end_of_text: int
    files: dict[str, bytes]

    @property
    def padding(self) -> int | None:
        """Id of the token that fills batches up, if there is one."""
        token = _special_token(self.files, "pad_token")
        return None if token is None else self.backend.token_to_id(token)

    @property
    def vocabulary(self) -> int:
        """Number of token ids: one more than the largest."""
        return max(self.backend.get_vocab(with_added_tokens=True).values()) + 1

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, nothing added; what looks like a special token in a text is text."""
        return [found.ids for found in self.backend.encode_batch_fast(list(texts), add_special_tokens=False)]

    def decode(self, ids: Sequence[int]) -> str:
        """The text again."""
        return str(self.backend.decode(list(ids), skip_special_tokens=False))

    def save(self, directory: Path) -> None:
        """Write the files that `AutoTokenizer.from_pretrained(directory)` reads."""
        directory.mkdir(parents=True, exist_ok=True)
        for name, content in self.files.items():
            (directory / name).write_bytes(content)


def load(uri: str | Path) -> TextTokenizer:
    """Read a directory with tokenizer.json (or that file itself); of a model's directory nothing else is read."""
    place = locate(str(uri).removesuffix("/tokenizer.json"))
    files = {name: place.join(name).read() for name in _FILES if place.join(name).exists()}
    if "tokenizer.json" not in files:
        raise UserError(f"{uri} holds no tokenizer.json: save it with save_pretrained of transformers' fast tokenizer")
    try:
        backend = Tokenizer.from_str(files["tokenizer.json"].decode())
    except Exception as error:  # the library raises nothing narrower
        raise UserError(f"{uri}: tokenizer.json can't be read: {error}") from error
    return _wrap(backend, files, str(uri))


def train(training: TokenizerTraining, texts: Iterable[str]) -> TextTokenizer:
    """Train a tokenizer. The same texts give the same BPE or WordPiece, byte for byte; a Unigram's probabilities vary
    by about a percent, since the library sums them in the order of a hash table."""
    backend, trainer = _untrained(training)
    backend.train_from_iterator(_at_most(texts, TRAINING_BYTES), trainer=trainer)
    files = {"tokenizer.json": backend.to_str(pretty=False).encode()}
    for name, config in (("tokenizer_config.json", _CONFIG), ("special_tokens_map.json", _SPECIAL_TOKENS)):
        files[name] = json.dumps(config, indent=1).encode()
    return _wrap(backend, files, "the trained tokenizer")


_SPECIAL_TOKENS = {"bos_token": END_OF_TEXT, "eos_token": END_OF_TEXT, "pad_token": PADDING}
_CONFIG = {
    **_SPECIAL_TOKENS,
    "tokenizer_class": "PreTrainedTokenizerFast",
    "clean_up_tokenization_spaces": False,
    "model_input_names": ["input_ids", "attention_mask"],
}


def _untrained(training: TokenizerTraining) -> tuple[Tokenizer, trainers.Trainer]:
    common: dict[str, Any] = {
        "vocab_size": training.vocab_size,
        "special_tokens": [END_OF_TEXT, PADDING],
        "initial_alphabet": sorted(pre_tokenizers.ByteLevel.alphabet()),
        "show_progress": False,
    }
    as_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend: Tokenizer
    trainer: trainers.Trainer
    match training.type:
        case "BPE":
            backend, trainer = Tokenizer(models.BPE()), trainers.BpeTrainer(**common)
        case "WordPiece":
            # No prefix marks what continues a word: the bytes of a word's leading space already do.
            model = models.WordPiece(unk_token=END_OF_TEXT, continuing_subword_prefix="")
            backend = Tokenizer(model)
            trainer = trainers.WordPieceTrainer(continuing_subword_prefix="", **common)
        case "Unigram":
            backend, trainer = Tokenizer(models.Unigram()), trainers.UnigramTrainer(**common)
    short = pre_tokenizers.FixedLength(length=_LONGEST_WORD)
    backend.pre_tokenizer = pre_tokenizers.Sequence([as_bytes, short]) if training.type == "WordPiece" else as_bytes
    backend.decoder = decoders.ByteLevel()
    return backend, trainer


def _wrap(backend: Tokenizer, files: dict[str, bytes], where: str) -> TextTokenizer:
    backend.no_truncation()
    backend.no_padding()
    end = _special_token(files, "eos_token")
    number = backend.token_to_id(end) if end else None
    if number is None:
        raise UserError(f"{where} names no end-of-text token: set eos_token in its tokenizer_config.json")
    backend.encode_special_tokens = True
    return TextTokenizer(backend, number, files)


def _special_token(files: dict[str, bytes], kind: str) -> str | None:
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        token = json.loads(files.get(name, b"{}")).get(kind)
        if token:
            return str(token["content"] if isinstance(token, dict) else token)
    return None


def _at_most(texts: Iterable[str], limit: int) -> Iterable[str]:
    for text in texts:
        limit -= len(text.encode())
        if limit < 0:
            return
        yield text
