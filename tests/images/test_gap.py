"""The gap between stores is nothing where they are alike, all where they share nothing, and scipy's in between."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ks_2samp

from scarce_cxr.images.gap import Shades, distances, frontal_rows, gaps, histogram, read_shades
from scarce_cxr.images.quality import measure_films
from scarce_cxr.images.store import Store


def shades(name: str, pixels: np.ndarray) -> Shades:
    """Of (n, H, W) uint8 films, each of a patient of its own."""
    bins = np.array([histogram(film) for film in pixels]).mean(axis=0)
    values = pixels / 255
    return Shades(name, bins, values.mean(axis=(1, 2)), values.std(axis=(1, 2)), np.arange(len(pixels)).astype(str))


def test_a_histogram_is_numpys_at_both_depths():
    film = np.random.default_rng(0).integers(0, 256, (20, 20), dtype=np.uint8)
    expected = np.histogram(film, 256, (0, 256))[0] / 400
    assert np.allclose(histogram(film), expected)
    assert np.allclose(histogram(film.astype(np.uint16) * 257), expected)


def test_alike_is_0_and_without_overlap_1():
    generator = np.random.default_rng(0)
    dark, bright = (generator.integers(low, low + 60, (30, 16, 16), dtype=np.uint8) for low in (10, 150))
    same = distances(shades("a", dark), shades("b", dark))
    assert same == {"pixels": 0, "means": 0, "stds": 0, "shift": 0}
    apart = distances(shades("a", dark), shades("b", bright))
    assert apart["pixels"] == pytest.approx(1)
    assert apart["means"] == 1
    assert apart["shift"] > 10
    assert distances(shades("b", bright), shades("a", dark))["shift"] == pytest.approx(-apart["shift"])


def test_between_them_it_is_what_scipy_says():
    generator = np.random.default_rng(1)
    one, other = (generator.normal(mean, 30, (25, 8, 8)).clip(0, 255).astype(np.uint8) for mean in (100, 110))
    found = distances(shades("a", one), shades("b", other))
    assert found["pixels"] == pytest.approx(ks_2samp(one.ravel(), other.ravel()).statistic)
    means = [films.mean(axis=(1, 2)) for films in (one, other)]
    assert found["means"] == pytest.approx(ks_2samp(*means).statistic)
    pooled = np.sqrt((means[0].var() + means[1].var()) / 2)
    assert found["shift"] == pytest.approx((means[1].mean() - means[0].mean()) / pooled)


def test_only_frontal_films_count():
    table = pd.DataFrame({"view": ["PA", "AP", "LATERAL", "UNKNOWN", "UNKNOWN", None]})
    measures = pd.DataFrame({"upright": [0.1, 0.9, 0.9, 0.9, 0.1, 0.9]})
    assert frontal_rows(table, measures).tolist() == [True, True, False, True, False, True]


def test_a_store_is_read_whole_and_in_halves_without_a_common_patient(small_store):
    store = Store.open(small_store)
    measures = measure_films(store.pixels(np.arange(len(store)))).assign(upright=1.0)
    whole, half, rest = read_shades("small", store, measures)
    assert len(whole.means) == 48 == len(half.means) + len(rest.means)
    assert not set(half.patients) & set(rest.patients)
    assert whole.histogram.sum() == pytest.approx(1)
    table = gaps([(whole, half, rest)])
    assert table["one"].tolist() == ["half of small"]
    assert len(gaps([(whole, half, rest)] * 3)) == 3 + 3
    few = read_shades("small", store, measures, most=10)
    assert len(few[0].means) == 10


def test_a_store_without_frontal_films_has_no_gap_to_tell(small_store):
    store = Store.open(small_store)
    measures = measure_films(store.pixels(np.arange(len(store)))).assign(upright=0.0)
    table = gaps([read_shades("small", store, measures)])
    assert table["pixels"].isna().all()
    assert table["films"].tolist() == ["0 (0) and 0 (0)"]
