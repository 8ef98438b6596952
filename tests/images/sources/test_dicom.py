"""A folder of DICOM files becomes a store that holds the films and nothing that tells whose they are."""

import csv
import json
import logging
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pydicom import dcmread
from pydicom.datadict import DicomDictionary
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, JPEGLSLossless, RLELossless

from scarce_cxr.cli import main
from scarce_cxr.errors import ScarceError
from scarce_cxr.images.decode import quantise, resize
from scarce_cxr.images.prepare import prepare
from scarce_cxr.images.sources import DicomSource, Listing, recognise
from scarce_cxr.images.sources.dicom import view_in_words, view_of_study
from scarce_cxr.images.store import Store

DOWN, ACROSS = np.mgrid[:32, :40]
WAVES = (2000 + 900 * np.sin(DOWN / 5) * np.cos(ACROSS / 7)).astype(np.uint16)


def read(folder: Path, **options) -> Listing:
    return DicomSource(folder, **options).read(lambda name: f"id of {name}")


def skipped(store: Path) -> dict[str, str]:
    with (store.with_name(store.name + ".private") / "skipped.csv").open(newline="") as file:
        return {row["path"]: row["reason"] for row in csv.DictReader(file)}


def films_by_name(store: Store) -> dict[str, int]:
    names = pd.read_parquet(store.path.with_name(store.path.name + ".private") / "names.parquet")
    paths = names.set_index("image_id")["path"]
    return {paths[image_id]: row for row, image_id in enumerate(store.table["image_id"])}


def view_item(value: str, meaning: str = "") -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "SCT", meaning
    return item


# What a header says of the view, and what becomes of it.
VIEWS = {
    "PA": {"ViewPosition": "PA"},
    "AP": {"ViewPosition": "AP"},
    "LATERAL": {"ViewPosition": "LL"},
    "OBLIQUE": {"ViewPosition": "RAO"},
    "AP 2": {"ViewPosition": "AP LLD"},
    "UNKNOWN": {"ViewPosition": "LLD"},
    "PA 2": {"ViewCodeSequence": [view_item("272479007")]},
    "AP 3": {"ViewCodeSequence": [view_item("R-10206")]},
    "LATERAL 2": {"ViewCodeSequence": [view_item("unheard of", "left lateral")]},
    "FRONTAL": {"PatientOrientation": ["L", "F"]},
    "FRONTAL 2": {"PatientOrientation": ["F", "R"]},
    "LATERAL 3": {"PatientOrientation": ["P", "F"]},
    "UNKNOWN 2": {"PatientOrientation": ["L", "P"]},
    "PA 3": {"SeriesDescription": "Thorax p.a."},
    "AP 4": {"ProtocolName": "W033a Chest_AP"},
    "UNKNOWN 3": {"SeriesDescription": "CHEST PA AND LATERAL"},
    "LATERAL 4": {"SeriesDescription": "Chest Lat"},
    "PA 4": {"PatientOrientation": ["L", "F"], "SeriesDescription": "PA"},
    "PA 5": {"PatientPosition": "PA"},
    "UNKNOWN 4": {"PatientPosition": "HFS"},
    # The first that is sure of it decides.
    "PA 6": {"ViewPosition": "PA", "SeriesDescription": "lateral", "PatientOrientation": ["P", "F"]},
    "UNKNOWN 5": {},
    "LATERAL 5": {"SeriesDescription": "Thorax seitl."},
    "PA 7": {"SeriesDescription": "CHEST P/A"},
    "LATERAL 6": {"AcquisitionDeviceProcessingDescription": "CHEST,LAT"},
    "LATERAL 7": {"StudyDescription": "CHEST LATERAL"},
    "OBLIQUE 2": {"StudyDescription": "Chest obliques"},
    "UNKNOWN 6": {"StudyDescription": "CHEST PA AND LATERAL"},
    "UNKNOWN 7": {"StudyDescription": "Chest PA, 2 views"},
    # What the film says of itself stands before what is said of all films of its study.
    "LATERAL 8": {"PatientOrientation": ["P", "F"], "StudyDescription": "CHEST PA"},
    "FRONTAL 3": {"PatientOrientation": ["L", "F"], "StudyDescription": "CHEST LATERAL"},
    "AP 5": {"PatientOrientation": ["L", "F"], "StudyDescription": "CHEST AP PORTABLE"},
}


def test_the_view_is_found_wherever_it_stands(write_dicom, tmp_path: Path):
    for name, elements in VIEWS.items():
        write_dicom(tmp_path / name, WAVES, **{"ViewPosition": None, **elements})
    listing = read(tmp_path, views="all")
    views = {record.name: record.view for record in listing.records}
    table = {"FRONTAL": "UNKNOWN", "OBLIQUE": "UNKNOWN"}
    assert views == {name: table.get(name.split()[0], name.split()[0]) for name in VIEWS}
    notes = "; ".join(listing.notes)
    assert "7 films of unknown view" in notes
    assert "3 films known to be frontal" in notes
    frontal = read(tmp_path)
    left_out = {name for name in VIEWS if name.split()[0] in ("LATERAL", "OBLIQUE")}
    assert {record.name for record in frontal.records} == set(VIEWS) - left_out
    assert dict(frontal.skipped) == {name: f"not a frontal view: {name.split()[0].lower()}" for name in left_out}


def test_the_codes_of_views_are_the_standards():
    from pydicom.sr.codedict import codes
    from pydicom.sr.coding import Code

    from scarce_cxr.images.sources.dicom import _VIEW_CODES

    views = {
        "PA": ["PosteroAnterior"],
        "AP": ["AnteroPosterior"],
        "FRONTAL": ["Frontal"],
        "LATERAL": ["LateralProjection", "LeftLateral", "RightLateral"],
    }
    for view, names in views.items():
        for name in names:
            code = getattr(codes.cid4010, name)
            assert _VIEW_CODES[code.value] == view
            # pydicom knows which old codes mean the same.
            old = [value for value in _VIEW_CODES if value.startswith("R-") and Code(value, "SRT", "") == code]
            assert old
            assert {_VIEW_CODES[value] for value in old} == {view}
    oblique = {getattr(codes.cid4010, name).value for name in dir(codes.cid4010) if name.endswith("Oblique")}
    assert {value for value, view in _VIEW_CODES.items() if view == "OBLIQUE" and value.isdigit()} & oblique
    assert all(_VIEW_CODES.get(value, "OBLIQUE") == "OBLIQUE" for value in oblique)


def test_words_for_views_in_other_tongues_and_spellings():
    for text, view in {
        "Thorax seitlich": "LATERAL",
        "Thorax seitl. li. anl.": "LATERAL",
        "CHEST P/A": "PA",
        "Chest P-A erect": "PA",
        "Thorax_A/P": "AP",
        "A / P": "AP",
        "AP/PA": "UNKNOWN",
        "P/A + LAT": "UNKNOWN",
        "W033A P": "UNKNOWN",
        "Thorax face, profil": "LATERAL",
        "postero-anterior": "PA",
        "anteroposterior": "AP",
        "A.P. supine": "AP",
        "lateral decubitus": "UNKNOWN",
        "Frontal PA": "PA",
        "Pacemaker": "UNKNOWN",
        "": "UNKNOWN",
    }.items():
        assert view_in_words(text) == view, text


def test_a_study_of_several_views_tells_none():
    for text, view in {
        "XR CHEST PA PORTABLE": "PA",
        "Thorax seitlich": "LATERAL",
        "CHEST PA/LAT": "UNKNOWN",
        "CHEST PA 2V": "UNKNOWN",
        "CHEST 2-VIEW PA": "UNKNOWN",
        "chest AP, two views": "UNKNOWN",
        "CHEST PA VIEWS": "UNKNOWN",
        "Thorax p.a. in 2 Ebenen": "UNKNOWN",
        "Torax PA y L": "UNKNOWN",
        "Thorax face et profil": "UNKNOWN",
        "": "UNKNOWN",
    }.items():
        assert view_of_study(text) == view, text


def test_only_radiographs_are_listed_and_everything_else_with_its_reason(write_dicom, tmp_path: Path):
    write_dicom(tmp_path / "dx", WAVES)
    write_dicom(tmp_path / "deep" / "IM0001", WAVES, Modality="CR")
    write_dicom(tmp_path / "by-class", WAVES, Modality=None)
    write_dicom(tmp_path / "ct", WAVES, Modality="CT")
    write_dicom(tmp_path / "strange", WAVES, Modality="JANE DOE")
    write_dicom(tmp_path / "report", WAVES, Rows=None, Columns=None)
    write_dicom(tmp_path / "burned", WAVES, BurnedInAnnotation="YES")
    write_dicom(tmp_path / "clean", WAVES, BurnedInAnnotation="NO")
    (tmp_path / "labels.csv").write_text("id,label\n1,0\n")
    (tmp_path / "empty").touch()
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    listing = read(tmp_path)
    assert {record.name for record in listing.records} == {"dx", "deep/IM0001", "by-class", "clean"}
    assert dict(listing.skipped) == {
        "ct": "not CR or DX: CT",
        "strange": "not CR or DX: another or no modality",
        "report": "a DICOM file without a picture",
        "burned": "burned-in annotation (--burned_in keep takes such films)",
        "labels.csv": "not a DICOM file",
        "empty": "not a DICOM file",
        "gone": "a link that leads nowhere",
    }
    kept = read(tmp_path, burned_in="keep")
    assert "burned" in {record.name for record in kept.records}
    assert "1 film with burned-in annotation" in kept.notes


def test_patient_age_and_spacing(write_dicom, tmp_path: Path):
    given = {
        "a": {"PatientAge": "018M", "PatientSex": "F", "PixelSpacing": [0.143, 0.143]},
        "b": {"PatientBirthDate": "19500630", "StudyDate": "20200629", "PatientSex": "O"},
        "c": {"PatientAge": "097Y"},
        "d": {"PatientBirthDate": "20210101", "StudyDate": "20200101"},
        "e": {"PatientID": None, "StudyInstanceUID": "1.2.3.4"},
        "f": {"PatientID": "", "StudyInstanceUID": None},
    }
    for name, elements in given.items():
        write_dicom(tmp_path / name, WAVES, **elements)
    listing = read(tmp_path)
    records = {record.name: record for record in listing.records}
    assert [records[name].age for name in "abcd"] == [1.5, 69, 90, None]
    assert [records[name].sex for name in "ab"] == ["F", None]
    assert records["a"].pixel_spacing_mm == 0.143
    assert [records[name].patient for name in "aef"] == ["p1", "study 1.2.3.4", None]
    assert "1 film without a PatientID, whose study stands for the patient" in listing.notes


def test_a_constant_in_place_of_the_patients_is_noticed(write_dicom, tmp_path: Path):
    for number in range(3):
        write_dicom(tmp_path / str(number), WAVES, PatientID="ANON", StudyInstanceUID=f"1.2.{number}")
    assert any("replaced by a constant" in note for note in read(tmp_path).notes)


def test_a_folder_without_films_says_what_is_in_it(write_dicom, tmp_path: Path):
    write_dicom(tmp_path / "ct.dcm", WAVES, Modality="CT")
    with pytest.raises(ScarceError, match="1 x not CR or DX"):
        read(tmp_path)


def test_a_folder_of_dicom_files_is_recognised():
    assert recognise(["a/IM1.dcm", "notes.txt"]) == "dicom"
    assert recognise(["a/IM1.dcm", "b.png", "c.png"]) is None


def test_real_files_become_the_films_that_they_are(real_dicom: Path, tmp_path: Path):
    store = prepare(DicomSource(real_dicom), tmp_path / "store", size=64, jobs=1).store
    place = films_by_name(store)
    table = store.table.iloc[[place[name] for name in sorted(place)]]
    assert sorted(place) == [
        "nih_test1.dcm",
        "nih_test2.dcm",
        "nih_test3.dcm",
        "nih_test4.dcm",
        "nih_test6.dcm",
        "rsna_jpeg_mono1_flagonly.dcm",
        "rsna_jpeg_mono2.dcm",
        "wg04_rg1_mono1_jpeg2000.dcm",
        "wg04_rg1_mono1_uncompressed.dcm",
    ]
    assert skipped(store.path) == {"nih_test5.dcm": "not CR or DX: CT"}
    assert table["view"].tolist() == ["PA", "AP", "AP", "PA", "UNKNOWN", "PA", "PA", "PA", "PA"]
    assert table["age"].tolist() == [81, 58, 77, 81, 81, 62, 62, 64, 64]
    assert table["sex"].tolist() == ["M"] * 7 + ["F"] * 2
    assert table["patient_id"].nunique() == 5
    assert table["height"].tolist() == [1024] * 7 + [1955] * 2
    assert table["width"].tolist() == [1024] * 7 + [1841] * 2
    assert table["crop_top"].tolist() == [0] * 7 + [57] * 2
    assert table["pixel_spacing_mm"].dropna().tolist() == [0.168, 0.168]
    # The same stored values: three copies of one film, one film under two flags, one film compressed and not.
    assert table["sha256"].nunique() == 5
    assert store.settings["voi"] == "window"
    negative, film = store.pixels([place["rsna_jpeg_mono1_flagonly.dcm"], place["rsna_jpeg_mono2.dcm"]]).astype(int)
    assert np.abs(negative - (255 - film)).max() <= 1


def test_a_file_has_one_checksum_as_dicom_and_as_picture(write_dicom, tmp_path: Path):
    from PIL import Image

    from scarce_cxr.images.sources import FolderSource

    grey = (WAVES // 16).astype(np.uint8)
    write_dicom(tmp_path / "dicom" / "a", grey)
    (tmp_path / "png").mkdir()
    Image.fromarray(grey).save(tmp_path / "png" / "a.png")
    first = prepare(DicomSource(tmp_path / "dicom"), tmp_path / "first", size=16, jobs=1).store
    second = prepare(FolderSource(tmp_path / "png"), tmp_path / "second", size=16, jobs=1).store
    assert first.table["sha256"].tolist() == second.table["sha256"].tolist()
    assert "voi" not in second.settings


def test_monochrome1_and_2_of_one_film_are_stored_alike(write_dicom, tmp_path: Path):
    write_dicom(tmp_path / "films" / "2", WAVES, BitsStored=12, WindowCenter=2000, WindowWidth=1500)
    inverted = {"PhotometricInterpretation": "MONOCHROME1", "WindowCenter": 4095 - 2000 + 1, "WindowWidth": 1500}
    write_dicom(tmp_path / "films" / "1", (4095 - WAVES).astype(np.uint16), BitsStored=12, **inverted)
    store = prepare(DicomSource(tmp_path / "films"), tmp_path / "store", size=24, jobs=1).store
    assert np.array_equal(*store.pixels([0, 1]))
    assert np.ptp(store.pixels([0])) > 200


@pytest.mark.parametrize("voi", ["full", "percentile"])
def test_the_way_of_scaling_is_recorded_and_another_one_refused(write_dicom, tmp_path: Path, voi: str):
    write_dicom(tmp_path / "films" / "a.png", WAVES, BitsStored=12, WindowCenter=2000, WindowWidth=100)
    store = prepare(DicomSource(tmp_path / "films"), tmp_path / "store", size=24, jobs=1, voi=voi).store
    assert store.settings["voi"] == voi
    low, high = WAVES.min(), WAVES.max()
    if voi == "full":
        film = ((WAVES - low) / (high - low)).astype(np.float32)
        assert np.abs(store.pixels([0])[0].astype(int) - quantise(resize(film, 24)[0])).max() <= 1
    with pytest.raises(ScarceError, match=f"voi = {voi}"):
        prepare(DicomSource(tmp_path / "films"), tmp_path / "store", size=24, jobs=1)


MARKER = "XQZJ"


def marked_elements() -> dict[str, str | list]:
    """Every element of the standard's groups up to 0040 that holds text, dates or names, with a marker in it."""
    texts = {"LO", "SH", "ST", "LT", "UT", "UC", "PN", "CS", "AE"}
    own = {"Modality", "ViewPosition", "PhotometricInterpretation", "SpecificCharacterSet", "PatientSex"}
    marked = {}
    for tag, (vr, _, _, retired, keyword) in DicomDictionary.items():
        if keyword and not retired and vr in texts and 0x00080000 <= tag < 0x00410000 and keyword not in own:
            # Codes are at most 16 characters, in capitals.
            marked[keyword] = f"{MARKER}{len(marked):04d}"
    return marked


@pytest.fixture
def marked_folder(write_dicom, tmp_path: Path) -> Path:
    """Films full of markers, also in dates, identifiers, the preamble and their paths; one of each fate."""
    folder = tmp_path / "films"
    dates = {"StudyDate": "19990731", "PatientBirthDate": "19330401", "ContentTime": "123456.789"}
    uids = {"StudyInstanceUID": "1.2.777777.1", "SeriesInstanceUID": "1.2.777777.2", "SOPInstanceUID": "1.2.777777.3"}
    fates = {
        "kept": {},
        "rle": {},
        "view": {"ViewPosition": f"{MARKER}VIEW"},
        "lateral": {"ViewPosition": "LL"},
        "modality": {"Modality": f"{MARKER}MODALITY"},
        "photometric": {"PhotometricInterpretation": f"{MARKER}PHOTO"},
        "sex": {"PatientSex": f"{MARKER}SEX"},
    }
    random = np.random.default_rng(0)
    for number, (fate, elements) in enumerate(fates.items()):
        for copy in range(4):
            film = (WAVES + random.integers(0, 500, WAVES.shape)).astype(np.uint16)
            path = folder / f"{MARKER}folder" / f"{MARKER}_{fate}_{copy}.dcm"
            known = {"PatientID": f"{MARKER}patient{number}{copy}", "BurnedInAnnotation": "NO", "PatientAge": "066Y"}
            all_ = {**marked_elements(), **dates, **uids, **known, **elements}
            syntax = {"rle": RLELossless, "photometric": ExplicitVRLittleEndian}.get(fate, JPEGLSLossless)
            write_dicom(path, film, syntax, BitsStored=12, **all_)
            path.write_bytes((MARKER * 32).encode()[:128] + path.read_bytes()[128:])
    damaged = folder / f"{MARKER}damaged.dcm"
    damaged.write_bytes(path.read_bytes()[:-300])
    (folder / f"{MARKER}.txt").write_text(MARKER)
    return folder


@pytest.mark.slow
def test_nothing_that_identifies_leaves_the_source(marked_folder: Path, tmp_path: Path, capfd, caplog):
    store, run, sheet = tmp_path / "store", tmp_path / "run", tmp_path / "sheet.png"
    with caplog.at_level(logging.DEBUG):
        assert main(["prepare", str(marked_folder), str(store), "--kind", "dicom", "--size", "64", "--jobs", "1"]) == 0
        assert main(["show", str(store), "--out", str(sheet)]) == 0
        recipe = ["--config", "small/spark", "--training.accelerator", "cpu", "--training.batch_size", "4"]
        recipe += ["--views.size", "64", "--method.decoder_width", "8", "--training.duration", "2 steps"]
        recipe += ["--backbone.name", "test_resnet"]
        assert main(["pretrain", *recipe, "--watch.every", "1 steps", f"--store={store}", f"--run={run}"]) == 0
    said = capfd.readouterr()
    opened = Store.open(store)
    assert len(opened) == 16
    assert (run / "report.html").exists()
    assert (run / "checkpoints" / "last.ckpt").exists()
    places = {"standard output": said.out.encode(), "standard error": said.err.encode(), "logs": caplog.text.encode()}
    for folder in (store, run):
        places |= {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        places |= {f"name of {path}": path.name.encode() for path in folder.rglob("*")}
    # Parquet may compress what it holds: the table is searched as text too.
    places["table"] = opened.table.to_csv().encode()
    assert len(places) > 15
    for place, content in places.items():
        for secret in (MARKER, "777777", "19990731", "19330401", "123456.789"):
            found = secret.encode() in content
            # Not behind digits: a share of 7/9 in a page is no patient's number.
            if found and secret.isdecimal():
                found = re.search(rb"(?<![\d.])" + secret.encode(), content)
            assert not found, (place, secret)
            assert secret.encode("utf-16-le") not in content, (place, secret)
    private = tmp_path / "store.private"
    assert MARKER in (private / "skipped.csv").read_text()
    assert MARKER not in "".join(skipped(store).values())
    assert all(MARKER in name for name in films_by_name(opened))


def test_the_markers_are_really_in_the_files(marked_folder: Path):
    path = next(marked_folder.rglob("*kept_0.dcm"))
    header = dcmread(path)
    assert len(marked_elements()) > 300
    assert sum(MARKER in str(element.value) for element in header) > 300
    assert MARKER.encode() in path.read_bytes()[:128]


def mutated(content: bytes, random: np.random.Generator) -> bytes:
    """Flips some bits, overwrites a stretch, or cuts the end off."""
    kind = random.integers(3)
    if kind == 0:
        return content[: random.integers(len(content))]
    damaged = bytearray(content)
    for _ in range(random.integers(1, 20)):
        place = int(random.integers(len(damaged) if random.random() < 0.5 else 800))
        if kind == 1:
            damaged[place] ^= 1 << int(random.integers(8))
        else:
            damaged[place : place + 4] = random.integers(0, 256, 4, dtype=np.uint8).tobytes()
    return bytes(damaged[: len(content)])


def test_every_mutated_file_is_in_the_table_or_skipped(write_dicom: Callable, tmp_path: Path):
    random = np.random.default_rng(0)
    originals = [
        write_dicom(tmp_path / "plain", WAVES, BitsStored=12, WindowCenter=2000, WindowWidth=900).read_bytes(),
        write_dicom(tmp_path / "rle", WAVES, RLELossless, BitsStored=12).read_bytes(),
        write_dicom(tmp_path / "jls", WAVES, JPEGLSLossless, BitsStored=12).read_bytes(),
    ]
    films = tmp_path / "films"
    films.mkdir()
    for number in range(240):
        (films / f"{number:03d}").write_bytes(mutated(originals[number % 3], random))
    summary = prepare(DicomSource(films), tmp_path / "store", size=16, jobs=1)
    left = skipped(tmp_path / "store")
    assert summary.films + len(left) == 240
    assert not set(left) & set(films_by_name(summary.store))
    assert summary.films > 20
    assert len(left) > 20
    assert json.loads((tmp_path / "store" / "store.json").read_text())["films"] == summary.films
