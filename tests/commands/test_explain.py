"""`scarce explain` draws maps of test films with the finding and says whether they show what was learned."""

import json

import pytest
from safetensors.torch import save_file
from tests.evaluation.planted import make_store

from scarce_cxr.backbones.backbone import Backbone, BackboneSettings
from scarce_cxr.cli import main
from scarce_cxr.commands.explain import explain
from scarce_cxr.errors import ScarceError


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("planted") / "store").path


def test_a_planted_finding_is_told_and_drawn_with_its_check(store, tmp_path, capsys):
    weights = tmp_path / "other.safetensors"
    save_file(Backbone(BackboneSettings("test_resnet")).model.state_dict(), weights)
    words = ["explain", "test_resnet", f"file=test_resnet:{weights}", "--store", str(store), "--finding", "Effusion"]
    assert main([*words, "--films", "2", "--size", "64", "--out", str(tmp_path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    (rows,) = told["tables"].values()
    assert [row["start"] for row in rows] == ["random test_resnet", "file"]
    assert float(rows[0]["AUROC on test"].split()[0]) > 0.8
    positives, films = map(int, rows[0]["test"].split(" of "))
    assert 0 < positives < films
    assert rows[0]["stage drawn"] == "layer3, 4 x 4"
    # Random weights have learned nothing that a comparison with other random ones could show.
    assert rows[0]["map"] is None
    assert rows[1]["map"] in ("changed", "unchanged")
    assert (tmp_path / "grad-cam.png").is_file()
    assert (tmp_path / "stages.png").is_file()
    assert sum("random networks" in note for note in told["notes"]) == 4
    assert "how the collection was drawn" in told["notes"][-1]


def test_what_is_missing_is_asked_for_and_a_finding_without_test_films_is_refused(store, tmp_path):
    with pytest.raises(ScarceError, match="a finding"):
        explain(["test_resnet"], store)
    with pytest.raises(ScarceError, match="did you mean 'Effusion'"):
        explain(["test_resnet"], store, "effusoin")
    with pytest.raises(ScarceError, match="at least one film"):
        explain(["test_resnet"], store, "Effusion", films=0)
    with pytest.raises(ScarceError, match="convolutional"):
        explain(["test_vit"], store, "Effusion", tmp_path, size=160, films=1)
