"""trl's trainers, with what a run on Kubernetes needs besides: whole checkpoints, evaluation that weighs tokens, and a
schedule in closed form. What they train, and how, is trl's.
"""

from collections.abc import Iterator
from typing import Any

import torch
from accelerate.utils import is_peft_model
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR
from transformers import PreTrainedModel, PrinterCallback
from trl import DPOTrainer, SFTTrainer
from trl.models.utils import prepare_deepspeed, prepare_fsdp, unwrap_model_for_generation

from lmforge_api.finetune_parts import Distill
from lmforge_workloads.common.schedule import learning_rate
from lmforge_workloads.finetune import resize
from lmforge_workloads.finetune.distill import DistillationLoss
from lmforge_workloads.finetune.encode import IGNORED
from lmforge_workloads.finetune.follow import Follow, peak_memory
from lmforge_workloads.finetune.order import Order
from lmforge_workloads.finetune.settings import warmup_steps

Batch = dict[str, Any]


class Kept:
    """Mixed into a trainer of trl, before it."""

    follow: Follow

    def keep(self: Any, follow: Follow) -> None:
        """To be called once, before training."""
        self.follow = follow
        self.remove_callback(PrinterCallback)
        self.add_callback(follow)

    def parameters(self: Any) -> tuple[int, int]:
        """How many are trained, and how many there are."""
        sizes = [(get_size(part), part.requires_grad) for part in self.model.parameters()]
        return sum(size for size, trained in sizes if trained), sum(size for size, _ in sizes)

    def derived(self: Any) -> dict[str, str]:
        """What was found out about the model, for status."""
        derived = {"architecture": str(self.model.config.model_type)}
        if is_peft_model(self.model):
            targets = self.model.peft_config["default"].target_modules
            derived["targetModules"] = ", ".join(sorted(targets))
        return derived

    def create_model_card(self: Any, *arguments: Any, **options: Any) -> None:
        """The artifact has one."""

    def create_scheduler(self: Any, num_training_steps: int, optimizer: Any = None) -> LambdaLR:
        """Warm-up and decay as the spec says."""
        if self.lr_scheduler is None:
            run = self.follow.run
            warmup = warmup_steps(run, steps=num_training_steps)

            def share(step: int) -> float:
                return learning_rate(step, run.spec.schedule, warmup_steps=warmup, peak=1.0, steps=num_training_steps)

            self.lr_scheduler = LambdaLR(optimizer or self.optimizer, share)
            self._created_lr_scheduler = True
        return self.lr_scheduler  # type: ignore[no-any-return]

    def _load_optimizer_and_scheduler(self: Any, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)  # type: ignore[misc]
        if checkpoint is not None and self.is_deepspeed_enabled:
            resize.count_apart(self.optimizer.state.values())

    def _get_train_sampler(self: Any, train_dataset: Any = None) -> Order:
        """One sequence for the whole run: to the Trainer it is a single epoch."""
        run, rows = self.follow.run, self.train_dataset
        return Order(len(rows), length=self.args.max_steps * run.spec.batch.global_, seed=run.spec.seed)

    def _save_checkpoint(self: Any, model: Any, trial: Any) -> None:
        self.follow.reporter.update(stage="Checkpointing")
        super()._save_checkpoint(model, trial)  # type: ignore[misc]
        self.follow.saved(self.state.global_step)
        self.follow.reporter.update(stage="Training")

    def evaluate(
        self: Any, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Mean loss over all that is learned of the evaluation rows, each token counting once.

        (transformers takes the mean of batches' means.) Ranks share the batches; all make as many, as parameters that
        are spread over ranks need, and those that are too many don't count.
        """
        self.follow.reporter.update(stage="Evaluating")
        model = self.model_wrapped
        model.eval()
        total = torch.zeros(2, dtype=torch.float64)
        with torch.no_grad(), self.compute_loss_context_manager():
            for batch, counts in self._evaluation_batches():
                inputs = self._prepare_inputs(batch)
                items = self._items(inputs)
                loss = self.compute_loss(model, inputs)
                if counts:
                    total += torch.tensor([float(loss) * items, items], dtype=torch.float64)
                self.follow.watchdog.beat(self.state.global_step)
        self._metrics["eval"].clear()
        loss, items = self.accelerator.reduce(total.to(self.args.device)).tolist()
        peak = torch.tensor([peak_memory(self.args.device) >> 20], device=self.args.device)
        metrics = {
            "eval_loss": loss / max(items, 1.0),
            "eval_peak_memory": float(self.accelerator.gather(peak).max().item() << 20),
        }
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        self.follow.reporter.update(stage="Training")
        return metrics

    def _evaluation_batches(self: Any) -> Iterator[tuple[Batch, bool]]:
        rows, size = self.eval_dataset, self.args.per_device_eval_batch_size
        self._set_signature_columns_if_needed()
        names = [name for name in rows.column_names if name in self._signature_columns]
        starts = list(range(0, len(rows), size))
        world, rank = self.accelerator.num_processes, self.accelerator.process_index
        for turn in range(0, len(starts), world):
            counts = turn + rank < len(starts)
            start = starts[turn + rank] if counts else 0
            some = rows.select_columns(names).select(range(start, min(start + size, len(rows))))
            yield self.data_collator(list(some)), counts

    def _items(self: Any, inputs: Batch) -> int:
        """What the mean of a batch's loss is taken over: tokens that are learned, or pairs."""
        labels = inputs.get("labels")
        return int((labels[:, 1:] != IGNORED).sum()) if labels is not None else len(inputs["input_ids"]) // 2


class Supervised(Kept, SFTTrainer):  # type: ignore[misc]
    """Learns sequences."""


class Preferring(Kept, DPOTrainer):  # type: ignore[misc]
    """Learns preferences. Its rows are tokens already."""

    def _prepare_dataset(self, dataset: Any, *arguments: Any) -> Any:
        return dataset


class Distilling(Kept, SFTTrainer):  # type: ignore[misc]
    """Learns sequences and what the teacher thinks of each token. Evaluated by the sequences alone."""

    def learn_from(self, teacher: PreTrainedModel, settings: Distill) -> None:
        """To be called once, before training."""
        if self.is_deepspeed_enabled:
            teacher = prepare_deepspeed(teacher, self.accelerator)
        elif self.is_fsdp_enabled:
            teacher = prepare_fsdp(teacher, self.accelerator)
        else:
            teacher = teacher.to(self.args.device)
        self.teacher = teacher
        self.settings = settings
        self.loss = DistillationLoss.of(settings)

    def compute_loss(
        self, model: Any, inputs: Batch, return_outputs: bool = False, num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """Normalised over the tokens of the whole step, as trl's own loss is."""
        labels, own = inputs["labels"], bool(inputs.pop("own", False))
        given = {name: value for name, value in inputs.items() if name != "labels"} | {"use_cache": False}
        student = model(**given).logits
        if self.model.training:
            with torch.no_grad():
                teacher = self.teacher(**given).logits
            # What the student has written itself is judged by the teacher alone.
            loss_of = DistillationLoss(0.0, self.loss.beta, self.loss.temperature) if own else self.loss
            loss = loss_of(student, teacher, labels)
        else:
            loss = DistillationLoss(1.0, 0.0, 1.0)(student, student, labels)
        if num_items_in_batch is None:
            return loss / max(1, self._items(inputs))
        loss = loss / torch.as_tensor(num_items_in_batch).clamp(min=1)
        return loss * self.accelerator.num_processes if self.args.average_tokens_across_devices else loss

    def get_batch_samples(
        self, epoch_iterator: Any, num_batches: int, device: Any
    ) -> tuple[list[Batch], Tensor | int | None]:
        """On-policy (arXiv:2306.13649): in a share of the steps the student writes the answers itself."""
        batches, items = super().get_batch_samples(epoch_iterator, num_batches, device)
        if not batches or not _drawn(self.settings.on_policy, seed=self.args.seed, step=self.state.global_step):
            return batches, items
        batches = [self._answered(batch) for batch in batches]
        return batches, self._get_num_items_in_batch(batches, device)

    def _answered(self, batch: Batch) -> Batch:
        """The batch's prompts with answers of the student's own."""
        pad = self.processing_class.pad_token_id
        firsts = [int((row != IGNORED).nonzero()[0]) for row in batch["labels"]]
        width = max(firsts)
        prompts = torch.full((len(firsts), width), pad)
        seen = torch.zeros_like(prompts)
        for number, (ids, first) in enumerate(zip(batch["input_ids"], firsts, strict=True)):
            prompts[number, width - first :], seen[number, width - first :] = ids[:first], 1
        room = self.follow.run.spec.sequence_length - width
        with torch.no_grad(), unwrap_model_for_generation(self.model_wrapped, self.accelerator) as model:
            model.eval()
            whole = model.generate(
                input_ids=prompts.to(self.args.device),
                attention_mask=seen.to(self.args.device),
                max_new_tokens=max(1, min(room, batch["input_ids"].shape[1] - min(firsts))),
                do_sample=True,
                pad_token_id=pad,
            ).cpu()
            model.train()
        answers = whole[:, width:]
        ended = (answers == self.processing_class.eos_token_id).cumsum(dim=1)
        said = (ended == 0) | ((ended == 1) & (answers == self.processing_class.eos_token_id))
        labels = torch.cat([torch.full_like(prompts, IGNORED), answers.masked_fill(~said, IGNORED)], dim=1)
        mask = torch.cat([seen, said.long()], dim=1)
        return {"input_ids": whole, "attention_mask": mask, "labels": labels, "own": True}


def _drawn(share: float, *, seed: int, step: int) -> bool:
    """The same on all ranks, and after a resume."""
    if share in (0.0, 1.0):
        return share == 1.0
    return torch.rand((), generator=torch.Generator().manual_seed(seed * 1_000_003 + step)).item() < share


def get_size(parameter: torch.nn.Parameter) -> int:
    """Elements of a parameter: of all of it where ZeRO 3 has it in parts, and unpacked where it is of 4 bits."""
    state = getattr(parameter, "quant_state", None)
    if state is not None:
        return int(torch.Size(state.shape).numel())
    return int(getattr(parameter, "ds_numel", parameter.numel()))
