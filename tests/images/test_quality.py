"""Negatives, turned and lateral films, pictures of something else and outliers are found; chest films pass."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.stats import median_abs_deviation

from scarce_cxr.images import quality
from scarce_cxr.images.decode import decode, quantise, resize, scale
from scarce_cxr.images.phantoms import draw_film
from scarce_cxr.images.phantoms.lateral import draw_lateral


@pytest.fixture(scope="module")
def frontal() -> np.ndarray:
    """(12, 64, 64) uint8 phantoms that the model has not learnt from."""
    return np.array([quantise(scale(draw_film(77, patient, 0, 64).pixels)) for patient in range(1, 13)])


@pytest.fixture(scope="module")
def real(nih_folder) -> np.ndarray:
    """(50, 320, 320) uint8: every twentieth real frontal film."""
    paths = sorted((nih_folder / "images").iterdir())[::20]
    return np.array([quantise(resize(scale(decode(path)), 320)[0]) for path in paths])


def posed(films: np.ndarray) -> list[np.ndarray]:
    return [films, 255 - films, films[:, ::-1], np.rot90(films, 1, (1, 2)), np.rot90(films, 3, (1, 2))]


def kinds(films: np.ndarray, views: np.ndarray | None = None) -> list[str]:
    found = quality.suspects(quality.measure_films(films), views).set_index("row")["kind"]
    return [found.get(row, "") for row in range(len(films))]


def test_ranks_are_those_of_areas_and_know_neither_contrast_nor_exposure():
    order = np.random.default_rng(0).permutation(256)
    film = np.kron(order.reshape(16, 16), np.ones((4, 4), int)).astype(np.uint8)[None]
    ranks = quality.rank_coarsely(film)
    assert np.allclose(ranks, (order - 127.5) / np.std(np.arange(256)))
    brighter = (255 * (film / 255) ** 0.5).astype(np.float32)
    assert np.allclose(quality.rank_coarsely(brighter), ranks)
    assert np.allclose(quality.rank_coarsely(255 - film), -ranks)
    assert not quality.rank_coarsely(np.full((1, 32, 32), 7, np.uint8)).any()


def test_every_pose_is_undone(frontal):
    ranks = quality.rank_coarsely(frontal)
    for number, films in enumerate(posed(frontal)):
        undone = quality.set_upright(quality.rank_coarsely(films), np.full(len(films), number))
        assert np.allclose(undone, ranks), quality.POSES[number]


@pytest.mark.parametrize(
    ("number", "kind"), list(enumerate(["", "inverted", "turned", "turned", "turned"])), ids=quality.POSES[:5]
)
def test_new_phantoms_are_told_apart_by_pose(frontal, number, kind):
    assert kinds(posed(frontal)[number]) == [kind] * len(frontal)


def test_laterals_are_suspects_unless_the_table_knows_them():
    films = np.array([quantise(scale(draw_lateral(77, patient, 64))) for patient in range(1, 9)])
    assert kinds(films) == ["lateral"] * 8
    assert kinds(films, np.array(["LATERAL", "PA"] * 4)) == ["", "lateral"] * 4


def test_of_real_films_few_are_suspects_and_their_negatives_and_turned_versions_are_found(real):
    # The rates that the module states allow for one of 50 more than these in a hundred draws.
    assert kinds(real).count("") >= 47
    for number, kind in enumerate(["inverted", "turned", "turned", "turned"], 1):
        assert kinds(posed(real)[number]).count(kind) >= 47, quality.POSES[number]


def test_a_real_film_that_is_wrongly_flagged_as_a_negative_is_found(real_dicom):
    films = [decode(real_dicom / f"rsna_jpeg_{name}.dcm") for name in ("mono2", "mono1_flagonly")]
    assert kinds(np.array([quantise(resize(scale(film), 256)[0]) for film in films])) == ["", "inverted"]


def test_pictures_of_something_else_are_no_chest():
    from sklearn.datasets import load_digits, load_sample_images

    noise = np.random.default_rng(0).random((160, 160))
    pictures = [image.mean(axis=2) for image in load_sample_images().images]
    pictures += [np.kron(digit, np.ones((20, 20))) for digit in load_digits().images[:10]] + [noise]
    films = np.array([quantise(resize(scale(picture), 160)[0]) for picture in pictures])
    assert sum(kind in ("no chest", "clipped") for kind in kinds(films)) >= 11


def test_blank_and_clipped_films_are_found_before_anything_else(frontal):
    blank = np.full((64, 64), 128, np.uint8)
    clipped = frontal[0].copy()
    clipped[16:48, 16:20] = 255  # an eighth of the middle
    border = frontal[1].copy()
    border[:, :8] = 0
    assert kinds(np.array([blank, clipped, border])) == ["blank", "clipped", ""]
    saturated = quality.measure_films(np.array([blank, clipped, border]))["saturated"]
    assert saturated[0] == saturated[2] == 0
    assert saturated[1] == pytest.approx(1 / 8, abs=0.01)


def test_a_film_is_measured_alike_alone_and_in_company_and_at_any_depth(frontal):
    together = quality.measure_films(frontal)
    alone = pd.concat([quality.measure_films(frontal[row : row + 1]) for row in range(3)], ignore_index=True)
    pd.testing.assert_frame_equal(together[:3], alone)
    deep = quality.measure_films(frontal.astype(np.uint16) * 257)
    pd.testing.assert_frame_equal(together, deep, rtol=1e-6)
    # Areas that are equally dark as whole numbers may not be so as fractions.
    pd.testing.assert_frame_equal(together, quality.measure_films(frontal / 255), atol=0.01)
    assert np.allclose(together["mean"], (frontal / 255).mean(axis=(1, 2)))
    assert np.allclose(together[list(quality.POSES)].sum(axis=1), 1)


@pytest.mark.parametrize(
    "wrong", [np.zeros((64, 64), np.uint8), np.zeros((1, 8, 8), np.uint8), np.zeros((1, 32, 32), int)]
)
def test_arrays_that_are_no_films_are_refused(wrong):
    with pytest.raises(ValueError, match="films must be"):
        quality.measure_films(wrong)


def test_robust_z_is_scipys_and_never_finer_than_asked():
    values = np.random.default_rng(0).normal(3, 2, 101)
    expected = (values - np.median(values)) / median_abs_deviation(values, scale="normal")
    assert np.allclose(quality.robust_z(values), expected, rtol=1e-4)
    assert quality.robust_z(np.array([1.0, 1.0, 1.0, 2.0]), finest=0.5).tolist() == [0, 0, 0, 2]
    assert quality.robust_z(np.array([1.0, 1.0, 2.0])).tolist() == [0, 0, 0]


def test_odd_shapes_sizes_and_intensities_are_found():
    table = pd.DataFrame({"height": [1000] * 40, "width": [1000] * 40})
    measures = pd.DataFrame({"mean": np.linspace(0.5, 0.6, 40), "std": 0.25})
    table.loc[3] = (3000, 1000)
    table.loc[5] = (200, 200)
    measures.loc[7, "mean"] = 0.95
    measures.loc[9, "std"] = 0.05
    found = quality.outliers(table, measures)
    assert list(zip(found["row"], found["kind"], strict=True)) == [
        (3, "aspect"),
        (3, "size"),
        (5, "size"),
        (7, "intensity"),
        (9, "intensity"),
    ]
    assert found["number"][0] == 3.0
    few = quality.outliers(table[:29], measures[:29])
    assert few["kind"].tolist() == ["aspect"]


def test_looks_are_counted_by_the_tables_views():
    measures = pd.DataFrame({"upright": [0.9, 0.1, 0.1, 0.2], "lateral": [0.0, 0.9, 0.8, 0.1]})
    seen = quality.views_as_seen(measures, np.array(["PA", "LATERAL", "PA", "LATERAL"]))
    assert seen.to_dict("records") == [
        {"view": "LATERAL", "films": 2, "frontal": 0, "lateral": 1, "other": 1},
        {"view": "PA", "films": 2, "frontal": 1, "lateral": 1, "other": 0},
    ]


def test_lateral_phantoms_are_repeatable_and_face_both_ways(tmp_path):
    film = draw_lateral(3, 5, 48)
    assert np.array_equal(film, draw_lateral(3, 5, 48))
    assert film.dtype == np.float32
    assert film.min() >= 0
    assert film.max() <= 1
    # A picture of it can be looked at.
    Image.fromarray(quantise(film)).save(tmp_path / "lateral.png")
