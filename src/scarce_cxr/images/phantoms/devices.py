"""Lines, tubes and leads that lie on or in patients who are filmed in bed."""

import numpy as np

from scarce_cxr.images.phantoms import shapes
from scarce_cxr.images.phantoms.scene import Scene


def draw_devices(scene: Scene, random: np.random.Generator) -> None:
    """Draw what the patient wears into the scene's metal map: on lying films leads and often lines and tubes."""
    lying = scene.pose.view == "AP"
    draws = random.random(4)
    if lying and draws[0] < 0.65:
        _draw_leads(scene, random)
    if draws[1] < (0.45 if lying else 0.06):
        _draw_central_line(scene, random)
    if lying and draws[2] < 0.28:
        _draw_tube(scene, random)
    if lying and draws[3] < 0.25:
        _draw_feeding_tube(scene, random)


def _draw_leads(scene: Scene, random: np.random.Generator) -> None:
    x, y = scene.frame.grid
    places = [(-9.5, 4.0), (9.0, 4.5), (-10.0, 22.0), (10.5, 21.0)]
    for place in places[: int(random.integers(2, 5))]:
        spot = np.array(place) + random.normal(0, 1.4, 2)
        disc = shapes.measure_ball(x, y, tuple(spot), (0.75, 0.75))
        hole = shapes.measure_ball(x, y, tuple(spot), (0.35, 0.35))
        scene.metal += 0.05 * np.clip(3 * disc, 0, 1) * np.clip(1 - 2 * hole, 0, 1)
        end = np.array([spot[0] * random.uniform(0.6, 1.7), 34.0 if random.random() < 0.6 else -12.0])
        bow = (spot + end) / 2 + random.normal(0, 2.6, 2)
        wire = shapes.bend(np.stack([spot, (spot + bow) / 2 + random.normal(0, 0.8, 2), bow, end]), 40)
        scene.metal += shapes.draw_ribbons(scene.frame, wire, 0.06, 0.55)


def _draw_central_line(scene: Scene, random: np.random.Generator) -> None:
    side = -1 if random.random() < 0.75 else 1
    tip = np.array([-2.0, random.uniform(10.5, 14.5)])
    start = np.array([side * random.uniform(8, 11), random.uniform(6, 10)])
    nodes = [start, [side * 7.5, 3.6], [side * 3.2, 3.4], [-1.9 if side < 0 else -0.9, 5.8], tip]
    line = shapes.bend(np.array([np.asarray(node, dtype=float) for node in nodes]), 40)
    scene.metal += shapes.draw_ribbons(scene.frame, line, 0.10, 0.30, shapes.profile_sheet)


def _draw_tube(scene: Scene, random: np.random.Generator) -> None:
    outlines = scene.outlines
    heights = np.linspace(-16, random.uniform(2.5, 6.0), 24)
    tube = np.stack([outlines.read(outlines.midline, heights) - 0.3, heights], -1)[None]
    scene.metal += shapes.draw_ribbons(scene.frame, tube, 0.5, 0.022, shapes.profile_tube)
    scene.metal += shapes.draw_ribbons(scene.frame, tube + np.array([0.3, 0]), 0.06, 0.5)


def _draw_feeding_tube(scene: Scene, random: np.random.Generator) -> None:
    base = scene.outlines.tops[1]
    nodes = np.array([[0.4, -16], [0.5, -2], [0.3, 9], [0.8, base - 1], [3.0, base + 3], [6.5, base + 4.5]])
    nodes[1:-1, 0] += random.normal(0, 0.25, 4)
    scene.metal += shapes.draw_ribbons(scene.frame, shapes.bend(nodes, 60), 0.13, 0.22, shapes.profile_tube)
