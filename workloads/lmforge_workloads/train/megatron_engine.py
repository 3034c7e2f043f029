"""The engine on megatron-core: its GPT model, pipeline schedules, data parallelism and distributed optimizer, on CUDA.

Transformer Engine is not needed: layers are megatron-core's local ones, and attention is PyTorch's, which is
flash attention on CUDA. Parameters keep megatron-core's names in checkpoints; `megatron_names` translates.
"""

from collections.abc import Iterator, Sequence
from typing import Any, cast

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from lmforge_api.trainingjob import TrainingJobSpec
from lmforge_workloads.train import megatron_config
from lmforge_workloads.train.engine import Fragment, StepResult
from lmforge_workloads.train.layout import Layout
from lmforge_workloads.train.megatron_names import EMBEDDING, OUTPUT, recipes
from lmforge_workloads.train.shape import Shape
from lmforge_workloads.train.weights import Source

_NO_WEIGHT_DECAY = "wd_mult"  # megatron-core's name of the factor in a parameter group


class MegatronEngine:
    """See `lmforge_workloads.train.engine.Engine`."""

    def __init__(self, shape: Shape, layout: Layout, spec: TrainingJobSpec, *, device: torch.device) -> None:
        megatron_config.check(spec, shape, layout, device=device)
        self.shape = shape
        self.layout = layout
        self.spec = spec
        self.device = device
        _initialise_groups(layout, seed=spec.seed)
        self.model = build_model(spec, shape, layout).to(device)
        self.replica = _data_parallel(self.model, spec)
        self.optimizer = _optimizer(self.replica, spec)
        self._schedule = _schedule()
        self._dropout = shape.dropout > 0

    def train_step(self, micro_batches: Sequence[Tensor], *, learning_rate: float) -> StepResult:
        if self._dropout:  # its generators follow the default one, which the loop seeds for each step
            _seed(torch.initial_seed() % 2**31)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
            group["weight_decay"] = self.spec.optimizer.weight_decay * group[_NO_WEIGHT_DECAY]
        scale = self.scaler().get("scale")
        self.replica.train()
        self.replica.zero_grad_buffer()
        self.optimizer.zero_grad()
        loss = self._run(micro_batches, forward_only=False)
        updated, norm, _ = self.optimizer.step()
        return StepResult(
            loss=loss, gradient_norm=None if norm is None else float(norm), loss_scale=scale, skipped=not updated
        )

    def evaluate(self, micro_batches: Sequence[Tensor]) -> float:
        self.replica.eval()
        with torch.no_grad():
            return self._run(micro_batches, forward_only=True)

    def _run(self, micro_batches: Sequence[Tensor], *, forward_only: bool) -> float:
        """Forward, and backward, over all micro batches; their mean loss over all ranks."""
        micro, length = micro_batches[0].shape
        losses = self._schedule(
            forward_step_func=_forward,
            data_iterator=(tokens.to(self.device) for tokens in micro_batches),
            model=[self.replica],
            num_microbatches=len(micro_batches),
            seq_length=length - 1,
            micro_batch_size=micro,
            forward_only=forward_only,
        )
        last = self.layout.stage == self.layout.pipeline - 1
        mean = torch.stack([entry["loss"] for entry in losses]).mean() if last else torch.zeros((), device=self.device)
        return self._mean_over_data(mean)

    def _mean_over_data(self, loss: Tensor) -> float:
        from megatron.core import parallel_state

        if self.layout.data > 1:
            dist.all_reduce(loss, group=parallel_state.get_data_parallel_group())
        if self.layout.pipeline > 1:
            source = parallel_state.get_pipeline_model_parallel_last_rank()
            dist.broadcast(loss, source, group=parallel_state.get_pipeline_model_parallel_group())
        return loss.item() / self.layout.data

    def fragments(self) -> Iterator[Fragment]:
        known = recipes(self.shape)
        for name, parameter in _global_names(self.model):
            if parameter not in self._sharded.model_param_group_index_map:
                continue  # all of it belongs to other ranks
            tied_copy = name == OUTPUT and self.shape.tied  # the last stage's copy of the embedding
            name = EMBEDDING if tied_copy else name
            state = self._adam_state(parameter)
            yield Fragment(
                name=name,
                size=tuple(parameter.shape),
                split=known[name].cut,
                start=self._sharded._get_model_param_range_map(parameter)["param"].start,
                weight=self._main(parameter).detach(),
                exp_avg=state["exp_avg"],
                exp_avg_sq=state["exp_avg_sq"],
                owned=not tied_copy,
            )

    def initialise(self, source: Source) -> None:
        known = recipes(self.shape)
        for fragment in self.fragments():
            whole = known[fragment.name].make(source)
            part = fragment.split.cut(whole, rank=self.layout.tensor_rank, size=self.layout.tensor).reshape(-1)
            fragment.weight.copy_(part[fragment.start : fragment.start + fragment.length])
            fragment.exp_avg.zero_()
            fragment.exp_avg_sq.zero_()
        self.restored(updates=0, scaler={})

    def restored(self, *, updates: int, scaler: dict[str, float]) -> None:
        for _, parameter in _global_names(self.model):
            if parameter in self._sharded.model_param_group_index_map:
                self._adam_state(parameter)["step"].fill_(updates)
        if scaler and (grad_scaler := self._sharded.grad_scaler) is not None:
            scale = torch.tensor([scaler["scale"]], dtype=torch.float32)
            trackers = {key: int(scaler[key]) for key in ("growth_tracker", "hysteresis_tracker")}
            grad_scaler.load_state_dict({"scale": scale, **trackers})
        with torch.no_grad():
            self._sharded._copy_main_params_to_model_params()
            self.replica.start_param_sync(force_sync=True)

    def updates(self) -> int:
        for _, parameter in _global_names(self.model):
            if parameter in self._sharded.model_param_group_index_map:
                return int(self._adam_state(parameter)["step"].item())
        return 0

    def scaler(self) -> dict[str, float]:
        grad_scaler = self._sharded.grad_scaler
        return {} if grad_scaler is None else {key: float(value) for key, value in grad_scaler.state_dict().items()}

    @property
    def _sharded(self) -> Any:
        """The one DistributedOptimizer in the chain: there are no experts."""
        (sharded,) = self.optimizer.chained_optimizers
        return sharded

    def _main(self, parameter: nn.Parameter) -> Tensor:
        """This rank's fp32 part of a parameter, flat."""
        group, place = self._sharded.model_param_group_index_map[parameter]
        return cast(Tensor, self._sharded.optimizer.param_groups[group]["params"][place])

    def _adam_state(self, parameter: nn.Parameter) -> dict[str, Tensor]:
        """Adam's state, made on first use."""
        main = self._main(parameter)
        state: dict[str, Tensor] = self._sharded.optimizer.state[main]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32)
            state["exp_avg"] = torch.zeros_like(main.detach())
            state["exp_avg_sq"] = torch.zeros_like(main.detach())
        return state


def build_model(spec: TrainingJobSpec, shape: Shape, layout: Layout) -> nn.Module:
    """This rank's stage of the model; weights are not set."""
    from megatron.core.models.gpt import GPTModel
    from megatron.core.models.gpt.gpt_layer_specs import get_gpt_layer_local_spec
    from megatron.core.transformer.transformer_config import TransformerConfig

    config = TransformerConfig(**megatron_config.transformer(spec, shape, layout))
    layer = get_gpt_layer_local_spec(normalization=config.normalization)
    layer.submodules.self_attention.submodules.core_attention = FusedAttention
    model: nn.Module = GPTModel(
        config=config,
        transformer_layer_spec=layer,
        pre_process=layout.stage == 0,
        post_process=layout.stage == layout.pipeline - 1,
        **megatron_config.model(shape, sequence_length=spec.sequence_length),
    )
    _mark_tensor_parallel(model, shape)
    return model


def _mark_tensor_parallel(model: nn.Module, shape: Shape) -> None:
    """Say which parameters are cut: the gradients' norm counts the others once. Only initialisation would do it."""
    from megatron.core.tensor_parallel import set_tensor_model_parallel_attributes

    known = recipes(shape)
    for name, parameter in _global_names(model):
        cut = known[EMBEDDING if name == OUTPUT and shape.tied else name].cut
        if cut.dim is not None and not hasattr(parameter, "tensor_model_parallel"):
            set_tensor_model_parallel_attributes(parameter, True, cut.dim, 1)


class FusedAttention(nn.Module):
    """PyTorch's causal attention in place of megatron-core's, which writes all scores to memory."""

    def __init__(self, config: Any, **_: object) -> None:
        super().__init__()
        self.dropout: float = config.attention_dropout

    def forward(self, query: Tensor, key: Tensor, value: Tensor, *_: object, **__: object) -> Tensor:
        """[T, B, H, K] -> [T, B, H × K]."""
        q, k, v = (part.permute(1, 2, 0, 3) for part in (query, key, value))
        rate = self.dropout if self.training else 0.0
        grouped = k.shape[1] != q.shape[1]
        y_BHTK = F.scaled_dot_product_attention(q, k, v, is_causal=True, dropout_p=rate, enable_gqa=grouped)
        return y_BHTK.permute(2, 0, 1, 3).flatten(2)


def _forward(batches: Iterator[Tensor], model: nn.Module) -> tuple[Tensor, Any]:
    """megatron-core's `forward_step_func`: the output of a stage, and how the last one's becomes a loss."""
    tokens = next(batches)
    inputs, labels = tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()
    positions = torch.arange(inputs.shape[1], device=inputs.device).expand_as(inputs)
    output = model(inputs, positions, None, labels=labels)

    def loss(losses_BT: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        mean = losses_BT.float().mean()
        return mean, {"loss": mean.detach().clone()}

    return output, loss


def _initialise_groups(layout: Layout, *, seed: int) -> None:
    from megatron.core import parallel_state

    parallel_state.initialize_model_parallel(
        tensor_model_parallel_size=layout.tensor, pipeline_model_parallel_size=layout.pipeline
    )
    _seed(seed)


def _seed(seed: int) -> None:
    from megatron.core.tensor_parallel.random import model_parallel_cuda_manual_seed

    model_parallel_cuda_manual_seed(seed)


def _data_parallel(model: nn.Module, spec: TrainingJobSpec) -> Any:
    from megatron.core.distributed import (
        DistributedDataParallel,
        DistributedDataParallelConfig,
        finalize_model_grads,
    )
    from megatron.core.transformer.module import Float16Module

    config: Any = model.config
    wrapped = model if spec.precision == "fp32" else Float16Module(config, model)
    settings = DistributedDataParallelConfig(**megatron_config.data_parallel(spec))
    replica = DistributedDataParallel(config, settings, wrapped)
    config.finalize_model_grads_func = finalize_model_grads
    if settings.overlap_grad_reduce:
        config.no_sync_func = replica.no_sync
    return replica


def _optimizer(replica: Any, spec: TrainingJobSpec) -> Any:
    from megatron.core.optimizer import OptimizerConfig, get_megatron_optimizer
    from megatron.core.optimizer.optimizer_config import ParamKey, ParamPredicate

    vectors = ParamKey(predicate=ParamPredicate(name="vectors", fn=lambda parameter: parameter.ndim <= 1))
    optimizer = get_megatron_optimizer(
        OptimizerConfig(**megatron_config.optimizer(spec)),
        [replica],
        config_overrides={vectors: {_NO_WEIGHT_DECAY: 0.0}},
        use_gloo_process_groups=False,
    )
    replica.module.config.grad_scale_func = optimizer.scale_loss
    return optimizer


def _schedule() -> Any:
    from megatron.core.pipeline_parallel.schedules import get_forward_backward_func

    return get_forward_backward_func()


def _global_names(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Parameters with their layers counted over all stages."""
    layers: Any = model.decoder
    for name, parameter in model.named_parameters():
        head, found, rest = name.partition("decoder.layers.")
        if found:
            local, _, inner = rest.partition(".")
            name = f"{head}{found}{layers.layers[int(local)].layer_number - 1}.{inner}"
        yield name, parameter
