"""A miniature of SIIM-ACR's challenge: masks become boxes, and the column's leading space hides nothing."""

from pathlib import Path

import numpy as np
import pytest

from scarce_cxr.errors import ScarceError
from scarce_cxr.images.sources import SiimSource
from scarce_cxr.images.sources.siim import box_of_runs

SERIES = "1.2.276.0.7230010.3.1.{}.8323329.300.1517875162.{}"
SICK, WELL, TESTED = (SERIES.format(4, number) for number in (258081, 258084, 258087))


def runs_of(mask: np.ndarray) -> np.ndarray:
    """A mask as the challenge encodes it, run by run: down the columns from the left, gaps between runs."""
    runs, gap, length = [], 0, 0
    for pixel in mask.T.ravel():
        if pixel:
            length += 1
        elif length:
            runs, gap, length = [*runs, (gap, length)], 1, 0
        else:
            gap += 1
    return np.array([*runs, (gap, length)] if length else runs)


def path_of(image_id: str, folder: str) -> str:
    number = int(image_id.rsplit(".", 1)[1])
    return f"{folder}/{SERIES.format(2, number - 1)}/{SERIES.format(3, number - 2)}/{image_id}.dcm"


@pytest.fixture
def miniature(tmp_path: Path, draw_dicom) -> Path:
    folder = tmp_path / "siim"
    draw_dicom(folder / path_of(SICK, "dicom-images-train"), view="AP", age="29", sex="M", spacing=0.168)
    draw_dicom(folder / path_of(WELL, "dicom-images-train"), view="PA", age="51", sex="F")
    draw_dicom(folder / path_of(TESTED, "dicom-images-test"), view="PA", age="60", sex="F")
    # A mask in columns 256 to 258, rows 512 to 515, and a single pixel in the corner.
    first = f"{256 * 1024 + 512} 4 1020 4 1020 4"
    (folder / "train-rle.csv").write_text(
        f"ImageId, EncodedPixels\n{SICK}, {first}\n{SICK}, 0 1\n{SICK}, 0 1\n{WELL}, -1\n"
    )
    return folder


def test_the_miniature_becomes_the_expected_table(miniature: Path, store_of, rows_of):
    store = store_of(SiimSource(miniature))
    assert rows_of(store, "patient_id", "view", "split", "age", "sex", "pixel_spacing_mm") == {
        SICK: (None, "AP", "train", 29.0, "M", 0.168, {"Pneumothorax": 1}),
        WELL: (None, "PA", "train", 51.0, "F", 0.14, {"Pneumothorax": 0}),
        TESTED: (None, "PA", "test", 60.0, "F", 0.14, {}),
    }
    assert store.settings["patients"] == "unknown"
    # Of 1,024 pixels to 16.
    assert store.boxes[["left", "top", "width", "height"]].to_numpy().tolist() == [
        [4, 8, 3 / 64, 4 / 64],
        [0, 0, 1 / 64, 1 / 64],
    ]


def test_a_box_of_runs_is_the_box_of_the_mask():
    random = np.random.default_rng(0)
    for _ in range(200):
        mask = np.zeros((9, 9), bool)
        top, left = random.integers(0, 9, 2)
        mask[top : top + random.integers(1, 9), left : left + random.integers(1, 9)] = random.random() < 0.8
        mask |= random.random((9, 9)) < 0.02
        if not mask.any():
            continue
        rows, columns = np.nonzero(mask)
        size = (int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1)
        assert box_of_runs(runs_of(mask), 9) == (columns.min(), rows.min(), *size)


def test_a_mask_that_is_none_costs_its_box_alone(miniature: Path):
    (miniature / "train-rle.csv").write_text(f"ImageId, EncodedPixels\n{SICK}, 1 2 3\n{SICK}, 9999999 9\n{WELL}, -1\n")
    listing = SiimSource(miniature).read(str)
    record = next(record for record in listing.records if record.image_id == SICK)
    assert (record.findings, record.boxes) == ({"Pneumothorax": 1}, ())
    assert any(note.startswith("2 masks that are no list of runs") for note in listing.notes)


def test_kaggles_second_stage_reads_alike(tmp_path: Path, draw_dicom):
    draw_dicom(tmp_path / path_of(WELL, "dicom-images-train"))
    draw_dicom(tmp_path / "stage_2_images" / "ID_01.dcm")
    (tmp_path / "stage_2_train.csv").write_text(f"ImageId,EncodedPixels\n{WELL},-1\n{SICK},0 3\n")
    listing = SiimSource(tmp_path).read(str)
    assert [(record.image_id, record.split, record.findings) for record in listing.records] == [
        (WELL, "train", {"Pneumothorax": 0}),
        ("ID_01", "test", {}),
    ]
    assert "1 rows of stage_2_train.csv have no film here" in listing.notes
    assert "1 films for testing without labels" in listing.notes


def test_kaggles_films_for_testing_can_be_had_alone(tmp_path: Path, draw_dicom):
    draw_dicom(tmp_path / "stage_2_images" / "ID_01.dcm")
    (tmp_path / "stage_2_train.csv").write_text("ImageId,EncodedPixels\nID_02,-1\n")
    listing = SiimSource(tmp_path).read(str)
    assert [(record.image_id, record.split, record.findings) for record in listing.records] == [("ID_01", "test", {})]


def test_a_folder_without_the_table_is_refused(tmp_path: Path, draw):
    with pytest.raises(ScarceError, match=r"train-rle\.csv or stage_2_train\.csv"):
        SiimSource(draw(tmp_path, "a.png")).read(str)
