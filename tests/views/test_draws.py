"""Random numbers are Philox's, and a function of what they are for."""

import numpy as np
import pytest
import torch

from scarce_cxr.views.draws import Draws, epoch_order, philox4x32, weighted_order

# Known answers of the Random123 distribution (kat_vectors), philox4x32-10.
KNOWN = [
    ([0, 0, 0, 0], (0, 0), [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
    ([0xFFFFFFFF] * 4, (0xFFFFFFFF, 0xFFFFFFFF), [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
    (
        [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
        (0xA4093822, 0x299F31D0),
        [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
    ),
]


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN)
def test_philox_gives_the_published_answers(counter, key, expected):
    assert philox4x32(np.array(counter, dtype=np.uint64), key).tolist() == expected


def test_half_a_batch_draws_what_the_whole_batch_draws_at_its_positions():
    whole = Draws(7, 12, np.arange(8)).uniform("crop", 5)
    assert np.array_equal(whole[4:], Draws(7, 12, np.arange(4, 8)).uniform("crop", 5))


def test_asking_for_more_numbers_does_not_change_the_first():
    draws = Draws(7, 12, np.arange(8))
    assert np.array_equal(draws.uniform("crop", 9)[:, :5], draws.uniform("crop", 5))


@pytest.mark.parametrize("other", [Draws(8, 12, [3]), Draws(7, 13, [3]), Draws(7, 12, [4])])
def test_seed_step_and_position_each_change_the_numbers(other):
    assert not np.array_equal(Draws(7, 12, [3]).uniform("crop", 4), other.uniform("crop", 4))


def test_purposes_are_independent_and_numbers_uniform():
    draws = Draws(0, 0, np.arange(20_000))
    crop, mask = draws.uniform("crop")[:, 0], draws.uniform("mask")[:, 0]
    assert crop.min() > 0
    assert crop.max() < 1
    # Four standard errors of the mean, of the variance and of a correlation of 20,000 numbers.
    assert abs(crop.mean() - 1 / 2) < 4 * np.sqrt(1 / 12 / 20_000)
    assert abs(crop.var() - 1 / 12) < 4 * np.sqrt(1 / 180 / 20_000)
    assert abs(np.corrcoef(crop, mask)[0, 1]) < 4 / np.sqrt(20_000)


def test_noise_repeats_for_the_same_batch_and_differs_for_another():
    def noise(positions):
        generator = Draws(1, 2, positions).generator("noise", torch.device("cpu"))
        return torch.randn(5, generator=generator)

    assert torch.equal(noise([0, 1]), noise([0, 1]))
    assert not torch.equal(noise([0, 1]), noise([2, 3]))


def test_an_epoch_visits_every_image_once_in_an_order_of_its_own():
    first, second = epoch_order(0, 0, 1000), epoch_order(0, 1, 1000)
    assert np.array_equal(np.sort(first), np.arange(1000))
    assert not np.array_equal(first, second)
    assert abs(np.corrcoef(first, np.arange(1000))[0, 1]) < 4 / np.sqrt(1000)


@pytest.mark.parametrize("weight", [1.0, 0.3, 7.0])
def test_equal_weights_change_nothing(weight):
    for epoch in range(20):
        assert np.array_equal(weighted_order(3, epoch, np.full(101, weight)), epoch_order(3, epoch, 101))


def test_weights_decide_how_often_an_image_is_shown_and_an_epoch_stays_as_long():
    weights = np.array([2.0] * 10 + [1.0] * 20 + [0.5] * 40 + [0.0] * 5)
    expected = 75 * weights / weights.sum()
    counts = np.array([np.bincount(weighted_order(0, epoch, weights), minlength=75) for epoch in range(400)])
    assert (counts.sum(axis=1) == 75).all()
    assert ((counts == np.floor(expected)) | (counts == np.ceil(expected))).all()
    # Four standard errors of a share that is drawn 400 times.
    assert np.abs(counts.mean(axis=0) - expected).max() < 4 * 0.5 / np.sqrt(400)
    # Within a class, every epoch draws others.
    assert len({tuple(row) for row in counts}) > 390


def test_a_weighted_epoch_is_a_function_of_seed_and_epoch_in_no_order():
    weights = np.repeat([1.0, 3.0], 500)
    first, second = weighted_order(0, 0, weights), weighted_order(0, 1, weights)
    assert np.array_equal(first, weighted_order(0, 0, weights.copy()))
    assert not np.array_equal(first, second)
    assert not np.array_equal(first, weighted_order(1, 0, weights))
    assert abs(np.corrcoef(first, np.arange(1000))[0, 1]) < 4 / np.sqrt(1000)
    # Copies of an image do not stand together.
    assert (np.diff(first) == 0).mean() < 0.01
