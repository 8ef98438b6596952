"""What the DICOM files of public collections say of their films; hospitals' files are read by `dicom.py` instead."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from scarce_cxr import progress
from scarce_cxr.images.archives import Member
from scarce_cxr.images.decode import Skipped
from scarce_cxr.images.sources.tables import sex, years

SUFFIXES = (".dcm", ".dicom")

_KEYWORDS = ("Rows", "Columns", "ViewPosition", "PatientAge", "PatientSex", "PixelSpacing", "ImagerPixelSpacing")
_VIEWS = {"PA": "PA", "AP": "AP", "LL": "LATERAL", "RL": "LATERAL"}


@dataclass(frozen=True)
class Header:
    """A film's height and width in pixels, view (PA, AP, LATERAL or UNKNOWN), age in years, sex, and spacing in mm."""

    height: int | None = None
    width: int | None = None
    view: str = "UNKNOWN"
    age: float | None = None
    sex: str | None = None
    pixel_spacing_mm: float | None = None


def read_headers(films: Mapping[str, Path | Member]) -> dict[str, Header]:
    """Reads the headers of those films that are DICOM, a millisecond each; pixels are not touched.

    Args:
        films: by name.

    Returns:
        A header for every film; an empty one where the file is no DICOM or is damaged.
    """
    headers = {}
    with progress.bar("reading headers", len(films), "files") as advance:
        for name, path in films.items():
            headers[name] = _read(path) if name.lower().endswith(SUFFIXES) else Header()
            advance()
    return headers


def _read(path: Path | Member) -> Header:
    # pydicom takes half a second to import, which sources without DICOM need not wait for.
    from scarce_cxr.images.dicom.elements import code, guarded, integer, number, read_elements, text

    try:
        with path.open("rb") as file, guarded():
            elements = read_elements(file, _KEYWORDS)
            view = code(elements, "ViewPosition")
            return Header(
                height=integer(elements, "Rows") or None,
                width=integer(elements, "Columns") or None,
                view=_VIEWS.get(view, "UNKNOWN"),
                age=years(text(elements, "PatientAge")),
                sex=sex(text(elements, "PatientSex")),
                pixel_spacing_mm=number(elements, "PixelSpacing") or number(elements, "ImagerPixelSpacing"),
            )
    except (Skipped, OSError):
        # The film itself is judged when its pixels are decoded.
        return Header()
