"""Where a deviating generator may put its samples: without a domain most gains are unbounded, and mean nothing."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Literal

import torch
from torch import Tensor, nn

from saddlegan.batch import Rows, samples

MARGIN = 0.05  # room beyond the data at each end, as a share of their range: a box a tenth larger


@dataclasses.dataclass(frozen=True)
class Domain:
    """A box [low - margin, high + margin]; the data lie in [low, high].

    Within [low, high] a held sample is the sample itself; beyond, it nears the edge, but never reaches it, so that
    a slope leads back.
    """

    low: Tensor
    high: Tensor
    margin: Tensor

    def hold(self, x: Tensor) -> Tensor:
        """Bring samples (n, ...) into the box."""
        inside = torch.minimum(torch.maximum(x, self.low), self.high)
        beyond = (x - inside) / self.margin
        # softsign and not tanh: its slope stays alive where samples are far out
        return inside + self.margin * beyond / (1.0 + beyond.abs())

    def outside(self, x: Tensor) -> float:
        """Share of the samples (n, ...) that lie outside the box."""
        beyond = (x < self.low - self.margin) | (x > self.high + self.margin)
        return float(beyond.flatten(1).any(1).double().mean())

    def describe(self) -> list[float]:
        """Lowest and highest number of the box."""
        return [float((self.low - self.margin).min()), float((self.high + self.margin).max())]


class Held(nn.Module):
    """A generator whose samples are held in a box."""

    def __init__(self, G: nn.Module, domain: Domain) -> None:
        super().__init__()
        self.G, self.domain = G, domain

    def forward(self, *given: Any) -> Tensor:
        return self.domain.hold(self.G(*given))


def domain_of(X: Rows, wanted: Literal["data"] | tuple[float, float] | None) -> Domain | None:
    """The box that a search is held in, or None where there is none: data without extent have no box.

    Args:
        X: real samples (n, ...), all of them, perhaps with conditions.
        wanted: `Search.domain`.
    """
    if wanted is None:
        return None
    x = samples(X).detach()
    if wanted != "data":
        low, high = (x.new_tensor(end) for end in wanted)
        # the two numbers are the edges themselves: the data's part of the box is that much smaller
        margin = MARGIN / (1 + 2 * MARGIN) * (high - low)
        return Domain(low + margin, high - margin, margin)
    if x.ndim > 2:  # pixels share one range
        low, high = x.amin(), x.amax()
    else:
        low, high = x.amin(0), x.amax(0)
    width = high - low
    # a feature that never varies has no range of its own: it gets that of the others
    width = torch.where(width > 0, width, width.square().mean().sqrt())
    if not bool((width > 0).all()) or not math.isfinite(float(width.max())):
        return None
    return Domain(low, high, MARGIN * width)
