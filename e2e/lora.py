"""LoRA adapters for the scenarios' model, made by hand: as PEFT writes them, with weights that change every answer."""

from __future__ import annotations

import json
from pathlib import Path

RANK = 8
MODULES = ("q_proj", "v_proj")


def make_adapter(model: Path, directory: Path, *, seed: int, rank: int = RANK) -> Path:
    """Writes an adapter for a Llama-like model: random matrices, another seed's answers differ."""
    import torch
    from safetensors.torch import save_file

    config = json.loads((model / "config.json").read_text())
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    widths = {"q_proj": hidden, "v_proj": hidden // heads * config["num_key_value_heads"]}
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for layer in range(config["num_hidden_layers"]):
        for module in MODULES:
            place = f"base_model.model.model.layers.{layer}.self_attn.{module}"
            weights[f"{place}.lora_A.weight"] = torch.randn(rank, hidden, generator=generator) / hidden**0.5
            weights[f"{place}.lora_B.weight"] = torch.randn(widths[module], rank, generator=generator) / rank**0.5
    directory.mkdir(parents=True)
    save_file(weights, directory / "adapter_model.safetensors")
    told = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": rank, "lora_alpha": rank, "target_modules": MODULES}
    (directory / "adapter_config.json").write_text(json.dumps(told | {"bias": "none", "lora_dropout": 0.0}))
    return directory
