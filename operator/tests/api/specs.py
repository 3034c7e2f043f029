"""Specs of TrainingJobs for tests: a good one, and how to change it."""

from typing import Any, NamedTuple

Fields = dict[str, Any]

GOOD: Fields = {
    "model": {"init": {"architecture": "llama", "layers": 8, "hiddenSize": 256, "heads": 8}},
    "dataset": {"uri": "pvc://corpus/python-docs"},
    "parallelism": {"data": 2, "tensor": 2, "pipeline": 2},
    "nodes": 2,
    "steps": 400,
}
"""Eight ranks in two pods."""

ALONE: Fields = {"parallelism": None, "nodes": None}
GPU: Fields = {"resources": {"accelerator": "nvidia.com/gpu", "count": 4}}


class Refused(NamedTuple):
    """A spec that the API server refuses."""

    name: str
    change: Fields
    sentence: str
    field: str
    """Where the sentence points at, below spec."""


def patched(base: Fields, change: Fields) -> Fields:
    """JSON merge patch (RFC 7396)."""
    result = dict(base)
    for key, value in change.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict):
            old = result.get(key)
            result[key] = patched(old if isinstance(old, dict) else {}, value)
        else:
            result[key] = value
    return result


def init(**fields: Any) -> Fields:
    return {"model": {"init": fields}}
