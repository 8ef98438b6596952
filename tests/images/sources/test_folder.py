"""A miniature of a user's folder, partly in archives, becomes the table that its csv says, and tells no name."""

import tarfile
import zipfile
from pathlib import Path

from scarce_cxr.images.sources import FolderSource


def test_folders_and_archives_become_one_table(tmp_path: Path, draw, store_of, rows_of, hidden):
    folder = draw(tmp_path / "films", "ward/ann_1.png")
    films = draw(tmp_path / "others", "ann_2.png", "bob_1.tif", "bob_2.bmp")
    with zipfile.ZipFile(folder / "monday.zip", "w") as archive:
        archive.write(films / "ann_2.png", "ann_2.png")
    with tarfile.open(folder / "tuesday.tgz", "w:gz") as archive:
        archive.add(films / "bob_1.tif", "sub/bob_1.tif")
        archive.add(films / "bob_2.bmp", "sub/bob_2.bmp")
    table = tmp_path / "labels.csv"
    table.write_text("film,who,Mass\nann_1.png,Ann,1\nmonday.zip/ann_2.png,Ann,0\nbob_1.tif,Bob,-1\nbob_2.bmp,Bob,\n")
    source = FolderSource(folder, table, patient_column="who", label_columns=["Mass"])
    ann, bob = (hidden("folder", "patient", name) for name in ("Ann", "Bob"))
    rows = rows_of(store_of(source), "patient_id", "view")
    assert rows == {
        hidden("folder", "image", "ward/ann_1.png"): (ann, "UNKNOWN", {"Mass": 1}),
        hidden("folder", "image", "monday.zip/ann_2.png"): (ann, "UNKNOWN", {"Mass": 0}),
        hidden("folder", "image", "tuesday.tgz/sub/bob_1.tif"): (bob, "UNKNOWN", {"Mass": -1}),
        hidden("folder", "image", "tuesday.tgz/sub/bob_2.bmp"): (bob, "UNKNOWN", {}),
    }


def test_a_single_archive_is_a_folder_too(tmp_path: Path, draw, store_of, hidden):
    film = draw(tmp_path, "a.png") / "a.png"
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.write(film, "ward/a.png")
    store = store_of(FolderSource(tmp_path / "all.zip", patient_pattern="^([^/]+)/"))
    assert store.table["patient_id"].tolist() == [hidden("folder", "patient", "ward")]
