import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from workload_builders import a_corpus, a_run, a_spec

from lmforge_api.run import EvaluationResult, StorePaths, TrainingRun
from lmforge_api.trainingjob import Evaluation, ModelInit, ModelSource
from lmforge_workloads.common import artifact
from lmforge_workloads.common.exported import exported
from lmforge_workloads.common.metrics import MetricsLog
from lmforge_workloads.train import data as tokens
from lmforge_workloads.train.data import Data
from lmforge_workloads.train.export import Outcome, export_transformer, save_weights
from lmforge_workloads.train.layers import Layers
from lmforge_workloads.train.model import Transformer, named_parameters, pieces
from lmforge_workloads.train.shape import from_directory, from_spec
from lmforge_workloads.train.weights import Directory, Drawn, for_export

OUTCOME = Outcome(
    steps=3, tokens=96, parameters=1000, loss=3.5, evaluation=EvaluationResult(step=3, loss=4, perplexity=55)
)
LENGTH = 32
MODELS = {
    "llama": ModelInit(layers=2, hidden_size=32, heads=4),
    "llama, grouped heads, untied": ModelInit(layers=2, hidden_size=32, heads=4, kv_heads=2, tie_embeddings=False),
    "gpt2": ModelInit(architecture="gpt2", layers=2, hidden_size=32, heads=4),
    "gpt2, sinusoidal": ModelInit(
        architecture="gpt2", layers=2, hidden_size=32, heads=4, position_encoding="sinusoidal"
    ),
}


@pytest.fixture(scope="module")
def prepared(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Data:
    return tokens.prepare(a_run(tmp_path_factory.mktemp("store"), dataset=corpus, spec=spec_of("llama")))


def spec_of(name: str) -> object:
    return a_spec(
        model=ModelSource(init=MODELS[name]),
        dataset=a_corpus(),
        evaluation=Evaluation(holdout=0.1),
        sequence_length=LENGTH,
    )


def a_model(name: str, data: Data) -> tuple[Transformer, object]:
    """A model with weights that are no special case: biases and norms are not 0 and 1."""
    shape = from_spec(MODELS[name], vocabulary=data.vocabulary, length=LENGTH)
    layers = Layers()
    model = Transformer(pieces(shape, layers), layers).eval()
    source = Drawn(0, layers=shape.layers)
    with torch.no_grad():
        for key, parameter in named_parameters(model):
            parameter.copy_(source.tensor(key, parameter.shape) + 0.05 * torch.randn_like(parameter))
    return model, shape


def export_of(run: TrainingRun, model: Transformer, shape: object, data: Data) -> Path:
    state = for_export(((name, parameter.detach()) for name, parameter in named_parameters(model)), shape)
    status = export_transformer(run, shape=shape, state=state, data=data, outcome=OUTCOME)
    assert status == exported(run)
    return Path(run.store.root) / "artifact"


@pytest.mark.parametrize("name", MODELS)
def test_transformers_loads_it_whole_computes_the_same_and_generates(name: str, prepared: Data, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, shape = a_model(name, prepared)
    directory = export_of(a_run(tmp_path, spec=spec_of(name)), model, shape, prepared)
    theirs, loading = AutoModelForCausalLM.from_pretrained(directory, output_loading_info=True, use_safetensors=True)
    assert {key: list(found) for key, found in loading.items() if found} == {}
    assert theirs.dtype == torch.float32

    batch = torch.from_numpy(prepared.train_order(sequence_length=LENGTH, seed=0).batch(range(2)))[:, :-1]
    with torch.no_grad():
        torch.testing.assert_close(model.logits(batch), theirs(batch).logits, rtol=1e-4, atol=1e-5)

    tokenizer = AutoTokenizer.from_pretrained(directory)
    written = theirs.generate(**tokenizer("import os", return_tensors="pt"), max_new_tokens=8, do_sample=False)
    assert tokenizer.decode(written[0]).startswith("import os")


@pytest.mark.parametrize("name", MODELS)
def test_training_can_go_on_from_it(name: str, prepared: Data, tmp_path: Path) -> None:
    model, shape = a_model(name, prepared)
    directory = export_of(a_run(tmp_path, spec=spec_of(name)), model, shape, prepared)
    assert from_directory(directory).parameters() == shape.parameters() + (
        shape.positions * shape.hidden if shape.sinusoidal else 0  # it comes back as a learned table
    )
    with Directory(directory) as source:
        for key, parameter in named_parameters(model):
            torch.testing.assert_close(source.tensor(key, parameter.shape), parameter.detach(), rtol=0, atol=0)
    again = tokens.prepare(a_run(tmp_path / "next", dataset=write_text(tmp_path), model_path=f"file://{directory}"))
    assert again.vocabulary == prepared.vocabulary
    manifest = artifact.read_manifest(directory)
    assert manifest is not None
    assert {each.name: each.digest for each in again.inputs()}["model"] == manifest.digest


def write_text(directory: Path) -> Path:
    (directory / "a.jsonl").write_text('{"text": "import os"}\n{"text": "import sys"}\n')
    return directory / "a.jsonl"


def test_it_holds_how_it_came_about(prepared: Data, tmp_path: Path) -> None:
    with MetricsLog(tmp_path, attempt=1, start_step=0) as log:
        log.write(1, loss=5.0)
    run = a_run(tmp_path, spec=spec_of("llama"))
    model, shape = a_model("llama", prepared)
    directory = export_of(run, model, shape, prepared)
    training = json.loads((directory / "training.json").read_text())
    assert training["spec"] == run.spec.wire()
    assert training["facts"]["perplexity"] == "55.0000"
    assert training["inputs"][0]["digest"] == prepared.metadata["dataset.digest"]
    assert json.loads((directory / "metrics.jsonl").read_text())["loss"] == 5.0
    assert len(list((directory / "tensorboard").iterdir())) == 1
    assert "default/tiny" in (directory / "report.html").read_text()
    assert artifact.verify(directory) == []
    forbidden = [path.name for path in directory.rglob("*") if path.suffix in (".bin", ".pt", ".pkl", ".pth")]
    assert forbidden == []


def test_its_status_says_where_it_is(prepared: Data, tmp_path: Path) -> None:
    run = a_run(tmp_path, spec=spec_of("llama"))
    run = run.model_copy(update={"store": StorePaths(root=str(tmp_path), uri="pvc://lmforge-store/trainingjob/x/")})
    assert exported(run) is None
    model, shape = a_model("llama", prepared)
    export_of(run, model, shape, prepared)
    status = exported(run)
    assert status is not None
    assert status.uri == "pvc://lmforge-store/trainingjob/x/artifact"
    assert status.format == "HuggingFace"
    assert status.size_bytes > 1000
    assert status.shape is not None
    assert (status.shape.layers, status.shape.heads, status.shape.head_size, status.shape.context_length) == (
        shape.layers, shape.heads, shape.hidden // shape.heads, shape.positions,
    )  # fmt: skip


@pytest.mark.parametrize("limit", [1, 200, 10_000])
def test_large_models_are_written_in_shards_that_can_be_found(tmp_path: Path, limit: int) -> None:
    state = {f"layer.{n}": torch.full((10, n + 1), float(n)) for n in range(5)}
    save_weights(tmp_path, iter(state.items()), dtype=torch.float32, shard_bytes=limit)
    files = sorted(path.name for path in tmp_path.glob("*.safetensors"))
    if limit == 10_000:
        assert files == ["model.safetensors"]
        places = dict.fromkeys(state, files[0])
    else:
        assert files[-1] == f"model-{len(files):05}-of-{len(files):05}.safetensors"
        index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
        assert index["metadata"]["total_size"] == 4 * 10 * (1 + 2 + 3 + 4 + 5)
        places = index["weight_map"]
    for name, value in state.items():
        with safe_open(tmp_path / places[name], framework="pt") as file:
            assert torch.equal(file.get_tensor(name), value)
