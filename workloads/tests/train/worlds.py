"""Worlds of real processes over gloo, for tests: each runs a program on every rank and gives back what it returns."""

import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import torch.distributed as dist

from lmforge_api.trainingjob import Optimizer, Zero, ZeroOffload
from lmforge_workloads.common import checkpoints
from lmforge_workloads.train import checkpoint, model
from lmforge_workloads.train.engine import Engine
from lmforge_workloads.train.layers import Layers
from lmforge_workloads.train.layout import Layout
from lmforge_workloads.train.saver import Saver
from lmforge_workloads.train.shape import Shape
from lmforge_workloads.train.weights import Drawn, generator

TIMEOUT = 180.0
LENGTH = 16

os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[1]), *sys.path])
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["worlds_preload"])


def a_shape(architecture: str = "llama", **fields: Any) -> Shape:
    """A transformer of some 30 thousand parameters."""
    sizes: dict[str, Any] = {
        "layers": 2, "hidden": 32, "intermediate": 64, "heads": 4, "kv_heads": 2 if architecture == "llama" else 4,
        "vocabulary": 128, "positions": LENGTH,
    }  # fmt: skip
    return Shape(architecture=architecture, **(sizes | fields))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Case:
    """A short training run."""

    data: int = 1
    tensor: int = 1
    pipeline: int = 1
    zero: int = 0
    precision: str = "fp32"
    shape: Shape = field(default_factory=a_shape)
    micro: int = 1
    samples: int = 4
    """A step, over all ranks."""
    first: int = 0
    steps: int = 20
    learning_rate: float = 1e-2
    recompute: bool = False
    offload: bool = False
    load: Path | None = None
    """Checkpoint to begin from."""
    save: Path | None = None
    """Run directory that the state after the last step is saved in."""
    plant_infinity_at: int | None = None

    @property
    def world(self) -> int:
        return self.data * self.tensor * self.pipeline

    def saved(self) -> Path:
        """Where `save` has put the checkpoint."""
        assert self.save is not None
        return checkpoints.directory_of(self.save, self.first + self.steps)


@dataclass(frozen=True)
class Run:
    """What a case gave."""

    losses: list[float]
    norms: list[float]
    evaluation: float
    scales: list[float | None]
    skipped: list[bool]


def run_case(case: Case) -> Run:
    """Run it in a world of its own; every rank must tell the same."""
    runs = run_world(case.world, train_case, case)
    assert all(run == runs[0] for run in runs), "ranks disagree"
    return runs[0]


def batch(step: int, samples: int) -> torch.Tensor:
    """[samples, LENGTH + 1] tokens of a step, with something to learn: each follows from the one before, mostly."""
    random = generator(1, "data", step)
    tokens = torch.randint(0, 128, (samples, LENGTH + 1), generator=random)
    for position in range(1, LENGTH + 1):
        follows = torch.rand(samples, generator=random) < 0.8
        tokens[:, position] = torch.where(follows, (tokens[:, position - 1] * 5 + 7) % 128, tokens[:, position])
    return tokens


def train_case(rank: int, case: Case) -> Run:
    """What one rank does."""
    layout = Layout(case.data, case.tensor, case.pipeline, rank)
    engine = an_engine(case, layout)
    if case.load is None:
        engine.initialise(Drawn(0, layers=case.shape.layers))
    else:
        checkpoint.load(engine, case.load, layout)
    results = []
    for step in range(case.first, case.first + case.steps):
        if case.plant_infinity_at == step:
            _plant_infinity(engine)
        results.append(engine.train_step(_mine(step, case, layout), learning_rate=case.learning_rate))
    if case.save is not None:
        saver = Saver(case.save, layout, attempt=1, keep=9, created_by="test", background=True)
        saver.save(case.first + case.steps, engine)
        saver.wait()
    return Run(
        losses=[result.loss for result in results],
        norms=[result.gradient_norm or 0.0 for result in results],
        evaluation=engine.evaluate(_mine(1000, case, layout)),
        scales=[result.loss_scale for result in results],
        skipped=[result.skipped for result in results],
    )


def plain_training(rank: int, shape: Shape) -> list[float]:
    """The losses of `Case(shape=shape)` by the training loop that any textbook has."""
    settings, source = Optimizer(learning_rate=1e-2), Drawn(0, layers=shape.layers)
    module = model.Transformer(model.pieces(shape, Layers()), Layers())
    parameters = dict(model.named_parameters(module))
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(source.tensor(name, parameter.shape))
    groups = [
        {"params": [p for p in parameters.values() if p.ndim == 2], "weight_decay": settings.weight_decay},
        {"params": [p for p in parameters.values() if p.ndim == 1], "weight_decay": 0.0},
    ]
    betas = (settings.beta1, settings.beta2)
    optimizer = torch.optim.AdamW(groups, lr=1e-2, betas=betas, eps=settings.epsilon, fused=False, foreach=False)
    losses = []
    for step in range(20):
        tokens = batch(step, 4)
        loss = module(tokens[:, :-1], tokens[:, 1:])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), settings.gradient_clipping)
        optimizer.step()
        losses.append(loss.item())
    return losses


def an_engine(case: Case, layout: Layout) -> Engine:
    """The engine of a case, on this rank."""
    from lmforge_workloads.train.deepspeed_engine import DeepSpeedEngine, EngineSettings

    settings = EngineSettings(
        optimizer=Optimizer(learning_rate=case.learning_rate),
        zero=Zero(stage=case.zero, offload=ZeroOffload(optimizer="cpu" if case.offload else "none")),
        precision=case.precision,
        micro_batch=case.micro,
        accumulation=case.samples // case.data // case.micro,
    )

    def pieces(layers: Layers) -> list[model.Piece]:
        return model.pieces(case.shape, layers, recompute=case.recompute)

    return DeepSpeedEngine(pieces, layout, settings, device=torch.device("cpu"))


def _mine(step: int, case: Case, layout: Layout) -> list[torch.Tensor]:
    share = case.samples // case.data
    part = batch(step, case.samples)[layout.data_rank * share : (layout.data_rank + 1) * share]
    return list(part.split(case.micro))


def _plant_infinity(engine: Any) -> None:
    """The next backward pass gives one infinite gradient."""
    parameter = next(engine.module.parameters())
    handle = parameter.register_hook(lambda gradient: [handle.remove(), gradient * float("inf")][1])


def run_world(size: int, program: Callable[..., Any], *arguments: Any, timeout: float = TIMEOUT) -> list[Any]:
    """`program(rank, *arguments)` on `size` ranks that can talk to each other; what each returned, by rank."""
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    receivers, processes = [], []
    for rank in range(size):
        receiver, sender = CONTEXT.Pipe(duplex=False)
        target = (program, rank, size, store.port, sender, arguments)
        processes.append(CONTEXT.Process(target=_rank, args=target, daemon=True))
        receivers.append(receiver)
        start(processes[-1])
        sender.close()
    try:
        return _collect(receivers, time.monotonic() + timeout)
    finally:
        for process in processes:
            process.kill()
            process.join()


def start(process: BaseProcess) -> None:
    """Start a process that doesn't import the test runner, as it would to find its `__main__`."""
    main, sys.modules["__main__"] = sys.modules["__main__"], ModuleType("__main__")
    try:
        process.start()
    finally:
        sys.modules["__main__"] = main


def _collect(receivers: list[Connection], deadline: float) -> list[Any]:
    results: dict[int, Any] = {}
    while len(results) < len(receivers):
        waiting = [receiver for rank, receiver in enumerate(receivers) if rank not in results]
        ready = wait(waiting, timeout=max(0.0, deadline - time.monotonic()))
        assert ready, f"ranks {sorted(set(range(len(receivers))) - set(results))} did not end in time"
        for receiver in ready:
            rank = receivers.index(receiver)  # type: ignore[arg-type]
            try:
                ok, value = receiver.recv()  # type: ignore[union-attr]
            except EOFError:
                ok, value = False, "it died without a word"
            assert ok, f"rank {rank}: {value}"
            results[rank] = value
    return [results[rank] for rank in range(len(receivers))]


def _rank(
    program: Callable[..., Any], rank: int, size: int, port: int, sender: Connection, arguments: tuple[Any, ...]
) -> None:
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(size), LOCAL_SIZE=str(size))
    torch.set_num_threads(1)
    try:
        store = dist.TCPStore("127.0.0.1", port, is_master=False)
        limit = timedelta(seconds=TIMEOUT)
        dist.init_process_group("gloo", store=store, rank=rank, world_size=size, timeout=limit)
        sender.send((True, program(rank, *arguments)))
    except BaseException:
        sender.send((False, traceback.format_exc()))
    sender.close()
    os.kill(os.getpid(), signal.SIGKILL)  # no clean-up of process groups: others may be gone
