"""The learning rate of a step, in closed form: linear warm-up, then cosine (arXiv:1608.03983), linear or constant."""

import math

from lmforge_api.training import Decay


def learning_rate(step: int, decay: Decay, *, warmup_steps: int, peak: float, steps: int) -> float:
    """The rate of step `step`, 0 for the first; `peak` after the warm-up, `peak × minimumRatio` at the last step."""
    if step < warmup_steps:
        return peak * (step + 1) / (warmup_steps + 1)
    progress = (step - warmup_steps) / max(1, steps - 1 - warmup_steps)
    return peak * (decay.minimum_ratio + (1 - decay.minimum_ratio) * _shape(decay.kind, min(1.0, progress)))


def _shape(kind: str, progress: float) -> float:
    """From 1 at the peak to 0 at the end."""
    match kind:
        case "cosine":
            return 0.5 * (1 + math.cos(math.pi * progress))
        case "linear":
            return 1 - progress
        case _:
            return 1.0
