"""Augmentations of radiographs: whole batches, on the device where the batch lies.

Parameters are drawn one a sample on the CPU (a few dozen numbers); pixels are touched on the device only. Crop, flip
and rotation are one resampling, so a view is interpolated once.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from scarce_cxr.errors import ScarceError
from scarce_cxr.views.draws import Draws

# Numbers of candidates tried before a crop falls back to the whole film, as in torchvision's RandomResizedCrop.
_CROP_TRIALS = 10


@dataclass(frozen=True)
class Augmentation:
    """What may happen to a film on its way to a view. The defaults change nothing but the size.

    Attributes:
        crop: smallest and largest share of the film's area that a view shows, each in (0, 1].
        ratio: smallest and largest ratio of a crop's width to its height.
        flip: probability of a left-right flip, in [0, 1].
        rotation: largest rotation either way, in degrees.
        brightness: largest relative change of brightness: the factor is uniform in [max(0, 1 - b), 1 + b].
        contrast: the same for contrast, around the view's mean.
        jitter_probability: probability that brightness and contrast change at all, in [0, 1].
        blur: length of the Gaussian blur's kernel in pixels of the view, odd; 0 switches it off.
        blur_sigma: smallest and largest standard deviation of the blur, in pixels of the view.
        blur_probability: probability of a blur, in [0, 1].
        solarize_probability: probability that bright pixels are inverted, in [0, 1].
        solarize_threshold: the pixels from here up are inverted, in [0, 1].
        noise: standard deviation of the Gaussian pixel noise, in the units of pixels in [0, 1].
    """

    crop: tuple[float, float] = (1.0, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.0
    rotation: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    jitter_probability: float = 0.8
    blur: int = 0
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    blur_probability: float = 0.5
    solarize_probability: float = 0.0
    solarize_threshold: float = 0.5
    noise: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.crop[0] <= self.crop[1] <= 1:
            raise ScarceError(
                "crop as two shares of the area, 0 < smallest <= largest <= 1", str(self.crop), "e.g. [0.2, 1.0]"
            )
        if not 0 < self.ratio[0] <= self.ratio[1]:
            raise ScarceError("ratio as 0 < smallest <= largest", str(self.ratio), "e.g. [0.75, 1.333]")
        if self.blur and self.blur % 2 == 0:
            raise ScarceError("an odd blur kernel, or 0 for none", f"blur = {self.blur}", f"write {self.blur + 1}")
        if not 0 < self.blur_sigma[0] <= self.blur_sigma[1]:
            raise ScarceError("blur_sigma as 0 < smallest <= largest", str(self.blur_sigma), "e.g. [0.1, 2.0]")
        for name in ("flip", "jitter_probability", "blur_probability", "solarize_probability", "solarize_threshold"):
            if not 0 <= getattr(self, name) <= 1:
                raise ScarceError(f"{name} in [0, 1]", str(getattr(self, name)), "write a share, e.g. 0.5")
        for name in ("rotation", "brightness", "contrast", "noise", "blur"):
            if getattr(self, name) < 0:
                raise ScarceError(f"{name} of at least 0", str(getattr(self, name)), "0 switches it off")


@dataclass(frozen=True)
class Geometry:
    """Where each view lies on its film, in the film's normalised coordinates (-1 and 1 are its outer edges).

    Attributes:
        center: (B, 2) x and y of the view's centre.
        half: (B, 2) half the view's width and height.
        angle: (B,) rotation in radians.
        mirrored: (B,) bool, flipped left to right.
    """

    center: np.ndarray
    half: np.ndarray
    angle: np.ndarray
    mirrored: np.ndarray

    def matrices(self) -> np.ndarray:
        """(B, 2, 3) affine maps from a view's coordinates to its film's, for square films."""
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        sign = np.where(self.mirrored, -1.0, 1.0)
        width, height = self.half[:, 0] * sign, self.half[:, 1]
        x, y = self.center.T
        return np.stack([cos * width, -sin * height, x, sin * width, cos * height, y], 1).reshape(-1, 2, 3)


def whole_film(count: int) -> Geometry:
    """The geometry that shows `count` films whole and as they are."""
    return Geometry(np.zeros((count, 2)), np.ones((count, 2)), np.zeros(count), np.zeros(count, dtype=bool))


def draw_geometry(augmentation: Augmentation, draws: Draws, view: str) -> Geometry:
    """Draws crop, flip and rotation of the named view for every sample.

    The crop's distribution is that of torchvision's RandomResizedCrop on a square film: area uniform, ratio
    log-uniform, the first of ten candidates that fits, otherwise the largest that the film holds.
    """
    candidates = draws.uniform(f"{view}/crop", 2 * _CROP_TRIALS).reshape(-1, _CROP_TRIALS, 2)
    low, high = augmentation.crop
    area = low + (high - low) * candidates[..., 0]
    log_low, log_high = np.log(augmentation.ratio)
    ratio = np.exp(log_low + (log_high - log_low) * candidates[..., 1])
    half = np.stack([np.sqrt(area * ratio), np.sqrt(area / ratio)], axis=-1)
    fits = (half <= 1).all(axis=-1)
    first = fits.argmax(axis=1)
    half = half[np.arange(len(half)), first]
    # With a crop of (1, 1) no ratio but 1 fits: the fallback is then the whole film, as it should be.
    fallback = np.array([min(1.0, augmentation.ratio[1]), min(1.0, 1 / augmentation.ratio[0])])
    half = np.where(fits.any(axis=1)[:, None], half, fallback)
    place = draws.uniform(f"{view}/place", 4)
    return Geometry(
        center=(2 * place[:, :2] - 1) * (1 - half),
        half=half,
        angle=np.deg2rad(augmentation.rotation) * (2 * place[:, 2] - 1),
        mirrored=place[:, 3] < augmentation.flip,
    )


def resample(pixels: torch.Tensor, geometry: Geometry, size: int) -> torch.Tensor:
    """Cuts one view out of each film in a single resampling.

    Where a view is smaller than what it shows, every pixel of the view is the mean of k x k bilinear samples spread
    over its footprint (k the least integer that leaves no film pixel out): an area filter, so nothing aliases. k
    belongs to the sample, not to the batch, so a sample looks the same in any batch. Outside the film is black.

    Args:
        pixels: (B, H, W) stored pixels, H = W, uint8 or uint16, on any device.
        geometry: B views.
        size: side of the square views.

    Returns:
        (B, 1, size, size) float32 in [0, 1] on the same device.
    """
    count, side, _ = pixels.shape
    # The stored integers' own range: torch.iinfo knows uint16 too.
    full_scale = torch.iinfo(pixels.dtype).max
    matrices = torch.from_numpy(geometry.matrices()).float().to(pixels.device)
    factors = np.maximum(1, np.ceil(geometry.half.max(axis=1) * side / size - 1e-9)).astype(int)
    views = torch.empty(count, 1, size, size, device=pixels.device)
    for factor in np.unique(factors):
        chosen = torch.from_numpy(np.flatnonzero(factors == factor)).to(pixels.device)
        fine = int(factor) * size
        grid = F.affine_grid(matrices[chosen], (len(chosen), 1, fine, fine), align_corners=False)
        films = pixels[chosen, None].float() / full_scale
        sampled = F.grid_sample(films, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        views[chosen] = F.avg_pool2d(sampled, int(factor)) if factor > 1 else sampled
    return views


def jitter(views: torch.Tensor, augmentation: Augmentation, draws: Draws, view: str) -> torch.Tensor:
    """Brightness, then contrast around the view's mean, each clamped to [0, 1] as in torchvision. (B, 1, S, S)."""
    if augmentation.brightness == 0 and augmentation.contrast == 0:
        return views
    numbers = draws.uniform(f"{view}/jitter", 3)
    applied = numbers[:, 0] < augmentation.jitter_probability

    def factor(strength: float, uniform: np.ndarray) -> torch.Tensor:
        low, high = max(0.0, 1 - strength), 1 + strength
        values = np.where(applied, low + (high - low) * uniform, 1.0)
        return torch.from_numpy(values).float().to(views.device)[:, None, None, None]

    views = (views * factor(augmentation.brightness, numbers[:, 1])).clamp_(0, 1)
    mean = views.mean(dim=(1, 2, 3), keepdim=True)
    return (mean + (views - mean) * factor(augmentation.contrast, numbers[:, 2])).clamp_(0, 1)


def blur(views: torch.Tensor, augmentation: Augmentation, draws: Draws, view: str) -> torch.Tensor:
    """Gaussian blur of some of the views, each with a width of its own, as two one-dimensional passes. (B, 1, S, S)."""
    if augmentation.blur == 0:
        return views
    numbers = draws.uniform(f"{view}/blur", 2)
    chosen = np.flatnonzero(numbers[:, 0] < augmentation.blur_probability)
    if len(chosen) == 0:
        return views
    low, high = augmentation.blur_sigma
    sigma = low + (high - low) * numbers[chosen, 1]
    offsets = np.arange(augmentation.blur) - augmentation.blur // 2
    kernels = np.exp(-0.5 * (offsets / sigma[:, None]) ** 2)
    kernels /= kernels.sum(axis=1, keepdims=True)
    index = torch.from_numpy(chosen).to(views.device)
    weights = torch.from_numpy(kernels).float().to(views.device)
    blurred = views.clone()
    blurred[index] = _convolve_rows(_convolve_rows(views[index], weights).mT, weights).mT
    return blurred


def _convolve_rows(views: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Convolves the rows of each (1, S, S) view with its own kernel: (B, 1, S, S), (B, K) -> (B, 1, S, S).

    A sum over taps rather than a grouped convolution: its result for a sample does not depend on the batch around it.
    """
    half = weights.shape[1] // 2
    # Views smaller than the kernel have too little to reflect.
    mode = "reflect" if half < views.shape[-1] else "constant"
    padded = F.pad(views, (half, half, 0, 0), mode=mode)
    width = views.shape[-1]
    total = torch.zeros_like(views)
    for tap in range(weights.shape[1]):
        total.addcmul_(padded[..., tap : tap + width], weights[:, tap, None, None, None])
    return total


def solarize(views: torch.Tensor, augmentation: Augmentation, draws: Draws, view: str) -> torch.Tensor:
    """Inverts the pixels from the threshold up, in some of the views. (B, 1, S, S) in [0, 1]."""
    if augmentation.solarize_probability == 0:
        return views
    chosen = draws.uniform(f"{view}/solarize")[:, 0] < augmentation.solarize_probability
    inverted = torch.from_numpy(chosen).to(views.device)[:, None, None, None] & (
        views >= augmentation.solarize_threshold
    )
    return torch.where(inverted, 1 - views, views)


def add_noise(views: torch.Tensor, augmentation: Augmentation, draws: Draws, view: str) -> torch.Tensor:
    """Gaussian pixel noise, not clamped: clamping would shift the mean of black borders. (B, 1, S, S)."""
    if augmentation.noise == 0:
        return views
    generator = draws.generator(f"{view}/noise", views.device)
    return views + augmentation.noise * torch.randn(views.shape, generator=generator, device=views.device)
