"""Does the representation know a film again? A label-free score: which of 100 films does a second view belong to."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from scarce_cxr.errors import ScarceError
from scarce_cxr.images.splits import patients_of
from scarce_cxr.images.store import Store
from scarce_cxr.monitor.measures import patient_interval
from scarce_cxr.views.augment import Augmentation
from scarce_cxr.views.draws import Draws
from scarce_cxr.views.plans import Normalization, make_view

# The same views for whatever is measured, whichever recipe it was trained with. They keep a film's proportions: by them
# a chest is known.
_VIEWS = Augmentation(crop=(0.4, 1.0), ratio=(1.0, 1.0), flip=0.5, rotation=10, brightness=0.4, contrast=0.4)
_DRAWS, _FILMS_PER_DRAW = 10, 100
_BATCH = 64


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


def evaluation_views(
    store: Store, films: np.ndarray, size: int, *, pair: int = 0, device: torch.device | str = "cpu"
) -> tuple[torch.Tensor, torch.Tensor]:
    """Two fixed views of every film, as held-out films are measured with: normalised (n, 1, size, size) each.

    Args:
        store: the store.
        films: (n,) indices.
        size: side of the views in pixels.
        pair: another number makes other views of the same kind.
        device: where they are made.
    """
    normalization = Normalization(store.mean, store.std)
    made: tuple[list[torch.Tensor], list[torch.Tensor]] = ([], [])
    for start in range(0, len(films), _BATCH):
        positions = np.arange(start, min(start + _BATCH, len(films)))
        pixels = torch.from_numpy(store.pixels(films[positions])).to(device)
        for view, parts in enumerate(made):
            name = f"view{view}"
            parts.append(make_view(pixels, _VIEWS, size, Draws(0, pair, positions), normalization, name)[0])
    first, second = (torch.cat(parts) for parts in made)
    return first, second


@torch.no_grad()
def encode_in_batches(encode: Callable[[torch.Tensor], torch.Tensor], images: torch.Tensor) -> torch.Tensor:
    """(n, 1, S, S) -> (n, d) in fp32, a batch at a time."""
    return torch.cat([encode(batch).float() for batch in images.split(_BATCH)])


def find_again(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """(n,) bool: whether the second view most like a film's first view is that film's own.

    Args:
        first, second: (n, d) features of two views of n films, in the same order. They are centred together and
            compared by cosine: uncentred features of radiographs all point the same way.
    """
    mean = torch.cat([first, second]).mean(dim=0)
    first, second = F.normalize(first - mean, dim=1), F.normalize(second - mean, dim=1)
    return (first @ second.T).argmax(dim=1) == torch.arange(len(first), device=first.device)


def retrieval(
    first: torch.Tensor,
    second: torch.Tensor,
    patients: np.ndarray,
    *,
    draws: int = _DRAWS,
    films_per_draw: int = _FILMS_PER_DRAW,
) -> Retrieval:
    """The score of n films' features in one pair of views, which all draws share.

    Every draw takes `films_per_draw` of the films. Draws share films, so the interval does not come from their
    spread: it resamples patients.

    Args:
        first, second: (n, d) features.
        patients: (n,) whose film it is.
        draws, films_per_draw: see above.

    Raises:
        ScarceError: there are fewer films than a draw takes.
    """
    return _score(lambda draw, order: find_again(first[order], second[order]), patients, draws, films_per_draw)


def measure_retrieval(
    store: Store,
    films: np.ndarray,
    encode: Callable[[torch.Tensor], torch.Tensor],
    size: int,
    *,
    draws: int = _DRAWS,
    films_per_draw: int = _FILMS_PER_DRAW,
    device: torch.device | str = "cpu",
) -> Retrieval:
    """Measures an encoder on held-out films, more exactly than `retrieval`: every draw has two fixed views of its own.

    Args:
        store: the store.
        films: (n,) indices of films that were not trained on.
        encode: (B, 1, size, size) normalised views -> (B, d) features; in evaluation mode.
        size: side of the views in pixels.
        draws, films_per_draw: see `retrieval`.
        device: where views are made.

    Raises:
        ScarceError: there are fewer films than a draw takes.
    """

    def find(draw: int, order: np.ndarray) -> torch.Tensor:
        views = evaluation_views(store, films[order], size, pair=draw, device=device)
        return find_again(*(encode_in_batches(encode, view) for view in views))

    return _score(find, patients_of(store.table.iloc[films]).astype(str), draws, films_per_draw)


def _score(
    find: Callable[[int, np.ndarray], torch.Tensor], patients: np.ndarray, draws: int, films_per_draw: int
) -> Retrieval:
    """Asks `find(draw, positions of its films)` which of them are found again, and counts."""
    films = len(patients)
    if films < films_per_draw:
        raise ScarceError(f"at least {films_per_draw} held-out films", f"{films}", "hold out more with watch.held_out")
    hits, seen = np.zeros(films), np.zeros(films)
    for draw in range(draws):
        order = np.argsort(Draws(0, draw, np.arange(films)).uniform("retrieval")[:, 0])[:films_per_draw]
        hits[order] += find(draw, order).cpu().numpy()
        seen[order] += 1
    low, high = patient_interval(hits, seen, patients)
    top1 = float(hits.sum() / seen.sum())
    return Retrieval(top1, low, high, draws, films_per_draw, films, len(np.unique(patients)))
