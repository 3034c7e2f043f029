"""Model FLOPs utilisation of the trainer on one GPU: a 1B-class Llama in bf16, against the GPU's own matmul peak.

    python -m e2e.bench.mfu                    on a CUDA machine; prints one JSON object
    python -m e2e.bench.mfu --toy              the same program at toy size on a CPU, in seconds

The engine is the one that pods run: DeepSpeed, flash attention through SDPA, compiled blocks, fused AdamW. The peak is
not a data sheet's: it is the best of several large bf16 matrix products on this very GPU. Floating-point operations
are counted as in PaLM (arXiv:2204.02311, appendix B), with causal attention at half; recomputation doesn't count.
"""

import argparse
import json
import os
import time
from dataclasses import dataclass

import torch
import torch.distributed as dist

from lmforge_api.trainingjob import Optimizer, Zero
from lmforge_workloads.train import model, startup
from lmforge_workloads.train.engine import Engine
from lmforge_workloads.train.layers import Layers
from lmforge_workloads.train.layout import Layout
from lmforge_workloads.train.shape import Shape
from lmforge_workloads.train.weights import Drawn


@dataclass(frozen=True)
class Setting:
    """What is measured."""

    shape: Shape
    micro_batch: int
    accumulation: int
    precision: str
    warm_up: int
    steps: int
    matrix: int
    """Rows and columns of the products that give the peak."""

    @property
    def tokens_per_step(self) -> int:
        """Of the one rank."""
        return self.micro_batch * self.accumulation * self.shape.positions


def setting(*, toy: bool, micro_batch: int, accumulation: int, length: int) -> Setting:
    """Llama with 1.07 billion parameters (the sizes of Llama 3.2 1B, a vocabulary of 32,768), or next to none."""
    if toy:
        small = Shape("llama", layers=2, hidden=64, intermediate=128, heads=4, kv_heads=2, vocabulary=256, positions=64)
        return Setting(small, micro_batch=2, accumulation=2, precision="fp32", warm_up=2, steps=5, matrix=512)
    large = Shape(
        "llama", layers=16, hidden=2048, intermediate=8192, heads=16, kv_heads=8, vocabulary=32768, positions=length
    )
    return Setting(large, micro_batch, accumulation, precision="bf16", warm_up=5, steps=20, matrix=8192)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Model FLOPs utilisation on one GPU.")
    parser.add_argument("--toy", action="store_true", help="tiny, on a CPU")
    parser.add_argument("--micro-batch", type=int, default=8)
    parser.add_argument("--accumulation", type=int, default=4, help="micro batches a step")
    parser.add_argument("--length", type=int, default=4096, help="tokens a sample")
    arguments = parser.parse_args()
    startup.import_libraries(cuda=not arguments.toy, tensor_parallel=False)
    chosen = setting(
        toy=arguments.toy,
        micro_batch=arguments.micro_batch,
        accumulation=arguments.accumulation,
        length=arguments.length,
    )
    device = torch.device("cpu") if arguments.toy else torch.device("cuda", 0)
    print(json.dumps(measure(chosen, device), indent=2))


def measure(chosen: Setting, device: torch.device) -> dict[str, object]:
    """Throughput, the peak, and their ratio."""
    peak = matmul_peak(chosen, device)
    seconds = seconds_per_step(chosen, device)
    tokens_per_second = chosen.tokens_per_step / seconds
    flops = tokens_per_second * chosen.shape.flops_per_token(chosen.shape.positions)
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "parameters": chosen.shape.parameters(),
        "tokens_per_second": round(tokens_per_second),
        "model_tflops": round(flops / 1e12, 3),
        "matmul_peak_tflops": round(peak / 1e12, 3),
        "mfu": round(flops / peak, 4),
        "memory_gib": round(torch.cuda.max_memory_allocated(device) / 2**30, 1) if device.type == "cuda" else None,
    }


def matmul_peak(chosen: Setting, device: torch.device, *, repeats: int = 20) -> float:
    """Floating-point operations a second of a square matrix product, the best of five rounds."""
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    left, right = (torch.randn(chosen.matrix, chosen.matrix, device=device, dtype=dtype) for _ in range(2))
    best = float("inf")
    for _ in range(5):
        synchronize(device)
        begun = time.perf_counter()
        for _ in range(repeats):
            left @ right
        synchronize(device)
        best = min(best, (time.perf_counter() - begun) / repeats)
    return 2 * chosen.matrix**3 / best


def seconds_per_step(chosen: Setting, device: torch.device) -> float:
    """Mean over the measured steps."""
    engine = make_engine(chosen, device)
    tokens = torch.randint(
        0, chosen.shape.vocabulary, (chosen.accumulation, chosen.micro_batch, chosen.shape.positions + 1)
    )
    for step in range(chosen.warm_up + chosen.steps):
        if step == chosen.warm_up:
            synchronize(device)
            begun = time.perf_counter()
        engine.train_step(list(tokens), learning_rate=1e-4)
    synchronize(device)
    return (time.perf_counter() - begun) / chosen.steps


def make_engine(chosen: Setting, device: torch.device) -> Engine:
    """The pods' own engine, in a world of one."""
    from lmforge_workloads.train.deepspeed_engine import DeepSpeedEngine, EngineSettings

    os.environ.update(RANK="0", LOCAL_RANK="0", WORLD_SIZE="1", LOCAL_SIZE="1")
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)  # type: ignore[attr-defined]
    settings = EngineSettings(
        optimizer=Optimizer(),
        zero=Zero(stage=1),
        precision=chosen.precision,
        micro_batch=chosen.micro_batch,
        accumulation=chosen.accumulation,
    )

    def pieces(layers: Layers) -> list[model.Piece]:
        return model.pieces(chosen.shape, layers)

    engine = DeepSpeedEngine(pieces, Layout(1, 1, 1, rank=0), settings, device=device)
    engine.initialise(Drawn(0, layers=chosen.shape.layers))
    return engine


def synchronize(device: torch.device) -> None:
    """Wait for the GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    main()
