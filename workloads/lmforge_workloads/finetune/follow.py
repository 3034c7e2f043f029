"""What LMForge does while a trainer trains: tell, guard, stop when asked. One object a rank, called by the trainer."""

import logging
import math
import resource
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from lmforge_api.run import EvaluationResult, FineTuneFigures, FineTuneRun
from lmforge_workloads.common.exits import NonFiniteLoss
from lmforge_workloads.common.guards import Agreement, Question, Watchdog, check_finite
from lmforge_workloads.common.metrics import MetricsLog, Throughput
from lmforge_workloads.common.progress import Reporter
from lmforge_workloads.finetune.keeper import Keeper, Standing

log = logging.getLogger(__name__)

_MOST_NATS = 700.0  # exp of more is no float


class Follow(TrainerCallback):  # type: ignore[misc]
    """Callback of transformers' Trainer."""

    def __init__(
        self,
        run: FineTuneRun,
        *,
        rows: int,
        reporter: Reporter,
        agreement: Agreement,
        watchdog: Watchdog,
        keeper: Keeper | None,
        metrics: MetricsLog | None,
        standing: Standing,
        stop_requested: Callable[[], bool],
    ) -> None:
        self.run = run
        self.rows = rows
        """That are trained on."""
        self.reporter = reporter
        self.agreement = agreement
        self.watchdog = watchdog
        self.keeper = keeper
        """Rank 0's, as `metrics`."""
        self.metrics = metrics
        self.standing = standing
        self.suspended = False
        self._stop_requested = stop_requested
        self._stop: Question | None = None
        self._throughput = Throughput()
        self._tokens = 0
        self._said = 0.0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._tokens = state.num_input_tokens_seen
        self.reporter.update(stage="Training", step=state.global_step, steps=state.max_steps)

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._stop = self.agreement.ask(self._stop_requested())  # answered while the step is made

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.watchdog.beat(state.global_step)
        assert self._stop is not None
        last = state.global_step >= state.max_steps
        if self._stop.answer() and not last:
            self.suspended = control.should_save = control.should_training_stop = True
        if last:
            control.should_evaluate = control.should_save = True

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, float],
        **kwargs: Any,
    ) -> None:
        if "loss" not in logs:
            return
        loss, norm = float(logs["loss"]), logs.get("grad_norm")
        check_finite(loss, norm, scaled=args.fp16, step=state.global_step)
        tokens = state.num_input_tokens_seen
        tokens_per_second = self._throughput.step(tokens - self._tokens)
        self._tokens = tokens
        values = {"loss": loss, "learning_rate": logs.get("learning_rate"), "gradient_norm": norm}
        self.reporter.update(
            step=state.global_step,
            tokens=tokens,
            tokens_per_second=tokens_per_second,
            eta_seconds=self._throughput.eta(state.max_steps - state.global_step),
            **values,
        )
        self._figures(epoch=state.global_step * self.run.spec.batch.global_ / self.rows)
        if self.metrics:
            self.metrics.write(state.global_step, tokens_per_second=tokens_per_second, **values)
            self._say(state, loss, tokens_per_second)

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: Mapping[str, float],
        **kwargs: Any,
    ) -> None:
        loss = metrics["eval_loss"]
        if not math.isfinite(loss):
            raise NonFiniteLoss(
                f"the evaluation loss after step {state.global_step} is {loss}: "
                + ("the model's weights are broken" if state.global_step == 0 else "lower optimizer.learningRate")
                + ", or too large for precision: use fp32"
            )
        perplexity = math.exp(min(loss, _MOST_NATS))
        result = EvaluationResult(step=state.global_step, loss=loss, perplexity=perplexity)
        early = self.run.spec.early_stopping
        self.standing = self.standing.after(
            result, min_delta=early.min_delta if early else 0.0, patience=early.patience if early else None
        )
        if self.standing.over and state.global_step < state.max_steps:
            control.should_training_stop = control.should_save = True
        self.watchdog.beat(state.global_step)
        self.reporter.update(evaluation=result)
        self._figures(evaluation_before=self.standing.before, peak_memory_bytes=int(metrics["eval_peak_memory"]))
        if self.metrics:
            self.metrics.write(state.global_step, evaluation_loss=loss, evaluation_perplexity=perplexity)
            log.info("step %d evaluation loss %.4f, perplexity %.4g", state.global_step, loss, perplexity)

    def saved(self, step: int) -> None:
        """The trainer has saved this step: make a checkpoint of it, for which all ranks wait."""
        self.agreement.wait()
        if self.keeper is not None:
            self.reporter.update(checkpoint=self.keeper.commit(step, self.standing))
        self.agreement.wait()
        self.watchdog.beat(step)

    def _figures(self, **values: object) -> None:
        known = self.reporter.report.fine_tune or FineTuneFigures()
        self.reporter.update(fine_tune=known.model_copy(update=values))

    def _say(self, state: TrainerState, loss: float, tokens_per_second: float) -> None:
        """One line a second at most, for who reads the pod's log."""
        if state.global_step in (1, state.max_steps) or time.monotonic() - self._said >= 1:
            self._said = time.monotonic()
            log.info("step %d/%d loss %.4f, %.0f tokens/s", state.global_step, state.max_steps, loss, tokens_per_second)


def peak_memory(device: torch.device) -> int:
    """Most bytes that this rank has had at once: allocated on its accelerator, or on CPU resident."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
