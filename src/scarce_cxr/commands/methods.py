"""`scarce methods`: what the methods of recipes keep in memory, and how MoCo and DINO differ."""

from typing import TYPE_CHECKING

from scarce_cxr.commands.recipes import NIH_FILMS, find_recipe, recipe_name, recipes_folder
from scarce_cxr.results import Result, Table

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

    from scarce_cxr.methods.dino import DINO
    from scarce_cxr.methods.moco import MoCo
    from scarce_cxr.training.memory import Memory


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
    return made


def parse(arguments: list[str]) -> "Namespace":
    """Reads the command line."""
    return parser().parse_args(arguments)


def run(parsed: "Namespace") -> Result:
    """Runs what `parse` read."""
    return methods(parsed.recipes, parsed.films)


def methods(recipes: list[str] | None = None, films: int = NIH_FILMS) -> Result:
    """Counts what each recipe's method keeps in memory beside the backbone, and compares MoCo with DINO.

    Args:
        recipes: files, or names of those that come with the package; by default all reference recipes. The first of
            MoCo and the first of DINO are compared.
        films: films to train on; settings that a recipe leaves `auto` follow them.

    Raises:
        ScarceError: there is no such recipe, its batch does not fit the films, or its backbone not its method.
    """
    from scarce_cxr.methods.dino import DINO
    from scarce_cxr.methods.moco import MoCo
    from scarce_cxr.training.automatic import read_resolved
    from scarce_cxr.training.memory import BYTES, averages_per_parameter, build_shapes, measure_memory

    counts, optimizers, compared = {}, {}, {}
    for path in map(find_recipe, recipes or sorted(map(str, (recipes_folder() / "reference").glob("*.yaml")))):
        recipe = read_resolved(path, films)
        method, name = build_shapes(recipe), recipe_name(path)
        counts[name] = measure_memory(method, recipe.optimizer)
        optimizers[name] = f"{recipe.optimizer.name}: {averages_per_parameter(recipe.optimizer)} a parameter"
        for kind in (MoCo, DINO):
            if isinstance(method, kind):
                compared.setdefault(kind, (name, method))
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
    if len(compared) < 2:
        return Result(tables, notes=["\nA recipe of MoCo and one of DINO among them would be compared."])
    (moco_name, moco), (dino_name, dino) = compared[MoCo], compared[DINO]
    tables.append(
        Table(
            "MoCo v2 and DINO",
            ["", moco_name, dino_name],
            _compare(moco, counts[moco_name], dino, counts[dino_name]),
            "numbers are those of the two recipes",
        )
    )
    return Result(tables)


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
