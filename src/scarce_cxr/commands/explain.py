"""`scarce explain`: where on a film a probe's answer comes from."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from scarce_cxr.commands.probe import Negatives, Uncertain, Unmentioned
from scarce_cxr.results import Result, Table

if TYPE_CHECKING:
    import numpy as np

    from scarce_cxr.evaluation.explain import Look
    from scarce_cxr.evaluation.fewshot import Task
    from scarce_cxr.figures.gradcam import Box
    from scarce_cxr.images.store import Store

_CHARACTERS = 25
_CONFOUNDERS = (
    "Colour outside of the lungs (letters, corners, edges, shoulders) means that the probe may read how the collection "
    "was drawn (site, position, portable device), not the finding: scarce map tells what else it can read."
)


def explain(
    starts: list[str],
    store: Path | None = None,
    finding: str | None = None,
    out: Path = Path("scarce-explain"),
    films: int = 4,
    shot: str = "all",
    draw: int = 0,
    labels: Path | None = None,
    id_column: str | None = None,
    uncertain: Uncertain = "leave_out",
    unmentioned: Unmentioned = "leave_out",
    negatives: Negatives = "any",
    test: float = 0.2,
    tune: float = 0.15,
    size: int | None = None,
    seed: int = 0,
    device: str = "cpu",
) -> Result:
    """Draws Grad-CAM of a finding on test films for several starts, and checks that it shows what was learned.

    One probe is fitted per start, on one draw of the train split. The films have the finding, are of different
    patients, and are chosen by chance, those with readers' boxes first.

    Args:
        starts: What backbones begin from, as for scarce probe; convolutional ones.
        store: The films; must be given.
        finding: Whose probe is looked into; must be given.
        out: Folder of the figures.
        films: How many to draw, at most.
        shot: Number of positive patients that the probe learns from, or all.
        draw: Which draw of so many patients, counted from 0.
        labels: A CSV table of your own with a column that names the film; by default the store's labels.
        id_column: Its column that names the film; by default the one that fits.
        uncertain: What -1 counts as.
        unmentioned: What an empty label counts as.
        negatives: Which films without the finding the probe may learn from; the test has all.
        test: Share of the patients to test on.
        tune: Share of the others that are left aside, as for scarce probe.
        size: Side in pixels for starts that name none; by default the first run's.
        seed: Another seed chooses other films and draws.
        device: Where to compute.
    """
    from scarce_cxr.backbones.starts import parse_starts
    from scarce_cxr.errors import ScarceError
    from scarce_cxr.evaluation.comparison import in_digits, warning
    from scarce_cxr.evaluation.explain import choose_films, look_into
    from scarce_cxr.evaluation.fewshot import check_asked, make_tasks, seen_without_labels
    from scarce_cxr.evaluation.gradcam import randomisation_words
    from scarce_cxr.images.labels import read_labels
    from scarce_cxr.images.shots import SHOTS
    from scarce_cxr.images.splits import refuse_unknown_patients, split
    from scarce_cxr.images.store import Store

    given = {"at least one start": starts, "a store of films": store, "a finding": finding}
    if lacking := [name for name, value in given.items() if not value]:
        raise ScarceError(" and ".join(lacking), "none", "scarce explain RUN random --store STORE --finding Effusion")
    check_asked([shot], SHOTS, draw + 1)
    if films < 1:
        raise ScarceError("at least one film to draw", f"films = {films}", "choose e.g. 4")
    opened = Store.open(store)
    if opened.table["split"].isna().any():
        refuse_unknown_patients(opened.settings)
    parsed = parse_starts(starts, size=size, seed=seed)
    sides = split(opened.table, test=test, tune=tune, store_path=opened.path)
    read = read_labels(
        opened, [finding], file=labels, id_column=id_column, uncertain=uncertain, unmentioned=unmentioned
    )
    task = make_tasks(opened, read, sides, negatives)[finding]
    boxes = opened.boxes[opened.boxes["finding"] == finding]
    boxed = opened.table["image_id"].isin(boxes["image_id"]).to_numpy()
    rows = choose_films(task, boxed, films, seed)
    if not len(rows):
        raise ScarceError(f"test films with {finding}", "none", "choose another finding, or a larger --test")
    looks = [look_into(opened, start, task, rows, shot=shot, draw=draw, seed=seed, device=device) for start in parsed]
    ids = opened.table["image_id"].iloc[rows].tolist()
    places = [_boxes_of(boxes[boxes["image_id"] == image_id]) for image_id in ids]
    written = _draw(looks, opened, task, rows, ids, places, out)
    shots, tested = looks[0].probe.shots, task.test
    learned = f"{shots.positives} films with and {shots.negatives} without it of {shots.patients} patients"
    note = f"Fitted on {learned}; tested on {len(tested.labels)} films of {len(set(tested.patients))} patients, "
    note += "with the 95 % interval over them. map: of the stage that is drawn, against random weights; "
    note += "a random start has learned nothing that could be checked."
    table = Table(
        f"What probes of {finding} see",
        ["start", "AUROC on test", "test", "stage drawn", "map"],
        [
            [
                look.start.name,
                in_digits(look.probe.auroc, look.probe.interval.low, look.probe.interval.high),
                f"{int(tested.labels.sum())} of {len(tested.labels)}",
                _stage_words(look, look.stage),
                None if look.start.kind == "random" else look.checks[look.stage].verdict,
            ]
            for look in looks
        ],
        note,
    )
    notes = [*read.notes, *filter(None, [warning(tested.labels, tested.patients)])]
    for look in looks:
        if seen := seen_without_labels(look.start, opened, sides):
            notes.append(f"{look.start.name} was pretrained on {seen:,} of the test films, without their labels")
    notes += [
        f"{look.start.name}, {words}"
        for look in looks
        if look.start.kind != "random"
        for words in randomisation_words(look.checks)
    ]
    return Result([table], written, [*notes, _CONFOUNDERS])


def _draw(
    looks: "Sequence[Look]",
    store: "Store",
    task: "Task",
    rows: "np.ndarray",
    ids: Sequence[str],
    boxes: "list[list[Box]]",
    out: Path,
) -> list[tuple[str, Path]]:
    """Writes the grid of films, and the stages of the first film for each kind of backbone."""
    import textwrap

    import numpy as np

    from scarce_cxr.evaluation.gradcam import upsampled
    from scarce_cxr.figures import theme
    from scarce_cxr.figures.gradcam import Column, StageMap, gradcam_grid, stage_panel

    films = store.pixels(rows) / np.iinfo(store.dtype).max
    columns = [
        Column(
            textwrap.shorten(f"{look.start.name}, {look.cam.stages[look.stage]}", _CHARACTERS, placeholder=" …"),
            upsampled(look.cam.maps[look.stage], store.size),
            look.cam.scores,
        )
        for look in looks
    ]
    names = [textwrap.shorten(image_id.removesuffix(".png"), _CHARACTERS, placeholder=" …") for image_id in ids]
    grid = gradcam_grid(films, columns, task.finding, int(task.test.labels.sum()), names=names, boxes=boxes)
    written = [("Grad-CAM", theme.save(grid, out / "grad-cam.png"))]
    alike: dict[tuple[str, ...], list[Look]] = {}
    for look in looks:
        alike.setdefault(tuple(_stage_words(look, number) for number in range(len(look.checks))), []).append(look)
    for number, (stages, group) in enumerate(alike.items()):
        lines = [
            (
                textwrap.shorten(look.start.name, _CHARACTERS, placeholder=" …"),
                [
                    StageMap(stage, upsampled(maps[:1], store.size)[0], f"{check.correlation:.2f}")
                    for stage, maps, check in zip(stages, look.cam.maps, look.checks, strict=True)
                ],
            )
            for look in group
        ]
        panel = stage_panel(
            films[0], lines, task.finding, boxes=boxes[0], notes="likeness to random weights: low is good"
        )
        path = out / f"stages{f'-{number + 1}' if number else ''}.png"
        written.append(("its stages", theme.save(panel, path)))
    return written


def _stage_words(look: "Look", number: int) -> str:
    height, width = look.cam.maps[number].shape[1:]
    return f"{look.cam.stages[number]}, {height} x {width}"


def _boxes_of(boxes) -> "list[Box]":
    from scarce_cxr.figures.gradcam import Box

    return [Box(*box) for box in boxes[["left", "top", "width", "height"]].to_numpy()]
