"""The page holds everything inside and works in a browser without a network."""

import shutil

import numpy as np
import pytest

from scarce_cxr.figures import theme
from scarce_cxr.figures.grid import film_grid
from scarce_cxr.images.store import Store
from scarce_cxr.report.page import write_page
from scarce_cxr.training.run_folder import Metrics, RunFolder


@pytest.fixture
def page(small_store, tmp_path):
    run = RunFolder(tmp_path / "a <run>")
    run.path.mkdir()
    store = Store.open(small_store)
    run.write_state(state="finished", step=20, total=20, seconds=90.0, films=40, held_out=8, method="SparK")
    run.recipe.write_text("seed: 0  # <tag>\n")
    metrics = Metrics(run.metrics)
    for step, error in ((0, 1.01), (10, 0.6), (20, 0.4)):
        metrics.write("watch", step, 0, {"held_out_error": error})
        film = np.full((8, 8), step / 40)
        theme.save(film_grid([[film]], f"Step {step}"), run.figures / f"reconstruction-{step:07d}.png")
    return write_page(run, store.path)


def test_nothing_is_fetched_and_markup_is_escaped(page):
    text = page.read_text()
    assert "http" not in text.replace("http-equiv", "")
    assert "Run a &lt;run&gt;" in text
    assert "&lt;tag&gt;" in text
    assert "Research use only" in text


def test_the_slider_shows_one_step_at_a_time(page):
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no chromium on this machine")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--headless"])
        opened = browser.new_page()
        requests = []
        opened.on("request", lambda request: requests.append(request.url))
        opened.goto(page.as_uri())
        captions = opened.locator("figure:has(figcaption)")
        assert [captions.nth(i).is_visible() for i in range(3)] == [False, False, True]
        opened.locator("input[type=range]").fill("1")
        assert [captions.nth(i).is_visible() for i in range(3)] == [False, True, False]
        assert "0.400" in opened.locator(".facts").inner_text()
        assert [url for url in requests if not url.startswith(("file:", "data:"))] == []
        browser.close()
