"""Which layers get an adapter: those that the spec names, or all linear layers of the blocks.

All of them, as in QLoRA (arXiv:2305.14314, section 4), whatever an architecture calls its own: q_proj in Llama,
Mistral, Qwen and InternLM3, qkv_proj where queries, keys and values are one, gate_up_proj in GLM, query_key_value in
ChatGLM, W_pack in Baichuan, wqkv in InternLM2. Never the output layer, whose weights are often the embedding's.
"""

from collections.abc import Iterator, Sequence

from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from lmforge_workloads.common.exits import UserError

_LINEAR = (nn.Linear, Conv1D)  # bitsandbytes' layers are subclasses; Conv1D is GPT-2's


def target_modules(model: PreTrainedModel, wanted: Sequence[str]) -> list[str]:
    """Names, as paths end, of the layers to adapt. Raises `UserError` where a wanted one matches nothing."""
    paths = dict(_linear_layers(model))
    last = sorted({path.rsplit(".", 1)[-1] for path in paths})
    if not wanted:
        if not last:
            raise UserError(f"{type(model).__name__} has no linear layers that an adapter could change")
        return last
    for name in wanted:
        if not any(path == name or path.endswith(f".{name}") for path in paths):
            raise UserError(
                f"lora.targetModules has {name}, which no linear layer of {type(model).__name__} is called:"
                f" there are {', '.join(last)}"
            )
    return sorted(set(wanted))


def _linear_layers(model: PreTrainedModel) -> Iterator[tuple[str, nn.Module]]:
    output = model.get_output_embeddings()
    return ((path, part) for path, part in model.named_modules() if isinstance(part, _LINEAR) and part is not output)
