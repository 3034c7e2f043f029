"""Look at a model's files, without loading them, before pods are started for it.

    python -m lmforge_workloads.serve.inspection --path /mnt/pvc/models/smollm2 --name pvc://models/smollm2

prints an `Inspection` as JSON: the format, the weights' size, the sizes in config.json; or what is wrong. The operator
runs this in a pod for each model on a claim, whose last words are the same JSON.
"""

import argparse
import contextlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from lmforge_api.artifact import MANIFEST_NAME, Manifest
from lmforge_api.common import ModelShape
from lmforge_api.inspection import Inspection
from lmforge_api.run import TERMINATION_LOG

GGUF_MAGIC = b"GGUF"
LISTED = 10
LONGEST_PROBLEM = 1500
"""Characters: the rest of the 4,096 bytes that Kubernetes keeps is for what JSON escapes."""
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json", "vocab.txt", "tekken.json")
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")


class Unfit(Exception):
    """Nothing can load it; the text says why, and what to do."""


def inspect(path: Path, *, name: str) -> Inspection:
    """What `path` holds; `name` is what its users call it."""
    try:
        return _look(path, name)
    except Unfit as error:
        return Inspection(problem=str(error)[:LONGEST_PROBLEM])
    except OSError as error:
        return Inspection(problem=f"{name} can't be read: {error.strerror or error}")


def _look(path: Path, name: str) -> Inspection:
    if path.is_file():
        return _file(path, name)
    if not path.is_dir():
        beside = _listed(path.parent) if path.parent.is_dir() else "no such directory either"
        raise Unfit(f"{name} does not exist; beside it there is: {beside}")
    if (path / "genai_config.json").is_file():
        return _onnx(path, name)
    if (path / "config.json").is_file():
        return _hugging_face(path, name)
    if (path / "adapter_config.json").is_file():
        raise Unfit(f"{name} is a LoRA adapter: name the model that it was made for")
    ggufs = sorted(path.glob("*.gguf"))
    if ggufs:
        raise Unfit(f"{name} is a directory of GGUF files: name one of them, as in {name}/{ggufs[0].name}")
    raise Unfit(f"{name} has no config.json, so it is no Hugging Face directory; it holds: {_listed(path)}")


def _file(path: Path, name: str) -> Inspection:
    with path.open("rb") as file:
        magic = file.read(len(GGUF_MAGIC))
    if magic != GGUF_MAGIC:
        raise Unfit(f"{name} is a file, but no GGUF file: name a GGUF file or a Hugging Face directory")
    return Inspection(format="GGUF", size_bytes=path.stat().st_size, digest=_digest(path.parent))


def _hugging_face(path: Path, name: str) -> Inspection:
    config = _config(path / "config.json", name)
    size = _size(path, "*.safetensors")
    if not size:
        pickles = [each.name for pattern in PICKLES for each in sorted(path.glob(pattern))]
        why = f"only pickled weights ({pickles[0]}), which can run code when they are loaded" if pickles else "none"
        raise Unfit(f"{name} needs weights as *.safetensors, and has {why}: save the model as safetensors")
    if not any((path / tokenizer).is_file() for tokenizer in TOKENIZERS):
        raise Unfit(f"{name} has no tokenizer (tokenizer.json): save the model's tokenizer beside it")
    return Inspection(format="HuggingFace", size_bytes=size, digest=_digest(path), shape=shape_of(config))


def _onnx(path: Path, name: str) -> Inspection:
    try:
        model = json.loads((path / "genai_config.json").read_bytes())["model"]
        decoder = model["decoder"]
        shape = ModelShape(
            layers=decoder["num_hidden_layers"],
            heads=decoder["num_attention_heads"],
            kv_heads=decoder["num_key_value_heads"],
            head_size=decoder["head_size"],
            context_length=model["context_length"],
        )
    except (ValueError, KeyError, TypeError) as error:
        told = f"{type(error).__name__}: {error}".splitlines()[0]
        raise Unfit(f"{name}/genai_config.json describes no language model ({told}): make the directory with "
                    "python -m onnxruntime_genai.models.builder") from None  # fmt: skip
    size = _size(path, "*.onnx", "*.onnx.data", "*.data")
    if not size:
        raise Unfit(f"{name} has a genai_config.json, but no *.onnx beside it: copy the whole directory")
    return Inspection(format="ONNX", size_bytes=size, digest=_digest(path), shape=shape)


def _config(path: Path, name: str) -> dict[str, object]:
    try:
        config = json.loads(path.read_bytes())
    except ValueError as error:
        raise Unfit(f"{name}/config.json is no JSON ({error}): write it anew") from None
    if not isinstance(config, dict) or not isinstance(config.get("model_type"), str):
        raise Unfit(f"{name}/config.json names no model_type: it is no config of transformers")
    return config


def shape_of(config: dict[str, object]) -> ModelShape | None:
    """The sizes in a config.json, whatever its architecture calls them; None if one of them isn't there."""
    inner = config.get("text_config")  # of models that see or hear, too
    sizes = inner if isinstance(inner, dict) else config
    layers = _number(sizes, "num_hidden_layers", "n_layer", "num_layers")
    heads = _number(sizes, "num_attention_heads", "n_head")
    context = _number(sizes, "max_position_embeddings", "n_positions", "seq_length")
    width = _number(sizes, "hidden_size", "n_embd")
    if not (layers and heads and context and width):
        return None
    return ModelShape(
        layers=layers,
        heads=heads,
        kv_heads=_number(sizes, "num_key_value_heads", "multi_query_group_num") or heads,
        head_size=_number(sizes, "head_dim", "kv_channels") or width // heads,
        context_length=context,
    )


def _number(config: dict[str, object], *names: str) -> int:
    found = (config.get(name) for name in names)
    return next((each for each in found if isinstance(each, int) and each > 0), 0)


def _size(path: Path, *patterns: str) -> int:
    return sum(file.stat().st_size for file in {each for pattern in patterns for each in path.glob(pattern)})


def _digest(path: Path) -> str:
    with contextlib.suppress(OSError, ValidationError):
        return Manifest.model_validate_json((path / MANIFEST_NAME).read_bytes()).digest
    return ""


def _listed(path: Path) -> str:
    names = sorted(each.name + "/" * each.is_dir() for each in path.iterdir())
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more if names else "nothing"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what was found, and leave it as last words."""
    parser = argparse.ArgumentParser(prog="lmforge_workloads.serve.inspection", description="Look at a model's files.")
    parser.add_argument("--path", type=Path, required=True, help="where they are")
    parser.add_argument("--name", required=True, help="what their users call that place")
    options = parser.parse_args(arguments)
    return say(inspect(options.path, name=options.name))


def say(found: Inspection) -> int:
    """Prints it, and leaves it as last words. Gives the code to exit with."""
    text = json.dumps(found.wire())
    print(text)
    with contextlib.suppress(OSError):
        Path(TERMINATION_LOG).write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
