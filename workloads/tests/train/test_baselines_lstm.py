from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from workload_builders import a_corpus, a_run, a_spec

from lmforge_api.trainingjob import Evaluation, ModelInit, ModelSource
from lmforge_workloads.common.exits import UserError
from lmforge_workloads.train import data as tokens
from lmforge_workloads.train.baselines import export_lstm
from lmforge_workloads.train.export import Outcome
from lmforge_workloads.train.layers import Layers
from lmforge_workloads.train.lstm import Drawn, LstmLanguageModel, LstmShape, pieces, shape_of
from lmforge_workloads.train.model import Transformer, named_parameters

SHAPES = {
    "tied": LstmShape(layers=2, hidden=48, vocabulary=400),
    "untied": LstmShape(layers=1, hidden=48, vocabulary=400, tied=False),
}


def a_model(shape: LstmShape) -> Transformer:
    layers = Layers()
    model = Transformer(pieces(shape, layers), layers)
    source = Drawn(0, hidden=shape.hidden)
    with torch.no_grad():
        for name, parameter in named_parameters(model):
            parameter.copy_(source.tensor(name, parameter.shape))
    return model


@pytest.fixture(scope="module")
def prepared(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> tokens.Data:
    spec = a_spec(
        model=ModelSource(init=ModelInit(architecture="lstm", layers=2, hidden_size=48)),
        dataset=a_corpus(),
        evaluation=Evaluation(holdout=0.1),
    )
    return tokens.prepare(a_run(tmp_path_factory.mktemp("store"), dataset=corpus, spec=spec))


@pytest.mark.parametrize("name", SHAPES)
def test_what_is_exported_loads_into_plain_pytorch_and_computes_the_same(
    name: str, prepared: tokens.Data, tmp_path: Path
) -> None:
    shape = SHAPES[name]
    model = a_model(shape).eval()
    assert sum(parameter.numel() for _, parameter in named_parameters(model)) == shape.parameters()
    outcome = Outcome(steps=1, tokens=1, parameters=shape.parameters(), loss=None, evaluation=None)
    state = [(key, parameter.detach()) for key, parameter in named_parameters(model)]
    export_lstm(a_run(tmp_path), shape=shape, state=state, data=prepared, outcome=outcome)

    plain = LstmLanguageModel.from_directory(tmp_path / "artifact")
    batch = torch.from_numpy(prepared.train_order(sequence_length=32, seed=0).batch(range(3)))
    inputs, targets = batch[:, :-1], batch[:, 1:]
    with torch.no_grad():
        torch.testing.assert_close(plain(inputs), model.logits(inputs))
        expected = F.cross_entropy(plain(inputs).flatten(0, 1), targets.flatten())
        torch.testing.assert_close(model(inputs, targets), expected)


def test_it_learns_a_piece_of_real_text_by_heart(prepared: tokens.Data) -> None:
    model = a_model(shape_of(ModelInit(architecture="lstm", layers=1, hidden_size=64), vocabulary=prepared.vocabulary))
    batch = torch.from_numpy(prepared.train_order(sequence_length=16, seed=0).batch(range(4)))
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-2)
    losses = []
    for _ in range(60):
        loss = model(batch[:, :-1], batch[:, 1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(5.99, abs=0.1)  # ln 400: nothing is known yet
    assert losses[-1] < losses[0] / 3


def test_a_token_is_not_told_what_comes_after_it() -> None:
    model = a_model(SHAPES["tied"]).eval()
    tokens_BT = torch.arange(12).reshape(1, 12)
    changed = tokens_BT.clone()
    changed[0, 8:] = 0
    with torch.no_grad():
        torch.testing.assert_close(model.logits(tokens_BT)[:, :8], model.logits(changed)[:, :8])


def test_the_forget_gates_start_open() -> None:
    model = a_model(SHAPES["tied"])
    weights = dict(named_parameters(model))
    both = weights["lstm.bias_ih_l0"] + weights["lstm.bias_hh_l0"]
    assert both.reshape(4, 48).mean(dim=1).tolist() == [0, 1, 0, 0]


@pytest.mark.parametrize("layout", [{"tensor": 2, "pipeline": 1}, {"tensor": 1, "pipeline": 2}])
def test_it_can_not_be_cut(layout: dict[str, int]) -> None:
    with pytest.raises(UserError, match="data parallel only"):
        SHAPES["tied"].check_layout(**layout)
