"""Common names join findings by a rule worked out by hand, and a user's own mapping is checked."""

from pathlib import Path

import pytest

from scarce_cxr.errors import ScarceError
from scarce_cxr.images.sources import SOURCES, CommonNames, FolderSource, NihSource, chexpert, nih
from scarce_cxr.images.sources.common import NAMES, merge
from scarce_cxr.images.sources.lists import read_yaml


@pytest.mark.parametrize(
    ("own", "common"),
    [
        ({"a": 1, "b": -1}, 1),
        ({"a": 0, "b": 1}, 1),
        ({"b": 1}, 1),
        ({"a": 0, "b": -1}, -1),
        ({"a": -1}, -1),
        # One of them may still be there: nobody said.
        ({"a": 0}, None),
        ({}, None),
        ({"a": 0, "b": 0}, 0),
    ],
)
def test_the_worst_of_several_findings_counts(own: dict, common: int | None):
    assert merge(own, {"both": ["a", "b"]}).get("both") == common


def test_the_shipped_mapping_knows_every_collection_and_the_names_it_maps():
    mapping = read_yaml(NAMES)
    assert set(mapping) == set(SOURCES) - {"folder", "dicom"}
    assert set(mapping["nih"]) <= set(nih.FINDINGS)
    # Names that two collections share as they stand are the common ones.
    shared = {"Cardiomegaly", "Consolidation", "Edema", "Pneumonia", "Pneumothorax", "Atelectasis", "No Finding"}
    assert shared <= set(chexpert.FINDINGS) & set(nih.FINDINGS) - set(mapping["nih"])


def miniature(folder: Path, draw) -> Path:
    draw(folder, "a.png")
    (folder / "Data_Entry_2017.csv").write_text("Image Index,Finding Labels,Patient ID\na.png,Effusion|Nodule,1\n")
    return folder


def test_a_changed_mapping_replaces_the_shipped_one(tmp_path: Path, draw):
    folder = miniature(tmp_path / "nih", draw)
    mine = tmp_path / "mine.yaml"
    mine.write_text("nih:\n  Effusion: Water\n  Edema: Water\n")
    listing = CommonNames(NihSource(folder), mine).read(str)
    assert "Water" in listing.findings
    assert {"Effusion", "Edema"}.isdisjoint(listing.findings)
    (record,) = listing.records
    assert (record.findings["Water"], record.findings["Nodule"]) == (1, 1)
    # Another mapping makes another store.
    assert CommonNames(NihSource(folder), mine).settings() != CommonNames(NihSource(folder)).settings()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nih:\n  Effusion: 3\n", "common ones of Effusion"),
        ("nih:\n  Effusion: []\n", "common ones of Effusion"),
        ("nih:\n  Effusion: view\n", "view for Effusion"),
        ("- a\n", "list"),
        ("a: [", "a YAML file"),
    ],
)
def test_a_mapping_that_is_none_is_refused(tmp_path: Path, text: str, message: str):
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(ScarceError, match=message):
        CommonNames(NihSource(tmp_path), tmp_path / "mine.yaml")


def test_a_source_without_a_mapping_keeps_its_names(tmp_path: Path, draw):
    table = tmp_path / "labels.csv"
    table.write_text("film,Mass\na.png,1\n")
    source = FolderSource(draw(tmp_path / "films", "a.png"), table, label_columns=["Mass"])
    assert CommonNames(source).read(str).records == source.read(str).records
