"""Whether a film is of the kind that a model was made for: by how it looks, and by its features.

How it looks is told by `images.quality`. In the space of features a Gaussian is fitted to the train split, of full
variance along its principal axes and of equal variance across them (Tipping and Bishop, "Probabilistic Principal
Component Analysis", Journal of the Royal Statistical Society B, 1999). Neighbours would tell as well, but a model that
carried the films' own features would carry its patients along.
"""

from dataclasses import dataclass

import numpy as np
import torch
from sklearn.decomposition import PCA
from sklearn.model_selection import GroupKFold
from torch import nn

from scarce_cxr.images import quality

AXES = 64
"""Principal axes of the features, at most; of few films a quarter of their number."""
QUANTILE = 0.99
"""Share of a store's own films that a distance leaves unwarned."""
FEWEST_PATIENTS = 50
"""Below so many, no distance that one film in a hundred exceeds can be told."""

_FOLDS = 5


@dataclass(frozen=True)
class GuardFacts:
    """What is known of a guard.

    Attributes:
        axes: how many principal axes it has.
        threshold: the distance from which a film is unfamiliar.
        films, patients: that it was fitted on.
        held_out_films: films of other patients that it was tried on.
        held_out_warned: how many of them were warned of, by features or by looks.
    """

    axes: int
    threshold: float
    films: int
    patients: int
    held_out_films: int = 0
    held_out_warned: int = 0


class Guard(nn.Module):
    """Distance of features from those that it was fitted on.

    Args:
        features: length of the feature vector.
        axes: how many principal axes.
    """

    def __init__(self, features: int, axes: int) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(features))
        self.register_buffer("axes", torch.zeros(axes, features))
        self.register_buffer("variances", torch.ones(axes))
        self.register_buffer("rest", torch.ones(()))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(B, features) -> (B,) Mahalanobis' distance, in standard deviations."""
        shifted = features - self.centre
        along = shifted @ self.axes.T
        # What lies across, before it is squared: the difference of two squares would lose it.
        across = shifted - along @ self.axes
        return ((along.square() / self.variances).sum(1) + across.square().sum(1) / self.rest).sqrt()


def fit_guard(features: np.ndarray, patients: np.ndarray) -> tuple[Guard, GuardFacts] | None:
    """Fits a guard; its threshold comes from films whose patients' films it was not fitted on, in five folds.

    Args:
        features: (n, d) of the train split.
        patients: (n,) whose film it is.

    Returns:
        The guard and what is known of it; None for fewer than 50 patients.
    """
    features = np.asarray(features, dtype=np.float64)
    names = np.unique(patients.astype(str))
    if len(names) < FEWEST_PATIENTS:
        return None
    axes = max(1, min(AXES, len(features) // 4, features.shape[1] - 1))
    held_out = np.empty(len(features))
    for fitted, left in GroupKFold(_FOLDS).split(features, groups=patients.astype(str)):
        held_out[left] = distances_of(_fit(features[fitted], axes), features[left])
    threshold = float(np.quantile(held_out, QUANTILE))
    return _fit(features, axes), GuardFacts(axes, threshold, len(features), len(names))


@torch.inference_mode()
def distances_of(guard: Guard, features: np.ndarray) -> np.ndarray:
    """(n, d) features -> (n,) distances."""
    return guard(torch.as_tensor(np.asarray(features, dtype=np.float32))).numpy()


def warn_of(pixels: np.ndarray, distances: np.ndarray | None, facts: GuardFacts | None) -> list[list[str]]:
    """What is odd about films, in words; nothing where nothing is.

    Args:
        pixels: (n, H, W) films as a model takes them.
        distances: (n,) of their features; None where there is no guard.
        facts: of the guard.

    Returns:
        One list a film. The first word before a colon says of which kind a warning is: one of `quality.KINDS`, or
        unfamiliar.
    """
    warnings: list[list[str]] = [[] for _ in pixels]
    if min(pixels.shape[1:]) >= quality.SIDE:
        for suspect in quality.suspects(quality.measure_films(pixels)).itertuples():
            warnings[suspect.row].append(f"{suspect.kind}: {suspect.why}")
    if distances is not None and facts is not None:
        for row in np.flatnonzero(distances > facts.threshold):
            ratio = distances[row] / facts.threshold
            words = f"features {ratio:.2f} times as far off as those of {QUANTILE:.0%} of the films it was made for"
            warnings[row].append(f"unfamiliar: {words}")
    return warnings


def _fit(features: np.ndarray, axes: int) -> Guard:
    fitted = PCA(axes, svd_solver="full").fit(features)
    guard = Guard(features.shape[1], axes)
    least = np.finfo(np.float32).eps * max(float(fitted.explained_variance_[0]), 1.0)
    guard.centre.copy_(torch.from_numpy(fitted.mean_))
    guard.axes.copy_(torch.from_numpy(fitted.components_))
    guard.variances.copy_(torch.from_numpy(np.maximum(fitted.explained_variance_, least)))
    guard.rest.fill_(max(float(fitted.noise_variance_), least))
    return guard
