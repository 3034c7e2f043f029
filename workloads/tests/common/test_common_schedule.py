"""The learning rate against its closed form."""

import math

import pytest

from lmforge_api.trainingjob import Schedule
from lmforge_workloads.common.schedule import learning_rate


def rate(step: int, *, steps: int = 101, **fields: object) -> float:
    schedule = Schedule.model_validate(fields)
    return learning_rate(step, schedule, warmup_steps=schedule.warmup_steps, peak=2.0, steps=steps)


def test_warm_up_is_linear_and_ends_at_the_peak() -> None:
    rates = [rate(step, warmupSteps=4) for step in range(5)]
    assert rates == pytest.approx([0.4, 0.8, 1.2, 1.6, 2.0])


def test_cosine_goes_from_the_peak_to_the_minimum() -> None:
    for step in range(101):
        expected = 2.0 * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * step / 100)))
        assert rate(step, minimumRatio=0.1) == pytest.approx(expected)


@pytest.mark.parametrize(("kind", "half", "last"), [("cosine", 1.2, 0.4), ("linear", 1.2, 0.4), ("constant", 2.0, 2.0)])
def test_each_kind_has_its_half_way_and_its_end(kind: str, half: float, last: float) -> None:
    assert rate(0, kind=kind, minimumRatio=0.2) == pytest.approx(2.0)
    assert rate(50, kind=kind, minimumRatio=0.2) == pytest.approx(half)
    assert rate(100, kind=kind, minimumRatio=0.2) == pytest.approx(last)


def test_a_warm_up_longer_than_the_run_only_rises() -> None:
    rates = [rate(step, steps=10, warmupSteps=50) for step in range(10)]
    assert rates == sorted(rates)
    assert rates[-1] < 2.0


def test_a_single_step_has_the_peak() -> None:
    assert rate(0, steps=1) == 2.0
