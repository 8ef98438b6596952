"""SparK's encoder: visible tiles only, against masked dense convolution and the plain backbone, in turn in one run.

    uv run python benchmarks/spark_sparse.py [--backbone resnet50] [--device cpu] [--size 224] [--batch 32] [--rounds 5]

Each is timed forward and backward in training mode, channels last: `plain` sees whole images and is the backbone as it
is, `masked` and `blocks` are the two executions of `SparseEncoder` on images of which 60 % is masked. Prints the median
and the shortest time, what each keeps for the backward pass (unique storages, without the weights), the ratios, and
where tiles cost more than their share of the positions.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from scarce_cxr.backbones.backbone import Backbone, BackboneSettings
from scarce_cxr.methods.parts.sparse import SparseEncoder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="resnet50")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--mask-ratio", type=float, default=0.6)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--bf16", action="store_true", help="under autocast")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    backbone = Backbone(BackboneSettings(arguments.backbone))
    backbone = backbone.to(arguments.device, memory_format=torch.channels_last)
    images = torch.randn(arguments.batch, 1, arguments.size, arguments.size, device=arguments.device)
    grid = arguments.size // 32
    count = round(grid * grid * (1 - arguments.mask_ratio))
    order = torch.rand(arguments.batch, grid * grid, device=arguments.device).argsort(dim=1)
    visible = (order < count).view(-1, 1, grid, grid)
    masked, blocks = (SparseEncoder(backbone, execution) for execution in ("masked", "blocks"))
    encoders: dict[str, Callable[[], list[torch.Tensor]]] = {
        "plain": lambda: backbone.maps(images),
        "masked": lambda: [map_.visible_values() for map_ in masked.maps(images, visible)],
        "blocks": lambda: [map_.visible_values() for map_ in blocks.maps(images, visible)],
    }

    def forward(name: str) -> torch.Tensor:
        with torch.autocast(arguments.device, torch.bfloat16, enabled=arguments.bf16):
            return sum(map_.float().square().mean() for map_ in encoders[name]())

    kept = {name: bytes_kept(lambda name=name: forward(name), backbone) for name in encoders}
    seconds = {name: [] for name in encoders}
    for round_ in range(arguments.rounds + 1):
        for name in encoders:
            backbone.zero_grad()
            started = time.perf_counter()
            forward(name).backward()
            if arguments.device != "cpu":
                torch.cuda.synchronize()
            # The first round warms up.
            if round_:
                seconds[name].append(time.perf_counter() - started)
    print(
        f"{arguments.backbone}, {arguments.batch} images of {arguments.size} pixels, {count} of {grid * grid} patches "
        f"visible, {arguments.rounds} rounds, {torch.get_num_threads()} threads, {arguments.device}"
    )
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    for name, median in medians.items():
        print(
            f"{name:8s} {median:7.2f} s (shortest {min(seconds[name]):.2f}), {kept[name] / 2**20:7.0f} MiB kept; "
            + ", ".join(
                f"of {other} {median / medians[other]:.2f} in time and {kept[name] / kept[other]:.2f} in memory"
                for other in ("plain", "masked")
                if other != name
            )
        )
    print(f"visible positions are {count / grid**2:.2f} of all: what arithmetic alone leaves of plain's time")
    for stride in (4, 8, 16, 32):
        side = 32 // stride
        share = ((side + 2) / side) ** 2
        print(f"    stride {stride:2d}: a 3 x 3 kernel gathers {share:.2f} times a tile of {side} x {side}")


def bytes_kept(forward: Callable[[], torch.Tensor], backbone: Backbone) -> int:
    """Of the storages that autograd keeps for the backward pass, without those of parameters and buffers."""
    own = {tensor.untyped_storage().data_ptr() for tensor in (*backbone.parameters(), *backbone.buffers())}
    storages = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = forward()
    del loss
    return sum(storages.values())


if __name__ == "__main__":
    main()
