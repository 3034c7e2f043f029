"""What a FineTune is compared with: the same training by trl and peft, by hand, and nothing around it.

    python finetune_plain.py '{"model": "/models/smollm2-135m", "rows": "/rows/glossary.csv", "method": "lora", …}'

Runs inside the image of FineTune's pods, as a file of its own. The rows are laid out beforehand in the order in which
FineTune learns them. Prints the time after each step, and what trl has logged: by default every ten steps.
"""

import json
import sys
import time
from typing import Any

import torch
from datasets import load_dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, TrainerCallback
from trl import SFTConfig, SFTTrainer

from lmforge_workloads.finetune.order import Order

SEED = 0


class Times(TrainerCallback):  # type: ignore[misc]
    """When each step was done."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.times.append(time.time())


def main() -> None:
    wanted = json.loads(sys.argv[1])
    torch.set_num_threads(1)
    rows = load_dataset("csv", data_files=wanted["rows"], split="train")
    order = list(Order(len(rows), length=wanted["steps"] * wanted["batch"], seed=SEED))
    quantised = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
                                   bnb_4bit_compute_dtype=torch.float32)  # fmt: skip
    adapter = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    times = Times()
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(
            wanted["model"],
            dtype=torch.float32,
            quantization_config=quantised if wanted["method"] == "qlora" else None,
        ),
        processing_class=AutoTokenizer.from_pretrained(wanted["model"]),
        train_dataset=rows.select(order),
        eval_dataset=rows.select(range(wanted["samples"])),
        peft_config=None if wanted["method"] == "full" else adapter,
        args=SFTConfig(
            output_dir="/tmp/plain",
            max_steps=wanted["steps"],
            per_device_train_batch_size=wanted["batch"],
            per_device_eval_batch_size=wanted["batch"],
            learning_rate=wanted["learningRate"],
            lr_scheduler_type="constant",
            max_length=wanted["length"],
            activation_checkpointing=False,
            bf16=False,
            use_cpu=True,
            seed=SEED,
            train_sampling_strategy="sequential",
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        ),
        callbacks=[times],
    )
    trainer.train()
    logged = [entry for entry in trainer.state.log_history if "loss" in entry]
    trainer.evaluate()
    trainer.save_model()
    print(json.dumps({"times": times.times, "logged": logged}), flush=True)


if __name__ == "__main__":
    main()
