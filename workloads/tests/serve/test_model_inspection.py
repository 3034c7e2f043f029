"""A model's files are looked at without loading them: real files, and what is said of them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmforge_api.inspection import Inspection
from lmforge_workloads.serve.inspection import inspect, main, shape_of

LLAMA = {
    "model_type": "llama", "num_hidden_layers": 4, "num_attention_heads": 6, "num_key_value_heads": 2,
    "hidden_size": 384, "max_position_embeddings": 2048,
}  # fmt: skip
GENAI = {
    "model": {
        "context_length": 2048,
        "decoder": {"num_hidden_layers": 4, "num_attention_heads": 6, "num_key_value_heads": 2, "head_size": 64},
    }
}
NAME = "pvc://models/tiny"


def hugging_face(path: Path, config: Any = LLAMA, **files: bytes) -> Path:
    path.mkdir()
    (path / "config.json").write_text(json.dumps(config))
    contents = {"model.safetensors": b"x" * 10, "tokenizer.json": b"{}"} | files
    for name, content in contents.items():
        if content:
            (path / name).write_bytes(content)
    return path


def genai(path: Path, config: Any = GENAI, **files: bytes) -> Path:
    return hugging_face(path, **{"genai_config.json": json.dumps(config).encode(), **files})


def test_a_hugging_face_directory_tells_its_sizes(tmp_path: Path) -> None:
    found = inspect(hugging_face(tmp_path / "tiny"), name=NAME)
    assert (found.problem, found.format, found.size_bytes) == ("", "HuggingFace", 10)
    assert found.shape is not None
    assert found.shape.wire() == {"layers": 4, "heads": 6, "kvHeads": 2, "headSize": 64, "contextLength": 2048}


def test_a_gguf_file_is_known_by_its_beginning(tmp_path: Path) -> None:
    (tmp_path / "tiny").write_bytes(b"GGUF\x03\0\0\0")
    assert inspect(tmp_path / "tiny", name=NAME) == Inspection(format="GGUF", size_bytes=8)


def test_an_onnx_directory_is_known_by_genais_config(tmp_path: Path) -> None:
    found = inspect(genai(tmp_path / "tiny", **{"model.onnx": b"x" * 7}), name=NAME)
    assert (found.problem, found.format, found.size_bytes) == ("", "ONNX", 7)
    assert found.shape is not None
    assert found.shape.wire() == {"layers": 4, "heads": 6, "kvHeads": 2, "headSize": 64, "contextLength": 2048}


def made(*files: str) -> Callable[[Path], Path]:
    def make(path: Path) -> Path:
        path.mkdir()
        for name in files:
            (path / name).write_bytes(b"{}")
        return path

    return make


PROBLEMS: dict[str, tuple[Callable[[Path], Path], str]] = {
    "nothing": (lambda path: path, "does not exist; beside it there is: other.txt"),
    "an empty directory": (made(), "has no config.json, so it is no Hugging Face directory; it holds: nothing"),
    "something else": (made("a.txt"), "has no config.json, so it is no Hugging Face directory; it holds: a.txt"),
    "many files": (made(*(f"{n:02}" for n in range(12))), ", 08, 09 and 2 more"),
    "an adapter": (made("adapter_config.json"), "is a LoRA adapter: name the model that it was made for"),
    "GGUF files": (made("a.gguf", "b.gguf"), f"name one of them, as in {NAME}/a.gguf"),
    "a text file": (lambda path: path.parent / "other.txt", "is a file, but no GGUF file"),
    "a config that is no JSON": (
        lambda path: hugging_face(path, **{"config.json": b"{"}), f"{NAME}/config.json is no JSON"
    ),
    "a config of something else": (lambda path: hugging_face(path, {"a": 1}), "names no model_type"),
    "no weights": (lambda path: hugging_face(path, **{"model.safetensors": b""}), "needs weights as *.safetensors"),
    "pickled weights": (
        lambda path: hugging_face(path, **{"model.safetensors": b"", "pytorch_model.bin": b"x"}),
        "only pickled weights (pytorch_model.bin), which can run code when they are loaded",
    ),
    "ONNX without weights": (genai, "has a genai_config.json, but no *.onnx beside it: copy the whole directory"),
    "ONNX of something else": (
        lambda path: genai(path, {"model": {"type": "whisper"}}),
        "describes no language model (KeyError: 'decoder'): make the directory with",
    ),
    "no tokenizer": (lambda path: hugging_face(path, **{"tokenizer.json": b""}), "has no tokenizer"),
}  # fmt: skip


@pytest.mark.parametrize(("make", "said"), PROBLEMS.values(), ids=PROBLEMS)
def test_what_nothing_can_load_is_said_with_what_there_is(
    tmp_path: Path, make: Callable[[Path], Path], said: str
) -> None:
    (tmp_path / "other.txt").write_text("no model")
    found = inspect(make(tmp_path / "tiny"), name=NAME)
    assert found.problem.startswith(NAME)
    assert said in found.problem


CONFIGS: dict[str, tuple[dict[str, object], tuple[int, int, int, int, int] | None]] = {
    "gpt2": ({"n_layer": 2, "n_head": 4, "n_embd": 64, "n_positions": 128}, (2, 4, 4, 16, 128)),
    "heads of their own size": ({**LLAMA, "head_dim": 128}, (4, 6, 2, 128, 2048)),
    "chatglm": (
        {"num_layers": 3, "num_attention_heads": 8, "multi_query_group_num": 2, "kv_channels": 32, "hidden_size": 256,
         "seq_length": 512}, (3, 8, 2, 32, 512),
    ),
    "a model that sees": ({"model_type": "x", "text_config": LLAMA}, (4, 6, 2, 64, 2048)),
    "no context": ({key: value for key, value in LLAMA.items() if key != "max_position_embeddings"}, None),
}  # fmt: skip


@pytest.mark.parametrize(("config", "sizes"), CONFIGS.values(), ids=CONFIGS)
def test_sizes_are_found_under_every_architectures_names(config: dict[str, object], sizes: Any) -> None:
    shape = shape_of(config)
    assert (tuple(shape.model_dump().values()) if shape else None) == sizes


@given(st.dictionaries(st.sampled_from([*LLAMA, "text_config", "head_dim"]), st.recursive(
    st.none() | st.integers() | st.text(max_size=3) | st.booleans(),
    lambda inner: st.dictionaries(st.sampled_from([*LLAMA]), inner, max_size=3), max_leaves=5,
)))  # fmt: skip
def test_whatever_a_config_says_has_sizes_above_zero_or_none(config: dict[str, object]) -> None:
    shape = shape_of(config)
    assert shape is None or all(size >= 0 for size in shape.model_dump().values())


def test_it_prints_one_line_of_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--path", str(hugging_face(tmp_path / "tiny")), "--name", NAME]) == 0
    assert Inspection.model_validate_json(capsys.readouterr().out).format == "HuggingFace"
