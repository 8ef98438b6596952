"""A miniature of the Shenzhen collection becomes the table that names and readings say, typing mistakes and all."""

from pathlib import Path

import pytest

from scarce_cxr.images.sources import ShenzhenSource

READINGS = {
    "CHNCXR_0001_0": ("male 45yrs\nnormal", 45.0, "M"),
    "CHNCXR_0002_0": ("femal 32yrs\nnormal", 32.0, "F"),
    "CHNCXR_0003_0": ("female24yrs\nnormal", 24.0, "F"),
    "CHNCXR_0327_1": ("male , 29yrs  \t\nbilateral secondary PTB", 29.0, "M"),
    "CHNCXR_0328_1": ("Female, 64days\nPTB in the left upper field", 64 / 365.25, "F"),
    "CHNCXR_0329_1": ("male 16month\nSTB", 16 / 12, "M"),
    "CHNCXR_0330_1": ("male 42\nSTB", None, "M"),
    "CHNCXR_0331_1": ("", None, None),
}


def test_the_miniature_becomes_the_expected_table(tmp_path: Path, draw, store_of, rows_of, hidden):
    folder = draw(tmp_path / "ChinaSet_AllFiles", *(f"CXR_png/{name}.png" for name in READINGS))
    # Masks that others drew later, in their own folder and under their own names.
    draw(folder, "mask/CHNCXR_0001_0_mask.png", "masks/CHNCXR_0002_0.png")
    (folder / "ClinicalReadings").mkdir()
    for name, (text, _, _) in READINGS.items():
        (folder / "ClinicalReadings" / f"{name}.txt").write_text(text)
    assert rows_of(store_of(ShenzhenSource(folder)), "patient_id", "view", "age", "sex") == {
        f"{name}.png": (
            hidden("shenzhen", "patient", name.split("_")[1]),
            "UNKNOWN",
            None if age is None else pytest.approx(age),
            sex,
            {"Tuberculosis": int(name[-1])},
        )
        for name, (_, age, sex) in READINGS.items()
    }
