"""Films are shown as pydicom's own pipeline shows them, whatever they are stored like; MONOCHROME1 is inverted last."""

import io
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, get_frame
from pydicom.pixels import apply_modality_lut, apply_voi_lut
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from scarce_cxr.images.decode import Shown, Skipped, decode, scale

RANDOM = np.random.default_rng(0)
# Waves over a slope, so that every codec has something to do and no percentile falls on a step.
DOWN, ACROSS = np.mgrid[:48, :40]
WAVES = np.rint(1500 + 900 * np.sin(DOWN / 5) * np.cos(ACROSS / 7) + 20 * DOWN + RANDOM.integers(0, 30, (48, 40)))
DEEP = WAVES.astype(np.uint16)
SIGNED = (WAVES - 1900).astype(np.int16)
GREY = (WAVES // 16).astype(np.uint8)


def lut_item(first: int, entries: np.ndarray, bits: int) -> Dataset:
    item = Dataset()
    item.add_new("LUTDescriptor", "SS" if first < 0 else "US", [len(entries), first, bits])
    item.add_new("LUTData", "OW", entries.astype("<u2").tobytes())
    return item


CURVE = np.rint(4095 * np.linspace(0, 1, 3000) ** 0.7)
STEEP = np.rint(65535 * np.linspace(1, 0, 5000) ** 2)

# By name: stored values, and the elements that say what they mean.
FEATURES = {
    "window": (DEEP, {"BitsStored": 12, "WindowCenter": 1800, "WindowWidth": 1500}),
    "several windows": (DEEP, {"BitsStored": 12, "WindowCenter": [1500, 300], "WindowWidth": [2000, 100]}),
    "exact": (DEEP, {"BitsStored": 12, "WindowCenter": 1800, "WindowWidth": 1500, "VOILUTFunction": "LINEAR_EXACT"}),
    "sigmoid": (DEEP, {"BitsStored": 12, "WindowCenter": 1800, "WindowWidth": 1500, "VOILUTFunction": "SIGMOID"}),
    "signed": (SIGNED, {"BitsStored": 12, "WindowCenter": -100, "WindowWidth": 900}),
    "rescale": (
        DEEP,
        {"BitsStored": 12, "RescaleSlope": 0.5, "RescaleIntercept": -10, "WindowCenter": 800, "WindowWidth": 700},
    ),
    "negative slope": (
        DEEP,
        {"BitsStored": 12, "RescaleSlope": -1, "RescaleIntercept": 4095, "WindowCenter": 2500, "WindowWidth": 1500},
    ),
    "bytes": (GREY, {"WindowCenter": 120, "WindowWidth": 90}),
    "modality table": (
        DEEP,
        {"BitsStored": 12, "ModalityLUTSequence": [lut_item(400, STEEP, 16)], "WindowCenter": 9e3, "WindowWidth": 2e4},
    ),
    "VOI table": (DEEP, {"BitsStored": 12, "VOILUTSequence": [lut_item(600, CURVE, 12)]}),
    "several VOI tables": (
        DEEP,
        {"BitsStored": 12, "VOILUTSequence": [lut_item(600, CURVE, 12), lut_item(0, STEEP, 16)]},
    ),
    "VOI table before window": (
        DEEP,
        {"BitsStored": 12, "VOILUTSequence": [lut_item(600, CURVE, 12)], "WindowCenter": 50, "WindowWidth": 50},
    ),
    "VOI table of signed values": (SIGNED, {"BitsStored": 12, "VOILUTSequence": [lut_item(-1000, CURVE, 12)]}),
}


def reference(path: Path) -> np.ndarray:
    """The film by pydicom's own way, its output range mapped to [0, 1]; MONOCHROME1 inverted at the very end."""
    header = dcmread(path)
    units = apply_modality_lut(header.pixel_array, header)
    shown = apply_voi_lut(units, header)
    if "VOILUTSequence" in header:
        low, high = 0, 2 ** header.VOILUTSequence[0].LUTDescriptor[2] - 1
    elif "ModalityLUTSequence" in header:
        low, high = 0, 2 ** header.ModalityLUTSequence[0].LUTDescriptor[2] - 1
    else:
        half = 2 ** (header.BitsStored - 1)
        ends = np.array([-half, half - 1] if header.PixelRepresentation else [0, 2 * half - 1])
        low, high = apply_modality_lut(ends, header)
    if "WindowCenter" not in header and "VOILUTSequence" not in header:
        film = scale(units)
    else:
        film = (shown.astype(np.float64) - float(low)) / (float(high) - float(low))
    return 1 - film if header.PhotometricInterpretation == "MONOCHROME1" else film


@pytest.mark.parametrize("photometric", ["MONOCHROME2", "MONOCHROME1"])
@pytest.mark.parametrize("feature", FEATURES)
def test_every_transform_agrees_with_pydicom(write_dicom, tmp_path: Path, feature: str, photometric: str):
    pixels, elements = FEATURES[feature]
    path = write_dicom(tmp_path / "a.dcm", pixels, PhotometricInterpretation=photometric, **elements)
    shown = decode(path)
    assert np.array_equal(shown.values, pixels)
    assert shown.film.dtype == np.float32
    assert np.ptp(shown.film) > 0.3
    assert np.abs(shown.film - reference(path)).max() < 1e-6


@pytest.mark.parametrize(
    "syntax",
    [
        ImplicitVRLittleEndian,
        ExplicitVRLittleEndian,
        ExplicitVRBigEndian,
        RLELossless,
        JPEGLSLossless,
        JPEG2000Lossless,
    ],
)
@pytest.mark.parametrize("pixels", [DEEP, SIGNED, GREY], ids=["unsigned", "signed", "bytes"])
def test_no_transfer_syntax_changes_a_value(write_dicom, tmp_path: Path, syntax, pixels: np.ndarray):
    path = write_dicom(tmp_path / "a.dcm", pixels, syntax, BitsStored=8 if pixels is GREY else 12)
    assert np.array_equal(decode(path).values, pixels)


def test_lossless_jpeg_is_read(write_dicom, tmp_path: Path):
    gdcm = pytest.importorskip("gdcm")
    source = write_dicom(tmp_path / "plain.dcm", DEEP, BitsStored=12)
    reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
    reader.SetFileName(str(source))
    assert reader.Read()
    change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14_1))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer.SetFileName(str(tmp_path / "jpeg.dcm"))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()
    assert dcmread(tmp_path / "jpeg.dcm").file_meta.TransferSyntaxUID == JPEGLosslessSV1
    assert np.array_equal(decode(tmp_path / "jpeg.dcm").values, DEEP)


def test_lossy_jpeg_is_what_pillow_reads_of_it(write_dicom, tmp_path: Path):
    jpeg = io.BytesIO()
    Image.fromarray(GREY).save(jpeg, "JPEG")
    path = write_dicom(
        tmp_path / "a.dcm",
        jpeg.getvalue(),
        JPEGBaseline8Bit,
        Rows=48,
        Columns=40,
        SamplesPerPixel=1,
        PhotometricInterpretation="MONOCHROME2",
        BitsAllocated=8,
        BitsStored=8,
        PixelRepresentation=0,
    )
    assert np.array_equal(decode(path).values, np.asarray(Image.open(jpeg)))


def test_real_films_agree_with_pydicom(real_dicom: Path):
    paths = sorted(real_dicom.glob("*.dcm"))
    assert len(paths) == 10
    for path in paths:
        shown = decode(path)
        assert np.array_equal(shown.values, dcmread(path).pixel_array), path.name
        assert np.abs(shown.film - reference(path)).max() < 1e-6, path.name


def test_a_real_film_whose_flag_alone_was_changed_comes_out_as_a_negative(real_dicom: Path):
    film, flagged = (decode(real_dicom / f"rsna_jpeg_{name}.dcm").film for name in ("mono2", "mono1_flagonly"))
    assert np.array_equal(flagged, 1 - film)


def test_a_real_monochrome1_film_has_bright_bones(real_dicom: Path):
    film = decode(real_dicom / "wg04_rg1_mono1_jpeg2000.dcm").film
    # The air beside the neck is dark, the mediastinum is bright.
    assert film[:100, :100].mean() < 0.6 < 0.8 < film[900:1100, 870:970].mean()


@pytest.mark.parametrize("voi", ["window", "full", "percentile"])
@pytest.mark.parametrize("feature", ["window", "exact", "sigmoid", "signed", "negative slope", "plain"])
def test_monochrome1_with_inverted_pixels_is_the_same_film(write_dicom, tmp_path: Path, feature: str, voi):
    pixels, elements = FEATURES.get(feature, (DEEP, {"BitsStored": 12}))
    first = write_dicom(tmp_path / "2.dcm", pixels, PhotometricInterpretation="MONOCHROME2", **elements)
    # Stored upside down: the value v becomes top - v; the rescaling is turned along, so that the units stay.
    low, high = (-2048, 2047) if pixels.dtype.kind == "i" else (0, 4095)
    slope, intercept = elements.get("RescaleSlope", 1), elements.get("RescaleIntercept", 0)
    turned = {"RescaleSlope": slope, "RescaleIntercept": intercept}
    if "WindowCenter" in elements:
        ends = slope * (low + high) + 2 * intercept
        # LINEAR is not quite symmetric about its centre: its middle lies half a unit below.
        shift = 1 if "VOILUTFunction" not in elements else 0
        turned["WindowCenter"] = ends - elements["WindowCenter"] + shift
    inverted = (low + high - pixels.astype(int)).astype(pixels.dtype)
    second = write_dicom(
        tmp_path / "1.dcm", inverted, PhotometricInterpretation="MONOCHROME1", **{**elements, **turned}
    )
    assert np.abs(decode(first, voi=voi).film - decode(second, voi=voi).film).max() < 1e-6


def test_the_presentation_shape_inverts_too_but_never_twice(write_dicom, tmp_path: Path):
    films = {}
    for photometric in ("MONOCHROME1", "MONOCHROME2"):
        for shape in (None, "IDENTITY", "INVERSE"):
            path = tmp_path / f"{photometric}-{shape}.dcm"
            write_dicom(path, GREY, PhotometricInterpretation=photometric, PresentationLUTShape=shape)
            films[photometric[-1], shape] = decode(path).film
    plain = films["2", None]
    assert np.array_equal(films["2", "IDENTITY"], plain)
    for inverted in (("1", None), ("1", "IDENTITY"), ("1", "INVERSE"), ("2", "INVERSE")):
        assert np.array_equal(films[inverted], 1 - plain)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize(
    "elements", [{"PixelPaddingValue": 4000}, {"PixelPaddingValue": 3990, "PixelPaddingRangeLimit": 4010}]
)
def test_padding_is_black_and_counts_in_no_statistic(write_dicom, tmp_path: Path, elements: dict, photometric: str):
    padded = DEEP.copy()
    padded[:, :8] = 4000
    path = write_dicom(tmp_path / "a.dcm", padded, BitsStored=12, PhotometricInterpretation=photometric, **elements)
    for voi in ("full", "percentile"):
        film = decode(path, voi=voi).film
        bare = write_dicom(tmp_path / "b.dcm", DEEP[:, 8:].copy(), BitsStored=12, PhotometricInterpretation=photometric)
        assert (film[:, :8] == 0).all()
        assert np.array_equal(film[:, 8:], decode(bare, voi=voi).film)


def test_signed_padding_and_strange_bits(write_dicom, tmp_path: Path):
    signed = SIGNED.copy()
    signed[0] = -2048
    # The four highest bits of the words hold an overlay.
    stored = (signed & 0x0FFF).astype(np.int16)
    stored[:, ::3] |= 0x5000
    shown = decode(write_dicom(tmp_path / "a.dcm", stored, BitsStored=12, PixelPaddingValue=-2048), voi="full")
    assert np.array_equal(shown.values, signed)
    assert (shown.film[0] == 0).all()
    assert shown.film[1:].max() == 1


def test_full_and_percentile_ignore_the_window(write_dicom, tmp_path: Path):
    path = write_dicom(tmp_path / "a.dcm", DEEP, BitsStored=12, WindowCenter=100, WindowWidth=10)
    low, high = int(DEEP.min()), int(DEEP.max())
    assert np.allclose(decode(path, voi="full").film, (DEEP.astype(float) - low) / (high - low), atol=1e-6)
    assert np.allclose(decode(path, voi="percentile").film, scale(DEEP), atol=1e-6)


@pytest.mark.parametrize(
    "window",
    [{}, {"WindowCenter": 60000, "WindowWidth": 10}, {"WindowCenter": 9, "WindowWidth": 0}, {"WindowWidth": 9}],
)
def test_where_no_window_shows_anything_the_films_own_range_does(write_dicom, tmp_path: Path, window: dict):
    path = write_dicom(tmp_path / "a.dcm", DEEP, BitsStored=12, **window)
    assert np.allclose(decode(path).film, scale(DEEP), atol=1e-6)


@pytest.mark.parametrize(("slope", "intercept"), [("0", "0"), ("1E300", "0"), ("1", "-1E300")])
def test_an_impossible_rescaling_is_none(write_dicom, tmp_path: Path, slope: str, intercept: str):
    path = write_dicom(tmp_path / "a.dcm", DEEP, BitsStored=12, RescaleSlope=slope, RescaleIntercept=intercept)
    for voi in ("window", "full"):
        bare = decode(write_dicom(tmp_path / "b.dcm", DEEP, BitsStored=12), voi=voi)
        assert np.array_equal(decode(path, voi=voi).film, bare.film)


def test_colour_captures_become_grey(write_dicom, tmp_path: Path):
    colour = RANDOM.integers(0, 256, (20, 30, 3), dtype=np.uint8)
    luma = colour @ np.array([0.299, 0.587, 0.114])
    planes = np.ascontiguousarray(colour.transpose(2, 0, 1)).tobytes()
    ybr = np.asarray(Image.fromarray(colour).convert("YCbCr"))
    shape = {"Rows": 20, "Columns": 30, "SamplesPerPixel": 3, "BitsAllocated": 8, "BitsStored": 8}
    shape |= {"PixelRepresentation": 0, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 1}
    paths = [
        write_dicom(tmp_path / "rgb.dcm", colour),
        write_dicom(tmp_path / "planes.dcm", planes, **shape),
        write_dicom(tmp_path / "rle.dcm", colour, RLELossless),
    ]
    for path in paths:
        assert np.abs(decode(path).values - luma).max() <= 0.51
    path = write_dicom(tmp_path / "ybr.dcm", ybr, PhotometricInterpretation="YBR_FULL")
    assert np.abs(decode(path).values - luma).max() <= 2
    jpeg = io.BytesIO()
    Image.fromarray(colour).resize((60, 40)).save(jpeg, "JPEG", quality=95)
    shape |= {"Rows": 40, "Columns": 60, "PhotometricInterpretation": "YBR_FULL_422", "PlanarConfiguration": 0}
    path = write_dicom(tmp_path / "jpeg.dcm", jpeg.getvalue(), JPEGBaseline8Bit, **shape)
    assert np.abs(decode(path).values - np.asarray(Image.open(jpeg).convert("L")).astype(int)).max() <= 2


def without_preamble(path: Path) -> bytes:
    return path.read_bytes()[132:]


def without_meta(path: Path) -> bytes:
    content = path.read_bytes()
    length = int.from_bytes(content[140:144], "little")
    return content[144 + length :]


@pytest.mark.parametrize("cut", [without_preamble, without_meta])
@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian])
def test_preamble_and_transfer_syntax_may_be_missing(write_dicom, tmp_path: Path, cut: Callable, syntax):
    path = write_dicom(tmp_path / "a", DEEP, syntax, BitsStored=12, WindowCenter=1800, WindowWidth=1500)
    expected = decode(path)
    path.write_bytes(cut(path))
    assert np.array_equal(decode(path).film, expected.film)


def test_a_header_that_says_the_least_is_completed(write_dicom, tmp_path: Path):
    keywords = ("SamplesPerPixel", "PhotometricInterpretation", "BitsStored", "HighBit", "PixelRepresentation")
    path = write_dicom(tmp_path / "a.dcm", GREY, **dict.fromkeys(keywords))
    assert np.array_equal(decode(path).values, GREY)


def test_deflated_files_are_read(write_dicom, tmp_path: Path):
    path = write_dicom(tmp_path / "a.dcm", DEEP, BitsStored=12)
    path.write_bytes(deflated(without_meta(path)))
    assert np.array_equal(decode(path).values, DEEP)


def deflated(content: bytes) -> bytes:
    """A file of the deflated transfer syntax around a header and pixels."""
    packer = zlib.compressobj(wbits=-15)
    syntax = b"\x02\x00\x10\x00UI\x16\x001.2.840.10008.1.2.1.99"
    meta = b"\x02\x00\x00\x00UL\x04\x00" + len(syntax).to_bytes(4, "little") + syntax
    return bytes(128) + b"DICM" + meta + packer.compress(content) + packer.flush()


def test_one_frame_is_a_film_and_several_are_not(write_dicom, tmp_path: Path):
    assert np.array_equal(decode(write_dicom(tmp_path / "1.dcm", GREY, NumberOfFrames=1)).values, GREY)
    stack = np.stack([GREY, GREY]).tobytes()
    path = write_dicom(tmp_path / "2.dcm", stack, Rows=48, Columns=40, BitsAllocated=8, BitsStored=8, NumberOfFrames=2)
    with pytest.raises(Skipped, match="several frames: 2"):
        decode(path)


def test_blank_films_are_skipped_padded_ones_too(write_dicom, tmp_path: Path):
    blank = np.full((20, 20), 7, np.uint8)
    half = blank.copy()
    half[:, :10] = 200
    for name, pixels, padding in (("a", blank, None), ("b", half, 200), ("c", np.repeat(blank[..., None], 3, 2), None)):
        with pytest.raises(Skipped, match="blank"):
            decode(write_dicom(tmp_path / f"{name}.dcm", pixels, PixelPaddingValue=padding))


def test_pictures_are_decoded_as_ever_and_dicom_whatever_its_name(write_dicom, tmp_path: Path):
    Image.fromarray(GREY).save(tmp_path / "film.dcm", "PNG")
    assert np.array_equal(decode(tmp_path / "film.dcm"), GREY)
    shown = decode(write_dicom(tmp_path / "film.png", GREY))
    assert isinstance(shown, Shown)
    assert scale(shown) is shown.film


def test_fragments_are_joined(write_dicom, tmp_path: Path):
    path = write_dicom(tmp_path / "a.dcm", GREY, RLELossless)
    header = dcmread(path)
    frame = get_frame(header.PixelData, 0, number_of_frames=1)
    header.PixelData = encapsulate([frame], fragments_per_frame=4, has_bot=False)
    header.save_as(path)
    assert np.array_equal(decode(path).values, GREY)
