"""`scarce methods` counts the reference recipes, and the document says what it and `scarce schedules` say."""

from pathlib import Path

import pytest

from scarce_cxr.cli import main
from scarce_cxr.commands.methods import methods
from scarce_cxr.commands.schedules import schedules
from scarce_cxr.errors import ScarceError
from scarce_cxr.figures.reconstructions import masked_panel

DOCUMENT = Path(__file__).parents[2] / "docs/reference/methods.md"
LINEAGE = Path(__file__).parents[2] / "docs/why/lineage.md"


@pytest.fixture(scope="module")
def tables() -> dict:
    return {table.title: table for table in methods().tables}


def test_the_reference_recipes_are_counted(tables):
    rows = {row["recipe"]: row for row in tables["Millions of numbers"].records()}
    assert list(rows) == [f"reference/{name}" for name in ("barlow_twins", "dino_first", "dino_last", "moco", "spark")]
    moco, dino = rows["reference/moco"], rows["reference/dino_first"]
    assert moco["backbone"] == pytest.approx(23.50, abs=0.01)  # ResNet-50 without classifier, one channel
    head = (2048 * 2048 + 2048 + 2048 * 128 + 128) / 1e6
    assert moco["heads"] == pytest.approx(head)
    assert moco["teacher"] == pytest.approx(moco["backbone"] + head)
    assert moco["buffers"] == pytest.approx(65536 * 128 / 1e6)
    assert moco["optimizer state"] == pytest.approx(moco["backbone"] + head)
    assert dino["buffers"] == pytest.approx(65536 / 1e6)
    assert dino["optimizer state"] == pytest.approx(2 * (dino["backbone"] + dino["heads"]))
    assert rows["reference/spark"]["teacher"] == 0


def test_mebibytes_are_four_bytes_a_number(tables):
    for counted, sized in zip(tables["Millions of numbers"].rows, tables["MiB in fp32"].rows, strict=True):
        assert [n * 1e6 * 4 / 2**20 for n in counted[1:8]] == pytest.approx(sized[1:])


def test_the_comparison_takes_its_numbers_from_the_recipes(tables):
    moco, dino = (
        {row[""]: row[f"reference/{name}"] for row in tables["MoCo v2 and DINO"].records()}
        for name in ("moco", "dino_first")
    )
    assert moco["negatives"].startswith("65,536 ")
    assert dino["negatives"] == "none"
    assert "65,536 prototypes" in dino["what the loss compares"]
    assert "queue.ring 32" in moco["extra memory"]
    assert "center 0.25" in dino["extra memory"]


def test_without_both_there_is_nothing_to_compare():
    result = methods(["small/moco"])
    assert [table.title for table in result.tables] == ["Millions of numbers", "MiB in fp32"]
    assert result.notes
    with pytest.raises(ScarceError, match="small/moco"):
        methods(["small/mocha"])


def test_maps_are_listed_from_the_film_to_the_painting_and_drawn(small_store, tmp_path):
    files = {"shapes": tmp_path / "shapes.png", "masked": tmp_path / "masked.png", "store": small_store}
    result = methods(["small/spark_exact", "small/moco"], **files)
    maps = result.tables[2]
    assert maps.title == "Maps of small/spark_exact"
    assert maps.rows[0] == ["encoder", "layer1", 64, 24, 4]
    assert ["bridge", "densifiers.0", 256, 3, 32] in maps.rows
    assert maps.rows[-1] == ["decoder", "image", 1, 96, 1]
    assert maps.note.startswith("5 of 9 patches of 32 pixels are masked")
    assert all(path.is_file() for _, path in result.files)
    assert len(result.files) == 2


def test_a_target_is_the_film_normalised_patch_by_patch(small_store, tmp_path, monkeypatch):
    drawn = {}

    def keep(images, targets, visible, title, captions):
        drawn.update(images=images, targets=targets, visible=visible, title=title)
        return masked_panel(images, targets, visible, title, captions)

    monkeypatch.setattr("scarce_cxr.figures.reconstructions.masked_panel", keep)
    methods(["small/spark"], masked=tmp_path / "masked.png", store=small_store)
    # The top right patch of the last film.
    pixels = drawn["images"][-1, :32, 64:]
    expected = (pixels - pixels.mean()) / pixels.std(ddof=1)
    assert drawn["targets"][-1, :32, 64:] == pytest.approx(expected, abs=1e-3)
    assert (~drawn["visible"]).mean() == pytest.approx(5 / 9)
    assert drawn["title"] == "96 pixels, 5 of 9 patches of 32 masked"


def test_only_spark_is_drawn_and_films_need_a_store(tmp_path):
    with pytest.raises(ScarceError, match="SparK"):
        methods(["small/moco"], shapes=tmp_path / "shapes.png")
    with pytest.raises(ScarceError, match="--store"):
        methods(["small/spark"], masked=tmp_path / "masked.png")


def test_recipes_are_named_without_an_option(capsys):
    assert main(["methods", "small/moco", "small/byol", "--json"]) == 0
    assert "small/byol" in capsys.readouterr().out


def test_the_document_holds_the_tables(tables, tmp_path):
    text = DOCUMENT.read_text()
    names = [row[0] for row in tables["Millions of numbers"].rows]
    for table in [*tables.values(), *schedules(names, out=tmp_path / "schedules.png").tables]:
        for row in table.rows:
            assert "| " + " | ".join(f"{v:,.4g}" if isinstance(v, float) else str(v) for v in row) + " |" in text


@pytest.mark.slow
def test_sparks_lineage_holds_the_maps_of_its_recipes(tmp_path):
    paths = [["spark", "reference/spark"], ["small/spark_exact", "small/spark"]]
    result = methods([*paths[0], *paths[1]], shapes=tmp_path / "shapes.png")
    listed = {table.title.removeprefix("Maps of "): table.rows for table in result.tables}

    def cell(recipe: str, stride: int, *parts: str) -> str:
        maps = [(channels, side) for part, _, channels, side, of in listed[recipe] if part in parts and of == stride]
        return "{0} x {1} x {1}".format(*maps[0]) if maps else ""

    for stride in (1, 2, 4, 8, 16, 32):
        decoder = ("decoder", "bridge") if stride == 32 else ("decoder",)
        cells = ["1" if stride == 1 else f"1/{stride}"]
        for recipes in paths:
            cells += [cell(recipes[0], stride, "encoder"), *(cell(recipe, stride, *decoder) for recipe in recipes)]
        assert "| " + " | ".join(cells).replace("|  |", "| |") + " |" in LINEAGE.read_text()
