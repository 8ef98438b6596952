"""Tables are read as pandas reads them, with their columns found in spite of quirks, and cells mean what they say."""

import gzip
import zipfile
import zlib
from pathlib import Path

import pandas as pd
import pytest

from scarce_cxr.errors import ScarceError
from scarce_cxr.images.sources.records import list_files
from scarce_cxr.images.sources.tables import CsvTable, find_tables, label, number, require_table, sex, years


def written(folder: Path, text: str, name: str = "table.csv") -> Path:
    path = folder / name
    content = text.encode("utf-8-sig")
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return path


@pytest.mark.parametrize("name", ["table.csv", "table.CSV.GZ".lower()])
def test_cells_are_pandas_cells(tmp_path: Path, name: str):
    text = 'Image Index, EncodedPixels,rad_ID,"Bbox [x,y]"\n"a,1", 1 2 3,R1,7\n\nb, -1,,8,9\n'.replace("\n", "\r\n")
    path = written(tmp_path, text, name)
    reference = pd.read_csv(path, usecols=range(4), dtype=str, keep_default_na=False, on_bad_lines="skip")
    rows = list(CsvTable(path, name, ["image index"]))
    assert [rows[0][column] for column in reference.columns] == [cell.strip() for cell in reference.iloc[0]]
    assert (rows[1]["EncodedPixels"], rows[1]["RAD id"], rows[1]["nothing"]) == ("-1", "", "")
    assert [row.number for row in rows] == [2, 4]
    assert rows[1].cells == ["b", " -1", "", "8", "9"]


def test_a_table_that_is_none_or_lacks_a_column_is_refused(tmp_path: Path):
    with pytest.raises(ScarceError, match=r"the columns Labels in t.*columns there: ImageID"):
        CsvTable(written(tmp_path, "ImageID,\n"), "t", ["Labels"])
    (tmp_path / "latin.csv").write_bytes("Größe\n".encode("latin-1"))
    with pytest.raises(ScarceError, match="UTF-8"):
        CsvTable(tmp_path / "latin.csv", "t")
    (tmp_path / "cut.csv.gz").write_bytes(gzip.compress(b"a,b\n" * 1000)[:20])
    with pytest.raises(ScarceError, match="a CSV table in"):
        list(CsvTable(tmp_path / "cut.csv.gz", "t"))


@pytest.mark.parametrize("damage", ["cut", "flipped", "letters"])
def test_a_damaged_packed_table_is_to_be_downloaded_again(tmp_path: Path, damage: str):
    text = "".join(f"{number * 7919 % 100003},{number * 104729 % 1000003}\n" for number in range(2000)).encode()
    packed = bytearray(gzip.compress(text))
    if damage == "flipped":
        # A kind of block that does not exist, for which zlib has an error of its own.
        packed[10] |= 0b110
        with pytest.raises(zlib.error):
            gzip.decompress(packed)
    content = {"cut": packed[:-100], "flipped": packed, "letters": gzip.compress(b"\xff\n")}[damage]
    path = tmp_path / "table.csv.gz"
    path.write_bytes(content)
    with pytest.raises(ScarceError, match=r"a CSV table in .*table\.csv\.gz.*download it again"):
        list(CsvTable(path, "t"))


def test_a_table_that_is_damaged_in_its_archive_is_to_be_downloaded_again(tmp_path: Path):
    content = b"a,b\n" + b"1,2\n" * 50
    with zipfile.ZipFile(tmp_path / "films.zip", "w") as archive:
        archive.writestr("table.csv", content)
    whole = (tmp_path / "films.zip").read_bytes()
    (tmp_path / "films.zip").write_bytes(whole.replace(b"1,2\n", b"1,3\n", 1))
    member = list_files(tmp_path)["films.zip/table.csv"]
    with pytest.raises(ScarceError, match=r"damaged in its archive.*download it again"):
        CsvTable(member, "table.csv")


def test_the_table_nearest_the_top_comes_first_and_a_missing_one_is_explained(tmp_path: Path):
    files = dict.fromkeys(["b/c/train.csv", "TRAIN.csv", "b/train.csv.gz", "b/other.csv"], tmp_path)
    assert find_tables(files, r"train\.csv(\.gz)?") == ["TRAIN.csv", "b/train.csv.gz", "b/c/train.csv"]
    with pytest.raises(
        ScarceError, match=r"valid\.csv in .*csv files there: b/c/train\.csv, TRAIN\.csv.*kind chexpert"
    ):
        require_table(files, r"valid\.csv", "valid.csv", "chexpert", tmp_path)


@pytest.mark.parametrize(("text", "value"), [("1", 1), ("1.0", 1), ("-1.0", -1), ("0.0", 0), ("", None), ("2", None)])
def test_labels(text: str, value: int | None):
    assert label(text) == value


def test_cells_that_say_nothing_are_null():
    assert (number("0.148"), number("None"), number("")) == (0.148, None, None)
    assert (sex("female"), sex("M"), sex("O"), sex("")) == ("F", "M", None, None)
    assert (years("058Y"), years("012W"), years("414"), years("-3")) == (58, 12 * 7 / 365.25, None, None)
