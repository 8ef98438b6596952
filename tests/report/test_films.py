"""The map's films, groups and neighbours are the store's own, and redaction leaves no names."""

import shutil

import numpy as np
import pytest
from tests.report.shown import EVIL

from scarce_cxr.report import films as of_films
from scarce_cxr.report.films import map_films
from scarce_cxr.report.runs import read_runs


@pytest.fixture(scope="module")
def film_map(run):
    (made,), notes = map_films(read_runs([run]))
    assert notes == []
    return made


def test_every_film_has_its_name_words_and_group(film_map, store):
    table = store.table.set_index("image_id").loc[film_map.names]
    assert sorted(film_map.names) == sorted(store.table["image_id"])
    colorings = {coloring.name: coloring for coloring in film_map.colorings}
    assert list(colorings) == ["any finding", EVIL, "split", "view", "sex"]
    for name, column in (("view", "view"), ("sex", "sex")):
        groups = np.array(colorings[name].groups)[colorings[name].codes]
        assert groups.tolist() == table[column].to_list()
    has = np.array(colorings[EVIL].groups)[colorings[EVIL].codes] == "with it"
    assert has.tolist() == (table[EVIL] == 1).to_list()
    assert [words.startswith(EVIL) for words in film_map.words] == has.tolist()


def test_neighbours_are_of_other_patients_the_nearest_first(film_map, store):
    patients = store.table.set_index("image_id").loc[film_map.names, "patient_id"].to_numpy()
    (shown,) = film_map.maps
    neighbours, cosines = np.array(shown.neighbours), np.array(shown.cosines)
    assert neighbours.shape == (60, 5)
    assert (patients[neighbours] != patients[:, None]).all()
    assert (np.diff(cosines, axis=1) <= 0).all()
    assert len(set(patients[film_map.queries])) == 4


def test_held_out_patients_are_those_of_the_recipe(film_map, store):
    from scarce_cxr.images.splits import held_out

    (coloring,) = film_map.maps[0].colorings
    out = dict(zip(store.table["image_id"], held_out(store.table, 0.2), strict=True))
    said = np.array(coloring.groups)[coloring.codes] == "held out"
    assert said.tolist() == [out[name] for name in film_map.names]


def test_fewer_films_are_the_first_of_the_same_order(film_map, run):
    (fewer,), _ = map_films(read_runs([run]), films=20)
    assert fewer.names == film_map.names[:20]
    assert fewer.films == 60


def test_a_large_store_is_not_embedded_whole(run, store, film_map, monkeypatch):
    monkeypatch.setattr(of_films, "_EMBEDDED_WHOLE", 10)
    monkeypatch.setattr(of_films, "embed", lambda *arguments, **settings: pytest.fail("the whole store"))
    (made,), _ = map_films(read_runs([run]))
    ours, theirs = (next(iter(each.maps[0].layouts.values())) for each in (made, film_map))
    assert np.abs(np.array(ours)) == pytest.approx(np.abs(np.array(theirs)), abs=0.02)


def test_redaction_leaves_points_alone(run):
    (made,), _ = map_films(read_runs([run]), redact=True)
    assert (made.names, made.words, made.sheet) == ([], [], None)
    assert made.maps[0].neighbours == []
    assert len(next(iter(made.maps[0].layouts.values()))) == 60


def test_a_run_without_its_backbone_is_left_out_by_name(run, tmp_path):
    bare = shutil.copytree(run, tmp_path / "bare")
    (bare / "backbone-last.safetensors").unlink()
    maps, (note,) = map_films(read_runs([bare]))
    assert maps == []
    assert note.startswith("bare: no map of films")
