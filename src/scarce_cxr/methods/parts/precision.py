"""Where half the precision is not enough."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch


def in_full_precision(function: Callable) -> Callable:
    """Makes a function compute in fp32 even where it is called under autocast to bf16.

    Sums over a batch, and similarities divided by a small temperature, lose what counts in bf16's 8 bits. Tensors
    among the positional arguments come in as fp32 if they were bf16 or fp16; the first one says which device it is.
    """

    @wraps(function)
    def run(*arguments: Any, **keywords: Any) -> Any:
        tensors = [a for a in arguments if isinstance(a, torch.Tensor)]
        with torch.autocast(tensors[0].device.type, enabled=False):
            return function(*(_full(a) for a in arguments), **keywords)

    return run


def _full(argument: Any) -> Any:
    half = isinstance(argument, torch.Tensor) and argument.dtype in (torch.bfloat16, torch.float16)
    return argument.float() if half else argument
