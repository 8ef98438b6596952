"""How each finding looks: every function draws one into the scene and returns the body points (N, 2) that bound it."""

import numpy as np
from scipy.ndimage import gaussian_filter

from scarce_cxr.images.phantoms import shapes
from scarce_cxr.images.phantoms.anatomy import SIDES
from scarce_cxr.images.phantoms.scene import Scene
from scarce_cxr.images.phantoms.skeleton import POSTERIOR, trace_rib


def _enclose(centre: np.ndarray, reach: float | np.ndarray) -> np.ndarray:
    """Return two corners of the box around a centre."""
    return np.stack([np.asarray(centre) - reach, np.asarray(centre) + reach])


def _find_place(
    scene: Scene, random: np.random.Generator, down: tuple[float, float], across: tuple[float, float], margin: float
) -> tuple[int, np.ndarray]:
    """Choose a side and a place in that lung, clear of the heart and of the diaphragm by `margin` cm.

    `down` and `across` are ranges in [0, 1] from the lung's top to its dome, and from its inner to its outer border.
    """
    outlines = scene.outlines
    side = 1 if random.random() < 0.45 else -1
    height = random.uniform(*down) * (outlines.tops[side] - margin - 1)
    inner = outlines.read(outlines.left if side > 0 else outlines.right, height)
    outer = outlines.read(outlines.lateral[side], height)
    inner, outer = inner + margin, outer - 0.7 * margin
    away = inner + random.uniform(*across) * max(outer - inner, 0.0)
    return side, np.array([side * away + outlines.read(outlines.midline, height), height])


def draw_nodule(scene: Scene, random: np.random.Generator) -> np.ndarray:
    """A round opacity of 1.4 to 2.8 cm."""
    _, centre = _find_place(scene, random, (0.15, 0.92), (0.1, 0.85), 1.4)
    radius = random.uniform(0.7, 1.4)
    x, y = scene.frame.grid
    ball = shapes.measure_ball(x, y, tuple(centre), (radius, radius * random.uniform(0.85, 1.1)), random.uniform(0, 3))
    scene.soft += 3.4 * radius**0.5 * gaussian_filter(ball, 0.08 / scene.frame.pixel)
    return _enclose(centre, radius * 1.08)


def draw_mass(scene: Scene, random: np.random.Generator) -> np.ndarray:
    """An opacity of 3.5 to 6.5 cm with a lobulated, slightly spiky border."""
    _, centre = _find_place(scene, random, (0.2, 0.8), (0.1, 0.8), 2.2)
    radius = random.uniform(1.8, 3.2)
    x, y = scene.frame.grid
    right, below = x - np.float32(centre[0]), y - np.float32(centre[1])
    heading = np.arctan2(below, right)
    reach = np.full_like(heading, radius)
    for waves in range(2, 8):
        reach += (
            np.float32(0.22 * radius / waves)
            * np.sin(waves * heading + np.float32(random.uniform(0, 6.3)), dtype=np.float32)
            * np.float32(random.normal())
        )
    solid = np.sqrt(np.clip(1 - (right**2 + below**2) / np.clip(reach, 0.3, None) ** 2, 0, None))
    scene.soft += (4.2 + 0.8 * radius) * gaussian_filter(solid, 0.1 / scene.frame.pixel)
    return _enclose(centre, radius * 1.15)


def draw_granuloma(scene: Scene, random: np.random.Generator) -> np.ndarray:
    """A small dense calcified spot, sometimes with a smaller neighbour."""
    _, centre = _find_place(scene, random, (0.15, 0.9), (0.1, 0.9), 1.0)
    x, y = scene.frame.grid
    radius = random.uniform(0.32, 0.6)
    spots = [(centre, radius)]
    if random.random() < 0.4:
        spots.append((centre + random.uniform(-1.2, 1.2, 2), radius * 0.6))
    for place, size in spots:
        scene.bone += (
            2.2 * size**0.5 * shapes.measure_ball(x, y, tuple(place), (size, size * 0.85), random.uniform(0, 3))
        )
    return np.concatenate([_enclose(place, size * 1.2) for place, size in spots])


def draw_fibrosis(scene: Scene, random: np.random.Generator) -> np.ndarray:
    """Fibrotic bands that run outwards from a scar in one zone of the lung."""
    side, centre = _find_place(scene, random, (0.12, 0.75), (0.2, 0.6), 1.8)
    count = int(random.integers(5, 10))
    headings = random.normal(0.3, 0.7, count)
    lengths = random.uniform(2.4, 5.2, count)
    share = np.linspace(0, 1, 8)
    starts = centre + random.normal(0, 0.7, (count, 2)) - [side * 1.6, 0]
    turned = headings[:, None] + random.normal(0, 0.25, count)[:, None] * share
    steps = np.stack([side * np.cos(turned), np.sin(turned)], -1) * lengths[:, None, None] / 7
    nodes = starts[:, None] + np.cumsum(steps, axis=1)
    widths = random.uniform(0.10, 0.30, count)[:, None] * (1 - 0.4 * share)
    bands = shapes.draw_ribbons(scene.frame, nodes, widths, 0.9 / widths**0.5, shapes.profile_sheet)
    x, y = scene.frame.grid
    haze = shapes.measure_ball(x, y, tuple(centre), (2.6, 2.0), random.uniform(-0.6, 0.6)) ** 2
    scene.vessels += (2.6 * bands + 1.3 * haze) * _cover_lung(scene, side)
    return _clip_to_lung(scene, side, nodes.reshape(-1, 2))


def _cover_lung(scene: Scene, side: int) -> np.ndarray:
    return np.clip(scene.lungs[side] / 1.5, 0, 1)


def _clip_to_lung(scene: Scene, side: int, points: np.ndarray) -> np.ndarray:
    """Move points that lie beyond the lung's outer border onto it."""
    outlines = scene.outlines
    middle = outlines.read(outlines.midline, points[:, 1])
    away = np.minimum(side * (points[:, 0] - middle), outlines.read(outlines.lateral[side], points[:, 1]))
    return np.stack([side * away + middle, points[:, 1]], -1)


def draw_reticulation(scene: Scene, random: np.random.Generator) -> np.ndarray:
    """A net of fine lines in the lower and outer zones of both lungs."""
    outlines = scene.outlines
    corners = []
    strength = random.uniform(0.75, 1.1)
    for side in SIDES:
        count = 520
        heights = outlines.tops[side] * random.beta(2.6, 1.3, count)
        outer = outlines.read(outlines.lateral[side], heights)
        away = 2.5 + (outer - 2.5) * random.beta(2.0, 1.1, count)
        centres = np.stack([side * away + outlines.read(outlines.midline, heights), heights], -1)
        turn = (
            random.uniform(0, 2 * np.pi, count)[:, None] + np.linspace(0, 1, 9) * random.uniform(2, 6.3, count)[:, None]
        )
        radius = random.uniform(0.25, 0.65, count)[:, None]
        nodes = centres[:, None] + np.stack([radius * np.cos(turn), 0.85 * radius * np.sin(turn)], -1)
        lines = shapes.draw_ribbons(scene.frame, nodes, 0.075, 11.0, shapes.profile_sheet)
        scene.vessels += strength * lines * _cover_lung(scene, side)
        middle = outlines.read(outlines.midline, 18.0)
        low = outlines.tops[side] + 1.0
        corners += [[side * 3.0 + middle, 0.3 * low], [side * outlines.read(outlines.lateral[side], low) + middle, low]]
    return np.array(corners)


def draw_effusion(scene: Scene, random: np.random.Generator) -> np.ndarray:
    """Fluid at one lung's base, its upper border rising towards the chest wall."""
    outlines = scene.outlines
    side = 1 if random.random() < 0.55 else -1
    depth = random.uniform(1.2, 7.5) if random.random() < 0.75 else random.uniform(7.5, 12.0)
    height, top = scene.frame.grid[1], outlines.tops[side]
    outer = float(outlines.read(outlines.lateral[side], top))
    share = np.clip(scene.away[side] / np.float32(outer), 0, 1.1)
    rise = 0.30 + 0.70 * share**3.2
    level = np.float32(top + 3.2) - np.float32(depth + 1.6) * rise
    cover = 1 / (1 + np.exp(np.clip(-(height - level) / np.float32(0.28 + 0.05 * depth), -30, 30)))
    scene.lungs[side] *= 1 - np.float32(0.97) * cover
    middle = float(outlines.read(outlines.midline, top))
    upper = top + 3.2 - (depth + 1.6)
    return np.array([[side * 0.45 * outer + middle, upper - 0.3], [side * outer + middle, top + 4.6]])


def draw_pneumothorax(scene: Scene, random: np.random.Generator) -> np.ndarray:
    """Free air outside a fallen lung: a thin pleural line, nothing but black beyond it."""
    outlines, frame = scene.outlines, scene.frame
    side = 1 if random.random() < 0.5 else -1
    drop, gap = random.uniform(2.2, 4.6), random.uniform(0.10, 0.32)
    heights = np.linspace(drop, outlines.tops[side] + 3.5, 70)
    inner = outlines.read(outlines.medial, 10.0)

    def shrink(at: np.ndarray) -> np.ndarray:
        closing = np.clip((outlines.tops[side] + 4.5 - at) / 9, 0, 1)
        reach = outlines.read(outlines.lateral[side], at - drop * closing) - inner
        return inner + reach * (1 - gap * closing)

    table = np.where(drop > shapes.STATIONS, 0.0, shrink(shapes.STATIONS))
    border = scene.read_row(table)
    height = frame.grid[1]
    beyond = np.clip((scene.away[side] - border) / frame.pixel + 0.5, 0, 1)
    free = (scene.lungs[side] > 0) * beyond
    scene.vessels *= 1 - free
    scene.lungs[side] *= 1 + free * np.float32(0.23) - (1 - free) * np.float32(0.05 + 0.25 * gap) * (height > 2)
    middle = outlines.read(outlines.midline, heights)
    line = np.stack([side * shrink(heights) + middle, heights], -1)[None]
    pleura = shapes.draw_ribbons(frame, line, 0.07, 11.0, shapes.profile_sheet)
    scene.soft += gaussian_filter(pleura, 0.03 / frame.pixel) * _cover_lung(scene, side)
    outer = outlines.read(outlines.lateral[side], heights)
    shown = (outer - shrink(heights)) > 0.5
    rim = np.stack([side * outer + middle, heights], -1)[shown]
    top = np.array([[side * 2.2 + middle[0], 0.2]])
    return np.concatenate([top, rim, line[0][shown]])


def draw_hernia(scene: Scene, random: np.random.Generator) -> np.ndarray:
    """A stomach that has slid up behind the heart: a round shadow with gas and a fluid level."""
    x, y = scene.frame.grid
    radius = random.uniform(3.1, 4.6)
    base = min(scene.outlines.tops.values())
    centre = (random.uniform(0.6, 2.6), base - 0.35 * radius)
    ball = shapes.measure_ball(x, y, centre, (radius, 0.9 * radius))
    scene.soft += 5.5 * ball
    level = np.float32(centre[1] - 0.05 * radius)
    gas = shapes.measure_ball(x, y, centre, (0.84 * radius, 0.74 * radius))
    scene.free_air += 9.0 * gas * np.clip((level - y) / scene.frame.pixel + 0.5, 0, 1)
    return _enclose(np.array(centre), radius * np.array([1.0, 0.9]))


def draw_callus(scene: Scene, random: np.random.Generator) -> np.ndarray:
    """One or two neighbouring ribs with the spindle of new bone that a healed fracture leaves."""
    side = 1 if random.random() < 0.5 else -1
    first, count = int(random.integers(3, 8)), int(random.integers(1, 3))
    place = random.uniform(0.55, 0.85) * POSTERIOR
    corners = []
    for number in range(first, first + count):
        path = trace_rib(scene.anatomy, scene.outlines, number, side, 90)
        middle = int(np.clip(place + random.normal(0, 0.02), 0.2, 0.75) * 89)
        piece = path[middle - 8 : middle + 9, :2]
        bump = np.cos(np.linspace(-np.pi / 2, np.pi / 2, len(piece)))
        radius = 0.45 + random.uniform(0.45, 0.65) * bump
        callus = shapes.draw_ribbons(scene.frame, piece[None], radius[None], (0.9 * bump)[None])
        crack = shapes.draw_ribbons(scene.frame, (piece[8] + np.array([[-0.15, -0.7], [0.15, 0.7]]))[None], 0.12, 2.5)
        scene.bone += gaussian_filter(callus + crack, 0.05 / scene.frame.pixel)
        corners.append(_enclose(piece, 0.0).reshape(-1, 2))
        corners.append(_enclose(piece[8], 0.95))
    return np.concatenate(corners)


def outline_heart(scene: Scene, random: np.random.Generator) -> np.ndarray:
    """Bound the heart, which the deformed anatomy has already made large."""
    outlines = scene.outlines
    low = outlines.tops[1] + scene.anatomy.lift[1] + 0.8
    heights = np.linspace(11, low, 30)
    middle = outlines.read(outlines.midline, heights)
    left = np.stack([middle + outlines.read(outlines.left, heights), heights], -1)
    right = np.stack([middle - outlines.read(outlines.right, heights), heights], -1)
    return np.concatenate([left, right])


def outline_dome(scene: Scene, random: np.random.Generator) -> np.ndarray:
    """Bound the raised dome, which the deformed anatomy has already lifted."""
    outlines = scene.outlines
    side = -1 if scene.anatomy.lift[0] > scene.anatomy.lift[1] else 1
    top = outlines.tops[side]
    middle = float(outlines.read(outlines.midline, top))
    outer = float(outlines.read(outlines.lateral[side], top + 3))
    return np.array([[side * 1.5 + middle, top - 0.6], [side * outer + middle, top + 5.0]])
