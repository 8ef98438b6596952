"""`scarce resume`: go on with a run."""

from contextlib import nullcontext
from pathlib import Path

from scarce_cxr.results import Result


def resume(run: Path, checkpoint: Path | None = None, store: Path | None = None) -> Result:
    """Goes on with a run that was stopped or killed, from its last checkpoint, to the same bits.

    What was changed in its recipe.yaml meanwhile (a lower learning rate, a longer warm-up) counts from there on.

    Args:
        run: The run's folder.
        checkpoint: Another of its checkpoints to go on from.
        store: Where the store is now, if it has moved.
    """
    from scarce_cxr.commands.pretrain import train
    from scarce_cxr.training.devices import is_first_process

    folder, recipe, text, opened = open_run(run, store)
    state = folder.read_state()
    if state["state"] == "finished" and checkpoint is None:
        return Result(notes=[f"{run} is finished: {state['step']} of {state['total']} steps."])
    if checkpoint is None and folder.last_checkpoint.is_file():
        checkpoint = folder.last_checkpoint
    with folder.locked() if is_first_process() else nullcontext():
        return train(recipe, text, opened, folder, checkpoint)


def open_run(run: Path, store: Path | None = None):
    """A run's folder, recipe, the recipe's text, and the store that it was trained on.

    Args:
        run: the run's folder.
        store: where the store is now; by default where it was.

    Raises:
        ScarceError: there is no run, or the store is missing or another one.
    """
    from scarce_cxr.errors import ScarceError
    from scarce_cxr.images.store import Store
    from scarce_cxr.training.recipe import read_recipe
    from scarce_cxr.training.run_folder import RunFolder

    folder = RunFolder(run)
    state = folder.read_state()
    if not state:
        raise ScarceError("a run's folder", f"no run.json in {run}", "begin one with scarce pretrain")
    opened = Store.open(store or run / state["store"])
    if opened.fingerprint != state["fingerprint"]:
        raise ScarceError(
            f"the store that the run began on ({state['fingerprint'][:12]})",
            f"{opened.path} ({opened.fingerprint[:12]})",
            "give the right one with --store",
        )
    recipe, text = read_recipe(folder.recipe)
    return folder, recipe, text, opened
