"""A miniature of ChestX-ray14 in its archives becomes the table that labels, lists and boxes say."""

import tarfile
from pathlib import Path

import pytest

from scarce_cxr.images.sources import CommonNames, NihSource

HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient {},View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)
ROWS = (
    "00000001_000.png,Cardiomegaly|Emphysema,0,1,058Y,M,PA,2682,2749,0.143,0.143",
    "00000001_001.png,No Finding,1,1,058Y,M,PA,2894,2729,0.143,0.143",
    "00000002_000.png,Effusion|Pleural_Thickening,0,2,018M,F,AP,2500,2048,0.168,0.168",
)
BOXES = (
    "Image Index,Finding Label,Bbox [x,y,w,h],,,\n"
    "00000001_000.png,Cardiomegaly,256.0,512.0,128.0,64.0,,,\n00000002_000.png,Infiltrate,0.0,0.0,1024.0,1024.0,,,\n"
)


def lists(folder: Path) -> None:
    (folder / "train_val_list.txt").write_text("00000001_000.png\n00000001_001.png")
    (folder / "test_list.txt").write_text("00000002_000.png\n")
    (folder / "BBox_List_2017_Official_NIH.csv").write_text(BOXES)


def expected(hidden) -> dict:
    one, two = (hidden("nih", "patient", name) for name in "12")
    first, second, other = (hidden("nih", "study", name) for name in ("1 0", "1 1", "2 0"))
    return {
        "00000001_000.png": (one, first, "PA", "train_val", 58.0, "M", 0.143, {"Cardiomegaly", "Emphysema"}),
        "00000001_001.png": (one, second, "PA", "train_val", 58.0, "M", 0.143, {"No Finding"}),
        "00000002_000.png": (two, other, "AP", "test", 1.5, "F", 0.168, {"Effusion", "Pleural_Thickening"}),
    }


COLUMNS = ("patient_id", "study_id", "view", "split", "age", "sex", "pixel_spacing_mm")


def present(rows: dict) -> dict:
    return {key: (*row[:-1], {finding for finding, label in row[-1].items() if label}) for key, row in rows.items()}


@pytest.fixture
def archived(tmp_path: Path, draw) -> Path:
    """The tar.gz files as they are downloaded, and the table of 2017, whose rows end in a comma."""
    folder, films = tmp_path / "nih", draw(tmp_path / "films", *(row.split(",")[0] for row in ROWS))
    folder.mkdir()
    for number, names in enumerate((["00000001_000.png", "00000001_001.png"], ["00000002_000.png"]), 1):
        with tarfile.open(folder / f"images_{number:03d}.tar.gz", "w:gz") as archive:
            for name in names:
                archive.add(films / name, f"images/{name}")
    (folder / "Data_Entry_2017.csv").write_text("".join(f"{line},\n" for line in (HEADER.format("Gender"), *ROWS)))
    lists(folder)
    return folder


def test_archives_with_the_table_of_2017_become_the_expected_table(archived: Path, store_of, rows_of, hidden):
    store = store_of(NihSource(archived))
    rows = rows_of(store, *COLUMNS)
    assert present(rows) == expected(hidden)
    # What a row does not name is absent, for each of the fifteen.
    assert all(len(row[-1]) == 15 for row in rows.values())
    # 1,024 pixels become 16; the owner's other word for infiltration is replaced.
    assert store.boxes.to_numpy().tolist() == [
        ["00000001_000.png", "Cardiomegaly", 4.0, 8.0, 2.0, 1.0],
        ["00000002_000.png", "Infiltration", 0.0, 0.0, 16.0, 16.0],
    ]


def test_nested_folders_with_the_table_of_2020_become_the_same_table(tmp_path: Path, draw, store_of, rows_of, hidden):
    names = [row.split(",")[0] for row in ROWS]
    folder = draw(tmp_path / "kaggle", f"images_001/images/{names[0]}", *(f"images_002/images/{n}" for n in names[1:]))
    (folder / "Data_Entry_2017_v2020.csv").write_text("\n".join([HEADER.format("Sex"), *ROWS]))
    lists(folder)
    assert present(rows_of(store_of(NihSource(folder)), *COLUMNS)) == expected(hidden)


def test_common_names_follow_into_the_boxes(archived: Path):
    listing = CommonNames(NihSource(archived)).read(str)
    assert {"Pleural Effusion", "Pleural Thickening", "Nodule or Mass"} <= set(listing.findings)
    assert not {"Effusion", "Pleural_Thickening"} & set(listing.findings)
    last = listing.records[-1]
    assert (last.findings["Pleural Effusion"], last.findings["Nodule or Mass"]) == (1, 0)
