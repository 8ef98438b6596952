"""DICOM files, written as a device would write them, or worse."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest


@pytest.fixture(scope="session")
def write_dicom() -> Callable:
    """Writes a DICOM file: write_dicom(path, pixels, syntax=UID, PatientID="7", Rows=None, ...).

    Pixels are (H, W) or (H, W, 3) whole numbers, or bytes that are taken as they are. Elements are those of a digital
    radiograph unless others are named; None leaves one out.
    """
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.encaps import encapsulate
    from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid

    def write(path: Path, pixels: np.ndarray | bytes, syntax=ExplicitVRLittleEndian, **elements: Any) -> Path:
        dataset = Dataset()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = syntax
        stored = {"SOPClassUID": DigitalXRayImageStorageForPresentation, "SOPInstanceUID": generate_uid()}
        if isinstance(pixels, np.ndarray):
            bits = 8 * pixels.dtype.itemsize
            colours = pixels.shape[2] if pixels.ndim == 3 else 1
            stored |= {
                "Rows": pixels.shape[0],
                "Columns": pixels.shape[1],
                "SamplesPerPixel": colours,
                "PhotometricInterpretation": "MONOCHROME2" if colours == 1 else "RGB",
                "BitsAllocated": bits,
                "BitsStored": bits,
                "PixelRepresentation": int(pixels.dtype.kind == "i"),
            }
            if colours == 3:
                stored["PlanarConfiguration"] = 0
        stored |= {"Modality": "DX", "ViewPosition": "PA", "PatientID": "p1", "StudyInstanceUID": "1.2.3"} | elements
        stored.setdefault("HighBit", (stored.get("BitsStored") or 8) - 1)
        for keyword, value in stored.items():
            if value is not None:
                setattr(dataset, keyword, value)
        little = syntax.is_little_endian
        if isinstance(pixels, np.ndarray) and not syntax.is_encapsulated:
            dataset.PixelData = pixels.astype(pixels.dtype.newbyteorder("<" if little else ">")).tobytes()
        elif isinstance(pixels, np.ndarray):
            dataset.PixelData = pixels.tobytes()
            dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
            dataset.compress(syntax, generate_instance_uid=False)
        else:
            dataset.PixelData = encapsulate([pixels]) if syntax.is_encapsulated else pixels
        dataset["PixelData"].VR = "OW" if dataset.get("BitsAllocated", 8) > 8 and not syntax.is_encapsulated else "OB"
        dataset["PixelData"].is_undefined_length = syntax.is_encapsulated
        path.parent.mkdir(parents=True, exist_ok=True)
        dataset.save_as(path, enforce_file_format=True)
        return path

    return write


@pytest.fixture(scope="session")
def real_dicom() -> Path:
    """Real DICOM films, beside the repository; tests that need them are skipped where they are not."""
    folder = Path(__file__).parents[2] / "../shared/data/dicom"
    if not folder.is_dir():
        pytest.skip(f"no real DICOM films at {folder}")
    return folder.resolve()
