"""SparK's decoder: a stage made whole by hand, the paper's widths, and what is added where."""

import torch
from torch import nn

from scarce_cxr.backbones.backbone import Backbone, BackboneSettings
from scarce_cxr.methods.parts.light_decoder import Densifier, LightDecoder
from scarce_cxr.methods.parts.sparse import SparseEncoder, SparseMap


def one_tile() -> list[SparseMap]:
    """The encoder's maps of one visible patch of four: the upper right."""
    backbone = Backbone(BackboneSettings("test_resnet")).eval()
    visible = torch.tensor([[False, True], [False, False]]).view(1, 1, 2, 2)
    return SparseEncoder(backbone).maps(torch.randn(1, 1, 64, 64), visible)


def test_a_stage_is_normalised_where_seen_filled_where_not_and_then_projected():
    torch.manual_seed(0)
    *_, finer, deepest = one_tile()
    densifier = Densifier(192, 3, deepest=False)
    made = densifier(finer)
    # At stride 16 the tile is the upper right quarter of 4 x 4 positions. Each channel of its four values to mean 0 and
    # (biased) variance 1; the token everywhere else, and zeros only beyond the image's edge.
    values = finer.visible_values()
    normalised = (values - values.mean(dim=0)) / (values.var(dim=0, unbiased=False) + 1e-5).sqrt()
    filled = densifier.mask_token.detach().view(192, 1, 1).repeat(1, 4, 4)
    filled[:, :2, 2:] = normalised.t().reshape(192, 2, 2)
    weight, bias = densifier.projection.weight, densifier.projection.bias
    expected = torch.stack(
        [
            (nn.functional.pad(filled, [1] * 4)[:, row : row + 3, column : column + 3] * weight).sum(dim=(1, 2, 3))
            + bias
            for row in range(4)
            for column in range(4)
        ]
    )
    torch.testing.assert_close(made[0].flatten(1).t(), expected, rtol=1e-4, atol=1e-4)
    # In evaluation mode with statistics 0 and 1: the value itself at the one position, and no projection where it fits.
    kept = Densifier(96, 96, deepest=True).eval()
    whole = kept(deepest)[0]
    torch.testing.assert_close(whole[:, 0, 1], deepest.visible_values()[0] / (1 + 1e-5) ** 0.5)
    for row, column in ((0, 0), (1, 0), (1, 1)):
        assert torch.equal(whole[:, row, column], kept.mask_token)


def test_the_light_decoder_has_the_papers_widths_and_adds_a_map_before_each_step():
    decoder = LightDecoder([256, 512, 1024, 2048], 32, 768)
    # ResNet-50 at 224: 7 x 7 x 768 up to 224 x 224 x 24, the width halved five times.
    steps = [(step[0].in_channels, step[4].out_channels) for step in decoder.steps]
    assert steps == [(768, 384), (384, 192), (192, 96), (96, 48), (48, 24)]
    projections = [(d.projection.in_channels, *d.projection.weight.shape[::3]) for d in decoder.densifiers]
    assert projections == [(2048, 768, 1), (1024, 384, 3), (512, 192, 3), (256, 96, 3)]
    assert len(LightDecoder([256, 512, 1024, 2048], 32, 768, skips=False).densifiers) == 1
    # Added: with its steps doing nothing but taking every position twice, ones joined four times are four.
    torch.manual_seed(0)
    decoder = LightDecoder([32, 48, 192, 96], 32, 8)
    decoder.steps = nn.ModuleList(nn.Upsample(scale_factor=2) for _ in decoder.steps)
    for densifier in decoder.densifiers:
        nn.init.zeros_(densifier.projection.weight)
        nn.init.ones_(densifier.projection.bias)
    nn.init.constant_(decoder.image.weight, 1 / 8)
    assert torch.equal(decoder.eval()(one_tile()), torch.full((1, 1, 64, 64), 4.0))


def test_running_statistics_are_those_of_visible_positions():
    torch.manual_seed(0)
    finest = one_tile()[0]
    densifier = Densifier(32, 8, deepest=False)
    densifier(finest)
    values = finest.visible_values()
    torch.testing.assert_close(densifier.norm.running_mean, 0.1 * values.mean(dim=0))
    torch.testing.assert_close(densifier.norm.running_var, 0.9 + 0.1 * values.var(dim=0))
