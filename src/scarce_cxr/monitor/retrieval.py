"""Does the representation know a film again? A label-free score: which of 100 films does a second view belong to."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from scarce_cxr.errors import ScarceError
from scarce_cxr.images.splits import patients_of
from scarce_cxr.images.store import Store
from scarce_cxr.views.augment import Augmentation
from scarce_cxr.views.draws import Draws
from scarce_cxr.views.plans import Normalization, make_view

# The same views for whatever is measured, whichever recipe it was trained with.
_VIEWS = Augmentation(crop=(0.4, 1.0), flip=0.5, rotation=10, brightness=0.4, contrast=0.4)
_RESAMPLES = 2000
_BATCH = 50


class Retrieval(NamedTuple):
    """Share of views that find their film.

    Attributes:
        top1: mean over draws, in [0, 1]; chance is 1 / films_per_draw.
        low, high: 95 % interval, by resampling whole patients.
        draws, films_per_draw: how it was measured.
        films, patients: what stands behind it.
    """

    top1: float
    low: float
    high: float
    draws: int
    films_per_draw: int
    films: int
    patients: int


def find_again(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """(n,) bool: whether the second view most like a film's first view is that film's own.

    Args:
        first, second: (n, d) features of two views of n films, in the same order. They are centred together and
            compared by cosine: uncentred features of radiographs all point the same way.
    """
    mean = torch.cat([first, second]).mean(dim=0)
    first, second = F.normalize(first - mean, dim=1), F.normalize(second - mean, dim=1)
    return (first @ second.T).argmax(dim=1) == torch.arange(len(first), device=first.device)


@torch.no_grad()
def measure_retrieval(
    store: Store,
    films: np.ndarray,
    encode: Callable[[torch.Tensor], torch.Tensor],
    size: int,
    *,
    draws: int = 10,
    films_per_draw: int = 100,
    device: torch.device | str = "cpu",
) -> Retrieval:
    """Measures an encoder on held-out films.

    Every draw takes `films_per_draw` of the films and makes two fixed views of each. Draws share films, so the
    interval does not come from their spread: it resamples patients.

    Args:
        store: the store.
        films: (n,) indices of films that were not trained on.
        encode: (B, 1, size, size) normalised views -> (B, d) features; in evaluation mode.
        size: side of the views in pixels.
        draws, films_per_draw: see above.
        device: where views are made.

    Raises:
        ScarceError: there are fewer films than a draw takes.
    """
    if len(films) < films_per_draw:
        raise ScarceError(
            f"at least {films_per_draw} held-out films", f"{len(films)}", "hold out more with watch.held_out"
        )
    normalization = Normalization(store.mean, store.std)
    hits, seen = np.zeros(len(films)), np.zeros(len(films))
    for draw in range(draws):
        order = np.argsort(Draws(0, draw, np.arange(len(films))).uniform("retrieval")[:, 0])[:films_per_draw]
        features: list[list[torch.Tensor]] = [[], []]
        for start in range(0, films_per_draw, _BATCH):
            chosen = order[start : start + _BATCH]
            pixels = torch.from_numpy(store.pixels(films[chosen])).to(device)
            for view, parts in enumerate(features):
                made, _ = make_view(pixels, _VIEWS, size, Draws(0, draw, chosen), normalization, f"view{view}")
                parts.append(encode(made).float())
        hits[order] += find_again(*(torch.cat(parts) for parts in features)).cpu().numpy()
        seen[order] += 1
    patients, owner = np.unique(patients_of(store.table.iloc[films]).astype(str), return_inverse=True)
    found, asked = np.bincount(owner, hits), np.bincount(owner, seen)
    chosen = np.random.default_rng(0).integers(len(patients), size=(_RESAMPLES, len(patients)))
    low, high = np.quantile(found[chosen].sum(axis=1) / asked[chosen].sum(axis=1), [0.025, 0.975])
    return Retrieval(
        float(hits.sum() / seen.sum()), float(low), float(high), draws, films_per_draw, len(films), len(patients)
    )
