"""Miniatures of CheXpert, small and full, become the tables that its labels say."""

from pathlib import Path

import pytest

from scarce_cxr.errors import ScarceError
from scarce_cxr.images.sources import CheXpertSource

HEADER = (
    "Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding,Enlarged Cardiomediastinum,Cardiomegaly,Lung Opacity,Lung Lesion,"
    "Edema,Consolidation,Pneumonia,Atelectasis,Pneumothorax,Pleural Effusion,Pleural Other,Fracture,Support Devices"
)
FINDINGS = HEADER.split(",")[5:]


def train(prefix: str) -> str:
    return "\n".join(
        [
            HEADER,
            f"{prefix}/train/patient00001/study1/view1_frontal.jpg,Female,68,Frontal,AP,1.0,,,,,,,,,0.0,,,,1.0",
            f"{prefix}/train/patient00002/study2/view1_frontal.jpg,Male,87,Frontal,PA,,,-1.0,1.0,,-1.0,,,,,-1.0,,1.0,",
            f"{prefix}/train/patient00002/study2/view2_lateral.jpg,Male,87,Lateral,,,,-1.0,1.0,,-1.0,,,,,-1.0,,1.0,",
            f"{prefix}/train/patient00003/study1/view1_frontal.jpg,Unknown,0,Frontal,LL,,,,,,,,,,,,,,",
        ]
    )


def valid(prefix: str) -> str:
    zeros = ",0.0" * 13
    path = f"{prefix}/valid/patient64541/study1/view1_frontal.jpg"
    return f"{HEADER}\n{path},Male,73,Frontal,AP,1.0{zeros}\n"


TEST = (
    "Path,Enlarged Cardiomediastinum,Cardiomegaly,Lung Opacity,Lung Lesion,Edema,Consolidation,Pneumonia,Atelectasis,"
    "Pneumothorax,Pleural Effusion,Pleural Other,Fracture,Support Devices,No Finding\n"
    f"test/patient64741/study1/view1_frontal.jpg,1{',0' * 13}\n"
)
# The published labels of the test set: a row for each study, whose films it does not name.
GROUND_TRUTH = f"Study,{','.join(FINDINGS)}\nCheXpert-v1.0/test/patient64741/study1,0,1{',0' * 12}\n"
FILMS = (
    "patient00001/study1/view1_frontal.jpg",
    "patient00002/study2/view1_frontal.jpg",
    "patient00002/study2/view2_lateral.jpg",
    "patient00003/study1/view1_frontal.jpg",
)


def expected(hidden) -> dict:
    one, two, three, valid, test = (
        hidden("chexpert", "patient", f"patient{number}") for number in ("00001", "00002", "00003", "64541", "64741")
    )
    uncertain = {
        "Cardiomegaly": -1,
        "Lung Opacity": 1,
        "Edema": -1,
        "Pleural Effusion": -1,
        "Fracture": 1,
    }
    none = dict.fromkeys(FINDINGS, 0)
    return {
        FILMS[0]: (one, "AP", "train", 68.0, "F", {"No Finding": 1, "Pneumothorax": 0, "Support Devices": 1}),
        FILMS[1]: (two, "PA", "train", 87.0, "M", uncertain),
        FILMS[2]: (two, "LATERAL", "train", 87.0, "M", uncertain),
        # Called frontal, and lateral in the next column: not to be guessed. Age 0 is unknown.
        FILMS[3]: (three, "UNKNOWN", "train", None, None, {}),
        "patient64541/study1/view1_frontal.jpg": (valid, "AP", "valid", 73.0, "M", none | {"No Finding": 1}),
        "patient64741/study1/view1_frontal.jpg": (
            test,
            "UNKNOWN",
            "test",
            None,
            None,
            none | {"Enlarged Cardiomediastinum": 1},
        ),
    }


COLUMNS = ("patient_id", "view", "split", "age", "sex")


def test_the_small_release_becomes_the_expected_table(tmp_path: Path, draw, store_of, rows_of, hidden):
    folder = tmp_path / "CheXpert-v1.0-small"
    draw(folder, *(f"train/{film}" for film in FILMS), "valid/patient64541/study1/view1_frontal.jpg")
    draw(folder, "test/patient64741/study1/view1_frontal.jpg")
    (folder / "train.csv").write_text(train("CheXpert-v1.0-small"))
    (folder / "valid.csv").write_text(valid("CheXpert-v1.0-small"))
    (folder / "test_labels.csv").write_text(TEST)
    store = store_of(CheXpertSource(folder, views="all"))
    assert store.findings == FINDINGS
    assert rows_of(store, *COLUMNS) == expected(hidden)


def test_the_full_release_in_its_batches_becomes_the_same_table(tmp_path: Path, draw, store_of, rows_of, hidden):
    folder = tmp_path / "chexpertchestxrays-u20210408"
    draw(folder / "CheXpert-v1.0 batch 2 (train 1)", *FILMS[:1])
    draw(folder / "CheXpert-v1.0 batch 3 (train 2)", *FILMS[1:])
    first = draw(folder / "CheXpert-v1.0 batch 1 (validate & csv)", "valid/patient64541/study1/view1_frontal.jpg")
    draw(folder / "test", "patient64741/study1/view1_frontal.jpg")
    (first / "train.csv").write_text(train("CheXpert-v1.0"))
    (first / "valid.csv").write_text(valid("CheXpert-v1.0"))
    (folder / "groundtruth.csv").write_text(GROUND_TRUTH)
    # The tables of other labelling programs lie beside it and are not read.
    (folder / "train_visualCheXbert.csv").write_text("Path,Pleural Effusion\n")
    assert rows_of(store_of(CheXpertSource(folder, views="all")), *COLUMNS) == expected(hidden)


def test_laterals_are_left_out_and_counted_unless_asked_for(tmp_path: Path, draw, store_of, rows_of, skipped_of):
    folder = draw(tmp_path / "small", *(f"train/{film}" for film in FILMS))
    (folder / "train.csv").write_text(train("CheXpert-v1.0-small"))
    store = store_of(CheXpertSource(folder))
    assert set(rows_of(store)) == {FILMS[0], FILMS[1], FILMS[3]}
    assert skipped_of(store) == {f"train/{FILMS[2]}": "not a frontal view: lateral"}


def test_the_row_of_a_study_stands_for_all_its_films_and_counts_once(tmp_path: Path, draw):
    views = [f"test/patient64741/study1/{view}.jpg" for view in ("view1_frontal", "view2_lateral")]
    folder = draw(tmp_path / "small", *views, "test/patient64741/study2/view1_frontal.jpg")
    (folder / "groundtruth.csv").write_text(f"{GROUND_TRUTH}CheXpert-v1.0/test/patient64999/study1{',0' * 14}\n")
    listing = CheXpertSource(folder, views="all").read(str)
    labels = dict.fromkeys(FINDINGS, 0) | {"Enlarged Cardiomediastinum": 1}
    assert [(record.view, record.split, record.findings) for record in listing.records] == [
        ("UNKNOWN", "test", labels),
        ("LATERAL", "test", labels),
    ]
    assert listing.skipped == [("test/patient64741/study2/view1_frontal.jpg", "no row in groundtruth.csv")]
    assert listing.notes == ["labels read from groundtruth.csv", "1 rows of the tables have no film here"]
    (folder / "groundtruth.csv").write_text(GROUND_TRUTH + GROUND_TRUTH.splitlines()[1])
    with pytest.raises(ScarceError, match=r"patient64741/study1 again in row 3 of groundtruth\.csv"):
        CheXpertSource(folder).read(str)


def test_a_table_without_labels_gives_films_without_and_stands_back_for_one_with(tmp_path: Path, draw):
    tested = "patient64741/study1/view1_frontal.jpg"
    folder = draw(tmp_path / "small", *(f"train/{film}" for film in FILMS), f"test/{tested}")
    (folder / "train.csv").write_text(train("CheXpert-v1.0-small"))
    (folder / "test.csv").write_text(f"Path\ntest/{tested}\n")
    listing = CheXpertSource(folder).read(str)
    findings = {record.image_id: record.findings for record in listing.records}
    assert len(findings) == 4
    assert findings[tested] == {}
    assert findings[FILMS[0]]["No Finding"] == 1
    assert listing.notes == ["labels read from train.csv", "no labels in test.csv: its films have none"]
    (folder / "labels").mkdir()
    (folder / "labels" / "groundtruth.csv").write_text(GROUND_TRUTH)
    records = {record.image_id: record for record in CheXpertSource(folder).read(str).records}
    assert records[tested].findings["Enlarged Cardiomediastinum"] == 1
    (folder / "test.csv").write_text("Film\n")
    (folder / "labels" / "groundtruth.csv").unlink()
    with pytest.raises(ScarceError, match=r"Path or Study in test\.csv.*columns there: Film"):
        CheXpertSource(folder).read(str)


def test_two_rows_for_a_film_and_no_table_at_all_are_refused(tmp_path: Path, draw):
    folder = draw(tmp_path / "small", f"train/{FILMS[0]}")
    with pytest.raises(ScarceError, match=r"train\.csv, valid\.csv or test_labels\.csv"):
        CheXpertSource(folder).read(str)
    row = train("CheXpert-v1.0-small").splitlines()[1]
    (folder / "train.csv").write_text(f"{HEADER}\n{row}\n{row}\n")
    with pytest.raises(ScarceError, match="again in row 3"):
        CheXpertSource(folder).read(str)


def test_a_film_whose_path_names_no_patient_is_left_out_with_a_reason(tmp_path: Path, draw):
    folder = draw(tmp_path / "small", *(f"train/{film}" for film in FILMS), "extra.jpg")
    (folder / "train.csv").write_text(train("CheXpert-v1.0-small"))
    (folder / "test.csv").write_text("Path\nextra.jpg\n")
    listing = CheXpertSource(folder).read(str)
    assert ("extra.jpg", "its path does not end in patient, study and view") in listing.skipped
    assert len(listing.records) == 3
