"""A contact sheet shows every film and caption, whatever their number, and writes a picture that opens."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scarce_cxr.figures import theme
from scarce_cxr.figures.pictures import contact_sheet


def some_films(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 24, 24), dtype=np.uint8)


@pytest.mark.parametrize("count", [1, 2, 7, 30])
def test_every_film_has_a_place_of_its_own_inside_the_sheet(count: int):
    films = some_films(count)
    sheet = contact_sheet(films, [f"film {index}\nMass" for index in range(count)], "title")
    boxes = [axes.get_position() for axes in sheet.axes]
    shown = [np.asarray(axes.images[0].get_array()) for axes in sheet.axes]
    assert np.allclose(shown, films / 255)
    assert all(box.x0 >= 0 and box.y0 >= 0 and box.x1 <= 1 and box.y1 <= 1 for box in boxes)
    assert len({(round(box.x0, 3), round(box.y0, 3)) for box in boxes}) == count
    words = [text.get_text() for text in sheet.texts]
    assert {f"film {index}" for index in range(count)} <= set(words)
    assert theme.DISCLAIMER in words


def test_no_text_leaves_the_sheet_or_covers_a_film():
    long = "PA · F · 58 years\n" + ", ".join(["Pleural Thickening", "Consolidation", "Cardiomegaly"] * 3)
    sheet = contact_sheet(some_films(9), [long] * 9, "title")
    renderer = sheet.canvas.get_renderer()
    films = [axes.get_window_extent(renderer) for axes in sheet.axes]
    for text in sheet.texts:
        box = text.get_window_extent(renderer)
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= sheet.bbox.width
        assert box.y1 <= sheet.bbox.height
        assert not any(box.overlaps(film) for film in films), text.get_text()


def test_the_saved_sheet_opens_and_is_dark(tmp_path: Path):
    path = theme.save(contact_sheet(some_films(4), ["a"] * 4, "title"), tmp_path / "new" / "sheet.png")
    with Image.open(path) as image:
        assert image.getpixel((2, 2))[:3] == (14, 17, 22)
        assert image.width > 600
    assert [entry.name for entry in path.parent.iterdir()] == ["sheet.png"]


def test_films_and_captions_must_fit_together():
    with pytest.raises(ValueError, match="captions"):
        contact_sheet(some_films(3), ["a"], "title")
    with pytest.raises(ValueError, match="uint8"):
        contact_sheet(some_films(1) / 255, ["a"], "title")
