"""Every kind of picture file becomes the same grey film; every kind of damage becomes a reason."""

import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scarce_cxr.images.decode import Shown, Skipped, Square, decode, fit_square, full_range, quantise, resize, scale

RANDOM = np.random.default_rng(0)
GREY = RANDOM.integers(0, 256, (20, 30), dtype=np.uint8)
DEEP = RANDOM.integers(0, 65536, (20, 30), dtype=np.uint16)
FILM = Image.fromarray(GREY)


def saved(image: Image.Image, path: Path, **options) -> Path:
    image.save(path, **options)
    return path


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGB", "RGBA", "CMYK"])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_a_grey_film_in_any_mode_decodes_to_its_own_values(tmp_path: Path, mode: str, suffix: str):
    if (mode, suffix) == ("CMYK", ".png"):
        pytest.skip("PNG has no CMYK")
    array = decode(saved(FILM.convert(mode), tmp_path / f"film{suffix}"))
    assert array.dtype == np.uint8
    assert np.array_equal(array, GREY)


def test_sixteen_bits_are_kept_in_both_byte_orders(tmp_path: Path):
    little = Image.fromarray(DEEP)
    big = Image.frombytes("I;16B", little.size, DEEP.astype(">u2").tobytes())
    for image, name in ((little, "a.png"), (little, "b.tif"), (big, "c.tif")):
        array = decode(saved(image, tmp_path / name))
        assert array.dtype == np.uint16
        assert np.array_equal(array, DEEP)


def test_wide_integers_floats_and_bilevel_films_are_read(tmp_path: Path):
    wide = DEEP.astype(np.int32) - 70000
    assert np.array_equal(decode(saved(Image.fromarray(wide), tmp_path / "wide.tif")), wide)
    real = DEEP.astype(np.float32) / 7
    assert np.array_equal(decode(saved(Image.fromarray(real), tmp_path / "real.tif")), real)
    bilevel = decode(saved(Image.fromarray(GREY > 99), tmp_path / "bilevel.png"))
    assert np.array_equal(bilevel, np.where(GREY > 99, 255, 0))


def test_colour_becomes_luma(tmp_path: Path):
    colour = RANDOM.integers(0, 256, (20, 30, 3), dtype=np.uint8)
    luma = colour @ np.array([0.299, 0.587, 0.114])
    for name, image in (("a.png", Image.fromarray(colour)), ("b.png", Image.fromarray(colour).convert("RGBA"))):
        assert np.abs(decode(saved(image, tmp_path / name)) - luma).max() <= 0.51


def test_partial_alpha_is_laid_on_black(tmp_path: Path):
    alpha = RANDOM.integers(0, 256, GREY.shape, dtype=np.uint8)
    expected = GREY * (alpha / 255)
    for mode in ("LA", "RGBA"):
        image = FILM.convert(mode)
        image.putalpha(Image.fromarray(alpha))
        assert np.abs(decode(saved(image, tmp_path / f"{mode}.png")) - expected).max() <= 0.51


def test_a_transparent_palette_entry_is_laid_on_black(tmp_path: Path):
    clear = int(GREY[0, 0])
    array = decode(saved(FILM.convert("P"), tmp_path / "film.png", transparency=clear))
    assert np.array_equal(array, np.where(clear == GREY, 0, GREY))


# What has to be done to the stored rows, by EXIF's number (TIFF 6.0, page 36).
ORIENTATIONS = {
    1: lambda film: film,
    2: np.fliplr,
    3: lambda film: np.rot90(film, 2),
    4: np.flipud,
    5: np.transpose,
    6: lambda film: np.rot90(film, -1),
    7: lambda film: np.rot90(film.T, 2),
    8: np.rot90,
}


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_the_exif_orientation_is_applied_at_any_depth(tmp_path: Path, orientation: int):
    exif = Image.Exif()
    exif[0x0112] = orientation
    for name, values in (("a.png", GREY), ("b.png", DEEP), ("c.tif", DEEP)):
        path = saved(Image.fromarray(values), tmp_path / name, exif=exif)
        assert np.array_equal(decode(path), ORIENTATIONS[orientation](values))
    turned = decode(saved(FILM, tmp_path / "turned.jpg", exif=exif))
    assert np.array_equal(turned, ORIENTATIONS[orientation](decode(saved(FILM, tmp_path / "plain.jpg"))))


def test_damage_becomes_a_reason(tmp_path: Path):
    whole = saved(FILM.resize((300, 200)), tmp_path / "whole.png").read_bytes()
    jpeg = saved(FILM.resize((300, 200)), tmp_path / "whole.jpg").read_bytes()
    frames = [Image.fromarray(GREY), Image.fromarray(GREY.T.copy().reshape(GREY.shape))]
    unreal = np.where(GREY > 9, np.nan, 1).astype(np.float32)
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("This is not a picture.")
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "cut.jpg").write_bytes(jpeg[: len(jpeg) // 2])
    (tmp_path / "head.png").write_bytes(whole[:40])
    saved(frames[0], tmp_path / "frames.tif", save_all=True, append_images=frames[1:])
    saved(Image.new("L", (30, 20), 7), tmp_path / "blank.png")
    saved(Image.fromarray(unreal), tmp_path / "unreal.tif")
    reasons = {
        "empty.png": "zero bytes",
        "text.png": "not an image",
        "cut.png": "truncated",
        "cut.jpg": "truncated",
        "head.png": "truncated|damaged|not an image",
        "frames.tif": "several frames",
        "blank.png": "blank",
        "unreal.tif": "not finite",
    }
    for name, reason in reasons.items():
        with pytest.raises(Skipped, match=reason):
            decode(tmp_path / name)


def test_no_reason_tells_the_files_name(tmp_path: Path):
    secret = tmp_path / "Jane Doe.png"
    secret.write_text("no picture")
    with pytest.raises(Skipped) as caught:
        decode(secret)
    assert "Jane" not in caught.value.reason


def test_too_large_a_header_is_refused_before_decoding(tmp_path: Path):
    path = saved(FILM, tmp_path / "film.png")
    assert decode(path, max_pixels=600).shape == (20, 30)
    with pytest.raises(Skipped, match="too large: 30 x 20"):
        decode(path, max_pixels=599)


def test_a_film_that_is_all_length_is_refused(tmp_path: Path):
    with pytest.raises(Skipped, match="too large: 65536 x 1"):
        decode(saved(Image.linear_gradient("L").resize((65_536, 1)), tmp_path / "film.png"))


def test_a_jpeg_that_is_gone_over_a_thousand_times_is_refused(tmp_path: Path):
    path = saved(Image.linear_gradient("L").resize((3000, 2000)), tmp_path / "film.jpg", progressive=True)
    content = path.read_bytes()
    scan = content[content.rindex(b"\xff\xda") : -2]
    assert decode(path).shape == (2000, 3000)
    path.write_bytes(content[:-2] + 1000 * scan + content[-2:])
    started = time.process_time()
    with pytest.raises(Skipped, match="more scans"):
        decode(path)
    assert time.process_time() - started < 1


def test_postscript_is_not_drawn(tmp_path: Path):
    saved(FILM, tmp_path / "film.eps")
    with pytest.raises(Skipped, match="not an image"):
        decode(tmp_path / "film.eps")


def test_a_large_film_below_the_limit_gives_no_warning_and_leaves_pillows_limit(tmp_path: Path, monkeypatch):
    path = saved(FILM, tmp_path / "film.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        threads = [threading.Thread(target=decode, args=(path,)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert np.array_equal(decode(path), GREY)
    assert Image.MAX_IMAGE_PIXELS == 100


def test_scale_maps_the_percentiles_to_zero_and_one():
    array = np.arange(100_001, dtype=np.uint32).reshape(1, -1)
    scaled = scale(array)
    assert scaled.dtype == np.float32
    assert scaled[0, 100] == 0
    assert scaled[0, 99_900] == 1
    assert scaled[0, 50_000] == pytest.approx(0.5, abs=1e-6)
    assert (scaled.min(), scaled.max()) == (0, 1)


@pytest.mark.parametrize("size", [1, 2, 999, 1000, 1001, 2**20 + 7])
def test_percentiles_of_narrow_values_are_numpys(size: int):
    for array in (RANDOM.integers(3, 250, size, dtype=np.uint8), RANDOM.integers(5, 60_000, size, dtype=np.uint16)):
        for wanted in ((0.1, 99.9), (0, 100), (25, 75)):
            expected = np.percentile(array, wanted)
            if expected[0] == expected[1]:
                expected = array.min(), array.max()
            assert full_range(array, *wanted) == pytest.approx(tuple(expected), rel=1e-12)


def test_scale_ignores_a_few_outliers_and_any_stretch_of_the_values():
    film = RANDOM.integers(1000, 3000, (200, 200), dtype=np.uint16)
    dotted = film.copy()
    dotted[0, :10] = 65535
    assert np.abs(scale(dotted) - scale(film))[1:].max() < 0.01
    assert np.allclose(scale(film), scale(film.astype(np.float64) * 0.25 - 77), atol=1e-5)


def test_scale_falls_back_on_minimum_and_maximum():
    film = np.full((100, 100), 50, np.uint8)
    film[3, 4] = 200
    assert scale(film)[3, 4] == 1
    assert scale(film).sum() == 1


@pytest.mark.parametrize(("height", "width"), [(30, 50), (50, 30), (31, 50), (40, 40)])
def test_crop_keeps_the_middle_square_and_says_which(height: int, width: int):
    film = RANDOM.random((height, width), np.float32)
    resized, square = resize(film, 16, "crop")
    side = min(height, width)
    assert square == Square((height - side) // 2, (width - side) // 2, side, side)
    kept = film[square.top : square.top + side, square.left : square.left + side]
    expected = Image.fromarray(np.ascontiguousarray(kept)).resize((16, 16), Image.Resampling.LANCZOS)
    assert np.allclose(resized, np.clip(np.asarray(expected), 0, 1), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("height", "width"), [(30, 51), (50, 30)])
def test_pad_keeps_the_whole_film_on_black(height: int, width: int):
    film = RANDOM.random((height, width), np.float32)
    side = max(height, width)
    resized, square = resize(film, side, "pad")
    assert square.height == square.width == side
    assert np.array_equal(resized[-square.top :, -square.left :][:height, :width], film)
    assert resized.sum(dtype=np.float64) == pytest.approx(film.sum(dtype=np.float64))


def test_squash_shows_everything():
    film = RANDOM.random((30, 50), np.float32)
    resized, square = resize(film, 16, "squash")
    expected = Image.fromarray(film).resize((16, 16), Image.Resampling.LANCZOS)
    assert square == Square(0, 0, 30, 50)
    assert np.allclose(resized, np.clip(np.asarray(expected), 0, 1), rtol=0, atol=1e-6)


def test_a_fine_grating_is_averaged_not_aliased():
    grating = np.tile(np.array([0, 1], np.float32), (256, 128))
    resized, _ = resize(grating, 32)
    assert np.abs(resized - 0.5)[:, 1:-1].max() < 0.01


@pytest.mark.parametrize("fit", ["crop", "pad", "squash"])
def test_a_square_is_fitted_as_if_the_whole_film_were_scaled_first(fit: str):
    for film in (
        RANDOM.integers(0, 256, (300, 211), dtype=np.uint8),
        RANDOM.normal(0, 1e6, (97, 310)).astype(np.int32),
    ):
        fitted, square = fit_square(film, 64, fit)
        whole, same = resize(scale(film), 64, fit)
        assert square == same
        assert np.array_equal(fitted, whole)
        shown, _ = fit_square(Shown(film, scale(film)), 64, fit)
        assert np.array_equal(shown, whole)


def test_quantising_rounds_and_keeps_the_whole_range():
    values = np.array([[0, 0.5, 1.0, 1 / 255 * 0.51]], np.float32)
    assert quantise(values, 8).tolist() == [[0, 128, 255, 1]]
    assert quantise(values, 16).dtype == np.uint16
    assert quantise(values, 16)[0, 2] == 65535
    levels = (np.arange(65536) / 65535).astype(np.float32)
    assert np.array_equal(quantise(levels, 16), np.arange(65536))
