"""`scarce methods` counts the reference recipes, and the document says what it and `scarce schedules` say."""

from pathlib import Path

import pytest

from scarce_cxr.cli import main
from scarce_cxr.commands.methods import methods
from scarce_cxr.commands.schedules import schedules
from scarce_cxr.errors import ScarceError

DOCUMENT = Path(__file__).parents[2] / "docs/reference/methods.md"


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


def test_recipes_are_named_without_an_option(capsys):
    assert main(["methods", "small/moco", "small/byol", "--json"]) == 0
    assert "small/byol" in capsys.readouterr().out


def test_the_document_holds_the_tables(tables, tmp_path):
    text = DOCUMENT.read_text()
    names = [row[0] for row in tables["Millions of numbers"].rows]
    for table in [*tables.values(), *schedules(names, out=tmp_path / "schedules.png").tables]:
        for row in table.rows:
            assert "| " + " | ".join(f"{v:,.4g}" if isinstance(v, float) else str(v) for v in row) + " |" in text
