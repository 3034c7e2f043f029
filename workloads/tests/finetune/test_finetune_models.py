"""Adapters, bases, students and teachers: what is trained of a model, and what must stay as it is."""

from pathlib import Path

import pytest
import torch
from peft import get_peft_model
from transformers import (
    AutoModelForCausalLM,
    Glm4Config,
    GlmConfig,
    GPT2Config,
    InternLM3Config,
    LlamaConfig,
    MistralConfig,
    PreTrainedConfig,
    Qwen2Config,
    Qwen3Config,
)
from tuning import a_config, a_model, a_run, a_tokenizer, save_model

from lmforge_api.finetune_parts import Lora, Qlora, StudentInit
from lmforge_workloads.common.exits import UserError
from lmforge_workloads.finetune import models
from lmforge_workloads.finetune.models import adapter_config, quantization
from lmforge_workloads.finetune.student import kept_layers, make_student
from lmforge_workloads.finetune.targets import target_modules
from lmforge_workloads.finetune.trainers import get_size

SIZES = {
    "vocab_size": 260, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "pad_token_id": 1, "bos_token_id": None, "eos_token_id": 0,
}  # fmt: skip
SPLIT = ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]
FUSED = ["down_proj", "gate_up_proj", "k_proj", "o_proj", "q_proj", "v_proj"]
ARCHITECTURES: dict[str, tuple[type[PreTrainedConfig], list[str]]] = {
    "Llama": (LlamaConfig, SPLIT),
    "Mistral": (MistralConfig, SPLIT),
    "Qwen2": (Qwen2Config, SPLIT),
    "Qwen3": (Qwen3Config, SPLIT),
    "InternLM3": (InternLM3Config, SPLIT),
    "GLM": (GlmConfig, FUSED),
    "GLM4": (Glm4Config, FUSED),
}
IDS = torch.randint(2, 260, (2, 9), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_an_adapter_fits_each_architecture(name: str) -> None:
    """At first it changes nothing; Σ rank × (inputs + outputs) are trained; the base stays; merging changes nothing."""
    kind, expected = ARCHITECTURES[name]
    model = a_model(kind(**SIZES)).eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    layers = {key: part for key, part in model.named_modules() if key.rsplit(".", 1)[-1] in expected}
    rank = 4
    count = sum(rank * (part.in_features + part.out_features) for part in layers.values())
    with torch.no_grad():
        untouched = model(IDS).logits
    config = adapter_config(Lora(rank=rank), model)
    assert sorted(config.target_modules) == expected
    adapted = get_peft_model(model, config)
    with torch.no_grad():
        torch.testing.assert_close(adapted(IDS).logits, untouched, atol=0, rtol=0)
    assert sum(get_size(part) for part in adapted.parameters() if part.requires_grad) == count
    optimizer = torch.optim.SGD([part for part in adapted.parameters() if part.requires_grad], lr=1.0)
    for _ in range(2):
        adapted(IDS, labels=IDS).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    with torch.no_grad():
        trained = adapted(IDS).logits
    assert not torch.allclose(trained, untouched, atol=1e-3)
    for key, value in adapted.get_base_model().state_dict().items():
        if "lora_" not in key:
            assert torch.equal(value, before[key.replace(".base_layer", "")]), key
    with torch.no_grad():
        torch.testing.assert_close(adapted.merge_and_unload()(IDS).logits, trained, atol=1e-5, rtol=1e-4)


def test_layers_of_gpt2_are_found_too() -> None:
    config = GPT2Config(vocab_size=260, n_embd=32, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0)
    assert target_modules(a_model(config), []) == ["c_attn", "c_fc", "c_proj"]


def test_layers_can_be_named_and_must_exist() -> None:
    model = a_model()
    assert target_modules(model, ["v_proj", "mlp.down_proj"]) == ["mlp.down_proj", "v_proj"]
    with pytest.raises(UserError, match=r"W_pack, which no linear layer .* there are down_proj, .*, v_proj$"):
        target_modules(model, ["v_proj", "W_pack"])


@pytest.mark.parametrize("double", [True, False])
def test_a_base_of_4_bits_is_smaller_and_its_parameters_count_as_what_they_stand_for(
    double: bool, tmp_path: Path
) -> None:
    config = a_config(hidden_size=128, intermediate_size=256)
    save_model(tmp_path, config=config)
    settings = quantization(Qlora(double_quant=double), compute=torch.float32)
    plain = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    packed = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32, quantization_config=settings)
    sizes = [sum(map(get_size, each.parameters())) for each in (plain, packed)]
    assert sizes[0] == sizes[1]
    weights = [each.model.layers[0].mlp.up_proj.weight for each in (plain, packed)]
    assert weights[0].nbytes / weights[1].nbytes == pytest.approx(8.0)
    with torch.no_grad():
        expected, found = (each(IDS).logits for each in (plain, packed))
    assert 0 < (found - expected).abs().max() < 0.2


@pytest.mark.parametrize("bits", [4, 8])
def test_an_evaluation_leaves_the_gradients_through_quantised_weights_as_they_were(tmp_path: Path, bits: int) -> None:
    save_model(tmp_path, config=a_config(hidden_size=128, intermediate_size=256))
    run = a_run(tmp_path / "run", model=tmp_path, rows=tmp_path, method="qlora", qlora={"bits": bits})
    model = models.load_base(run, tmp_path, device=torch.device("cpu")).requires_grad_(False)

    def gradient() -> torch.Tensor:
        embedded = model.get_input_embeddings()(IDS).detach().requires_grad_(True)
        model.train()(inputs_embeds=embedded, labels=IDS).loss.backward()
        return embedded.grad

    before = gradient()
    with torch.no_grad():
        model.eval()(input_ids=IDS)
    torch.testing.assert_close(gradient(), before)


def test_a_student_keeps_some_layers_of_its_teacher() -> None:
    teacher = a_model(a_config(num_hidden_layers=4))
    student = make_student(teacher, StudentInit(drop_layers=[1, 2]), seed=0)
    assert student.config.num_hidden_layers == 2
    mine, its = student.state_dict(), teacher.state_dict()
    assert torch.equal(mine["model.layers.1.mlp.up_proj.weight"], its["model.layers.3.mlp.up_proj.weight"])
    assert torch.equal(mine["model.embed_tokens.weight"], its["model.embed_tokens.weight"])
    with torch.no_grad():
        teacher.model.layers = torch.nn.ModuleList([teacher.model.layers[n] for n in (0, 3)])
        torch.testing.assert_close(student(IDS).logits, teacher(IDS, use_cache=False).logits)


def test_a_student_of_another_shape_has_new_weights_from_the_seed() -> None:
    init = StudentInit.model_validate({"shape": {"layers": 1, "hiddenSize": 16, "heads": 2}})
    one, same, other = (make_student(a_model(), init, seed=seed) for seed in (0, 0, 1))
    config = one.config
    assert (config.hidden_size, config.num_hidden_layers, config.intermediate_size, config.head_dim) == (16, 1, 32, 8)
    weights = [each.model.layers[0].mlp.up_proj.weight for each in (one, same, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_layers_that_do_not_exist_cannot_be_kept() -> None:
    assert kept_layers(4, keep=[3, 0], drop=[]) == [0, 3]
    with pytest.raises(UserError, match=r"names layer 4, and the model has 4, counted from 0"):
        kept_layers(4, keep=[4], drop=[])
    with pytest.raises(UserError, match="leaves none of the 2 layers"):
        kept_layers(2, keep=[], drop=[0, 1])


@pytest.mark.parametrize(
    ("breakage", "says"),
    [
        ("nothing", "has no config.json"),
        ("adapter", "is an adapter, not a model"),
        ("unknown", "can't be loaded: .*baichuan"),
        ("pickle", "can't be loaded: .*model.safetensors"),
    ],
)
def test_a_model_that_cannot_be_loaded_is_told_in_one_sentence(breakage: str, says: str, tmp_path: Path) -> None:
    directory = tmp_path / "model"
    directory.mkdir()
    if breakage != "nothing":
        save_model(directory)
    if breakage == "adapter":
        (directory / "adapter_config.json").write_text("{}")
    if breakage == "unknown":
        (directory / "config.json").write_text('{"model_type": "baichuan"}')
    if breakage == "pickle":
        (directory / "model.safetensors").rename(directory / "pytorch_model.bin")
    run = a_run(tmp_path / "run", model=directory, rows=directory)
    with pytest.raises(UserError, match=says):
        models.load_base(run, models.directory_of(run.model_path), device=torch.device("cpu"))


def test_a_tokenizer_larger_than_its_model_is_refused() -> None:
    with pytest.raises(UserError, match="the tokenizer has 261 tokens, the model only 260"):
        models.check_tokenizer(a_tokenizer(more=["<more>"]), a_model())


def test_a_tokenizer_without_a_padding_token_pads_with_its_end(tmp_path: Path) -> None:
    tokenizer = a_tokenizer()
    tokenizer.pad_token = None
    save_model(tmp_path, tokenizer=tokenizer)
    run = a_run(tmp_path / "run", model=tmp_path, rows=tmp_path)
    assert models.load_tokenizer(run, tmp_path).pad_token == "<|endoftext|>"
