"""Learning rates as pure functions of the step."""

import math


def warmup_cosine(step: int, warmup: int, total: int) -> float:
    """Factor on the learning rate at a step: linear warm-up, then half a cosine down to 0.

    Args:
        step: the step about to be taken, 0 <= step < total.
        warmup: steps of warm-up; the first one takes 1 / warmup of the full rate, the last one all of it.
        total: steps of the whole run; the factor would reach 0 at step `total`.

    Returns:
        A factor in [0, 1].
    """
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))
