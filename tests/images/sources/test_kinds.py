"""Every collection is recognised by its own files and by no other's."""

import pytest

from scarce_cxr.images.sources import recognise

LAYOUTS = {
    "nih": ["images_001.tar.gz/images/00000001_000.png", "Data_Entry_2017_v2020.csv", "test_list.txt"],
    "padchest": ["0/a.png", "labels/PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv.gz"],
    "chexpert": ["archive.zip/CheXpert-v1.0-small/train/patient00001/study1/view1_frontal.jpg", "train.csv"],
    "mimic": ["mimic-cxr-2.0.0-metadata.csv.gz", "files/p10/p10000032/s50414267/02aa804e.jpg"],
    "vindr": ["annotations/image_labels_train.csv", "train/aaa.dicom"],
    "rsna": ["all.zip/stage_2_train_labels.csv", "all.zip/stage_2_train_images/0004cfab.dcm"],
    "siim": ["train-rle.csv", "dicom-images-train/1/2/3.dcm"],
    "montgomery": ["MontgomerySet/CXR_png/MCUCXR_0001_0.png"],
    "shenzhen": ["CXR_png/CHNCXR_0001_0.png", "ClinicalReadings/CHNCXR_0001_0.txt"],
    None: ["films/a.png", "labels.csv", "train.csv"],
}


@pytest.mark.parametrize("kind", LAYOUTS)
def test_a_layout_is_recognised(kind: str | None):
    assert recognise(LAYOUTS[kind]) == kind
