"""What stops a run that should not go on: a loss that is no number, a step that never ends, a request to stop."""

import faulthandler
import logging
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import torch
import torch.distributed as dist
from torch import Tensor

from lmforge_workloads.common.exits import HangDetected, NonFiniteLoss, Suspended

log = logging.getLogger(__name__)

GRACE_SECONDS = 2.0
"""Between the stacks and the end: the other ranks run into their own timeouts and dump theirs."""


def check_finite(loss: float, gradient_norm: float | None, *, scaled: bool, step: int) -> None:
    """Raise `NonFiniteLoss`. Infinite gradients alone are no error where the loss is `scaled`, as in fp16: the step
    was skipped, the scale lowered."""
    norm = gradient_norm
    if not math.isfinite(loss):
        found = f"the loss of step {step} is {loss}"
    elif not scaled and norm is not None and not (math.isfinite(norm) and norm >= 0):
        found = f"the gradients of step {step} are not finite"
    else:
        return
    raise NonFiniteLoss(
        f"{found}: lower optimizer.learningRate, warm up for longer or use precision fp32;"
        " the newest checkpoint is from before it"
    )


class Watchdog:
    """Ends the process when `beat` is not called for `timeout` seconds, after dumping the stacks of all threads."""

    def __init__(self, timeout: float, *, end: Callable[[HangDetected], None]) -> None:
        self.timeout = timeout
        self.step = 0
        self._end = end
        self._beaten = time.monotonic()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def beat(self, step: int) -> None:
        """A step has been finished."""
        self.step = step
        self._beaten = time.monotonic()

    def __enter__(self) -> Self:
        self._beaten = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()

    def _watch(self) -> None:
        while not self._closing.wait(min(1.0, self.timeout / 4)):
            if time.monotonic() - self._beaten > self.timeout:
                dump_stacks()
                time.sleep(GRACE_SECONDS)
                return self._end(HangDetected(
                    f"no step was finished within {self.timeout:.0f} s after step {self.step}:"
                    " the stacks of all ranks are in the pods' logs"
                ))  # fmt: skip


def dump_stacks() -> None:
    """Write the Python stacks of all threads to the log."""
    print(f"--- stacks of rank {os.environ.get('RANK', '0')} ---", file=sys.stderr, flush=True)
    faulthandler.dump_traceback(file=sys.stderr, all_threads=True)


class StopSignal:
    """SIGTERM: remembered while there is something to save, an end at once before that.

    A thread waits for it: a handler of Python's would not run while the main thread waits for other ranks inside C++.
    """

    def __init__(self, *, end: Callable[[Suspended], None]) -> None:
        self.requested = False
        self._can_save = False
        self._end = end

    def install(self) -> None:
        """Wait for SIGTERM, which has to be blocked in threads that exist already; SIGUSR1 dumps stacks."""
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=self._listen, name="sigterm", daemon=True).start()
        faulthandler.register(signal.SIGUSR1, file=sys.stderr, all_threads=True)

    def defer(self) -> None:
        """From now on the training loop looks at `requested` after every step."""
        self._can_save = True

    def _listen(self) -> None:
        while True:
            signal.sigwait({signal.SIGTERM})
            self.requested = True
            if not self._can_save:
                self._end(Suspended("stopped before the first step"))


class Agreement:
    """All ranks ask the same questions in the same order, and get the same answers. Costs one tiny gloo all-reduce."""

    def __init__(self) -> None:
        self._world = dist.get_world_size()
        # On CUDA the default group is NCCL's: flags should not wait for the device.
        self._group = dist.group.WORLD if dist.get_backend() == "gloo" else dist.new_group(backend="gloo")

    def ask(self, mine: bool) -> "Question":
        """Whether any rank says so; ranks work on while the answer is under way."""
        flag = torch.tensor([mine], dtype=torch.int32)
        if self._world == 1:
            return Question(flag, None)
        return Question(flag, dist.all_reduce(flag, op=dist.ReduceOp.MAX, group=self._group, async_op=True))

    def any(self, mine: bool) -> bool:
        """Whether any rank says so."""
        return self.ask(mine).answer()

    def all(self, mine: bool) -> bool:
        """Whether all ranks say so."""
        return not self.any(not mine)

    def wait(self) -> None:
        """Until all ranks are here."""
        self.any(False)


@dataclass(frozen=True)
class Question:
    """One that was asked."""

    flag: Tensor
    under_way: dist.Work | None

    def answer(self) -> bool:
        """Waits for all ranks to have asked."""
        if self.under_way is not None:
            self.under_way.wait()
        return bool(self.flag.item())
