"""A user's labels meet their films, and whatever does not is counted and told."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from scarce_cxr.errors import ScarceError
from scarce_cxr.images.keys import private_folder
from scarce_cxr.images.labels import Labels, normals, read_labels
from scarce_cxr.images.store import COLUMNS, Store
from scarce_cxr.images.writer import Plan, StoreWriter

SIDE = 8


def make_store(path: Path, ids: list[str], findings: dict[str, list], names: list[str] | None = None) -> Store:
    """A store of blank films; `names` go into a private folder."""
    writer = StoreWriter(path, Plan({"source": "folder", "size": SIDE, "bits": 8, "shard_mib": 1}, list(findings)))
    rows = [{"image_id": image_id, **{k: v[i] for k, v in findings.items()}} for i, image_id in enumerate(ids)]
    writer.write_shard(0, np.zeros((len(ids), SIDE, SIDE), np.uint8), rows)
    if names is not None:
        private_folder(path).mkdir()
        pd.DataFrame({"image_id": ids, "path": names}).to_parquet(private_folder(path) / "names.parquet")
    return writer.finish()


@pytest.fixture
def unlabelled(tmp_path: Path) -> Store:
    names = ["a/one.png", "a/two.png", "b/one.png", "c/1.2.840.7"]
    return make_store(tmp_path / "ours", ["f0", "f1", "f2", "f3"], {}, names)


@pytest.fixture
def labelled(tmp_path: Path) -> Store:
    findings = {"Mass": [1, 0, -1, None], "Edema": [0, 0, 0, None], "No Finding": [None, None, None, 1]}
    return make_store(tmp_path / "theirs", ["f0", "f1", "f2", "f3"], findings)


def read(store: Store, text: str, **options) -> Labels:
    path = store.path.parent / "labels.csv"
    path.write_text(text, encoding="utf-8")
    return read_labels(store, file=path, **options)


def values(labels: Labels, finding: str = "Mass") -> list[float | None]:
    return [None if np.isnan(value) else value for value in labels.table[finding]]


def test_the_stores_own_labels_follow_the_policies(labelled: Store):
    assert values(read_labels(labelled)) == [1, 0, None, None]
    assert values(read_labels(labelled, uncertain="positive")) == [1, 0, 1, None]
    assert values(read_labels(labelled, uncertain="negative", unmentioned="negative")) == [1, 0, 0, 0]
    labels = read_labels(labelled)
    assert labels.counts.loc["Mass"].to_dict() == {
        "positive": 1,
        "negative": 1,
        "uncertain": 1,
        "not mentioned": 1,
        "unreadable": 0,
        "contradicting": 0,
        "without a row": 0,
    }
    assert labels.notes == ["1 labels uncertain: left out", "2 labels not mentioned: left out"]


def test_no_finding_is_read_when_it_is_named_and_not_by_itself(labelled: Store):
    assert read_labels(labelled).findings == ["Mass", "Edema"]
    assert values(read_labels(labelled, ["No Finding"]), "No Finding") == [None, None, None, 1]


def test_normal_films_show_nothing_whichever_findings_are_asked_for(labelled: Store):
    for labels in (read_labels(labelled), read_labels(labelled, ["Edema"])):
        # A mass; nothing; perhaps a mass; said to be without finding.
        assert normals(labels).tolist() == [False, True, False, True]
        assert labels.abnormal.tolist() == [True, False, False, False]
    assert normals(labelled).tolist() == [False, True, False, True]


def test_a_film_without_listed_findings_is_normal_only_if_no_finding_does_not_deny_it(tmp_path: Path):
    store = make_store(tmp_path / "store", ["f0", "f1", "f2"], {"Mass": [0, 0, 1], "No Finding": [0, 1, 1]})
    assert normals(store).tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["f3", "f0"], [0, None, None, 1]),
        (["a/two.png", "b/one.png"], [None, 1, 0, None]),
        (["/mnt/x/a/two.png", "C:\\films\\b\\one.png"], [None, 1, 0, None]),
        (["two.png", "1.2.840.7"], [None, 1, None, 0]),
        (["two", "b/one"], [None, 1, 0, None]),
        (["two.dcm", "1.2.840.7.dcm"], [None, 1, None, 0]),
    ],
)
def test_films_are_found_by_id_path_name_or_stem(unlabelled: Store, cells: list[str], expected: list):
    labels = read(unlabelled, f"nr,film,Mass\n5,{cells[0]},1\n6,{cells[1]},0\n")
    assert values(labels) == expected
    assert "column 'film' matched" in labels.notes[0]
    assert "2 of 2 rows, 2 films" in labels.notes[0]


def test_a_path_in_another_folder_is_another_film(unlabelled: Store):
    labels = read(unlabelled, "film,Mass\na/two.png,1\nz/two.png,0\n")
    assert values(labels) == [None, 1, None, None]
    assert "1 rows match no film of the store: 'z/two.png'" in labels.notes


def test_a_name_of_two_films_is_counted_and_left_out(unlabelled: Store):
    labels = read(unlabelled, "film,Mass\none.png,1\ntwo.png,0\n")
    assert values(labels) == [None, 0, None, None]
    assert "1 rows match several films and are left out: 'one.png'" in labels.notes


def test_an_equal_path_goes_before_one_that_ends_alike(tmp_path: Path):
    store = make_store(tmp_path / "store", ["f0", "f1"], {}, ["one.png", "a/one.png"])
    assert values(read(store, "film,Mass\none.png,1\na/one.png,0\n")) == [1, 0]


def test_what_matches_nothing_is_counted_and_three_are_shown(unlabelled: Store):
    labels = read(unlabelled, "film,Mass\nf0,1\n" + "".join(f"stranger {number},1\n" for number in range(5)))
    assert "5 rows match no film of the store: 'stranger 0', 'stranger 1', 'stranger 2'" in labels.notes
    assert "3 films have no row: their labels stay empty" in labels.notes
    assert labels.counts.loc["Mass", "without a row"] == 3


def test_names_need_the_private_folder_and_ids_do_not(unlabelled: Store):
    shutil.rmtree(private_folder(unlabelled.path))
    assert values(read(unlabelled, "film,Mass\nf1,1\n")) == [None, 1, None, None]
    with pytest.raises(ScarceError, match="private folder"):
        read(unlabelled, "film,Mass\na/two.png,1\n")


def test_words_and_numbers_are_read_and_anything_else_is_counted(tmp_path: Path):
    cells = [
        "1",
        "1.0",
        "Yes",
        "TRUE",
        "positive",
        "0",
        "no",
        "False",
        "Negative",
        "-1",
        "-1.0",
        "",
        "NaN",
        "maybe",
        "7",
    ]
    ids = [f"f{number:02d}" for number in range(len(cells))]
    store = make_store(tmp_path / "store", ids, {})
    text = "id,Mass\n" + "".join(f"{image_id}, {cell} \n" for image_id, cell in zip(ids, cells, strict=True))
    labels = read(store, text, uncertain="positive", unmentioned="negative")
    # What is unreadable stays without a label under every policy.
    assert values(labels) == [1] * 5 + [0] * 4 + [1, 1] + [0, 0] + [None, None]
    assert labels.counts.loc["Mass"].tolist() == [5, 4, 2, 2, 2, 0, 0]
    assert "2 values of Mass are no labels and are left out: 'maybe', '7'" in labels.notes


def test_rows_of_one_film_that_contradict_each_other_are_left_out(unlabelled: Store):
    text = "id,Mass,Edema\nf0,1,1\nf0,1,0\nf1,,0\nf1,1,0\nf2,-1,0\nf2,1,0\nf3,0,\nf3,0,\n"
    labels = read(unlabelled, text, uncertain="positive", unmentioned="negative")
    assert values(labels) == [1, 1, None, 0]
    assert values(labels, "Edema") == [None, 0, 0, 0]
    assert labels.counts["contradicting"].tolist() == [1, 1]
    assert "2 labels contradict another row of the same film and are left out" in labels.notes


def test_a_film_without_a_row_is_no_negative_under_any_policy(unlabelled: Store):
    assert values(read(unlabelled, "id,Mass\nf0,1\nf1,\n", unmentioned="negative")) == [1, 0, None, None]


def test_columns_that_hold_no_labels_are_passed_over_and_named(unlabelled: Store):
    text = "id;ward;Age;No Finding;Mass;Edema\n" + "".join(f"f{n};ward {n};{n % 2};{n % 2};1;0\n" for n in range(4))
    labels = read(unlabelled, text)
    assert labels.findings == ["Mass", "Edema"]
    assert "columns that are no findings: ward, Age" in labels.notes
    assert read(unlabelled, text, findings=["Edema"]).findings == ["Edema"]


def test_one_finding_alone_says_what_normal_means(unlabelled: Store):
    labels = read(unlabelled, "id,Mass\nf0,1\nf1,0\n")
    assert "one finding is known: a film without it counts as normal" in labels.notes
    assert normals(labels).tolist() == [False, True, False, False]


def test_unknown_names_are_refused_with_the_one_that_was_meant(unlabelled: Store, labelled: Store):
    with pytest.raises(ScarceError, match="did you mean 'Edema'"):
        read_labels(labelled, ["edemas"])
    with pytest.raises(ScarceError, match="did you mean 'Mass'"):
        read(unlabelled, "id,Mass\nf0,1\n", findings=["Masses"])
    with pytest.raises(ScarceError, match="did you mean 'film'"):
        read(unlabelled, "film,Mass\nf0,1\n", id_column="Films")
    with pytest.raises(ScarceError, match="uncertain"):
        read_labels(labelled, uncertain="ignore")


def test_a_file_that_cannot_be_joined_is_refused(unlabelled: Store):
    for text, reason in (
        ("id,Mass\nstranger,1\n", "'stranger' in 'id'"),
        ("id,Mass\n", "no row"),
        ("id,ward\nf0,north\n", "columns there: id, ward"),
    ):
        with pytest.raises(ScarceError, match=reason):
            read(unlabelled, text)
    with pytest.raises(ScarceError, match="CSV table"):
        read_labels(unlabelled, file=unlabelled.path / "nothing.csv")
    with pytest.raises(ScarceError, match="without any label"):
        read_labels(unlabelled)


def test_the_id_column_that_is_named_wins(unlabelled: Store):
    text = "id,copied_from,Mass\nf0,f1,1\nf1,,0\n"
    assert values(read(unlabelled, text)) == [1, 0, None, None]
    assert values(read(unlabelled, text, id_column="copied_from")) == [None, 1, None, None]


def test_every_column_of_a_stores_table_is_passed_over(unlabelled: Store):
    text = f"{','.join(COLUMNS)},Mass\nf0,{','.join('1' for _ in COLUMNS)}\n"
    assert read(unlabelled, text).findings == ["Mass"]
