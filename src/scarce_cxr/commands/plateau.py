"""`scarce plateau`: DINO's plateau, reproduced and cured."""

from pathlib import Path

from scarce_cxr.results import Result, Table


def plateau(
    store: Path, out: Path = Path("scarce-plateau"), steps: int = 200, batch_size: int = 64, seed: int = 0
) -> Result:
    """Runs the original experiments' last DINO recipe and ours on the same films, and shows what the loss hides.

    Both are recipes that come with the package: small/plateau, which is here not stopped, and small/dino. What is
    already finished is not run again; what was stopped goes on.

    Args:
        store: The store to train on, of some hundred films at least.
        out: Folder for both runs and the figure.
        steps: Steps of each run.
        batch_size: Films in a step.
        seed: Another seed draws other weights, orders and views.
    """
    from scarce_cxr.commands.monitor import monitor
    from scarce_cxr.commands.pretrain import parse, run
    from scarce_cxr.commands.resume import resume
    from scarce_cxr.training.run_folder import RunFolder, read_metrics, series

    options = ["--store", str(store), "--seed", str(seed), "--training.duration", f"{steps} steps"]
    options += ["--training.batch_size", str(batch_size), "--watch.every", "10 %", "--watch.on_collapse", "warn"]
    folders = []
    for recipe in ("small/plateau", "small/dino"):
        folder = RunFolder(out / recipe.partition("/")[2])
        folders.append(folder)
        state = folder.read_state().get("state")
        if state == "finished":
            continue
        result = resume(folder.path) if state else run(parse(["--config", recipe, "--run", str(folder.path), *options]))
        if result.exit_code:
            result.notes.append(f"Go on with both: scarce plateau {store} --out {out}")
            return result
    rows = []
    for folder in folders:
        metrics, state = read_metrics(folder.metrics), folder.read_state()
        numbers = [
            series(metrics, name, kind)[1][-1]
            for name, kind in (
                ("loss", "step"),
                ("teacher_entropy", "step"),
                ("mean_teacher_entropy", "step"),
                ("held_out_matched_information", "watch"),
                ("retrieval", "watch"),
            )
        ]
        rows.append([folder.path.name, state["step"], *numbers, state["verdict"]["name"]])
    shown = monitor([str(folder.path) for folder in folders], out=out / "plateau.png")
    columns = ["recipe", "steps", "loss", "H(t)", "H(mean t)", "matched", "found", "verdict"]
    note = "nats; loss and entropies of the last batch, matched information and retrieval of held-out patients"
    return Result([Table("The same films, two recipes", columns, rows, note), *shown.tables], shown.files, shown.notes)
