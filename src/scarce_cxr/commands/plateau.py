"""`scarce plateau`: DINO's plateau, reproduced and cured."""

from pathlib import Path
from typing import TYPE_CHECKING

from scarce_cxr.results import Result, Table

if TYPE_CHECKING:
    from scarce_cxr.images.store import Store
    from scarce_cxr.training.run_folder import RunFolder

# Recipe -> name of its run.
_RUNS = {"small/plateau": "plateau", "small/dino": "dino"}
_OF_BATCHES = ("loss", "teacher_entropy", "mean_teacher_entropy")
_OF_LOOKS = ("held_out_matched_information", "retrieval")


def plateau(
    store: Path, out: Path = Path("scarce-plateau"), steps: int = 200, batch_size: int = 64, seed: int = 0
) -> Result:
    """Runs the original experiments' last DINO recipe and ours on the same films, and shows what the loss hides.

    Both are recipes that come with the package: small/plateau, which is here not stopped, and small/dino. What is
    already finished is not run again; what was stopped goes on. Both are drawn side by side over the same steps.

    Args:
        store: The store to train on, of some hundred films at least.
        out: Folder for both runs and the figures.
        steps: Steps of each run.
        batch_size: Films in a step.
        seed: Another seed draws other weights, orders and views.
    """
    from scarce_cxr.commands.monitor import monitor
    from scarce_cxr.commands.pretrain import parse, run
    from scarce_cxr.commands.resume import resume
    from scarce_cxr.figures import theme
    from scarce_cxr.figures.plateau import plateau_figure
    from scarce_cxr.images.store import Store
    from scarce_cxr.training.run_folder import RunFolder, read_looks, read_metrics, series

    opened = Store.open(store)
    folders = {name: RunFolder(out / name) for name in _RUNS.values()}
    for folder in folders.values():
        _refuse_another(folder, opened, steps, batch_size, seed)
    asked = f"--steps {steps} --batch_size {batch_size} --seed {seed}"
    options = ["--store", str(store), "--seed", str(seed), "--training.duration", f"{steps} steps"]
    options += ["--training.batch_size", str(batch_size), "--watch.every", "10 %", "--watch.on_collapse", "warn"]
    for recipe, name in _RUNS.items():
        folder = folders[name]
        state = folder.read_state().get("state")
        if state == "finished":
            continue
        new = ["--config", recipe, "--run", str(folder.path), *options]
        result = resume(folder.path, store=store) if state else run(parse(new))
        if result.exit_code:
            result.notes.append(f"Go on with both: scarce plateau {store} --out {out} {asked}")
            return result
    metrics = {name: read_metrics(folder.metrics) for name, folder in folders.items()}
    states = {name: folder.read_state() for name, folder in folders.items()}
    batches = {name: {number: series(rows, number, "step") for number in _OF_BATCHES} for name, rows in metrics.items()}
    verdicts = {name: state["verdict"]["name"] for name, state in states.items()}
    rows = [
        [
            name,
            states[name]["step"],
            *(batches[name][number][1][-1] for number in _OF_BATCHES),
            *(series(metrics[name], number, "watch")[1][-1] for number in _OF_LOOKS),
            verdicts[name],
        ]
        for name in folders
    ]
    looks = {name: read_looks(folder.metrics) for name, folder in folders.items()}
    beside = theme.save(plateau_figure(batches, looks, verdicts), out / "plateau.png")
    shown = monitor([str(folder.path) for folder in folders.values()], out=out / "collapse.png")
    columns = ["recipe", "steps", "loss", "H(t)", "H(mean t)", "matched", "found", "verdict"]
    note = "nats; loss and entropies of the last batch, matched information and retrieval of held-out patients"
    tables = [Table("The same films, two recipes", columns, rows, note), *shown.tables]
    return Result(tables, [("side by side", beside), *shown.files], shown.notes)


def _refuse_another(folder: "RunFolder", store: "Store", steps: int, batch_size: int, seed: int) -> None:
    """Raises ScarceError if there is a run already, and it was made with something else than what is asked for."""
    from scarce_cxr.errors import ScarceError
    from scarce_cxr.training.recipe import read_recipe

    state = folder.read_state()
    if not state:
        return
    recipe, _ = read_recipe(folder.recipe)
    made = {
        "store": state["fingerprint"][:12],
        "steps": str(recipe.training.duration).removesuffix(" steps"),
        "batch_size": str(recipe.training.batch_size),
        "seed": str(recipe.seed),
    }
    asked = {"store": store.fingerprint[:12], "steps": str(steps), "batch_size": str(batch_size), "seed": str(seed)}
    differ = [name for name in made if made[name] != asked[name]]
    if differ:
        raise ScarceError(
            f"a run with {', '.join(f'{name} {asked[name]}' for name in differ)}",
            f"{folder.path}, made with {', '.join(f'{name} {made[name]}' for name in differ)}",
            "choose another --out, or ask for what was made",
        )
