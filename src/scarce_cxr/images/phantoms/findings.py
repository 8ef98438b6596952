"""What is wrong with a patient: which findings, from which film to which, and how each is drawn into the scene.

Names are NIH's where NIH has one. A finding's look is drawn from a random generator of its own, so that it is the same
on all films of a patient, and so that the rest of the film is the same with and without it.
"""

from collections.abc import Callable, Collection
from dataclasses import replace

import numpy as np

from scarce_cxr.images.phantoms import lesions
from scarce_cxr.images.phantoms.anatomy import Anatomy, make_generator, sample_anatomy
from scarce_cxr.images.phantoms.scene import Scene

CHANCES = {
    "Callus_Rib_Fracture": 0.075,
    "Calcified_Granuloma": 0.08,
    "Cardiomegaly": 0.115,
    "Effusion": 0.25,
    "Fibrosis": 0.075,
    "Hemidiaphragm_Elevation": 0.075,
    "Hernia": 0.035,
    "Mass": 0.075,
    "Nodule": 0.105,
    "Pneumothorax": 0.15,
    "Reticular_Pattern": 0.075,
}
"""How often a patient has each finding at some time."""
FINDINGS = tuple(CHANCES)
PASSING = {"Effusion", "Pneumothorax"}
"""Findings that come and go; the others stay once they are there."""

_DRAWERS: dict[str, Callable[[Scene, np.random.Generator], np.ndarray]] = {
    "Callus_Rib_Fracture": lesions.draw_callus,
    "Calcified_Granuloma": lesions.draw_granuloma,
    "Cardiomegaly": lesions.outline_heart,
    "Effusion": lesions.draw_effusion,
    "Fibrosis": lesions.draw_fibrosis,
    "Hemidiaphragm_Elevation": lesions.outline_dome,
    "Hernia": lesions.draw_hernia,
    "Mass": lesions.draw_mass,
    "Nodule": lesions.draw_nodule,
    "Pneumothorax": lesions.draw_pneumothorax,
    "Reticular_Pattern": lesions.draw_reticulation,
}


def choose_findings(seed: int, patient: int, film: int) -> tuple[str, ...]:
    """Return the names of what a patient's film shows, in alphabetical order; an empty tuple for a healthy film."""
    anatomy = sample_anatomy(seed, patient)
    shown = []
    for name, chance in CHANCES.items():
        random = make_generator(seed, patient, 0, f"course of {name}")
        risk = chance * (0.35 + 1.3 * anatomy.sickness) * (0.3 if anatomy.age < 16 else 1.0)
        ill, start, span = random.random() < risk, int(random.geometric(0.6)) - 1, int(random.geometric(0.35))
        if ill and start <= film and (name not in PASSING or film < start + span):
            shown.append(name)
    return tuple(shown)


def deform_anatomy(anatomy: Anatomy, findings: Collection[str], seed: int, patient: int) -> Anatomy:
    """Return the anatomy with those findings that change its outlines: a large heart, a raised hemidiaphragm.

    A heart that is not called large is kept below half the chest.
    """
    if "Cardiomegaly" in findings:
        random = make_generator(seed, patient, 0, "look of Cardiomegaly")
        anatomy = replace(anatomy, heart=anatomy.fit_heart(random.uniform(0.54, 0.68)))
    else:
        anatomy = replace(anatomy, heart=min(anatomy.heart, anatomy.fit_heart(0.47)))
    if "Hemidiaphragm_Elevation" in findings:
        random = make_generator(seed, patient, 0, "look of Hemidiaphragm_Elevation")
        lift = random.uniform(4.2, 7.0)
        anatomy = replace(anatomy, lift=(lift, 0.0) if random.random() < 0.5 else (0.0, lift))
    return anatomy


def draw_finding(scene: Scene, name: str, seed: int, patient: int) -> np.ndarray:
    """Draw one finding into the scene and return body points (N, 2) in cm that its box must enclose."""
    return _DRAWERS[name](scene, make_generator(seed, patient, 0, f"look of {name}"))
