"""What LMForge is compared with: the same model under torchrun and DeepSpeed, by hand, and nothing around it.

    torchrun --nnodes 2 --node-rank N --master-addr HOST overhead_plain.py '{"init": …, "steps": 80, …}'

Runs inside the image of TrainingJob's pods, as a file of its own. Prints the time after each step.
"""

import json
import sys
import time

import deepspeed
import torch
import torch.distributed as dist

from lmforge_api.trainingjob import ModelInit
from lmforge_workloads.train.layers import Layers
from lmforge_workloads.train.model import Transformer, pieces
from lmforge_workloads.train.shape import from_spec


def main() -> None:
    wanted = json.loads(sys.argv[1])
    # The all-reduce over shared memory would have to be compiled first, and works in one pod only.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    length, micro, batch = wanted["length"], wanted["micro"], wanted["batch"]
    deepspeed.init_distributed("gloo")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    shape = from_spec(ModelInit.model_validate(wanted["init"]), vocabulary=wanted["vocabulary"], length=length)
    model = Transformer(pieces(shape, Layers()), Layers())
    matrices = [weight for weight in model.parameters() if weight.ndim > 1]
    vectors = [weight for weight in model.parameters() if weight.ndim <= 1]
    for matrix in matrices:
        torch.nn.init.normal_(matrix, std=0.02)
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    engine = deepspeed.initialize(
        model=model,
        optimizer=torch.optim.AdamW(groups, lr=0.005, betas=(0.9, 0.95), fused=True),
        config={
            "train_batch_size": batch,
            "train_micro_batch_size_per_gpu": micro,
            "gradient_clipping": 1.0,
            "zero_optimization": {"stage": 1, "overlap_comm": False, "reduce_bucket_size": 50_000_000},
            "zero_force_ds_cpu_optimizer": False,
            "zero_allow_untested_optimizer": True,
            "steps_per_print": None,
        },
    )[0]
    times = []
    for _ in range(wanted["steps"]):
        for _ in range(batch // micro // dist.get_world_size()):
            tokens = torch.randint(wanted["vocabulary"], (micro, length + 1))
            loss = engine(tokens[:, :-1], tokens[:, 1:])
            engine.backward(loss)
            engine.step()
        loss.item()
        times.append(time.time())
    print(json.dumps({"rank": dist.get_rank(), "times": times}), flush=True)


if __name__ == "__main__":
    main()
