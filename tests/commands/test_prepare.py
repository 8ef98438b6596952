"""`scarce prepare` and `scarce show` return what the user needs to see."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from jsonargparse import CLI
from PIL import Image

from scarce_cxr.commands.prepare import prepare
from scarce_cxr.commands.show import show
from scarce_cxr.errors import ScarceError
from scarce_cxr.images.store import Store
from scarce_cxr.results import Result


@pytest.fixture
def films(tmp_path: Path) -> Path:
    folder = tmp_path / "films"
    folder.mkdir()
    random = np.random.default_rng(0)
    for index in range(6):
        Image.fromarray(random.integers(0, 256, (40, 30), dtype=np.uint8)).save(folder / f"{index}.png")
    (folder / "broken.png").write_text("no picture")
    rows = [f"{index}.png,P{index // 2},{'1' if index < 3 else ''},{[1, -1][index % 2]}" for index in range(6)]
    (tmp_path / "labels.csv").write_text("\n".join(["file,who,Mass,Edema", *rows]))
    return folder


def values(result: Result, table: int = 0) -> dict:
    return {row[0]: row[1] for row in result.tables[table].rows}


@pytest.mark.parametrize("bits", ["8", "16"])
def test_the_command_line_prepares_and_shows_a_folder(films: Path, tmp_path: Path, bits: str):
    store, sheet = tmp_path / "store", tmp_path / "sheet.png"
    line = [str(films), str(store), "--kind", "folder", "--size", "24", "--bits", bits, "--jobs", "1"]
    line += ["--csv", str(tmp_path / "labels.csv"), "--patient_column", "who", "--label_columns", "[Mass, Edema]"]
    prepared = CLI(prepare, args=line)
    facts = values(prepared)
    assert (facts["films"], facts["patients"], facts["files skipped"], facts["files opened now"]) == (6, 3, 1, 7)
    assert values(prepared, 1) == {"not an image": 1}
    assert prepared.tables[2].records() == [
        {"finding": "Mass", "present": 3, "uncertain": 0, "mentioned": 3, "patients": 2},
        {"finding": "Edema", "present": 3, "uncertain": 3, "mentioned": 6, "patients": 3},
    ]
    shown = CLI(show, args=[str(store), "--out", str(sheet), "--films", "4"])
    assert values(shown)["films"] == 6
    assert shown.files == [("contact sheet", sheet)]
    with Image.open(sheet) as image:
        image.load()


def test_a_second_preparation_says_that_there_was_nothing_to_do(films: Path, tmp_path: Path):
    prepare(films, tmp_path / "store", "folder", size=24, jobs=1)
    again = prepare(films, tmp_path / "store", "folder", size=24, jobs=1)
    assert values(again)["files opened now"] == 0
    assert "nothing was read again" in again.notes[0]


def test_settings_of_a_folder_are_refused_for_nih(films: Path, tmp_path: Path):
    with pytest.raises(ScarceError, match="patient_pattern"):
        prepare(films, tmp_path / "store", "nih", patient_pattern="(.)")


def test_a_collection_is_recognised_and_takes_common_names(films: Path, tmp_path: Path):
    rows = "".join(f"{index}.png,{('Effusion', 'No Finding')[index % 2]},{index}\n" for index in range(6))
    (films / "Data_Entry_2017.csv").write_text("Image Index,Finding Labels,Patient ID\n" + rows)
    line = [str(films), str(tmp_path / "store"), "--size", "24", "--jobs", "1", "--names", "common"]
    found = CLI(prepare, args=line).tables[2].records()
    present = {row["finding"]: row["present"] for row in found if row["present"]}
    assert present == {"Pleural Effusion": 3, "No Finding": 3}


def test_kaggles_table_is_recognised_without_a_word(films: Path, tmp_path: Path):
    rows = "".join(f"{index},Mass,R{reader}\n" for index in range(6) for reader in range(3))
    (films / "train.csv").write_text("image_id,class_name,rad_id\n" + rows)
    prepared = prepare(films, tmp_path / "store", size=24, jobs=1)
    assert prepared.tables[2].records()[0] == {
        "finding": "Mass",
        "present": 6,
        "uncertain": 0,
        "mentioned": 6,
        "patients": 6,
    }
    assert Store.open(tmp_path / "store").settings["patients"] == "unknown"


@pytest.mark.parametrize(
    ("kind", "setting", "message"),
    [
        ("nih", {"readers": "any"}, "kind nih \\(none of its own\\).*readers.*vindr"),
        ("padchest", {"csv": Path("labels.csv")}, "kind padchest \\(labels, exclude, views\\).*csv.*folder"),
        ("nih", {"names_file": Path("mine.yaml")}, "--names common"),
        ("mimic", {"labels": "physician"}, "labels = physician"),
    ],
)
def test_settings_of_another_kind_are_refused(films: Path, tmp_path: Path, kind: str, setting: dict, message: str):
    with pytest.raises(ScarceError, match=message):
        prepare(films, tmp_path / "store", kind, **setting)


def test_importing_the_commands_is_light():
    code = (
        "import sys, scarce_cxr.commands.prepare, scarce_cxr.commands.show;"
        "heavy = {'numpy', 'pandas', 'matplotlib', 'PIL', 'joblib', 'pyarrow', 'torch'} & set(sys.modules);"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
