"""The guard's distance is that of the fitted Gaussian, its threshold holds on other patients, it carries no film."""

import numpy as np
import pytest
from scipy.spatial.distance import mahalanobis
from sklearn.decomposition import PCA

from scarce_cxr.evaluation.guard import FEWEST_PATIENTS, distances_of, fit_guard, warn_of
from scarce_cxr.images.decode import scale
from scarce_cxr.images.phantoms import draw_film

GENERATOR = np.random.default_rng(0)
MIXING = np.linspace(2, 0.3, 32)[:, None] * np.linalg.qr(GENERATOR.normal(size=(32, 32)))[0]


def draw_features(count: int) -> np.ndarray:
    return GENERATOR.normal(size=(count, 32)) @ MIXING + 5


def name_patients(count: int) -> np.ndarray:
    return np.array([f"p{number // 2}" for number in range(count)])


def test_it_is_the_distance_of_mahalanobis_under_probabilistic_pca():
    features = draw_features(120)
    guard, facts = fit_guard(features, name_patients(120))
    fitted = PCA(facts.axes, svd_solver="full").fit(features)
    precision = np.linalg.inv(fitted.get_covariance())
    expected = [mahalanobis(film, fitted.mean_, precision) for film in features[:5]]
    assert facts.axes == 30
    assert distances_of(guard, features[:5]) == pytest.approx(expected, rel=1e-3)


def test_of_other_films_of_the_kind_about_one_in_a_hundred_is_beyond_the_threshold():
    guard, facts = fit_guard(draw_features(2000), name_patients(2000))
    beyond = (distances_of(guard, draw_features(5000)) > facts.threshold).mean()
    assert 0.005 < beyond < 0.02
    assert (facts.films, facts.patients) == (2000, 1000)


def test_the_threshold_of_few_films_comes_from_patients_that_the_distance_was_not_fitted_on():
    """In 60 dimensions, 120 films lie near their own fit: a threshold from them would warn of many others."""
    wide = np.random.default_rng(1).normal(size=(1120, 60))
    guard, facts = fit_guard(wide[:120], name_patients(120))
    assert (distances_of(guard, wide[120:]) > facts.threshold).mean() < 0.05
    assert (distances_of(guard, wide[120:]) > np.quantile(distances_of(guard, wide[:120]), 0.99)).mean() > 0.1


def test_what_it_carries_is_smaller_than_the_films_and_holds_none_of_them():
    features = draw_features(400)
    guard, _ = fit_guard(features, name_patients(400))
    for tensor in guard.state_dict().values():
        rows = np.atleast_2d(tensor.numpy())
        if rows.shape[1] == features.shape[1]:
            assert np.abs(rows[:, None] - features[None]).max(axis=2).min() > 0.1


def test_a_handful_of_patients_is_no_measure():
    count = 2 * FEWEST_PATIENTS - 2
    assert fit_guard(draw_features(count), name_patients(count)) is None


def test_features_that_do_not_vary_do_no_harm():
    features = draw_features(120)
    features[:, 3] = 1.0
    guard, facts = fit_guard(features, name_patients(120))
    assert np.isfinite(distances_of(guard, features)).all()
    assert np.isfinite(facts.threshold)


def test_warnings_name_their_kind_first_and_belong_to_their_film():
    film = scale(draw_film(5, 1, 0, 64).pixels)
    _, facts = fit_guard(draw_features(120), name_patients(120))
    films, far = np.stack([film, 1 - film, film]), facts.threshold * np.array([0.5, 2, 2])
    kinds = [[warning.partition(":")[0] for warning in warnings] for warnings in warn_of(films, far, facts)]
    assert kinds == [[], ["inverted", "unfamiliar"], ["unfamiliar"]]
    assert warn_of(films, None, None)[2] == []
