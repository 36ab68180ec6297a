"""What a module's outputs can be over a box: interval arithmetic, sharpened by the intervals of its slopes.

For boxes small beside the network's own scale the mean-value form f(c) + sum_k |df/dx_k| r_k is much tighter than plain
intervals, whose error does not fall with the box's width squared.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from saddlegan.certify.upper._functions import affine, pointwise
from saddlegan.certify.upper._traced import MOVES, Traced, UnknownError, call, check_rows, run, traced


class Interval(Traced):
    """Outputs over boxes: (b, ...), one row a box.

    Args:
        value: at the boxes' centres.
        low: not above any value in the box.
        high: not below.
        slopes: least and largest derivatives by each input, each (d, b, ...); None where they are not followed.
        radius: half widths of the boxes (d, b), in the order of the inputs; None with `slopes`.
    """

    def __init__(
        self,
        value: Tensor,
        low: Tensor,
        high: Tensor,
        slopes: tuple[Tensor, Tensor] | None = None,
        radius: Tensor | None = None,
    ) -> None:
        super().__init__(value)
        self.slopes, self.radius = slopes, radius
        if slopes is not None and radius is not None:
            reach = torch.maximum(slopes[0].abs(), slopes[1].abs())
            wide = radius.reshape(*radius.shape, *[1] * (value.ndim - 1))
            reach = (reach * wide).sum(0)
            low, high = torch.maximum(low, value - reach), torch.minimum(high, value + reach)
        self.low, self.high = low, high

    @classmethod
    def over(cls, centre: Tensor, radius: Tensor, *, slopes: bool) -> Interval:
        """Boxes as inputs: centre and half widths (b, ...)."""
        if not slopes:
            return cls(centre, centre - radius, centre + radius)
        b, d = len(centre), centre[0].numel()
        unit = torch.eye(d, dtype=centre.dtype).reshape(d, 1, *centre.shape[1:]).expand(d, *centre.shape)
        half = radius.reshape(b, d).T.contiguous()
        return cls(centre, centre - radius, centre + radius, (unit, unit), half)

    def apply(
        self, name: str, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Traced:
        parts: list[Any] = traced(args, kwargs)
        if name == "sub" and not isinstance(args[0], Traced):
            raise UnknownError("a difference from something")

        def of(*which: Tensor) -> Tensor:
            found = call(function, args, kwargs, {id(part): t for part, t in zip(parts, which, strict=True)})
            if not isinstance(found, Tensor) or len(found) != len(self.value):
                raise UnknownError(f"`{name}`, which does not keep rows")
            return found

        if len(parts) > 1:
            return self._combined(name, parts, of)
        act = pointwise(name, args, kwargs)
        if act is not None:
            low, high = act.range(self.low, self.high)
            return Interval(of(self.value), low, high, self._chained(act.slope_range(self.low, self.high)), self.radius)
        if name in MOVES or name in ("add", "sub", "cat"):
            shift = of(torch.zeros_like(self.value))  # the constant part, if any
            if len(self.value) == 2:
                check_rows(of, self.value, name)
            moved = None if self.slopes is None else self._each(lambda t: of(t) - shift)
            return Interval(of(self.value), of(self.low), of(self.high), moved, self.radius)
        if name == "neg":
            slopes = None if self.slopes is None else (-self.slopes[1], -self.slopes[0])
            return Interval(-self.value, -self.high, -self.low, slopes, self.radius)
        if name.startswith("max_pool"):
            return Interval(of(self.value), of(self.low), of(self.high))
        known = affine(name, function, args, kwargs, id(self))
        if known is None:
            raise UnknownError(f"`{name}`")
        if len(self.value) == 2:
            check_rows(known.linear, self.value, name)

        def image(linear: Callable[[Tensor], Tensor], low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
            middle, half = linear(0.5 * (low + high)), known.positive(0.5 * (high - low))
            return middle - half, middle + half

        slopes = None
        if self.slopes is not None:
            pairs = [image(known.linear, low, high) for low, high in zip(*self.slopes, strict=True)]
            slopes = torch.stack([pair[0] for pair in pairs]), torch.stack([pair[1] for pair in pairs])
        return Interval(of(self.value), *image(known.at, self.low, self.high), slopes, self.radius)

    def _each(self, f: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        low, high = (torch.stack([f(t) for t in side]) for side in self.slopes or ())
        return low, high

    def _chained(self, outer: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor] | None:
        """Slopes of a function of this one: the product of two intervals."""
        return None if self.slopes is None else _product(*outer, *self.slopes)

    def _combined(self, name: str, parts: list[Any], of: Callable[..., Tensor]) -> Interval:
        value = of(*(part.value for part in parts))
        followed = all(part.slopes is not None for part in parts)
        radius = parts[0].radius if followed else None
        lows, highs = [part.low for part in parts], [part.high for part in parts]
        if name in ("add", "cat"):
            slopes = None
            if followed:
                low, high = (
                    torch.stack([of(*row) for row in zip(*(part.slopes[k] for part in parts), strict=True)])
                    for k in (0, 1)
                )
                slopes = low, high
            return Interval(value, of(*lows), of(*highs), slopes, radius)
        a, b = parts
        if name == "sub":
            slopes = (a.slopes[0] - b.slopes[1], a.slopes[1] - b.slopes[0]) if followed else None
            return Interval(value, a.low - b.high, a.high - b.low, slopes, radius)
        if name == "mul" and a.value.shape == b.value.shape:
            slopes = None
            if followed:
                one, two = _product(a.low, a.high, *b.slopes), _product(b.low, b.high, *a.slopes)
                slopes = one[0] + two[0], one[1] + two[1]
            if a is b:
                low = torch.where((a.low <= 0) & (a.high >= 0), 0.0, torch.minimum(a.low.square(), a.high.square()))
                return Interval(value, low, torch.maximum(a.low.square(), a.high.square()), slopes, radius)
            return Interval(value, *_product(a.low, a.high, b.low, b.high), slopes, radius)
        raise UnknownError(f"`{name}` of two things that depend on the input")


def _product(a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
    """Range of x y over x in [a, b], y in [c, d]."""
    corners = (a * c, a * d, b * c, b * d)
    low, high = corners[0], corners[0]
    for corner in corners[1:]:
        low, high = torch.minimum(low, corner), torch.maximum(high, corner)
    return low, high


ROUNDING = 1e-10  # relative widening, for what double arithmetic itself gets wrong


def output_range(module: nn.Module, centre: Tensor, radius: Tensor, *, slopes: bool = True) -> tuple[Tensor, Tensor]:
    """Least and largest output of a module over boxes, never too narrow.

    Args:
        module: in evaluation mode and double precision.
        centre: of the boxes (b, ...).
        radius: half widths, the same shape.
        slopes: whether to follow slopes, d times the work for samples of d numbers.

    Returns:
        Two tensors (b,); of a patch map the least and the largest entry.

    Raises:
        UnknownError: the module does something that no bound is known of.
    """
    if len(centre) == 1:  # two rows show whether samples are mixed
        low, high = output_range(module, centre.repeat_interleave(2, 0), radius.repeat_interleave(2, 0), slopes=slopes)
        return low[:1], high[:1]
    found: Any = run(module, Interval.over(centre, radius, slopes=slopes))
    low, high = found.low.reshape(len(centre), -1).amin(1), found.high.reshape(len(centre), -1).amax(1)
    slack = ROUNDING * (low.abs() + high.abs()) + math.ulp(0.0)
    return low - slack, high + slack
