"""`scarce leak`: what a dense encoder lets through to behind the mask."""

from pathlib import Path
from typing import TYPE_CHECKING

from scarce_cxr.results import Result, Table

if TYPE_CHECKING:
    import torch

    from scarce_cxr.backbones.backbone import Backbone
    from scarce_cxr.figures.leak import StageLeak, Strip

# Three rows of three patches of three columns, the middle one masked.
_STRIP = (
    (0.7, 0.5, 0.8, 0.0, 0.0, 0.0, 0.6, 0.4, 0.7),
    (0.4, 0.7, 0.6, 0.0, 0.0, 0.0, 0.7, 0.8, 0.5),
    (0.8, 0.6, 0.5, 0.0, 0.0, 0.0, 0.5, 0.6, 0.8),
)
_STRIP_VISIBLE = (True,) * 3 + (False,) * 3 + (True,) * 3
_LAYERS = 3
_SIZE, _PATCH, _MASK_RATIO = 224, 32, 0.6


def leak(out: Path = Path("leak.png"), store: Path | None = None, film: int = 0, seed: int = 0) -> Result:
    """Shows how visible pixels leak behind the mask in a dense encoder, and not in an exact one.

    First by hand, on a strip of 27 pixels; then for a film of 224 pixels with 60 % of its patches of 32 masked, in a
    ResNet-18 of random weights. Beside the picture it writes a page on which one slides the kernel along the strip.

    Args:
        out: The picture to write; the page takes its name, with .html.
        store: Take a film of this store; by default a phantom film is drawn.
        film: Which of the store's films, or of the phantom patients.
        seed: Another seed masks other patches and draws other weights.
    """
    import numpy as np
    import torch

    from scarce_cxr.backbones.backbone import Backbone, BackboneSettings
    from scarce_cxr.figures import theme
    from scarce_cxr.figures.leak import leak_figure
    from scarce_cxr.methods.spark import draw_visible
    from scarce_cxr.report.leak_toy import write_leak_toy
    from scarce_cxr.views.draws import Draws

    strip = slide_along_strip()
    columns = ["place", "visible inputs of 9", "centre input", "output, dense", "output, exact"]
    inputs = np.lib.stride_tricks.sliding_window_view(strip.visible, 3).sum(axis=1) * 3
    first = strip.dense[0, 1], strip.exact[0, 1]
    rows = [
        [place, int(inputs[place - 1]), *(float(row[place]) for row in (strip.pixels[1], *first))]
        for place in range(1, len(inputs) + 1)
    ]
    toy = Table("A 3 x 3 mean along a strip whose columns 4 to 6 are masked", columns, rows)

    pixels, whose = _find_film(store, film)
    image = (pixels - pixels.mean()) / pixels.std()
    visible = draw_visible(Draws(seed, 0, np.arange(1)), _SIZE // _PATCH, _MASK_RATIO, torch.device("cpu"))
    torch.manual_seed(seed)
    stages = measure_stages(Backbone(BackboneSettings("resnet18")), image[None, None], visible)
    columns = ["stage", "stride", "masked positions", "encoder", "not empty", "size", "gradient"]
    rows = [
        [
            stage.name,
            stage.stride,
            int((~stage.visible).sum()),
            encoder,
            stage.share(distance),
            stage.size(distance),
            float(np.linalg.norm(slope)),
        ]
        for stage in stages
        for encoder, distance, slope in (
            ("dense", stage.dense, stage.dense_gradient),
            ("exact", stage.exact, stage.exact_gradient),
        )
    ]
    note = (
        f"{whose}, one mask, ResNet-18 of random weights in evaluation mode. Not empty: share of masked positions "
        "whose features differ from those of a film masked everywhere; size: how far, over the mean at visible "
        "positions; gradient: of the features' sum at one masked position, over all visible pixels"
    )
    measured = Table("Behind the mask", columns, rows, note)
    hidden = int((~visible).sum())
    title = f"What leaks behind the mask: {hidden} of {visible.numel()} patches masked, ResNet-18 of random weights"
    seen = _spread(visible, _PATCH)[0, 0]
    path = theme.save(leak_figure(strip, pixels.numpy(), seen.numpy(), stages, title), out)
    page = write_leak_toy(strip, path.with_suffix(".html"))
    return Result([toy, measured], [("figure", path), ("page", page)])


def slide_along_strip() -> "Strip":
    """A 3x3 mean along a strip, in layers: plain convolutions, and such as leave masked positions empty."""
    import torch
    import torch.nn.functional as F

    from scarce_cxr.figures.leak import Strip

    pixels, visible = torch.tensor(_STRIP, dtype=torch.float64), torch.tensor(_STRIP_VISIBLE)
    dense, exact = [pixels[None]], [pixels[None]]
    for _ in range(_LAYERS):
        dense.append(F.avg_pool2d(dense[-1], 3, stride=1, padding=1))
        exact.append(F.avg_pool2d(exact[-1], 3, stride=1, padding=1) * visible)
    outputs = (torch.cat(maps[1:]) for maps in (dense, exact))
    return Strip(*(values.numpy() for values in (pixels, visible, *outputs)))


def measure_stages(backbone: "Backbone", image: "torch.Tensor", visible: "torch.Tensor") -> "list[StageLeak]":
    """What a dense and an exact encoder hold at masked positions after the stem and every stage.

    Args:
        backbone: a ResNet; it is put into evaluation mode and double precision, so that what is zero is exactly so.
        image: (1, 1, S, S) normalised.
        visible: (1, 1, G, G) bool, True where a patch is seen; some patches of either kind.
    """
    import torch

    from scarce_cxr.figures.leak import StageLeak
    from scarce_cxr.methods.parts.sparse import SparseEncoder

    backbone = backbone.double().eval()
    seen = _spread(visible, image.shape[-1] // visible.shape[-1])
    pixels = (image.double() * seen).requires_grad_()
    dense = backbone.maps(pixels, stem=True)
    with torch.no_grad():
        empty = backbone.maps(torch.zeros_like(pixels), stem=True)
    masks = [_spread(visible, map_.shape[-1] // visible.shape[-1]) for map_ in dense]
    # In evaluation mode the stem's norm looks at no other position: exactness asks for the mask alone.
    exact = [dense[0] * masks[0], *(map_.to_dense() for map_ in SparseEncoder(backbone).maps(pixels, visible))]
    patch_row, patch_column = _middle(~visible[0, 0])
    names = ["stem", *(f"stage {number}" for number in range(1, len(dense)))]
    stages = []
    for name, mask, ours, theirs, nothing in zip(names, masks, exact, dense, empty, strict=True):
        side = mask.shape[-1] // visible.shape[-1]
        row, column = patch_row * side + side // 2, patch_column * side + side // 2
        # Of the exact encoder an empty position is zero.
        distances = [(map_ - base).norm(dim=1)[0].detach() for map_, base in ((theirs, nothing), (ours, 0.0))]
        distances = [distance / distance[mask[0, 0]].mean() for distance in distances]
        slopes = [
            (torch.autograd.grad(map_[0, :, row, column].sum(), pixels, retain_graph=True)[0] * seen)[0, 0].abs()
            for map_ in (theirs, ours)
        ]
        arrays = [values.numpy() for values in (mask[0, 0], *distances)]
        stages.append(StageLeak(name, *arrays, (row, column), *(slope.numpy() for slope in slopes)))
    return stages


def _spread(visible: "torch.Tensor", side: int) -> "torch.Tensor":
    """A mask of patches as one of positions, `side` along a patch's edge: (1, 1, G, G) -> (1, 1, H, W)."""
    return visible.repeat_interleave(side, dim=2).repeat_interleave(side, dim=3)


def _middle(masked: "torch.Tensor") -> tuple[int, int]:
    """Row and column of the masked patch nearest to the middle of a grid (G, G)."""
    places = masked.nonzero()
    row, column = places[(2 * places - (len(masked) - 1)).square().sum(dim=1).argmin()].tolist()
    return row, column


def _find_film(store: Path | None, film: int) -> "tuple[torch.Tensor, str]":
    """A film (S, S) in [0, 1], and whose it is."""
    import numpy as np
    import torch

    from scarce_cxr.errors import ScarceError
    from scarce_cxr.images.phantoms import draw_film
    from scarce_cxr.images.store import Store
    from scarce_cxr.views.plans import Normalization, plain_view

    if store is None:
        return torch.from_numpy(draw_film(0, film, 0, _SIZE).pixels), f"Phantom film of patient {film}"
    opened = Store.open(store)
    if not 0 <= film < len(opened.table):
        raise ScarceError(
            f"a film from 0 to {len(opened.table) - 1}", f"film = {film}", "choose one that the store has"
        )
    shown = plain_view(torch.from_numpy(opened.pixels(np.array([film]))), _SIZE, Normalization(0.0, 1.0))
    return shown[0, 0], f"Film {film} of the store"
