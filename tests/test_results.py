"""Tables for machines."""

import json
import math

import numpy as np

from scarce_cxr.results import Table


def test_what_is_no_finite_number_is_null_in_json():
    table = Table("", ["a", "b", "c", "d", "e"], [[math.nan, -math.inf, 1.5, np.float64("nan"), "nan"]])
    assert json.loads(json.dumps(table.records(), allow_nan=False)) == [
        {"a": None, "b": None, "c": 1.5, "d": None, "e": "nan"}
    ]
