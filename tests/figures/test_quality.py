"""The sheet shows every suspect under its kind, and the gap's panels show every store."""

import numpy as np

from scarce_cxr.figures import theme
from scarce_cxr.figures.quality import gap_figure, suspect_sheet


def some_films(count: int) -> list[np.ndarray]:
    return list(np.random.default_rng(0).random((count, 20, 20)))


def test_every_suspect_is_drawn_and_no_text_covers_a_film():
    films = some_films(9)
    why = "a reason that is far too long to stand on one line, or on two, or on three of them, so that it is cut"
    groups = {
        "inverted: a negative (8)": [(film, f"{n:016d}.png\n{why}") for n, film in enumerate(films[:8])],
        "nothing": [],
        "lateral: from the side (1)": [(films[8], "a-name-that-is-much-too-long-to-be-shown-whole.png\nlooks lateral")],
    }
    sheet = suspect_sheet(groups, "Suspects in a, b")
    assert np.allclose([axes.images[0].get_array() for axes in sheet.axes], films)
    words = [text.get_text() for text in sheet.texts]
    assert {"inverted: a negative (8)", "lateral: from the side (1)", "Suspects in a, b", theme.DISCLAIMER} <= set(
        words
    )
    assert "nothing" not in words
    renderer = sheet.canvas.get_renderer()
    boxes = [axes.get_window_extent(renderer) for axes in sheet.axes]
    for text in sheet.texts:
        box = text.get_window_extent(renderer)
        assert min(box.x0, box.y0) >= 0
        assert box.x1 <= sheet.bbox.width
        assert box.y1 <= sheet.bbox.height
        assert not any(box.overlaps(film) for film in boxes), text.get_text()


def test_every_store_is_in_every_panel_and_few_films_are_ticks():
    generator = np.random.default_rng(0)
    means = {"a": generator.normal(0.6, 0.1, 200), "b": generator.normal(0.4, 0.1, 5), "c": np.empty(0)}
    histograms = {name: np.full(256, 1 / 256) for name in means}
    figure = gap_figure(histograms, means, means, {name: f"{len(v)} films" for name, v in means.items()}, "title")
    pixels, first, second = figure.axes
    assert len(pixels.get_lines()) == 3
    for panel in (first, second):
        assert len(panel.get_lines()) == 5
        assert len(panel.patches) == 2
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a: 200 films", "b: 5 films", "c: 0 films"]
