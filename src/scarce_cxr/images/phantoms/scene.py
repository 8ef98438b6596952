"""What stands in the beam: the thickness maps that body, findings and devices are drawn into."""

from dataclasses import dataclass, field

import numpy as np

from scarce_cxr.images.phantoms.anatomy import Anatomy, Outlines, Pose
from scarce_cxr.images.phantoms.shapes import Frame

ALVEOLAR_AIR = 0.78
"""The share of a lung's thickness that is air."""


@dataclass
class Scene:
    """Thickness maps of a film, float32 (size, size) in cm of an adult: `soft` tissue, `bone`, `metal`, `vessels` (the
    lungs' blood, before the lungs' borders cut it off) and, by side, `lungs` (inflated lung).

    `away` is, by side, each pixel's distance from the midline, growing outwards. `free_air` is air outside the lungs.
    """

    frame: Frame
    anatomy: Anatomy
    pose: Pose
    outlines: Outlines
    soft: np.ndarray
    bone: np.ndarray
    metal: np.ndarray
    free_air: np.ndarray
    vessels: np.ndarray
    away: dict[int, np.ndarray]
    lungs: dict[int, np.ndarray] = field(default_factory=dict)

    def read_row(self, table: np.ndarray) -> np.ndarray:
        """Read a table by height at every pixel."""
        return table.astype(np.float32).take(self.frame.down)

    def sum_soft(self) -> np.ndarray:
        """Sum up water-like tissue in cm: the body less the air in the lungs and elsewhere, plus the lungs' blood."""
        lung = self.lungs[-1] + self.lungs[1]
        total = self.soft - self.free_air - ALVEOLAR_AIR * lung + self.vessels * np.clip(lung / 5, 0, 1)
        return np.clip(total, 0, None)
