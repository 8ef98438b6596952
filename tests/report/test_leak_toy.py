"""The toy's numbers are counted by hand, and the page shows them in a browser without a network."""

import numpy as np
import pytest

from scarce_cxr.figures.leak import Strip
from scarce_cxr.report.leak_toy import strip_numbers, write_leak_toy

# Ones, masked in the middle, so that every value is a count over a power of nine.
VISIBLE = np.array([1, 1, 1, 0, 0, 0, 1, 1, 1], dtype=bool)
# By hand: the first layer's middle row counts 6 9 6 3 0 3 6 9 6 inputs, the rows beside it 4 6 4 2 0 2 4 6 4.
MIDDLE = [[9, 6, 3, 0, 3, 6, 9], [49, 42, 21, 14, 21, 42, 49]]


def smear(maps: np.ndarray) -> np.ndarray:
    """Sums, not means, of 3 x 3 with zeros around."""
    padded = np.pad(maps, 1)
    return sum(padded[row : row + 3, column : column + 9] for row in range(3) for column in range(3))


@pytest.fixture(scope="module")
def strip() -> Strip:
    pixels = np.tile(VISIBLE, (3, 1)).astype(float)
    first, exact = smear(pixels), smear(pixels) * VISIBLE
    second, exact_second = smear(first), smear(exact) * VISIBLE
    dense, third = np.stack([first / 9, second / 81, smear(second) / 729]), smear(exact_second) * VISIBLE / 729
    return Strip(pixels, VISIBLE, dense, np.stack([exact / 9, exact_second / 81, third]))


@pytest.fixture(scope="module")
def page(strip, tmp_path_factory):
    return write_leak_toy(strip, tmp_path_factory.mktemp("toy") / "toy.html")


@pytest.fixture
def opened(browser, page):
    """The page at a telephone's width; whatever it asks for or complains of fails the test."""
    tab = browser.new_page(viewport={"width": 390, "height": 844})
    asked, complaints = [], []
    tab.on("request", lambda request: asked.append(request.url))
    tab.on("console", lambda message: complaints.append(message.text))
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.goto(page.as_uri())
    yield tab
    assert asked == [page.as_uri()]
    assert complaints == []
    tab.close()


def read(tab) -> list[list[str]]:
    """The readings of the dense and of the exact encoder: inputs, centre input, output."""
    cells = tab.locator(".read tbody td").all_inner_texts()
    return [cells[0::2], cells[1::2]]


def test_inputs_that_hold_something_are_counted(strip):
    numbers = strip_numbers(strip)
    assert numbers["visible"] == VISIBLE.tolist()
    # A layer on, columns 4 and 6 are filled; another, column 5 too.
    assert numbers["dense"]["inputs"][:3] == [[9, 6, 3, 0, 3, 6, 9], [9, 9, 6, 6, 6, 9, 9], [9] * 7]
    assert numbers["exact"]["inputs"] == [[9, 6, 3, 0, 3, 6, 9]] * 4
    assert numbers["dense"]["remaining"] == [0, 6, 9, 9]
    assert numbers["exact"]["remaining"] == [0] * 4


def test_sizes_are_means_behind_the_mask_over_means_before_it(strip):
    numbers = strip_numbers(strip)
    # Of 9, visible: 42 in the middle row, 28 in each beside it, at 18 positions; masked: 6, 4 and 4, at 9.
    assert numbers["dense"]["level"][:2] == pytest.approx([1, 98 / 18 / 9], abs=1e-6)
    assert numbers["dense"]["size"][:2] == pytest.approx([0, (14 / 9) / (98 / 18)], abs=1e-6)
    assert numbers["exact"]["size"] == [0] * 4


def test_the_page_is_small_and_fetches_nothing(page):
    text = page.read_text(encoding="utf-8")
    assert len(text) < 200_000
    assert "http" not in text
    assert "src=" not in text
    assert "Research use only" in text


def test_every_place_reads_as_by_hand(opened):
    for place, count in enumerate(MIDDLE[0], start=1):
        opened.locator("#place").fill(str(place))
        seen = VISIBLE[place]
        output = f"{count / 9:.3f}" if count else "0"
        centre = "1.0" if seen else "0"
        expected = [[f"{count} of 9", centre, output], [f"{count} of 9", centre if seen else "none", output]]
        if not seen:
            expected[1][2] = "none"
        assert read(opened) == expected
        assert f"{place} of 7: column {place + 1}" in opened.locator("#where").inner_text()


def test_the_switch_goes_deeper_and_the_mask_wears_away(opened):
    captions = opened.locator("#dense figcaption, #exact figcaption")
    assert [caption.is_visible() for caption in captions.all()] == [True, True, False, False] * 2
    opened.get_by_label("2", exact=True).check()
    assert [caption.is_visible() for caption in captions.all()] == [True, True, True, False] * 2
    assert "9 of 9 masked not empty" in captions.nth(2).inner_text()
    assert "0 of 9 masked not empty" in captions.nth(6).inner_text()
    outputs = []
    for place in range(1, 8):
        opened.locator("#place").fill(str(place))
        outputs.append(read(opened)[0][2])
    assert outputs == [f"{count / 81:.3f}" for count in MIDDLE[1]]


def test_arrow_keys_move_the_kernel_wherever_the_focus_is(opened):
    opened.keyboard.press("ArrowRight")
    assert opened.locator("#place").input_value() == "2"
    opened.keyboard.press("ArrowLeft")
    opened.keyboard.press("ArrowLeft")
    assert opened.locator("#place").input_value() == "1"
    opened.get_by_label("Kernel's place").focus()
    opened.keyboard.press("ArrowRight")
    opened.keyboard.press("ArrowRight")
    assert opened.locator("#place").input_value() == "3"
    assert read(opened)[0] == ["3 of 9", "0", "0.333"]
    assert opened.locator("#place").get_attribute("aria-valuetext") == "3 of 7: column 4, masked"
    opened.get_by_label("1", exact=True).focus()
    opened.keyboard.press("ArrowRight")
    assert opened.get_by_label("2", exact=True).is_checked()
    assert opened.locator("#place").input_value() == "3"


def test_what_changes_is_said_aloud(opened):
    said = opened.locator("[aria-live=polite]")
    assert said.inner_text() == "Column 2 is visible: both encoders give 1.000."
    opened.locator("#place").fill("3")
    assert said.inner_text().startswith("Column 4 is masked, yet 3 of its 9 inputs are visible")
    opened.locator("#place").fill("4")
    assert "even the dense encoder gives 0" in said.inner_text()
    opened.get_by_label("2", exact=True).check()
    opened.locator("#place").fill("2")
    assert said.inner_text().endswith(f"{42 / 81:.3f} instead of {35 / 81:.3f}.")


def test_a_click_on_a_column_moves_the_kernel_there(opened):
    opened.locator("#dense td").nth(6).click()
    assert opened.locator("#place").input_value() == "6"


def test_nothing_is_wider_than_a_telephone(opened):
    opened.get_by_label("3", exact=True).check()
    assert opened.evaluate("document.documentElement.scrollWidth") == 390
