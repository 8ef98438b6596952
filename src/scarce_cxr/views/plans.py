"""Plans: how many views of a film a method sees, how large, and how they are augmented."""

from abc import ABC, abstractmethod

import torch

from scarce_cxr.errors import ScarceError
from scarce_cxr.views import augment
from scarce_cxr.views.augment import Augmentation
from scarce_cxr.views.draws import Draws


class Views:
    """What a method is called with.

    Attributes:
        crops: one tensor (B, 1, S, S) float32 a view, normalised with the store's mean and standard deviation.
        clean: the same views before pixel noise was added: the targets of reconstruction.
        draws: the batch's random numbers, for what else a method draws (masks).
    """

    # A plain class on purpose: wrappers of the forward pass take apart tuples, dictionaries and dataclasses, and
    # would cast the targets inside to the training precision.
    __slots__ = ("clean", "crops", "draws")

    def __init__(self, crops: list[torch.Tensor], clean: list[torch.Tensor], draws: Draws) -> None:
        self.crops, self.clean, self.draws = crops, clean, draws


class Normalization:
    """From pixels in [0, 1] to the network's scale and back, with the store's statistics.

    Args:
        mean: mean of the store's pixels, in [0, 1].
        std: their standard deviation, above 0.
    """

    def __init__(self, mean: float, std: float) -> None:
        if not std > 0:
            raise ScarceError("pixels with a standard deviation above 0", f"{std}", "look at the store's films")
        self.mean, self.std = mean, std

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        return (pixels - self.mean) / self.std

    def invert(self, normalized: torch.Tensor) -> torch.Tensor:
        return normalized * self.std + self.mean


class Plan(ABC):
    """Turns stored pixels into views. `size` is the side of the largest view in pixels."""

    size: int

    @abstractmethod
    def __call__(self, pixels: torch.Tensor, draws: Draws, normalization: Normalization) -> Views:
        """Pixels (B, H, W) as stored, on the training device -> views on the same device."""


class OneView(Plan):
    """One view of each film, as masked reconstruction needs it.

    Args:
        size: side of the square view in pixels.
        augmentation: what happens to it.
    """

    def __init__(self, size: int = 224, augmentation: Augmentation = Augmentation()) -> None:  # noqa: B008 (frozen)
        if size < 1:
            raise ScarceError("a view of at least one pixel", f"views.size = {size}", "e.g. 224")
        self.size, self.augmentation = size, augmentation

    def __call__(self, pixels: torch.Tensor, draws: Draws, normalization: Normalization) -> Views:
        crop, clean = make_view(pixels, self.augmentation, self.size, draws, normalization, "view0")
        return Views([crop], [clean], draws)


def make_view(
    pixels: torch.Tensor,
    augmentation: Augmentation,
    size: int,
    draws: Draws,
    normalization: Normalization,
    name: str,
) -> tuple[torch.Tensor, torch.Tensor]:
    """One augmented view of each film: (B, H, W) stored pixels -> noisy and clean (B, 1, size, size), normalised."""
    view = augment.resample(pixels, augment.draw_geometry(augmentation, draws, name), size)
    view = augment.jitter(view, augmentation, draws, name)
    view = augment.blur(view, augmentation, draws, name)
    noisy = augment.add_noise(view, augmentation, draws, name)
    clean = normalization(view)
    return (clean if noisy is view else normalization(noisy)), clean


def plain_view(pixels: torch.Tensor, size: int, normalization: Normalization) -> torch.Tensor:
    """The whole film, squashed to size x size and normalised, with nothing random: (B, H, W) -> (B, 1, size, size)."""
    return normalization(augment.resample(pixels, augment.whole_film(len(pixels)), size))
