"""`scarce plan`: what a run will need, before it runs."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from scarce_cxr.commands.recipes import find_recipe, recipe_name
from scarce_cxr.results import Result, Table

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

    from scarce_cxr.images.store import Store
    from scarce_cxr.training.memory import Memory
    from scarce_cxr.training.planning import Cost, Device, Events, Footprint
    from scarce_cxr.training.recipe import Recipe
    from scarce_cxr.training.trial import Trial

_MEMORY = 22.0
_TRIAL = 20

MEASURED, COMPUTED, ASSUMED = "measured", "computed", "assumed"


def parser() -> "ArgumentParser":
    """The command's parser: the recipe's settings, and those of the plan."""
    from scarce_cxr.training.recipe import recipe_parser

    made = recipe_parser(
        prog="scarce plan",
        usage="scarce plan RECIPE --store STORE [options]",
        description="Says what a run will need before it runs: memory, time, money, energy, disk, and whether it fits. "
        "RECIPE is a file or a name of the package's; its settings may be overridden as for scarce pretrain.",
    )
    made.add_argument("--store", type=Path, required=True, help="The store to train on.")
    made.add_argument("--gpu", type=str | None, default=None, help="Where it would run: a device of devices.yaml.")
    made.add_argument(
        "--price", type=float | None, default=None, help="Of a device and hour; by default the table's or the recipe's."
    )
    made.add_argument("--budget", type=float | None, default=None, help="Money to spend.")
    made.add_argument(
        "--memory", type=float | None, default=None, help=f"GiB of a device; by default the table's, or {_MEMORY:g}."
    )
    made.add_argument(
        "--trial",
        type=int | None,
        default=None,
        help=f"Steps to take on this machine for the time; by default {_TRIAL}, with --gpu none.",
    )
    return made


@dataclass(frozen=True)
class Parsed:
    """A command line, read.

    Attributes:
        name: of the recipe.
        recipe: it, without any `auto`.
        text: its settled YAML.
        store: the films.
        gpu: a device of the table; none: this machine.
        price: of a device and hour, if it is known.
        budget: money to spend; none: no limit.
        memory: GiB of a device.
        trial: steps to take; 0: none.
    """

    name: str
    recipe: "Recipe"
    text: str
    store: "Store"
    gpu: str | None
    price: float | None
    budget: float | None
    memory: float
    trial: int


def parse(arguments: list[str]) -> Parsed:
    """Reads the command line, whose first word is the recipe.

    Raises:
        ScarceError: there is no such recipe, store or device, or recipe and store do not fit each other.
    """
    from scarce_cxr.errors import ScarceError
    from scarce_cxr.images.splits import held_out
    from scarce_cxr.images.store import Store
    from scarce_cxr.training.automatic import resolve
    from scarce_cxr.training.planning import find_device
    from scarce_cxr.training.recipe import settle

    made, first = parser(), arguments[0] if arguments else "nothing"
    if not {"-h", "--help"} & set(arguments):
        if first.startswith("-") or not arguments:
            raise ScarceError("a recipe as the first word", first, "e.g. scarce plan small/moco --store STORE")
        arguments = ["--config", str(find_recipe(first)), *arguments[1:]]
    config = made.parse_args(arguments)
    for name in ("price", "budget", "memory", "trial"):
        if (value := config[name]) is not None and value < 0:
            raise ScarceError(f"--{name} of at least 0", f"{value:g}", "raise it")
    device = find_device(config.gpu) if config.gpu else None
    store = Store.open(config.store)
    resolve(config, int((~held_out(store.table, config.watch.held_out)).sum()))
    recipe, text = settle(made, config)
    usual = device.price if device else recipe.watch.price_per_hour or None
    return Parsed(
        recipe_name(find_recipe(first)),
        recipe,
        text,
        store,
        config.gpu.lower() if config.gpu else None,
        usual if config.price is None else config.price,
        config.budget,
        (device.memory if device else _MEMORY) if config.memory is None else config.memory,
        (0 if device else _TRIAL) if config.trial is None else config.trial,
    )


def run(parsed: Parsed) -> Result:
    """Runs what `parse` read."""
    from scarce_cxr.errors import ScarceError
    from scarce_cxr.training import planning
    from scarce_cxr.training.memory import measure_memory
    from scarce_cxr.training.pretrain import held_out_films

    recipe, store = parsed.recipe, parsed.store
    training, checkpointing = recipe.training, recipe.backbone.gradient_checkpointing
    device = planning.find_device(parsed.gpu) if parsed.gpu else None
    films = int((~held_out_films(store, recipe)).sum())
    events = planning.count_events(recipe, films)
    processes = training.devices * training.nodes
    share = training.batch_size // (processes * training.accumulate)
    if share * processes * training.accumulate != training.batch_size:
        raise ScarceError(
            "a batch that divides evenly over processes and accumulated micro-batches",
            f"training.batch_size = {training.batch_size} over {processes} x {training.accumulate}",
            f"choose a multiple of {processes * training.accumulate}",
        )

    bf16 = planning.takes_bf16(training, device)
    recipes = {on: planning.with_checkpointing(recipe, on) for on in (False, True)}
    methods = {on: planning.build_to_measure(of) for on, of in recipes.items()}
    memory = measure_memory(methods[False], recipe.optimizer)
    plain = planning.measure_kept(methods[False], recipes[False], bf16=bf16)
    kept = planning.measure_kept(methods[True], recipes[True], bf16=bf16, batches=plain.batches)
    footprints = {
        False: planning.footprint(memory, plain),
        True: planning.footprint(memory, kept, planning.recomputed(plain, kept)),
    }
    small, large = plain.batches
    how = f"{'bf16' if bf16 else 'fp32'}, at {small} and {large} films"
    flops = planning.flops_of_a_film(methods[checkpointing], recipes[checkpointing], bf16=bf16, films=small)

    here, notes = None, []
    if parsed.trial:
        here, notes = _try_here(parsed, footprints[checkpointing].of(share))
    cost = _cost(parsed, device, events, flops, bf16, here)
    limit = parsed.memory * planning.GIB
    tables = [
        _parameters(parsed.name, memory),
        _memory(footprints, share, checkpointing, how, parsed.memory),
        _batches(footprints, share, checkpointing, limit),
        _time(parsed, films, events, flops, small, bf16, here, cost),
        _disk(methods[False], memory, events, store),
        _fits(parsed, footprints, share, checkpointing, limit, films, events, cost),
    ]
    return Result(tables, notes=notes)


def _try_here(parsed: Parsed, step: float) -> tuple["Trial | None", list[str]]:
    """Takes some steps, unless this machine is too small for one of them; then it says so."""
    import torch

    from scarce_cxr.monitor.watchers import make_watchers
    from scarce_cxr.training.planning import GIB
    from scarce_cxr.training.trial import run_trial

    if parsed.recipe.training.accelerator != "cpu" and torch.cuda.is_available():
        there = torch.cuda.mem_get_info()[0]
    else:
        there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if step > there:
        words = f"\nNo trial: a step takes {step / GIB:,.3g} GiB, and this machine has {there / GIB:,.3g}."
        return None, [f"{words} Name the device that it is for: --gpu l4"]
    return run_trial(parsed.recipe, parsed.text, parsed.store, parsed.trial, make_watchers=make_watchers), []


def _cost(
    parsed: Parsed, device: "Device | None", events: "Events", flops: float, bf16: bool, here: "Trial | None"
) -> "Cost | None":
    """What the run costs by the trial, or else by the table; None if there is neither."""
    from scarce_cxr.training.planning import Cost

    training = parsed.recipe.training
    devices = training.devices * training.nodes
    if here is not None:
        seconds = here.predict(events).wall
    elif device is not None:
        seconds = events.steps * training.batch_size / (devices * device.films_per_second(flops, bf16=bf16))
    else:
        return None
    return Cost(seconds / 3600, devices, parsed.price, device.watts if device else None)


def _parameters(name: str, memory: "Memory") -> Table:
    parts = {"backbone": memory.backbone, "heads": memory.heads, "teacher": memory.teacher}
    rows = [[what, count, COMPUTED] for what, count in {**parts, "all": sum(parts.values())}.items()]
    return Table(
        "Parameters",
        ["what", "parameters", "known"],
        rows,
        f"of {name} as it is built; no gradient reaches the teacher",
    )


def _memory(footprints: dict[bool, "Footprint"], share: int, checkpointing: bool, how: str, memory: float) -> Table:
    from scarce_cxr.training.planning import GIB

    known = {
        "reserve": (ASSUMED, "context, workspaces"),
        "kept for backward": (MEASURED, how),
        "recomputed stage": (MEASURED, "the largest, likewise"),
        "views": (MEASURED, "fp32, likewise"),
    }
    parts = [{**of.standing, **{n: growth.of(share) for n, growth in of.growing.items()}} for of in footprints.values()]
    rows = [
        [what, *(part[what] / GIB for part in parts), *known.get(what, (COMPUTED, "fp32"))]
        for what in parts[0]
        if any(part[what] for part in parts)
    ]
    totals = [sum(part.values()) / GIB for part in parts]
    rows.append(["all", *totals, COMPUTED, f"of {memory:g} GiB"])
    note = (
        f"a step of {share:,} films on one device; the recipe is {'with' if checkpointing else 'without'} gradient "
        "checkpointing. Kept for backward: on a line through two small batches, measured on the processor. Reserve: "
        "CUDA's context, workspaces, what the allocator cannot use. Not in it: what a layer takes while it runs"
    )
    columns = ["what", "GiB", "GiB with checkpointing", "known", "how"]
    return Table("Memory of a step", columns, rows, note)


def _batches(footprints: dict[bool, "Footprint"], share: int, checkpointing: bool, limit: float) -> Table:
    rows = [
        [
            "on" if on else "off",
            sum(growth.each for growth in of.growing.values()) / 2**20,
            of.largest_batch(limit),
            share if on == checkpointing else None,
            COMPUTED,
        ]
        for on, of in footprints.items()
    ]
    columns = ["gradient checkpointing", "MiB a film", "largest batch", "the recipe's", "known"]
    note = "films on one device at once: training.batch_size over devices and training.accumulate"
    return Table("Largest batch", columns, rows, note)


def _time(
    parsed: Parsed,
    films: int,
    events: "Events",
    flops: float,
    counted_at: int,
    bf16: bool,
    here: "Trial | None",
    cost: "Cost | None",
) -> Table:
    from scarce_cxr.training.planning import find_device

    training = parsed.recipe.training
    seen = events.steps * training.batch_size
    rows = [
        ["films to train on", films, "films", COMPUTED, "held-out patients left out"],
        ["steps", events.steps, "steps", COMPUTED, f"of {training.batch_size:,} films; {seen / films:,.4g} epochs"],
        ["arithmetic", flops / 1e9, "GFLOP a film", MEASURED, f"forward and backward, at {counted_at} films"],
    ]
    columns = ["what", "value", "unit", "known", "how"]
    if cost is None:
        return Table("Time and money", columns, rows)
    device = find_device(parsed.gpu) if parsed.gpu else None
    if here is not None:
        how = f"{here.steps} steps here, after a warm-up"
        rows.append(["speed", here.films_per_second, "films/s a device", MEASURED, how])
        looks = here.first_look.wall + here.look.wall * (events.looks - 1) + here.finish.wall
        rows.append(["looks", looks / 3600, "hours", MEASURED, f"{events.looks} of the watchers, by two of them"])
        saving = here.save.wall * events.saves / 3600
        rows.append(["saving", saving, "hours", MEASURED, f"{events.saves:,} checkpoints, by one of them"])
        source, how = MEASURED, "by the trial, looks and saving in it"
    else:
        peak = device.bf16 if bf16 and device.bf16 else device.fp32
        how = f"{device.utilisation:.0%} of {parsed.gpu}'s {peak:g} TFLOPS"
        rows.append(["speed", device.films_per_second(flops, bf16=bf16), "films/s a device", ASSUMED, how])
        source, how = ASSUMED, "by that speed, looks and saving left out"
    if cost.devices > 1:
        how += f"; {cost.devices} devices are {cost.devices} times as fast"
    rows.append(["time", cost.hours, "hours", source, how])
    if cost.money is not None:
        rows.append(["money", cost.money, "of your money", source, f"{cost.price:g} a device and hour"])
    if cost.kilowatt_hours is not None:
        how = f"{cost.watts:g} W, the card's limit"
        rows.append(["energy", cost.kilowatt_hours, "kWh", ASSUMED, how])
    note = "" if here else "the speed may be off by a factor of two; a trial on the device itself says more"
    return Table("Time and money", columns, rows, note)


def _disk(method, memory: "Memory", events: "Events", store: "Store") -> Table:
    from scarce_cxr.training.planning import GIB, backbone_bytes, checkpoint_bytes, folder_bytes

    checkpoint = checkpoint_bytes(method, memory)
    parts = [
        ["last checkpoint", 2 * checkpoint, COMPUTED, "twice, while the new one is written"],
        ["kept checkpoints", events.kept * checkpoint, COMPUTED, f"{events.kept} by training.keep_every"],
        ["backbones", 2 * backbone_bytes(method), COMPUTED, "last and best"],
        ["store", folder_bytes(store.path), MEASURED, "there already"],
    ]
    parts.append(["all", sum(size for _, size, *_ in parts), COMPUTED, "figures and tables of the run come on top"])
    rows = [[what, size / GIB, *known] for what, size, *known in parts]
    return Table("Disk", ["what", "GiB", "known", "how"], rows)


def _fits(
    parsed: Parsed,
    footprints: dict[bool, "Footprint"],
    share: int,
    checkpointing: bool,
    limit: float,
    films: int,
    events: "Events",
    cost: "Cost | None",
) -> Table:
    from scarce_cxr.training.planning import GIB

    need = footprints[checkpointing].of(share)
    mend = "" if need <= limit else _mend_memory(parsed, footprints, share, checkpointing, limit)
    rows = [["memory", need / GIB, parsed.memory, "GiB", _yes(need <= limit), mend]]
    if parsed.budget is not None:
        money = None if cost is None else cost.money
        if money is None:
            mend = "not known: give --gpu or --trial" if cost is None else "not known: give --price"
            rows.append(["budget", None, parsed.budget, "of your money", "", mend])
        else:
            fits = money <= parsed.budget
            mend = "" if fits else _mend_budget(parsed, films, events, money)
            rows.append(["budget", money, parsed.budget, "of your money", _yes(fits), mend])
    return Table("Does it fit?", ["what", "needs", "limit", "unit", "fits", "what would"], rows)


def _mend_memory(
    parsed: Parsed, footprints: dict[bool, "Footprint"], share: int, checkpointing: bool, limit: float
) -> str:
    """What makes a step fit, the mildest first."""
    from scarce_cxr.training.planning import fitting_accumulation

    ways = []
    if not checkpointing and footprints[True].of(share) <= limit:
        ways.append("--backbone.gradient_checkpointing true")
    now, training = footprints[checkpointing], parsed.recipe.training
    largest = now.largest_batch(limit)
    parts = fitting_accumulation(share, largest, now.multiple)
    if parts is not None:
        ways.append(f"--training.accumulate {parts * training.accumulate}")
    if largest:
        everywhere = largest * training.accumulate * training.devices * training.nodes
        ways.append(f"--training.batch_size {everywhere}")
    return ", or ".join(ways) or "smaller views or another backbone"


def _mend_budget(parsed: Parsed, films: int, events: "Events", money: float) -> str:
    """How long a run the budget pays."""
    from scarce_cxr.training.planning import affordable_steps

    steps = affordable_steps(events.steps, money, parsed.budget)
    epochs = steps // (films // parsed.recipe.training.batch_size)
    if steps < 1:
        return "not even one step: a cheaper device"
    return f'--training.duration "{f"{epochs} epochs" if epochs else f"{steps} steps"}"'


def _yes(fits: bool) -> str:
    return "yes" if fits else "no"
