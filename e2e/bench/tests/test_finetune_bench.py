"""What the bench of FineTune makes of what it has seen."""

from __future__ import annotations

import argparse
from dataclasses import replace

import pytest

from e2e.bench.finetune import LOGGED, SAME, Figures, NotTheSame, Training, check_same, means, samples, steps_of
from e2e.bench.pod_memory import allocated

VERSION_1 = "cache 900\nrss 10\nmapped_file 700\ntotal_cache 9000\ntotal_rss 2048\ntotal_mapped_file 7000\n"
VERSION_2 = "anon 4096\nfile 9000\nkernel_stack 16384\nanon_thp 1024\n"

TIMES = [float(step) for step in range(20)]
SEEN = Training(times=TIMES, losses=[3.0, 2.5], tokens={10: 1000, 20: 2100}, peak=2**30)


@pytest.mark.parametrize(("stat", "wanted"), [(VERSION_1, 2048), (VERSION_2, 4096)])
def test_a_pods_memory_is_that_of_all_its_processes_without_the_page_cache(stat: str, wanted: int) -> None:
    assert allocated(stat) == wanted


def test_a_training_is_like_itself_and_like_one_that_differs_by_rounding_or_knows_fewer_steps() -> None:
    check_same(SEEN, SEEN)
    check_same(replace(SEEN, losses=[3.0, 2.5 + SAME / 2], tokens={20: 2100}), SEEN)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (replace(SEEN, tokens={20: 2101}), "until step 20 FineTune trained on 2100 tokens, and the script on 2101"),
        (replace(SEEN, losses=[3.0, 2.6]), "at step 20 FineTune's loss is 2.5000, and the script's 2.6000"),
    ],
)
def test_a_training_on_other_tokens_or_with_other_losses_is_refused(other: Training, said: str) -> None:
    with pytest.raises(NotTheSame, match=said):
        check_same(SEEN, other)


def test_losses_are_averaged_as_trl_logs_them() -> None:
    assert means([1.0] * LOGGED + [2.0, 4.0] * (LOGGED // 2)) == [1.0, 3.0]


def test_throughput_leaves_the_first_steps_out_and_memory_is_told_in_mib() -> None:
    figures = Figures("lora: FineTune")
    figures.add(SEEN, tokens=1100)
    assert figures.speed.values == [110.0]
    assert figures.memory.values == [1024.0]


def test_the_memory_of_methods_is_compared_where_both_were_measured() -> None:
    measured = {}
    for method, peak in (("lora", 2**30), ("full", 2**31)):
        sides = (Figures(f"{method}: FineTune"), Figures(f"{method}: trl"))
        sides[0].add(replace(SEEN, peak=peak), tokens=1100)
        sides[1].add(replace(SEEN, peak=2**29), tokens=1000)
        measured[method] = sides
    found = {sample.name: list(sample.values) for sample in samples(measured)}
    assert found["lora: FineTune / lora: trl"] == pytest.approx([1.1])
    assert found["full: FineTune, memory / full: trl, memory"] == [4.0]
    assert found["lora: FineTune, memory / full: FineTune, memory"] == [0.5]
    assert not any("qlora" in name for name in found)


@pytest.mark.parametrize("text", ["10", "25", "0"])
def test_steps_that_trl_would_not_log_to_the_end_are_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="write a multiple of 10 above 10"):
        steps_of(text)
    assert steps_of("20") == 20
