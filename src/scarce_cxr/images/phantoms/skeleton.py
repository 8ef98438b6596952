"""The skeleton: spine, ribs, and the girdle of clavicles, shoulder blades and upper arms."""

import numpy as np
from scipy.ndimage import gaussian_filter

from scarce_cxr.images.phantoms import shapes
from scarce_cxr.images.phantoms.anatomy import SIDES, Anatomy, Outlines, place_arm
from scarce_cxr.images.phantoms.scene import Scene

POSTERIOR = 0.56
"""The share of a rib's course at which it turns round the side of the chest."""


def draw_skeleton(scene: Scene) -> None:
    """Draw the bones into the scene."""
    _draw_spine(scene, scene.away[1], scene.frame.grid[1])
    _draw_ribs(scene)
    bones = sum(_draw_girdle(scene, side) for side in SIDES)
    scene.bone += scene.anatomy.bone * gaussian_filter(bones, 0.04 / scene.frame.pixel)


def _draw_spine(scene: Scene, middle: np.ndarray, y: np.ndarray) -> None:
    anatomy = scene.anatomy
    pitch = 1.75 + 0.030 * (y + 8)
    phase = np.log(pitch) / np.float32(0.030) + np.float32(anatomy.curve)
    phase -= np.floor(phase)
    width = 1.45 + 0.022 * (y + 8)
    centred = np.abs(2 * phase - 1)
    side = np.abs(middle) / width
    vertebra = np.clip(1 - side**6, 0, 1) * np.clip(5 * (0.96 - centred), 0, 1)
    ends = 0.8 * np.clip(1 - np.abs(centred - 0.82) * 8, 0, 1) + 0.5 * np.clip(1 - np.abs(side - 0.9) * 9, 0, 1)
    body = vertebra * (1.0 + 0.5 * ends)
    pedicle = np.clip(1 - ((side - 0.62) / 0.2) ** 2 - ((phase - 0.36) / 0.2) ** 2, 0, 1)
    process = np.clip(1 - (middle / 0.42) ** 2 - ((phase - 0.8) / 0.3) ** 2, 0, 1)
    transverse = np.clip(1 - ((phase - 0.38) / 0.22) ** 2, 0, 1) * np.clip((1.75 - side) * 2, 0, 1)
    posterior = 0.5 * pedicle + 0.6 * process + 0.35 * transverse
    scene.bone += (0.75 * body + posterior).astype(np.float32) * np.float32(anatomy.bone * 0.62)


def trace_rib(anatomy: Anatomy, outlines: Outlines, number: int, side: int, nodes: int = 44) -> np.ndarray:
    """Trace a rib (1 to 12) from the spine round to its front end; nodes (nodes, 3) in cm, the third is depth."""
    head = anatomy.rib_start + anatomy.rib_pitch * (number - 1) * (1 + 0.008 * number)
    drop = anatomy.rib_drop * np.interp(number, [1, 2, 4, 7, 10, 12], [3.0, 5.4, 8.0, 10.0, 10.6, 9.5])
    end = np.interp(number, [1, 3, 6, 8, 10, 12], [2.6, 2.68, 2.55, 2.3, 1.9, 1.5])
    turn = np.linspace(0.0, end, nodes)
    heights = head + drop * (0.28 * (1 - np.cos(turn)) + 0.16 * turn) - 0.35 * np.sin(np.clip(turn * 2.6, 0, np.pi))
    reach = outlines.read(outlines.lateral[side], head + 0.5 * drop + 0.3) + 0.25
    away = 1.8 + (reach - 1.8) * np.sin(turn) ** 0.86 if number > 1 else 1.8 + (reach - 1.8) * np.sin(turn)
    depth = 0.42 * anatomy.depth * np.cos(turn)
    return np.stack([side * away + outlines.read(outlines.midline, heights), heights, depth], -1)


def _draw_ribs(scene: Scene) -> None:
    anatomy, outlines = scene.anatomy, scene.outlines
    paths = np.stack([trace_rib(anatomy, outlines, number, side) for number in range(1, 13) for side in SIDES])
    share = np.linspace(0, 1, paths.shape[1])
    radius = 0.62 + 0.10 * np.sin(np.pi * share) + 0.14 * np.clip((share - 0.7) / 0.3, 0, 1)
    weight = np.interp(share, [0, 0.08, POSTERIOR, 0.75, 0.96, 1], [0.6, 1.0, 0.9, 0.72, 0.62, 0.0])
    ribs = shapes.draw_ribbons(scene.frame, paths, radius[None], weight[None], shapes.profile_bone)
    scene.bone += 0.68 * anatomy.bone * ribs


def _draw_girdle(scene: Scene, side: int) -> np.ndarray:
    """Draw one side's clavicle, shoulder blade and upper arm; returns their thickness in cm."""
    pose, frame = scene.pose, scene.frame
    lift = 0.7 * pose.raised
    joint, elbow = place_arm(scene.anatomy, scene.outlines, pose, side)
    # In bed the arms lie beside the body, and the shoulder blades stay over the lungs.
    inner = 0.0 if pose.view == "PA" else -1.6
    neck = np.array([joint[0] - 2.0 * side, joint[1] + 0.4])
    tip = np.array([side * (12.2 + inner), 14.2 - lift])
    top = np.array([side * (9.6 + inner), 2.0 - lift])
    heights = np.array([4.6, 3.9, 2.6, 1.4, 0.6]) - lift * np.array([1.0, 1.1, 1.3, 1.4, 1.2])
    clavicle = np.stack([side * (1.6 + (abs(joint[0]) - 1.2) * np.linspace(0, 1, 5)), heights], -1)
    clavicle[:2, 0] += 6 * pose.turn
    head = joint + np.array([0.5 * side, 0.0])
    arm = np.stack([head + np.array([0.2 * side, 0.2]), (head + elbow) / 2, elbow])
    share = np.linspace(0, 1, 24)
    bones = (
        (clavicle, np.interp(share, [0, 0.15, 0.5, 0.85, 1], [0.95, 0.75, 0.60, 0.70, 0.60]), _fade(share, 0.04, 0.8)),
        (arm, np.interp(share, [0, 0.06, 0.15, 1], [1.8, 1.3, 0.95, 0.9]), np.interp(share, [0, 0.09], [0, 0.75])),
        (np.stack([neck, (neck + tip) / 2 + np.array([0.5 * side, 0]), tip]), 0.38, _fade(share, 0.1, 0.9)),
        (np.stack([top, (top + tip) / 2 - np.array([0.5 * side, 0]), tip]), 0.22, _fade(share, 0.1, 0.7)),
        (_lay_spine(top, joint, side), np.interp(share, [0, 0.7, 1], [0.4, 0.55, 0.7]), _fade(share, 0.06, 0.6)),
        (neck + np.array([[0, 0.3], [-0.8 * side, -1.6], [0.9 * side, -1.9]]), 0.5, _fade(share, 0.15, 0.6)),
    )
    pieces = [
        shapes.sample_ribbons(frame, shapes.bend(nodes), radius, weight, shapes.profile_bone)
        for nodes, radius, weight in bones
    ]
    blade = shapes.bend(np.stack([(neck + top) / 2, (neck + top + tip) / 3, tip]))
    pieces.append(shapes.sample_ribbons(frame, blade, np.interp(share, [0, 1], [2.6, 0.4]), 0.06, shapes.profile_sheet))
    ball = shapes.measure_ball(*frame.grid, tuple(head), (2.25, 2.3))
    return 1.1 * ball + shapes.splat(frame.size, *map(np.concatenate, zip(*pieces, strict=True)))


def _lay_spine(top: np.ndarray, joint: np.ndarray, side: int) -> np.ndarray:
    """Lay the shoulder blade's spine from its inner border out to the acromion."""
    return np.stack(
        [top + np.array([0, 1.8]), (top + joint) / 2 - np.array([0, 0.3]), joint + np.array([0.5 * side, -2.5])]
    )


def _fade(share: np.ndarray, margin: float, weight: float) -> np.ndarray:
    """Return weights along a bone that fade out at both its ends."""
    return weight * np.interp(share, [0, margin, 1 - margin, 1], [0.0, 1.0, 1.0, 0.0])
