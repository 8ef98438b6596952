"""One self-contained HTML page on which a reader slides a kernel along a half-masked strip: opens offline."""

import json
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from scarce_cxr.figures import theme
from scarce_cxr.figures.leak import Strip
from scarce_cxr.images.atomic import written_whole

_PAGE = Path(__file__).with_name("leak_toy.html")
# More than a page shows, and few enough that the last bits of a sum do not show.
_DIGITS = 6


def write_leak_toy(strip: Strip, path: Path) -> Path:
    """Writes the page; the same strip makes the same file. Returns its path."""
    numbers = json.dumps(strip_numbers(strip), separators=(",", ":"))
    page = Template(_PAGE.read_text(encoding="utf-8")).substitute(numbers=numbers, disclaimer=theme.DISCLAIMER)
    with written_whole(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return path


def strip_numbers(strip: Strip) -> dict[str, Any]:
    """All that the page shows, as plain lists.

    Returns:
        `visible`, W booleans, and for `dense` and `exact` each a dictionary, whose lists begin with the strip itself
        and go on with what comes out of every layer: `maps` of 3 rows of W values; `inputs`, at every place of the
        kernel on the middle row, how many of its 9 inputs are not empty; `remaining`, how many masked positions are
        not empty; `level`, the mean at visible positions, and `size`, the mean at masked ones over it.
    """
    hidden = ~strip.visible
    encoders = {}
    for name, outputs in (("dense", strip.dense), ("exact", strip.exact)):
        maps = np.concatenate([strip.pixels[None], outputs])
        level = maps[:, :, strip.visible].mean(axis=(1, 2))
        encoders[name] = {
            "maps": maps.round(_DIGITS).tolist(),
            "inputs": np.lib.stride_tricks.sliding_window_view(maps > 0, 3, axis=2).sum(axis=(1, 3)).tolist(),
            "remaining": (maps[:, :, hidden] > 0).sum(axis=(1, 2)).tolist(),
            "level": level.round(_DIGITS).tolist(),
            "size": (maps[:, :, hidden].mean(axis=(1, 2)) / level).round(_DIGITS).tolist(),
        }
    return {"visible": strip.visible.tolist(), **encoders}
