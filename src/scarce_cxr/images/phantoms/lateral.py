"""A phantom seen from the side: coarse, for checks that must tell a lateral film from a frontal one."""

import numpy as np
from scipy.ndimage import gaussian_filter

from scarce_cxr.images.phantoms import detector, shapes
from scarce_cxr.images.phantoms.anatomy import Anatomy, make_generator, sample_anatomy, sample_pose
from scarce_cxr.images.phantoms.scene import ALVEOLAR_AIR

# Lateral films are taken at a higher voltage, to which each cm of tissue is thinner.
_PENETRATION = 0.62


def draw_lateral(seed: int, patient: int, size: int) -> np.ndarray:
    """Draws a patient's chest from the side, arms raised, facing left or right; always the same for the same arguments.

    Nothing is ever wrong with it, and it has no vessels, ribs or devices.

    Args:
        seed: the collection's seed, 0 or more.
        patient: the patient's number, 0 or more.
        size: height and width in pixels, 32 or more.

    Returns:
        (size, size) float32 in [0, 1], bones bright.
    """
    anatomy, pose = sample_anatomy(seed, patient), sample_pose(seed, patient, 0)
    random = make_generator(seed, patient, 0, "lateral")
    frame = shapes.Frame(size, pose.field * random.uniform(0.72, 1.12), pose.centre, pose.angle * 1.5)
    x, y = frame.grid
    x = x if random.random() < 0.5 else -x
    front = anatomy.depth / 2 + random.normal(2.0, 0.8)
    soft = _draw_trunk(anatomy, front, x, y) + _draw_arms(front, x, y, random)
    lung = _draw_lungs(anatomy, front, x, y, random)
    heart = shapes.measure_ball(x, y, (0.38 * front, 0.72 * anatomy.lung), (5.3 * anatomy.heart, 5.6), 0.5)
    lung = np.clip(lung - 9.0 * heart, 0, None)
    behind = np.abs(x + front - 4.6 - 0.004 * (y - 12) ** 2) / 1.8
    bone = anatomy.bone * (1.7 + 0.4 * np.sin(2 * np.pi * y / 2.2)) * np.clip(1 - behind**4, 0, None)
    breastbone = np.abs(x - front + 1.8 + 0.012 * (y - 10) ** 2) / 0.6
    bone += 0.7 * np.clip(1 - breastbone**2, 0, None) * ((y > 0) & (y < 18))
    bone = gaussian_filter(bone, 0.15 / frame.pixel)
    soft = np.clip(soft - ALVEOLAR_AIR * lung, 0, None)
    pixel, site = frame.pixel * anatomy.stature, detector.SITES[anatomy.site]
    maps = (_PENETRATION * anatomy.stature * thickness for thickness in (soft, bone, np.zeros_like(bone)))
    film = detector.develop(detector.expose(*maps, pixel, site, random), pixel, site, random)
    film = detector.mask_borders(film, random, lying=False)
    return detector.stamp_marker(film, site, random, lying=False)


def _draw_trunk(anatomy: Anatomy, front: float, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Thickness from side to side in cm: the trunk, and the neck above it."""
    across = 2 * (anatomy.chest + anatomy.wall)
    shoulders = 1 / (1 + np.exp(-(y + 4.0) / 1.5))
    half = anatomy.neck + (front - anatomy.neck) * shoulders
    wide = 2 * anatomy.neck + (across - 2 * anatomy.neck) * shoulders
    trunk = wide * np.sqrt(np.clip(1 - np.abs(x / half) ** 2.6, 0, None))
    breast = shapes.measure_ball(x, y, (front - 1.5, anatomy.breast_height), (1.5 + 0.7 * anatomy.breast, 5.0))
    return trunk + 2.0 * anatomy.breast * breast


def _draw_arms(front: float, x: np.ndarray, y: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Both upper arms, raised in front of the face."""
    elbow = (random.uniform(0.2, 1.3) * front, random.uniform(-20, -12))
    return 2 * shapes.measure_capsule(x, y, (random.normal(-1.5, 1.0), random.normal(0, 1.5)), elbow, (4.8, 4.2))


def _draw_lungs(
    anatomy: Anatomy, front: float, x: np.ndarray, y: np.ndarray, random: np.random.Generator
) -> np.ndarray:
    """Path through both lungs in cm, one behind the other: narrow at the top, deepest behind the diaphragm."""
    top = np.clip(y / (0.5 * anatomy.lung), 0, 1) ** 0.5
    ahead, behind = (front - anatomy.wall) * (0.35 + 0.6 * top), (front - 2.2) * (0.75 + 0.25 * top)
    middle, half = (ahead - behind) / 2, (ahead + behind) / 2
    chord = np.sqrt(np.clip(1 - np.abs((x - middle) / half) ** 3.5, 0, None)) * (y > 0)
    depth = 2 * (0.62 * anatomy.chest) * (0.45 + 0.55 * top) * chord
    dome = anatomy.lung * random.uniform(0.82, 0.95) + 0.028 * (x - 0.25 * front) ** 2
    return np.clip(depth * np.clip((dome - y) / 1.2 + 0.5, 0, 1), 0, None)
