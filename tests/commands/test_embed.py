"""`scarce embed` makes features ready, and says what it made."""

import json

import numpy as np

from scarce_cxr.cli import main


def test_the_store_comes_first_and_every_word_after_it_is_a_start(small_store, capsys):
    words = ["embed", str(small_store), "random:test_resnet", "again=test_resnet", "--size", "32", "--json"]
    assert main(words) == 0
    rows = json.loads(capsys.readouterr().out)["tables"]["Features"]
    assert [list(row) for row in rows] == 2 * [["start", "films", "features", "size", "seconds", "file"]]
    assert [row["start"] for row in rows] == ["random test_resnet", "again"]
    # Both have the same weights: the second reads what the first computed.
    assert rows[0]["file"] == rows[1]["file"]
    assert rows[1]["seconds"] == 0
    made = np.load(small_store.with_name(f"{small_store.name}.features") / rows[0]["file"])
    assert made.shape == (rows[0]["films"], rows[0]["features"]) == (48, made.shape[1])
    assert rows[0]["size"] == 32


def test_a_start_is_asked_for(small_store, capsys):
    assert main(["embed", str(small_store)]) == 2
    assert "starts" in capsys.readouterr().err
