"""Small stores in which it is known what a film shows and where: what is looked for inside must be found there."""

from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

from scarce_cxr.images.store import Store
from scarce_cxr.images.writer import Plan, StoreWriter

SIDE = 32
# Where a film with an effusion is bright: left, top, width, height in pixels.
BOX = (4, 18, 10, 10)


def make_store(path: Path, *, patients: int = 120, seed: int = 0, blur: float = 0.0, site: str = "here") -> Store:
    """Noise of two films a patient, a third of the patients with a bright square on both.

    Films of AP view (half of the patients, whatever they have) are darker. Every tenth patient has a device, and of
    those with an effusion every other one its box. A blur is what a site leaves on its films.
    """
    generator = np.random.default_rng(seed)
    films, rows, boxes = [], [], []
    for patient in range(patients):
        ill, dark, device = patient % 3 == 0, bool(generator.integers(2)), patient % 10 == 5
        for number in range(2):
            film = 110 + 40 * generator.standard_normal((SIDE, SIDE)) - 25 * dark
            if ill:
                left, top, width, height = BOX
                film[top : top + height, left : left + width] += 70
            films.append(gaussian_filter(film, blur) if blur else film)
            image_id = f"{path.name}-{patient:03d}-{number}"
            rows.append(
                {
                    "image_id": image_id,
                    "source": site,
                    "patient_id": f"{path.name}-{patient:03d}",
                    "view": "AP" if dark else "PA",
                    "sex": "F" if patient % 2 else "M",
                    "Effusion": int(ill),
                    "Mass": int(patient % 3 == 1 and patient % 4 == 0),
                    "Support Devices": int(device),
                }
            )
            if ill and patient % 2 == 0:
                names = ("left", "top", "width", "height")
                boxes.append({"image_id": image_id, "finding": "Effusion", **dict(zip(names, BOX, strict=True))})
    plan = Plan({"source": site, "size": SIDE, "bits": 8, "shard_mib": 1}, ["Effusion", "Mass", "Support Devices"])
    writer = StoreWriter(path, plan)
    writer.write_shard(0, np.stack(films).clip(0, 255).astype(np.uint8), rows, boxes)
    return writer.finish()
