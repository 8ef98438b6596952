"""What a DICOM header says of a film."""

from dataclasses import dataclass
from typing import BinaryIO

from scarce_cxr.images.dicom.elements import code, first_item, guarded, integer, number, read_elements, text, texts

_SPACINGS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")
_DESCRIPTIONS = ("SeriesDescription", "ProtocolName", "AcquisitionDeviceProcessingDescription")
_KEYWORDS = (
    "SOPClassUID",
    "Modality",
    "PresentationIntentType",
    "StudyDate",
    "StudyInstanceUID",
    "StudyDescription",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "PatientAge",
    "PatientPosition",
    "PatientOrientation",
    "BodyPartExamined",
    "ViewPosition",
    "ViewCodeSequence",
    "BurnedInAnnotation",
    "Rows",
    "Columns",
    "NumberOfFrames",
    *_DESCRIPTIONS,
    *_SPACINGS,
)


@dataclass(frozen=True)
class Header:
    """What a header says of a film, in its own words: "" or null where it is silent. Not fit for a store as it is.

    Attributes:
        sop_class, modality, view_position, patient_position, orientation, body_part: codes, in capitals.
        view_code, view_meaning: the first item of the ViewCodeSequence.
        descriptions: of the series, of the protocol, and of how the device processed the film.
        study_description: of all films of the study.
        patient, study: identifiers.
        age, sex, birth_date, study_date: as written.
        pixel_spacing_mm: between rows; at the patient where it was calibrated, else at the detector or scanner.
        burned_in: whether the pixels are said to show text about the patient.
        for_processing: whether these are the detector's raw values.
        has_pixels: whether the size of a picture is given.
        frames: how many.
    """

    sop_class: str
    modality: str
    view_position: str
    patient_position: str
    orientation: tuple[str, ...]
    view_code: str
    view_meaning: str
    descriptions: tuple[str, ...]
    study_description: str
    body_part: str
    patient: str
    study: str
    age: str
    sex: str
    birth_date: str
    study_date: str
    pixel_spacing_mm: float | None
    burned_in: bool
    for_processing: bool
    has_pixels: bool
    frames: int


def read_header(file: BinaryIO) -> Header:
    """Reads what stands before the pixels, in about a millisecond.

    Args:
        file: at its beginning; the preamble and the transfer syntax may be missing.

    Raises:
        Skipped: it is no DICOM file, or its header is damaged.
        OSError: the file itself cannot be read.
    """
    with guarded():
        elements = read_elements(file, _KEYWORDS)
        view = first_item(elements, "ViewCodeSequence")
        spacings = (number(elements, keyword) for keyword in _SPACINGS)
        return Header(
            sop_class=text(elements, "SOPClassUID"),
            modality=code(elements, "Modality"),
            view_position=code(elements, "ViewPosition"),
            patient_position=code(elements, "PatientPosition"),
            orientation=tuple(part.upper() for part in texts(elements, "PatientOrientation")),
            view_code=text(view, "CodeValue"),
            view_meaning=text(view, "CodeMeaning"),
            descriptions=tuple(text(elements, keyword) for keyword in _DESCRIPTIONS),
            study_description=text(elements, "StudyDescription"),
            body_part=code(elements, "BodyPartExamined"),
            patient=text(elements, "PatientID"),
            study=text(elements, "StudyInstanceUID"),
            age=text(elements, "PatientAge"),
            sex=code(elements, "PatientSex"),
            birth_date=text(elements, "PatientBirthDate"),
            study_date=text(elements, "StudyDate"),
            # Some write metres, or zeros.
            pixel_spacing_mm=next((mm for mm in spacings if mm is not None and 0.01 <= mm <= 10), None),
            burned_in=code(elements, "BurnedInAnnotation") == "YES",
            for_processing=code(elements, "PresentationIntentType") == "FOR PROCESSING",
            has_pixels=integer(elements, "Rows") > 0 and integer(elements, "Columns") > 0,
            frames=integer(elements, "NumberOfFrames", 1),
        )
