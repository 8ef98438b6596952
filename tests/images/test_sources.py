"""Sources find every film, join its labels as an independent reader does, and refuse what they would have to guess."""

from pathlib import Path

import pandas as pd
import pytest

from scarce_cxr.errors import ScarceError
from scarce_cxr.images.sources import FolderSource, Listing, NihSource

HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)


def touched(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    return folder


def nih(folder: Path, *rows: str, header: str = HEADER, name: str = "Data_Entry_2017.csv", comma: str = ",") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text("".join(f"{line}{comma}\n" for line in (header, *rows)))
    return folder


def read(source) -> Listing:
    return source.read(lambda name: f"hash of {name}")


def test_nih_equals_pandas_on_the_real_table(nih_folder: Path):
    listing = read(NihSource(nih_folder))
    # The header of the 2020 release, whose rows are the same, needs no mending beyond its two split names.
    reference = pd.read_csv(nih_folder / "Data_Entry_2017_v2020.csv").set_index("Image Index")
    assert [record.image_id for record in listing.records] == sorted(reference.index)
    for record in listing.records:
        row = reference.loc[record.image_id]
        assert record.patient == str(row["Patient ID"])
        assert (record.view, record.sex, record.age) == (
            row["View Position"],
            row["Patient Gender"],
            row["Patient Age"],
        )
        assert record.pixel_spacing_mm == pytest.approx(row["OriginalImagePixelSpacing[x"])
        present = {finding for finding, label in record.findings.items() if label}
        assert present == set(row["Finding Labels"].split("|"))
    assert listing.skipped == []
    assert "Data_Entry_2017.csv (not from Data_Entry_2017_v2020.csv)" in listing.notes[0]


def test_nih_boxes_equal_the_owners(nih_folder: Path):
    boxes = [(r.image_id, box) for r in read(NihSource(nih_folder)).records for box in r.boxes]
    lines = (nih_folder / "BBox_List_2017.csv").read_text().splitlines()
    assert len(boxes) == len(lines) - 1 == 49
    box = next(box for image_id, box in boxes if image_id == "00008365_000.png")
    # 00008365_000.png,Cardiomegaly,337.898305084746,509.559322033898,417.627118644068,403.525423728814
    assert box.finding == "Cardiomegaly"
    assert box.left * 1024 == pytest.approx(337.898305084746)
    assert box.height * 1024 == pytest.approx(403.525423728814)
    assert "Infiltrate" not in {box.finding for _, box in boxes}


def test_nih_reads_both_generations_alike(tmp_path: Path):
    row = "00000001_000.png,Mass|Edema,0,1,058Y,F,PA,2048,2500,0.143,0.143"
    old = touched(nih(tmp_path / "old", row), "images_001/images/00000001_000.png")
    new = touched(nih(tmp_path / "new", row, name="Data_Entry_2017_v2020.csv", comma=""), "deep/er/00000001_000.png")
    for folder in (old, new):
        (record,) = read(NihSource(folder)).records
        assert (record.age, record.sex, record.view, record.pixel_spacing_mm) == (58, "F", "PA", 0.143)
        assert {finding for finding, label in record.findings.items() if label} == {"Mass", "Edema"}


def test_nih_always_has_its_fifteen_columns_and_appends_others(tmp_path: Path):
    rows = ("a.png,Zebra|Mass,0,1,30,M,PA,1,1,0.1,0.1", "b.png,Aardvark,0,2,30,M,PA,1,1,0.1,0.1")
    listing = read(NihSource(touched(nih(tmp_path, *rows), "a.png", "b.png")))
    # In the owner's order.
    assert listing.findings[:8] == [
        "Atelectasis",
        "Cardiomegaly",
        "Effusion",
        "Infiltration",
        "Mass",
        "Nodule",
        "Pneumonia",
        "Pneumothorax",
    ]
    assert listing.findings[8:13] == ["Consolidation", "Edema", "Emphysema", "Fibrosis", "Pleural_Thickening"]
    assert listing.findings[13:15] == ["Hernia", "No Finding"]
    assert listing.findings[15:] == ["Aardvark", "Zebra"]
    assert listing.records[0].findings["Aardvark"] == 0


@pytest.mark.parametrize(
    ("text", "years"), [("58", 58), ("058Y", 58), ("018M", 1.5), ("000D", 0), ("414", None), ("", None), ("old", None)]
)
def test_nih_ages_are_years_or_unknown(tmp_path: Path, text: str, years: float | None):
    row = f"a.png,No Finding,0,1,{text},M,PA,1,1,0.1,0.1"
    assert read(NihSource(touched(nih(tmp_path, row), "a.png"))).records[0].age == years


def test_nih_takes_the_official_split_and_counts_what_is_missing(tmp_path: Path):
    rows = [f"{name}.png,No Finding,0,1,30,M,AP,1,1,0.1,0.1" for name in "abcde"]
    folder = touched(nih(tmp_path, *rows), "x/a.png", "x/b.png", "x/c.png", "y/a.png", "y/stranger.png", "y/._a.png")
    (folder / "train_val_list.txt").write_text("a.png\nd.png\n")
    (folder / "test_list.txt").write_text("b.png\r\n")
    listing = read(NihSource(folder))
    assert {record.image_id: record.split for record in listing.records} == {
        "a.png": "train_val",
        "b.png": "test",
        "c.png": None,
    }
    assert listing.skipped == [
        ("y/a.png", "another file has its name"),
        ("y/stranger.png", "no row in Data_Entry_2017.csv"),
    ]
    assert any(note.startswith("2 rows") for note in listing.notes)


def test_nih_says_what_is_missing_and_what_there_is(tmp_path: Path):
    with pytest.raises(ScarceError, match="no folder"):
        read(NihSource(tmp_path / "nowhere"))
    with pytest.raises(ScarceError, match=r"csv files there: labels\.csv"):
        read(NihSource(touched(tmp_path / "a", "labels.csv")))
    with pytest.raises(ScarceError, match=r"Patient ID.*columns there: Image Index, Finding Labels"):
        read(NihSource(nih(tmp_path / "b", header="Image Index,Finding Labels")))
    with pytest.raises(ScarceError, match="none among 1 picture"):
        read(NihSource(touched(nih(tmp_path / "c"), "a.png")))


def test_folder_finds_pictures_at_any_depth_and_hides_their_names(tmp_path: Path):
    touched(tmp_path, "a.PNG", "b/c.jpeg", "b/d/e.TIF", "notes.txt", ".hidden.png", "b/._c.jpeg", ".git/f.png")
    listing = read(FolderSource(tmp_path))
    assert {record.name for record in listing.records} == {"a.PNG", "b/c.jpeg", "b/d/e.TIF"}
    assert all(record.image_id == f"hash of {record.name}" for record in listing.records)
    assert all(record.patient is None for record in listing.records)


def test_folder_survives_a_link_that_leads_back(tmp_path: Path):
    touched(tmp_path, "a/b.png")
    (tmp_path / "a" / "back").symlink_to(tmp_path, target_is_directory=True)
    assert [record.name for record in read(FolderSource(tmp_path)).records] == ["a/b.png"]


def labelled(folder: Path, text: str) -> Path:
    table = folder / "labels.csv"
    table.write_text(text)
    return table


def test_folder_joins_by_path_or_by_file_name(tmp_path: Path):
    touched(tmp_path, "x/a.png", "y/a.png", "y/b.png", "y/c.png")
    table = labelled(tmp_path, "file,who,Mass,Edema\nx/a.png,Ann,1,\ny/a.png,Bob,-1,0\nb.png,,1.0,-1.0\n")
    options = {"path_column": "file", "patient_column": "who", "label_columns": ["Edema", "Mass"]}
    listing = read(FolderSource(tmp_path, table, **options))
    assert {record.name: (record.patient, record.findings) for record in listing.records} == {
        "x/a.png": ("Ann", {"Mass": 1}),
        "y/a.png": ("Bob", {"Mass": -1, "Edema": 0}),
        "y/b.png": (None, {"Mass": 1, "Edema": -1}),
        "y/c.png": (None, {}),
    }
    assert listing.findings == ["Edema", "Mass"]
    assert any(note.startswith("1 films have no row") for note in listing.notes)


def test_folder_finds_patients_by_a_pattern(tmp_path: Path):
    touched(tmp_path, "patient12/a.png", "patient7/b.png", "other/c.png")
    listing = read(FolderSource(tmp_path, patient_pattern=r"^patient(\d+)/"))
    assert {record.name: record.patient for record in listing.records} == {
        "patient12/a.png": "12",
        "patient7/b.png": "7",
        "other/c.png": None,
    }
    with pytest.raises(ScarceError, match="finds none"):
        read(FolderSource(tmp_path, patient_pattern=r"^person(\d+)/"))


@pytest.mark.parametrize(
    ("table", "options", "message"),
    [
        ("file\na.png\n", {}, "which is x/a.png and y/a.png"),
        ("file\nx/a.png\nx/a.png\n", {}, "rows 2 and 3 for x/a.png"),
        ("file\nnothing\n", {}, "columns there: file"),
        ("file,Mass\nx/a.png,yes\n", {"label_columns": ["Mass"]}, "'yes' in row 2"),
        ("file,Mass\nx/a.png,1\n", {"label_columns": ["Masses"]}, "columns there: file, Mass"),
        ("file,Mass\nx/a.png,1\n", {"patient_column": "who"}, "who"),
    ],
)
def test_folder_refuses_what_it_would_have_to_guess(tmp_path: Path, table: str, options: dict, message: str):
    touched(tmp_path, "x/a.png", "y/a.png")
    with pytest.raises(ScarceError, match=message):
        read(FolderSource(tmp_path, labelled(tmp_path, table), **options))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"patient_column": "who"}, "give the setting csv"),
        ({"csv": Path("t.csv"), "patient_column": "who", "patient_pattern": "(.)"}, "both"),
        ({"patient_pattern": "("}, "regular expression"),
        ({"patient_pattern": r"(\d)(\d)"}, "2 in"),
        ({"csv": Path("t.csv"), "label_columns": ["view"]}, "'view'"),
    ],
)
def test_folder_refuses_settings_that_contradict(options: dict, message: str):
    with pytest.raises(ScarceError, match=message):
        FolderSource(Path(), **options)
