"""A merged store holds what its parts hold, film by film, and says what they share."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom.uid import JPEGBaseline8Bit
from scipy.ndimage import zoom

from scarce_cxr.errors import ScarceError
from scarce_cxr.images.keys import private_folder
from scarce_cxr.images.merge import merge
from scarce_cxr.images.prepare import prepare
from scarce_cxr.images.sources import NihSource, RsnaSource
from scarce_cxr.images.store import COLUMNS, Store
from scarce_cxr.images.writer import Plan, StoreWriter

SIZE = 64


def make_films(count: int, seed: int, bits: int = 8) -> np.ndarray:
    generator = np.random.default_rng(seed)
    films = [zoom(generator.uniform(20, 230, (16, 16)), SIZE / 16, order=3) for _ in range(count)]
    films = np.array(films).clip(0, 255).astype(np.uint8)
    return films if bits == 8 else films.astype(np.uint16) * 257 - films % 5


def make_store(
    path: Path, films: np.ndarray, rows: list[dict], findings: tuple = (), boxes: tuple = (), **settings
) -> Store:
    bits = 8 * films.itemsize
    plan = Plan({"size": SIZE, "fit": "crop", "bits": bits, "shard_mib": 1, "source": "x", **settings}, findings)
    writer = StoreWriter(path, plan)
    for shard, start in enumerate(range(0, len(films), 3)):
        part = [row["image_id"] for row in rows[start : start + 3]]
        own = [box for box in boxes if box["image_id"] in part]
        writer.write_shard(shard, films[start : start + 3], rows[start : start + 3], own)
    return writer.finish()


def row(source: str, image_id: str, patient: str | None, digest: str, **more) -> dict:
    return {"source": source, "image_id": image_id, "patient_id": patient, "sha256": digest, "view": "PA", **more}


BOX = {"finding": "Mass", "left": 1.0, "top": 2.0, "width": 3.0, "height": 4.0}


@pytest.fixture
def parts(tmp_path: Path) -> list[Store]:
    """Two sources with image_id 1 and finding Mass in common; the last film of b is film 1 of a, darkened."""
    one, two = make_films(5, 0), make_films(4, 1)
    two[3] = (one[1] * 0.85).astype(np.uint8)
    a = [row("nih", str(n), f"p{n}", f"a{n}", split="test", Mass=n % 2, Edema=-1) for n in range(5)]
    b = [row("padchest", name, None, f"b{name}", age=40.0, Mass=1, Nodule=0) for name in ("1", "x", "y", "z")]
    return [
        make_store(tmp_path / "a", one, a, ("Mass", "Edema"), ({"image_id": "1", **BOX},)),
        make_store(tmp_path / "b", two, b, ("Nodule", "Mass"), ({"image_id": "1", **BOX},)),
    ]


def test_films_rows_and_boxes_are_those_of_the_parts(parts, tmp_path):
    merged = merge([part.path for part in parts], tmp_path / "out").store
    a, b = parts
    assert np.array_equal(merged.pixels(np.arange(9)), np.concatenate([a.pixels(np.arange(5)), b.pixels(np.arange(4))]))
    merged.verify()
    assert merged.findings == ["Mass", "Edema", "Nodule"]
    table = merged.table
    assert table["image_id"].tolist() == ["0", "nih/1", "2", "3", "4", "padchest/1", "x", "y", "z"]
    same = [name for name in COLUMNS if name != "image_id"]
    for part, rows in ((a, slice(0, 5)), (b, slice(5, 9))):
        for name in [*same, *part.findings]:
            mine, theirs = table[name].iloc[rows], part.table[name]
            assert mine.isna().tolist() == theirs.isna().tolist(), name
            assert mine.dropna().tolist() == theirs.dropna().tolist(), name
        assert table.iloc[rows][[f for f in merged.findings if f not in part.findings]].isna().all(axis=None)
    assert merged.boxes.to_dict("records") == [{"image_id": f"{source}/1", **BOX} for source in ("nih", "padchest")]
    every = np.concatenate([part.pixels(np.arange(len(part))) for part in parts]) / 255
    assert (merged.mean, merged.std) == pytest.approx((every.mean(), every.std()))


def test_copies_are_told_and_dropped_only_if_asked(parts, tmp_path):
    paths = [part.path for part in parts]
    kept = merge(paths, tmp_path / "kept")
    assert kept.copies.to_dict("records") == [
        {"store_a": "a", "a": "1", "store_b": "b", "b": "z", "kind": "near-duplicate"}
    ]
    assert kept.parts["films"].tolist() == [5, 4]
    assert kept.parts["renamed"].tolist() == [1, 1]
    dropped = merge(paths, tmp_path / "dropped", drop_duplicates=True)
    assert dropped.parts["dropped"].tolist() == [0, 1]
    assert dropped.store.table["image_id"].tolist()[-1] == "y"
    assert len(dropped.store) == 8
    assert not len(merge(paths, tmp_path / "unseen", near=False).copies)


def test_the_same_film_of_one_source_must_be_dropped(tmp_path):
    films = make_films(4, 2)
    first = make_store(tmp_path / "a", films[:3], [row("nih", str(n), f"p{n}", f"d{n}") for n in range(3)])
    second = make_store(tmp_path / "b", films[2:], [row("nih", str(n), f"p{n}", f"d{n}") for n in (2, 3)])
    with pytest.raises(ScarceError, match=r"nih/2 in two stores.*--drop-duplicates"):
        merge([first.path, second.path], tmp_path / "out")
    merged = merge([first.path, second.path], tmp_path / "out", drop_duplicates=True)
    assert merged.store.table["image_id"].tolist() == ["0", "1", "2", "3"]
    assert merged.shared_patients == 1


def test_different_films_of_one_name_and_source_are_refused(tmp_path):
    films = make_films(4, 3)
    for name, part in (("a", films[:2]), ("b", films[2:])):
        make_store(tmp_path / name, part, [row("folder", str(n), None, f"{name}{n}") for n in range(2)])
    with pytest.raises(ScarceError, match="different films of one name"):
        merge([tmp_path / "a", tmp_path / "b"], tmp_path / "out", drop_duplicates=True)
    assert not (tmp_path / "out").exists()


def test_an_interrupted_merge_goes_on_to_the_same_store(parts, tmp_path, monkeypatch):
    paths = [part.path for part in parts]
    # Two films a shard, so that there is something to interrupt.
    monkeypatch.setattr(Plan, "films_per_shard", 2)
    whole = merge(paths, tmp_path / "whole").store
    write, written = StoreWriter.write_shard, []

    def fail_later(self, shard, *rest):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(shard)
        write(self, shard, *rest)

    monkeypatch.setattr(StoreWriter, "write_shard", fail_later)
    with pytest.raises(KeyboardInterrupt):
        merge(paths, tmp_path / "out")
    with pytest.raises(ScarceError, match="half-written"):
        Store.open(tmp_path / "out")
    monkeypatch.setattr(
        StoreWriter, "write_shard", lambda self, shard, *rest: written.append(shard) or write(self, shard, *rest)
    )
    again = merge(paths, tmp_path / "out").store
    assert written == [0, 1, 2, 3, 4]
    assert again.fingerprint == whole.fingerprint
    merge(paths, tmp_path / "out")
    assert written == [0, 1, 2, 3, 4]
    with pytest.raises(ScarceError, match="drop_duplicates"):
        merge(paths, tmp_path / "out", drop_duplicates=True)


def test_the_same_films_of_the_same_patients_in_nih_and_rsna_are_dropped(tmp_path, write_dicom):
    """RSNA's films are NIH's, compressed; its mapping and NIH's key give both the same pseudonyms."""
    nih, rsna, films = tmp_path / "nih", tmp_path / "rsna", make_films(4, 5)
    nih.mkdir()
    table = ["Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position"]
    labels, mapping = ["patientId,x,y,width,height,Target"], []
    for number, film in enumerate(films):
        name, saved = f"{number:08d}_000.png", io.BytesIO()
        Image.fromarray(film).save(nih / name)
        table.append(f"{name},No Finding,0,{number},50,F,PA")
        Image.fromarray(film).save(saved, "JPEG", quality=75)
        grey = {"PhotometricInterpretation": "MONOCHROME2", "SamplesPerPixel": 1, "PixelRepresentation": 0}
        depth = {"Rows": SIZE, "Columns": SIZE, "BitsAllocated": 8, "BitsStored": 8}
        path = rsna / "stage_2_train_images" / f"r{number}.dcm"
        write_dicom(path, saved.getvalue(), JPEGBaseline8Bit, **grey, **depth)
        labels.append(f"r{number},,,,,0")
        mapping.append({"subset_img_id": f"r{number}", "img_id": name})
    (nih / "Data_Entry_2017.csv").write_text("\n".join(table))
    (rsna / "stage_2_train_labels.csv").write_text("\n".join(labels))
    (rsna / "pneumonia-challenge-dataset-mappings_2018.json").write_text(json.dumps(mapping))
    stores = [tmp_path / "nih-store", tmp_path / "rsna-store"]
    prepare(NihSource(nih), stores[0], size=SIZE, jobs=1)
    prepare(RsnaSource(rsna), stores[1], size=SIZE, jobs=1, key_file=private_folder(stores[0]) / "key")
    merged = merge(stores, tmp_path / "out", drop_duplicates=True)
    assert merged.shared_patients == 4
    assert merged.copies[["a", "b"]].to_numpy().tolist() == [[f"{n:08d}_000.png", f"r{n}"] for n in range(4)]
    assert merged.store.table["source"].tolist() == ["nih"] * 4


def test_the_names_of_stores_become_their_films_source_and_nothing_else_changes(tmp_path):
    films, parts = make_films(6, 6), []
    for name, part in (("a", films[:3]), ("b", films[3:])):
        rows = [row("folder", str(n), f"{name}{n}", f"{name}{n}") for n in range(len(part))]
        parts.append(make_store(tmp_path / name, part, rows, boxes=({"image_id": "1", **BOX},)))
    paths = [part.path for part in parts]
    merged = merge(paths, tmp_path / "out", names=["ward-a", "ward-b"])
    table = merged.store.table
    assert table["source"].tolist() == ["ward-a"] * 3 + ["ward-b"] * 3
    assert table["image_id"].tolist() == [f"{name}/{n}" for name in ("ward-a", "ward-b") for n in range(3)]
    assert table["patient_id"].tolist() == [patient for part in parts for patient in part.table["patient_id"]]
    assert merged.store.boxes["image_id"].tolist() == ["ward-a/1", "ward-b/1"]
    assert merged.parts["source"].tolist() == ["ward-a", "ward-b"]
    merge(paths, tmp_path / "out", names=["ward-a", "ward-b"])
    with pytest.raises(ScarceError, match=r"names = .*ward-c"):
        merge(paths, tmp_path / "out", names=["ward-a", "ward-c"])


@pytest.mark.parametrize("names", [["a"], ["a", "a"], ["a", ""], []])
def test_names_that_are_not_one_a_store_are_refused(parts, tmp_path, names):
    with pytest.raises(ScarceError, match="each of the 2 stores"):
        merge([part.path for part in parts], tmp_path / "out", names=names)


def test_the_scaling_of_dicom_films_is_kept_and_two_are_refused(parts, tmp_path):
    plain = parts[0].path
    voi = {}
    for number, name in enumerate(("percentile", "percentile", "full")):
        films = make_films(2, 7 + number)
        rows = [row("dicom", f"{number} {n}", None, f"{number} {n}") for n in range(2)]
        voi[number] = make_store(tmp_path / f"{name}{number}", films, rows, voi=name).path
    assert merge([plain, voi[0], voi[1]], tmp_path / "out").store.settings["voi"] == "percentile"
    assert "voi" not in merge([plain, parts[1].path], tmp_path / "without").store.settings
    with pytest.raises(ScarceError, match=r"same voi.*percentile in .*percentile0, full in .*full2: prepare"):
        merge([plain, voi[0], voi[2]], tmp_path / "refused")


@pytest.mark.parametrize(
    ("setting", "value"), [("size", 32), ("bits", 16), ("fit", "pad")], ids=["size", "bits", "fit"]
)
def test_stores_of_other_settings_are_refused_by_name(parts, tmp_path, setting, value):
    size, bits = (value if setting == "size" else SIZE), (value if setting == "bits" else 8)
    films = np.zeros((1, size, size), np.uint8 if bits == 8 else np.uint16)
    settings = {"size": size, "bits": bits, "fit": "crop", "shard_mib": 1, "source": "x", setting: value}
    writer = StoreWriter(tmp_path / "other", Plan(settings))
    writer.write_shard(0, films, [row("x", "1", None, "0")])
    writer.finish()
    with pytest.raises(ScarceError, match=f"same {setting}.*{value} in .*other"):
        merge([parts[0].path, tmp_path / "other"], tmp_path / "out")


def test_one_store_or_one_named_twice_is_refused(parts, tmp_path):
    with pytest.raises(ScarceError, match="two or more"):
        merge([parts[0].path], tmp_path / "out")
    with pytest.raises(ScarceError, match="twice"):
        merge([parts[0].path, parts[0].path], tmp_path / "out")


def test_deep_stores_stay_deep_and_unknown_patients_unknown(tmp_path):
    films = make_films(4, 4, bits=16)
    for name, part, settings in (("a", films[:2], {}), ("b", films[2:], {"patients": "unknown"})):
        rows = [row(name, f"{name}{n}", None, f"{name}{n}") for n in range(2)]
        make_store(tmp_path / name, part, rows, **settings)
    merged = merge([tmp_path / "a", tmp_path / "b"], tmp_path / "out").store
    assert merged.dtype == np.uint16
    assert np.array_equal(merged.pixels(np.arange(4)), films)
    assert merged.settings["patients"] == "unknown"


def test_nothing_private_is_merged(parts, tmp_path):
    for part in parts:
        private_folder(part.path).mkdir()
        (private_folder(part.path) / "key").write_text("ab" * 16)
    merged = merge([part.path for part in parts], tmp_path / "out")
    assert not private_folder(tmp_path / "out").exists()
    assert not any("key in common" in note for note in merged.notes)
    (private_folder(parts[0].path) / "key").write_text("cd" * 16)
    again = merge([part.path for part in parts], tmp_path / "out")
    assert any("key in common" in note for note in again.notes)
