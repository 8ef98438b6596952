"""Curves of a run: loss, learning rate, and what the watchers measured."""

from matplotlib.figure import Figure

from scarce_cxr.figures import theme

Series = tuple[list[int], list[float]]


def run_curves(loss: Series, rate: Series, held_out: Series, title: str) -> Figure:
    """Loss (training and held out) above, learning rate below, over optimizer steps.

    Args:
        loss: steps and training losses.
        rate: steps and learning rates.
        held_out: steps and masked errors on held-out films; may be empty.
        title: which run.

    Returns:
        A figure of two panels with a common axis.
    """
    figure = theme.figure(8.0, 5.0)
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold", family=theme.FONT)
    figure.text(0.995, 0.005, theme.DISCLAIMER, ha="right", size=theme.SMALL_POINTS, color=theme.LIGHTBOX_QUIET)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    upper.plot(*loss, color=theme.COLORS[0], linewidth=1.2, label="training batch")
    if held_out[0]:
        upper.plot(*held_out, color=theme.COLORS[1], marker="o", markersize=4, label="held-out patients")
        upper.legend(frameon=False)
    upper.set_ylabel("loss")
    lower.plot(*rate, color=theme.COLORS[2], linewidth=1.2)
    lower.set_ylabel("learning rate")
    lower.set_xlabel("step")
    lower.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    for axes in (upper, lower):
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    return figure
