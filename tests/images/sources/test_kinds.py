"""Every collection is recognised by its own files and by no other's."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scarce_cxr.commands.prepare import prepare
from scarce_cxr.images.sources import list_files, recognise

# What DICOM files begin with: 128 bytes of anything, then four letters.
DICOM = bytes(128) + b"DICM" + bytes(64)

LAYOUTS = {
    "nih": ["images_001.tar.gz/images/00000001_000.png", "Data_Entry_2017_v2020.csv", "test_list.txt"],
    "padchest": ["0/a.png", "labels/PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv.gz"],
    "chexpert": ["archive.zip/CheXpert-v1.0-small/train/patient00001/study1/view1_frontal.jpg", "train.csv"],
    "mimic": ["mimic-cxr-2.0.0-metadata.csv.gz", "files/p10/p10000032/s50414267/02aa804e.jpg"],
    "vindr": ["annotations/image_labels_train.csv", "train/aaa.dicom"],
    "rsna": ["all.zip/stage_2_train_labels.csv", "all.zip/stage_2_train_images/0004cfab.dcm"],
    "siim": ["train-rle.csv", "dicom-images-train/1/2/3.dcm"],
    "montgomery": ["MontgomerySet/CXR_png/MCUCXR_0001_0.png"],
    "dicom": ["DICOMDIR", "DICOM/PA0/ST0/SE0/IM0", "viewer/a.bmp", "viewer/b.bmp"],
    "shenzhen": ["CXR_png/CHNCXR_0001_0.png", "ClinicalReadings/CHNCXR_0001_0.txt"],
    None: ["films/a.png", "labels.csv", "train.csv"],
}


@pytest.mark.parametrize("kind", LAYOUTS)
def test_a_layout_is_recognised(kind: str | None):
    assert recognise(LAYOUTS[kind]) == kind


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        (["a.DCM", "b.dcm", "report.jpg"], "dicom"),
        (["a.dicom", "viewer/icon.gif"], "dicom"),
        (["a.dcm", "b.webp", "c.png"], None),
        (["report.pdf", "viewer.exe"], None),
    ],
)
def test_dicom_files_are_recognised_unless_pictures_outnumber_them(names: list[str], kind: str | None):
    assert recognise(names) == kind


def written(folder: Path, contents: dict[str, bytes]) -> Path:
    for name, content in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def test_files_without_a_suffix_are_recognised_by_their_content(tmp_path: Path):
    films = {f"ST0/IM{number:06d}": DICOM for number in range(40)} | {"ST1/1.2.840.7": DICOM}
    others = {"viewer/icon.png": b"x", "viewer/start": b"x", "README": b"read me", "report.txt": DICOM}
    assert recognise(list_files(written(tmp_path / "pacs", films | others))) == "dicom"
    assert recognise(list_files(written(tmp_path / "none", others))) is None
    # Few beside many pictures: three of a hundred unknown files at most.
    pictures = {f"{number}.png": b"x" for number in range(20)}
    unknown = {f"{number:03d}": DICOM if number < 3 else b"x" for number in range(100)}
    assert recognise(list_files(written(tmp_path / "few", pictures | unknown))) is None


def test_files_without_a_suffix_are_recognised_in_an_archive(tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "export.zip", "w") as archive:
        archive.writestr("ST0/IM0", DICOM)
    assert recognise(list_files(tmp_path / "export.zip")) == "dicom"


@pytest.mark.parametrize(
    ("header", "film", "kind"),
    [
        ("image_id,class_name,class_id,rad_id,x_min,y_min,x_max,y_max", "train/aaa.png", "vindr"),
        ("image_id,class_name,class_id,rad_id,x_min,y_min,x_max,y_max", "train/aaa.dicom", "vindr"),
        ("Path,Sex,Age,Frontal/Lateral,AP/PA,Mass", "train/patient00001/study1/view1_frontal.jpg", "chexpert"),
        ("Path,Sex,Age,Frontal/Lateral,AP/PA,Mass", "train/aaa.png", None),
        ("\udcff", "train/aaa.png", None),
    ],
)
def test_a_table_that_several_collections_have_is_told_by_its_header(tmp_path: Path, header: str, film: str, kind):
    table = (header + "\n").encode("utf-8", "surrogateescape")
    assert recognise(list_files(written(tmp_path, {"train.csv": table, film: b"x"}))) == kind


def test_a_file_that_cannot_be_read_tells_nothing(tmp_path: Path):
    (tmp_path / "IM0").symlink_to(tmp_path / "nowhere")
    assert recognise(list_files(tmp_path)) is None


@pytest.mark.parametrize("names", [["IM0.dcm", "IM1.dcm"], ["DICOM/ST0/IM0", "DICOM/ST0/IM1"]])
def test_an_export_with_a_stray_picture_becomes_a_store_of_its_radiographs(
    write_dicom, tmp_path: Path, names: list[str]
):
    random = np.random.default_rng(0)
    for name in names:
        write_dicom(tmp_path / "cd" / name, random.integers(0, 4096, (40, 30), dtype=np.uint16))
    (tmp_path / "cd/viewer").mkdir()
    Image.fromarray(random.integers(0, 256, (32, 32), dtype=np.uint8)).save(tmp_path / "cd/viewer/icon.bmp")
    prepared = prepare(tmp_path / "cd", tmp_path / "store", size=24, jobs=1)
    assert ["films", 2] in prepared.tables[0].rows
    assert prepared.tables[1].rows == [["not a DICOM file", 1]]
