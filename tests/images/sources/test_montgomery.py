"""A miniature of the Montgomery collection becomes the table that names and readings say."""

from pathlib import Path

import pytest

from scarce_cxr.errors import ScarceError
from scarce_cxr.images.sources import MontgomerySource

READINGS = {
    "MCUCXR_0001_0": "Patient's Sex: F \nPatient's Age: 027Y\nnormal\n",
    "MCUCXR_0002_0": "Patient's Sex: O \nPatient's Age: 010M\nnormal",
    "MCUCXR_0162_1": "Patient's Sex: M \nPatient's Age: 049Y\ncavitary infiltrate in RUL\x96active TB",
    "MCUCXR_0166_1": "Patient's Sex: M \nPatient's Age: 049Y\nNO REPORT (same pt as MCUCXR_0162_1)",
}


def test_the_miniature_becomes_the_expected_table(tmp_path: Path, draw, store_of, rows_of, hidden):
    folder = tmp_path / "MontgomerySet"
    draw(folder, *(f"CXR_png/{name}.png" for name in READINGS), "CXR_png/MCUCXR_0399_1.png")
    draw(folder, *(f"ManualMask/{side}Mask/{name}.png" for side in ("left", "right") for name in READINGS))
    (folder / "ClinicalReadings").mkdir()
    for name, text in READINGS.items():
        (folder / "ClinicalReadings" / f"{name}.txt").write_bytes(text.encode("latin-1"))
    (folder / "NLM-MontgomeryCXRSet-ReadMe.pdf").touch()
    patients = {number: hidden("montgomery", "patient", number) for number in ("0001", "0002", "0162", "0399")}
    assert rows_of(store_of(MontgomerySource(folder)), "patient_id", "view", "age", "sex") == {
        "MCUCXR_0001_0.png": (patients["0001"], "PA", 27.0, "F", {"Tuberculosis": 0}),
        "MCUCXR_0002_0.png": (patients["0002"], "PA", pytest.approx(10 / 12), None, {"Tuberculosis": 0}),
        "MCUCXR_0162_1.png": (patients["0162"], "PA", 49.0, "M", {"Tuberculosis": 1}),
        # Its reading says that it is the other one's patient.
        "MCUCXR_0166_1.png": (patients["0162"], "PA", 49.0, "M", {"Tuberculosis": 1}),
        "MCUCXR_0399_1.png": (patients["0399"], "PA", None, None, {"Tuberculosis": 1}),
    }
    notes = MontgomerySource(folder).read(str).notes
    assert notes[0] == "8 masks of lungs are left out"
    assert notes[1].startswith("1 films without a clinical reading")


def test_a_folder_of_masks_alone_is_refused(tmp_path: Path, draw):
    with pytest.raises(ScarceError, match="MCUCXR_0001_0"):
        MontgomerySource(draw(tmp_path, "ManualMask/leftMask/MCUCXR_0001_0.png")).read(str)
