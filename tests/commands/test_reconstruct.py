"""`scarce reconstruct` shows films of one's own as the run's store would hold them."""

from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid
from tests.training.test_resume import train

from scarce_cxr.commands.reconstruct import reconstruct
from scarce_cxr.errors import ScarceError
from scarce_cxr.images.names import original_names
from scarce_cxr.images.prepare import prepare
from scarce_cxr.images.sources import DicomSource
from scarce_cxr.images.store import Store
from scarce_cxr.training.pretrain import held_out_films
from scarce_cxr.training.recipe import read_recipe


def write_windowed(path: Path, pixels: np.ndarray, patient: str) -> None:
    """A film of (64, 64) uint16 whose window leaves most of its range out."""
    film = Dataset()
    film.file_meta = FileMetaDataset()
    film.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    film.SOPClassUID, film.SOPInstanceUID = DigitalXRayImageStorageForPresentation, generate_uid()
    film.Modality, film.ViewPosition, film.PatientID = "DX", "PA", patient
    film.WindowCenter, film.WindowWidth = 1000, 500
    film.set_pixel_data(pixels, "MONOCHROME2", bits_stored=12, generate_instance_uid=False)
    path.parent.mkdir(exist_ok=True)
    film.save_as(path, enforce_file_format=True)


def test_a_file_is_seen_as_its_film_in_the_store(tmp_path):
    generator = np.random.default_rng(0)
    for number in range(12):
        pixels = generator.integers(0, 4096, (64, 64), dtype=np.uint16)
        write_windowed(tmp_path / "films" / f"{number}.dcm", pixels, f"p{number}")
    key = tmp_path / "key"
    key.write_text("5c" * 32)
    prepare(DicomSource(tmp_path / "films"), tmp_path / "store", size=64, jobs=1, key_file=key, voi="full")
    store = Store.open(tmp_path / "store")
    run = train(store.path, tmp_path / "run", **{"training.duration": "1 steps", "training.warmup": "0 steps"})
    held_out = np.flatnonzero(held_out_films(store, read_recipe(run.recipe)[0]))[0]
    name = original_names(store.path)[store.table["image_id"].iloc[held_out]]
    of_store = reconstruct(run.path, films=1)
    of_file = reconstruct(run.path, images=[tmp_path / "films" / name])
    assert of_file.tables[0].rows == of_store.tables[0].rows
    (tmp_path / "text.png").write_text("no film")
    with pytest.raises(ScarceError, match=r"readable film.*text\.png"):
        reconstruct(run.path, images=[tmp_path / "text.png"])
