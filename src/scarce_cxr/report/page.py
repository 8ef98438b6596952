"""One self-contained HTML page of a run, or of several side by side: opens offline, holds everything inside."""

import base64
import hashlib
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from scarce_cxr.errors import ScarceError
from scarce_cxr.figures import theme
from scarce_cxr.images.atomic import written_whole
from scarce_cxr.monitor.watchers import draw_views
from scarce_cxr.report import facts, plots
from scarce_cxr.report.curves import draw_curves, draw_numbers, thin
from scarce_cxr.report.outcome import find_outcome
from scarce_cxr.report.pictures import Picture, load_pictures
from scarce_cxr.report.runs import ShownRun, read_runs
from scarce_cxr.training.run_folder import RunFolder

if TYPE_CHECKING:
    from scarce_cxr.report.fewshot import FewShot
    from scarce_cxr.report.films import FilmMap

# Bytes: of the whole page, and of all pictures in it but the small films.
MOST_BYTES, _MOST_PICTURES = 15_000_000, 6_000_000
# Panels of reconstructions, of all runs together and of one.
_PANELS, _PANELS_EACH = 48, 24
_GRAD_CAMS = ("grad-cam.png", "stages.png")


class Album(NamedTuple):
    """The pictures of one run.

    Attributes:
        run: its number.
        name: its name.
        steps: of the reconstructions.
        reconstructions: one a step.
        views: what its recipe makes of films; None if that is not known.
        grad_cams: where on films a finding's score comes from.
    """

    run: int
    name: str
    steps: list[int]
    reconstructions: list[Picture]
    views: Picture | None
    grad_cams: list[Picture]


def write_page(run: RunFolder, store_path: Path) -> Path:
    """Writes `report.html` into a run's folder: what can be told of it without computing anything.

    Args:
        run: a run with metrics.
        store_path: the store that it was trained on.

    Returns:
        The page's path.
    """
    return write_report(read_runs([run.path], store_path), run.path / "report.html")


def write_report(
    runs: Sequence[ShownRun],
    path: Path,
    *,
    maps: "Sequence[FilmMap]" = (),
    few_shot: "FewShot | None" = None,
    folders: Sequence[Path] = (),
    notes: Sequence[str] = (),
    redact: bool = False,
) -> Path:
    """Writes a page of runs.

    Args:
        runs: what it is of.
        path: the page.
        maps: of films, see `films.map_films`.
        few_shot: what their trials say.
        folders: where else than in the runs' folders Grad-CAM pictures may lie.
        notes: warnings beside those that the runs themselves give reason for.
        redact: leave out every picture of a film.

    Returns:
        The page's path.

    Raises:
        ScarceError: it would be larger than `MOST_BYTES`.
    """
    albums = [] if redact else _fill_albums(runs, folders)
    page = render(_contents(runs, albums, maps, few_shot, notes, redact))
    if (size := len(page.encode())) > MOST_BYTES:
        got = f"{size / 1e6:.1f} MB of {len(runs)} runs"
        raise ScarceError(f"a page of at most {MOST_BYTES / 1e6:.0f} MB", got, "show fewer runs in one page")
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return path


def render(contents: dict[str, Any]) -> str:
    """The page's text. Nothing in it is fetched, and no script runs but its own two, which it names by their hashes.

    Args:
        contents: what the template names; texts are escaped where they are put in.
    """
    scripts = [get_plotlyjs(), _read("page.js")]
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" for script in scripts
    )
    policy = f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data:"
    policy += "; base-uri 'none'; form-action 'none'"
    template = _environment().get_template("page.html")
    # Files of the package, no data: they are put in as they are.
    own = {"policy": policy, "scripts": [Markup(script) for script in scripts], "style": Markup(_read("page.css"))}
    return template.render(**own, **contents)


def _contents(
    runs: Sequence[ShownRun],
    albums: Sequence[Album],
    maps: "Sequence[FilmMap]",
    few_shot: "FewShot | None",
    notes: Sequence[str],
    redact: bool,
) -> dict[str, Any]:
    curves, numbers = draw_curves(runs), draw_numbers(runs)
    figures = {drawn.panel.key: drawn.figure for drawn in (*curves, *numbers)}
    shot_figures = few_shot.figures if few_shot else {}
    keys = {name: f"few-shot-{number}" for number, name in enumerate(shot_figures)}
    figures |= {keys[name]: figure for name, (figure, _) in shot_figures.items()}
    stores = {run.store.fingerprint: run.store for run in runs if run.store is not None}
    names = [run.name for run in runs]
    outcomes = [find_outcome(run, few_shot.outcomes) if few_shot else None for run in runs]
    return {
        "title": f"Run {names[0]}" if len(runs) == 1 else f"{len(runs)} runs side by side",
        "disclaimer": theme.DISCLAIMER,
        "redacted": redact,
        "runs": [
            {
                "name": run.name,
                "method": run.state.get("method"),
                "head": facts.headline(run, outcome),
                "recipe": run.text,
            }
            for run, outcome in zip(runs, outcomes, strict=True)
        ],
        "colors": [theme.COLORS[number % len(theme.COLORS)] for number in range(len(runs))],
        "dark_colors": [plots.DARK_COLORS[number % len(theme.COLORS)] for number in range(len(runs))],
        "warnings": [*facts.warnings_of(runs), *notes],
        "comparison": facts.comparison_table(runs, outcomes) if len(runs) > 1 else None,
        "curves": curves,
        "numbers": numbers,
        "albums": albums,
        "maps": list(maps),
        "few_shot": few_shot,
        "shot_keys": keys,
        "memory": facts.memory_table(runs),
        "time": facts.time_table(runs),
        "differences": facts.recipe_differences(runs) if len(runs) > 1 else None,
        "stores": [(store.path.resolve().name, facts.data_tables(store)) for store in stores.values()],
        "cards": [(run.name, facts.model_card(run)) for run in runs],
        # What the script reads.
        "data": {
            "colors": {"light": theme.COLORS, "dark": plots.DARK_COLORS, "faint": plots.FAINT, "pale": plots.PALE},
            "names": names,
            "figures": figures,
            "maps": [_as_data(film_map) for film_map in maps],
        },
    }


def _fill_albums(runs: Sequence[ShownRun], folders: Sequence[Path]) -> list[Album]:
    most = _MOST_PICTURES // len(runs)
    each = max(2, min(_PANELS_EACH, _PANELS // len(runs)))
    with tempfile.TemporaryDirectory() as scratch:
        albums = [
            _fill_album(run, number, most, each, folders if number == 0 else (), Path(scratch) / f"views-{number}.png")
            for number, run in enumerate(runs)
        ]
    return [album for album in albums if album.reconstructions or album.views or album.grad_cams]


def _fill_album(run: ShownRun, number: int, most: int, each: int, folders: Sequence[Path], scratch: Path) -> Album:
    figures = run.folder.path / "figures"
    panels = sorted(figures.glob("reconstruction-*.png"))
    panels = [panels[place] for place in thin(len(panels), each)] if panels else []
    steps = [int(path.stem.split("-")[1]) for path in panels]
    views = _find_views(run, figures / "views.png", scratch)
    places = [figures, run.folder.path, *folders, *(folder / "compare" for folder in folders)]
    cams = [folder / name for folder in places for name in _GRAD_CAMS if (folder / name).is_file()]
    wanted = [
        *((path, f"Reconstructions after step {step:,}") for path, step in zip(panels, steps, strict=True)),
        *([(views, "Films, and beside each the views that the recipe makes of it")] if views else []),
        *((path, "Films with colour where a finding's score comes from") for path in cams),
    ]
    pictures = load_pictures(wanted, most)
    rest = pictures[len(panels) :]
    return Album(
        run=number,
        name=run.name,
        steps=steps,
        reconstructions=pictures[: len(panels)],
        views=rest[0] if views else None,
        grad_cams=rest[1 if views else 0 :],
    )


def _find_views(run: ShownRun, drawn: Path, scratch: Path) -> Path | None:
    """The run's picture of its views; drawn anew where a run has none, None where that cannot be done."""
    if drawn.is_file():
        return drawn
    if run.recipe is None or run.store is None:
        return None
    return draw_views(run.recipe, run.store, scratch)


def _as_data(film_map: "FilmMap") -> dict[str, Any]:
    sheet = film_map.sheet
    return {
        "names": film_map.names,
        "words": film_map.words,
        "colorings": [coloring._asdict() for coloring in film_map.colorings],
        "maps": [
            {**shown._asdict(), "colorings": [coloring._asdict() for coloring in shown.colorings]}
            for shown in film_map.maps
        ],
        "sheet": {"columns": sheet.columns, "rows": sheet.rows} if sheet else None,
    }


def _read(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


@cache
def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return made
