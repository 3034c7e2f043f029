"""Whole runs of the program on a tiny model: what they learn, what they leave, and what they refuse."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer
from tuning import (
    a_config,
    a_run,
    a_teacher,
    a_tokenizer,
    artifact_of,
    failure,
    finish,
    losses,
    preferences,
    questions,
    save_model,
    save_rows,
)

from lmforge_api.run import ExitCode, FineTuneRun
from lmforge_workloads.common import artifact, checkpoints
from lmforge_workloads.common.store import locate
from lmforge_workloads.finetune.build import build
from lmforge_workloads.finetune.data import prepare
from lmforge_workloads.finetune.encode import Encoder


def test_an_adapter_and_the_model_with_it_merged_in_are_left_whole(tuned: FineTuneRun, model: Path) -> None:
    root = Path(tuned.store.root)
    assert artifact.verify(root / "artifact") == artifact.verify(root / "adapter") == []
    assert not list(root.rglob(".staging*"))
    base = AutoModelForCausalLM.from_pretrained(model)
    merged = AutoModelForCausalLM.from_pretrained(root / "artifact")
    beside = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(model), root / "adapter")
    ids = torch.tensor([AutoTokenizer.from_pretrained(root / "artifact")("What is 3?")["input_ids"]])
    with torch.no_grad():
        expected, found, before = (part(ids).logits for part in (beside, merged, base))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(found, before, atol=1e-2)


def test_the_model_card_says_what_it_was_made_from_and_how_it_did(tuned: FineTuneRun) -> None:
    card = (artifact_of(tuned) / "README.md").read_text()
    front = card.split("---")[1]
    assert "base_model:" in front
    assert "library_name: transformers" in front
    assert "| perplexity before |" in card
    assert "| perplexity after |" in card
    assert '"method": "lora"' in card
    assert artifact.digest_of(locate(tuned.model_path)) in card


def test_only_the_adapter_is_saved_on_the_way(tuned: FineTuneRun) -> None:
    step = checkpoints.directory_of(Path(tuned.store.root), 5)
    assert {path.name for path in step.glob("*.safetensors")} == {"adapter_model.safetensors"}
    assert all("lora_" in name for name in load_file(step / "adapter_model.safetensors"))


def test_early_stopping_leaves_the_best_weights(model: Path, rows: Path, tmp_path: Path) -> None:
    run = a_run(
        tmp_path, model=model, rows=rows, steps=20, method="full", earlyStopping={"patience": 2, "minDelta": 5.0},
        evaluation={"everySteps": 2}, checkpoint={"everySteps": 2, "keep": 1},
    )  # fmt: skip
    report = finish(run)
    assert report.step == report.steps == 6  # none was better by 5 nats than that after step 2
    best = load_file(checkpoints.directory_of(tmp_path, 2) / "model.safetensors")
    assert all(
        torch.equal(value, best[name]) for name, value in load_file(artifact_of(run) / "model.safetensors").items()
    )


@pytest.mark.parametrize("packing", [False, True])
def test_a_batch_of_ragged_rows_gives_the_same_loss_however_it_is_cut(
    model: Path, rows: Path, tmp_path: Path, packing: bool
) -> None:
    runs = [
        a_run(tmp_path / str(micro), model=model, rows=rows, batch={"global": 4, "micro": micro}, steps=4,
              dataset={"uri": "pvc://a/b", "packing": packing}, evaluation={"everySteps": 4})
        for micro in (1, 4)
    ]  # fmt: skip
    one, four = map(finish, runs)
    assert losses(runs[0]) == pytest.approx(losses(runs[1]), rel=1e-5)
    assert one.evaluation is not None
    assert four.evaluation is not None
    assert one.evaluation.loss == pytest.approx(four.evaluation.loss, rel=1e-5)


METHODS: dict[str, dict[str, Any]] = {
    "full in bf16": {"method": "full", "precision": "bf16"},
    "qlora": {"method": "qlora", "precision": "bf16"},
    "qlora of 8 bits": {"method": "qlora", "qlora": {"bits": 8}},
    "dora, checkpointed": {"lora": {"dora": True, "rslora": True, "rank": 2}, "gradientCheckpointing": True},
    "distill": {"method": "distill", "distill": {"teacher": {"uri": "pvc://m/t"}, "init": {"dropLayers": [1]}}},
    "distill on policy": {"method": "distill", "distill": {"teacher": {"uri": "pvc://m/t"}, "onPolicy": 0.5}},
    "dpo": {"method": "dpo", "dpo": {"beta": 0.2}},
    "dpo with lora": {"method": "dpo", "lora": {"rank": 2}, "output": {"merge": False}},
}


@pytest.mark.parametrize("method", METHODS)
def test_each_method_learns_and_leaves_what_transformers_loads(
    method: str, model: Path, rows: Path, tmp_path: Path
) -> None:
    if method.startswith("dpo"):
        rows = save_rows(tmp_path / "pairs.jsonl", preferences())
    run = a_run(tmp_path / "run", model=model, rows=rows, **METHODS[method])
    teacher = str(a_teacher(tmp_path / "teacher")) if run.spec.distill else None
    report = finish(run.model_copy(update={"teacher_path": teacher}))
    assert report.fine_tune is not None
    before, after = report.fine_tune.evaluation_before, report.evaluation
    assert before is not None
    assert after is not None
    assert after.loss < before.loss
    assert artifact.verify(artifact_of(run)) == []
    if run.spec.adapter is None or run.spec.merges:
        loaded = AutoModelForCausalLM.from_pretrained(artifact_of(run), dtype="auto")
        assert loaded.dtype == torch.float32  # as the model's own files are
        assert loaded.config.num_hidden_layers == (1 if method == "distill" else 2)
    else:
        PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(model), artifact_of(run))


ROWS = {
    "columns": [{"q": "a", "a": "b"}] * 4,
    "empty": [{"text": " "}] * 3,
    "one": [{"text": "one"}],
}


@pytest.mark.parametrize(
    ("rows", "spec", "code", "says"),
    [
        ("columns", {}, 65, "say by dataset.columns which is what. There are q, a"),
        ("columns", {"dataset": {"uri": "pvc://a/b", "columns": {"prompt": "ask", "completion": "a"}}}, 65,
         "dataset.columns.prompt names the column 'ask', which doesn't exist. There are q, a"),
        ("columns", {"dataset": {"uri": "pvc://a/b", "template": {"text": "{q} {answer}"}}}, 65,
         "dataset.template.text names the column 'answer', which doesn't exist. There are q, a"),
        ("columns", {"dataset": {"uri": "pvc://a/b", "template": {"text": "{q"}}}, 64,
         "dataset.template.text can't be read"),
        ("empty", {}, 65, "of 3 rows 3 are empty, and 0 have more than 128 tokens (rows.jsonl:1: empty;"),
        ("one", {}, 65, "only 1 row is left"),
        ("good", {"lora": {"targetModules": ["W_pack"]}}, 64,
         "W_pack, which no linear layer of LlamaForCausalLM is called: there are down_proj, gate_proj, k_proj"),
        ("good", {"dataset": {"uri": "pvc://a/b", "template": {"chat": "{{ raise_exception('no users') }}"}}}, 64,
         "the chat template doesn't take a conversation of user, assistant: no users"),
        ("good", {"sequenceLength": 8, "dataset": {"uri": "pvc://a/b", "oversize": "fail"}}, 65,
         "rows.jsonl:1: this row has"),
    ],
)  # fmt: skip
def test_bad_input_is_told_in_one_sentence(
    rows: str, spec: dict[str, Any], code: int, says: str, model: Path, tmp_path: Path
) -> None:
    path = save_rows(tmp_path / "rows.jsonl", ROWS.get(rows, questions()))
    ended, message = failure(a_run(tmp_path / "run", model=model, rows=path, **spec))
    assert (ended, says in message) == (code, True), message
    assert not (tmp_path / "run/artifact").exists()


def test_a_teacher_with_another_vocabulary_is_refused(model: Path, rows: Path, tmp_path: Path) -> None:
    other = save_model(tmp_path / "teacher", tokenizer=a_tokenizer(more=["<more>"]), config=a_config(vocab_size=261))
    spec = {"method": "distill", "distill": {"teacher": {"uri": "pvc://m/t"}}}
    run = a_run(tmp_path / "run", model=model, rows=rows, **spec).model_copy(update={"teacher_path": str(other)})
    code, message = failure(run)
    assert code == ExitCode.USER_ERROR
    assert "the teacher has another vocabulary: 1 tokens differ ('<more>'), of 260 here and 261 there" in message


@pytest.mark.parametrize(
    ("broken", "rate", "says"),
    [(True, 1e-3, "the evaluation loss after step 0 is nan: the model's weights are broken"),
     (False, 10.0, "lower optimizer.learningRate, warm up for longer")],
)  # fmt: skip
def test_a_loss_that_is_no_number_ends_it_and_nothing_is_published(
    broken: bool, rate: float, says: str, rows: Path, tmp_path: Path
) -> None:
    directory = save_model(tmp_path / "model")
    if broken:
        weights = load_file(directory / "model.safetensors")
        weights["model.norm.weight"][0] = math.nan
        save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
    run = a_run(
        tmp_path / "run", model=directory, rows=rows, method="full", evaluation={"everySteps": 100},
        optimizer={"learningRate": rate, "gradientClipping": 0}, steps=30, schedule={"warmupRatio": 0},
        checkpoint={"everySteps": 100},
    )  # fmt: skip
    code, message = failure(run)
    assert code == ExitCode.NON_FINITE_LOSS, message
    assert says in message
    assert not artifact_of(run).exists()
    assert checkpoints.complete_steps(tmp_path / "run") == []


def test_the_model_of_a_rank_that_is_alone_is_not_wrapped_for_others(
    model: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wrapper would keep copies of weights and gradients. Ranks see what a pod's main process has set."""
    for name, value in {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1"}.items():
        monkeypatch.setenv(name, value)
    AcceleratorState._reset_state(reset_partial_state=True)
    run = a_run(tmp_path, model=model, rows=rows, method="full")
    tokenizer = AutoTokenizer.from_pretrained(model)
    trainer = build(
        run,
        directory=model,
        tokenizer=tokenizer,
        data=prepare(run, Encoder(tokenizer), say=lambda message: None),
        output=tmp_path / "output",
        resuming=False,
        universal=False,
        device=torch.device("cpu"),
    )
    assert trainer.accelerator.prepare(trainer.model) is trainer.model
