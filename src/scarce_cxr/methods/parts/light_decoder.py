"""SparK's decoder: sparse maps are made whole, and a light U-Net leads them up to the image.

Tian et al., "Designing BERT for Convolutional Networks", ICLR 2023 (arXiv:2301.03580), section 3.2. What the section
leaves open (norms, kernels, widths, first weights) is as in the paper's code.
"""

import itertools

import torch
from torch import nn

from scarce_cxr.methods.parts.sparse import SparseMap, visible_batch_norm

# No map of the decoder is narrower.
_LEAST_WIDTH = 8


class Densifier(nn.Module):
    """Fills a stage's masked positions with a learned embedding and adapts the width: [M_i] and phi_i of section 3.2.

    Args:
        channels: of the stage's map.
        width: of the decoder's map that it is added to.
        deepest: the stage is the encoder's last: its positions are adapted one by one, or left as they are if the
            widths fit; those of finer stages with their neighbours.
    """

    def __init__(self, channels: int, width: int, deepest: bool) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)
        self.mask_token = nn.Parameter(torch.empty(channels))
        nn.init.trunc_normal_(self.mask_token, std=0.02, a=-0.02, b=0.02)
        kernel = 1 if deepest else 3
        fits = deepest and channels == width
        self.projection = nn.Identity() if fits else nn.Conv2d(channels, width, kernel, padding=kernel // 2)

    def forward(self, features: SparseMap) -> torch.Tensor:
        """A sparse map of H x W positions -> (B, width, H, W)."""
        normalised = visible_batch_norm(self.norm, features.visible_values())
        return self.projection(features.to_dense(normalised, self.mask_token))


class LightDecoder(nn.Module):
    """Upsamples step by step; the densified map of the same resolution is added before each step, where there is one.

    A step doubles the side (transposed convolution), then mixes with two 3x3 convolutions, of which the second halves
    the width.

    Args:
        channels: channels of the encoder's maps, finest first; each is half as large as the one before.
        stride: stride of the deepest map, a power of two.
        width: channels of the deepest decoder map; half of it at the next, and so on, but never below 8.
        skips: add the encoder's finer maps; without them the image must come from the deepest map alone.
    """

    def __init__(self, channels: list[int], stride: int, width: int, skips: bool = True) -> None:
        super().__init__()
        steps = stride.bit_length() - 1
        widths = [max(width >> step, _LEAST_WIDTH) for step in range(steps + 1)]
        joined = channels[::-1] if skips else channels[-1:]
        self.densifiers = nn.ModuleList(
            Densifier(count, widths[index], deepest=index == 0) for index, count in enumerate(joined)
        )
        self.steps = nn.ModuleList(_step(inputs, outputs) for inputs, outputs in itertools.pairwise(widths))
        self.image = nn.Conv2d(widths[-1], 1, 1)
        for module in (*self.steps.modules(), self.image):
            if isinstance(module, nn.ConvTranspose2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, nn.Conv2d):
                nn.init.trunc_normal_(module.weight, std=0.02)
            if isinstance(module, (nn.ConvTranspose2d, nn.Conv2d)) and module.bias is not None:
                nn.init.zeros_(module.bias)

    def forward(self, maps: list[SparseMap]) -> torch.Tensor:
        """The encoder's maps of a batch, finest first -> image (B, 1, S, S)."""
        x = self.densifiers[0](maps[-1])
        for index, step in enumerate(self.steps):
            if 0 < index < len(self.densifiers):
                x = x + self.densifiers[index](maps[-1 - index])
            x = step(x)
        return self.image(x)


def _step(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.ConvTranspose2d(inputs, inputs, 4, stride=2, padding=1),
        nn.Conv2d(inputs, inputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(inputs),
        nn.ReLU6(inplace=True),
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
    )
