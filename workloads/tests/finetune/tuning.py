"""Builders for tests of fine-tuning: tiny models with random weights, a tokenizer of bytes, files of rows, runs."""

import contextlib
import json
import os
import shutil
import signal
import socket
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate.state import AcceleratorState
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

import lmforge_workloads.finetune.rank  # noqa: F401  # once, before pods are forked
from lmforge_api.finetune import FineTuneSpec
from lmforge_api.run import ExitReport, FineTuneRun, ProgressReport, Rendezvous, StorePaths
from lmforge_workloads.common import launch, metrics
from lmforge_workloads.finetune import startup

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL = ("<|endoftext|>", "<|pad|>", "<|im_start|>", "<|im_end|>")


def a_tokenizer(*, chat: bool = True, more: Iterable[str] = ()) -> PreTrainedTokenizerFast:
    """A token for each byte, and the special ones."""
    tokens = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet()), *more]
    tokenizer = Tokenizer(models.BPE(vocab={token: n for n, token in enumerate(tokens)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=SPECIAL[0], pad_token=SPECIAL[1],
        additional_special_tokens=list(SPECIAL[2:]),
    )  # fmt: skip
    fast.chat_template = CHATML if chat else None
    return fast


def a_config(**fields: Any) -> LlamaConfig:
    """A Llama of some 60 thousand parameters."""
    sizes: dict[str, Any] = {
        "vocab_size": len(SPECIAL) + 256, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256, "eos_token_id": 0,
        "pad_token_id": 1, "bos_token_id": None,
    }  # fmt: skip
    return LlamaConfig(**(sizes | fields))


def a_model(config: PreTrainedConfig | None = None, *, seed: int = 0) -> PreTrainedModel:
    """With weights drawn from the seed."""
    torch.manual_seed(seed)
    return AutoModelForCausalLM.from_config(config or a_config())


def save_model(
    directory: Path, *, config: PreTrainedConfig | None = None, seed: int = 0, tokenizer: Any = None
) -> Path:
    """A Hugging Face directory of a model and its tokenizer."""
    a_model(config, seed=seed).save_pretrained(directory)
    (tokenizer or a_tokenizer()).save_pretrained(directory)
    return directory


def a_teacher(directory: Path) -> Path:
    """A directory of a model of three layers."""
    return save_model(directory, config=a_config(num_hidden_layers=3), seed=1)


def save_rows(path: Path, rows: Iterable[Mapping[str, object]]) -> Path:
    """A file of JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def questions(count: int = 40) -> list[dict[str, object]]:
    """Conversations with something to learn, of several lengths."""
    return [{"question": f"What is {n} plus one?", "answer": f"It is {n + 1}" + "!" * (n % 5)} for n in range(count)]


def preferences(count: int = 24) -> list[dict[str, object]]:
    """Prompts, each with a good answer and a bad one."""
    return [{"prompt": f"Say {n}", "chosen": f"Yes, {n}", "rejected": "No"} for n in range(count)]


def a_run(root: Path, *, model: Path, rows: Path, world: int = 1, attempt: int = 1, **spec: Any) -> FineTuneRun:
    """An attempt of ten steps that writes below `root`; `spec` replaces what is here, as YAML has it."""
    root.mkdir(parents=True, exist_ok=True)
    defaults: dict[str, Any] = {
        "model": {"uri": "pvc://models/tiny"},
        "dataset": {"uri": "pvc://rows/rows.jsonl"},
        "method": "lora",
        "steps": 10,
        "batch": {"global": 4, "micro": 2},
        "optimizer": {"learningRate": 1e-2},
        "precision": "fp32",
        "sequenceLength": 128,
        "evaluation": {"everySteps": 5},
        "checkpoint": {"everySteps": 5},
        "distributed": {"processesPerNode": world},
    }
    return FineTuneRun(
        namespace="default",
        name="tuned",
        attempt=attempt,
        processes_per_node=world,
        rendezvous=Rendezvous(host="localhost"),
        store=StorePaths(root=str(root)),
        model_path=str(model),
        dataset_path=str(rows),
        termination_log=str(root / f"words-{attempt}.json"),
        spec=FineTuneSpec.model_validate(defaults | spec),
    )


@dataclass
class Pod:
    """A pod as a process: it runs the program's own main process, which forks its ranks."""

    process: int
    run: FineTuneRun
    log: Path
    ended: int | None = None

    def exit_code(self, *, timeout: float = 120.0) -> int:
        """Wait for its end. 128 + n when signal n ended it, as Kubernetes has it."""
        deadline = time.monotonic() + timeout
        while self.ended is None:
            process, status = os.waitpid(self.process, os.WNOHANG)
            if process:
                code = os.waitstatus_to_exitcode(status)
                self.ended = code if code >= 0 else 128 - code
            elif time.monotonic() > deadline:
                raise AssertionError(f"the pod did not end: {self.log.read_text()[-3000:]}")
            else:
                time.sleep(0.01)
        return self.ended

    def words(self) -> ExitReport:
        """What is in its termination log."""
        return ExitReport.model_validate_json(Path(self.run.termination_log).read_bytes())

    def kill(self) -> None:
        """As a node that loses power."""
        if self.ended is None:
            os.kill(self.process, signal.SIGKILL)
            self.exit_code()


@contextlib.contextmanager
def pods(run: FineTuneRun) -> Iterator[list[Pod]]:
    """Start all pods of an attempt, forked from here, where all libraries are; none is left behind."""
    run = run.model_copy(update={"rendezvous": Rendezvous(host="localhost", port=_free_port())})
    started = []
    for node in range(run.nodes):
        log = Path(run.store.root) / f"attempt-{run.attempt}-pod-{node}.log"
        mine = run.model_copy(update={"termination_log": str(log.with_suffix(".words"))})
        started.append(Pod(_fork(mine, node, log), mine, log))
    try:
        yield started
    finally:
        for pod in started:
            pod.kill()


def finish(run: FineTuneRun) -> ProgressReport:
    """Run an attempt to its end, which must be a good one: the last report of rank 0."""
    with pods(run) as started:
        for pod in started:
            assert pod.exit_code() == 0, pod.log.read_text()[-5000:]
        report = started[0].words().progress
        assert report is not None
        return report


def failure(run: FineTuneRun) -> tuple[int, str]:
    """Run an attempt that fails: its exit code, and what it says."""
    with pods(run) as (pod,):
        return pod.exit_code(), pod.words().message


def artifact_of(run: FineTuneRun) -> Path:
    """Where what it leaves is."""
    return Path(run.store.root) / "artifact"


def copy(run: FineTuneRun, root: Path, *, without: Iterable[str]) -> None:
    """What an attempt that was killed before it left these would have left."""
    shutil.copytree(run.store.root, root)
    for later in without:
        shutil.rmtree(root / later)


def elsewhere(run: FineTuneRun, root: Path) -> FineTuneRun:
    """The next attempt, there."""
    return run.model_copy(update={"attempt": run.attempt + 1, "store": StorePaths(root=str(root))})


def wait_for(condition: Callable[[], bool], what: str, *, timeout: float = 120.0) -> None:
    """Until it holds."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {timeout} s"
        time.sleep(0.01)


def losses(run: FineTuneRun) -> list[float]:
    """Training loss of every step, over all attempts."""
    return [record["loss"] for record in metrics.history(Path(run.store.root)) if "loss" in record]


def _fork(run: FineTuneRun, node: int, log: Path) -> int:
    process = os.fork()
    if process == 0:
        code = 1
        try:
            descriptor = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
            os.dup2(descriptor, 1)
            os.dup2(descriptor, 2)
            AcceleratorState._reset_state(reset_partial_state=True)  # of tests before this one
            code = launch.run_pod(run, node_rank=node, program=startup.program)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return process


def _free_port() -> int:
    with socket.create_server(("localhost", 0)) as server:
        port: Any = server.getsockname()[1]
        return int(port)
