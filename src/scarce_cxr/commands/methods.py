"""`scarce methods`: what recipes' methods keep in memory, how MoCo and DINO differ, what SparK sees and paints."""

from pathlib import Path
from typing import TYPE_CHECKING

from scarce_cxr.commands.recipes import NIH_FILMS, find_recipe, recipe_name, recipes_folder
from scarce_cxr.results import Result, Table

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

    from scarce_cxr.methods.dino import DINO
    from scarce_cxr.methods.moco import MoCo
    from scarce_cxr.methods.spark import SparK
    from scarce_cxr.training.memory import Memory
    from scarce_cxr.training.recipe import Recipe

# Columns of the picture of masked films.
_FILMS_DRAWN = 4


def parser() -> "ArgumentParser":
    """The command's parser: it takes several recipes without an option's name."""
    from jsonargparse import ArgumentParser

    description = methods.__doc__.partition("\n")[0]
    made = ArgumentParser(prog="scarce methods", description=description, exit_on_error=False)
    made.add_argument(
        "recipes",
        nargs="*",
        type=str,
        default=[],
        help="Recipes: files, or names of the package's; by default all of reference/.",
    )
    made.add_argument("--films", type=int, default=NIH_FILMS, help="Films to train on; settings of auto follow them.")
    made.add_argument("--shapes", type=Path, help="List all maps of SparK's encoders and decoders, and draw them here.")
    made.add_argument("--masked", type=Path, help="Draw films here as the first SparK sees them; with --store.")
    made.add_argument("--store", type=Path, help="Where films are, for --masked.")
    return made


def parse(arguments: list[str]) -> "Namespace":
    """Reads the command line."""
    return parser().parse_args(arguments)


def run(parsed: "Namespace") -> Result:
    """Runs what `parse` read."""
    return methods(parsed.recipes, parsed.films, parsed.shapes, parsed.masked, parsed.store)


def methods(
    recipes: list[str] | None = None,
    films: int = NIH_FILMS,
    shapes: Path | None = None,
    masked: Path | None = None,
    store: Path | None = None,
) -> Result:
    """Counts what each recipe's method keeps in memory beside the backbone, and compares MoCo with DINO.

    Args:
        recipes: files, or names of those that come with the package; by default all reference recipes. The first of
            MoCo and the first of DINO are compared.
        films: films to train on; settings that a recipe leaves `auto` follow them.
        shapes: picture of the encoders and decoders of recipes for SparK, whose maps are then listed too.
        masked: picture of films as the first of these recipes masks them, beside what it is to paint.
        store: where these films are.

    Raises:
        ScarceError: there is no such recipe, its batch does not fit the films, or its backbone not its method; there is
            none for SparK to draw, or no store.
    """
    from scarce_cxr.errors import ScarceError
    from scarce_cxr.methods.dino import DINO
    from scarce_cxr.methods.moco import MoCo
    from scarce_cxr.methods.spark import SparK
    from scarce_cxr.training.automatic import read_resolved
    from scarce_cxr.training.memory import BYTES, averages_per_parameter, build_shapes, measure_memory

    if masked and store is None:
        raise ScarceError("a store to draw films of", "--masked alone", "add --store STORE")
    counts, optimizers, compared, painting = {}, {}, {}, {}
    for path in map(find_recipe, recipes or sorted(map(str, (recipes_folder() / "reference").glob("*.yaml")))):
        recipe = read_resolved(path, films)
        method, name = build_shapes(recipe), recipe_name(path)
        counts[name] = measure_memory(method, recipe.optimizer)
        optimizers[name] = f"{recipe.optimizer.name}: {averages_per_parameter(recipe.optimizer)} a parameter"
        for kind in (MoCo, DINO):
            if isinstance(method, kind):
                compared.setdefault(kind, (name, method))
        if isinstance(method, SparK):
            painting[name] = recipe
    if (shapes or masked) and not painting:
        raise ScarceError("a recipe for SparK to draw", ", ".join(counts), "for instance scarce methods spark")
    parts = ["backbone", "heads", "teacher", "buffers", "norm statistics", "beside the backbone", "optimizer state"]
    remembered = [f"{b} of {name} ({n:,})" for name, memory in counts.items() for b, n in memory.buffers.items()]
    tables = [
        Table(
            "Millions of numbers",
            ["recipe", *parts, "optimizer"],
            [[name, *(n / 1e6 for n in _numbers(memory)), optimizers[name]] for name, memory in counts.items()],
            f"buffers: {', '.join(remembered) or 'none'}; beside the backbone: the four columns before it, summed",
        ),
        Table(
            "MiB in fp32",
            ["recipe", *parts],
            [[name, *(n * BYTES / 2**20 for n in _numbers(memory))] for name, memory in counts.items()],
            "activations, gradients and views come on top",
        ),
    ]
    files = []
    if shapes:
        listed, path = _draw_shapes(painting, shapes)
        tables += listed
        files.append(("shapes", path))
    if masked:
        files.append(("masked films", _draw_masked(next(iter(painting.values())), store, masked)))
    if len(compared) < 2:
        return Result(tables, files, ["\nA recipe of MoCo and one of DINO among them would be compared."])
    (moco_name, moco), (dino_name, dino) = compared[MoCo], compared[DINO]
    tables.append(
        Table(
            "MoCo v2 and DINO",
            ["", moco_name, dino_name],
            _compare(moco, counts[moco_name], dino, counts[dino_name]),
            "numbers are those of the two recipes",
        )
    )
    return Result(tables, files)


def _draw_shapes(recipes: "dict[str, Recipe]", out: Path) -> tuple[list[Table], Path]:
    """A table of each recipe's maps, and all of them in one picture."""
    from scarce_cxr.figures import theme
    from scarce_cxr.figures.shapes import Network, shapes_figure
    from scarce_cxr.methods.shapes import trace_maps
    from scarce_cxr.training.pretrain import build_method

    tables, networks = [], []
    for name, recipe in recipes.items():
        method, size = build_method(recipe, restored=True), recipe.views.size
        maps = trace_maps(method, size)
        parts = [[(m.channels, m.side) for m in maps if m.part == part] for part in ("encoder", "bridge", "decoder")]
        networks.append(Network(f"{name}: {recipe.backbone.name}, {size} pixels", size, *parts))
        rows = [[m.part, m.module, m.channels, m.side, size // m.side] for m in maps]
        columns = ["part", "module", "channels", "side", "stride"]
        tables.append(Table(f"Maps of {name}", columns, rows, _say_mask(method, size)))
    return tables, theme.save(shapes_figure(networks), out)


def _say_mask(method: "SparK", size: int) -> str:
    patches = (size // method.patch) ** 2
    hidden = patches - round(patches * (1 - method.mask_ratio))
    words = "runs over the holes" if method.execution == "dense" else "holds nothing there"
    return f"{hidden} of {patches} patches of {method.patch} pixels are masked; the encoder {words}"


def _draw_masked(recipe: "Recipe", folder: Path, out: Path) -> Path:
    """Whole films, evenly spaced in the store, masked as the recipe does it."""
    import numpy as np
    import torch

    from scarce_cxr.figures import theme
    from scarce_cxr.figures.reconstructions import masked_panel
    from scarce_cxr.images.store import Store
    from scarce_cxr.methods.spark import draw_visible, normalize_patches, to_patches
    from scarce_cxr.training.memory import build_shapes
    from scarce_cxr.views.draws import Draws
    from scarce_cxr.views.plans import Normalization, plain_view

    store, method, size = Store.open(folder), build_shapes(recipe), recipe.views.size
    films = np.unique(np.linspace(0, len(store) - 1, _FILMS_DRAWN).astype(int))
    normalization = Normalization(store.mean, store.std)
    views = plain_view(torch.from_numpy(store.pixels(films)), size, normalization)
    draws = Draws(recipe.seed, 0, np.arange(len(films)))
    visible = draw_visible(draws, size // method.patch, method.mask_ratio, views.device)
    visible = visible.repeat_interleave(method.patch, dim=2).repeat_interleave(method.patch, dim=3)
    targets = None
    if method.target == "patch":
        patches = normalize_patches(to_patches(views, method.patch), method.variance_floor)
        targets = torch.nn.functional.fold(patches.mT, size, method.patch, stride=method.patch)[:, 0].numpy()
    images, seen = (array[:, 0].numpy() for array in (normalization.invert(views), visible))
    hidden = _say_mask(method, size).partition(" pixels")[0]
    captions = store.table["view"].iloc[films].tolist()
    return theme.save(masked_panel(images, targets, seen, f"{size} pixels, {hidden} masked", captions), out)


def _numbers(memory: "Memory") -> list[int]:
    buffers = sum(memory.buffers.values())
    parts = [memory.backbone, memory.heads, memory.teacher, buffers, memory.statistics]
    return [*parts, memory.beside_backbone, memory.optimizer]


def _compare(moco: "MoCo", moco_memory: "Memory", dino: "DINO", dino_memory: "Memory") -> list[list[str]]:
    prototypes = len(dino.student.prototypes.weight)
    splits = f"; batch norm alone asks for parts of at least two films, {moco.bn_splits} of them"
    variance = f"; beside it a variance term of weight {moco.variance_weight:g}"
    centred = dino.center is not None
    center = f"the centre is an average over batches (momentum {dino.center_momentum:g}), and small ones make it noisy"
    _, sharp = dino.temperatures
    return [
        ["negatives", f"{moco.queue.size:,} keys of earlier batches", "none"],
        [
            "batch sensitivity",
            "low: the queue's length, not the batch's, says how many negatives there are"
            + (splits if moco.bn_splits > 1 else ""),
            f"higher: {center}"
            if centred
            else "high: prototypes are balanced within one batch, which must be large enough to use them",
        ],
        [
            "what the loss compares",
            f"a view's direction with its own key's and the queue's, at temperature {moco.temperature:g}",
            f"the student's distribution over {prototypes:,} prototypes with the teacher's, of different views",
        ],
        [
            "what prevents collapse",
            "the loss: equal vectors cannot tell the key from the negatives"
            + (variance if moco.variance_weight > 0 else ""),
            ("centring" if centred else "balancing")
            + " (no prototype takes all) against sharpening (the teacher's temperature "
            f"{sharp:g} under the student's {dino.student_temperature:g}): a balance that the loss does not show",
        ],
        ["extra memory", _say_memory(moco_memory), _say_memory(dino_memory)],
    ]


def _say_memory(memory: "Memory") -> str:
    from scarce_cxr.training.memory import BYTES

    parts = {"teacher": memory.teacher, "heads": memory.heads, **memory.buffers, "norm statistics": memory.statistics}
    said = ", ".join(f"{name} {n * BYTES / 2**20:,.4g}" for name, n in parts.items())
    return f"{memory.beside_backbone * BYTES / 2**20:,.4g} MiB: {said}"
