"""The checkpoint format by itself: fragments in, parameters out, whatever the layout, and damage seen."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lmforge_workloads.common import artifact, checkpoints
from lmforge_workloads.train import checkpoint
from lmforge_workloads.train.engine import Fragment
from lmforge_workloads.train.layers import Split
from lmforge_workloads.train.layout import Layout
from lmforge_workloads.train.saver import Saver
from lmforge_workloads.train.weights import generator

PARAMETERS = {"matrix": ((8, 6), Split(0)), "row": ((4, 8), Split(1)), "fused": ((12, 2), Split(0, 3)),
              "norm": ((7,), Split())}  # fmt: skip


def whole(kind: str, name: str) -> torch.Tensor:
    return torch.randn(PARAMETERS[name][0], generator=generator(0, kind, name))


@dataclass
class FakeEngine:
    """Owns its data-parallel share of every parameter's tensor-parallel part, as ZeRO does."""

    layout: Layout
    filled: bool = True
    state: dict[str, Any] = field(default_factory=dict)
    _fragments: list[Fragment] = field(default_factory=list)

    def __post_init__(self) -> None:
        for name, (_, split) in PARAMETERS.items():
            parts = {kind: split.cut(whole(kind, name), rank=self.layout.tensor_rank, size=self.layout.tensor)
                     for kind in checkpoint.KINDS}  # fmt: skip
            size, flat = tuple(parts["weight"].shape), parts["weight"].numel()
            share = -(-flat // self.layout.data)
            start = share * self.layout.data_rank
            if start >= flat:
                continue
            tensors = {kind: part.reshape(-1)[start : start + share].clone() for kind, part in parts.items()}
            if not self.filled:
                tensors = {kind: torch.full_like(tensor, -1) for kind, tensor in tensors.items()}
            self._fragments.append(Fragment(name, size, split, start, **tensors, owned=True))

    def fragments(self) -> Iterator[Fragment]:
        return iter(self._fragments)

    def updates(self) -> int:
        return 3

    def scaler(self) -> dict[str, float]:
        return {"scale": 8.0}

    def restored(self, *, updates: int, scaler: dict[str, float]) -> None:
        self.state = {"updates": updates, "scaler": scaler}


def savers(root: Path, layouts: Sequence[Layout], **options: Any) -> list[Saver]:
    return [
        Saver(root, layout, attempt=1, created_by="test", **({"keep": 2, "background": True} | options))
        for layout in layouts
    ]


def layouts(data: int, tensor: int) -> list[Layout]:
    return [Layout(data, tensor, 1, rank) for rank in range(data * tensor)]


def save(root: Path, step: int, data: int = 2, tensor: int = 1, **options: Any) -> Path:
    started = savers(root, layouts(data, tensor), **options)
    for saver in started:
        saver.save(step, FakeEngine(saver.layout))  # type: ignore[arg-type]
    for saver in started:
        saver.wait()
    return checkpoints.directory_of(root, step)


@given(st.sampled_from([1, 2, 3]), st.sampled_from([1, 2]), st.sampled_from([1, 2, 3]), st.sampled_from([1, 2]))
def test_any_layout_reads_what_any_other_wrote(
    tmp_path_factory: pytest.TempPathFactory, data: int, tensor: int, new_data: int, new_tensor: int
) -> None:
    directory = save(tmp_path_factory.mktemp("run"), 5, data, tensor)
    for layout in layouts(new_data, new_tensor):
        engine, expected = FakeEngine(layout, filled=False), FakeEngine(layout)
        state = checkpoint.load(engine, directory, layout)  # type: ignore[arg-type]
        assert (state.step, engine.state) == (5, {"updates": 3, "scaler": {"scale": 8.0}})
        for fragment, other in zip(engine.fragments(), expected.fragments(), strict=True):
            for kind, tensor_ in fragment.tensors().items():
                assert torch.equal(tensor_, other.tensors()[kind])
    for name, value in checkpoint.whole_weights(directory):
        assert torch.equal(value, whole("weight", name))


def test_the_newest_are_kept(tmp_path: Path) -> None:
    for step in (5, 10, 15, 20):
        save(tmp_path, step, keep=2)
    assert checkpoints.complete_steps(tmp_path) == [20, 15]


@pytest.mark.parametrize("share", range(3))
def test_ranks_together_see_every_damage(tmp_path: Path, share: int) -> None:
    directory = save(tmp_path, 5, data=2)
    assert not any(checkpoints.damaged_files(directory, share=rank, shares=3) for rank in range(3))
    names = sorted(name for name in artifact.read_manifest(directory).files)  # type: ignore[union-attr]
    victim = directory / names[share]
    victim.write_bytes(victim.read_bytes()[:-1] + b"\x00")
    found = [problem for rank in range(3) for problem in checkpoints.damaged_files(directory, share=rank, shares=3)]
    assert found == [f"{names[share]} is damaged"]
    victim.unlink()
    assert checkpoints.damaged_files(directory, share=share, shares=3) == [f"{names[share]} is missing"]


def test_nothing_is_complete_until_the_last_shard_is_there(tmp_path: Path) -> None:
    first, second = savers(tmp_path, layouts(2, 1))
    first.save(5, FakeEngine(first.layout))  # type: ignore[arg-type]
    time.sleep(0.2)
    assert checkpoints.complete_steps(tmp_path) == []
    second.save(5, FakeEngine(second.layout))  # type: ignore[arg-type]
    first.wait()
    assert checkpoints.complete_steps(tmp_path) == [5]
    assert first.newest is not None
    assert first.newest.step == 5


def test_what_an_earlier_attempt_left_half_done_is_not_taken_for_this_ones(tmp_path: Path) -> None:
    (_, stale) = savers(tmp_path, layouts(2, 1))
    stale.save(5, FakeEngine(stale.layout))  # type: ignore[arg-type]
    stale.wait()
    first = Saver(tmp_path, Layout(2, 1, 1, 0), attempt=2, keep=2, created_by="test", background=True)
    first.save(5, FakeEngine(first.layout))  # type: ignore[arg-type]
    time.sleep(0.2)
    assert checkpoints.complete_steps(tmp_path) == []
    second = Saver(tmp_path, Layout(2, 1, 1, 1), attempt=2, keep=2, created_by="test", background=False)
    second.save(5, FakeEngine(second.layout))  # type: ignore[arg-type]
    first.wait()
    assert checkpoints.complete_steps(tmp_path) == [5]


def test_training_may_go_on_while_a_checkpoint_is_written(tmp_path: Path) -> None:
    (saver,) = savers(tmp_path, layouts(1, 1))
    engine = FakeEngine(saver.layout)
    saver.save(5, engine)  # type: ignore[arg-type]
    for fragment in engine.fragments():
        fragment.weight.zero_()
    saver.wait()
    for name, value in checkpoint.whole_weights(checkpoints.directory_of(tmp_path, 5)):
        assert torch.equal(value, whole("weight", name))


def test_an_error_in_the_background_is_raised_by_the_next_call(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text("a file where a directory should be")
    (saver,) = savers(tmp_path, layouts(1, 1))
    saver.save(5, FakeEngine(saver.layout))  # type: ignore[arg-type]
    with pytest.raises(OSError, match="checkpoints"):
        saver.wait()
    with pytest.raises(OSError, match="checkpoints"):
        saver.check()
