"""Ids that are positions of classes, scaled so that people see them: 0, 85, 170 and 255, or 0, 10, 20 and 30."""

from __future__ import annotations

import math
from collections.abc import Sequence

from fastscnn.model.label_set import IGNORE_INDEX

_LEAST_STEP = 4  # between ids that divide 0 to 255 evenly


def even_step(stored: Sequence[int], count: int) -> float:
    """Return the step between ids if these, with 255, are among `count` values that divide 0 to 255 evenly; 0 if not.

    Args:
        stored: ids from 0 to 255, sorted.
        count: number of classes.
    """
    if not stored or stored[-1] != IGNORE_INDEX or count < len(stored) or _LEAST_STEP * (count - 1) > IGNORE_INDEX:
        return 0
    step = IGNORE_INDEX / (count - 1)
    found = {round(one / step): one for one in stored}
    fits = all(abs(one - place * step) <= 1 for place, one in found.items())
    return step if fits and len(found) == len(stored) else 0


def step_of(stored: Sequence[int], count: int) -> float:
    """Return the step between ids that are even steps, or else multiples of a constant; 0 for other ids.

    Two ids are multiples of something, anyway: they count for two classes only. The arguments are those of `even_step`.
    """
    if len(stored) < min(3, count) or not any(stored):
        return 0
    constant = math.gcd(*stored)
    return even_step(stored, count) or (constant if constant > 1 and stored[-1] // constant < count else 0)
