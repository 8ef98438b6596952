"""One phantom film: the patient's body in its pose, with what is wrong with it, as the site's detector shows it."""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from scarce_cxr.errors import ScarceError
from scarce_cxr.images.phantoms import detector, devices
from scarce_cxr.images.phantoms.anatomy import make_generator, sample_anatomy, sample_pose
from scarce_cxr.images.phantoms.body import draw_body
from scarce_cxr.images.phantoms.findings import FINDINGS, PASSING, choose_findings, deform_anatomy, draw_finding
from scarce_cxr.images.phantoms.shapes import Frame


@dataclass(frozen=True)
class Box:
    """Where a finding shows: its left and top edge, width and height in pixels of the film."""

    finding: str
    left: float
    top: float
    width: float
    height: float


@dataclass(frozen=True)
class Film:
    """A phantom film.

    `pixels` is float32 of shape (size, size) in [0, 1], bones bright. `findings` are sorted names, empty when nothing
    is wrong; each has one or more `boxes`. `age` is in years, `sex` "M" or "F", `view` "PA" or "AP", `site` "A" or "B".
    `detector_size` is the site's detector's (width, height) in pixels and `detector_pixel` their width in mm.
    """

    pixels: np.ndarray
    findings: tuple[str, ...]
    boxes: tuple[Box, ...]
    age: int
    sex: str
    view: str
    site: str
    detector_size: tuple[int, int]
    detector_pixel: float


def count_films(seed: int, patient: int) -> int:
    """How many films a patient has, from 1 to 6 and 3 in the mean."""
    return int(min(make_generator(seed, patient, 0, "films").geometric(0.29), 6))


def draw_film(seed: int, patient: int, film: int, size: int, *, findings: Collection[str] | None = None) -> Film:
    """Draw one film, always the same for the same arguments.

    Args:
        seed: the collection's seed, 0 or more.
        patient: the patient's number, 0 or more.
        film: the film's number among the patient's, from 0.
        size: height and width in pixels, 32 or more.
        findings: draw these instead of what the patient has (names of `FINDINGS`); everything else stays the same.

    Raises:
        ScarceError: for a negative number, a size below 32, or an unknown finding.
    """
    for name, value, least in (("seed", seed, 0), ("patient", patient, 0), ("film", film, 0), ("size", size, 32)):
        if value < least:
            raise ScarceError(f"a {name} of {least} or more", f"{name} = {value}", f"choose a {name} from {least} up")
    unknown = sorted(set(findings or ()) - set(FINDINGS))
    if unknown:
        raise ScarceError(f"findings among {', '.join(FINDINGS)}", ", ".join(unknown), "choose names from that list")
    shown = choose_findings(seed, patient, film) if findings is None else tuple(sorted(set(findings)))
    healthy = sample_anatomy(seed, patient)
    pose = sample_pose(seed, patient, film)
    frame = Frame(size, pose.field, pose.centre, pose.angle)
    scene = draw_body(deform_anatomy(healthy, shown, seed, patient), pose, frame, seed, patient)
    boxes = []
    # Air and fluid come last: they push aside the lung with whatever is in it.
    for name in sorted(shown, key=PASSING.__contains__):
        boxes.extend(_enclose(name, frame.locate(draw_finding(scene, name, seed, patient)), size))
    lying = pose.view == "AP"
    devices.draw_devices(scene, make_generator(seed, patient, film, "devices"))
    site = detector.SITES[healthy.site]
    random = make_generator(seed, patient, film, "detector")
    pixel = frame.pixel * healthy.stature
    maps = (healthy.stature * scene.sum_soft(), healthy.stature * scene.bone, scene.metal)
    shades = detector.develop(detector.expose(*maps, pixel, site, random), pixel, site, random)
    shades = detector.mask_borders(shades, random, lying)
    shades = detector.stamp_marker(shades, site, random, lying)
    width, height, spacing = site.sizes[int(random.integers(len(site.sizes)))]
    # A finding that the film's field leaves out is not on the film, and not reported.
    kept = {box.finding for box in boxes}
    return Film(
        pixels=shades,
        findings=tuple(name for name in shown if name in kept),
        boxes=tuple(boxes),
        age=healthy.age,
        sex=healthy.sex,
        view=pose.view,
        site=healthy.site,
        detector_size=(width, height),
        detector_pixel=spacing,
    )


def _enclose(name: str, points: np.ndarray, size: int) -> list[Box]:
    """Return the box around pixel points, cut to the film, or nothing when too little of it is left."""
    low, high = points.min(axis=0) + 0.5, points.max(axis=0) + 0.5
    (left, top), (right, bottom) = np.clip(low, 0, size), np.clip(high, 0, size)
    if (right - left) * (bottom - top) < 0.3 * np.prod(high - low):
        return []
    return [Box(name, float(left), float(top), float(right - left), float(bottom - top))]
