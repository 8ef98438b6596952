"""`scarce check` finds what was put into a store, names it in a table, and draws no film if told so."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from scarce_cxr.cli import main
from scarce_cxr.commands.check import check
from scarce_cxr.errors import ScarceError
from scarce_cxr.images.decode import quantise, scale
from scarce_cxr.images.phantoms import draw_film
from scarce_cxr.images.phantoms.lateral import draw_lateral
from scarce_cxr.images.writer import Plan, StoreWriter


def write(path: Path, films: list[np.ndarray], patients: list[str], digests: list[str], views: list[str]) -> Path:
    writer = StoreWriter(path, Plan({"size": 96, "fit": "crop", "bits": 8, "shard_mib": 1, "source": "folder"}))
    rows = [
        {
            "image_id": f"{path.name}{n}",
            "source": "folder",
            "patient_id": patient,
            "sha256": digest,
            "view": view,
            "height": 96,
            "width": 96,
        }
        for n, (patient, digest, view) in enumerate(zip(patients, digests, views, strict=True))
    ]
    writer.write_shard(0, np.array(films), rows)
    writer.finish()
    return path


@pytest.fixture(scope="module")
def stores(tmp_path_factory) -> list[Path]:
    """a: four films, a negative of one, a lateral one that says so, one film twice. b: one of those, and a stranger."""
    folder = tmp_path_factory.mktemp("check")
    films = [quantise(scale(draw_film(78, patient, 0, 96).pixels)) for patient in range(11, 16)]
    lateral = quantise(scale(draw_lateral(78, 11, 96)))
    a = [*films[:4], 255 - films[0], lateral, films[2]]
    views = ["PA"] * 5 + ["LATERAL", "PA"]
    write(folder / "a", a, list("pqrspts"), ["0", "1", "2", "3", "4", "5", "2"], views)
    write(folder / "b", [films[3], films[4]], ["s", "v"], ["other", "new"], ["PA", "UNKNOWN"])
    return [folder / "a", folder / "b"]


def test_the_suspects_are_those_that_were_put_there(stores, tmp_path):
    result = check(stores, out=tmp_path / "out", jobs=1)
    suspects = pd.read_csv(tmp_path / "out" / "suspects.csv")
    assert list(suspects.columns) == ["store", "kind", "image_id", "number", "why"]
    found = {(s.store, s.kind, s.image_id) for s in suspects.itertuples()}
    # The pseudonym s is in both, with one film.
    copies = {("a", "near-duplicate", "a3")}
    assert found == {("a", "inverted", "a4"), ("a", "file", "a2"), ("a", "patient", "a3"), *copies}
    assert [row[:4] for row in result.tables[0].rows] == [
        ["a", "inverted", 1, 1],
        ["a", "file", 1, 1],
        ["a, b", "near-duplicate", 1, 1],
        ["a, b", "patient", 1, 1],
    ]
    assert "a: 7 films of 5 patients; b: 2 films of 2 patients" in result.tables[0].note
    seen = {row["view by the table"]: row for row in result.tables[1].records()}
    assert seen["LATERAL"]["look lateral"] == 1
    assert (seen["PA"]["films"], seen["PA"]["look frontal"]) == (6, 5)
    gap = result.tables[2].records()
    assert [row["between"] for row in gap] == ["a", "half of a", "half of b"]
    assert gap[0]["films (patients)"] == "6 (4) and 2 (2)"
    assert {path.name for _, path in result.files} == {"suspects.csv", "suspects.png", "gap.png"}
    assert all(path.is_file() for _, path in result.files)
    assert any("do not share a key" in note for note in result.notes)


def test_redacted_it_draws_no_film_and_leaves_none_from_before(stores, tmp_path, capsys):
    (tmp_path / "suspects.png").write_text("an old sheet")
    assert main(["check", str(stores[0]), "--out", str(tmp_path), "--redact", "--jobs", "1", "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["tables"]["Suspects"][0]["kind"] == "inverted"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gap.png", "suspects.csv"]


def test_without_copies_patients_are_compared_all_the_same(stores, tmp_path):
    result = check(stores, out=tmp_path, copies=False, redact=True, jobs=1)
    assert [row[1] for row in result.tables[0].rows] == ["inverted", "patient"]


@pytest.mark.parametrize(("options", "message"), [({"stores": []}, "at least one store"), ({"pictures": 0}, "picture")])
def test_what_cannot_be_done_is_refused(stores, options, message):
    with pytest.raises(ScarceError, match=message):
        check(**{"stores": stores, **options})


def test_films_too_small_to_tell_anything_of_are_refused_before_any_work(tmp_path, capsys):
    writer = StoreWriter(tmp_path / "tiny", Plan({"size": 15, "fit": "crop", "bits": 8, "shard_mib": 1, "source": "x"}))
    writer.write_shard(0, np.zeros((1, 15, 15), np.uint8), [{"image_id": "0", "height": 96, "width": 96}])
    writer.finish()
    assert main(["check", str(tmp_path / "tiny"), "--out", str(tmp_path / "out")]) == 2
    assert "at least 16 pixels a side" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
