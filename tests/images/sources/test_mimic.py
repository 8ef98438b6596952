"""A miniature of MIMIC-CXR-JPG becomes the table that its four tables say together."""

import gzip
from pathlib import Path

import pytest

from scarce_cxr.errors import ScarceError
from scarce_cxr.images.sources import MimicSource

METADATA = """\
dicom_id,subject_id,study_id,PerformedProcedureStepDescription,ViewPosition,Rows,Columns,StudyDate,StudyTime,\
ProcedureCodeSequence_CodeMeaning,ViewCodeSequence_CodeMeaning,PatientOrientationCodeSequence_CodeMeaning
02aa804e-bde0afdd-112c0b34-7bc16630-4e384014,10000032,50414267,CHEST (PA AND LAT),PA,3056,2544,21800506,213014.531,\
CHEST (PA AND LAT),postero-anterior,Erect
174413ec-4ec4c1f7-34ea26b7-c5f994f8-79ef1962,10000032,50414267,CHEST (PA AND LAT),LATERAL,3056,2544,21800506,213014.5,\
CHEST (PA AND LAT),lateral,Erect
e084de3b-be89b11e-20fe3f9f-9c8d8dfe-4cfd202c,10000764,57375967,CHEST (PORTABLE AP),,2544,3056,21321015,93636.0,\
CHEST (PORTABLE AP),antero-posterior,
ffffffff-be89b11e-20fe3f9f-9c8d8dfe-4cfd202c,10000764,57375968,,PA LLD,2544,3056,21321015,93636.0,,,
"""
SPLIT = """\
dicom_id,study_id,subject_id,split
02aa804e-bde0afdd-112c0b34-7bc16630-4e384014,50414267,10000032,train
174413ec-4ec4c1f7-34ea26b7-c5f994f8-79ef1962,50414267,10000032,train
e084de3b-be89b11e-20fe3f9f-9c8d8dfe-4cfd202c,57375967,10000764,validate
ffffffff-be89b11e-20fe3f9f-9c8d8dfe-4cfd202c,57375968,10000764,test
"""
HEADER = (
    "subject_id,study_id,Atelectasis,Cardiomegaly,Consolidation,Edema,Enlarged Cardiomediastinum,Fracture,Lung Lesion,"
    "Lung Opacity,No Finding,Pleural Effusion,Pleural Other,Pneumonia,Pneumothorax,Support Devices"
)
CHEXPERT = f"{HEADER}\n10000032,50414267,,,,,,,,,1.0,,,,,\n10000764,57375967,,,1.0,,,,,,,,,-1.0,0.0,\n"
NEGBIO = f"{HEADER}\n10000032,50414267,,,,,,,,,1.0,,,,,\n10000764,57375967,,,-1.0,,,,,,,,,1.0,,\n"


@pytest.fixture
def miniature(tmp_path: Path, draw) -> Path:
    folder = draw(
        tmp_path / "mimic",
        "files/p10/p10000032/s50414267/02aa804e-bde0afdd-112c0b34-7bc16630-4e384014.jpg",
        "files/p10/p10000032/s50414267/174413ec-4ec4c1f7-34ea26b7-c5f994f8-79ef1962.jpg",
        "files/p10/p10000764/s57375967/e084de3b-be89b11e-20fe3f9f-9c8d8dfe-4cfd202c.jpg",
        "files/p10/p10000764/s57375968/ffffffff-be89b11e-20fe3f9f-9c8d8dfe-4cfd202c.jpg",
    )
    tables = {"metadata": METADATA, "split": SPLIT, "chexpert": CHEXPERT, "negbio": NEGBIO}
    for name, text in tables.items():
        (folder / f"mimic-cxr-2.0.0-{name}.csv.gz").write_bytes(gzip.compress(text.encode()))
    return folder


def test_the_miniature_becomes_the_expected_table(miniature: Path, store_of, rows_of, hidden):
    store = store_of(MimicSource(miniature, views="all"))
    one, two = (hidden("mimic", "patient", name) for name in ("10000032", "10000764"))
    study, other, last = (hidden("mimic", "study", name) for name in ("50414267", "57375967", "57375968"))
    assert rows_of(store, "patient_id", "study_id", "view", "split", "age") == {
        # A study's labels stand for both of its films.
        "02aa804e-bde0afdd-112c0b34-7bc16630-4e384014": (one, study, "PA", "train", None, {"No Finding": 1}),
        "174413ec-4ec4c1f7-34ea26b7-c5f994f8-79ef1962": (one, study, "LATERAL", "train", None, {"No Finding": 1}),
        # No ViewPosition: the code's meaning counts.
        "e084de3b-be89b11e-20fe3f9f-9c8d8dfe-4cfd202c": (
            two,
            other,
            "AP",
            "validate",
            None,
            {"Consolidation": 1, "Pneumonia": -1, "Pneumothorax": 0},
        ),
        # Lying on the left side: neither PA nor AP nor lateral; and a study without labels.
        "ffffffff-be89b11e-20fe3f9f-9c8d8dfe-4cfd202c": (two, last, "UNKNOWN", "test", None, {}),
    }


def test_obliques_are_left_out_and_counted_unless_asked_for(tmp_path: Path, draw):
    views = {
        "a": ("LAO", ""),
        "b": ("", "left anterior oblique"),
        "c": ("RPO", "right posterior oblique"),
        "d": ("AP AXIAL", ""),
        "e": ("PA RLD", ""),
    }
    folder = draw(tmp_path / "mimic", *(f"files/{name}.jpg" for name in views))
    rows = "".join(f"{name},1,2,{','.join(view)}\n" for name, view in views.items())
    (folder / "mimic-cxr-2.0.0-metadata.csv").write_text(
        f"dicom_id,subject_id,study_id,ViewPosition,ViewCodeSequence_CodeMeaning\n{rows}"
    )
    (folder / "mimic-cxr-2.0.0-chexpert.csv").write_text(CHEXPERT)
    listing = MimicSource(folder).read(str)
    assert [(record.image_id, record.view) for record in listing.records] == [("d", "UNKNOWN"), ("e", "UNKNOWN")]
    assert listing.skipped == [(f"files/{name}.jpg", "not a frontal view: oblique") for name in "abc"]
    every = MimicSource(folder, views="all").read(str)
    assert {record.image_id: record.view for record in every.records} == dict.fromkeys(views, "UNKNOWN")


def test_the_other_labels_are_a_setting(miniature: Path, store_of, rows_of):
    rows = rows_of(store_of(MimicSource(miniature, labels="negbio")))
    # Laterals are left out unless asked for.
    assert len(rows) == 3
    assert rows["e084de3b-be89b11e-20fe3f9f-9c8d8dfe-4cfd202c"] == ({"Consolidation": -1, "Pneumonia": 1},)
    with pytest.raises(ScarceError, match="labels = both"):
        MimicSource(miniature, labels="both")


def test_unpacked_tables_read_alike_and_a_missing_one_is_named(miniature: Path):
    packed = MimicSource(miniature).read(str)
    for path in miniature.glob("*.csv.gz"):
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()
    plain = MimicSource(miniature).read(str)
    assert plain.records == packed.records
    (miniature / "mimic-cxr-2.0.0-chexpert.csv").unlink()
    with pytest.raises(ScarceError, match=r"chexpert\.csv\.gz.*metadata\.csv"):
        MimicSource(miniature).read(str)
