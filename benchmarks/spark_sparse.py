"""SparK's encoder: visible tiles only, against masked dense convolution and the plain backbone, in turn in one run.

    uv run python benchmarks/spark_sparse.py [--backbone resnet50] [--device cpu] [--size 224] [--batch 32] [--rounds 5]

Each is timed forward and backward in training mode, channels last: `plain` sees whole images and is the backbone as it
is, `masked` and `blocks` are the two executions of `SparseEncoder` on images of which 60 % is masked. Prints the median
and the shortest time, what each keeps for the backward pass (unique storages, without the weights), the ratios, and
where tiles cost more than their share of the positions. With --memory instead: what a whole step of recipes/spark.yaml
keeps at its batch of 256, computed from the bytes measured at --batch and twice that.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from scarce_cxr.backbones.backbone import Backbone, BackboneSettings
from scarce_cxr.commands.recipes import NIH_FILMS, find_recipe
from scarce_cxr.methods.parts.sparse import SparseEncoder
from scarce_cxr.training.automatic import read_resolved
from scarce_cxr.training.memory import bytes_saved, measure_memory
from scarce_cxr.training.planning import GIB, build_to_measure, footprint, measure_kept, with_checkpointing


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="resnet50")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--mask-ratio", type=float, default=0.6)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--bf16", action="store_true", help="under autocast")
    parser.add_argument("--memory", action="store_true", help="compute a whole step's memory at batch 256 instead")
    arguments = parser.parse_args()
    if arguments.memory:
        for recipe in ("spark", "reference/spark"):
            step_memory(recipe, arguments.batch, 22)
        return
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

    kept = {name: bytes_saved(lambda name=name: forward(name), backbone) for name in encoders}
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


def step_memory(recipe: str, batch: int, limit: float) -> None:
    """Prints what a whole step of a recipe needs at its own batch, computed from bytes measured at a small one."""
    settings = with_checkpointing(read_resolved(find_recipe(recipe), NIH_FILMS), False)
    method = build_to_measure(settings)
    kept = measure_kept(method, settings, bf16=True, batches=(batch, 2 * batch))
    step = footprint(measure_memory(method, settings.optimizer), kept)
    films = settings.training.batch_size
    print(
        f"{recipe}: {kept.saved.each / 2**20:.1f} MiB an image kept for backward (bf16 autocast, from batches of "
        f"{batch} and {2 * batch}); weights, gradients, optimizer, reserve and what does not grow "
        f"{step.of(0) / GIB:.2f} GiB; at its batch of {films}: {step.of(films) / GIB:.1f} GiB of {limit:g}, without "
        "gradient checkpointing"
    )


if __name__ == "__main__":
    main()
