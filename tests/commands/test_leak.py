"""`scarce leak` against sums by hand, the reach of kernels, and difference quotients."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.ndimage import uniform_filter

from scarce_cxr.backbones.backbone import Backbone, BackboneSettings
from scarce_cxr.cli import main
from scarce_cxr.commands.leak import leak, measure_stages, slide_along_strip
from scarce_cxr.errors import ScarceError

VISIBLE = torch.tensor([[1, 0, 0], [0, 0, 0], [0, 0, 1]], dtype=torch.bool).view(1, 1, 3, 3)


@pytest.fixture(scope="module")
def measured():
    torch.manual_seed(0)
    backbone, image = Backbone(BackboneSettings("resnet18")), torch.randn(1, 1, 96, 96)
    return backbone, image, measure_stages(backbone, image, VISIBLE)


def spread(side: int) -> torch.Tensor:
    return VISIBLE.repeat_interleave(side, dim=2).repeat_interleave(side, dim=3)


def test_the_strip_is_summed_by_hand(tmp_path, monkeypatch, capsys):
    strip = slide_along_strip()
    # Sums of the columns: 1.9, 1.8, 1.9, three times 0, 1.8, 1.8, 2.0.
    expected = np.array([5.6, 3.7, 1.9, 0, 1.8, 3.6, 5.6]) / 9
    np.testing.assert_allclose(strip.dense[0, 1, 1:-1], expected)
    np.testing.assert_allclose(strip.exact[0, 1, 1:-1], np.where([1, 1, 0, 0, 0, 1, 1], expected, 0))
    monkeypatch.chdir(tmp_path)
    assert main(["leak", "--json"]) == 0
    toy, _ = json.loads(capsys.readouterr().out)["tables"].values()
    rows = [list(row.values()) for row in toy]
    assert [row[:2] for row in rows] == [[1, 9], [2, 6], [3, 3], [4, 0], [5, 3], [6, 6], [7, 9]]
    assert [row[2] for row in rows] == [0.7, 0.6, 0, 0, 0, 0.7, 0.8]
    assert (tmp_path / "leak.png").is_file()
    # What the documentation links to is what the command writes.
    kept = Path(__file__).parents[2] / "docs/why/leak-toy.html"
    assert (tmp_path / "leak.html").read_bytes() == kept.read_bytes()


def test_the_strip_goes_on_layer_by_layer():
    """Scipy's mean filter with zeros around; in the exact encoder the mask is put back after every layer."""
    strip = slide_along_strip()
    dense = exact = strip.pixels
    assert len(strip.dense) == len(strip.exact) == 3
    for ours, theirs in zip(strip.dense, strip.exact, strict=True):
        dense = uniform_filter(dense, 3, mode="constant")
        exact = uniform_filter(exact, 3, mode="constant")
        exact[:, 3:6] = 0
        np.testing.assert_allclose(ours, dense, atol=1e-15)
        np.testing.assert_allclose(theirs, exact, atol=1e-15)


def test_a_dense_encoder_fills_what_its_kernels_reach(measured):
    _, _, stages = measured
    # The stem's convolution; the maximum and four 3 x 3 convolutions of stage 1: whatever sees something is filled.
    reached = F.max_pool2d(spread(32).double(), 7, 2, 3)
    assert np.array_equal(stages[0].dense > 0, reached[0, 0].numpy() > 0)
    reached = F.max_pool2d(reached, 3, 2, 1)
    for _ in range(4):
        reached = F.max_pool2d(reached, 3, 1, 1)
    assert np.array_equal(stages[1].dense > 0, reached[0, 0].numpy() > 0)
    masked = ~spread(8)
    assert 0 < stages[0].share(stages[0].dense) < stages[1].share(stages[1].dense) < 1
    assert stages[1].share(stages[1].dense) == pytest.approx((reached[masked] > 0).double().mean().item())
    assert stages[-1].share(stages[-1].dense) == 1


def test_an_exact_encoder_leaves_all_of_it_empty_and_sees_nothing_from_there(measured):
    _, _, stages = measured
    for stage in stages:
        assert (stage.exact[~stage.visible] == 0).all()
        assert (stage.exact[stage.visible] > 0).all()
        assert stage.exact[stage.visible].mean() == pytest.approx(1)
        assert not stage.exact_gradient.any()
    assert [stage.dense_gradient.any() for stage in stages] == [False, True, True, True, True]
    assert [stage.stride for stage in stages] == [2, 4, 8, 16, 32]


def test_the_gradient_is_a_difference_quotient(measured):
    backbone, image, stages = measured
    seen = spread(32)
    for number, stage in enumerate(stages[1:], start=1):
        assert not stage.dense_gradient[~seen[0, 0].numpy()].any()
        row, column = np.unravel_index(stage.dense_gradient.argmax(), stage.dense_gradient.shape)
        assert seen[0, 0, row, column]
        sums = []
        for step in (-1e-6, 1e-6):
            moved = image.double() * seen
            moved[0, 0, row, column] += step
            with torch.no_grad():
                map_ = backbone.maps(moved, stem=True)[number]
            sums.append(map_[0, :, stage.position[0], stage.position[1]].sum().item())
        assert abs(sums[1] - sums[0]) / 2e-6 == pytest.approx(stage.dense_gradient.max(), rel=1e-3)


def test_hidden_pixels_change_nothing(measured):
    backbone, image, stages = measured
    changed = torch.where(spread(32), image, torch.randn_like(image))
    for stage, other in zip(stages, measure_stages(backbone, changed, VISIBLE), strict=True):
        assert np.array_equal(stage.dense, other.dense)
        assert np.array_equal(stage.exact, other.exact)


def test_a_film_of_a_store_on_the_command_line(small_store, tmp_path, capsys):
    out = tmp_path / "leak.png"
    assert main(["leak", f"--out={out}", f"--store={small_store}", "--film", "3", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["tables"]["Behind the mask"]
    dense, exact = ([row for row in rows if row["encoder"] == encoder] for encoder in ("dense", "exact"))
    # 29 of 49 patches of 32 pixels.
    for found in (dense, exact):
        assert [row["masked positions"] for row in found] == [29 * 256, 29 * 64, 29 * 16, 29 * 4, 29]
    assert all(row["not empty"] > 0 and row["size"] > 0 for row in dense)
    assert all(row["not empty"] == row["size"] == row["gradient"] == 0 for row in exact)
    assert out.is_file()
    with pytest.raises(ScarceError, match="from 0 to 47"):
        leak(out, small_store, film=48)
