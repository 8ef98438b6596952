"""How a representation fares: the monitor's measures of one run, or of several side by side."""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scarce_cxr.figures import theme

Looks = Sequence[tuple[int, Mapping[str, float]]]

# Number -> heading and how to read it. A panel is drawn where a run has the number.
_PANELS = {
    "retrieval": ("retrieval", "share of films found again; higher is better"),
    "held_out_matched_information": ("matched information, nats", "0: knows a film no better than the average film"),
    "held_out_mean_teacher_entropy": ("entropy of the mean film, nats", "low: few prototypes in use"),
    "feature_rank": ("effective rank, features", "1: all films on one line"),
    "projection_rank": ("effective rank, projections", "1: all films on one line"),
    "feature_cosine": ("mean cosine, features", "1: all films point the same way"),
    "feature_std": ("std, features", "of a dimension; 0: all films alike"),
    "projection_std_ratio": ("spread of projections", "1: evenly over the sphere, 0: one point"),
    "held_out_error": ("masked error", "1: no more than every patch's mean"),
}
_COLUMNS = 4


def collapse_figure(runs: Mapping[str, Looks], title: str, behind: Sequence[str] | None = None) -> Figure:
    """Small panels over optimizer steps, one a measure; intervals are shaded where a measure has one.

    Args:
        runs: name of each run -> its looks: (step, named numbers), see `monitor.representation.measure`.
        title: the whole figure's.
        behind: films and patients behind it, in words; None: the held-out ones that the last looks tell of.

    Returns:
        A figure of up to two rows of panels.
    """
    shown = [name for name in _PANELS if any(name in numbers for looks in runs.values() for _, numbers in looks)]
    rows = max(1, -(-len(shown) // _COLUMNS))
    figure = theme.figure(10.4, 2.35 * rows + 1.1)
    figure.get_layout_engine().set(rect=(0, 0.3 / figure.get_figheight(), 1, 1 - 0.3 / figure.get_figheight()))
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold", family=theme.FONT)
    axes = figure.subplots(rows, _COLUMNS, squeeze=False).ravel()
    for name, panel in zip(shown, axes, strict=False):
        draw_measure(panel, list(runs.values()), name)
        heading, reading = _PANELS[name]
        panel.set_title(heading, fontsize=9, loc="left", fontweight="bold")
        panel.set_xlabel(reading, fontsize=7)
        panel.tick_params(labelsize=7)
    for panel in axes[len(shown) :]:
        panel.set_axis_off()
    if behind is None:
        behind = say_behind(runs)
    names = list(runs) if len(runs) > 1 else []
    handles = [line for panel in axes[:1] for line in panel.get_lines()][: len(names)]
    if handles:
        figure.legend(handles, names, loc="outside lower left", ncols=4, frameon=False, fontsize=8)
    words = f"{'; '.join(behind)}.  {theme.DISCLAIMER}" if behind else theme.DISCLAIMER
    figure.text(0.995, 0.01, words, ha="right", size=theme.SMALL_POINTS, color=theme.LIGHTBOX_QUIET)
    return figure


def say_behind(runs: Mapping[str, Looks]) -> list[str]:
    """How many held-out films of how many patients the runs' last looks measured; each number once."""
    last = [looks[-1][1] for looks in runs.values() if looks and "held_out_films" in looks[-1][1]]
    words = {f"{n['held_out_films']:.0f} held-out films of {n['held_out_patients']:.0f} patients" for n in last}
    return sorted(words)


def draw_measure(panel: Axes, runs: Sequence[Looks], name: str) -> None:
    """Draws one measure of several runs over steps, each in its colour, with its interval and what it is read against.

    Args:
        panel: where.
        runs: looks of each run.
        name: of the number.
    """
    for number, looks in enumerate(runs):
        _draw(panel, looks, name, theme.COLORS[number % len(theme.COLORS)])
    if name == "held_out_mean_teacher_entropy":
        # Another number of outputs has another ceiling: all of them are to be seen.
        ceilings = {numbers["ln_outputs"] for looks in runs for _, numbers in looks if "ln_outputs" in numbers}
        for ceiling in ceilings:
            panel.axhline(ceiling, color=theme.LIGHTBOX_QUIET, linewidth=0.8, linestyle=":")
        panel.set_ylim(0, 1.08 * max(ceilings))
    if name == "held_out_matched_information":
        panel.axhline(0, color=theme.LIGHTBOX_QUIET, linewidth=0.8, linestyle=":")
    panel.ticklabel_format(axis="y", useOffset=False)
    panel.grid(alpha=0.25)
    panel.spines[["top", "right"]].set_visible(False)


def _draw(panel: Axes, looks: Looks, name: str, color: str) -> None:
    seen = [(step, numbers) for step, numbers in looks if name in numbers]
    steps = [step for step, _ in seen]
    low, high = f"{name}_low", f"{name}_high"
    if seen and all(low in numbers and high in numbers for _, numbers in seen):
        bounds = [[numbers[bound] for _, numbers in seen] for bound in (low, high)]
        panel.fill_between(steps, *bounds, color=color, alpha=0.18, linewidth=0)
    panel.plot(steps, [numbers[name] for _, numbers in seen], color=color, marker="o", markersize=3, linewidth=1.2)
