"""The engine on DeepSpeed: ZeRO 0 to 3, and its PipelineModule where there are stages.

The model, its split over tensor-parallel ranks and its first weights come from here; DeepSpeed accumulates,
reduces and clips gradients, scales the loss, partitions the optimizer and runs the pipeline's schedule.
"""

import contextlib
import io
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import deepspeed
import torch
import torch.distributed as dist
from deepspeed.runtime.utils import clip_grad_norm_
from torch import Tensor, nn

from lmforge_api.trainingjob import Optimizer, Zero
from lmforge_workloads.common.exits import NonFiniteLoss
from lmforge_workloads.train.engine import Fragment, StepResult
from lmforge_workloads.train.layers import Layers, TensorParallelLayers, split_of
from lmforge_workloads.train.layout import Groups, Layout
from lmforge_workloads.train.model import GPT2Block, LlamaBlock, Piece, Transformer, named_parameters
from lmforge_workloads.train.optimizer import adamw
from lmforge_workloads.train.stages import Stages
from lmforge_workloads.train.weights import Source
from lmforge_workloads.train.zero_state import get_updates, set_updates, state_of

_NO_CLIPPING = 1e9
"""The norm is wanted in any case, and DeepSpeed computes it only when it clips."""


@dataclass(frozen=True)
class EngineSettings:
    """What of a TrainingJob's spec the engine needs."""

    optimizer: Optimizer
    zero: Zero
    precision: str
    micro_batch: int
    accumulation: int


Model = Callable[[Layers], list[Piece]]
"""Says which pieces make up a model, given the layers to build them from."""


class DeepSpeedEngine:
    """See `lmforge_workloads.train.engine.Engine`."""

    def __init__(self, model: Model, layout: Layout, settings: EngineSettings, *, device: torch.device) -> None:
        self.layout = layout
        self.settings = settings
        self.device = device
        self.groups = Groups(layout)
        layers = TensorParallelLayers(self.groups.tensor) if self.groups.tensor else Layers()
        parts = model(layers)
        with _quiet():
            deepspeed.init_distributed(dist_init_required=False)
            self.module: nn.Module = (
                Stages(parts, layers, layout) if layout.pipeline > 1 else Transformer(parts, layers)
            )
            _mark_for_norm(self.module, layout)
            # Stage 3 gathers parameters in hooks, and megatron-core's layers talk: a graph would break at either.
            if device.type == "cuda" and layout.tensor == 1 and settings.zero.stage < 3:
                _compile_blocks(self.module)
            self.engine = self._deepspeed()
        self.state = state_of(self.module, self.engine.optimizer, first_replica=layout.data_rank == 0)

    def _deepspeed(self) -> Any:
        arguments: dict[str, Any] = {
            "model": self.module,
            "optimizer": adamw(self.module, self.settings.optimizer),
            "config": config(self.settings, self.layout, parameters=_count(self.module), device=self.device),
            "dist_init_required": False,
        }
        if self.layout.pipeline == 1 and self.layout.tensor > 1:
            arguments["mpu"] = self.groups
        engine = deepspeed.initialize(**arguments)[0]
        _keep_norm(engine)
        return engine

    def train_step(self, micro_batches: Sequence[Tensor], *, learning_rate: float) -> StepResult:
        for group in self.engine.optimizer.param_groups:
            group["lr"] = learning_rate
        skipped_before = self.engine.skipped_steps
        scale = self.scaler().get("scale")
        try:
            loss = self._pipeline_step(micro_batches) if self.layout.pipeline > 1 else self._plain_step(micro_batches)
        except Exception as error:
            if "loss scale already at minimum" in str(error):
                raise NonFiniteLoss("gradients are infinite at the smallest loss scale: use precision bf16") from error
            raise
        norm = self.engine.get_global_grad_norm()
        return StepResult(
            loss=loss,
            gradient_norm=None if norm is None else float(norm),
            loss_scale=scale,
            skipped=self.engine.skipped_steps > skipped_before,
        )

    def _plain_step(self, micro_batches: Sequence[Tensor]) -> float:
        losses: list[Tensor] = []
        mean: Callable[[], float]
        for tokens in micro_batches:
            loss = self.engine(*_shifted(tokens.to(self.device)))
            losses.append(loss.detach())
            if len(losses) == len(micro_batches):
                mean = self._mean_over_data(torch.stack(losses).mean())  # other ranks' come while gradients do
            self.engine.backward(loss)
            self.engine.step()
        return mean()

    def _pipeline_step(self, micro_batches: Sequence[Tensor]) -> float:
        return float(self.engine.train_batch(_pairs(micro_batches)))

    def evaluate(self, micro_batches: Sequence[Tensor]) -> float:
        if self.layout.pipeline > 1:
            return float(self.engine.eval_batch(_pairs(micro_batches), num_micro_batches=len(micro_batches)))
        self.engine.eval()
        with torch.no_grad():
            losses = [self.engine(*_shifted(tokens.to(self.device))) for tokens in micro_batches]
        self.engine.train()
        return self._mean_over_data(torch.stack(losses).mean())()

    def _mean_over_data(self, value: Tensor) -> Callable[[], float]:
        """Begins to add up; what it gives waits for the result."""
        work = dist.all_reduce(value, group=self.groups.data, async_op=True) if self.layout.data > 1 else None

        def mean() -> float:
            if work is not None:
                work.wait()
            return value.item() / self.layout.data

        return mean

    def fragments(self) -> Iterator[Fragment]:
        return self.state.fragments()

    def initialise(self, source: Source) -> None:
        for fragment in self.fragments():
            part = fragment.split.cut(
                source.tensor(fragment.name, self._whole_size(fragment)),
                rank=self.layout.tensor_rank,
                size=self.layout.tensor,
            )
            fragment.weight.copy_(part.reshape(-1)[fragment.start : fragment.start + fragment.length])
            fragment.exp_avg.zero_()
            fragment.exp_avg_sq.zero_()
        self.restored(updates=0, scaler={})

    def _whole_size(self, fragment: Fragment) -> list[int]:
        size = list(fragment.size)
        if fragment.split.dim is not None:
            size[fragment.split.dim] *= self.layout.tensor
        return size

    def restored(self, *, updates: int, scaler: dict[str, float]) -> None:
        set_updates(self.state, updates)
        for key, value in scaler.items():
            setattr(self._loss_scaler(), _SCALER[key], type(getattr(self._loss_scaler(), _SCALER[key]))(value))
        self.state.publish()

    def updates(self) -> int:
        return get_updates(self.state)

    def scaler(self) -> dict[str, float]:
        if self.settings.precision != "fp16":
            return {}
        scaler = self._loss_scaler()
        return {key: float(getattr(scaler, attribute)) for key, attribute in _SCALER.items()}

    def _loss_scaler(self) -> Any:
        return self.engine.optimizer.loss_scaler


_SCALER = {
    "scale": "cur_scale",
    "iteration": "cur_iter",
    "last_overflow": "last_overflow_iter",
    "hysteresis": "cur_hysteresis",
}


def config(settings: EngineSettings, layout: Layout, *, parameters: int, device: torch.device) -> dict[str, object]:
    """DeepSpeed's configuration; `parameters` is the number on this rank."""
    zero = settings.zero
    # At stage 0 DeepSpeed's optimizers for bf16 and fp16 either round what they accumulate or are partitioned
    # anyway; stage 1 computes the same and takes less memory.
    stage = max(zero.stage, 0 if settings.precision == "fp32" else 1)
    partitioned: dict[str, object] = {
        "stage": stage,
        "overlap_comm": zero.overlap_comm and device.type == "cuda" and layout.pipeline == 1,
        "contiguous_gradients": zero.contiguous_gradients,
        "allgather_partitions": zero.allgather_partitions,
        # Buffers are allocated in full: no larger than what there is to put into them.
        "reduce_bucket_size": min(zero.reduce_bucket_size, parameters),
        "allgather_bucket_size": min(zero.allgather_bucket_size, parameters),
    }
    if stage > 0 and zero.offload.optimizer != "none":
        partitioned["offload_optimizer"] = {"device": zero.offload.optimizer}
    if stage == 3 and zero.offload.parameters != "none":
        partitioned["offload_param"] = {"device": zero.offload.parameters}
    return {
        "train_batch_size": settings.micro_batch * settings.accumulation * layout.data,
        "train_micro_batch_size_per_gpu": settings.micro_batch,
        "gradient_accumulation_steps": settings.accumulation,
        "gradient_clipping": settings.optimizer.gradient_clipping or _NO_CLIPPING,
        "zero_optimization": partitioned,
        # torch's AdamW, fused on every device: DeepSpeed's own is compiled at run time.
        "zero_force_ds_cpu_optimizer": False,
        "zero_allow_untested_optimizer": True,
        "bf16": {"enabled": settings.precision == "bf16"},
        "fp16": {"enabled": settings.precision == "fp16", "hysteresis": 1},
        "data_types": {"grad_accum_dtype": _accumulation_dtype(settings, layout)},
        "steps_per_print": None,
    }


def _accumulation_dtype(settings: EngineSettings, layout: Layout) -> str:
    """Of gradients. DeepSpeed adds up a tied embedding's two gradients where fp16 puts them, not fp32 accumulation."""
    return "fp16" if settings.precision == "fp16" and layout.pipeline > 1 else "fp32"


def _mark_for_norm(module: nn.Module, layout: Layout) -> None:
    """Say which parameters this rank counts in the gradients' norm: what several ranks hold is counted once.

    DeepSpeed asks `tensor_model_parallel` for tensor-parallel copies, `ds_pipe_replicated` for tied ones (set by it).
    """
    for _, parameter in named_parameters(module):
        mine = split_of(parameter).dim is not None or layout.tensor_rank == 0
        tied_copy = getattr(parameter, "ds_pipe_replicated", False)
        parameter.tensor_model_parallel = mine and not tied_copy  # type: ignore[attr-defined]


def _keep_norm(engine: Any) -> None:
    """Stage 0 in fp32 clips, but forgets the norm."""

    def clip() -> None:
        engine._global_grad_norm = clip_grad_norm_(
            parameters=engine.module.parameters(), max_norm=engine.gradient_clipping(), mpu=engine.mpu
        )

    engine.clip_fp32_gradients = clip


def _compile_blocks(module: nn.Module) -> None:
    """torch.compile block by block: all blocks are alike, so one compilation serves them all."""
    for part in module.modules():
        if isinstance(part, LlamaBlock | GPT2Block):
            part.compile()


def _count(module: nn.Module) -> int:
    return max(1, sum(parameter.numel() for _, parameter in named_parameters(module)))


def _shifted(tokens: Tensor) -> tuple[Tensor, Tensor]:
    """[B, T + 1] -> inputs [B, T], targets [B, T]."""
    return tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()


def _pairs(micro_batches: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
    return (_shifted(tokens) for tokens in micro_batches)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """DeepSpeed prints its layers and logs every setting."""
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    with contextlib.redirect_stdout(io.StringIO()):
        yield
