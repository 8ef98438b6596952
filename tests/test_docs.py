"""The documentation's site builds without a warning and opens without a network; what its pages tell to type, works.

Commands are collected by parsing every page, so that a new one is tested by itself: it is run as it stands, on small
things that its words stand for, shortened by settings behind its own.
"""

import argparse
import functools
import http.server
import importlib
import os
import re
import runpy
import shutil
import subprocess
import sys
import threading
import tomllib
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml
from matplotlib.figure import Figure
from PIL import Image
from tests.documented import ROOT, Command, commands, pages, read_commands, shown_files
from tests.images.sources import test_chexpert

# Miniatures of collections, under the names that pages give their folders.
from tests.images.sources.conftest import draw, draw_dicom  # noqa: F401
from tests.images.sources.test_mimic import miniature as mimic  # noqa: F401
from tests.images.sources.test_nih import archived as nih  # noqa: F401
from tests.images.sources.test_padchest import miniature as padchest  # noqa: F401
from tests.images.sources.test_rsna import miniature as rsna  # noqa: F401
from tests.images.sources.test_siim import miniature as siim  # noqa: F401
from tests.images.sources.test_vindr import miniature as vindr  # noqa: F401
from tests.stand_ins import StandIns, shortened

import scarce_cxr
from scarce_cxr.cli import COMMANDS as TABLE
from scarce_cxr.cli import main
from scarce_cxr.figures import theme
from scarce_cxr.results import Result

COMMANDS = commands()
# What a command is shortened by; of a recipe's commands the settings of `shortened` come first.
SHORTER = {
    "check": ["--jobs", "1"],
    "compare": ["--replicates", "100"],
    "explain": ["--films", "1"],
    "fetch": ["--table", "collections.yaml"],
    "finetune": ["--epochs", "1", "--shots", "1", "--draws", "1", "--findings", "Effusion"],
    "map": ["--films", "40", "--queries", "1"],
    "phantom": ["--images", "2", "--size", "64", "--jobs", "1"],
    "plan": ["--training.batch_size=16"],
    "plateau": ["--steps", "1", "--batch_size", "8"],
    "predict": ["--jobs", "1"],
    "prepare": ["--jobs", "1", "--size", "32"],
    "pretrain": ["--training.batch_size=16", "--training.devices=1"],
    "probe": ["--draws", "1", "--shots", "1", "--findings", "Effusion"],
    "report": ["--films", "12"],
    "benchmarks/monitor_overhead.py": ["--recipes", "small/moco", "--batch", "8", "--steps", "1", "--rounds", "1"],
    "benchmarks/prepare.py": ["--count", "8", "--rounds", "1", "--jobs", "2"],
    "benchmarks/probe.py": ["--draws", "1", "--share", "1000"],
    "benchmarks/spark_sparse.py": ["--backbone", "test_resnet", "--size", "64", "--batch", "2", "--rounds", "1"],
    "benchmarks/views.py": ["--size", "32", "--batch", "2", "--rounds", "1"],
}
SLOW = {"explain", "export", "finetune", "leak", "map", "plateau", "benchmarks/monitor_overhead.py"}

# Commands that are not run here, by their first words, and why; their options are parsed all the same.
NOT_RUN = {
    ("pip", "install"): "it would change the environment",
    ("pytest",): "it would run this test",
    ("scarce", "demo"): "minutes; CI goes the whole way",
    ("python", "studies/dino_factors.py"): "hours of training",
    ("python", "studies/blind_spot.py"): "an hour of training",
    ("python", "benchmarks/spark_sparse.py", "--memory"): "ResNet-50 at 224 pixels: minutes",
}
# Words that name folders and files which lie where the command is typed, by the fixtures that write them.
FOLDERS = {
    "CheXpert-v1.0-small": "chexpert",
    "ChinaSet_AllFiles": "shenzhen",
    "EXPORT": "export",
    "MontgomerySet": "montgomery",
    "fetch": "served",
    "labels.csv": "labels",
    "mimic-cxr-jpg": "mimic_jpg",
    "padchest": "padchest",
    "rsna-pneumonia-detection-challenge": "rsna",
    "siim": "siim",
    "vindr-cxr": "vindr",
}


@pytest.fixture(scope="module")
def things(tmp_path_factory, unpainted) -> StandIns:
    return StandIns(tmp_path_factory.mktemp("things"))


@pytest.fixture(scope="module")
def unpainted():
    """Figures are made, and their files are pictures, but empty: painting them would take most of the time.

    Nor does every run write its page: `scarce report` does.
    """

    def save(figure: Figure, path: Path) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8)).save(path)
        return path

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(theme, "save", save)
        patch.setattr("scarce_cxr.commands.pretrain.write_page", lambda folder, _: folder.path / "report.html")
        yield


@pytest.fixture(scope="module")
def done() -> set:
    """Commands that ran already, as they were settled: what two pages tell to type is run once."""
    return set()


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """Where a command is typed; what it wrote is not kept, as checkpoints of a hundred commands fill a disk."""
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    monkeypatch.chdir(ROOT)
    shutil.rmtree(tmp_path, ignore_errors=True)


@pytest.fixture
def chexpert(tmp_path: Path, draw) -> Path:  # noqa: F811
    folder = draw(tmp_path / "CheXpert-v1.0-small", *(f"train/{film}" for film in test_chexpert.FILMS))
    (folder / "train.csv").write_text(test_chexpert.train(folder.name))
    return folder


@pytest.fixture
def mimic_jpg(mimic: Path) -> Path:  # noqa: F811
    return mimic.rename(mimic.with_name("mimic-cxr-jpg"))


@pytest.fixture
def montgomery(tmp_path: Path, draw) -> Path:  # noqa: F811
    return draw(tmp_path / "MontgomerySet", *(f"CXR_png/MCUCXR_000{n}_{n % 2}.png" for n in range(4)))


@pytest.fixture
def shenzhen(tmp_path: Path, draw) -> Path:  # noqa: F811
    return draw(tmp_path / "ChinaSet_AllFiles", *(f"CXR_png/CHNCXR_000{n}_{n % 2}.png" for n in range(4)))


@pytest.fixture
def export(tmp_path: Path, draw_dicom) -> Path:  # noqa: F811
    for number in range(3):
        draw_dicom(tmp_path / "EXPORT" / f"{number}.dcm")
    return tmp_path / "EXPORT"


@pytest.fixture
def labels(tmp_path: Path, things: StandIns) -> Path:
    films = sorted(path.name for path in things.path("films").rglob("*.png"))
    rows = [f"{film},{number // 2},{number % 2}" for number, film in enumerate(films)]
    (tmp_path / "labels.csv").write_text("\n".join(["film,who,Pneumonia", *rows]) + "\n")
    return tmp_path / "labels.csv"


@pytest.fixture
def served(tmp_path: Path, nih: Path, montgomery: Path, monkeypatch):  # noqa: F811
    """A server of this test's own with two small collections, and a table that leads there."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    folder = nih.rename(tmp_path / "served")
    shutil.make_archive(str(folder / "MontgomerySet"), "zip", tmp_path, montgomery.name)
    handler = functools.partial(_Quiet, directory=folder)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    address = f"http://127.0.0.1:{server.server_address[1]}"
    names = sorted(path.name for path in folder.iterdir() if path.name != "MontgomerySet.zip")
    table = {
        kind: {
            "title": kind,
            "page": "https://example.org",
            "files": [{"name": name, "address": f"{address}/{name}"} for name in of],
        }
        for kind, of in (("nih", names), ("montgomery", ["MontgomerySet.zip"]))
    }
    (tmp_path / "collections.yaml").write_text(yaml.safe_dump(table))
    yield address
    server.shutdown()
    server.server_close()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_) -> None:
        pass


def prefix_of(typed: tuple[str, ...]) -> tuple[str, ...] | None:
    """The entry of `NOT_RUN` that a command is of; a script's options may stand anywhere."""
    for entry in NOT_RUN:
        count = 2 if entry[0] in ("python", "pip", "scarce") else 1
        if typed[:count] == entry[:count] and set(entry[count:]) <= set(typed[count:]):
            return entry
    return None


def is_slow(command: Command) -> bool:
    return prefix_of(command.typed) is None and (command.typed[1] in SLOW)


@pytest.mark.parametrize(
    "command",
    [pytest.param(of, marks=pytest.mark.slow if is_slow(of) else (), id=f"{of.page}:{of.line}") for of in COMMANDS],
)
def test_what_a_page_tells_to_type_works(command, things, done, folder, monkeypatch, request):
    typed = command.typed
    if prefix_of(typed):
        parse_only(typed, monkeypatch)
        return
    assert typed[0] in ("scarce", "python"), f"{' '.join(typed)}: add it to those that run, or to NOT_RUN with a reason"
    files = shown_files((ROOT / command.page).read_text())
    for name, content in files.items():
        (folder / name).write_text(content)
    for word in typed[1:]:
        if word in FOLDERS:
            request.getfixturevalue(FOLDERS[word])
    if "PYTHONPATH=." in command.words:
        monkeypatch.syspath_prepend(folder)
    words = [of for word in things.settle(typed[1:]) for of in expanded(word)]
    more = shorter(words)
    known = (what_differs(words, more), command.page if files else "")
    if known in done:
        parse_only((typed[0], *words, *more), monkeypatch)
    elif typed[0] == "scarce":
        assert main([*words, *more]) == 0
    else:
        run_script([*words, *more], monkeypatch)
    done.add(known)


def expanded(word: str) -> list[str]:
    """Files of the repository that a word with a star stands for, as a shell would find them there; or the word."""
    found = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob(word)) if "*" in word else []
    return found or [word]


def shorter(words: list[str]) -> list[str]:
    """What makes a command short, to be put behind it."""
    recipe = {"pretrain": words.index("--config") + 1 if "--config" in words else 0, "plan": 1}.get(words[0])
    trial = ["--trial=4"] if words[0] == "plan" and "--gpu" not in words else []
    return [*(shortened(words[recipe]) if recipe else []), *SHORTER.get(words[0], []), *trial]


def what_differs(words: list[str], more: list[str]) -> tuple[str, ...]:
    """A command's words without what it calls its results, and without the settings that those behind it replace."""
    replaced = {word.partition("=")[0] for word in more if word.startswith("--")} | {"--out", "--run"}
    left, skipping = [], False
    for word in words:
        skipping = word in replaced if word.startswith("--") else skipping
        if not skipping:
            left.append(word)
    return tuple(left)


def run_script(words: list[str], monkeypatch) -> None:
    monkeypatch.setattr(sys, "argv", words)
    runpy.run_path(str(ROOT / words[0]), run_name="__main__")


class Parsed(Exception):  # noqa: N818 (no error: the options were read, which is all that was asked for)
    """A script has read its options."""


def parse_only(typed: Sequence[str], monkeypatch) -> None:
    """Reads a command's options, and goes no further."""
    if typed[0] == "pip":
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        named = re.findall(r"\[(.*)\]", " ".join(typed))
        assert set(",".join(named).split(",")) - {""} <= extras.keys()
    elif typed[0] == "scarce":
        module = importlib.import_module(f"scarce_cxr.commands.{typed[1]}")
        name = "run" if hasattr(module, "parse") else typed[1]
        monkeypatch.setattr(module, name, functools.wraps(getattr(module, name))(lambda *_, **__: Result()))
        assert main(typed[1:]) == 0
    elif typed[0] == "python":
        parse = argparse.ArgumentParser.parse_args

        def stop(*arguments, **options):
            parse(*arguments, **options)
            raise Parsed

        monkeypatch.setattr(argparse.ArgumentParser, "parse_args", stop)
        with pytest.raises(Parsed):
            run_script(list(typed[1:]), monkeypatch)


def test_every_reason_not_to_run_a_command_is_needed():
    assert {prefix_of(command.typed) for command in COMMANDS} - {None} == NOT_RUN.keys()


def test_a_new_command_is_found_wherever_it_stands():
    page = """Text of `scarce nothing`.

    scarce one A  # why
    pip install b && uv run scarce two \\
        --c 'd e'

```console
$ scarce three
```

```text
scarce none
```

| `scarce four X` | what |

scarce none either

    PYTHONPATH=. scarce five
    other words
"""
    assert [(command.line, command.typed) for command in read_commands(page)] == [
        (3, ("scarce", "one", "A")),
        (4, ("pip", "install", "b")),
        (4, ("scarce", "two", "--c", "d e")),
        (8, ("scarce", "three")),
        (15, ("scarce", "four", "X")),
        (19, ("scarce", "five")),
    ]


def test_commands_in_a_sentence_are_of_the_table_of_commands():
    for path in pages():
        for name in re.findall(r"`(?:uv run )?scarce ([a-z]+)", path.read_text()):
            assert name in TABLE, f"{path.relative_to(ROOT)}: scarce {name}"
        for script in re.findall(r"(?<![\w/])((?:studies|benchmarks)/\w+\.py)", path.read_text()):
            assert (ROOT / script).is_file(), f"{path.relative_to(ROOT)}: {script}"


def test_the_readme_leads_to_files_that_are_there():
    for target in re.findall(r"\]\(([^)#:]+)\)", (ROOT / "README.md").read_text()):
        assert (ROOT / target).exists(), target


def test_a_recipes_heading_tells_to_run_that_recipe():
    for path in sorted((ROOT / "recipes").rglob("*.yaml")):
        (line,) = re.findall(r"^# Command: +(.*)$", path.read_text(), re.MULTILINE)
        name = str(path.relative_to(ROOT))
        assert line == f"scarce pretrain --config {name} --store STORE --run RUN" or name == "recipes/small/demo.yaml"


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The site, built as CI builds it; a warning fails it."""
    folder = tmp_path_factory.mktemp("site")
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    assert "WARNING" not in built.stderr
    return folder


class Links(HTMLParser):
    """What a page refers to, what it loads, and the places in it that may be referred to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.refers, self.loads, self.places = set(), set(), set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list) -> None:
        values = dict(attrs)
        self.places |= {values[name] for name in ("id", "name") if values.get(name)}
        if tag == "a" and values.get("href"):
            self.refers.add(values["href"])
        if values.get("src"):
            self.loads.add(values["src"])
        if tag == "link" and values.get("rel") in ("stylesheet", "icon", "preload"):
            self.loads.add(values["href"])


def test_every_link_anchor_and_picture_of_the_site_is_there_and_nothing_comes_from_elsewhere(site):
    read = {path: Links(path.read_text()) for path in site.rglob("*.html") if path.name != "404.html"}
    assert len(read) > 60
    for path, links in read.items():
        assert not [address for address in links.loads if urlsplit(address).scheme not in ("", "data")], path
        for address in links.refers | {of for of in links.loads if not of.startswith("data:")}:
            parts = urlsplit(address)
            if parts.scheme or parts.netloc:
                continue
            target = Path(os.path.normpath(path.parent / unquote(parts.path))) if parts.path else path
            assert target.is_file(), f"{path.relative_to(site)} refers to {address}"
            if parts.fragment and target in read and parts.fragment != "__skip":
                places = read[target].places
                assert unquote(parts.fragment) in places, f"{path.relative_to(site)} refers to {address}"


def test_every_recipe_and_public_name_has_its_place(site):
    for recipe in (ROOT / "recipes").rglob("*.yaml"):
        page = (site / "reference/recipes" / recipe.relative_to(ROOT / "recipes")).with_suffix(".html").read_text()
        assert "init_args" in page
        assert "# Paper" not in page
    public = (site / "reference/api/index.html").read_text()
    assert all(f">{name}<" in public for name in scarce_cxr._PLACES)
    listed = (site / "reference/commands.html").read_text()
    assert all(f"scarce {name}" in listed for name in TABLE)


@pytest.mark.parametrize("width", [390, 1280])
def test_pages_open_from_a_disk_without_a_network_and_fit_the_screen(site, browser, width):
    page = browser.new_page(viewport={"width": width, "height": 900})
    asked, said = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    for name in ("index", "start/from-23-labels", "reference/api/methods"):
        page.goto((site / f"{name}.html").as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= width, name
        pictures = page.locator("article img")
        for number in range(pictures.count()):
            assert pictures.nth(number).evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
    page.close()
    assert not [address for address in asked if not address.startswith(("file:", "data:"))]
    assert not said


def test_the_search_finds_words_on_a_disk(site, browser):
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto((site / "index.html").as_uri())
    page.locator("input[name=query]").fill("patch-normalised")
    page.wait_for_selector(".md-search-result__item", timeout=20_000)
    assert "Why patches are normalised" in page.locator(".md-search-result").inner_text()
    page.close()
