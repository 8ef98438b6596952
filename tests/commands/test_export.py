"""`scarce export` writes what the how-to page says, under a name that is free."""

import json

import pytest
from tests.evaluation.phantoms import FINDINGS, START, phantom_films  # noqa: F401 - a fixture

from scarce_cxr.cli import main


def say(capsys, *words: str) -> dict:
    assert main([*words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_model_with_probes_is_written_and_told_of(phantom_films, tmp_path, capsys):  # noqa: F811
    words = [START, str(tmp_path / "model"), "--to", "hf", "--store", str(phantom_films.store), "--size", "64"]
    said = say(capsys, "export", *words, "--finding", *FINDINGS)
    assert said["files"] == {"model": str(tmp_path / "model")}
    agreed, probes = said["tables"].values()
    assert {row["output"] for row in agreed} >= {"features", "probabilities", "distances"}
    assert max(row["difference"] for row in agreed) < 1e-3
    assert [row["finding"] for row in probes] == FINDINGS
    assert all(0 < row["threshold"] < 1 for row in probes)
    assert any("The guard warns of" in note for note in said["notes"])
    assert f"\nNext: scarce predict {tmp_path / 'model'} FILMS" in said["notes"]


@pytest.mark.parametrize(
    ("words", "mend"),
    [
        ((START, "MODEL", "--finding", "Effusion"), "add --store STORE"),
        ((START, "MODEL"), "add --store STORE"),
        ((START, "MODEL", "--store", "STORE", "--finding", "Gallstones"), "choose one of them"),
        ((START, "MODEL", "--store", "STORE", "--finding", "Effusion", "--shot", "few"), "for instance --shots"),
    ],
)
def test_what_cannot_be_is_said_with_what_to_do(words, mend, phantom_films, tmp_path, capsys):  # noqa: F811
    places = {"MODEL": str(tmp_path / "model"), "STORE": str(phantom_films.store)}
    assert main(["export", *(places.get(word, word) for word in words)]) == 2
    assert mend in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
