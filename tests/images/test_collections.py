"""The table of addresses names every file once and refuses entries that make no sense."""

from pathlib import Path
from urllib.parse import urlparse

import pytest

from scarce_cxr.errors import ScarceError
from scarce_cxr.images.archives import is_archive
from scarce_cxr.images.collections import Remote, read_collections
from scarce_cxr.images.sources import SOURCES


def test_the_shipped_table_has_each_collection_that_is_a_source():
    collections = read_collections()
    assert set(collections) == set(SOURCES) - {"folder", "dicom"}
    for kind, collection in collections.items():
        assert urlparse(collection.page).scheme == "https", kind
        assert bool(collection.files) != bool(collection.ask), kind
        assert collection.kind == kind


def test_the_archives_of_nih_are_twelve_with_the_sums_of_its_faq():
    files = read_collections()["nih"].files
    archives = [remote for remote in files if is_archive(remote.name)]
    assert [remote.name for remote in archives] == [f"images_{number:03d}.tar.gz" for number in range(1, 13)]
    assert all(remote.checksum.startswith("md5:") and remote.size > 1e9 for remote in archives)
    assert read_collections()["nih"].by_archive
    assert len({remote.address for remote in files}) == len({remote.name for remote in files}) == 16
    assert {urlparse(remote.address).hostname for remote in files} == {"nihcc.box.com", "nihcc.app.box.com"}


ENTRY = """
mine:
  title: My films
  page: https://example.org
  files:
    - name: films.zip
      address: https://example.org/films.zip
      size: 5
      checksum: md5:00112233445566778899aabbccddeeff
"""


def test_a_table_of_ones_own_is_read(tmp_path: Path):
    (tmp_path / "table.yaml").write_text(ENTRY)
    collection = read_collections(tmp_path / "table.yaml")["mine"]
    assert collection.kind == "auto"
    expected = Remote("films.zip", "https://example.org/films.zip", 5, "md5:00112233445566778899aabbccddeeff")
    assert collection.files == (expected,)


@pytest.mark.parametrize(
    ("right", "wrong", "message"),
    [
        ("name: films.zip", "name: ../films.zip", "a name without a folder"),
        ("name: films.zip", "name: 7", "a name without a folder"),
        ("address: https", "address: file", "http or https"),
        ("size: 5", "size: large", "a size in bytes"),
        ("md5:00", "md5:", "md5"),
        ("md5:", "crc:", "md5"),
        ("size: 5", "length: 5", "size, checksum, for a file of mine"),
        ("title: My films", "", "title and page"),
        ("title: My films", "title: My films\n  kind: xray", r"kind: auto, nih.*kind: xray"),
        ("title: My films", "title: My films\n  by_archive: sometimes", "by_archive: true or false"),
        ("title: My films", "title: My films\n  films: many", "films: how many"),
        ("  files:", "  ask:", "neither"),
    ],
)
def test_an_entry_that_makes_no_sense_is_refused(tmp_path: Path, right: str, wrong: str, message: str):
    text = ENTRY.replace(right, wrong, 1)
    if wrong == "  ask:":
        text = text.partition("  ask:")[0]
    (tmp_path / "table.yaml").write_text(text)
    with pytest.raises(ScarceError, match=message):
        read_collections(tmp_path / "table.yaml")
