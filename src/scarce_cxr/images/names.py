"""The original names of a store's films, as its private folder keeps them."""

from pathlib import Path
from typing import TYPE_CHECKING

from scarce_cxr.errors import ScarceError
from scarce_cxr.images.keys import private_folder

if TYPE_CHECKING:
    import pandas as pd


def original_names(store: Path) -> "pd.Series | None":
    """Where each film came from; for the user's own eyes, never to be written into the store or a result.

    Args:
        store: the store's folder.

    Returns:
        Paths below the source's folder, with slashes, by image_id; None where no private folder is beside the store.

    Raises:
        ScarceError: the private folder's table is damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = private_folder(store) / "names.parquet"
    if not path.exists():
        return None
    try:
        return pq.read_table(path).to_pandas().set_index("image_id")["path"]
    except (pa.ArrowException, OSError, KeyError) as error:
        raise ScarceError(
            f"original names in {path}", type(error).__name__, "bring the file back, or move the folder away"
        ) from None
