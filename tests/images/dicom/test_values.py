"""From stored values to what is shown: pydicom's own transforms are the reference, and where it errs, the standard."""

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.pixels import apply_modality_lut, apply_windowing

from scarce_cxr.images.dicom.values import (
    Lut,
    Window,
    clean_bits,
    find_padding,
    look_up,
    rescale,
    show_through_lut,
    show_through_window,
    to_grey,
)

RANDOM = np.random.default_rng(0)


def described(**elements) -> Dataset:
    dataset = Dataset()
    dataset.PhotometricInterpretation, dataset.BitsStored, dataset.PixelRepresentation = "MONOCHROME2", 12, 0
    dataset.BitsAllocated = 16
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return dataset


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize(("slope", "intercept"), [(1, 0), (-2, 5000), (0.5, -300)])
def test_windows_show_what_pydicoms_show(function: str, slope: float, intercept: float):
    header = described(
        RescaleSlope=slope, RescaleIntercept=intercept, WindowCenter=700, WindowWidth=900, VOILUTFunction=function
    )
    values = RANDOM.integers(0, 4096, 5000)
    units = rescale(values, slope, intercept)
    assert np.array_equal(units, apply_modality_lut(values, header))
    # pydicom spreads the window's two ends over the range of the units, which a negative slope turns round.
    low, high = rescale(np.array([0, 4095]), slope, intercept)
    expected = (apply_windowing(units, header) - low) / (high - low)
    assert np.abs(show_through_window(units, Window(700, 900, function)) - expected).max() < 1e-12


def test_windows_of_least_width_are_a_step():
    shown = show_through_window(np.array([9, 10, 11]), Window(10.5, 1))
    assert shown.tolist() == [0, 0, 1]


def test_an_extreme_sigmoid_does_not_overflow():
    with np.errstate(over="raise"):
        shown = show_through_window(np.array([-65536.0, 65536]), Window(0, 1e-3, "SIGMOID"))
    assert shown == pytest.approx([0, 1])


def test_bits_around_the_value_are_cut_off():
    # 12 bits in 16: an overlay stands in the highest bit; the sign of the value is in its own highest one.
    assert clean_bits(np.array([0x8ABC, 0x0123], np.uint16), 12, 11).tolist() == [0xABC, 0x123]
    assert clean_bits(np.array([0x0FFF, 0x07FF], np.int16), 12, 11).tolist() == [-1, 2047]
    # The value stands in the upper 12 bits.
    assert clean_bits(np.array([0xABCD], np.uint16), 12, 15).tolist() == [0xABC]
    # A high bit that makes no sense is not believed.
    assert clean_bits(np.array([0x8ABC], np.uint16), 12, 3).tolist() == [0xABC]
    whole = RANDOM.integers(-32768, 32768, 100).astype(np.int16)
    assert np.array_equal(clean_bits(whole, 16, 15), whole)


def test_padding_is_found_in_the_values_or_in_what_was_stored():
    stored = np.array([[0x0FFF, 0xFFFF, 5, 6, 7]], np.uint16)
    values = clean_bits(stored, 12, 11)
    assert find_padding(stored, values, 12, 0xFFF).tolist() == [[True, True, False, False, False]]
    assert find_padding(stored, values, 12, 0xFFFF).tolist() == [[False, True, False, False, False]]
    assert find_padding(stored, values, 12, 7, 5).tolist() == [[False, False, True, True, True]]
    signed = np.array([[-2048, 3]], np.int16)
    assert find_padding(signed, signed, 12, -2048).tolist() == [[True, False]]
    bytes_ = np.array([[0, 255]], np.uint8)
    assert not find_padding(bytes_, bytes_, 8, 300).any()


def test_a_table_is_looked_up_as_by_pydicom():
    entries = RANDOM.integers(0, 65536, 1000)
    item = Dataset()
    item.LUTDescriptor, item.LUTData = [1000, 300, 16], entries.tolist()
    item["LUTData"].VR = "US"
    values = np.arange(2000)
    expected = apply_modality_lut(values, described(ModalityLUTSequence=[item]))
    assert np.array_equal(look_up(values, Lut(300, 16, entries)), expected)


def test_the_first_input_of_a_table_may_be_negative_without_saying_so():
    lut = Lut(65536 - 3, 8, np.array([10, 20, 30]))
    assert look_up(np.array([-4.0, -3, -2, -1, 5]), lut).tolist() == [10, 10, 20, 30, 30]


def test_a_table_of_eight_bits_may_have_more_than_256_entries():
    lut = Lut(0, 8, (np.arange(4096) // 16).astype(np.uint8))
    assert np.array_equal(show_through_lut(np.arange(4096), lut), (np.arange(4096) // 16) / 255)


def test_grey_colours_keep_their_value_and_others_become_luma():
    grey = np.repeat(np.arange(65536, dtype=np.uint16).reshape(256, 256, 1), 3, axis=2)
    assert np.array_equal(to_grey(grey), grey[..., 0])
    colour = RANDOM.integers(0, 256, (20, 30, 3), dtype=np.uint8)
    luma = np.asarray(Image.fromarray(colour).convert("L")).astype(int)
    assert np.abs(to_grey(colour) - luma).max() <= 1
