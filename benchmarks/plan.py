"""What a trial of a few steps says of a run's time, against the time that the run then takes.

    uv run python benchmarks/plan.py STORE [--recipe small/moco] [--trial 20] [--steps 100] [--setting KEY=VALUE ...]

Trial, run, trial again, in one process; the mean of both trials is compared, so that a machine that grows busier or
quieter meanwhile does not favour either. Times are of training with its looks and savings; wall-clock and processor
time, of which on a busy machine only the second means something.
"""

import argparse
import tempfile
from pathlib import Path

from scarce_cxr.commands.plan import parse
from scarce_cxr.images.store import Store
from scarce_cxr.monitor.watchers import make_watchers
from scarce_cxr.training.planning import count_events
from scarce_cxr.training.pretrain import held_out_films, pretrain
from scarce_cxr.training.run_folder import RunFolder
from scarce_cxr.training.trial import Seconds, run_trial


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("--recipe", default="small/moco")
    parser.add_argument("--trial", type=int, default=20)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--setting", nargs="*", default=[], help="of the recipe, e.g. training.batch_size=32")
    arguments = parser.parse_args()
    settings = [f"--training.duration={arguments.steps} steps", *(f"--{setting}" for setting in arguments.setting)]
    parsed = parse([arguments.recipe, f"--store={arguments.store}", *settings])
    recipe, store = parsed.recipe, Store.open(arguments.store)
    films = int((~held_out_films(store, recipe)).sum())
    events = count_events(recipe, films)

    def try_it() -> Seconds:
        trial = run_trial(recipe, parsed.text, store, arguments.trial, make_watchers=make_watchers)
        print(
            f"trial: {trial.steps} steps of {trial.step.wall:.3f} s ({trial.step.cpu:.3f} s of processor), looks "
            f"{trial.first_look.wall:.1f} and {trial.look.wall:.1f} s, saving {trial.save.wall:.1f} s, finish "
            f"{trial.finish.wall:.1f} s"
        )
        return trial.predict(events)

    first = try_it()
    with tempfile.TemporaryDirectory() as folder:
        begun = Seconds.now()
        pretrain(recipe, parsed.text, store, RunFolder(Path(folder)), make_watchers=make_watchers)
        real = Seconds.now().since(begun)
    planned = Seconds.sum([first, try_it()]).times(0.5)
    print(f"{arguments.recipe}, {events.steps} steps of {recipe.training.batch_size} films, {events.looks} looks")
    for name in Seconds._fields:
        said, took = getattr(planned, name), getattr(real, name)
        print(f"{name}: planned {said:.1f} s, took {took:.1f} s, {said / took - 1:+.0%}")


if __name__ == "__main__":
    main()
