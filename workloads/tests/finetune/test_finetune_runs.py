"""Whole runs of the program on a tiny model: what they learn, what they leave, and how they go on."""

import json
import math
import os
import shutil
import signal
from collections.abc import Iterable
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
    a_tokenizer,
    failure,
    finish,
    losses,
    pods,
    questions,
    save_model,
    save_rows,
    wait_for,
)

from lmforge_api.run import ExitCode, FineTuneRun, StorePaths
from lmforge_workloads.common import artifact, checkpoints
from lmforge_workloads.common.store import locate
from lmforge_workloads.finetune.build import build
from lmforge_workloads.finetune.data import prepare
from lmforge_workloads.finetune.encode import Encoder

SIZE = a_config(hidden_size=64, intermediate_size=128)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("model"), config=SIZE)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_rows(tmp_path_factory.mktemp("rows") / "rows.jsonl", questions())


@pytest.fixture(scope="module")
def tuned(model: Path, rows: Path, tmp_path_factory: pytest.TempPathFactory) -> FineTuneRun:
    """A LoRA run of ten steps with dropout, and a checkpoint in the middle."""
    run = a_run(tmp_path_factory.mktemp("tuned"), model=model, rows=rows, lora={"rank": 4, "dropout": 0.1})
    report = finish(run)
    assert report.fine_tune is not None
    assert report.fine_tune.evaluation_before is not None
    assert report.evaluation is not None
    assert report.evaluation.step == report.step == report.steps == 10
    assert report.evaluation.loss < report.fine_tune.evaluation_before.loss - 0.1
    assert report.evaluation.perplexity == pytest.approx(math.exp(report.evaluation.loss))
    return run


def artifact_of(run: FineTuneRun) -> Path:
    return Path(run.store.root) / "artifact"


def copy(run: FineTuneRun, root: Path, *, without: Iterable[str]) -> None:
    """What an attempt that was killed before it left these would have left."""
    shutil.copytree(run.store.root, root)
    for later in without:
        shutil.rmtree(root / later)


def elsewhere(run: FineTuneRun, root: Path) -> FineTuneRun:
    """The next attempt, there."""
    return run.model_copy(update={"attempt": run.attempt + 1, "store": StorePaths(root=str(root))})


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


def test_resuming_is_bit_for_bit_the_uninterrupted_run(tuned: FineTuneRun, tmp_path: Path) -> None:
    copy(tuned, tmp_path / "run", without=("artifact", "adapter", "checkpoints/step-00000010"))
    again = tuned.model_copy(
        update={"attempt": 2, "store": tuned.store.model_copy(update={"root": str(tmp_path / "run")})}
    )
    report = finish(again)
    assert report.start_step == 5
    assert losses(again) == losses(tuned)
    found = load_file(tmp_path / "run/adapter/adapter_model.safetensors")
    for name, value in load_file(Path(tuned.store.root) / "adapter/adapter_model.safetensors").items():
        assert torch.equal(value, found[name]), name


def test_what_is_exported_already_is_told_again(tuned: FineTuneRun) -> None:
    report = finish(tuned.model_copy(update={"attempt": 3}))
    assert report.artifact is not None
    assert report.artifact.format == "HuggingFace"
    assert report.fine_tune is not None
    assert report.fine_tune.adapter is not None
    assert report.fine_tune.adapter.rank == 4


def test_a_damaged_checkpoint_is_passed_over(tuned: FineTuneRun, tmp_path: Path) -> None:
    copy(tuned, tmp_path / "run", without=("artifact", "adapter"))
    (tmp_path / "run/checkpoints/step-00000010/optimizer.pt").write_bytes(b"rubbish")
    again = tuned.model_copy(
        update={"attempt": 2, "store": tuned.store.model_copy(update={"root": str(tmp_path / "run")})}
    )
    report = finish(again)
    assert report.start_step == 5
    assert "the checkpoint of step 10 is damaged (optimizer.pt is damaged): went on from step 5" in report.message


def test_suspending_saves_and_the_next_attempt_goes_on(model: Path, rows: Path, tmp_path: Path) -> None:
    run = a_run(tmp_path, model=model, rows=rows, steps=400, checkpoint={"everySteps": 400})
    with pods(run) as (pod,):
        wait_for(lambda: len(losses(run)) >= 3, "three steps")
        os.kill(pod.process, signal.SIGTERM)
        assert pod.exit_code() == ExitCode.SUSPENDED
        step = pod.words().step
    assert checkpoints.complete_steps(tmp_path) == [step]
    assert not artifact_of(run).exists()
    second = run.model_copy(update={"attempt": 2})
    with pods(second) as (pod,):
        wait_for(lambda: len(losses(run)) > step, "another step")
        pod.kill()
    assert checkpoints.complete_steps(tmp_path) == [step]


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


def a_teacher(directory: Path) -> Path:
    return save_model(directory, config=a_config(num_hidden_layers=3), seed=1)


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
        pairs = [{"prompt": f"Say {n}", "chosen": f"Yes, {n}", "rejected": "No"} for n in range(24)]
        rows = save_rows(tmp_path / "pairs.jsonl", pairs)
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


STRATEGIES = ("ddp", "zero2", "zero3", "fsdp2")


@pytest.mark.distributed
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_two_ranks_learn_as_one_does(strategy: str, model: Path, rows: Path, tmp_path: Path) -> None:
    def case(world: int, **distributed: object) -> FineTuneRun:
        return a_run(
            tmp_path / str(world), model=model, rows=rows, world=world, method="full", steps=6,
            distributed={"processesPerNode": world, **distributed}, optimizer={"learningRate": 1e-3},
        )  # fmt: skip

    one, two = case(1), case(2, strategy=strategy)
    alone, together = finish(one), finish(two)
    assert losses(two) == pytest.approx(losses(one), rel=1e-4)
    assert together.tokens == alone.tokens
    assert together.evaluation is not None
    assert alone.evaluation is not None
    assert together.evaluation.loss == pytest.approx(alone.evaluation.loss, rel=1e-4)
    expected = load_file(artifact_of(one) / "model.safetensors")
    for name, value in load_file(artifact_of(two) / "model.safetensors").items():
        torch.testing.assert_close(value, expected[name], atol=2e-4, rtol=1e-3)


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


@pytest.mark.distributed
def test_another_number_of_ranks_goes_on_with_the_same_rows(tuned: FineTuneRun, tmp_path: Path) -> None:
    """Two pods after one process: batches and steps are the same, so losses are too."""
    plain = a_run(tmp_path / "one", model=Path(tuned.model_path), rows=Path(tuned.dataset_path))
    finish(plain)
    copy(plain, tmp_path / "two", without=("artifact", "adapter", "checkpoints/step-00000010"))
    two = a_run(
        tmp_path / "two", model=Path(tuned.model_path), rows=Path(tuned.dataset_path), attempt=2,
        distributed={"nodes": 2},
    ).model_copy(update={"nodes": 2})  # fmt: skip
    report = finish(two)
    assert report.start_step == 5
    assert losses(two)[:9] == pytest.approx(losses(plain)[:9], rel=1e-4)
    assert json.loads((tmp_path / "two/artifact/manifest.json").read_text())["createdBy"].endswith("attempt 2")


@pytest.mark.distributed
@pytest.mark.parametrize("strategy", ["zero2", "fsdp2"])
def test_what_ranks_have_shared_out_goes_on_with_fewer_of_them(
    strategy: str, model: Path, rows: Path, tmp_path: Path
) -> None:
    def case(root: Path, world: int) -> FineTuneRun:
        distributed = {"strategy": strategy, "processesPerNode": world}
        return a_run(root, model=model, rows=rows, world=world, distributed=distributed)

    two = case(tmp_path / "two", 2)
    finish(two)
    copy(two, tmp_path / "one", without=("artifact", "adapter", "checkpoints/step-00000010"))
    one = case(tmp_path / "one", 1).model_copy(update={"attempt": 2})
    assert finish(one).start_step == 5
    assert losses(one)[:9] == pytest.approx(losses(two)[:9], rel=1e-6)
    assert not list(tmp_path.rglob(".staging*"))
