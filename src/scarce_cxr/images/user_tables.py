"""A user's own CSV table, whichever way the program that saved it writes one."""

from pathlib import Path
from typing import TYPE_CHECKING

from scarce_cxr.errors import ScarceError

if TYPE_CHECKING:
    import pandas as pd


def read_table(path: Path) -> "pd.DataFrame":
    """Reads a CSV table with commas, semicolons or tabs; cells and columns' names without spaces around them.

    Returns:
        At least one row of strings; empty cells are "".

    Raises:
        ScarceError: the file is no table in UTF-8, has no row, or two of its columns share a name.
    """
    # Half a second that preparing a collection need not wait for.
    import pandas as pd

    try:
        with path.open(encoding="utf-8-sig") as file:
            header = file.readline()
        separator = max(",;\t", key=header.count)
        # Every row of NIH's tables ends in a comma.
        table = pd.read_csv(
            path, sep=separator, dtype=str, keep_default_na=False, index_col=False, encoding="utf-8-sig"
        )
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise ScarceError(f"a CSV table in {path}", str(error), "check the path; save as CSV in UTF-8") from None
    table.columns = table.columns.str.strip()
    if table.empty or not table.columns.is_unique:
        got = "no row" if table.empty else f"columns {', '.join(table.columns)}"
        raise ScarceError(f"rows, and columns with names of their own, in {path}", got, "mend the file")
    return table.fillna("").apply(lambda column: column.str.strip())
