"""Augmentations agree with torchvision and scipy, or with what can be worked out by hand."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.ndimage import correlate1d
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms.v2 import functional as transforms

from scarce_cxr.errors import ScarceError
from scarce_cxr.views import augment
from scarce_cxr.views.augment import Augmentation, Geometry
from scarce_cxr.views.draws import Draws


def smooth_films(count: int, side: int) -> torch.Tensor:
    """(count, side, side) uint8 films of a few broad waves."""
    noise = torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    return (F.interpolate(noise, size=side, mode="bicubic")[:, 0].clamp(0, 1) * 255).to(torch.uint8)


def geometry(center=(0.0, 0.0), half=(1.0, 1.0), degrees=0.0, mirrored=False) -> Geometry:
    return Geometry(np.array([center]), np.array([half]), np.deg2rad([degrees]), np.array([mirrored]))


def test_a_whole_film_at_its_own_size_is_the_film():
    films = smooth_films(3, 40)
    views = augment.resample(films, augment.whole_film(3), 40)
    assert torch.allclose(views[:, 0], films / 255, atol=1e-5)


def test_a_mirrored_film_is_the_film_flipped():
    films = smooth_films(1, 40)
    views = augment.resample(films, geometry(mirrored=True), 40)
    assert torch.allclose(views[0, 0], films[0].flip(-1) / 255, atol=1e-5)


def test_a_quarter_turn_is_rot90():
    films = smooth_films(1, 40)
    views = augment.resample(films, geometry(degrees=90), 40)
    assert torch.allclose(views[0, 0], torch.rot90(films[0] / 255, 1, (0, 1)), atol=1e-4)


def test_shrinking_by_a_whole_number_is_the_mean_over_the_pixels():
    films = smooth_films(2, 96)
    views = augment.resample(films, augment.whole_film(2), 32)
    assert torch.allclose(views, F.avg_pool2d(films[:, None] / 255, 3), atol=1e-5)


def test_shrinking_does_not_alias():
    # Stripes one pixel wide: without a filter a view a quarter as large would show stripes or a flat extreme.
    stripes = (torch.arange(128) % 2 * 255).to(torch.uint8).expand(1, 128, 128)
    view = augment.resample(stripes, geometry(half=(0.93, 0.93), degrees=7), 32)
    inside = view[0, 0, 4:-4, 4:-4]
    assert (inside - 0.5).abs().max() < 0.1


@pytest.mark.parametrize(("top", "left", "height", "width"), [(10, 20, 64, 64), (0, 0, 100, 80), (33, 5, 90, 120)])
def test_crop_and_flip_agree_with_torchvision(top, left, height, width):
    films, side, size = smooth_films(1, 128), 128, 64
    center = (2 * (left + width / 2) / side - 1, 2 * (top + height / 2) / side - 1)
    ours = augment.resample(films, geometry(center, (width / side, height / side), mirrored=True), size)
    theirs = transforms.resized_crop(films[None] / 255, top, left, height, width, [size, size], antialias=True)
    # Their filter is a triangle, ours a mean of bilinear samples: on smooth films the two differ by little.
    assert (ours - theirs.flip(-1))[..., 2:-2, 2:-2].abs().max() < 0.02


def test_one_resampling_keeps_what_two_would_blur():
    films = smooth_films(1, 64)
    fine = films.clone()
    fine[0, ::2] = 0
    once = augment.resample(fine, geometry(half=(0.5, 0.5), degrees=10), 64)
    cropped = augment.resample(fine, geometry(half=(0.75, 0.75)), 64)
    twice = augment.resample((cropped[:, 0] * 255).to(torch.uint8), geometry(half=(2 / 3, 2 / 3), degrees=10), 64)
    assert once.std() > twice.std()


def test_sixteen_bit_films_give_the_same_views():
    films = smooth_films(2, 40)
    deep = (films.to(torch.int32) * 257).to(torch.uint16)
    draws = Draws(0, 0, np.arange(2))
    drawn = augment.draw_geometry(Augmentation(crop=(0.3, 1.0), rotation=10), draws, "view0")
    assert torch.allclose(augment.resample(films, drawn, 16), augment.resample(deep, drawn, 16), atol=1e-6)


def test_crops_are_distributed_as_torchvision_draws_them():
    count, side = 4000, 1000
    drawn = augment.draw_geometry(Augmentation(crop=(0.2, 1.0)), Draws(0, 0, np.arange(count)), "view0")
    torch.manual_seed(0)
    film = torch.empty(1, side, side)
    reference = np.array([RandomResizedCrop.get_params(film, [0.2, 1.0], [3 / 4, 4 / 3]) for _ in range(count)])
    _, left, height, width = (reference / side).T
    ours = {
        "area": drawn.half.prod(axis=1),
        "log ratio": np.log(drawn.half[:, 0] / drawn.half[:, 1]),
        "left": (drawn.center[:, 0] + 1 - drawn.half[:, 0]) / 2,
    }
    theirs = {"area": height * width, "log ratio": np.log(width / height), "left": left}
    for name, values in ours.items():
        for quantile in (0.1, 0.25, 0.5, 0.75, 0.9):
            assert np.quantile(values, quantile) == pytest.approx(np.quantile(theirs[name], quantile), abs=0.03), name
    assert (np.abs(drawn.center) + drawn.half <= 1 + 1e-9).all()


def test_jitter_agrees_with_torchvision():
    films = smooth_films(4, 24)[:, None] / 255
    settings = Augmentation(brightness=0.5, contrast=0.5, jitter_probability=0.6)
    draws = Draws(3, 0, np.arange(4))
    numbers = draws.uniform("view0/jitter", 3)
    ours = augment.jitter(films.clone(), settings, draws, "view0")
    for film, view, (chance, brightness, contrast) in zip(films, ours, numbers, strict=True):
        expected = film
        if chance < 0.6:
            expected = transforms.adjust_brightness(film, 0.5 + brightness)
            # torchvision's contrast turns around the mean of a colour picture's luma; for grey that is the mean.
            expected = transforms.adjust_contrast(expected.expand(3, -1, -1), 0.5 + contrast)[:1]
        assert torch.allclose(view, expected, atol=1e-3)


def test_blur_agrees_with_scipy_and_leaves_the_unchosen_alone():
    films = smooth_films(6, 32)[:, None] / 255
    settings = Augmentation(blur=9, blur_probability=0.5)
    draws = Draws(1, 0, np.arange(6))
    numbers = draws.uniform("view0/blur", 2)
    ours = augment.blur(films, settings, draws, "view0")
    assert 0 < (numbers[:, 0] < 0.5).sum() < 6
    for film, view, (chance, uniform) in zip(films, ours, numbers, strict=True):
        if chance >= 0.5:
            assert torch.equal(view, film)
            continue
        kernel = np.exp(-0.5 * (np.arange(-4, 5) / (0.1 + 1.9 * uniform)) ** 2)
        expected = film[0].double().numpy()
        for axis in (0, 1):
            expected = correlate1d(expected, kernel / kernel.sum(), axis=axis, mode="mirror")
        assert np.allclose(view[0].numpy(), expected, atol=1e-5)


def test_solarizing_agrees_with_torchvision_and_leaves_the_unchosen_alone():
    films = smooth_films(6, 32)[:, None] / 255
    settings = Augmentation(solarize_probability=0.5, solarize_threshold=0.4)
    draws = Draws(1, 0, np.arange(6))
    chances = draws.uniform("view0/solarize")[:, 0]
    assert 0 < (chances < 0.5).sum() < 6
    for film, view, chance in zip(films, augment.solarize(films, settings, draws, "view0"), chances, strict=True):
        assert torch.equal(view, transforms.solarize(film, 0.4) if chance < 0.5 else film)


def test_noise_has_the_deviation_it_is_said_to_have():
    flat = torch.full((4, 1, 100, 100), 0.5)
    noisy = augment.add_noise(flat, Augmentation(noise=0.05), Draws(0, 0, np.arange(4)), "view0")
    assert (noisy - flat).std().item() == pytest.approx(0.05, rel=0.03)
    assert abs((noisy - flat).mean().item()) < 0.001


@pytest.mark.parametrize(
    "wrong",
    [
        {"crop": (0.0, 1.0)},
        {"crop": (0.8, 0.2)},
        {"blur": 8},
        {"flip": 1.5},
        {"noise": -1},
        {"blur_sigma": (0, 1)},
        {"solarize_threshold": 2},
    ],
)
def test_impossible_settings_are_refused_by_name(wrong):
    with pytest.raises(ScarceError, match=next(iter(wrong))):
        Augmentation(**wrong)
