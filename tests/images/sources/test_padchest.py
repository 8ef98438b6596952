"""A miniature of PadChest becomes the table that its labels say, and no film without labels becomes normal."""

import gzip
import zipfile
from pathlib import Path

import pytest

from scarce_cxr.errors import ScarceError
from scarce_cxr.images.sources import CommonNames, PadChestSource

# The header of the release, shortened by columns that are not read; its first column has no name.
HEADER = (
    ",ImageID,ImageDir,StudyDate_DICOM,StudyID,PatientID,PatientBirth,PatientSex_DICOM,ViewPosition_DICOM,Projection,"
    "MethodProjection,SpatialResolution_DICOM,ReportID,Report,MethodLabel,Labels,Localizations"
)
# 128 bits: the two differ in their last digit alone.
ANN, BOB = "839860488694292331637988235681460987", "839860488694292331637988235681460988"
CUT = "216840111366964012989926673512011083134050913_00-168-009.png"


def row(number: int, image: str, folder: str, patient: str, projection: str, method: str, labels: str) -> str:
    return (
        f"{number},{image},{folder},20170124,{image[:-4]},{patient},1953.0,F,,{projection},"
        f"Manual review of DICOM fields,0.148,1,sin hallazg,{method},{labels},[]"
    )


ROWS = (
    row(0, "a.png", "0", ANN, "PA", "Physician", "\"['COPD signs', ' pleural effusion ', 'pacemaker']\""),
    row(1, "b.png", "0", BOB, "L", "Physician", "['normal']"),
    row(2, "c.png", "12", BOB, "AP_horizontal", "RNN_model", "\"['pneumonia', '']\""),
    row(3, "d.png", "12", BOB, "COSTAL", "RNN_model", ""),
    row(4, "e.png", "12", BOB, "AP", "Physician", "\"['unchanged', 'pneumonia']\""),
    row(5, "f.png", "12", BOB, "EXCLUDE", "Physician", "['exclude']"),
    row(6, "g.png", "12", BOB, "PA", "Physician", "nan"),
    row(7, "h.png", "12", BOB, "PA", "Physician", "['sternotomy']"),
    row(8, CUT, "12", BOB, "PA", "Physician", "['normal']"),
    row(9, "nowhere.png", "12", BOB, "PA", "Physician", "['normal']"),
)


@pytest.fixture
def miniature(tmp_path: Path, draw) -> Path:
    """Numbered folders, one of them as the zip that it is downloaded as, and the table gzipped."""
    folder = draw(tmp_path / "padchest", "0/a.png", "0/b.png", "0/stranger.png")
    films = draw(tmp_path / "zipped", *(f"{name}.png" for name in "cdefgh"), CUT)
    with zipfile.ZipFile(folder / "12.zip", "w") as archive:
        for film in sorted(films.iterdir()):
            archive.write(film, film.name)
    table = "\n".join([HEADER, *ROWS]) + "\n"
    (folder / "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv.gz").write_bytes(gzip.compress(table.encode()))
    return folder


def test_the_miniature_becomes_the_expected_table(miniature: Path, store_of, rows_of, hidden, skipped_of):
    store = store_of(PadChestSource(miniature, views="all"))
    ann, bob = (hidden("padchest", "patient", name) for name in (ANN, BOB))
    none = {"COPD signs": 0, "normal": 0, "pleural effusion": 0, "pneumonia": 0}
    assert store.findings == ["COPD signs", "normal", "pleural effusion", "pneumonia"]
    assert rows_of(store, "patient_id", "view", "age", "sex", "pixel_spacing_mm") == {
        "a.png": (ann, "PA", 64.0, "F", 0.148, none | {"COPD signs": 1, "pleural effusion": 1}),
        "b.png": (bob, "LATERAL", 64.0, "F", 0.148, none | {"normal": 1}),
        "c.png": (bob, "AP", 64.0, "F", 0.148, none | {"pneumonia": 1}),
        # Without labels nothing is known: neither normal nor free of anything.
        "d.png": (bob, "UNKNOWN", 64.0, "F", 0.148, {}),
        "e.png": (bob, "AP", 64.0, "F", 0.148, {"pneumonia": 1}),
        "g.png": (bob, "PA", 64.0, "F", 0.148, {}),
        # A device or an operation alone: no finding, and not called normal.
        "h.png": (bob, "PA", 64.0, "F", 0.148, none),
    }
    assert skipped_of(store) == {
        "0/stranger.png": "no row in PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv.gz",
        "12.zip/f.png": "excluded by the collection (Projection)",
        f"12.zip/{CUT}": "known to be broken",
    }


def test_labels_of_physicians_alone_leave_the_others_empty(miniature: Path, store_of, rows_of):
    rows = rows_of(store_of(PadChestSource(miniature, labels="physician", views="all")))
    assert rows["c.png"] == ({},)
    assert rows["b.png"][0]["normal"] == 1


def test_the_list_of_what_is_no_finding_can_be_changed(miniature: Path, tmp_path: Path, store_of, rows_of):
    lists = tmp_path / "mine.yaml"
    lists.write_text("excluded:\n  mine:\n  - COPD signs\n  - pneumonia\n")
    store = store_of(PadChestSource(miniature, exclude=lists))
    assert store.findings == ["exclude", "normal", "pacemaker", "pleural effusion", "sternotomy", "unchanged"]
    # No list of broken files: the film is whole here.
    assert CUT in rows_of(store)
    lists.write_text("exclude: [pneumonia]")
    with pytest.raises(ScarceError, match=r"excluded, unreadable, broken.*also exclude"):
        PadChestSource(miniature, exclude=lists)


def test_common_names_join_what_belongs_together(miniature: Path, store_of, rows_of):
    rows = rows_of(store_of(CommonNames(PadChestSource(miniature))))
    assert rows["a.png"] == ({"COPD signs": 1, "No Finding": 0, "Pleural Effusion": 1, "Pneumonia": 0},)


def test_a_flat_folder_with_the_plain_table_reads_alike(tmp_path: Path, draw, store_of, rows_of):
    folder = draw(tmp_path / "flat", "a.png", "b.png")
    (folder / "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv").write_text("\n".join([HEADER, *ROWS]))
    assert set(rows_of(store_of(PadChestSource(folder, views="all")))) == {"a.png", "b.png"}
    # Laterals are left out unless asked for.
    assert set(rows_of(store_of(PadChestSource(folder)))) == {"a.png"}


def test_rounded_identifiers_are_refused(tmp_path: Path, draw):
    folder = draw(tmp_path / "flat", "a.png")
    table = HEADER + "\n" + ROWS[0].replace(ANN, "8.39860488694292E+35") + "\n"
    (folder / "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv").write_text(table)
    with pytest.raises(ScarceError, match=r"8\.39860488694292E\+35 in row 2.*rounded"):
        PadChestSource(folder).read(str)
