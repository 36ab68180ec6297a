"""Rows as pictures: their shape, their range, and the layout that networks take."""

from __future__ import annotations

import math

from torch import Tensor

from saddlegan import checks
from saddlegan.errors import InputError


def pictures(x: Tensor, shape: tuple[int, ...], value_range: tuple[float, float]) -> Tensor:
    """Flat rows, channels last, to (n, c, h, w) in [0, 1]."""
    low, high = value_range
    h, w = shape[:2]
    return ((x.reshape(len(x), h, w, -1) - low) / (high - low)).permute(0, 3, 1, 2)


def image_shape_of(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Read (h, w) or (h, w, c)."""
    if len(shape) not in (2, 3):
        raise InputError(f"`image_shape` must be (h, w) or (h, w, c), got {shape!r}")
    return tuple(checks.count("image_shape", side) for side in shape)


def value_range_of(value_range: tuple[float, float]) -> tuple[float, float]:
    """Read (black, white)."""
    low, high = (checks.number("value_range", end, least=-math.inf) for end in value_range)
    if not low < high:
        raise InputError(f"`value_range` must be (black, white) with black < white, got {value_range!r}")
    return low, high
