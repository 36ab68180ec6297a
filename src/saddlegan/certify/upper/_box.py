"""The largest output of a discriminator over a box, from above and from below."""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor, nn

from saddlegan.certify.upper._interval import output_range
from saddlegan.certify.upper._slope import lipschitz
from saddlegan.certify.upper._traced import UnknownError

BRANCH = 3  # axes up to which boxes are cut; beyond, one bound over the whole box
BOXES = 20_000  # boxes looked at before the bound is taken as it stands
WAVE = 512  # boxes cut at once


@dataclasses.dataclass(frozen=True)
class Most:
    """The largest output over a box.

    Attributes:
        upper: no point of the box has more; infinity where nothing is known.
        found: a point has so much.
        method: how, in words.
    """

    upper: float
    found: float
    method: str


def largest_output(D: nn.Module, low: Tensor, high: Tensor, *, tolerance: float) -> Most:
    """Enclose max over y in [low, high] of D(y).

    In up to three dimensions by branch and bound: boxes are cut in half along the axis that matters most, until the
    best bound is within the tolerance of the best point, or the budget is spent; both ends are valid at any time.
    Elsewhere interval arithmetic and D's Lipschitz constant times the box's radius, the smaller of the two.

    Args:
        D: in evaluation mode, double precision.
        low: corner (...).
        high: the opposite corner.
        tolerance: absolute width that is good enough.
    """
    centre, radius = 0.5 * (low + high)[None], 0.5 * (high - low)[None]
    with torch.no_grad():
        middle = float(_outputs(D, centre)[0])
    if not math.isfinite(middle) or not bool(radius.isfinite().all()):
        return Most(math.inf, middle, "none: the domain is not bounded")
    slope = lipschitz(D, tuple(low.shape))
    by_slope = middle + slope * float(radius.norm())
    if low.numel() <= BRANCH:
        try:
            found = _branch(D, centre, radius, tolerance, slope)
            return dataclasses.replace(found, upper=min(found.upper, by_slope))
        except UnknownError:
            return Most(by_slope, middle, "Lipschitz constant times radius")
    try:
        by_range = float(output_range(D, centre, radius, slopes=False)[1])
    except UnknownError:
        by_range = math.inf
    method = "interval arithmetic" if by_range < by_slope else "Lipschitz constant times radius"
    return Most(min(by_range, by_slope), middle, method)


def _outputs(D: nn.Module, points: Tensor) -> Tensor:
    return D(points).reshape(len(points), -1).amax(1)  # of a patch map the largest


def _branch(D: nn.Module, centre: Tensor, radius: Tensor, tolerance: float, slope: float) -> Most:
    found = closed = -math.inf  # the best point, and the bound of the boxes that are not cut any further
    seen, shape = 0, centre.shape[1:]
    parent = torch.full((1,), math.inf, dtype=centre.dtype)
    waiting = centre[:0], radius[:0], parent[:0]
    while True:
        with torch.no_grad():
            values = _outputs(D, centre)
        bound = torch.minimum(parent, output_range(D, centre, radius)[1])
        if math.isfinite(slope):
            bound = torch.minimum(bound, values + slope * radius.flatten(1).norm(dim=1))
        seen += len(bound)
        found = max(found, float(values.max()))
        boxes = tuple(torch.cat(pair) for pair in zip(waiting, (centre, radius, bound), strict=True))
        cut = boxes[2] > found + tolerance
        closed = max([closed, *boxes[2][~cut].tolist()])
        centre, radius, bound = (part[cut] for part in boxes)
        if not len(bound):
            return Most(max(found, closed), found, "branch and bound")
        if seen >= BOXES:
            return Most(max(float(bound.max()), closed), found, "branch and bound, cut short")
        order = bound.argsort(descending=True)
        waiting = centre[order[WAVE:]], radius[order[WAVE:]], bound[order[WAVE:]]
        centre, radius, parent = (part[order[:WAVE]] for part in (centre, radius, bound))
        middle, half_widths = centre.flatten(1), radius.flatten(1).clone()
        axis = half_widths.argmax(1, keepdim=True)
        half = 0.5 * half_widths.gather(1, axis)
        half_widths.scatter_(1, axis, half)
        shift = torch.zeros_like(middle).scatter_(1, axis, half)
        centre = torch.cat([middle - shift, middle + shift]).reshape(-1, *shape)
        radius = torch.cat([half_widths, half_widths]).reshape(-1, *shape)
        parent = torch.cat([parent, parent])
