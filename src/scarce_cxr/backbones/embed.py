"""The one place where features of films are computed, once for each backbone and store."""

import json
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from scarce_cxr.backbones.backbone import Backbone
from scarce_cxr.backbones.starts import Start, load_start
from scarce_cxr.errors import ScarceError
from scarce_cxr.images.atomic import written_whole
from scarce_cxr.images.store import Store
from scarce_cxr.progress import bar
from scarce_cxr.views.plans import Normalization, plain_view

_BATCH = 64


class Features(NamedTuple):
    """Features of all films of a store.

    Attributes:
        array: (n, d) float32, mapped from the file, in the order of the store's table.
        start: whose they are.
        path: the file.
        seconds: what computing took; 0 if the file was there.
    """

    array: np.ndarray
    start: Start
    path: Path
    seconds: float

    @property
    def films(self) -> int:
        """How many films there are: n."""
        return len(self.array)

    @property
    def size(self) -> int:
        """Side in pixels at which films were seen."""
        return self.start.size


def embed(
    store: Store, start: Start, *, folder: Path | None = None, device: torch.device | str = "cpu", batch: int = _BATCH
) -> Features:
    """Features of every film, whole and at the start's size, in evaluation mode and fp32.

    They are kept beside the store, in STORE.features, under the fingerprints of weights and store, the size and the
    normalisation: what is there, whole and of the same facts, is not computed again.

    Args:
        store: the films.
        start: the backbone.
        folder: where features are kept, if not there.
        device: where they are computed.
        batch: films that go through the backbone at once.

    Raises:
        ScarceError: the weights are missing or do not fit, the backbone does not take films of this size, or what it
            gives is not finite.
    """
    folder = folder or features_folder(store.path)
    mean, std = normalization_of(store, start)
    facts = {
        "architecture": start.settings.name,
        "weights": start.fingerprint,
        "store": store.fingerprint,
        "films": len(store),
        "image_size": start.size,
        "mean": mean,
        "std": std,
    }
    # Pixels are seen through mean and standard deviation, so that these belong to the key too.
    path = folder / f"{start.fingerprint}-{store.fingerprint[:16]}-{start.size}-{mean:.6f}-{std:.6f}.npy"
    known = _read(path, facts)
    if known is not None:
        return Features(known, start, path, 0.0)
    begun = time.perf_counter()
    backbone = load_start(start).to(device, memory_format=torch.channels_last)
    backbone.check(start.size)
    # Not of every model does timm say how long the vector is that comes out.
    width = embed_pixels(backbone, start, store.pixels([0]), mean, std).shape[1]
    folder.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as temporary:
        features = np.lib.format.open_memmap(temporary, "w+", np.float32, (len(store), width))
        with bar(f"embedding with {start.name}", len(store), "films") as advance:
            for first in range(0, len(store), batch):
                rows = np.arange(first, min(first + batch, len(store)))
                features[rows] = embed_pixels(backbone, start, store.pixels(rows), mean, std)
                _check_finite(features[rows], start)
                advance(len(rows))
        features.flush()
    # Written last: features without it are not used.
    with written_whole(path.with_suffix(".json")) as temporary:
        temporary.write_text(json.dumps({"start": start.source, "features": width, **facts}, indent=2) + "\n", "utf-8")
    return Features(np.load(path, mmap_mode="r"), start, path, time.perf_counter() - begun)


@torch.inference_mode()
def embed_pixels(backbone: Backbone, start: Start, pixels: np.ndarray, mean: float, std: float) -> np.ndarray:
    """Features (B, d) float32 of stored films (B, H, W) uint8 or uint16, squashed to the start's size.

    Args:
        backbone: the start's, in evaluation mode; its device is used.
        start: says the size.
        pixels: as `Store.pixels` gives them.
        mean, std: in [0, 1], see `normalization_of`.
    """
    device = next(backbone.parameters()).device
    images = plain_view(torch.from_numpy(pixels).to(device), start.size, Normalization(mean, std))
    return backbone(images).float().cpu().numpy()


def normalization_of(store: Store, start: Start) -> tuple[float, float]:
    """Mean and standard deviation, in [0, 1], with which a start sees a store's pixels: its own, or the store's."""
    if start.mean is None or start.std is None:
        return store.mean, store.std
    return start.mean, start.std


def features_folder(store: Path) -> Path:
    """The folder beside a store, NAME.features, where its films' features are kept."""
    # Made absolute, as a relative path may end without a name (".").
    absolute = Path(store).absolute()
    return absolute.with_name(f"{absolute.name}.features")


def _check_finite(features: np.ndarray, start: Start) -> None:
    if not np.isfinite(features).all():
        raise ScarceError(
            "finite features",
            f"nan or inf from {start.name} ({start.source})",
            "its weights have diverged: take an earlier backbone of the run, or another start",
        )


def _read(path: Path, facts: dict[str, Any]) -> np.ndarray | None:
    """The features in a file, mapped; None if there are none, or they are not whole, or not those of the facts."""
    try:
        found = json.loads(path.with_suffix(".json").read_text("utf-8"))
        features = np.load(path, mmap_mode="r")
    except (OSError, ValueError):
        return None
    if not isinstance(found, dict) or any(found.get(name) != value for name, value in facts.items()):
        return None
    whole = features.dtype == np.float32 and features.shape == (facts["films"], found.get("features"))
    return features if whole else None
