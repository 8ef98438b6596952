"""Few-shot figures show every number of their tables, in the same colours everywhere."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import PathCollection
from matplotlib.colors import same_color

from scarce_cxr.figures import theme
from scarce_cxr.figures.fewshot import findings_figure, forest_figure, means_figure, start_colors

COLORS = start_colors(["spark", "random", "moco"], "random")


def means(**changes) -> pd.DataFrame:
    rows = [
        {
            "how": how,
            "shot": shot,
            "start": start,
            "names": "A" if shot == "50" else "A, B",
            "findings": 1 if shot == "50" else 2,
            "positives_low": 300 if shot == "all" else 1,
            "positives_high": 1200 if shot == "all" else 1,
            "auroc": 0.6 + 0.02 * number + (0.05 if start == "moco" else 0),
        }
        for how in ("probe", "finetune")
        for start in ("moco", "random")
        for number, shot in enumerate(("1", "5", "50", "all"))
    ]
    table = pd.DataFrame(rows).assign(**changes)
    return table.assign(auroc_low=table["auroc"] - 0.1, auroc_high=table["auroc"] + 0.05)


def findings(names=("A", "B", "C")) -> pd.DataFrame:
    one = means().rename(columns={"positives_low": "positives"}).drop(columns=["names", "positives_high"])
    behind = {"test_positives": 12, "test_films": 345}
    return pd.concat([one.assign(finding=name, **behind) for name in names], ignore_index=True)


def differences() -> pd.DataFrame:
    rows = [
        {"how": "probe", "finding": finding, "shot": shot, "start": start, "difference": value, "low": value - 0.04}
        for finding, value in (("B", 0.01), ("A", 0.1), ("C", -0.05))
        for shot in ("5", "all")
        for start in ("moco", "spark")
    ]
    table = pd.DataFrame(rows)
    return table.assign(high=table["difference"] + 0.04, p_holm=np.where(table["finding"] == "A", 0.01, 0.5))


def test_the_baseline_is_black_and_every_start_has_one_color():
    assert COLORS["random"] == "#000000"
    assert len(set(COLORS.values())) == 3
    assert list(COLORS) == ["spark", "random", "moco"]


def test_every_mean_is_a_point_with_its_interval():
    axes = means_figure(means(), COLORS).axes[0]
    drawn = [container.lines for container in axes.containers]
    assert len(drawn) == 4
    known = {tuple(np.round(of["auroc"], 6)) for _, of in means().groupby(["how", "start"])}
    heights = [np.asarray(line.get_ydata(), dtype=float) for line, _, _ in drawn]
    assert {tuple(np.round(points, 6)) for points in heights} == known
    for points, (_, _, (bars,)) in zip(heights, drawn, strict=True):
        ends = np.array([segment[:, 1] for segment in bars.get_segments()])
        np.testing.assert_allclose(ends, np.stack([points - 0.1, points + 0.05], axis=1))


def test_all_stands_apart_at_its_true_number_and_no_line_leads_there():
    figure = means_figure(means(), COLORS)
    axes = figure.axes[0]
    # The geometric mean of 300 and 1200.
    assert axes.get_xticks() == pytest.approx([1, 5, 50, 600])
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["1", "5", "50", "all: 300 to 1,200"]
    lines = [line for line in axes.get_lines() if line.get_linestyle() != "None" and len(line.get_xdata()) > 1]
    joined = [line for line in lines if same_color(line.get_color(), COLORS["moco"])]
    # Nor to 50, which is a mean of one finding and not of two.
    assert all(line.get_xdata().max() < 10 for line in joined)
    assert len(joined) == 2


def test_all_keeps_away_from_the_last_shot_where_it_is_hardly_more():
    table = means(positives_low=52, positives_high=52)
    assert means_figure(table, COLORS).axes[0].get_xticks()[-1] > 2 * 50


def test_probe_is_solid_and_finetune_dashed_and_the_legend_says_so():
    figure = means_figure(means(), COLORS)
    styles = {
        line.get_linestyle() for line in figure.axes[0].get_lines() if same_color(line.get_color(), COLORS["moco"])
    }
    assert {"-", "--"} <= styles
    words = [text.get_text() for text in figure.legends[0].get_texts()]
    assert words == ["random", "moco", "probe", "finetune"]


def test_every_finding_has_a_panel_with_its_test_positives():
    figure = findings_figure(findings(), COLORS, "original protocol (balanced test; see docs)")
    titles = [axes.get_title(loc="left") for axes in figure.axes[:3]]
    assert titles == ["A", "B", "C"]
    assert all("12 of 345 films" in axes.texts[0].get_text() for axes in figure.axes[:3])
    assert "original protocol" in figure.get_suptitle()
    chance = [line for line in figure.axes[0].get_lines() if list(line.get_ydata()) == [0.5, 0.5]]
    assert len(chance) == 1


def test_the_forest_is_sorted_and_only_sure_differences_are_filled():
    mean = differences()[lambda table: table["finding"] == "A"].assign(findings=3)
    figure = forest_figure(differences(), mean, COLORS, "random")
    panel = figure.axes[0]
    assert [tick.get_text() for tick in panel.get_yticklabels()] == ["mean of findings", "A", "B", "C"]
    filled = {}
    for points in panel.collections:
        for (x, y), face in zip(points.get_offsets(), points.get_facecolors(), strict=False):
            filled.setdefault(round(float(x), 3), set()).add(not same_color(face, "white"))
            assert abs(y - {0.1: 1, 0.01: 2, -0.05: 3}[round(float(x), 3)]) < 0.5 or y < 0.5
    assert filled == {0.1: {True}, 0.01: {False}, -0.05: {False}}
    assert "random" in figure.get_suptitle()


def test_an_interval_that_leaves_the_panel_ends_in_an_arrow():
    table = pd.concat([differences()] * 4, ignore_index=True)
    table.loc[0, ["low", "high"]] = (-0.9, 0.9)
    panel = forest_figure(table, pd.DataFrame(), COLORS, "random").axes[0]
    left, right = panel.get_xlim()
    assert -0.5 < left < -0.05
    points = [collection for collection in panel.collections if isinstance(collection, PathCollection)]
    ends = np.concatenate([of.get_offsets()[:, 0] for of in points if of.get_sizes().tolist() == [9]])
    np.testing.assert_allclose(np.sort(np.asarray(ends)), [left, right])


def test_one_finding_and_one_shot_are_enough(tmp_path):
    table = findings(["A"])
    table = table[(table["shot"] == "all") & (table["how"] == "probe")]
    mean = means().query("shot == 'all' and how == 'probe'").assign(findings=1)
    pair = differences().query("finding == 'A' and shot == '5'")
    for name, figure in (
        ("means", means_figure(mean, COLORS)),
        ("findings", findings_figure(table, COLORS)),
        ("forest", forest_figure(pair, pair.assign(findings=1), COLORS, "random")),
    ):
        assert theme.save(figure, tmp_path / f"{name}.png").stat().st_size < 200_000
        assert figure.get_figwidth() * theme.DOTS_PER_INCH == 800
