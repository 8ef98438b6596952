"""Views of a batch: ours, on whole batches, against torchvision's transforms film by film, in turn in one run.

    uv run python benchmarks/views.py [--device cpu] [--size 224] [--batch 64] [--rounds 7]

Both make the reference recipe's view (crop, flip, rotation, jitter, blur, noise) of the same 320-pixel films and
normalise it. Prints the median of each and the ratio. torchvision runs in this process, as one worker would.
"""

import argparse
import statistics
import time

import numpy as np
import torch
from torchvision.transforms import v2 as transforms

from scarce_cxr.views.augment import Augmentation
from scarce_cxr.views.draws import Draws
from scarce_cxr.views.plans import Normalization, OneView


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    films = torch.randint(0, 256, (arguments.batch, 320, 320), dtype=torch.uint8)
    plan = OneView(
        arguments.size,
        Augmentation(crop=(0.2, 1.0), flip=0.5, rotation=10, brightness=0.8, contrast=0.8, blur=23, noise=0.05),
    )
    normalization = Normalization(0.5, 0.25)
    chain = transforms.Compose(
        [
            transforms.ToDtype(torch.float32, scale=True),
            transforms.RandomResizedCrop(arguments.size, scale=(0.2, 1.0), antialias=True),
            transforms.RandomHorizontalFlip(),
            transforms.RandomRotation(10, interpolation=transforms.InterpolationMode.BILINEAR),
            transforms.RandomApply([transforms.ColorJitter(0.8, 0.8)], p=0.8),
            transforms.RandomApply([transforms.GaussianBlur(23, (0.1, 2.0))], p=0.5),
            transforms.GaussianNoise(sigma=0.05, clip=False),
            transforms.Normalize([0.5], [0.25]),
        ]
    )

    def ours(step: int) -> None:
        plan(films.to(arguments.device), Draws(0, step, np.arange(arguments.batch)), normalization)

    def theirs(step: int) -> None:
        torch.stack([chain(film[None]) for film in films]).to(arguments.device)

    seconds = {"ours": [], "torchvision": []}
    for step in range(arguments.rounds + 1):
        for name, make in (("ours", ours), ("torchvision", theirs)):
            started = time.perf_counter()
            make(step)
            if arguments.device != "cpu":
                torch.cuda.synchronize()
            # The first round warms up.
            if step:
                seconds[name].append(time.perf_counter() - started)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    for name, median in medians.items():
        print(f"{name:12s} {1000 * median / arguments.batch:8.2f} ms a view, {arguments.batch / median:8.0f} views/s")
    print(
        f"ratio {medians['ours'] / medians['torchvision']:.2f} of torchvision's time, {torch.get_num_threads()} threads"
    )


if __name__ == "__main__":
    main()
