"""The models against transformers' own, and their shapes."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from worlds import a_shape

from lmforge_api.trainingjob import ModelInit
from lmforge_workloads.common.exits import UserError
from lmforge_workloads.train import model
from lmforge_workloads.train.layers import Layers
from lmforge_workloads.train.model import Transformer
from lmforge_workloads.train.shape import Shape, from_directory, from_spec, to_config
from lmforge_workloads.train.weights import Directory, Drawn, Source, for_export

SHAPES = {
    "llama": a_shape("llama"),
    "llama, untied": a_shape("llama", tied=False, epsilon=1e-6, rope_theta=5000.0),
    "llama, one key/value head": a_shape("llama", kv_heads=1),
    "gpt2": a_shape("gpt2"),
    "gpt2, untied": a_shape("gpt2", tied=False),
    "gpt2, sinusoidal": a_shape("gpt2", sinusoidal=True),
}


def a_model(shape: Shape, source: Source) -> Transformer:
    transformer = Transformer(model.pieces(shape, Layers()), Layers())
    with torch.no_grad():
        for name, parameter in model.named_parameters(transformer):
            parameter.copy_(source.tensor(name, parameter.shape))
    return transformer.eval()


class Rough(Drawn):
    """Weights with nothing at zero or one, so that every one of them counts."""

    def tensor(self, name: str, size: Any) -> Tensor:
        random = torch.Generator().manual_seed(len(name) + sum(map(ord, name)))
        return torch.randn(size, generator=random) * 0.2 + (1.0 if "norm" in name or "ln_" in name else 0.0)


def exported(shape: Shape, transformer: Transformer, directory: Path) -> Path:
    state = ((name, parameter.detach()) for name, parameter in model.named_parameters(transformer))
    save_file({name: value.contiguous() for name, value in for_export(state, shape)}, directory / "model.safetensors",
              metadata={"format": "pt"})  # fmt: skip
    (directory / "config.json").write_text(json.dumps(to_config(shape)))
    return directory


@pytest.mark.parametrize("name", SHAPES)
def test_logits_are_those_of_transformers(name: str, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    shape = SHAPES[name]
    ours = a_model(shape, Rough(0, layers=2))
    theirs = AutoModelForCausalLM.from_pretrained(exported(shape, ours, tmp_path), dtype=torch.float32).eval()
    tokens = torch.randint(0, shape.vocabulary, (3, 16), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(ours.logits(tokens), theirs(tokens).logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", [name for name in SHAPES if name != "gpt2, sinusoidal"])
def test_a_directory_gives_back_the_same_model(name: str, tmp_path: Path) -> None:
    shape = SHAPES[name]
    ours = a_model(shape, Rough(0, layers=2))
    directory = exported(shape, ours, tmp_path)
    assert from_directory(directory) == shape
    with Directory(directory) as source:
        again = a_model(shape, source)
    tokens = torch.arange(16)[None]
    assert torch.equal(again.logits(tokens), ours.logits(tokens))


@pytest.mark.parametrize("name", SHAPES)
def test_parameters_are_counted_as_they_are(name: str) -> None:
    transformer = Transformer(model.pieces(SHAPES[name], Layers()), Layers())
    assert sum(p.numel() for _, p in model.named_parameters(transformer)) == SHAPES[name].parameters()


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_recomputing_activations_changes_no_gradient(architecture: str) -> None:
    tokens = torch.arange(17)[None]
    gradients = []
    for recompute in (False, True):
        shape = a_shape(architecture)
        transformer = a_model(shape, Drawn(0, layers=2))
        if recompute:
            for piece in transformer.pieces:
                piece.recompute = True  # type: ignore[assignment]
        transformer.train()(tokens[:, :-1], tokens[:, 1:]).backward()
        gradients.append({name: p.grad for name, p in model.named_parameters(transformer)})
    for name, gradient in gradients[0].items():
        assert torch.equal(gradient, gradients[1][name])


def test_weights_depend_on_seed_and_name_alone() -> None:
    first, again, other = Drawn(1, layers=2), Drawn(1, layers=2), Drawn(2, layers=2)
    assert torch.equal(first.tensor("a.weight", (4, 4)), again.tensor("a.weight", (4, 4)))
    assert not torch.equal(first.tensor("a.weight", (4, 4)), other.tensor("a.weight", (4, 4)))
    assert not torch.equal(first.tensor("a.weight", (4, 4)), first.tensor("b.weight", (4, 4)))
    assert first.tensor("mlp.down_proj.weight", (64, 64)).std() == pytest.approx(0.01, rel=0.1)


def test_a_new_vocabulary_is_padded_so_that_it_can_be_cut() -> None:
    init = ModelInit(hidden_size=48, heads=6)
    assert from_spec(init, vocabulary=300, length=8).vocabulary == 320
    assert from_spec(init, vocabulary=300, length=8, tensor=3).vocabulary == 384


@pytest.mark.parametrize(
    ("fields", "layout", "message"),
    [
        ({"heads": 6, "hidden": 48}, (4, 1), "tensor 4 does not divide heads 6"),
        ({"kv_heads": 2}, (4, 1), "tensor 4 does not divide kvHeads 2"),
        ({"vocabulary": 131}, (2, 1), "tensor 2 does not divide vocabulary 131"),
        ({}, (1, 3), "pipeline 3 is more than the model's 2 layers"),
    ],
)
def test_a_layout_that_does_not_fit_is_refused(fields: dict[str, Any], layout: tuple[int, int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        a_shape("llama", **fields).check_layout(tensor=layout[0], pipeline=layout[1])


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "mamba"}, "model_type 'mamba' can't be trained here"),
        ({**to_config(a_shape()), "attention_bias": True}, "attention_bias is not supported"),
        ({**to_config(a_shape()), "rope_parameters": {"rope_type": "yarn"}}, "rope scaling"),
        ({**to_config(a_shape()), "head_dim": 64}, "head_dim must be"),
    ],
)
def test_a_model_that_would_be_read_wrongly_is_refused(config: dict[str, Any], message: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=message):
        from_directory(tmp_path)


def test_only_safetensors_are_read(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80")
    with pytest.raises(UserError, match="nothing is unpickled"), Directory(tmp_path):
        pass
