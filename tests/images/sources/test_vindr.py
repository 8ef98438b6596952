"""A miniature of VinDr-CXR: three readers become one label by the rule chosen, and their boxes one box a spot."""

from pathlib import Path

import numpy as np
import pytest

from scarce_cxr.errors import ScarceError
from scarce_cxr.images.sources import VinDrSource
from scarce_cxr.images.sources.vindr import decide, mean_places
from scarce_cxr.images.splits import refuse_unknown_patients

# The two tables of labels spell two of their columns differently: rad_id is missing, and "Other disease(s)".
TRAIN = """\
image_id,rad_ID,Cardiomegaly,Nodule/Mass,Other diseases,No finding
aaa,R1,1,0,0,0
aaa,R2,1,1,0,0
aaa,R3,0,0,0,0
bbb,R4,0,0,0,1
bbb,R5,0,0,0,1
bbb,R6,0,0,1,0
"""
TEST = "image_id,Cardiomegaly,Nodule/Mass,Other disease,No finding\nccc,0,0,1,0\n"
PLACES = """\
image_id,rad_id,class_name,x_min,y_min,x_max,y_max
aaa,R1,Cardiomegaly,10.0,20.0,30.0,40.0
aaa,R2,Cardiomegaly,12.0,20.0,34.0,40.0
aaa,R2,Nodule/Mass,0.0,0.0,4.0,8.0
aaa,R3,No finding,,,,
bbb,R4,No finding,,,,
"""


@pytest.fixture
def miniature(tmp_path: Path, draw_dicom) -> Path:
    folder = tmp_path / "vindr-cxr"
    (folder / "annotations").mkdir(parents=True)
    # 40 wide and 80 high.
    draw_dicom(folder / "train" / "aaa.dicom", view="", age="061Y", sex="M", shape=(80, 40))
    draw_dicom(folder / "train" / "bbb.dicom", view="", age="", sex="O", shape=(80, 40))
    draw_dicom(folder / "test" / "ccc.dicom", view="", age="000Y", sex="F", shape=(80, 40))
    for name, text in (
        ("image_labels_train", TRAIN),
        ("image_labels_test", TEST),
        ("annotations_train", PLACES),
        ("annotations_test", "image_id,class_name,x_min,y_min,x_max,y_max\nccc,Other disease,0,0,40,40\n"),
    ):
        (folder / "annotations" / f"{name}.csv").write_text(text)
    return folder


def test_the_miniature_becomes_the_expected_table(miniature: Path, store_of, rows_of):
    store = store_of(VinDrSource(miniature))
    none = {"Cardiomegaly": 0, "Nodule/Mass": 0, "Other diseases": 0, "No finding": 0}
    assert rows_of(store, "patient_id", "view", "split", "age", "sex") == {
        "aaa": (None, "PA", "train", 61.0, "M", none | {"Cardiomegaly": 1}),
        "bbb": (None, "PA", "train", None, None, none | {"No finding": 1}),
        # Adults only: 000Y is unknown.
        "ccc": (None, "PA", "test", None, "F", none | {"Other diseases": 1}),
    }
    with pytest.raises(ScarceError, match="one of kind vindr, whose files do not tell"):
        refuse_unknown_patients(store.settings)


@pytest.mark.parametrize(
    ("rule", "seen", "unsure"),
    [
        ("majority", {"aaa": {"Cardiomegaly"}, "bbb": {"No finding"}}, set()),
        ("any", {"aaa": {"Cardiomegaly", "Nodule/Mass"}, "bbb": {"Other diseases"}}, set()),
        # A finding needs all three, and so one reader who saw none is enough for "No finding".
        ("all", {"aaa": set(), "bbb": {"No finding"}}, set()),
        ("uncertain", {"aaa": set(), "bbb": set()}, {"Cardiomegaly", "Nodule/Mass", "Other diseases", "No finding"}),
    ],
)
def test_the_rule_of_consensus_is_a_setting(miniature: Path, rule: str, seen: dict, unsure: set):
    records = {record.image_id: record for record in VinDrSource(miniature, readers=rule).read(str).records}
    for image_id, findings in seen.items():
        assert {finding for finding, label in records[image_id].findings.items() if label == 1} == findings
    found = {finding for record in records.values() for finding, label in record.findings.items() if label == -1}
    assert found == unsure


@pytest.mark.parametrize(
    ("rule", "labels"),
    [("majority", [0, 0, 1, 1]), ("any", [0, 1, 1, 1]), ("all", [0, 0, 0, 1]), ("uncertain", [0, -1, -1, 1])],
)
def test_rules_on_no_to_three_of_three_votes(rule: str, labels: list[int]):
    assert [decide(votes, 3, rule) for votes in range(4)] == labels


def test_boxes_are_averaged_where_most_readers_drew_one(miniature: Path):
    (record,) = [record for record in VinDrSource(miniature).read(str).records if record.image_id == "aaa"]
    # x from (10 + 12) / 2 to (30 + 34) / 2 of 40, y from 20 to 40 of 80; the nodule's single box is gone.
    (box,) = record.boxes
    assert (box.finding, box.left, box.top, box.width, box.height) == (
        "Cardiomegaly",
        pytest.approx(11 / 40),
        0.25,
        pytest.approx(21 / 40),
        0.25,
    )


def test_all_readers_boxes_can_be_kept(miniature: Path):
    records = {r.image_id: r for r in VinDrSource(miniature, boxes="all").read(str).records}
    assert [box.finding for box in records["aaa"].boxes] == ["Cardiomegaly", "Cardiomegaly", "Nodule/Mass"]
    assert [(box.finding, box.height) for box in records["ccc"].boxes] == [("Other diseases", 0.5)]


def test_boxes_of_two_spots_stay_two():
    places = np.array([[0, 0, 10, 10], [50, 50, 60, 60], [2, 0, 12, 10], [50, 50, 60, 62]], float)
    readers = ["R1", "R1", "R2", "R3"]
    assert mean_places(places, readers, 2).tolist() == [[1, 0, 11, 10], [50, 50, 60, 61]]
    assert mean_places(places[:2], readers[:2], 2).shape == (0, 4)
    # One reader's two boxes of one spot are one reader.
    assert len(mean_places(places[[0, 2]], ["R1", "R1"], 2)) == 0


def test_kaggles_table_of_boxes_alone_gives_the_labels_too(tmp_path: Path, draw, store_of, rows_of):
    folder = draw(tmp_path / "kaggle", "train/aaa.png", "train/bbb.png", "test/ddd.png")
    (folder / "train.csv").write_text(
        "image_id,class_name,class_id,rad_id,x_min,y_min,x_max,y_max\n"
        "aaa,Cardiomegaly,3,R1,10,20,30,40\naaa,Cardiomegaly,3,R1,11,20,30,40\naaa,Cardiomegaly,3,R2,12,20,34,40\n"
        "aaa,No finding,14,R3,,,,\n" + "".join(f"bbb,No finding,14,R{n},,,,\n" for n in (1, 2, 3))
    )
    source = VinDrSource(folder)
    assert rows_of(store_of(source), "split") == {
        "aaa": ("train", {"Cardiomegaly": 1, "No finding": 0}),
        "bbb": ("train", {"Cardiomegaly": 0, "No finding": 1}),
        # The competition keeps these labels to itself.
        "ddd": ("test", {}),
    }
    assert any("1 films that are no DICOM" in note for note in source.read(str).notes)


def test_what_is_missing_or_misspelt_is_named(tmp_path: Path, draw):
    with pytest.raises(ScarceError, match=r"image_labels_train\.csv \(PhysioNet\) or train\.csv \(Kaggle\)"):
        VinDrSource(draw(tmp_path / "empty", "a.png")).read(str)
    with pytest.raises(ScarceError, match="readers = most"):
        VinDrSource(tmp_path, readers="most")
