import pytest
import torch

from lmforge_workloads.train.layers import Split
from lmforge_workloads.train.megatron_names import recipes, to_hugging_face
from lmforge_workloads.train.model import Layers, Transformer, named_parameters, pieces
from lmforge_workloads.train.shape import Shape
from lmforge_workloads.train.weights import Drawn

SHAPES = {
    "llama": Shape("llama", 3, 32, 96, heads=4, kv_heads=4, vocabulary=64, positions=16),
    "llama, grouped, untied": Shape("llama", 3, 32, 96, heads=8, kv_heads=2, vocabulary=64, positions=16, tied=False),
    "llama, one key": Shape("llama", 1, 32, 96, heads=4, kv_heads=1, vocabulary=64, positions=16),
    "gpt2": Shape("gpt2", 3, 32, 128, heads=4, kv_heads=4, vocabulary=64, positions=16),
}
each_shape = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)


@each_shape
def test_together_the_recipes_use_every_parameter_of_the_model_once(shape: Shape) -> None:
    layers = Layers()
    ours = {name: tuple(value.shape) for name, value in named_parameters(Transformer(pieces(shape, layers), layers))}
    used = [source for recipe in recipes(shape).values() for source in recipe.sources.items()]
    assert len(used) == len(ours)
    assert dict(used) == ours


@each_shape
def test_there_and_back_every_value_is_the_same(shape: Shape) -> None:
    source = Drawn(0, layers=shape.layers)
    state = [(name, recipe.make(source)) for name, recipe in recipes(shape).items()]
    back = dict(to_hugging_face(state, shape))
    for recipe in recipes(shape).values():
        for name, size in recipe.sources.items():
            torch.testing.assert_close(back[name], source.tensor(name, size), rtol=0, atol=0)
    assert sum(value.numel() for _, value in state) == shape.parameters()


def test_a_group_holds_its_queries_then_its_key_then_its_value() -> None:
    shape = SHAPES["llama, grouped, untied"]
    recipe = recipes(shape)["decoder.layers.0.self_attention.linear_qkv.weight"]
    q, k, v = (torch.arange(rows).repeat_interleave(4)[:, None].expand(-1, 32) for rows in (8, 2, 2))
    heads = recipe.join([q, k + 100, v + 200])[::4, 0].tolist()
    assert heads == [0, 1, 2, 3, 100, 200, 4, 5, 6, 7, 101, 201]


@pytest.mark.parametrize("name", ["llama", "llama, grouped, untied", "gpt2"])
@pytest.mark.parametrize("rank", [0, 1])
def test_a_tensor_parallel_rank_gets_the_heads_and_columns_that_belong_together(name: str, rank: int) -> None:
    shape = SHAPES[name]
    known = recipes(shape)
    source = Drawn(0, layers=shape.layers)
    qkv = known["decoder.layers.1.self_attention.linear_qkv.weight"]
    whole = qkv.make(source)
    mine = qkv.cut.cut(whole, rank=rank, size=2)
    parts = [Split(0).cut(part, rank=rank, size=2) for part in qkv.part(whole)]
    if name == "gpt2":
        (fused,) = qkv.part(whole)
        parts = list(Split(0, parts=3).cut(fused, rank=rank, size=2).chunk(3))
    groups = shape.kv_heads // 2
    grouped = [part.reshape(groups, -1, 32) for part in parts]
    torch.testing.assert_close(mine, torch.cat(grouped, dim=1).flatten(0, 1), rtol=0, atol=0)
