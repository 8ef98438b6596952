"""Sparse convolutional encoding of the visible patches of images.

Tian et al., "Designing BERT for Convolutional Networks: Sparse and Hierarchical Masked Modeling", ICLR 2023
(arXiv:2301.03580), section 3.1: after no layer does a masked position hold a value, and batch norm counts visible
positions alone. The mask is made of whole patches, so at every stride the visible positions are whole tiles: a patch of
32 pixels is a tile of 8 x 8 positions at stride 4, of 4 x 4 at stride 8, and a single position at stride 32.

One walk through timm's modules, two executions of the same mathematics:

    masked   every layer computes everything, and the mask sets to zero what must not be there: the plain reference.
    blocks   visible tiles alone exist. A kernel that looks beyond a tile's edge is given windows, gathered from the
             tile and its neighbours, in which masked positions are zero. The backward pass gathers and normalises
             again, so that neither windows nor normalised values are kept.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from types import MappingProxyType
from typing import Literal, NamedTuple, Self

import torch
import torch.nn.functional as F
from timm import layers as timm_layers
from timm.layers.grn import GlobalResponseNorm
from timm.models.convnext import ConvNeXt, ConvNeXtBlock, ConvNeXtStage
from timm.models.resnet import BasicBlock, Bottleneck, ResNet
from torch import nn
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint

from scarce_cxr.backbones.backbone import Backbone
from scarce_cxr.errors import ScarceError

# Up to this side of a tile's output, windows of single positions and one matrix product beat a convolution of tiles.
_SMALL = 2
_NOTHING: Mapping[str, torch.Tensor] = MappingProxyType({})


class SparseEncoder:
    """Encodes visible patches with a backbone's own weights; it holds none itself.

    Args:
        backbone: a timm ResNet (basic or bottleneck blocks) or ConvNeXt.
        execution: "masked" or "blocks": the same values and gradients, see the head of this file.

    Raises:
        ScarceError: the backbone is of another family, or has a layer that cannot be made sparse.
    """

    def __init__(self, backbone: Backbone, execution: Literal["masked", "blocks"] = "blocks") -> None:
        self.backbone, self.execution = backbone, execution
        name, model = backbone.settings.name, backbone.model
        if type(model) not in _PARTS:
            raise _not_sparse(f"backbone.name = {name}, a {type(model).__name__}")
        for part in _PARTS[type(model)]:
            for place, module in model.get_submodule(part).named_modules(prefix=part):
                if type(module) not in _WALK or (isinstance(module, nn.Dropout) and module.p):
                    raise _not_sparse(f"backbone.name = {name} with {place}, a {type(module).__name__}")

    # Every layer's shapes would be compiled anew, and anew for every number of tiles; products have nothing to gain.
    @torch.compiler.disable
    def maps(self, images: torch.Tensor, visible: torch.Tensor) -> list["SparseMap"]:
        """Feature maps of every stage from stride 4 on, finest first, at visible positions.

        In training mode the batch norms' running statistics move towards those of visible positions.

        Args:
            images: (B, C, S, S); what is behind the mask is not read.
            visible: (B, 1, G, G) bool, True where a patch of S / G pixels is seen; images may differ in how many.

        Raises:
            ScarceError: the backbone's stride does not divide the patch, nothing is visible, or a batch norm in
                training mode gets a single position.
        """
        size, grid, stride = images.shape[-1], visible.shape[-1], self.backbone.strides[-1]
        if size % grid or size // grid % stride:
            raise ScarceError(
                f"patches whose side is {stride} pixels, the backbone's stride, or a multiple of it",
                f"views of {size} pixels in a grid of {grid} x {grid} patches",
                f"choose a patch and a size that {stride} divides",
            )
        if not visible.any():
            raise ScarceError("a visible patch", f"{len(images)} views without any", "choose a lower mask ratio")
        x = (_Masked if self.execution == "masked" else _Tiles).of(images, _Grid(visible))
        maps = []
        for part in _PARTS[type(self.backbone.model)]:
            x = self._run(self.backbone.model.get_submodule(part), x)
            if part in self.backbone.stage_names:
                maps.append(x)
        return maps

    def _run(self, part: nn.Module, x: "SparseMap") -> "SparseMap":
        if not (self.backbone.settings.gradient_checkpointing and torch.is_grad_enabled()):
            return _walk(part, x)
        # Recomputation sees the same batch a second time: its statistics must not count twice.
        return checkpoint(
            _walk, part, x, use_reentrant=False, context_fn=lambda: (nullcontext(), x.grid.statistics_at_rest())
        )


def visible_batch_norm(
    norm: nn.BatchNorm2d,
    values: torch.Tensor,
    at_rest: bool = False,
    parameters: Mapping[str, torch.Tensor] = _NOTHING,
) -> torch.Tensor:
    """Batch norm over visible positions alone, with the module's own mode, momentum and running statistics.

    Args:
        norm: of C channels.
        values: (N, C) the values at the batch's visible positions, or (T, C, s, s) those in tiles.
        at_rest: leave the running statistics alone.
        parameters: to be used in place of the module's own, by name.

    Returns:
        Of the values' shape.

    Raises:
        ScarceError: in training mode there is a single position, which has no variance.
    """
    if norm.training and values.numel() == values.shape[1]:
        raise ScarceError(
            "two or more visible positions in a batch, for batch norm to train on",
            "a single one",
            "choose a larger batch, larger views or a lower mask ratio",
        )
    buffers = {name: buffer.clone() for name, buffer in norm.named_buffers()} if at_rest else {}
    maps = values if values.ndim == 4 else values[:, :, None, None]
    normalised = functional_call(norm, {**parameters, **buffers}, (maps,))
    return normalised if values.ndim == 4 else normalised.flatten(1)


class _Grid:
    """Where the visible patches of a batch are, and what follows from it at every stride.

    The side of a tile is its number of positions along an edge: the patch's side over the stride.
    """

    def __init__(self, visible: torch.Tensor) -> None:
        self.visible = visible
        self.image, self.row, self.column = visible[:, 0].nonzero(as_tuple=True)
        self.at_rest = False
        self._made: dict[tuple, torch.Tensor] = {}

    @contextmanager
    def statistics_at_rest(self) -> Iterator[None]:
        """Batch norms leave their running statistics alone."""
        self.at_rest = True
        try:
            yield
        finally:
            self.at_rest = False

    def mask(self, side: int, dtype: torch.dtype) -> torch.Tensor:
        """(B, 1, H, W): 1 at visible positions, 0 at masked ones."""
        return self._once(self._mask, side, dtype)

    def places(self, side: int) -> torch.Tensor:
        """(N,) where the tiles' positions are among the B x H x W positions of whole maps, tile by tile."""
        return self._once(self._places, side)

    def windows(self, side: int, kernel: int, stride: int, padding: int, single: bool) -> torch.Tensor:
        """What a kernel sees of tiles: which of their N positions, as they come tile by tile.

        Args:
            side: of a tile.
            kernel, stride, padding: as of a convolution.
            single: a window for each position of the output, instead of one for each tile.

        Returns:
            (windows, w, w) int32; N stands for a masked position, N + 1 for one beyond the image's edge.
        """
        return self._once(self._windows, side, kernel, stride, padding, single)

    def _once(self, make: Callable[..., torch.Tensor], *arguments: object) -> torch.Tensor:
        key = (make.__name__, *arguments)
        if key not in self._made:
            self._made[key] = make(*arguments)
        return self._made[key]

    def _mask(self, side: int, dtype: torch.dtype) -> torch.Tensor:
        return self.visible.to(dtype).repeat_interleave(side, dim=2).repeat_interleave(side, dim=3)

    def _places(self, side: int) -> torch.Tensor:
        G = self.visible.shape[-1]
        inside = torch.arange(side, device=self.visible.device)
        rows = ((self.image * G + self.row) * side)[:, None] + inside
        columns = (self.column * side)[:, None] + inside
        return (rows[:, :, None] * (G * side) + columns[:, None, :]).flatten()

    def _windows(self, side: int, kernel: int, stride: int, padding: int, single: bool) -> torch.Tensor:
        B, _, G, _ = self.visible.shape
        T, device = len(self.image), self.visible.device
        # Along an edge of the window: how many tiles to go, and the position inside the tile arrived at.
        offsets = torch.arange((side // stride - 1) * stride + kernel, device=device) - padding
        steps, inside = offsets.div(side, rounding_mode="floor"), offsets % side
        numbers = torch.full((B, G, G), -1, device=device)
        numbers[self.image, self.row, self.column] = torch.arange(T, device=device)
        # A kernel reaches no more tiles beyond the image's edge than it is wide.
        margin = -(-kernel // side)
        numbers = F.pad(numbers, [margin] * 4, value=-2)
        rows, columns = (start[:, None] + margin + steps for start in (self.row, self.column))
        tiles = numbers[self.image[:, None, None], rows[:, :, None], columns[:, None, :]]
        found = (tiles * side + inside[:, None]) * side + inside
        windows = torch.where(tiles < 0, T * side * side - 1 - tiles, found).int()
        if single:
            windows = windows.unfold(1, kernel, stride).unfold(2, kernel, stride).reshape(-1, kernel, kernel)
        return windows


class SparseMap(ABC):
    """Features at the visible positions of a batch.

    Attributes:
        grid: where they are.
        side: of a tile, in positions.
    """

    def __init__(self, values: torch.Tensor, grid: _Grid, side: int) -> None:
        self._values, self.grid, self.side = values, grid, side

    @abstractmethod
    def visible_values(self) -> torch.Tensor:
        """(N, C) the values at all visible positions of the batch, tile by tile."""

    def to_dense(self, values: torch.Tensor | None = None, fill: torch.Tensor | None = None) -> torch.Tensor:
        """Whole maps (B, C, H, W).

        Args:
            values: (N, C) what to lay out, in the order of `visible_values`: these if left out.
            fill: (C,) what to lay at masked positions, e.g. a mask token: zero if left out.
        """
        values = self.visible_values() if values is None else values
        B, _, G, _ = self.grid.visible.shape
        height, channels = G * self.side, values.shape[1]
        empty = values.new_zeros(channels) if fill is None else fill.to(values.dtype)
        whole = empty.expand(B * height * height, channels).index_copy(0, self.grid.places(self.side), values)
        return whole.view(B, height, height, channels).permute(0, 3, 1, 2)

    # What the walk asks for: every one takes one of timm's modules and gives the map that comes after it.

    @abstractmethod
    def settled(self) -> Self:
        """With nothing left to compute: what is used twice must be computed once."""

    @abstractmethod
    def convolve(self, module: nn.Conv2d) -> Self: ...

    @abstractmethod
    def connect(self, module: nn.Linear) -> Self: ...

    @abstractmethod
    def normalize(self, module: nn.Module) -> Self: ...

    @abstractmethod
    def normalize_response(self, module: GlobalResponseNorm) -> Self: ...

    @abstractmethod
    def activate(self, module: nn.Module) -> Self: ...

    @abstractmethod
    def max_pool(self, module: nn.MaxPool2d) -> Self: ...

    def average_pool(self, module: nn.AvgPool2d) -> Self:
        kernel, stride, padding = _geometry(module)
        if kernel != stride or padding:
            raise _not_sparse(f"{module}, which looks beyond a patch")
        x = self.settled()
        return x._with(module(x._values), stride)

    def scale(self, gain: torch.Tensor) -> Self:
        x = self.settled()
        return x._with(x._values * gain[:, None, None])

    def add(self, other: Self) -> Self:
        x = self.settled()
        return x._with(x._values + other.settled()._values)

    def _with(self, values: torch.Tensor, stride: int = 1) -> Self:
        return type(self)(values, self.grid, self.side // stride)


class _Masked(SparseMap):
    """Whole maps (B, C, H, W), zero at masked positions after every layer."""

    @classmethod
    def of(cls, images: torch.Tensor, grid: _Grid) -> Self:
        return cls(images, grid, images.shape[-1] // grid.visible.shape[-1])._masked(images)

    def visible_values(self) -> torch.Tensor:
        return _rows(self._values).index_select(0, self.grid.places(self.side))

    def settled(self) -> Self:
        return self

    def convolve(self, module: nn.Conv2d) -> Self:
        return self._masked(module(self._values), _geometry(module).stride)

    def connect(self, module: nn.Linear) -> Self:
        return self._masked(_in_layout(module, self._values))

    def normalize(self, module: nn.Module) -> Self:
        if isinstance(module, nn.BatchNorm2d):
            return self._with(self.to_dense(visible_batch_norm(module, self.visible_values(), self.grid.at_rest)))
        return self._masked(_in_layout(module, self._values))

    def normalize_response(self, module: GlobalResponseNorm) -> Self:
        return self._masked(_in_layout(module, self._values))

    def activate(self, module: nn.Module) -> Self:
        # Zero stays zero.
        return self._with(module(self._values))

    def max_pool(self, module: nn.MaxPool2d) -> Self:
        return self._masked(module(self._values), _geometry(module).stride)

    def _masked(self, values: torch.Tensor, stride: int = 1) -> Self:
        return self._with(values * self.grid.mask(self.side // stride, values.dtype), stride)


class _Tiles(SparseMap):
    """Visible tiles alone: (T, C, s, s), channels last in memory.

    Norms and activations wait for the operation that they lead to, which keeps what comes before them and computes
    them again in the backward pass.
    """

    def __init__(self, values: torch.Tensor, grid: _Grid, side: int, waiting: tuple[nn.Module, ...] = ()) -> None:
        super().__init__(values, grid, side)
        self._waiting = waiting

    @classmethod
    def of(cls, images: torch.Tensor, grid: _Grid) -> Self:
        side = images.shape[-1] // grid.visible.shape[-1]
        return cls(_tiles(_rows(images).index_select(0, grid.places(side)), side), grid, side)

    def visible_values(self) -> torch.Tensor:
        return _rows(self.settled()._values)

    def settled(self) -> Self:
        return self._with(_prepare(self._values, self._waiting, self.grid.at_rest)) if self._waiting else self

    def convolve(self, module: nn.Conv2d) -> Self:
        kernel, stride, padding = _geometry(module)
        if kernel == 1:
            x = self if stride == 1 else self._thinned(stride)
            return x._compute(_Convolution(1, module.groups), None, module)
        single = module.groups == 1 and self.side // stride <= _SMALL
        windows = self.grid.windows(self.side, kernel, stride, padding, single)
        return self._compute(_Convolution(stride, module.groups), windows, module, stride)

    def connect(self, module: nn.Linear) -> Self:
        return self._compute(_Convolution(1, 1), None, module)

    def normalize(self, module: nn.Module) -> Self:
        return self._after(module)

    def normalize_response(self, module: GlobalResponseNorm) -> Self:
        x = self.settled()
        squares = x._values.norm(p=2, dim=(2, 3)).square()
        totals = squares.new_zeros(len(self.grid.visible), squares.shape[1]).index_add(0, self.grid.image, squares)
        # The square root has no slope at zero.
        norms = totals.clamp_min(torch.finfo(totals.dtype).tiny).sqrt()
        shares = (norms / (norms.mean(dim=1, keepdim=True) + module.eps)).index_select(0, self.grid.image)
        weight, bias = module.weight[:, None, None], module.bias[:, None, None]
        return x._with(x._values + torch.addcmul(bias, weight, x._values * shares[:, :, None, None]))

    def activate(self, module: nn.Module) -> Self:
        # In place of a norm's output nothing is lost; in place of what is kept, it could not be computed again.
        at_once = getattr(module, "inplace", False) and not self._waiting
        return self._with(module(self._values)) if at_once else self._after(module)

    def max_pool(self, module: nn.MaxPool2d) -> Self:
        kernel, stride, padding = _geometry(module)
        windows = self.grid.windows(self.side, kernel, stride, padding, single=False)
        return self._compute(_MaxPool(kernel, stride), windows, module, stride)

    def _thinned(self, stride: int) -> Self:
        x = self.settled()
        return x._with(x._values[:, :, ::stride, ::stride], stride)

    def _after(self, module: nn.Module) -> Self:
        return _Tiles(self._values, self.grid, self.side, (*self._waiting, module))

    def _compute(
        self, operation: "_Convolution | _MaxPool", windows: torch.Tensor | None, module: nn.Module, stride: int = 1
    ) -> Self:
        weight, bias = getattr(module, "weight", None), getattr(module, "bias", None)
        weight = weight[:, :, None, None] if isinstance(module, nn.Linear) else weight
        parameters = [parameter for waiting in self._waiting for parameter in waiting.parameters()]
        rows = _Prepared.apply(operation, self._waiting, self.grid.at_rest, self._values, windows, weight, *parameters)
        rows = rows if bias is None else rows + bias.to(rows.dtype)
        return self._with(_tiles(rows, self.side // stride), stride)


class _Prepared(torch.autograd.Function):
    """An operation on tiles after norms and activations, of which only what comes before these is kept."""

    @staticmethod
    def forward(context, operation, waiting, at_rest, values, windows, weight, *parameters):
        context.save_for_backward(values, windows, weight, *parameters)
        context.operation, context.waiting = operation, waiting
        device = values.device.type
        context.autocast = (device, torch.get_autocast_dtype(device), torch.is_autocast_enabled(device))
        values, weight = _cast(context.autocast, _prepare(values, waiting, at_rest), weight)
        return operation.forward(values, windows, weight)

    @staticmethod
    def backward(context, gradient):
        values, windows, weight, *parameters = context.saved_tensors
        _, _, _, for_values, _, for_weight, *for_parameters = context.needs_input_grad
        sources = [
            tensor.detach().requires_grad_(wanted)
            for tensor, wanted in zip((values, *parameters), (for_values, *for_parameters), strict=True)
        ]
        with torch.autocast(*context.autocast), torch.enable_grad():
            prepared = _prepare(sources[0], context.waiting, True, sources[1:])
        given, cast_weight = _cast(context.autocast, prepared.detach(), weight)
        onward, weight_gradient = context.operation.backward(
            gradient, given, windows, cast_weight, (prepared.requires_grad, for_weight)
        )
        wanted = [source for source in sources if source.requires_grad]
        found = iter(torch.autograd.grad(prepared, wanted, onward.to(prepared.dtype)) if wanted else ())
        value_gradient, *parameter_gradients = (next(found) if source.requires_grad else None for source in sources)
        weight_gradient = weight_gradient.to(weight.dtype) if for_weight else None
        return None, None, None, value_gradient, None, weight_gradient, *parameter_gradients


def _prepare(
    values: torch.Tensor, modules: tuple[nn.Module, ...], at_rest: bool, given: list[torch.Tensor] | None = None
) -> torch.Tensor:
    """Norms and activations of tiles (T, C, s, s); if parameters are given, with these instead of the modules' own."""
    supply = iter(given or ())
    for module in modules:
        parameters = {name: next(supply) for name, _ in module.named_parameters()} if given else _NOTHING
        if isinstance(module, nn.BatchNorm2d):
            values = visible_batch_norm(module, values, at_rest, parameters)
        else:
            values = _in_layout(module, values, parameters)
    return values


def _in_layout(
    module: nn.Module, values: torch.Tensor, parameters: Mapping[str, torch.Tensor] = _NOTHING
) -> torch.Tensor:
    """Calls a module on (B, C, H, W), turned for those that want channels last."""
    last = type(module) in _CHANNELS_LAST or getattr(module, "channel_dim", 1) == -1
    given = values.permute(0, 2, 3, 1) if last else values
    result = functional_call(module, dict(parameters), (given,))
    return result.permute(0, 3, 1, 2) if last else result


class _Convolution(NamedTuple):
    """A convolution of windows without padding: nothing but visible positions comes out.

    `forward` takes tiles (T, C, s, s) to rows (N, O); `backward` takes the gradient of these to the ones of values and
    weight, as far as they are wanted. So does the other operation, `_MaxPool`.
    """

    stride: int
    groups: int

    def forward(self, values: torch.Tensor, windows: torch.Tensor | None, weight: torch.Tensor) -> torch.Tensor:
        return _convolve(_gather(values, windows), weight, self.stride, self.groups)

    def backward(
        self,
        gradient: torch.Tensor,
        values: torch.Tensor,
        windows: torch.Tensor | None,
        weight: torch.Tensor,
        wanted: tuple[bool, bool],
    ) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        for_values, mirrored = None, self.stride == 1
        if wanted[0] and mirrored:
            # Positions are seen by those that they see, at mirrored places of the kernel: a sparse convolution again.
            back = _gather(_tiles(gradient, values.shape[-1]), windows)
            for_values = _tiles(_convolve(back, _mirrored(weight, self.groups), 1, self.groups), values.shape[-1])
        for_seen, for_weight = _convolve_back(
            gradient,
            _gather(values, windows),
            weight,
            self.stride,
            self.groups,
            (wanted[0] and not mirrored, wanted[1]),
        )
        if for_seen is not None:
            for_values = _scatter(for_seen, windows, values)
        return for_values, for_weight


class _MaxPool(NamedTuple):
    """The greatest of a window; masked positions count as zero, as they do after a ReLU in the paper's code."""

    kernel: int
    stride: int

    def forward(self, values: torch.Tensor, windows: torch.Tensor, weight: None) -> torch.Tensor:
        return _rows(self._pool(values, windows)[1])

    def backward(
        self,
        gradient: torch.Tensor,
        values: torch.Tensor,
        windows: torch.Tensor,
        weight: None,
        wanted: tuple[bool, bool],
    ) -> tuple[torch.Tensor | None, None]:
        if not wanted[0]:
            return None, None
        seen, pooled, chosen = self._pool(values, windows)
        for_seen = torch.ops.aten.max_pool2d_with_indices_backward(
            _tiles(gradient, pooled.shape[-1]),
            seen,
            [self.kernel] * 2,
            [self.stride] * 2,
            [0, 0],
            [1, 1],
            False,
            chosen,
        )
        return _scatter(for_seen.permute(0, 2, 3, 1), windows, values), None

    def _pool(self, values: torch.Tensor, windows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        # Beyond the image's edge there is nothing, not zero.
        seen = _gather(values, windows, beyond=-torch.inf).permute(0, 3, 1, 2)
        return seen, *F.max_pool2d(seen, self.kernel, self.stride, return_indices=True)


def _rows(maps: torch.Tensor) -> torch.Tensor:
    """(T, C, s, s) -> (T * s * s, C), without a copy if channels are last in memory."""
    return maps.permute(0, 2, 3, 1).flatten(0, 2)


def _tiles(rows: torch.Tensor, side: int) -> torch.Tensor:
    """(T * s * s, C) -> (T, C, s, s), without a copy."""
    return rows.reshape(-1, side, side, rows.shape[1]).permute(0, 3, 1, 2)


def _gather(values: torch.Tensor, windows: torch.Tensor | None, beyond: float = 0.0) -> torch.Tensor:
    """Tiles (T, C, s, s) -> (n, w, w, C), by `_Grid.windows`; where there are none, a tile is its own window."""
    if windows is None:
        return values.permute(0, 2, 3, 1)
    rows = _rows(values)
    blank = rows.new_zeros(2, rows.shape[1])
    blank[1] = beyond
    return torch.cat([rows, blank]).index_select(0, windows.flatten()).view(*windows.shape, -1)


def _scatter(seen: torch.Tensor, windows: torch.Tensor | None, values: torch.Tensor) -> torch.Tensor:
    """The transpose of gathering: sums (n, w, w, C) up into tiles like the values."""
    if windows is None:
        return seen.permute(0, 3, 1, 2)
    T, C, side, _ = values.shape
    rows = seen.new_zeros(T * side * side + 2, C).index_add_(0, windows.flatten(), seen.reshape(-1, C))
    return _tiles(rows[:-2], side)


def _convolve(seen: torch.Tensor, weight: torch.Tensor, stride: int, groups: int) -> torch.Tensor:
    """Windows (n, w, w, C) by weight (O, C / groups, k, k) -> rows (n * o * o, O)."""
    if _is_product(seen, weight, groups):
        matrix = weight.permute(0, 2, 3, 1).flatten(1)
        return F.linear(seen.reshape(-1, matrix.shape[1]), matrix)
    return _rows(F.conv2d(seen.permute(0, 3, 1, 2), weight, stride=stride, groups=groups))


def _convolve_back(
    gradient: torch.Tensor,
    seen: torch.Tensor,
    weight: torch.Tensor,
    stride: int,
    groups: int,
    wanted: tuple[bool, bool],
) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """The gradients of windows and weight from the one of `_convolve`'s rows."""
    outputs, inputs, kernel, _ = weight.shape
    if _is_product(seen, weight, groups):
        matrix = weight.permute(0, 2, 3, 1).flatten(1)
        for_seen = (gradient @ matrix).view_as(seen) if wanted[0] else None
        for_matrix = gradient.t() @ seen.reshape(-1, matrix.shape[1]) if wanted[1] else None
        return for_seen, for_matrix.view(outputs, kernel, kernel, inputs).permute(0, 3, 1, 2) if wanted[1] else None
    maps = _tiles(gradient, (seen.shape[1] - kernel) // stride + 1)
    for_seen, for_weight, _ = torch.ops.aten.convolution_backward(
        maps,
        seen.permute(0, 3, 1, 2),
        weight,
        None,
        [stride] * 2,
        [0, 0],
        [1, 1],
        False,
        [0, 0],
        groups,
        [*wanted, False],
    )
    return for_seen.permute(0, 2, 3, 1) if wanted[0] else None, for_weight


def _is_product(seen: torch.Tensor, weight: torch.Tensor, groups: int) -> bool:
    """Whether a convolution is one matrix product of windows, each flattened, or of positions."""
    width, kernel = seen.shape[1], weight.shape[-1]
    return groups == 1 and (width == kernel or (kernel == 1 and width <= _SMALL))


def _mirrored(weight: torch.Tensor, groups: int) -> torch.Tensor:
    """The kernel (C, O / groups, k, k) that leads gradients back through a convolution by (O, C / groups, k, k)."""
    swapped = weight.unflatten(0, (groups, -1)).transpose(1, 2).flatten(0, 1)
    return swapped.flip(2, 3) if weight.shape[-1] > 1 else swapped


def _cast(autocast: tuple[str, torch.dtype, bool], *tensors: torch.Tensor | None) -> list[torch.Tensor | None]:
    """As autocast hands tensors to a product."""
    _, dtype, enabled = autocast
    return [t.to(dtype) if enabled and t is not None and t.dtype == torch.float32 else t for t in tensors]


class _Geometry(NamedTuple):
    kernel: int
    stride: int
    padding: int


def _geometry(module: nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d) -> _Geometry:
    """Of a layer that takes whole tiles to whole tiles: it begins at every stride-th position and ends with the map."""
    pairs = [
        value if isinstance(value, tuple) else (value, value)
        for value in (module.kernel_size, module.stride, module.padding, getattr(module, "dilation", 1))
    ]
    (kernel, stride, padding, dilation), square = [first for first, _ in pairs], all(a == b for a, b in pairs)
    zeros = getattr(module, "padding_mode", "zeros") == "zeros" and isinstance(padding, int)
    whole = kernel == stride or not getattr(module, "ceil_mode", False)
    if not (square and zeros and whole and dilation == 1 and -stride <= 2 * padding - kernel < 0):
        raise _not_sparse(f"{module}, which does not keep to the grid of patches")
    return _Geometry(kernel, stride, padding)


def _not_sparse(got: str) -> ScarceError:
    return ScarceError(
        "a ResNet or ConvNeXt of layers with a sparse form", got, "choose e.g. resnet18, resnet50 or convnext_tiny"
    )


def _walk(module: nn.Module, x: SparseMap) -> SparseMap:
    """What a module makes of a map, as timm's own `forward` of it says."""
    return _WALK[type(module)](module, x)


def _chain(x: SparseMap, *modules: nn.Module) -> SparseMap:
    for module in modules:
        x = _walk(module, x)
    return x


def _basic_block(block: BasicBlock, x: SparseMap) -> SparseMap:
    x = x.settled()
    first = _chain(x, block.conv1, block.bn1, block.drop_block, block.act1, block.aa)
    return _residual(block, x, _chain(first, block.conv2, block.bn2), block.act2)


def _bottleneck(block: Bottleneck, x: SparseMap) -> SparseMap:
    x = x.settled()
    first = _chain(x, block.conv1, block.bn1, block.act1)
    second = _chain(first, block.conv2, block.bn2, block.drop_block, block.act2, block.aa)
    return _residual(block, x, _chain(second, block.conv3, block.bn3), block.act3)


def _residual(block: nn.Module, x: SparseMap, branch: SparseMap, activation: nn.Module) -> SparseMap:
    shortcut = x if block.downsample is None else _walk(block.downsample, x)
    return _walk(activation, branch.add(shortcut)).settled()


def _convnext_stage(stage: ConvNeXtStage, x: SparseMap) -> SparseMap:
    return _chain(x, stage.downsample, stage.blocks).settled()


def _convnext_block(block: ConvNeXtBlock, x: SparseMap) -> SparseMap:
    x = x.settled()
    branch = _chain(x, block.conv_dw, block.norm, block.mlp)
    branch = branch if block.gamma is None else branch.scale(block.gamma)
    return branch.add(_walk(block.shortcut, x))


def _mlp(mlp: nn.Module, x: SparseMap) -> SparseMap:
    return _chain(x, mlp.fc1, mlp.act, mlp.drop1, mlp.norm, mlp.fc2, mlp.drop2)


def _response_mlp(mlp: nn.Module, x: SparseMap) -> SparseMap:
    return _chain(x, mlp.fc1, mlp.act, mlp.drop1, mlp.grn, mlp.fc2, mlp.drop2)


# From the image to the last stage.
_PARTS = {
    ResNet: ("conv1", "bn1", "act1", "maxpool", "layer1", "layer2", "layer3", "layer4"),
    ConvNeXt: ("stem", "stages.0", "stages.1", "stages.2", "stages.3"),
}
_CHANNELS_LAST = {nn.Linear, nn.LayerNorm, timm_layers.LayerNorm}
_NORMS = (nn.BatchNorm2d, nn.LayerNorm, timm_layers.LayerNorm, timm_layers.LayerNorm2d)
# All of them leave zero at zero.
_ACTIVATIONS = (nn.ReLU, nn.GELU, nn.SiLU, timm_layers.GELU, timm_layers.GELUTanh, timm_layers.Swish)
# By the exact type: a subclass may do something else in its forward.
_WALK: dict[type, Callable[[nn.Module, SparseMap], SparseMap]] = {
    nn.Identity: lambda module, x: x,
    nn.Dropout: lambda module, x: x,
    nn.Sequential: lambda module, x: _chain(x, *module),
    nn.Conv2d: lambda module, x: x.convolve(module),
    nn.Linear: lambda module, x: x.connect(module),
    **dict.fromkeys(_NORMS, lambda module, x: x.normalize(module)),
    **dict.fromkeys(_ACTIVATIONS, lambda module, x: x.activate(module)),
    GlobalResponseNorm: lambda module, x: x.normalize_response(module),
    nn.MaxPool2d: lambda module, x: x.max_pool(module),
    nn.AvgPool2d: lambda module, x: x.average_pool(module),
    BasicBlock: _basic_block,
    Bottleneck: _bottleneck,
    ConvNeXtStage: _convnext_stage,
    ConvNeXtBlock: _convnext_block,
    timm_layers.Mlp: _mlp,
    timm_layers.GlobalResponseNormMlp: _response_mlp,
}
