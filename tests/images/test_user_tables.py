"""A user's table is read however it was saved, and is refused where it is none."""

from pathlib import Path

import pytest

from scarce_cxr.errors import ScarceError
from scarce_cxr.images.user_tables import read_table


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_separators_marks_and_spaces_do_not_matter(tmp_path: Path, separator: str, mark: str):
    path = tmp_path / "table.csv"
    path.write_text(f"{mark}file{separator} Mass \na.png {separator} 1\nb.png\n", encoding="utf-8")
    assert read_table(path).to_dict("records") == [{"file": "a.png", "Mass": "1"}, {"file": "b.png", "Mass": ""}]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "a CSV table"),
        (b"file,Mass\n", "no row"),
        (b"file,Mass, Mass\na,1,0\n", "columns file, Mass, Mass"),
        (b"file\n\xff\n", "UTF-8"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path: Path, content: bytes, message: str):
    (tmp_path / "table.csv").write_bytes(content)
    with pytest.raises(ScarceError, match=message):
        read_table(tmp_path / "table.csv")
