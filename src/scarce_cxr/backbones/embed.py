"""The one place where features of films are computed, once for each backbone and store."""

import json
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from scarce_cxr.backbones.backbone import Backbone
from scarce_cxr.backbones.starts import Start, load_start
from scarce_cxr.images.atomic import written_whole
from scarce_cxr.images.store import Store
from scarce_cxr.progress import bar
from scarce_cxr.views.plans import Normalization, plain_view

_BATCH = 64


class Features(NamedTuple):
    """Features of all films of a store.

    Attributes:
        array: (n, d) float32, mapped from the file, in the order of the store's table.
        path: the file.
        seconds: what computing took; 0 if the file was there.
    """

    array: np.ndarray
    path: Path
    seconds: float


def embed(
    store: Store, start: Start, *, folder: Path | None = None, device: torch.device | str = "cpu", batch: int = _BATCH
) -> Features:
    """Features of every film, whole and at the start's size, in evaluation mode and fp32.

    They are kept beside the store, in STORE.features, under the fingerprints of weights and store and the size: what is
    there is not computed again.

    Args:
        store: the films.
        start: the backbone.
        folder: where features are kept, if not there.
        device: where they are computed.
        batch: films that go through the backbone at once.

    Raises:
        ScarceError: the weights are missing or do not fit, or the backbone does not take films of this size.
    """
    folder = folder or store.path.with_name(f"{store.path.resolve().name}.features")
    mean, std = normalization_of(store, start)
    # Pixels are seen through mean and standard deviation, so that these belong to the key too.
    path = folder / f"{start.fingerprint}-{store.fingerprint[:16]}-{start.size}-{mean:.6f}-{std:.6f}.npy"
    known = _read(path, len(store))
    if known is not None:
        return Features(known, path, 0.0)
    begun = time.perf_counter()
    backbone = load_start(start).to(device, memory_format=torch.channels_last)
    backbone.check(start.size)
    features = np.empty((len(store), backbone.features), np.float32)
    with bar(f"embedding with {start.name}", len(store), "films") as advance:
        for first in range(0, len(store), batch):
            rows = np.arange(first, min(first + batch, len(store)))
            features[rows] = embed_pixels(backbone, store.pixels(rows), start.size, Normalization(mean, std))
            advance(len(rows))
    folder.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as temporary, temporary.open("wb") as file:
        np.save(file, features)
    facts = {
        "start": start.source,
        "architecture": start.settings.name,
        "weights": start.fingerprint,
        "store": store.fingerprint,
        "films": len(store),
        "features": backbone.features,
        "image_size": start.size,
        "mean": mean,
        "std": std,
    }
    with written_whole(path.with_suffix(".json")) as temporary:
        temporary.write_text(json.dumps(facts, indent=2) + "\n", "utf-8")
    return Features(np.load(path, mmap_mode="r"), path, time.perf_counter() - begun)


@torch.inference_mode()
def embed_pixels(backbone: Backbone, pixels: np.ndarray, size: int, normalization: Normalization) -> np.ndarray:
    """Features (B, d) float32 of stored films (B, H, W) uint8 or uint16, squashed to `size`.

    Args:
        backbone: in evaluation mode; its device is used.
        pixels: as `Store.pixels` gives them.
        size: side in pixels.
        normalization: the backbone's.
    """
    device = next(backbone.parameters()).device
    images = plain_view(torch.from_numpy(pixels).to(device), size, normalization)
    return backbone(images).float().cpu().numpy()


def normalization_of(store: Store, start: Start) -> tuple[float, float]:
    """Mean and standard deviation, in [0, 1], with which a start sees a store's pixels: its own, or the store's."""
    if start.mean is None or start.std is None:
        return store.mean, store.std
    return start.mean, start.std


def _read(path: Path, films: int) -> np.ndarray | None:
    """The features in a file, mapped; None if there are none, or not those of so many films."""
    try:
        features = np.load(path, mmap_mode="r")
    except (OSError, ValueError):
        return None
    return features if features.ndim == 2 and len(features) == films and features.dtype == np.float32 else None
