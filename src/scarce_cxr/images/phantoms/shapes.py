"""Shapes of which a phantom's projected thickness is made: the film's frame, ribbons, balls and capsules.

Lengths are centimetres of the body. Body coordinates have x growing towards the image's right (the patient's left),
y growing downwards, and their origin at the height of the lungs' tops on the body's midline.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.interpolate import CubicHermiteSpline

REACH = 48.0
STATIONS = np.linspace(-REACH, REACH, 4097)
"""Coordinates (cm) at which an outline is tabulated; `Frame.down` and `Frame.across` index them."""


@dataclass(frozen=True)
class Frame:
    """Where the film lies over the body: square, `size` pixels and `field` cm wide, turned by `angle` radians."""

    size: int
    field: float
    centre: tuple[float, float]
    angle: float

    @property
    def pixel(self) -> float:
        """The width of a pixel in cm."""
        return self.field / self.size

    @cached_property
    def grid(self) -> tuple[np.ndarray, np.ndarray]:
        """Body coordinates x and y of the pixels' centres, float32 of shape (size, size) each."""
        steps = (((np.arange(self.size) + 0.5) / self.size - 0.5) * self.field).astype(np.float32)
        cosine, sine = np.float32(np.cos(self.angle)), np.float32(np.sin(self.angle))
        x = np.float32(self.centre[0]) + cosine * steps[None, :] + sine * steps[:, None]
        y = np.float32(self.centre[1]) - sine * steps[None, :] + cosine * steps[:, None]
        return x, y

    @cached_property
    def across(self) -> np.ndarray:
        """For each pixel the index of its x among `STATIONS`."""
        return index_stations(self.grid[0])

    @cached_property
    def down(self) -> np.ndarray:
        """For each pixel the index of its y among `STATIONS`."""
        return index_stations(self.grid[1])

    def locate(self, points: np.ndarray) -> np.ndarray:
        """Turn body points (..., 2) in cm into pixel coordinates (column, row), pixel centres at whole numbers."""
        cosine, sine = float(np.cos(self.angle)), float(np.sin(self.angle))
        x, y = points[..., 0] - self.centre[0], points[..., 1] - self.centre[1]
        columns = (cosine * x - sine * y) / self.pixel + self.size / 2 - 0.5
        rows = (sine * x + cosine * y) / self.pixel + self.size / 2 - 0.5
        return np.stack([columns, rows], axis=-1)


def index_stations(coordinates: np.ndarray) -> np.ndarray:
    """Return the index among `STATIONS` nearest to each coordinate (cm)."""
    scale = (len(STATIONS) - 1) / (2 * REACH)
    return np.clip((coordinates + REACH) * scale + 0.5, 0, len(STATIONS) - 1).astype(np.int32)


def profile_rod(offsets: np.ndarray) -> np.ndarray:
    """Thickness of a solid rod of radius 1 at offsets in [-1, 1] from its axis."""
    return 2 * np.sqrt(1 - offsets**2)


def profile_bone(offsets: np.ndarray) -> np.ndarray:
    """Thickness of a marrow-filled bone of radius 1: its cortex shows brightest near the edges."""
    marrow = 2 * np.sqrt(np.clip(1 - (offsets / 0.80) ** 2, 0, None)) * 0.80
    return profile_rod(offsets) - 0.72 * marrow


def profile_sheet(offsets: np.ndarray) -> np.ndarray:
    """Thickness of a flat sheet whose edges taper."""
    return 1 - offsets**6


def profile_tube(offsets: np.ndarray) -> np.ndarray:
    """Thickness of the wall of a thin tube of radius 1."""
    return profile_rod(offsets) - 1.5 * np.sqrt(np.clip(1 - (offsets / 0.75) ** 2, 0, None))


def draw_ribbons(
    frame: Frame,
    points: np.ndarray,
    radius: np.ndarray,
    weight: np.ndarray | float = 1.0,
    profile: Callable[[np.ndarray], np.ndarray] = profile_rod,
) -> np.ndarray:
    """Project curved rods onto the film: thickness in cm, float32 of shape (size, size); see `sample_ribbons`."""
    return splat(frame.size, *sample_ribbons(frame, points, radius, weight, profile))


def sample_ribbons(
    frame: Frame,
    points: np.ndarray,
    radius: np.ndarray,
    weight: np.ndarray | float = 1.0,
    profile: Callable[[np.ndarray], np.ndarray] = profile_rod,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cover curved rods with points for `splat`: their columns, rows and weights.

    `points` (R, N, 2 or 3) are the nodes of R centre lines in cm (a third coordinate is depth along the beam, and
    makes a rod that runs along the beam denser), `radius` (R, N) or a broadcastable shape in cm, `weight` (likewise)
    a factor on the thickness. Mass is conserved, so rods thinner than a pixel come out fainter, not lost.
    """
    points = points.astype(np.float32)
    nodes = points[..., :2]
    radius = np.broadcast_to(np.asarray(radius, dtype=np.float32), points.shape[:2])
    weight = np.broadcast_to(np.asarray(weight, dtype=np.float32), points.shape[:2])
    tangents = np.gradient(nodes, axis=1)
    tangents /= np.linalg.norm(tangents, axis=-1, keepdims=True) + 1e-9
    normals = np.stack([-tangents[..., 1], tangents[..., 0]], axis=-1)
    flat = np.linalg.norm(np.diff(nodes, axis=1), axis=-1)
    lengths = np.linalg.norm(np.diff(points, axis=1), axis=-1)
    lengths = np.minimum(lengths, 1.8 * flat + 0.03)
    steps = int(np.clip(np.ceil(flat.max() / (0.9 * frame.pixel)), 1, 400))
    strips = int(np.clip(np.ceil(2 * radius.max() / (0.85 * frame.pixel)), 3, 96))
    along = ((np.arange(steps) + 0.5) / steps).astype(np.float32)
    # The strips' places wander from step to step, so that they do not beat with the pixels into visible stripes.
    wander = np.mod(np.arange(steps) * 0.618034, 1.0)[:, None]
    offsets = ((np.arange(strips) + wander) / strips * 2 - 1).astype(np.float32)

    def interpolate(values: np.ndarray) -> np.ndarray:
        share = along.reshape((1, 1, steps) + (1,) * (values.ndim - 2))
        return values[:, :-1, None] * (1 - share) + values[:, 1:, None] * share

    middles, sideways, widths = interpolate(frame.locate(nodes)), interpolate(normals), interpolate(radius)
    cosine, sine = np.float32(np.cos(frame.angle)), np.float32(np.sin(frame.angle))
    turned = np.stack(
        [cosine * sideways[..., 0] - sine * sideways[..., 1], sine * sideways[..., 0] + cosine * sideways[..., 1]], -1
    )
    reach = (widths / frame.pixel)[..., None] * offsets
    columns = middles[..., 0, None] + turned[..., 0, None] * reach
    rows = middles[..., 1, None] + turned[..., 1, None] * reach
    areas = (lengths[..., None] / steps) * (2 * widths / strips) / frame.pixel**2
    thickness = (areas * widths * interpolate(weight))[..., None] * profile(offsets)
    return columns.ravel(), rows.ravel(), thickness.ravel()


def splat(size: int, columns: np.ndarray, rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Add weighted points to an empty (size, size) image, each shared out between its four nearest pixels."""
    film = np.zeros((size + 2, size + 2), dtype=np.float32)
    inside = (columns > -1) & (columns < size) & (rows > -1) & (rows < size)
    if not inside.any():
        return film[1:-1, 1:-1]
    columns, rows, weights = columns[inside] + 1, rows[inside] + 1, weights[inside]
    # Rounding may carry a point just inside the last pixel onto its far edge.
    left, top = np.minimum(columns.astype(np.int32), size), np.minimum(rows.astype(np.int32), size)
    right_share, bottom_share = columns - left, rows - top
    # Most shapes cover a small part of the film: only the window around the points is summed up.
    first_column, first_row = int(left.min()), int(top.min())
    wide, tall = int(left.max()) - first_column + 2, int(top.max()) - first_row + 2
    corner = (top - first_row) * wide + (left - first_column)
    below = weights * bottom_share
    above = weights - below
    total = np.zeros(wide * tall)
    for shift, share in (
        (0, above * (1 - right_share)),
        (1, above * right_share),
        (wide, below * (1 - right_share)),
        (wide + 1, below * right_share),
    ):
        total += np.bincount(corner + shift, weights=share, minlength=wide * tall)
    film[first_row : first_row + tall, first_column : first_column + wide] = total.reshape(tall, wide)
    return film[1:-1, 1:-1]


def measure_ball(
    x: np.ndarray, y: np.ndarray, centre: tuple[float, float], radii: tuple[float, float], angle: float = 0.0
) -> np.ndarray:
    """Thickness, in [0, 1] of the greatest, of an ellipsoid seen from the front at body coordinates x and y."""
    cosine, sine = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    right, below = x - np.float32(centre[0]), y - np.float32(centre[1])
    first = (cosine * right + sine * below) / np.float32(radii[0])
    second = (cosine * below - sine * right) / np.float32(radii[1])
    return np.sqrt(np.clip(1 - first * first - second * second, 0, None))


def measure_capsule(
    x: np.ndarray, y: np.ndarray, start: tuple[float, float], end: tuple[float, float], radii: tuple[float, float]
) -> np.ndarray:
    """Thickness in cm of a limb from `start` to `end` whose radius goes from one radius to the other."""
    run, rise = end[0] - start[0], end[1] - start[1]
    share = np.clip(
        ((x - np.float32(start[0])) * np.float32(run) + (y - np.float32(start[1])) * np.float32(rise))
        / np.float32(run**2 + rise**2),
        0,
        1,
    )
    width = np.float32(radii[0]) + share * np.float32(radii[1] - radii[0])
    gap = (x - np.float32(start[0]) - share * np.float32(run)) ** 2
    gap += (y - np.float32(start[1]) - share * np.float32(rise)) ** 2
    return 2 * np.sqrt(np.clip(width * width - gap, 0, None))


def bend(points: np.ndarray, nodes: int = 24) -> np.ndarray:
    """Lay a smooth curve of `nodes` points through the given control points (N, 2); returns shape (1, nodes, 2)."""
    steps = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    curve = CubicHermiteSpline(steps, points, np.gradient(points, steps, axis=0))
    return curve(np.linspace(0, steps[-1], nodes))[None]
