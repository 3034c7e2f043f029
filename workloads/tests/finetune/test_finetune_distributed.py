"""Runs over several ranks: they learn as a single process does, and go on in another number."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tuning import a_run, a_teacher, artifact_of, copy, finish, losses, preferences, questions, save_rows

from lmforge_api.run import FineTuneRun

FULL: dict[str, Any] = {"method": "full", "optimizer": {"learningRate": 1e-3, "weightDecay": 0.1}}
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


METHODS: dict[str, dict[str, Any]] = {
    "lora": {},
    "qlora": {"method": "qlora"},
    "distill": {"method": "distill", "distill": {"teacher": {"uri": "pvc://models/teacher"}}},
    "dpo": {"method": "dpo", "optimizer": {"learningRate": 1e-3}},
}
IN_PARTS = (
    *((method, "fsdp2") for method in METHODS),
    *((method, "zero3") for method in METHODS if method != "qlora"),
    ("qlora", "zero2"),
)


@pytest.mark.distributed
@pytest.mark.parametrize(("method", "strategy"), IN_PARTS)
def test_two_ranks_learn_by_each_method_as_one_does(
    method: str, strategy: str, model: Path, rows: Path, tmp_path: Path
) -> None:
    path = save_rows(tmp_path / "pairs.jsonl", preferences()) if method == "dpo" else rows
    teacher = str(a_teacher(tmp_path / "teacher")) if method == "distill" else None

    def case(world: int) -> FineTuneRun:
        distributed = {"strategy": strategy, "processesPerNode": world}
        run = a_run(
            tmp_path / str(world),
            model=model,
            rows=path,
            world=world,
            steps=6,
            distributed=distributed,
            **METHODS[method],
        )
        return run.model_copy(update={"teacher_path": teacher})

    one, two = case(1), case(2)
    finish(one)
    finish(two)
    assert losses(two) == pytest.approx(losses(one), rel=1e-3 if method == "qlora" else 1e-4)


RAGGED: dict[str, Any] = {
    "lora": {},
    "packed": {"dataset": {"uri": "pvc://a/b", "packing": True}},
    "dpo": {"method": "dpo", "optimizer": {"learningRate": 1e-3}},
    "accumulated by zero2": {**FULL, "batch": {"global": 8, "micro": 2}, "distributed": {"strategy": "zero2"}},
}


@pytest.mark.distributed
@pytest.mark.parametrize("method", RAGGED)
def test_rows_that_do_not_divide_into_batches_count_the_same_on_two_ranks_as_on_one(
    method: str, model: Path, tmp_path: Path
) -> None:
    """35 rows to train, several times over; accelerate would fill the last batch of each epoch up, by ranks."""
    rows = preferences(37) if method == "dpo" else questions(37)
    path = save_rows(tmp_path / "rows.jsonl", rows)

    def case(world: int) -> FineTuneRun:
        spec = {"epochs": 2.2, "steps": None, **RAGGED[method]}
        distributed = {**spec.get("distributed", {}), "processesPerNode": world}
        return a_run(tmp_path / str(world), model=model, rows=path, world=world, **spec | {"distributed": distributed})

    one, two = case(1), case(2)
    alone, together = finish(one), finish(two)
    assert alone.fine_tune is not None
    assert alone.fine_tune.epoch is not None
    assert 2.2 <= alone.fine_tune.epoch < 2.8
    assert together.tokens == alone.tokens
    assert losses(two) == pytest.approx(losses(one), rel=1e-4)


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


SHARED: dict[str, Any] = {
    "lora by zero2": {"distributed": {"strategy": "zero2"}},
    "lora by fsdp2": {"distributed": {"strategy": "fsdp2"}},
    "lora by zero3": {"distributed": {"strategy": "zero3"}},
    "full by zero2": {"distributed": {"strategy": "zero2"}, **FULL},
    "full by zero3": {"distributed": {"strategy": "zero3"}, **FULL},
    "full by fsdp2": {"distributed": {"strategy": "fsdp2"}, **FULL},
}


@pytest.mark.distributed
@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2)])
@pytest.mark.parametrize("method", SHARED)
def test_what_ranks_have_shared_out_goes_on_with_another_number_of_them(
    method: str, before: int, after: int, model: Path, rows: Path, tmp_path: Path
) -> None:
    """Moments, their counters of steps, and each group's weight decay: else losses would part after a few steps."""
    spec = SHARED[method]

    def case(root: Path, world: int) -> FineTuneRun:
        distributed = spec["distributed"] | {"processesPerNode": world}
        return a_run(root, model=model, rows=rows, world=world, **spec | {"distributed": distributed})

    first = case(tmp_path / "first", before)
    finish(first)
    lost = ["artifact", "checkpoints/step-00000010", *(["adapter"] if method.startswith("lora") else [])]
    copy(first, tmp_path / "again", without=lost)
    again = case(tmp_path / "again", after).model_copy(update={"attempt": 2})
    assert finish(again).start_step == 5
    assert losses(again) == pytest.approx(losses(first), rel=1e-6)
    assert not list(tmp_path.rglob(".staging*"))
