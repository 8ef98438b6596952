"""Miniatures of the collections: films of a few pixels under the names, in the folders and with the tables of the
releases, and what a store of them says."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scarce_cxr.images.keys import pseudonym
from scarce_cxr.images.prepare import prepare
from scarce_cxr.images.sources import Source
from scarce_cxr.images.store import Store

KEY = "00112233445566778899aabbccddeeff"


@pytest.fixture
def draw() -> Callable:
    """Writes films of random pixels below a folder: draw(folder, "a.png", "b/c.jpg")."""
    random = np.random.default_rng(0)

    def write(folder: Path, *names: str, shape: tuple[int, int] = (20, 20)) -> Path:
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(random.integers(0, 256, shape, dtype=np.uint8)).save(folder / name)
        return folder

    return write


@pytest.fixture
def draw_dicom() -> Callable:
    """Writes a DICOM film: draw_dicom(folder / "a.dcm", view="PA", age="045Y", sex="F", spacing=0.14)."""
    pydicom = pytest.importorskip("pydicom")
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian, generate_uid

    random = np.random.default_rng(0)

    def write(
        path: Path,
        view: str = "PA",
        age: str = "045Y",
        sex: str = "F",
        spacing: float = 0.14,
        shape: tuple[int, int] = (20, 20),
    ) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        film = pydicom.Dataset()
        film.file_meta = FileMetaDataset()
        film.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        film.file_meta.MediaStorageSOPClassUID = film.SOPClassUID = ComputedRadiographyImageStorage
        film.file_meta.MediaStorageSOPInstanceUID = film.SOPInstanceUID = generate_uid()
        film.Modality, film.BodyPartExamined, film.ViewPosition = "CR", "CHEST", view
        # Some collections leave the age's unit out.
        with pydicom.config.disable_value_validation():
            film.PatientAge, film.PatientSex, film.PixelSpacing = age, sex, [spacing, spacing]
        film.SamplesPerPixel, film.PhotometricInterpretation = 1, "MONOCHROME2"
        film.Rows, film.Columns = shape
        film.BitsAllocated, film.BitsStored, film.HighBit, film.PixelRepresentation = 8, 8, 7, 0
        film.PixelData = random.integers(0, 256, shape, dtype=np.uint8).tobytes()
        with pydicom.config.disable_value_validation():
            film.save_as(path, enforce_file_format=True)

    return write


@pytest.fixture
def store_of(tmp_path: Path) -> Callable[[Source], Store]:
    """Prepares a source into a store, with the key that `hidden` uses."""
    key = tmp_path / "key"
    key.write_text(KEY)
    made = 0

    def make(source: Source) -> Store:
        nonlocal made
        made += 1
        return prepare(source, tmp_path / f"store{made}", size=16, jobs=1, key_file=key).store

    return make


@pytest.fixture
def hidden() -> Callable[[str, str, str], str]:
    """The pseudonym of a source's patient or study: hidden("nih", "patient", "13")."""
    return lambda source, kind, name: pseudonym(KEY, source, kind, name)


@pytest.fixture
def rows_of() -> Callable:
    """A store's table as plain values: {image_id: (the columns asked for, ..., {finding: label, if mentioned})}."""

    def read(store: Store, *columns: str) -> dict[str, tuple]:
        table = store.table.astype(object).where(store.table.notna(), None)
        return {
            row["image_id"]: (
                *(row[column] for column in columns),
                {finding: row[finding] for finding in store.findings if row[finding] is not None},
            )
            for row in table.to_dict("records")
        }

    return read


@pytest.fixture
def skipped_of() -> Callable[[Store], dict[str, str]]:
    """The skipped files of a store and why."""
    import csv

    def read(store: Store) -> dict[str, str]:
        with (store.path.with_name(store.path.name + ".private") / "skipped.csv").open(newline="") as file:
            return {row["path"]: row["reason"] for row in csv.DictReader(file)}

    return read
