"""Where a run computes, and in which precision."""

import logging
import os

import torch
from lightning.fabric import Fabric
from lightning.fabric.strategies import DDPStrategy

from scarce_cxr.errors import ScarceError
from scarce_cxr.training.recipe import TrainingSettings


def make_fabric(training: TrainingSettings) -> Fabric:
    """The devices and the precision that the settings ask for; `auto` takes bf16 where the device is made for it.

    Raises:
        ScarceError: a CUDA device is asked for, and there is none.
    """
    accelerator = training.accelerator
    cuda = accelerator == "cuda" or (accelerator == "auto" and torch.cuda.is_available())
    if accelerator == "cuda" and not torch.cuda.is_available():
        raise ScarceError("a CUDA device", "none on this machine", "set training.accelerator to auto or cpu")
    precision = training.precision
    if precision == "auto":
        precision = "bf16" if multiplies_bf16(cuda) else "fp32"
    # At every start it would say twice what the settled recipe says.
    for name in ("lightning.fabric", "lightning.pytorch"):
        logging.getLogger(name).setLevel(logging.WARNING)
    several = training.devices * training.nodes > 1
    return Fabric(
        accelerator="cuda" if cuda else "cpu",
        devices=training.devices,
        num_nodes=training.nodes,
        precision={"bf16": "bf16-mixed", "fp32": "32-true"}[precision],
        # Buffers of our own (queues, centres) differ between processes on purpose.
        strategy=DDPStrategy(broadcast_buffers=False) if several else "auto",
    )


def is_first_process() -> bool:
    """Whether this process is a run's first or only one, as whoever started it says in the environment.

    It is known before processes have found each other. The first one alone holds the run's folder, writes and speaks.
    """
    # torchrun and SLURM count over all machines, Fabric's own launcher on each.
    for name in ("RANK", "SLURM_PROCID"):
        if name in os.environ:
            return os.environ[name] == "0"
    return os.environ.get("NODE_RANK", "0") == os.environ.get("LOCAL_RANK", "0") == "0"


def multiplies_bf16(cuda: bool) -> bool:
    """Whether the GPU, or else the processor, has instructions for bf16: emulated, it is slower than fp32."""
    if cuda:
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # Older versions of torch do not tell what a processor can do.
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
