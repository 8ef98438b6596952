"""What a header says, whatever it is made of."""

from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset

from scarce_cxr.images.decode import Skipped
from scarce_cxr.images.dicom import Header, read_header

PIXELS = np.arange(12, dtype=np.uint8).reshape(3, 4)


def read(path: Path) -> Header:
    with path.open("rb") as file:
        return read_header(file)


def test_a_real_header(real_dicom: Path):
    header = read(real_dicom / "rsna_jpeg_mono2.dcm")
    assert header == Header(
        sop_class="1.2.840.10008.5.1.4.1.1.7",
        modality="CR",
        view_position="PA",
        patient_position="",
        orientation=("",),
        view_code="",
        view_meaning="",
        descriptions=("view: PA", "", ""),
        study_description="",
        body_part="CHEST",
        patient="16d7f894-55d7-4d95-8957-d18987f0e981",
        study="1.2.276.0.7230010.3.1.2.8323329.6904.1517875201.850818",
        age="62",
        sex="M",
        birth_date="",
        study_date="19010101",
        pixel_spacing_mm=0.168,
        burned_in=False,
        for_processing=False,
        has_pixels=True,
        frames=1,
    )


def test_descriptions_of_film_and_study_are_told_apart(write_dicom, tmp_path: Path):
    path = write_dicom(
        tmp_path / "a.dcm",
        PIXELS,
        StudyDescription="CHEST PA AND LATERAL",
        SeriesDescription="CHEST",
        ProtocolName="W033a",
        AcquisitionDeviceProcessingDescription="CHEST,LAT",
    )
    header = read(path)
    assert header.descriptions == ("CHEST", "W033a", "CHEST,LAT")
    assert header.study_description == "CHEST PA AND LATERAL"


def test_facts_in_sequences_and_lists(write_dicom, tmp_path: Path):
    view = Dataset()
    view.CodeValue, view.CodingSchemeDesignator, view.CodeMeaning = "399348003", "SCT", "antero-posterior"
    path = write_dicom(
        tmp_path / "a.dcm",
        PIXELS,
        ViewCodeSequence=[view],
        PatientOrientation=["L", "F"],
        BurnedInAnnotation="YES",
        PresentationIntentType="FOR PROCESSING",
        ImagerPixelSpacing=[0.139, 0.139],
    )
    header = read(path)
    assert (header.view_code, header.view_meaning, header.orientation) == ("399348003", "antero-posterior", ("L", "F"))
    assert (header.burned_in, header.for_processing, header.pixel_spacing_mm) == (True, True, 0.139)


@pytest.mark.parametrize(
    ("spacing", "expected"), [(("0.2", "0.2"), 0.2), (("0", "0"), 0.15), (("0.0002", "0.0002"), 0.15)]
)
def test_an_impossible_spacing_gives_way_to_the_next(write_dicom, tmp_path: Path, spacing, expected: float):
    path = write_dicom(tmp_path / "a.dcm", PIXELS, PixelSpacing=list(spacing), ImagerPixelSpacing=[0.15, 0.15])
    assert read(path).pixel_spacing_mm == expected


def test_damaged_values_are_one_element_less(write_dicom, tmp_path: Path):
    path = write_dicom(tmp_path / "a.dcm", PIXELS, PatientAge="045Y", PixelSpacing=[0.25, 0.25])
    path.write_bytes(path.read_bytes().replace(b"0.25\\0.25", b"0,25\\xxxx"))
    header = read(path)
    assert (header.pixel_spacing_mm, header.age, header.has_pixels) == (None, "045Y", True)


def test_what_is_no_dicom_is_refused(tmp_path: Path):
    for name, content in {
        "a.txt": b"Hello, world. " * 20,
        "b.png": b"\x89PNG\r\n\x1a\n" + bytes(200),
        "c": b"DICM",
    }.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(Skipped, match="not a DICOM file"):
            read(tmp_path / name)
