"""The page holds everything inside, works in a browser without a network, and takes what comes from data as text."""

import json
import re

import pytest
from tests.report.shown import EVIL

from scarce_cxr.commands.report import report
from scarce_cxr.report.fewshot import read_few_shot
from scarce_cxr.report.outcome import find_outcome
from scarce_cxr.report.page import MOST_BYTES, write_page
from scarce_cxr.report.runs import read_runs
from scarce_cxr.training.run_folder import RunFolder


@pytest.fixture(scope="module")
def page(run, trials, tmp_path_factory):
    """Of one run, with everything that a page can have."""
    return _written(report([str(run)], [trials], tmp_path_factory.mktemp("one") / "page.html"))


@pytest.fixture(scope="module")
def several(run, other_run, tmp_path_factory):
    return _written(report([str(run), str(other_run)], out=tmp_path_factory.mktemp("two") / "page.html"))


@pytest.fixture(scope="module")
def redacted(run, trials, tmp_path_factory):
    return _written(report([str(run)], [trials], tmp_path_factory.mktemp("redacted") / "page.html", redact=True))


@pytest.fixture
def visit(browser):
    """Opens a page; whatever it asks for or complains of fails the test."""
    tabs, asked, complaints = [], [], []

    def opened(path, width: int = 1280, **settings):
        tab = browser.new_page(viewport={"width": width, "height": 900}, **settings)
        tabs.append(tab)
        tab.on("request", lambda request: asked.append(request.url))
        tab.on("console", lambda message: complaints.append(message.text))
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        tab.on("dialog", lambda dialog: (complaints.append(dialog.message), dialog.dismiss()))
        tab.goto(path.as_uri())
        return tab

    yield opened
    for tab in tabs:
        tab.close()
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    assert complaints == []


def test_nothing_could_be_fetched_and_only_the_pages_own_scripts_run(page, browser):
    text = page.read_text(encoding="utf-8")
    assert len(text.encode()) < MOST_BYTES
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1].replace("&#39;", "'")
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy.partition("style-src")[0]
    assert "http" not in policy
    tab = browser.new_page()
    refused = []
    tab.on("console", lambda message: refused.append(message.text))
    tab.goto(page.as_uri())
    tab.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=\"https://example.org/a.png\">')")
    tab.evaluate("document.body.appendChild(document.createElement('script')).text = 'window.ran = 1'")
    tab.wait_for_timeout(100)
    assert len(refused) == 2
    assert all("Content Security Policy" in words for words in refused)
    assert tab.evaluate("window.ran") is None
    tab.close()


def test_markup_in_names_is_text(page, visit):
    assert EVIL not in page.read_text(encoding="utf-8")
    tab = visit(page)
    assert tab.locator("h1").inner_text() == "Run a <run>"
    assert EVIL in tab.locator("select.coloring option").all_inner_texts()
    assert EVIL in tab.locator("#finding option").all_inner_texts()
    assert EVIL in tab.locator("#data th").all_inner_texts()
    assert "SparK: <b>so</b>." in tab.locator("#verdict").inner_text()
    assert "<i>less</i>" in tab.locator("#verdict li").first.inner_text()
    assert "# <tag>" in tab.locator("#recipe pre").text_content()
    assert re.fullmatch(r"film-\d\d-\d<i>", tab.locator(".one-film .id").inner_text())
    # In the figures too, whose library reads some tags.
    names = tab.locator("#plot-finding .legendtext").all_text_contents()
    assert "<u>moco</u>" in names
    assert tab.locator("#plot-finding .legendtext [style*=underline]").count() == 0


def test_the_first_card_says_what_few_labels_bought_and_caveats_are_open(run, better_trials, page, visit, tmp_path):
    tried = visit(_written(report([str(run)], [better_trials], tmp_path / "page.html", films=0)))
    card = tried.locator("#verdict article")
    said = find_outcome(read_runs([run])[0], read_few_shot([better_trials]).outcomes)
    assert f"Few labels: {said.words}." in card.inner_text()
    assert "says nothing of how useful the features are" in card.inner_text()
    # Of trials of other starts nothing is said.
    other = visit(page)
    assert "Few labels" not in other.locator("#verdict").inner_text()
    assert other.locator("#few-shot .warnings li").first.is_visible()
    assert "those trained on are among them" in other.locator("#films").inner_text()


def test_the_slider_shows_one_step_at_a_time(page, visit):
    tab = visit(page)
    pictures = tab.locator(".steps figure")
    assert [picture.is_visible() for picture in pictures.all()] == [False, False, True]
    tab.locator(".steps input").fill("1")
    assert [picture.is_visible() for picture in pictures.all()] == [False, True, False]
    assert tab.locator(".steps output").inner_text() == "10"
    assert pictures.nth(1).locator("img").get_attribute("alt") == "Reconstructions after step 10"
    tab.locator(".steps input").focus()
    tab.keyboard.press("ArrowRight")
    assert tab.locator(".steps output").inner_text() == "20"


def test_the_wipe_uncovers_the_last_step_over_the_first(page, visit):
    tab = visit(page)
    first, last = tab.locator(".both img").all()
    sources = [picture.get_attribute("src") for picture in tab.locator(".steps img").all()]
    assert [first.get_attribute("src"), last.get_attribute("src")] == [sources[0], sources[-1]]
    tab.locator(".wipe input").fill("80")
    assert last.evaluate("picture => getComputedStyle(picture).clipPath").endswith("80%)")
    box = tab.locator(".both").bounding_box()
    tab.mouse.click(box["x"] + box["width"] / 4, box["y"] + box["height"] / 2)
    assert float(tab.locator(".wipe input").input_value()) == pytest.approx(25, abs=1)
    assert last.evaluate("picture => getComputedStyle(picture).clipPath").endswith("25%)")


def test_pointing_at_the_map_shows_the_film_and_its_neighbours(page, visit, store):
    tab = visit(page)
    row = int(tab.locator("input.chosen").input_value())
    point = tab.locator(".map .scatterlayer .trace").first.locator("path.point").nth(3)
    point.scroll_into_view_if_needed()
    point.hover(force=True)
    tab.wait_for_function("row => document.querySelector('.chosen').value != row", arg=row)
    chosen = int(tab.locator("input.chosen").input_value())
    data = json.loads(tab.locator("#numbers").text_content())["maps"][0]
    name = tab.locator(".one-film .id").inner_text()
    assert name == data["names"][chosen]
    table = store.table.set_index("image_id")
    assert (EVIL in tab.locator(".one-film .words").inner_text()) == bool(table.loc[name, EVIL] == 1)
    neighbours = [data["names"][other] for other in data["maps"][0]["neighbours"][chosen]]
    assert table.loc[name, "patient_id"] not in set(table.loc[neighbours, "patient_id"])
    tab.locator(".near button").first.click()
    assert tab.locator(".one-film .id").inner_text() == neighbours[0]
    tab.locator("input.chosen").fill("0")
    assert tab.locator(".one-film .id").inner_text() == data["names"][0]
    assert tab.locator(".one-film output").inner_text() == "1 of 60"


def test_the_map_changes_layout_and_colours(page, visit):
    tab = visit(page)
    first = tab.locator(".map .scatterlayer .trace").first.locator("path.point").first
    places = [first.get_attribute("transform")]
    for what, groups in (
        (EVIL, {"with it 20", "without it 40"}),
        ("view", {"PA 30", "AP 30"}),
        ("sex", {"F 32", "M 28"}),
        ("pretraining", None),
        ("split", None),
    ):
        tab.locator("select.coloring").select_option(what)
        said = [words[1:].strip() for words in tab.locator(".legend li").all_inner_texts()]
        assert groups is None or set(said) == groups
        assert sum(int(words.split()[-1]) for words in said) == 60
    layouts = tab.locator("select.layout option").all_inner_texts()
    assert [words.partition(":")[0] for words in layouts] == ["PCA", "t-SNE"]
    tab.locator("select.layout").select_option(index=1)
    assert first.get_attribute("transform") not in places


def test_another_finding_and_another_number_are_drawn(page, visit):
    tab = visit(page)
    for select, plot, choice in (("#finding", "#plot-finding", "Mass"), ("#number", "#plot-number", "grad norm")):
        lines = tab.locator(f"{plot} .js-line")
        before = lines.first.get_attribute("d")
        tab.locator(select).select_option(choice)
        assert lines.first.get_attribute("d") != before
    # Parts of the loss come before what the loop says of itself.
    assert tab.locator("#number option").all_inner_texts()[0] == "part"


def test_runs_are_switched_on_and_off_everywhere(several, visit):
    tab = visit(several)
    assert "no image information" in tab.locator("#verdict article").nth(1).inner_text()
    rows = {
        row.locator("th").inner_text(): row.locator("td").all_inner_texts()
        for row in tab.locator("#recipe tbody tr").all()
    }
    assert rows["method.decoder_width"] == ["8", "16"]
    lines = tab.locator("[data-figure=error] .js-line")
    assert lines.count() == 2
    tab.get_by_role("checkbox", name="other").uncheck()
    assert lines.count() == 1
    assert [part.is_visible() for part in tab.locator("#verdict article").all()] == [True, False]
    tab.get_by_role("checkbox", name="other").check()
    assert lines.count() == 2
    tab.locator("select.which").select_option("other")
    assert tab.locator(".one-film .id").inner_text().startswith("film-")


def test_it_turns_dark_by_the_system_or_by_hand_and_light_on_paper(page, visit):
    tab = visit(page, color_scheme="dark")
    ground = "getComputedStyle(document.body).backgroundColor"
    line = "getComputedStyle(document.querySelector('[data-figure=error] .js-line')).stroke"
    dark = tab.evaluate(ground), tab.evaluate(line)
    tab.get_by_label("light").check()
    light = tab.evaluate(ground), tab.evaluate(line)
    assert dark[0] != light[0]
    assert dark[1] != light[1]
    tab.get_by_label("dark", exact=True).check()
    assert (tab.evaluate(ground), tab.evaluate(line)) == dark
    tab.emulate_media(media="print")
    tab.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert tab.evaluate(line) == light[1]
    # The first step and the last are on paper, and the recipe is unfolded.
    assert [picture.is_visible() for picture in tab.locator(".steps figure").all()] == [True, False, True]
    assert tab.locator("#recipe pre").is_visible()
    assert not tab.locator(".wipe").is_visible()
    tab.emulate_media(media="screen")
    tab.evaluate("dispatchEvent(new Event('afterprint'))")
    assert (tab.evaluate(ground), tab.evaluate(line)) == dark


@pytest.mark.slow
@pytest.mark.parametrize(("name", "width", "scheme"), [("page", 390, "light"), ("several", 1280, "dark")])
def test_no_serious_fault_of_accessibility_and_nothing_too_wide(request, visit, name, width, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    tab = visit(request.getfixturevalue(name), width, color_scheme=scheme)
    for details in tab.locator("details").all():
        details.evaluate("part => { part.open = true }")
    assert tab.evaluate("document.documentElement.scrollWidth") == width
    faults = [
        f"{fault['id']}: {fault['nodes'][0]['html'][:200]}"
        for fault in axe.run(tab).response["violations"]
        if fault["impact"] in ("serious", "critical")
    ]
    assert faults == []


def test_redaction_leaves_no_film_behind(page, redacted, visit, store):
    kept, left = page.read_text(encoding="utf-8"), redacted.read_text(encoding="utf-8")
    names = [name.removesuffix("<i>") for name in store.table["image_id"]]
    assert "data:image" in kept
    assert any(name in kept for name in names)
    # The library's own icons are no pictures of films.
    contents = left.replace(re.search(r"<script>.*?</script>", left, re.DOTALL)[0], "")
    assert "data:image" not in contents
    assert "base64" not in contents
    assert "<img" not in contents
    assert not any(name in contents for name in names)
    tab = visit(redacted)
    assert tab.locator(".map .plot path.point").count() == 60
    assert "Films are left out" in tab.locator("header").inner_text()


def test_a_run_ends_with_a_page_of_its_own_without_computing_a_map(run, store, visit):
    written = write_page(RunFolder(run), store.path)
    assert written == run / "report.html"
    tab = visit(written)
    assert "0.400" in tab.locator(".facts").inner_text()
    assert "Research use only" in tab.locator("header").inner_text()
    assert tab.locator(".steps figure").count() == 3
    assert tab.locator(".map").count() == 0


def _written(result):
    return dict(result.files)["page"]
