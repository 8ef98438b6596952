"""SparK: masked image modelling for convolutional networks.

Tian et al., "Designing BERT for Convolutional Networks: Sparse and Hierarchical Masked Modeling", ICLR 2023
(arXiv:2301.03580). The file follows the paper: masking, target and loss (section 3.1, 3.3), then the model.

The paper's model encodes visible patches alone. Beside it stands the original experiments' variant with a dense
encoder: the mask is applied to the pixels only, and ordinary convolutions run over the holes. Visible pixels then leak
into masked positions, and batch norm counts the holes.
"""

import math
from typing import Literal, NamedTuple

import torch

from scarce_cxr.backbones.backbone import Backbone
from scarce_cxr.errors import ScarceError
from scarce_cxr.methods.method import Method, Step, refuse_outside
from scarce_cxr.methods.parts.light_decoder import LightDecoder
from scarce_cxr.methods.parts.sparse import SparseEncoder
from scarce_cxr.methods.parts.unet import UNetDecoder
from scarce_cxr.views.draws import Draws
from scarce_cxr.views.plans import Views

_EPSILON = 1e-6


def draw_visible(draws: Draws, grid: int, mask_ratio: float, device: torch.device) -> torch.Tensor:
    """Which patches the encoder sees: (B, 1, grid, grid) bool, True = visible, the same number in every image.

    Every patch gets a random score, and the highest ones stay visible.
    """
    count = grid * grid
    visible_count = round(count * (1 - mask_ratio))
    order = draws.uniform("mask", count).argsort(axis=1)
    visible = torch.zeros(len(draws), count, dtype=torch.bool)
    visible.scatter_(1, torch.from_numpy(order[:, count - visible_count :].copy()), True)
    return visible.view(-1, 1, grid, grid).to(device)


def to_patches(images: torch.Tensor, patch: int) -> torch.Tensor:
    """(B, 1, S, S) -> (B, number of patches, pixels of a patch), both in row-major order."""
    B, _, S, _ = images.shape
    grid = S // patch
    blocks = images.reshape(B, grid, patch, grid, patch)
    return blocks.permute(0, 1, 3, 2, 4).reshape(B, grid * grid, patch * patch)


def normalize_patches(patches: torch.Tensor, variance_floor: float = 0.0) -> torch.Tensor:
    """Each patch to zero mean and unit variance (sample variance): (B, L, N) -> (B, L, N).

    A variance below the floor counts as the floor, so that flat patches stay flat instead of becoming amplified noise.
    """
    mean = patches.mean(dim=-1, keepdim=True)
    variance = patches.var(dim=-1, keepdim=True).clamp_min(variance_floor)
    return (patches - mean) / (variance + _EPSILON).sqrt()


def masked_error(
    reconstruction: torch.Tensor,
    images: torch.Tensor,
    visible: torch.Tensor,
    target: Literal["patch", "raw"] = "patch",
    variance_floor: float = 0.0,
) -> torch.Tensor:
    """Mean squared error over the pixels of masked patches, in fp32.

    Args:
        reconstruction: (B, 1, S, S) predicted pixels, in the target's units.
        images: (B, 1, S, S) the clean view.
        visible: (B, 1, G, G) bool, True where the encoder saw the patch; patches are S / G pixels wide.
        target: "patch" compares with every patch normalised by its own mean and variance (section 3.3), so that
            predicting the means gives 1 - 1/N; "raw" compares with the pixels as they are.
        variance_floor: of `normalize_patches`, in the images' units squared; 0 is the paper's target.

    Returns:
        Scalar: mean over the pixels of a patch, then over all masked patches of the batch.
    """
    patch = images.shape[-1] // visible.shape[-1]
    wanted, given = to_patches(images.float(), patch), to_patches(reconstruction.float(), patch)
    if target == "patch":
        wanted = normalize_patches(wanted, variance_floor)
    error = ((given - wanted) ** 2).mean(dim=-1)
    masked = ~visible.flatten(1)
    return (error * masked).sum() / masked.sum()


class Reconstruction(NamedTuple):
    """What the network imagines behind the mask.

    Attributes:
        visible: (B, 1, S, S) bool, True where pixels were seen.
        prediction: (B, 1, S, S) the network's output, in the target's units.
        error: scalar, the masked error.
    """

    visible: torch.Tensor
    prediction: torch.Tensor
    error: torch.Tensor


class SparK(Method):
    """Encoder sees the visible patches, decoder paints the masked ones.

    Args:
        backbone: a convolutional encoder.
        patch: side of a patch in pixels. Where the mask touches pixels only (`dense`), the encoder's strides do not
            bind it; the paper's masks are made of whole positions of the deepest map.
        mask_ratio: share of patches that are masked, in (0, 1).
        target: what the decoder paints: "patch" normalises every patch by itself, "raw" leaves the pixels alone.
        decoder_width: channels of the decoder at the encoder's resolutions (`dense`), or of its deepest map, halving
            with every step up (768 in the paper).
        skips: let the decoder see the encoder's finer maps as well as the deepest.
        stem_skip: let it see the stem's map of half the image's side too: on small views ribs are finer than stride 4;
            `dense` only.
        execution: how the encoder treats the mask. "dense": on the pixels only. "masked" and "blocks" are both the
            paper's: no masked position ever holds a value, and batch norm counts visible positions alone. "masked"
            computes everything and sets the rest to zero, "blocks" computes visible patches only.
        variance_floor: least variance that a patch of the target is divided by, where the store's pixels have variance
            1; 0 is the paper's target, in which flat patches (black borders) become amplified noise.

    Raises:
        ScarceError: the backbone is no convolutional network, or has no such stem or no sparse form, or patch and ratio
            leave nothing to do.
    """

    def __init__(
        self,
        backbone: Backbone,
        patch: int = 32,
        mask_ratio: float = 0.6,
        target: Literal["patch", "raw"] = "patch",
        decoder_width: int = 256,
        skips: bool = True,
        stem_skip: bool = False,
        execution: Literal["dense", "masked", "blocks"] = "dense",
        variance_floor: float = 0.0,
    ) -> None:
        super().__init__()
        strides = backbone.strides
        if len(set(strides)) < len(strides) or len(strides) < 2:
            raise ScarceError(
                "a convolutional backbone with feature maps of falling size",
                f"backbone.name = {backbone.settings.name} (strides {strides[:4]}...)",
                "SparK is made for convolutional networks: choose e.g. resnet50 or convnext_tiny",
            )
        if patch < 2:
            raise ScarceError("patches of at least 2 pixels", f"method.patch = {patch}", "32 is usual")
        if not 0 < mask_ratio < 1:
            raise ScarceError("a mask ratio between 0 and 1", f"method.mask_ratio = {mask_ratio}", "0.6 is usual")
        if stem_skip and backbone.stem_channels is None:
            got = f"backbone.name = {backbone.settings.name} with method.stem_skip"
            raise ScarceError("a backbone with a feature map at stride 2", got, "leave method.stem_skip off")
        if stem_skip and execution != "dense":
            got = f"method.stem_skip with method.execution = {execution}"
            raise ScarceError("maps from stride 4 on in the paper's decoder", got, "leave method.stem_skip off")
        refuse_outside(0, variance_floor=variance_floor)
        self.backbone, self.stem_skip, self.execution = backbone, stem_skip, execution
        self.patch, self.mask_ratio = patch, mask_ratio
        self.target, self.variance_floor = target, variance_floor
        if execution == "dense":
            stem_channels = backbone.stem_channels if stem_skip else 0
            self.decoder = UNetDecoder(backbone.channels, strides[0], decoder_width, skips, stem_channels)
        else:
            # Refuses a backbone without a sparse form before anything runs.
            SparseEncoder(backbone, execution)
            self.decoder = LightDecoder(backbone.channels, strides[-1], decoder_width, skips)

    def check(self, size: int) -> None:
        """Raises ScarceError unless views of this side are cut evenly by patches and strides, with some masked."""
        stride = self.backbone.strides[-1]
        if self.execution != "dense" and self.patch % stride:
            raise ScarceError(
                f"patches of whole positions of the deepest map, which are {stride} pixels wide",
                f"method.patch = {self.patch} with method.execution = {self.execution}",
                f"choose {stride} or a multiple of it, or method.execution = dense",
            )
        unit = math.lcm(self.patch, stride)
        count = (size // self.patch) ** 2
        if size % unit or round(count * (1 - self.mask_ratio)) in (0, count):
            fitting = [unit * max(1 + (unit == self.patch), size // unit + i) for i in (0, 1)]
            raise ScarceError(
                f"a view whose side {unit} divides, with patches both masked and visible",
                f"views.size = {size} with method.patch = {self.patch} and method.mask_ratio = {self.mask_ratio}",
                f"choose {fitting[0]} or {fitting[1]}",
            )

    def forward(self, views: Views) -> Step:
        (images,), (clean,) = views.crops, views.clean
        visible = self._draw_visible(images, views.draws)
        reconstruction = self._paint(images, visible)
        return Step(self._error(reconstruction, clean, visible), {})

    @torch.no_grad()
    def reconstruct(self, images: torch.Tensor, draws: Draws) -> Reconstruction:
        """Masks normalised images (B, 1, S, S) by the draws and paints what is missing, in the current mode."""
        visible = self._draw_visible(images, draws)
        prediction = self._paint(images, visible).float()
        error = self._error(prediction, images, visible)
        return Reconstruction(self._to_pixels(visible), prediction, error)

    def _draw_visible(self, images: torch.Tensor, draws: Draws) -> torch.Tensor:
        return draw_visible(draws, images.shape[-1] // self.patch, self.mask_ratio, images.device)

    def _error(self, reconstruction: torch.Tensor, images: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
        return masked_error(reconstruction, images, visible, self.target, self.variance_floor)

    def _to_pixels(self, visible: torch.Tensor) -> torch.Tensor:
        return visible.repeat_interleave(self.patch, dim=2).repeat_interleave(self.patch, dim=3)

    def _paint(self, images: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
        if self.execution == "dense":
            return self.decoder(self.backbone.maps(images * self._to_pixels(visible), stem=self.stem_skip))
        # Made anew each time: kept beside the backbone, it would still hold the old one where that is exchanged.
        return self.decoder(SparseEncoder(self.backbone, self.execution).maps(images, visible))
