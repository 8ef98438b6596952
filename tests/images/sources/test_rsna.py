"""A miniature of RSNA's challenge: rows for boxes become one row a film, and patients come through the mapping."""

import json
from pathlib import Path

import pytest

from scarce_cxr.errors import ScarceError
from scarce_cxr.images.sources import CommonNames, NihSource, RsnaSource

LABELS = """\
patientId,x,y,width,height,Target
0004cfab,,,,,0
00313ee0,,,,,0
00436515,264.0,152.0,213.0,379.0,1
00436515,562.0,152.0,256.0,453.0,1
00436515,562.0,152.0,256.0,453.0,1
"""
CLASSES = """\
patientId,class
0004cfab,No Lung Opacity / Not Normal
00313ee0,Normal
00436515,Lung Opacity
00436515,Lung Opacity
"""
MAPPING = [
    {"subset_img_id": "0004cfab", "img_id": "00000013_005.png", "SOPInstanceUID": "1.2.1"},
    {"subset_img_id": "00313ee0", "img_id": "00000013_026.png", "SOPInstanceUID": "1.2.2"},
    {"subset_img_id": "00436515", "img_id": "00030801_001.png", "SOPInstanceUID": "1.2.3"},
    {"subset_img_id": "0000a175", "img_id": "00000002_000.png", "SOPInstanceUID": "1.2.4"},
]


@pytest.fixture
def miniature(tmp_path: Path, draw_dicom) -> Path:
    folder = tmp_path / "rsna-pneumonia-detection-challenge"
    draw_dicom(folder / "stage_2_train_images" / "0004cfab.dcm", view="PA", age="51", sex="F", spacing=0.139)
    draw_dicom(folder / "stage_2_train_images" / "00313ee0.dcm", view="AP", age="48", sex="F")
    draw_dicom(folder / "stage_2_train_images" / "00436515.dcm", view="AP", age="155", sex="M")
    draw_dicom(folder / "stage_2_test_images" / "0000a175.dcm", view="PA", age="20", sex="M")
    (folder / "stage_2_train_labels.csv").write_text(LABELS)
    (folder / "stage_2_detailed_class_info.csv").write_text(CLASSES)
    return folder


def test_the_miniature_becomes_the_expected_table(miniature: Path, store_of, rows_of):
    store = store_of(RsnaSource(miniature))
    names = ("Lung Opacity", "No Lung Opacity / Not Normal", "Normal")
    assert rows_of(store, "patient_id", "view", "split", "age", "sex", "pixel_spacing_mm") == {
        "0004cfab": (None, "PA", "train", 51.0, "F", 0.139, dict(zip(names, (0, 1, 0), strict=True))),
        "00313ee0": (None, "AP", "train", 48.0, "F", 0.14, dict(zip(names, (0, 0, 1), strict=True))),
        # Older than anybody: the header's mistake.
        "00436515": (None, "AP", "train", None, "M", 0.14, dict(zip(names, (1, 0, 0), strict=True))),
        "0000a175": (None, "PA", "test", 20.0, "M", 0.14, {}),
    }
    assert store.settings["patients"] == "unknown"
    boxes = store.boxes
    # The row that stands there twice is one box; of 1,024 pixels to 16.
    assert boxes["left"].tolist() == pytest.approx([264 / 64, 562 / 64])
    assert boxes["height"].tolist() == pytest.approx([379 / 64, 453 / 64])
    assert set(boxes["finding"]) == {"Lung Opacity"}


def test_with_the_mapping_patients_are_those_of_an_nih_store_with_the_same_key(
    miniature: Path, tmp_path: Path, draw, store_of, rows_of, hidden
):
    (miniature / "pneumonia-challenge-dataset-mappings_2018.json").write_text(json.dumps(MAPPING))
    store = store_of(RsnaSource(miniature))
    assert "patients" not in store.settings
    patients = {image_id: row[0] for image_id, row in rows_of(store, "patient_id").items()}
    thirteen = hidden("nih", "patient", "13")
    assert patients["0004cfab"] == patients["00313ee0"] == thirteen
    assert patients["00436515"] == hidden("nih", "patient", "30801")
    assert len(set(patients.values())) == 3
    nih = draw(tmp_path / "nih", "00000013_005.png")
    (nih / "Data_Entry_2017.csv").write_text("Image Index,Finding Labels,Patient ID\n00000013_005.png,Mass,13\n")
    assert rows_of(store_of(NihSource(nih)), "patient_id")["00000013_005.png"][0] == thirteen
    renamed = store_of(CommonNames(RsnaSource(miniature)))
    assert rows_of(renamed, "patient_id")["0004cfab"][0] == thirteen


def test_without_the_classes_there_is_one_finding(miniature: Path):
    (miniature / "stage_2_detailed_class_info.csv").unlink()
    listing = RsnaSource(miniature).read(str)
    assert listing.findings == ["Lung Opacity"]
    assert {r.image_id: r.findings for r in listing.records}["00436515"] == {"Lung Opacity": 1}


def test_common_names_call_the_normal_ones_so(miniature: Path):
    listing = CommonNames(RsnaSource(miniature)).read(str)
    assert listing.findings == ["Lung Opacity", "No Lung Opacity / Not Normal", "No Finding"]
    assert {r.image_id: r.findings["No Finding"] for r in listing.records if r.findings}["00313ee0"] == 1


def test_a_damaged_mapping_is_refused(miniature: Path):
    (miniature / "pneumonia-challenge-dataset-mappings_2018.json").write_text('[{"img_id": "x"}]')
    with pytest.raises(ScarceError, match="subset_img_id and img_id"):
        RsnaSource(miniature).read(str)


def test_a_real_file_of_the_challenge_is_read(tmp_path: Path, store_of, rows_of):
    real = Path(__file__).parents[3] / "../shared/data/dicom/rsna_jpeg_mono2.dcm"
    if not real.exists():
        pytest.skip(f"no real film at {real}")
    (tmp_path / "rsna" / "stage_2_train_images").mkdir(parents=True)
    (tmp_path / "rsna" / "stage_2_train_images" / "real.dcm").write_bytes(real.read_bytes())
    (tmp_path / "rsna" / "stage_2_train_labels.csv").write_text("patientId,x,y,width,height,Target\nreal,,,,,0\n")
    store = store_of(RsnaSource(tmp_path / "rsna"))
    (row,) = rows_of(store, "view", "height", "width", "age", "sex", "pixel_spacing_mm").values()
    # As pydicom prints the header.
    assert row == ("PA", 1024, 1024, 62.0, "M", 0.168, {"Lung Opacity": 0})
