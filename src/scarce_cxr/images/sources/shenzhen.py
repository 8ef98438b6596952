"""The Shenzhen collection of tuberculosis (662 films)."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from scarce_cxr.images.sources.nlm import Reading, age_of, read_films
from scarce_cxr.images.sources.records import Listing


class ShenzhenSource:
    """The folder `ChinaSet_AllFiles`: `CXR_png` and `ClinicalReadings`.

    All films are frontal; most are PA, children's AP. As no file tells which, the view stays UNKNOWN.

    Args:
        folder: holds all of it.
    """

    name = "shenzhen"

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)

    def settings(self) -> dict[str, Any]:
        return {"source": self.name}

    def read(self, pseudonym: Callable[[str], str]) -> Listing:
        """Lists the films; as the collection is public, its own names stay.

        Raises:
            ScarceError: folder missing, or no film in it.
        """
        return read_films(self.folder, "CHNCXR", "UNKNOWN", _understand, self.name)[0]


def _understand(text: str) -> Reading:
    """Reads "male 45yrs", "femal 32yrs", "female24yrs", "Female, 28yrs", "male 16month" and the words below."""
    first = text.splitlines()[0] if text else ""
    who = re.match(r"\s*(fem|m)", first, re.IGNORECASE)
    return Reading(age_of(first), {"f": "F", "m": "M"}[who[1][0].lower()] if who else None, text)
