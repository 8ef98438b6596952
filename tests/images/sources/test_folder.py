"""A miniature of a user's folder, partly in archives, becomes the table that its csv says, and tells no name."""

import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scarce_cxr.errors import ScarceError
from scarce_cxr.images.prepare import prepare
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


def test_every_picture_that_is_decoded_is_taken(tmp_path: Path, draw, store_of):
    names = ["a.webp", "a.gif", "a.jp2", "a.pgm", "a.dib", "a.jfif", "a.PNG"]
    store = store_of(FolderSource(draw(tmp_path / "films", *names)))
    assert len(store) == len(names)
    assert "voi" not in store.settings


def test_a_dicom_file_is_left_out_with_a_word_on_which_kind_reads_it(
    tmp_path: Path, draw, draw_dicom, store_of, skipped_of
):
    folder = draw(tmp_path / "films", "a.png")
    for name in ("b.dcm", "c.DICOM", "d", "1.2.840.7", "e.ima", "f.png"):
        draw_dicom(folder / name)
    (folder / "notes.txt").write_text("no film")
    (folder / "start").write_text("no film")
    with zipfile.ZipFile(folder / "monday.zip", "w") as archive:
        archive.write(folder / "d", "IM0")
    store = store_of(FolderSource(folder))
    names = {"b.dcm", "c.DICOM", "d", "1.2.840.7", "e.ima", "f.png", "monday.zip/IM0"}
    assert skipped_of(store) == dict.fromkeys(names, "a DICOM file, which the kind dicom reads")
    assert len(store) == 1


def test_a_folder_of_dicom_files_alone_names_their_kind(tmp_path: Path, draw_dicom):
    draw_dicom(tmp_path / "films" / "IM0")
    with pytest.raises(ScarceError, match="but 1 DICOM files: take --kind dicom"):
        FolderSource(tmp_path / "films").read(str)


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_table_is_read_whatever_its_separator_and_spaces(tmp_path: Path, draw, separator: str):
    folder = draw(tmp_path / "films", "a.png", "b.png")
    table = tmp_path / "labels.csv"
    rows = [["file", " who", " Mass"], ["a.png ", "Ann", " 1"], ["b.png", "Bob", ""], ["c.png", "Cid", "1"]]
    table.write_text("".join(separator.join(row) + "\n" for row in rows))
    listing = FolderSource(folder, table, patient_column="who", label_columns=["Mass"]).read(str)
    assert {record.name: (record.patient, record.findings) for record in listing.records} == {
        "a.png": ("Ann", {"Mass": 1}),
        "b.png": ("Bob", {}),
    }


def test_rows_without_a_film_are_counted(tmp_path: Path, draw):
    folder = draw(tmp_path / "films", "a.png")
    table = tmp_path / "labels.csv"
    table.write_text("file\na.png\ngone.png\nlost.png\n")
    assert "2 rows of labels.csv have no film here" in FolderSource(folder, table).read(str).notes


def test_pictures_that_are_damaged_do_not_stand_in_the_way_of_whole_ones(tmp_path: Path):
    folder = tmp_path / "films"
    folder.mkdir()
    (folder / "a.png").write_text("no picture")
    (tmp_path / "key").write_text("00" * 32)
    with pytest.raises(ScarceError, match=r"none: 1 x not an image: see .*skipped\.csv"):
        prepare(FolderSource(folder), tmp_path / "store", size=16, jobs=1)
    assert not (tmp_path / "store").exists()
    Image.fromarray(np.arange(400, dtype=np.uint8).reshape(20, 20)).save(folder / "b.png")
    made = prepare(FolderSource(folder), tmp_path / "store", size=32, jobs=1, key_file=tmp_path / "key")
    assert (made.films, made.skipped) == (1, {"not an image": 1})
