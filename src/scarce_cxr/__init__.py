"""SCARCE-CXR: self-supervised pretraining on unlabelled chest radiographs, watched for collapse. Research use only.

    import scarce_cxr as scarce

`open_store`, `load_backbone`, `embed`, `FewShotProbe` and `write_report` are what other programs may rely on. Each is
imported when it is first asked for.
"""

import importlib
from typing import Any

_PLACES = {
    "FewShotProbe": "scarce_cxr.evaluation.estimator",
    "embed": "scarce_cxr.api",
    "load_backbone": "scarce_cxr.api",
    "open_store": "scarce_cxr.api",
    "write_report": "scarce_cxr.api",
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PLACES])
