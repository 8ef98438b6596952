"""A U-Net's way up: from the deepest feature map back to the image, with skips from the encoder."""

import torch
import torch.nn.functional as F
from torch import nn


class UNetDecoder(nn.Module):
    """Upsamples the deepest map step by step, joining the encoder's map of the same size where there is one.

    Every step doubles the side (bilinear), concatenates the skip after a 1x1 projection, and mixes with two 3x3
    convolutions. The width stays constant up to the finest encoder map and halves with every step beyond it.

    Args:
        channels: channels of the encoder's maps, finest first; each is half as large as the one before.
        stride: stride of the finest map, a power of two.
        width: channels of the decoder at the encoder's resolutions.
        skips: join the encoder's maps; without them the image must come from the deepest map alone.
        stem_channels: channels of a map of half the image's side that is joined too, below the others; 0: none.
    """

    def __init__(
        self, channels: list[int], stride: int, width: int, skips: bool = True, stem_channels: int = 0
    ) -> None:
        super().__init__()
        self.skips = skips
        self.deepest = nn.Conv2d(channels[-1], width, 1)
        finer = channels[-2::-1]
        self.laterals = nn.ModuleList(nn.Conv2d(count, width, 1) for count in finer) if skips else None
        self.joins = nn.ModuleList(_mix(2 * width if skips else width, width) for _ in finer)
        beyond, current, stem_lateral = [], width, None
        while stride > 1:
            stride, inputs, current = stride // 2, current, max(current // 2, 8)
            if stride == 2 and stem_channels:
                stem_lateral = nn.Conv2d(stem_channels, current, 1)
                inputs += current
            beyond.append(_mix(inputs, current))
        self.stem_lateral = stem_lateral
        self.beyond = nn.ModuleList(beyond)
        self.image = nn.Conv2d(current, 1, 1)

    def forward(self, maps: list[torch.Tensor]) -> torch.Tensor:
        """Maps (B, channels[i], S_i, S_i), finest first (the stem's before them) -> image (B, 1, S, S)."""
        x = self.deepest(maps[-1])
        for index, join in enumerate(self.joins):
            x = _double(x)
            if self.skips:
                x = torch.cat([x, self.laterals[index](maps[-2 - index])], dim=1)
            x = join(x)
        for mix in self.beyond:
            x = _double(x)
            if self.stem_lateral is not None and x.shape[-1] == maps[0].shape[-1]:
                x = torch.cat([x, self.stem_lateral(maps[0])], dim=1)
            x = mix(x)
        return self.image(x)


def _double(x: torch.Tensor) -> torch.Tensor:
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


def _mix(inputs: int, outputs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for count in (inputs, outputs):
        layers += [nn.Conv2d(count, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)
