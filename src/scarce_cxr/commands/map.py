"""`scarce map`: what features have in common, and what else than findings a probe could read off them."""

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from scarce_cxr.commands.probe import Uncertain, Unmentioned
from scarce_cxr.results import Result, Table

if TYPE_CHECKING:
    import numpy as np

    from scarce_cxr.backbones.starts import Start
    from scarce_cxr.evaluation.embedding_map import JoinedStores, Told
    from scarce_cxr.evaluation.explain import FittedProbe
    from scarce_cxr.evaluation.fewshot import Task
    from scarce_cxr.figures.embedding_map import Coloring, Picture
    from scarce_cxr.images.labels import Labels

_NEIGHBOURS = 5


def map(
    starts: list[str],
    store: list[Path] | None = None,
    finding: str | None = None,
    out: Path = Path("scarce-map"),
    films: int = 2000,
    queries: int = 4,
    labels: Path | None = None,
    id_column: str | None = None,
    uncertain: Uncertain = "leave_out",
    unmentioned: Unmentioned = "leave_out",
    test: float = 0.2,
    tune: float = 0.15,
    size: int | None = None,
    seed: int = 0,
    device: str = "cpu",
) -> Result:
    """Maps films' features, tells whether a probe knows site, view and sex from them, and shows nearest neighbours.

    Every start gets PCA and t-SNE coloured by finding, site, view, sex and split; a probe each for site, view and sex,
    fitted on the train split and tested on other patients; and films with the five of other patients that are nearest
    to them. With a finding, also the films that its probe has most wrong.

    Args:
        starts: What backbones begin from, as for scarce probe.
        store: The films; must be given. Of one store the sources are the sites, of several each store.
        finding: Colours the maps; by default films are normal or not.
        out: Folder of the figures.
        films: How many to map, at most.
        queries: Films whose neighbours are drawn.
        labels: A CSV table of your own with a column that names the film; by default the store's labels.
        id_column: Its column that names the film; by default the one that fits.
        uncertain: What -1 counts as.
        unmentioned: What an empty label counts as.
        test: Share of the patients to test on.
        tune: Share of the others that are left aside, as for scarce probe.
        size: Side in pixels for starts that name none; by default the first run's.
        seed: Another seed chooses other films.
        device: Where to compute.
    """
    from scarce_cxr.backbones.starts import parse_starts
    from scarce_cxr.errors import ScarceError
    from scarce_cxr.evaluation.embedding_map import JoinedStores
    from scarce_cxr.evaluation.fewshot import make_tasks
    from scarce_cxr.images.splits import patients_of
    from scarce_cxr.images.store import Store

    if not starts or not store:
        lacking = "a store of films" if starts else "at least one start"
        raise ScarceError(lacking, "none", "scarce map RUN random --store STORE")
    if films < 10 or queries < 1:
        raise ScarceError("at least 10 films and 1 query", f"{films} and {queries}", "--films 2000 --queries 4")
    joined = JoinedStores([Store.open(path) for path in store])
    parsed = parse_starts(starts, size=size, seed=seed)
    sides = joined.split(test=test, tune=tune)
    how = {"file": labels, "id_column": id_column, "uncertain": uncertain, "unmentioned": unmentioned}
    known = joined.labels(**how)
    task = make_tasks(joined, joined.labels([finding], **how), sides)[finding] if finding else None
    patients = patients_of(joined.table).astype(str)
    asked = _Asked(joined, known, task, patients, sides, _groups(joined), out, films, queries, seed)
    rows, written, notes = [], [], list(known.notes)
    for start in parsed:
        table, files, words = _look_at(asked, start, device)
        rows += table
        written += files
        notes += words
    notes += _go_together(asked)
    note = f"AUROC with 95 % interval on test patients, of probes fitted on {int((sides == 'train').sum()):,} films of "
    note += "the train split; ! where even its lower end is over 0.6"
    columns = ["start", "what", "tells", "test, or why not", "AUROC"]
    return Result([Table("What else features tell", columns, rows, note)], written, list(dict.fromkeys(notes)))


class _Asked(NamedTuple):
    """What is the same for all starts.

    Attributes:
        joined: n films.
        labels: all of theirs.
        task: of the finding, if one is asked for.
        patients, sides: (n,).
        groups: (n,) strings by what they are: site, view, sex.
        out: folder of figures.
        films, queries, seed: as for `map`.
    """

    joined: "JoinedStores"
    labels: "Labels"
    task: "Task | None"
    patients: "np.ndarray"
    sides: "np.ndarray"
    groups: "dict[str, np.ndarray]"
    out: Path
    films: int
    queries: int
    seed: int


def _groups(joined: "JoinedStores") -> "dict[str, np.ndarray]":
    table = joined.table
    view = table["view"].fillna("").replace("UNKNOWN", "").to_numpy(dtype=str)
    return {"site": joined.sites, "view": view, "sex": table["sex"].fillna("").to_numpy(dtype=str)}


def _look_at(asked: _Asked, start: "Start", device: str) -> tuple[list[list], list[tuple[str, Path]], list[str]]:
    """Rows of the table, files and notes of one start."""
    import numpy as np

    from scarce_cxr.evaluation.comparison import in_digits
    from scarce_cxr.evaluation.embedding_map import tell_apart
    from scarce_cxr.evaluation.explain import fit_probe
    from scarce_cxr.evaluation.probe import standardise
    from scarce_cxr.figures import theme
    from scarce_cxr.figures.embedding_map import map_figure

    train, test = asked.sides == "train", asked.sides == "test"
    raw = asked.joined.features(start, device)
    features = standardise(raw, train)
    told = {
        what: tell_apart(features, what, groups, asked.patients, train, test, asked.seed)
        for what, groups in asked.groups.items()
    }
    probe = fit_probe(raw, asked.task, seed=asked.seed) if asked.task else None
    rows = []
    for each in (each for of in told.values() for each in of):
        against = f"{each.group} from {each.others}" if each.group else ""
        tested = f"{each.films} and {each.others_films} films of {each.patients} patients"
        number = None if each.missing else in_digits(each.auroc, each.low, each.high) + " !" * each.flagged
        rows.append([start.name, each.what, against, each.missing or tested, number])
    shown = _sample(asked)
    colorings = [
        coloring._replace(groups=coloring.groups[shown])
        for coloring in _colorings(asked, told, probe)
        if len(set(coloring.groups[shown]) - {""}) > 1
    ]
    of = f" of {len(asked.joined):,}" if len(shown) < len(asked.joined) else ""
    title = f"{start.name}: features of {len(shown):,}{of} films"
    name = "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in start.name)
    layouts = _lay_out(features[shown], asked.seed)
    files = [("map", theme.save(map_figure(layouts, colorings, title), asked.out / f"map-{name}.png"))]
    files.append(("neighbours", _draw_neighbours(asked, start, features, asked.out / f"neighbours-{name}.png")))
    if probe and (drawn := _draw_errors(asked, start, probe, asked.out / f"errors-{name}.png")):
        files.append(("worst errors", drawn))
    flagged = [each for of in told.values() for each in of if each.flagged]
    notes = [
        f"{start.name}: a probe can tell the {each.what} ({each.group} from {each.others}) from the features: findings "
        f"that go with the {each.what} may be read off it"
        for each in flagged
    ]
    if np.unique(asked.groups["site"]).size < 2:
        site = asked.groups["site"][0]
        notes.append(f"site: left out, as all films are of one source ({site}); several stores: --store A B")
    return rows, files, notes


def _lay_out(features: "np.ndarray", seed: int) -> "list[tuple[str, np.ndarray]]":
    from scarce_cxr.evaluation.embedding_map import lay_out

    return [tuple(layout) for layout in lay_out(features, seed)]


def _sample(asked: _Asked) -> "np.ndarray":
    """Rows of the films that are mapped, the same for every start."""
    import numpy as np

    from scarce_cxr.views.draws import Draws

    order = np.argsort(Draws(asked.seed, 0, np.arange(len(asked.joined))).uniform("map")[:, 0])
    return np.sort(order[: asked.films])


def _colorings(asked: _Asked, told: "dict[str, list[Told]]", probe: "FittedProbe | None") -> "list[Coloring]":
    import numpy as np

    from scarce_cxr.evaluation.comparison import in_digits
    from scarce_cxr.figures.embedding_map import Coloring

    def words(of: "list[Told]") -> str:
        # Of several groups there is room for the one that is told best.
        best = max((each for each in of if not each.missing), key=lambda each: each.low, default=None)
        if best is None:
            return ""
        return f"A probe tells {best.group}: AUROC {in_digits(best.auroc, best.low, best.high)}"

    if asked.task and probe:
        labels, name = asked.task.labels, asked.task.finding.replace("_", " ")
        finding = np.select([labels == 1, labels == 0], ["with it", "without it"], "")
        number = in_digits(probe.auroc, probe.interval.low, probe.interval.high)
        colorings = [Coloring(name, finding, ("without it", "with it"), f"A probe tells it: AUROC {number}")]
    else:
        finding = np.select([asked.labels.abnormal, asked.labels.normal], ["with a finding", "normal"], "")
        colorings = [Coloring("finding", finding, ("normal", "with a finding"))]
    for what, groups in asked.groups.items():
        colorings.append(Coloring(what, groups, (), words(told[what]), any(each.flagged for each in told[what])))
    return [*colorings, Coloring("split", asked.sides, ("train", "tune", "test"))]


def _go_together(asked: _Asked) -> list[str]:
    """How often the finding is on films of each site, view and sex."""
    import numpy as np

    if asked.task is None:
        return []
    labels, notes = asked.task.labels, []
    for what, groups in asked.groups.items():
        names = [name for name in np.unique(groups) if name]
        counts = [((groups == name) & (labels == 1)).sum() for name in names]
        known = [((groups == name) & ~np.isnan(labels)).sum() for name in names]
        if len(names) > 1:
            shares = (
                f"{count / of:.0%} of {of:,} {name}" for name, count, of in zip(names, counts, known, strict=True) if of
            )
            notes.append(f"{asked.task.finding} by {what}: {', '.join(shares)} films".replace("%", " %"))
    return notes


def _draw_neighbours(asked: _Asked, start: "Start", features: "np.ndarray", path: Path) -> Path:
    import numpy as np

    from scarce_cxr.evaluation.embedding_map import nearest_of_others
    from scarce_cxr.figures import theme
    from scarce_cxr.figures.embedding_map import captioned_grid

    rows = _choose_queries(asked)
    nearest, cosines = nearest_of_others(features, rows, asked.patients, _NEIGHBOURS)
    lines = []
    for query, others, likeness in zip(rows, nearest, cosines, strict=True):
        line = [_picture(asked, query, _taken(asked, query), stands_out=True)]
        for row, cosine in zip(others, likeness, strict=True):
            alike = bool(set(_names_of(asked, row)) & set(_names_of(asked, query)))
            line.append(_picture(asked, row, f"{cosine:.2f} {_taken(asked, row)}", stands_out=alike))
        lines.append(line)
    title = f"{start.name}: nearest of other patients, {len(np.unique(asked.patients)):,} in all"
    heads = ["test film", *("1st", "2nd", "3rd", "4th", "5th")[:_NEIGHBOURS]]
    foot = "numbers: cosine of standardised features; bright: with a label in common"
    return theme.save(captioned_grid(lines, title, column_labels=heads, foot=foot), path)


def _choose_queries(asked: _Asked) -> "np.ndarray":
    """Test films of different patients, chosen by chance: with a finding (or the one asked for) and without in turn."""
    import numpy as np

    from scarce_cxr.errors import ScarceError
    from scarce_cxr.evaluation.explain import one_a_patient
    from scarce_cxr.views.draws import Draws

    rows = np.flatnonzero(asked.sides == "test")
    if not len(rows):
        raise ScarceError("test films", "none", "raise --test, or take a larger store")
    order = rows[np.argsort(Draws(asked.seed, 0, rows).uniform("queries")[:, 0])]
    positive = asked.task.labels == 1 if asked.task else asked.labels.abnormal
    with_it, without = order[positive[order]], order[~positive[order]]
    turns = np.concatenate([2 * np.arange(len(with_it)), 2 * np.arange(len(without)) + 1])
    mixed = np.concatenate([with_it, without])[np.argsort(turns, kind="stable")]
    return one_a_patient(mixed, asked.patients, asked.queries)


def _draw_errors(asked: _Asked, start: "Start", probe: "FittedProbe", path: Path) -> Path | None:
    """The films that the finding's probe has most wrong; None where all are in order."""
    from scarce_cxr.evaluation.embedding_map import worst_errors
    from scarce_cxr.figures import theme
    from scarce_cxr.figures.embedding_map import captioned_grid

    test, name = asked.task.test, asked.task.finding.replace("_", " ")
    errors = worst_errors(probe.scores, test.labels, test.patients)
    kinds = (
        ("false positives", "above", "with", errors.positives, errors.above),
        ("false negatives", "below", "without", errors.negatives, errors.below),
    )
    lines = {
        kind: [
            _picture(asked, test.rows[place], f"{side} {share:.0%}".replace("%", " %"))
            for place, share in zip(places, shares, strict=True)
        ]
        for kind, side, _, places, shares in kinds
        if len(places)
    }
    if not lines:
        return None
    title = f"{start.name}: the worst errors on {name}, {len(test.labels)} test films"
    foot = "shares: of the films with it (above), without it (below), that score lower or higher"
    return theme.save(captioned_grid(list(lines.values()), title, row_labels=list(lines), foot=foot), path)


def _picture(asked: _Asked, row: int, first: str, *, stands_out: bool = False) -> "Picture":
    from scarce_cxr.figures.embedding_map import Picture

    words = ", ".join(_names_of(asked, row)).replace("_", " ") or "no label"
    return Picture(asked.joined.film(int(row)), first, words, stands_out)


def _taken(asked: _Asked, row: int) -> str:
    """View and sex, as far as they are known."""
    return " ".join(filter(None, (asked.groups[what][row] for what in ("view", "sex"))))


def _names_of(asked: _Asked, row: int) -> list[str]:
    """What a film is known to show, the finding that is asked for first."""
    labels = asked.labels
    found = [name for name in labels.findings if labels.table[name].iat[row] == 1]
    found.sort(key=lambda name: asked.task is None or name != asked.task.finding)
    return found or (["normal"] if labels.normal[row] else [])
