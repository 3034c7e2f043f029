"""DeepSpeed where ranks meet by gloo."""


def leave_out_shared_memory() -> None:
    """Its all-reduce over shared memory is compiled with g++ when it is first used, and works in one pod only."""
    import deepspeed

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False


def use_ranks_that_have_met() -> None:
    """Tell DeepSpeed of torch's process group. It has to know before a model is loaded in parts."""
    import deepspeed
    import torch.distributed as dist

    deepspeed.init_distributed(dist_backend=dist.get_backend(), auto_mpi_discovery=False)
