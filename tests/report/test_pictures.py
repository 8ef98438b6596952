"""Pictures fit into their bytes, and a sheet holds every film at its place."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from scarce_cxr.report.pictures import load_pictures, make_sheet


def decoded(source: str) -> np.ndarray:
    assert source.startswith("data:image/webp;base64,")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))))


@pytest.fixture
def noise(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (300, 600), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "noise.png")
    return tmp_path / "noise.png"


def test_pictures_keep_their_size_where_there_is_room_and_shrink_where_not(noise):
    (whole,) = load_pictures([(noise, "words")], 10**7)
    assert (whole.width, whole.height, whole.words) == (600, 300, "words")
    assert decoded(whole.source).shape == (300, 600, 3)
    small = load_pictures([(noise, ""), (noise, "")], int(1.2 * len(whole.source)))
    assert [picture.width for picture in small] == [320, 320]
    assert small[0].height == 160


def test_a_sheet_has_every_film_at_its_place():
    films = np.stack([np.full((20, 20), 40 * number, dtype=np.uint8) for number in range(5)])
    sheet = make_sheet(films, 16)
    assert (sheet.columns, sheet.rows, sheet.side) == (3, 2, 16)
    pixels = decoded(sheet.source)[..., 0].astype(int)
    for number in range(5):
        row, column = divmod(number, 3)
        assert abs(pixels[16 * row + 8, 16 * column + 8] - 40 * number) <= 4
    deep = make_sheet(films.astype(np.uint16) << 8, 16)
    assert np.abs(decoded(deep.source)[..., 0].astype(int) - pixels).max() <= 1
