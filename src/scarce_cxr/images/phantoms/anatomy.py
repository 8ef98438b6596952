"""Who is on the film, and how they stood: a patient's anatomy, a film's pose, and the outlines that follow from both.

Lengths are centimetres of the body (see `shapes`); sides are -1 for the image's left (the patient's right) and +1.
"""

import zlib
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.interpolate import PchipInterpolator

from scarce_cxr.images.phantoms.shapes import STATIONS

SIDES = (-1, 1)


def make_generator(seed: int, patient: int, film: int, purpose: str) -> np.random.Generator:
    """Make the random generator of one purpose, independent of every other purpose, film and patient."""
    return np.random.default_rng([seed, patient, film, zlib.crc32(purpose.encode())])


@dataclass(frozen=True)
class Anatomy:
    """What a patient keeps from film to film. Lengths in cm; `stature` scales the whole body (1 for an adult).

    `bowel` are gas pockets: place across, place down and size, in [0, 1] each. `lift` raises the diaphragm's sides.
    """

    sex: str
    age: int
    site: str
    sickness: float
    stature: float
    habitus: float
    chest: float
    lung: float
    depth: float
    wall: float
    dome_gap: float
    heart: float
    right_heart: float
    knob: float
    bone: float
    breast: float
    breast_height: float
    arms: float
    shoulder: float
    neck: float
    curve: float
    rib_start: float
    rib_pitch: float
    rib_drop: float
    stomach: float
    bowel: tuple[tuple[float, float, float], ...]
    lift: tuple[float, float] = (0.0, 0.0)

    def fit_heart(self, ratio: float) -> float:
        """Return the `heart` that makes the heart as wide as `ratio` of the chest, upright and at rest."""
        return ratio * 2 * self.chest / (7.1 + 3.6 * self.right_heart)


@dataclass(frozen=True)
class Pose:
    """How one film was taken: view, breath, turn (radians about the body's length), and the film's place and field."""

    view: str
    breath: float
    turn: float
    field: float
    centre: tuple[float, float]
    angle: float
    arms: float
    raised: float


@lru_cache(maxsize=8)
def sample_anatomy(seed: int, patient: int) -> Anatomy:
    """Draw the patient's anatomy."""
    random = make_generator(seed, patient, 0, "anatomy")
    sex = "M" if random.random() < 0.56 else "F"
    child = random.random() < 0.03
    age = int(random.integers(2, 16)) if child else int(np.clip(random.normal(49, 17), 17, 92))
    growth = 0.52 + 0.03 * min(age, 16) if child else 1.0
    female = sex == "F"
    old = max(age - 45, 0) / 45
    habitus = float(np.clip(random.normal(0.1, 0.9), -1.5, 2.4)) * (0.4 if child else 1.0)
    return Anatomy(
        sex=sex,
        age=age,
        site="A" if random.random() < 0.6 else "B",
        sickness=float(random.random()),
        stature=growth * (0.95 if female else 1.0),
        habitus=habitus,
        chest=float(random.normal(12.7, 1.0)),
        lung=float(random.normal(22.6, 2.1) - 1.0 * max(habitus, 0)),
        depth=float(21.0 + 2.2 * habitus + random.normal(0, 1.0)),
        wall=float(2.7 + 0.8 * habitus + random.normal(0, 0.3)),
        dome_gap=float(random.normal(1.3, 0.8)),
        heart=float(random.normal(1.0, 0.08) + 0.04 * habitus + 0.05 * old),
        right_heart=float(random.normal(1.0, 0.10)),
        knob=float(np.clip(random.normal(0.5, 0.3) + 1.0 * old, 0, 1.8)),
        bone=float(np.clip(random.normal(1.0, 0.12) - 0.25 * old, 0.55, 1.3) * (0.8 if child else 1)),
        breast=float(np.clip(random.normal(2.6, 1.3) + 0.8 * habitus, 0, 6)) if female and age > 14 else 0.0,
        breast_height=float(random.normal(18.0, 1.6)),
        arms=float(random.normal(0, 1)),
        shoulder=float(random.normal(0.3, 1.0)),
        neck=float(random.normal(6.0, 0.5) + 0.3 * habitus),
        curve=float(random.normal(0, 0.7)),
        rib_start=float(random.normal(0.7, 0.5)),
        rib_pitch=float(random.normal(2.35, 0.13)),
        rib_drop=float(random.normal(1.0, 0.14)),
        stomach=float(random.random()),
        bowel=tuple(map(tuple, random.random((int(random.integers(0, 7)), 3)).tolist())),
    )


def sample_pose(seed: int, patient: int, film: int) -> Pose:
    """Draw how the film was taken; sicker patients are filmed lying (AP) more often.

    Half of a pose's variance is the patient's own, who is filmed in the same way again and again.
    """
    anatomy = sample_anatomy(seed, patient)
    random = make_generator(seed, patient, film, "pose")
    habits = make_generator(seed, patient, 0, "habits").standard_normal(8)
    leanings = np.sqrt(0.5) * (habits + random.standard_normal(8))
    lying = random.random() < 0.08 + 0.6 * anatomy.sickness**1.5
    spread = 1.6 if lying else 1.0
    field = np.clip(37.5 + 3.8 * leanings[0], 29.5, 48) * (0.35 / anatomy.stature + 0.65)
    breath = -2.4 + 1.2 * leanings[1] if lying else 0.8 * leanings[1]
    return Pose(
        view="AP" if lying else "PA",
        breath=float(np.clip(breath, -5.0, 1.8)),
        turn=float(0.05 * spread * leanings[2]),
        field=float(field),
        centre=(float(1.7 * spread * leanings[3]), float(12.6 + 2.1 * spread * leanings[4])),
        angle=float(0.042 * spread * leanings[5]),
        arms=float(1 / (1 + np.exp(-1.7 * leanings[6]))),
        raised=float((1.2 if lying else 0.0) + 0.8 * leanings[7]),
    )


@dataclass(frozen=True)
class Outlines:
    """Borders tabulated at `STATIONS`: by height y unless named a dome, which are by x; all in cm of an adult.

    `lateral` and `medial` are the lungs' borders by side, as distances from `midline`; `left` and `right` the
    mediastinum's; `domes` the diaphragm's height by side, over the same distance from the midline; `tops` their tops.
    """

    midline: np.ndarray
    lateral: dict[int, np.ndarray]
    medial: np.ndarray
    left: np.ndarray
    right: np.ndarray
    trunk: np.ndarray
    trunk_depth: np.ndarray
    lung_depth: np.ndarray
    domes: dict[int, np.ndarray]
    tops: dict[int, float]

    def read(self, table: np.ndarray, position: float | np.ndarray) -> np.ndarray:
        """Read a table at positions in cm."""
        return np.interp(position, STATIONS, table)


def tabulate(nodes: list[tuple[float, float]]) -> np.ndarray:
    """Tabulate at `STATIONS` a smooth curve through (position, value) nodes, held level beyond the last ones."""
    positions, values = np.array(sorted(nodes)).T
    return PchipInterpolator(positions, values)(np.clip(STATIONS, positions[0], positions[-1]))


def outline(anatomy: Anatomy, pose: Pose) -> Outlines:
    """Compute the outlines of a patient in a pose."""
    chest, lung = anatomy.chest, anatomy.lung
    lying = pose.view == "AP"
    height = lung + pose.breath
    stretch = height / 23.5
    tops = {-1: height - anatomy.dome_gap / 2, 1: height + anatomy.dome_gap / 2}
    tops = {side: tops[side] - anatomy.lift[0 if side < 0 else 1] for side in SIDES}
    shift = 1.8 * pose.turn / 0.1
    share = [(0, 0.20), (0.2, 0.28), (0.8, 0.37), (2, 0.475), (4, 0.60), (7, 0.75), (10, 0.85), (14, 0.94), (19, 0.995)]
    share += [(24, 1.0), (32, 0.97)]
    lateral = {
        side: tabulate([(y * stretch**0.5, chest * value * (1 - side * 0.25 * pose.turn)) for y, value in share])
        for side in SIDES
    }
    medial = tabulate([(0, 2.5), (0.4, 2.0), (3, 1.2), (8, 0.8), (14, 0.8), (26, 0.8)])
    knob = anatomy.knob
    heart = anatomy.heart * (1.05 if lying else 1.0) * (1 - 0.012 * pose.breath)
    left = [(-8, 1.6), (0, 1.9), (4, 2.5), (5.6, 2.9 + 0.3 * knob), (7.2, 3.1 + 0.8 * knob), (8.8, 2.9 + 0.3 * knob)]
    left += [(10.2, 3.1), (11.6, 3.5 * heart), (13.2, 3.8 * heart), (15.5, 4.9 * heart), (18, 6.1 * heart)]
    left += [(20.5, 6.9 * heart), (22.6, 7.1 * heart), (24.2, 6.5 * heart), (27, 5), (30, 3)]
    right = [(-8, 1.6), (0, 1.9), (4, 2.3), (9, 2.6), (11.5, 2.7), (13.5, 2.9), (16.5, 3.4), (19.5, 3.6), (22.5, 3.2)]
    right = [(y, value * (anatomy.right_heart * heart if y > 12 else 1.0)) for y, value in right] + [(30, 2.6)]
    trunk = chest + anatomy.wall
    shoulder = trunk + 1.6 + anatomy.shoulder
    neck = anatomy.neck
    rise = 0.7 * pose.raised
    trunk_nodes = [(-18, neck + 0.9), (-12, neck - 0.3), (-8.5, neck), (-6 - rise, neck + 1.3)]
    trunk_nodes += [(-4 - rise, neck + 4.2), (-2.6 - rise, shoulder - 3.6), (-0.8 - rise, shoulder - 0.8)]
    trunk_nodes += [(1.6, shoulder), (5.5, shoulder - 0.3), (9.5, trunk + 1.2), (14, trunk + 0.3), (22, trunk - 0.3)]
    trunk_nodes += [(30, trunk + 0.2 + 0.6 * anatomy.habitus), (40, trunk + 0.5 + anatomy.habitus)]
    depth = anatomy.depth
    thick = [
        (-18, 13),
        (-8, 11),
        (-4, 11),
        (0, 0.64 * depth),
        (5, 0.82 * depth),
        (12, 0.95 * depth),
        (22, depth * 1.06),
    ]
    thick += [(32, depth * (1.12 + 0.05 * anatomy.habitus))]
    lung_depth = min(depth - 6.5, 16.5)
    base = tops[1] + anatomy.lift[1]

    def sink(y: float) -> float:
        # The heart rests on the diaphragm and goes down with it.
        return y if y < 10 else 10 + (y - 10) * (base - 10) / 12.6

    domes = {side: tabulate_dome(tops[side], chest, 0.5 * side) for side in SIDES}
    return Outlines(
        midline=tabulate([(-20, shift * 0.2), (0, shift * 0.2), (12, anatomy.curve + shift * 0.2), (30, 0)]),
        lateral=lateral,
        medial=medial,
        left=tabulate([(sink(y), value + 0.5 * shift * (y > 10)) for y, value in left]),
        right=tabulate([(sink(y), value - 0.5 * shift * (y > 10)) for y, value in right]),
        trunk=tabulate(trunk_nodes),
        trunk_depth=tabulate(thick),
        lung_depth=tabulate(
            [
                (0, 0.35 * lung_depth),
                (3, 0.6 * lung_depth),
                (8, 0.85 * lung_depth),
                (15, lung_depth),
                (27, 0.92 * lung_depth),
            ]
        ),
        domes=domes,
        tops=tops,
    )


def tabulate_dome(top: float, chest: float, lean: float) -> np.ndarray:
    """Tabulate a diaphragm dome's height by distance from the midline: steep to the wall, gentle to the heart."""
    offset = (STATIONS - (0.47 * chest + lean)) / (0.53 * chest)
    outer = 5.4 * np.clip(offset, 0, 1.6) ** 2.6
    inner = 2.2 * np.clip(-offset, 0, 1.6) ** 2.0
    return top + outer + inner


def place_arm(anatomy: Anatomy, outlines: Outlines, pose: Pose, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Return where one side's shoulder joint and elbow lie, body points (2,) in cm; the elbow is beyond the film."""
    shoulder = float(outlines.read(outlines.trunk, 1.6))
    swing = 0.3 + 6.8 * pose.arms + 1.2 * anatomy.arms
    joint = np.array([side * (shoulder - 3.6), 3.0 - 0.7 * pose.raised])
    return joint, np.array([side * (shoulder - 0.6 + swing), 46.0])


@lru_cache(maxsize=8)
def grow_vessels(seed: int, patient: int, side: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Grow one lung's vessels from its hilum: per generation, nodes (R, 5, 2) as (distance from midline, y), radii.

    The lung is an adult's of standard height 23.5 cm and half-width 13 cm; radii (R, 5) in cm.
    """
    random = make_generator(seed, patient, 0, f"vessels {side}")
    hilum = np.array([3.4, 11.4 if side < 0 else 10.2])
    count = 13
    headings = np.linspace(-1.4, 1.55, count) + random.normal(0, 0.16, count)
    starts = hilum + np.stack([0.3 * np.cos(headings), 1.9 * np.sin(headings)], -1) + random.normal(0, 0.5, (count, 2))
    reach = 4.2 + 2.2 * np.abs(np.sin(headings))
    lengths = reach * random.uniform(0.6, 1.05, count)
    radii = np.full(count, 0.37) * random.uniform(0.6, 1.3, count)
    generations = []
    for _ in range(7):
        bends = random.normal(0, 0.42, len(headings))
        share = np.linspace(0, 1, 5)
        turned = headings[:, None] + bends[:, None] * share
        steps = np.stack([np.cos(turned), np.sin(turned)], -1) * (lengths[:, None, None] / 4)
        nodes = starts[:, None] + np.concatenate(
            [np.zeros((len(steps), 1, 2)), np.cumsum(steps[:, 1:], axis=1)], axis=1
        )
        generations.append((nodes, radii[:, None] * (1 - 0.20 * share)))
        ends, ahead = nodes[:, -1], turned[:, -1]
        fork = np.stack([random.uniform(0.12, 0.45, len(ahead)), -random.uniform(0.25, 0.75, len(ahead))], -1)
        fork *= random.choice([-1.0, 1.0], (len(ahead), 1))
        headings = (ahead[:, None] + fork).ravel()
        starts = np.repeat(ends, 2, axis=0)
        radii = np.repeat(radii, 2) * np.tile([0.82, 0.66], len(ahead)) * random.uniform(0.85, 1.1, len(starts))
        lengths = np.repeat(lengths, 2) * random.uniform(0.5, 0.85, len(starts))
    return generations
