"""The healthy body's soft parts: its silhouette, lungs, vessels, airways and belly, and the skeleton within it."""

import numpy as np

from scarce_cxr.images.phantoms import shapes
from scarce_cxr.images.phantoms.anatomy import SIDES, Anatomy, Pose, grow_vessels, outline, place_arm
from scarce_cxr.images.phantoms.scene import Scene
from scarce_cxr.images.phantoms.shapes import Frame
from scarce_cxr.images.phantoms.skeleton import draw_skeleton


def draw_body(anatomy: Anatomy, pose: Pose, frame: Frame, seed: int, patient: int) -> Scene:
    """Draw the healthy body; findings are drawn into the scene that this returns."""
    outlines = outline(anatomy, pose)
    x, y = frame.grid
    middle = x - outlines.midline.astype(np.float32).take(frame.down)
    empty = (np.zeros_like(x) for _ in range(5))
    scene = Scene(frame, anatomy, pose, outlines, *empty, away={-1: -middle, 1: middle})
    _draw_silhouette(scene, x, y)
    _draw_lungs(scene)
    _draw_vessels(scene, seed, patient)
    _draw_airways(scene)
    _draw_abdomen(scene, x, y)
    draw_skeleton(scene)
    return scene


def _draw_silhouette(scene: Scene, x: np.ndarray, y: np.ndarray) -> None:
    anatomy, outlines, pose = scene.anatomy, scene.outlines, scene.pose
    share = np.abs(x) / scene.read_row(outlines.trunk)
    trunk = scene.read_row(outlines.trunk_depth) * np.sqrt(np.clip(1 - share**2.6, 0, None))
    power = trunk**3
    thick = 4.8 + 0.5 * anatomy.habitus
    for side in SIDES:
        joint, elbow = place_arm(anatomy, outlines, pose, side)
        power += shapes.measure_capsule(x, y, tuple(joint), tuple(elbow), (thick + 0.5, thick)) ** 3
        if anatomy.breast > 0:
            radius = 5.6 + 0.35 * anatomy.breast
            low = anatomy.breast_height + (0 if pose.view == "PA" else 1.5)
            below = np.where(y < low, (y - low) * np.float32(0.55), y - low)
            scene.soft += anatomy.breast * shapes.measure_ball(
                side * x, below, (7.9 + 0.3 * anatomy.breast, 0), (radius + 0.6, radius - 0.8)
            )
    chin = shapes.measure_ball(x, y, (0.2, -17.5 - 1.5 * pose.raised * 0.5 + pose.breath * 0.3), (6.2, 7.0))
    power += (15 * chin) ** 3
    scene.soft += np.cbrt(power)


def _draw_lungs(scene: Scene) -> None:
    outlines = scene.outlines
    medial = scene.read_row(outlines.medial)
    depth = scene.read_row(outlines.lung_depth)
    right, left = scene.read_row(outlines.right), scene.read_row(outlines.left)
    across = (2 * scene.away[1] - left + right) / (left + right)
    heights = scene.frame.grid[1]
    core = 0.42 + 0.20 / (1 + np.exp(-(heights - 13.0)))
    mediastinum = depth * core * np.sqrt(np.clip(1 - np.abs(across) ** 2.4, 0, None)) * 1.15
    for side in SIDES:
        away = scene.away[side]
        lateral = scene.read_row(outlines.lateral[side])
        half = np.maximum(lateral - medial, 0.05) / 2
        chord = np.clip(1 - np.abs((away - medial - half) / half) ** 4, 0, None)
        lung = depth * np.sqrt(chord) * (heights > 0)
        dome = outlines.domes[side].astype(np.float32).take(shapes.index_stations(away))
        lung -= 2.7 * np.sqrt(np.clip(14 * (heights - dome), 0, None))
        lung -= mediastinum
        scene.lungs[side] = np.clip(lung, 0, None)


def _draw_vessels(scene: Scene, seed: int, patient: int) -> None:
    frame, outlines = scene.frame, scene.outlines
    pieces = []
    for side in SIDES:
        stretch = np.array([scene.anatomy.chest / 13.0, (outlines.tops[side] + 1.2) / 24.7])
        for nodes, radii in grow_vessels(seed, patient, side):
            points = nodes * stretch
            midline = outlines.read(outlines.midline, points[..., 1])
            points = np.stack([side * points[..., 0] + midline, points[..., 1]], axis=-1)
            pieces.append(shapes.sample_ribbons(frame, points, radii, 1.35))
        hilum = np.array([3.3, 11.2 if side < 0 else 10.2]) * stretch
        blur = shapes.measure_ball(scene.away[side], frame.grid[1], tuple(hilum), (1.9, 3.0), 0.2)
        scene.vessels += 2.0 * blur**3
    scene.vessels += shapes.splat(frame.size, *map(np.concatenate, zip(*pieces, strict=True)))


def _draw_airways(scene: Scene) -> None:
    outlines, frame = scene.outlines, scene.frame
    carina = 8.2
    heights = np.linspace(-12, carina, 24)
    trachea = np.stack([outlines.read(outlines.midline, heights) - 0.3, heights], -1)[None]
    air = shapes.draw_ribbons(frame, trachea, 0.95, 1.25)
    for side, drop in ((-1, 2.6), (1, 3.4)):
        branch = shapes.bend(
            np.array([[-0.3, carina - 0.3], [side * 1.6, carina + 0.5 * drop], [side * 3.6, carina + drop]])
        )
        air += shapes.draw_ribbons(frame, branch, np.linspace(0.75, 0.5, 24)[None], 0.9)
    scene.free_air += air


def _draw_abdomen(scene: Scene, x: np.ndarray, y: np.ndarray) -> None:
    outlines, stomach = scene.outlines, scene.anatomy.stomach
    if stomach > 0.3:
        top = outlines.tops[1] + 1.0
        size = 1.4 + 2.2 * (stomach - 0.3)
        bubble = shapes.measure_ball(x, y, (6.6, top + 0.8 * size), (1.5 * size, size), 0.25)
        scene.free_air += 6.0 * stomach * bubble**1.3
    for across, down, size in scene.anatomy.bowel:
        centre = (10.5 - 13 * across**1.5, outlines.tops[1] + 5.0 + 9 * down)
        pocket = shapes.measure_ball(x, y, centre, (1.3 + 1.3 * size, 0.9 + 0.6 * size), 6 * size)
        scene.free_air += (2.0 + 2.5 * size) * pocket**1.6
