"""Lets code that is written for CUDA run on a CPU: devices are redirected, streams and events do nothing.

megatron-core's schedules, data parallelism and optimizer name CUDA devices and tensor types. With this, all of their
logic and ours runs for real, over gloo; only the kernels are others. It changes the process for good: for worlds.
"""

import contextlib
from collections.abc import Callable
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

_CPU = torch.device("cpu")


class _Redirected(TorchFunctionMode):
    def __torch_function__(
        self, function: Callable[..., Any], types: Any, arguments: Any = (), keywords: dict[str, Any] | None = None
    ) -> Any:
        arguments = [_CPU if isinstance(value, torch.device) else value for value in arguments]
        keywords = dict(keywords or {})
        if keywords.get("device") is not None:
            keywords["device"] = _CPU
        if function is torch.Tensor.cuda:
            return arguments[0]
        result = function(*arguments, **keywords)
        asked_for_type = function is torch.Tensor.type and len(arguments) == 1 and not keywords
        return result.replace("torch.", "torch.cuda.") if asked_for_type else result


class _Nothing:
    """A stream or an event."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_, **__: None


def install() -> None:
    """From now on, CUDA is the CPU."""
    cuda: Any = torch.cuda
    cuda.current_device = lambda: _CPU
    for name in ("set_device", "synchronize"):
        setattr(cuda, name, lambda *_: None)
    for name in ("Stream", "Event", "current_stream"):
        setattr(cuda, name, lambda *_, **__: _Nothing())
    cuda.stream = lambda *_: contextlib.nullcontext()
    for module in (cuda, cuda.random):
        module.get_rng_state = lambda *_, **__: torch.get_rng_state()
        module.set_rng_state = lambda state, *_, **__: torch.set_rng_state(state)
    cuda.manual_seed = torch.manual_seed
    cuda.default_generators = [torch.default_generator]
    cuda._lazy_call = lambda function, **_: function()
    _Redirected().__enter__()
