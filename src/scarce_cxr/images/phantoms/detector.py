"""From thickness to picture: the beam, scatter, noise, and each site's detector, display curve, markers and masks."""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import gaussian_filter

WATER = 0.175
BONE = 0.50
METAL = 9.0
"""Attenuation per cm of water, of bone (beyond the water it displaces) and of metal, at a chest film's beam."""


@dataclass(frozen=True)
class Site:
    """A site's detector: blur and edge enhancement in cm, quanta per square cm behind no patient, display curve."""

    blur: float
    enhancement: float
    quanta: float
    gamma: float
    toe: float
    bits: int
    sizes: tuple[tuple[int, int, float], ...]
    marker: str


SITES = {
    "A": Site(0.060, 0.25, 4e5, 1.0, 0.35, 8, ((2500, 2048, 0.168), (2048, 2500, 0.171), (2048, 2048, 0.168)), "plain"),
    "B": Site(
        0.028, 0.55, 1.2e6, 0.86, 0.7, 16, ((3056, 2544, 0.139), (2992, 2991, 0.143), (2544, 3056, 0.139)), "disc"
    ),
}
"""Sites by name; `sizes` are the detectors' width and height in pixels and their pixel's width in millimetres."""


def expose(
    soft: np.ndarray, bone: np.ndarray, metal: np.ndarray, pixel: float, site: Site, random: np.random.Generator
) -> np.ndarray:
    """Expose the detector: thickness maps in cm and the pixel's width in cm, to log exposure (0 where nothing stood).

    The beam is never quite even over the film, nor is the tissue, for muscle, clothes and bedding. Scatter comes from
    the whole irradiated body, so it is a broad blur of what the body lets through.
    """
    steps = np.linspace(-1, 1, soft.shape[0], dtype=np.float32)
    tilt = random.normal(0, 0.13, 2).astype(np.float32)
    beam = tilt[0] * steps[:, None] + tilt[1] * steps
    patches = Image.fromarray(random.standard_normal((11, 11), dtype=np.float32))
    soft = soft * (1 + 0.05 * np.asarray(patches.resize(soft.shape, Image.Resampling.BICUBIC)))
    primary = np.exp(beam - (WATER * soft + BONE * bone + METAL * metal))
    share = 0.22 + 0.16 * random.random()
    signal = primary + share * _blur_broadly(np.minimum(primary, 0.30), 2.6 / pixel)
    quanta = site.quanta * np.exp(random.normal(0, 0.35)) * pixel**2
    noise = random.standard_normal(signal.shape, dtype=np.float32)
    signal = signal + noise * np.sqrt(signal / np.float32(quanta))
    signal = gaussian_filter(np.clip(signal, 1e-4, None), max(site.blur / pixel, 0.35))
    return -np.log(np.clip(signal, 1e-3, None))


def _blur_broadly(film: np.ndarray, spread: float) -> np.ndarray:
    """Blur by a Gaussian far wider than a pixel, on a coarser grid for speed."""
    size = film.shape[0]
    coarse = max(16, int(size / max(spread / 3, 1)))
    small = np.asarray(Image.fromarray(film).resize((coarse, coarse), Image.Resampling.BOX))
    small = gaussian_filter(small, spread * coarse / size, mode="nearest")
    return np.asarray(Image.fromarray(small).resize((size, size), Image.Resampling.BICUBIC))


def develop(depth: np.ndarray, pixel: float, site: Site, random: np.random.Generator) -> np.ndarray:
    """Turn log exposure into what is displayed, bones bright: float32 in [0, 1], by the site's curve and edges."""
    low = 0.18 + random.normal(0, 0.13)
    high = 3.46 + random.normal(0, 0.22)
    gamma = site.gamma * np.exp(random.normal(-0.07, 0.15))
    depth = depth + site.enhancement * (depth - gaussian_filter(depth, 0.35 / pixel))
    evening = np.float32(np.clip(random.normal(0.12, 0.14), -0.1, 0.5))
    depth = depth - evening * (_blur_broadly(depth, 5.0 / pixel) - np.float32(1.9))
    shown = (depth - np.float32(low)) / np.float32(high - low)
    # A softplus toe and shoulder instead of a hard clip, as films and displays have.
    bend = np.float32(0.09 * (0.5 + site.toe))
    shown = bend * np.logaddexp(0, shown / bend) - bend * np.logaddexp(0, (shown - np.float32(0.90)) / bend)
    shown = np.clip(shown, 0, None) ** np.float32(gamma)
    return np.clip(shown, 0, 1).astype(np.float32)


def mask_borders(shown: np.ndarray, random: np.random.Generator, lying: bool) -> np.ndarray:
    """Put on what the film's edges have: collimator jaws (unexposed, bright), or a digital shutter (black)."""
    size = shown.shape[0]
    steps = np.arange(size, dtype=np.float32) / size
    draws = random.random(3)
    angle, depths = random.normal(0, 0.035), random.random(4)
    if draws[0] > (0.34 if lying else 0.24):
        return shown
    value = np.float32(0.0 if draws[1] < 0.7 else 0.97)
    softness = 1.2 / size
    for edge in range(4):
        if depths[edge] < 0.55:
            continue
        deep = (0.16 if value < 0.5 else 0.05) * (depths[edge] - 0.55) / 0.45
        along, inward = (steps[:, None], steps[None, :]) if edge < 2 else (steps[None, :], steps[:, None])
        inward = inward if edge % 2 == 0 else 1 - inward
        cover = np.clip((deep + np.float32(angle) * (along - 0.5) - inward) / softness + 0.5, 0, 1)
        shown = shown * (1 - cover) + value * cover
    return shown.astype(np.float32)


def stamp_marker(shown: np.ndarray, site: Site, random: np.random.Generator, lying: bool) -> np.ndarray:
    """Lay the side marker (R or L, lead) and the portable unit's label on the film."""
    size = shown.shape[0]
    right = random.random() < 0.35
    row, column = random.uniform(0.05, 0.16), random.uniform(0.06, 0.13)
    column = column if right else 1 - column
    letter = _draw_letter("R" if right else "L", size, site.marker, random.normal(0, 12))
    shown = _paste(shown, letter, row, column, 0.96)
    if lying and random.random() < 0.6:
        label = _draw_letter("PORTABLE" if random.random() < 0.6 else "AP", size, "small", 0.0)
        shown = _paste(shown, label, random.uniform(0.04, 0.1), random.uniform(0.25, 0.75), 0.92)
    return shown


def _draw_letter(text: str, size: int, style: str, turn: float) -> np.ndarray:
    height = min(max(size * (0.028 if style == "small" else 0.062), 5), 0.1 * size)
    font = ImageFont.load_default(height * (0.8 if style == "disc" else 1))
    tall = int(1.75 * height)
    canvas = Image.new("L", (int(tall + 0.7 * height * (len(text) - 1)), tall), 0)
    draw = ImageDraw.Draw(canvas)
    if style == "disc":
        draw.ellipse((0.06 * tall, 0.06 * tall, 0.94 * tall, 0.94 * tall), outline=255, width=max(1, int(0.05 * tall)))
    draw.text(
        (canvas.width / 2, tall / 2),
        text,
        fill=255,
        font=font,
        anchor="mm",
        stroke_width=int(size > 300 and style == "plain"),
    )
    return np.asarray(canvas.rotate(turn, Image.Resampling.BICUBIC), dtype=np.float32) / 255


def _paste(shown: np.ndarray, cover: np.ndarray, row: float, column: float, value: float) -> np.ndarray:
    size, (tall, wide) = shown.shape[0], cover.shape
    top = int(np.clip(row * size - tall / 2, 0, size - tall))
    left = int(np.clip(column * size - wide / 2, 0, size - wide))
    shown = shown.copy()
    window = shown[top : top + tall, left : left + wide]
    window += cover * np.clip(value - window, 0, None)
    return shown
