"""A hospital's folder of DICOM files, whatever their names; nothing of their headers enters the store as it is."""

import re
from collections import Counter
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from scarce_cxr import progress
from scarce_cxr.errors import ScarceError
from scarce_cxr.images.archives import Member
from scarce_cxr.images.decode import Skipped
from scarce_cxr.images.sources.lists import choose
from scarce_cxr.images.sources.records import Listing, Record, list_files, sort_records
from scarce_cxr.images.sources.tables import sex, years

if TYPE_CHECKING:
    from scarce_cxr.images.dicom import Header

Views = Literal["frontal", "all"]
BurnedIn = Literal["skip", "keep"]

# Radiographs of storage phosphor and of digital detectors; a file may say so by the kind of object alone.
_MODALITIES = {
    "1.2.840.10008.5.1.4.1.1.1": "CR",
    "1.2.840.10008.5.1.4.1.1.1.1": "DX",
    "1.2.840.10008.5.1.4.1.1.1.1.1": "DX",
}
# Others that may be repeated to the user; a damaged header may hold anything else.
_OTHERS = frozenset(
    ("CT", "DOC", "ES", "IO", "KO", "MG", "MR", "NM", "OT", "PR", "PT", "PX", "RF", "RG", "SC", "SEG", "SR", "US", "XA")
)

# An older patient is one among few, whom the age may tell.
_OLDEST = 90.0

# DICOM's CID 4010, in SNOMED CT's codes and the older ones.
_VIEW_CODES = {
    **dict.fromkeys(("272479007", "R-40888", "R-10214"), "PA"),
    **dict.fromkeys(("399348003", "R-10206"), "AP"),
    **dict.fromkeys(("399033003", "R-10202"), "FRONTAL"),
    **dict.fromkeys(("399067008", "R-102CD", "399173006", "R-10236", "399198007", "R-10232"), "LATERAL"),
    **dict.fromkeys(("399182000", "R-102C1", "399184004", "R-10238", "399236003", "R-10234"), "OBLIQUE"),
    **dict.fromkeys(("399135007", "R-10220", "399006002", "R-10212"), "OBLIQUE"),
    **dict.fromkeys(("399356000", "R-40985", "399038007", "R-10210"), "OBLIQUE"),
    **dict.fromkeys(("399312000", "R-10208", "399059000", "R-10216"), "OBLIQUE"),
}
_VIEW_WORDS = {
    "PA": {"pa"},
    "AP": {"ap"},
    "FRONTAL": {"frontal"},
    "LATERAL": {"lateral", "laterals", "lat", "ll", "rl", "laterale", "seitlich", "seitl", "profil", "perfil"},
    "OBLIQUE": {"oblique", "obliques", "obl", "lao", "rao", "lpo", "rpo", "llo", "rlo"},
}
# On the side lies the patient, not the view: such films are frontal.
_LYING = {"lld", "rld", "decub", "decubitus"}
# "2 views", "Thorax in 2 Ebenen", "face et profil", "PA/L": each film of such a study may be any of them.
_SEVERAL_VIEWS = re.compile(r"views|vws|ebenen|\b(?:[2-9]|two|zwei|deux|dos|due)(?:\b|v)|\b(?:face|frente|l)\b")


class DicomSource:
    """Radiographs (CR and DX) of a chest, as DICOM files at any depth; their names are not looked at.

    Patient, study and file become keyed pseudonyms, dates are dropped, and ages above 90 become 90. A film without a
    PatientID belongs to the patient of its study.

    Args:
        folder: holds the files.
        views: `frontal` leaves out laterals and obliques; films of unknown view stay in either case, as UNKNOWN.
        burned_in: whether to keep films whose header says that text about the patient is in their pixels.

    Raises:
        ScarceError: a setting is none of its words.
    """

    name = "dicom"

    def __init__(self, folder: Path, views: Views = "frontal", burned_in: BurnedIn = "skip") -> None:
        choose("views", views, ("frontal", "all"))
        choose("burned_in", burned_in, ("skip", "keep"))
        self.folder, self.views, self.burned_in = Path(folder), views, burned_in

    def settings(self) -> dict[str, Any]:
        return {"source": self.name, "views": self.views, "burned_in": self.burned_in}

    def read(self, pseudonym: Callable[[str], str]) -> Listing:
        """Lists the films by their headers, a millisecond each.

        Raises:
            ScarceError: there is no such folder, or no film of this kind in it.
        """
        files = list_files(self.folder)
        records, skipped, noted = [], list(files.refused), Counter()
        with progress.bar("reading headers", len(files), "files") as advance:
            for name, path in files.items():
                try:
                    header = _read(path)
                    view = view_of(header)
                    self._refuse(header, view)
                except Skipped as reason:
                    skipped.append((name, reason.reason))
                else:
                    records.append(_record(name, path, pseudonym(name), header, view))
                    noted.update(_remarks(header, view))
                advance()
        if not records:
            reasons = Counter(reason.split(":")[0] for _, reason in skipped).most_common(5)
            raise ScarceError(
                f"DICOM files of chest radiographs in {self.folder}",
                ", ".join(f"{count:,} x {reason}" for reason, count in reasons) or "no files",
                "check the folder, or take another kind",
            )
        notes = [f"{count:,} {'film' if count == 1 else 'films'} {remark}" for remark, count in noted.items()]
        studies = {record.study for record in records if record.study}
        if len(studies) > 1 and len({record.patient for record in records}) == 1:
            notes.append(f"one PatientID for films of {len(studies):,} studies: was it replaced by a constant?")
        return Listing(sort_records(records), [], skipped, notes)

    def _refuse(self, header: "Header", view: str) -> None:
        """Raises `Skipped` for what is no film of this source."""
        modality = header.modality or _MODALITIES.get(header.sop_class, "")
        if modality not in _MODALITIES.values():
            raise Skipped(f"not CR or DX: {modality if modality in _OTHERS else 'another or no modality'}")
        if not header.has_pixels:
            raise Skipped("a DICOM file without a picture")
        if self.views == "frontal" and view in ("LATERAL", "OBLIQUE"):
            raise Skipped(f"not a frontal view: {view.lower()}")
        if self.burned_in == "skip" and header.burned_in:
            raise Skipped("burned-in annotation (--burned_in keep takes such films)")


def view_of(header: "Header") -> str:
    """The view of a film: PA, AP, FRONTAL (one of the two), LATERAL, OBLIQUE, or UNKNOWN.

    Looked for in the ViewPosition, the ViewCodeSequence, the PatientPosition (where some converters write it), the
    descriptions of series, protocol and processing, the PatientOrientation, and last in the description of the whole
    study; the first that says something decides, but PA or AP are believed over a mere FRONTAL before them.
    """
    seen = [
        view_in_words(header.view_position),
        _VIEW_CODES.get(header.view_code) or view_in_words(header.view_meaning),
        view_in_words(header.patient_position),
        *map(view_in_words, header.descriptions),
        _view_of_orientation(header.orientation),
        view_of_study(header.study_description),
    ]
    told = [view for view in seen if view != "UNKNOWN"]
    if not told:
        return "UNKNOWN"
    return next((view for view in told if view in ("PA", "AP")), "FRONTAL") if told[0] == "FRONTAL" else told[0]


def view_in_words(text: str) -> str:
    """The view that a text names, as `view_of` has it; UNKNOWN where it names several ("PA and lateral") or none."""
    plain = re.sub(r"(?<![a-z0-9])([ap]) ?[./-]? ?([ap])(?![a-z0-9])", r"\1\2", text.lower())
    plain = re.sub(r"postero[- ]?anterior", "pa", re.sub(r"antero[- ]?posterior", "ap", plain))
    words = set(re.findall(r"[a-z]+", plain))
    views = {view for view, names in _VIEW_WORDS.items() if words & names}
    if words & _LYING:
        views -= {"LATERAL"}
    if views & {"PA", "AP"}:
        views -= {"FRONTAL"}
    return views.pop() if len(views) == 1 else "UNKNOWN"


def view_of_study(description: str) -> str:
    """The view of all films of a study; UNKNOWN where it has films of several."""
    return "UNKNOWN" if _SEVERAL_VIEWS.search(description.lower()) else view_in_words(description)


def _view_of_orientation(orientation: tuple[str, ...]) -> str:
    """Where rows and columns lead: between left and right on a frontal film, between front and back on a lateral."""
    if len(orientation) != 2 or not all(orientation):
        return "UNKNOWN"
    across = [direction[0] for direction in orientation if direction[0] not in "HF"]
    if len(across) != 1:
        return "UNKNOWN"
    return {"L": "FRONTAL", "R": "FRONTAL", "A": "LATERAL", "P": "LATERAL"}.get(across[0], "UNKNOWN")


def _read(path: Path | Member) -> "Header":
    # pydicom takes half a second to import, which other sources need not wait for.
    from scarce_cxr.images.dicom import read_header

    try:
        with path.open("rb") as file:
            return read_header(file)
    except MemoryError:
        raise Skipped("not enough memory") from None
    except OSError as error:
        lost = isinstance(error, FileNotFoundError) and path.is_symlink()
        raise Skipped("a link that leads nowhere" if lost else f"cannot be read: {error.strerror}") from None


def _record(name: str, path: Path | Member, image_id: str, header: "Header", view: str) -> Record:
    return Record(
        path=path,
        name=name,
        image_id=image_id,
        # No issuer is taken in: films of one patient in two hands would be a leak, two patients in one hand are none.
        patient=header.patient or (f"study {header.study}" if header.study else None),
        study=header.study or None,
        view=view if view in ("PA", "AP", "LATERAL") else "UNKNOWN",
        age=_age(header),
        sex=sex(header.sex),
        pixel_spacing_mm=header.pixel_spacing_mm,
    )


def _age(header: "Header") -> float | None:
    """Years: as given, or whole ones between birth and study; 90 for whoever is older."""
    age = years(header.age)
    if age is None:
        birth, study = _date(header.birth_date), _date(header.study_date)
        if birth is None or study is None or study < birth:
            return None
        age = years(str(study.year - birth.year - ((study.month, study.day) < (birth.month, birth.day))))
    return None if age is None else min(age, _OLDEST)


def _date(text: str) -> date | None:
    try:
        return date.fromisoformat(f"{text[:4]}-{text[4:6]}-{text[6:8]}")
    except ValueError:
        return None


def _remarks(header: "Header", view: str) -> list[str]:
    """What the user should know of a film that is taken in."""
    remarks = {
        "of unknown view, maybe lateral, kept as UNKNOWN": view == "UNKNOWN",
        "known to be frontal, but not whether PA or AP: kept as UNKNOWN": view == "FRONTAL",
        "without a PatientID, whose study stands for the patient": not header.patient and bool(header.study),
        "without PatientID and study, each a patient of its own": not header.patient and not header.study,
        "with burned-in annotation": header.burned_in,
        "FOR PROCESSING, the detector's raw values": header.for_processing,
        "of a body part that is not called chest or thorax": bool(header.body_part)
        and not re.search("CHEST|THORAX|LUNG", header.body_part),
    }
    return [remark for remark, holds in remarks.items() if holds]
