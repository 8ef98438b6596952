"""The Montgomery County collection of tuberculosis (138 films)."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from scarce_cxr.images.sources.nlm import Reading, age_of, read_films
from scarce_cxr.images.sources.records import Listing
from scarce_cxr.images.sources.tables import sex


class MontgomerySource:
    """The folder `MontgomerySet`: `CXR_png`, `ClinicalReadings`, and `ManualMask`, which is left out.

    Two films may be of one patient: the reading of one then names the other ("same pt as MCUCXR_0162_1").

    Args:
        folder: holds all of it.
    """

    name = "montgomery"

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)

    def settings(self) -> dict[str, Any]:
        return {"source": self.name}

    def read(self, pseudonym: Callable[[str], str]) -> Listing:
        """Lists the films; as the collection is public, its own names stay.

        Raises:
            ScarceError: folder missing, or no film in it.
        """
        listing, readings = read_films(self.folder, "MCUCXR", "PA", _understand, self.name)
        records = []
        for record in listing.records:
            same = re.search(r"same pt as MCUCXR_(\d+)", readings[record.image_id].text, re.IGNORECASE)
            records.append(replace(record, patient=same[1]) if same else record)
        return replace(listing, records=records)


def _understand(text: str) -> Reading:
    """Reads "Patient's Sex: F", "Patient's Age: 027Y" and the words below."""
    who = re.search(r"Sex:\s*(\w+)", text)
    age = re.search(r"Age:\s*(\w+)", text)
    return Reading(age_of(age[1]) if age else None, sex(who[1]) if who else None, text)
