"""Plans: how many views of a film a method sees, how large, and how they are augmented."""

from abc import ABC, abstractmethod

import numpy as np
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
        films: (B,) indices into the store of the films that are seen, for methods that know more of them (labels);
            None if whoever made the views did not say.
    """

    # A plain class on purpose: wrappers of the forward pass take apart tuples, dictionaries and dataclasses, and
    # would cast the targets inside to the training precision.
    __slots__ = ("clean", "crops", "draws", "films")

    def __init__(
        self,
        crops: list[torch.Tensor],
        clean: list[torch.Tensor],
        draws: Draws,
        films: np.ndarray | None = None,
    ) -> None:
        self.crops, self.clean, self.draws, self.films = crops, clean, draws, films


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

    @property
    def sizes(self) -> tuple[int, ...]:
        """The different sides that views have, in pixels, largest first."""
        return (self.size,)

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
        _check_size("size", size)
        self.size, self.augmentation = size, augmentation

    def __call__(self, pixels: torch.Tensor, draws: Draws, normalization: Normalization) -> Views:
        return _make_views(pixels, draws, normalization, [(self.augmentation, self.size)])


class TwoViews(Plan):
    """Two views of each film, as methods need them that compare films with themselves.

    Args:
        size: side of both square views in pixels.
        first: what happens to the first view.
        second: what happens to the second view, if not the same; its draws are its own in any case.
    """

    def __init__(
        self,
        size: int = 224,
        first: Augmentation = Augmentation(),  # noqa: B008 (frozen)
        second: Augmentation | None = None,
    ) -> None:
        _check_size("size", size)
        self.size, self.first, self.second = size, first, second or first

    def __call__(self, pixels: torch.Tensor, draws: Draws, normalization: Normalization) -> Views:
        return _make_views(pixels, draws, normalization, [(self.first, self.size), (self.second, self.size)])


class MultiCrop(Plan):
    """Two large views of each film and several small ones (Caron et al., "SwAV", NeurIPS 2020, section 3.2).

    Views come in this order: the two global ones, then the local ones.

    Args:
        size: side of the two global views in pixels.
        local_size: side of the local views in pixels, below `size`.
        local_crops: how many local views; 0 leaves the two global ones.
        global_augmentation: what happens to the global views.
        second_global: what happens to the second global view, if not the same.
        local_augmentation: what happens to the local views.
    """

    def __init__(
        self,
        size: int = 224,
        local_size: int = 96,
        local_crops: int = 6,
        global_augmentation: Augmentation = Augmentation(crop=(0.4, 1.0)),  # noqa: B008 (frozen)
        second_global: Augmentation | None = None,
        local_augmentation: Augmentation = Augmentation(crop=(0.1, 0.4)),  # noqa: B008 (frozen)
    ) -> None:
        _check_size("size", size)
        _check_size("local_size", local_size)
        if local_crops < 0:
            raise ScarceError("a number of local views of at least 0", f"views.local_crops = {local_crops}", "e.g. 6")
        # Methods tell global from local views by their size.
        if local_crops and local_size >= size:
            raise ScarceError(
                "local views smaller than the global ones",
                f"views.local_size = {local_size} with views.size = {size}",
                f"choose e.g. {max(1, size * 3 // 7)}",
            )
        self.size, self.local_size, self.local_crops = size, local_size, local_crops
        self.global_augmentation, self.second_global = global_augmentation, second_global or global_augmentation
        self.local_augmentation = local_augmentation

    @property
    def sizes(self) -> tuple[int, ...]:
        return (self.size, self.local_size) if self.local_crops else (self.size,)

    def __call__(self, pixels: torch.Tensor, draws: Draws, normalization: Normalization) -> Views:
        settings = [(self.global_augmentation, self.size), (self.second_global, self.size)]
        settings += self.local_crops * [(self.local_augmentation, self.local_size)]
        return _make_views(pixels, draws, normalization, settings)


def _check_size(name: str, size: int) -> None:
    if size < 1:
        raise ScarceError("a view of at least one pixel", f"views.{name} = {size}", "e.g. 224")


def _make_views(
    pixels: torch.Tensor, draws: Draws, normalization: Normalization, settings: list[tuple[Augmentation, int]]
) -> Views:
    """One view a setting, each with draws of its own: they are named view0, view1, ..."""
    made = [
        make_view(pixels, augmentation, size, draws, normalization, f"view{number}")
        for number, (augmentation, size) in enumerate(settings)
    ]
    return Views([crop for crop, _ in made], [clean for _, clean in made], draws)


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
    view = augment.solarize(view, augmentation, draws, name)
    noisy = augment.add_noise(view, augmentation, draws, name)
    clean = normalization(view)
    return (clean if noisy is view else normalization(noisy)), clean


def plain_view(pixels: torch.Tensor, size: int, normalization: Normalization) -> torch.Tensor:
    """The whole film, squashed to size x size and normalised, with nothing random: (B, H, W) -> (B, 1, size, size)."""
    return normalization(augment.resample(pixels, augment.whole_film(len(pixels)), size))
