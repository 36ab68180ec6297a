"""The one-dimensional ReLU WGAN in closed form: winsorisation, and the discriminator that proves it.

With neurons (s x - b)_+, s in {-1, +1} and any threshold b, the constraint (1) compares stop-loss transforms,

    sup_b | E (x - b)_+ - E (g - b)_+ | <= beta    and    sup_b | E (b - x)_+ - E (b - g)_+ | <= beta.

Clipping the data at the two points that cut a mean excess of beta off each tail is optimal.
"""

from __future__ import annotations

import bisect
import dataclasses
import math

import torch
from torch import Tensor

from saddlegan.errors import InputError
from saddlegan.networks import TwoLayerDiscriminator
from saddlegan.results import Discrepancy, Solution, Status

MAX_NEURONS = 512  # of the returned network; the certificate's own discriminator has one neuron per sample


@dataclasses.dataclass(frozen=True)
class Winsorised:
    """The optimum of the one-dimensional ReLU WGAN.

    Attributes:
        points: optimal generated sample (n,), ascending, each with probability 1/n.
        low: lower clipping point, at most `center`.
        high: upper clipping point, at least `center`.
        center: where R_g is smallest.
        solution: E (g - center)^2, its dual bound and the residuals.
    """

    points: Tensor
    low: float
    high: float
    center: float
    solution: Solution


def cuts(ascending: Tensor, excess: float) -> tuple[float, float]:
    """Return (lo, hi) with E (lo - x)_+ = E (x - hi)_+ = excess for a sorted sample (n,).

    One cumulative sum, then a binary search for the number of samples beyond each cut: the mean excess over the k-th
    most extreme value grows with k.

    Example:
        >>> cuts(torch.tensor([-1.0, 1.0], dtype=torch.float64), 0.05)
        (-0.9, 0.9)
    """
    n = ascending.shape[0]
    total = ascending.cumsum(0)

    def lowest(k: int) -> float:
        return float(total[k - 1])

    def highest(k: int) -> float:
        return float(total[-1]) - (float(total[n - k - 1]) if k < n else 0.0)

    below = max(1, bisect.bisect_right(range(1, n + 1), excess, key=lambda k: k * ascending[k - 1] / n - lowest(k) / n))
    above = max(
        1, bisect.bisect_right(range(1, n + 1), excess, key=lambda k: highest(k) / n - k * ascending[n - k] / n)
    )
    return (lowest(below) + n * excess) / below, (highest(above) - n * excess) / above


def winsorise(x: Tensor, beta: float, *, center: float = 0.0) -> Winsorised:
    """Solve the one-dimensional ReLU WGAN: g = clip(x, min(lo, c), max(hi, c)).

    The cuts solve E (x - hi)_+ = beta and E (lo - x)_+ = beta; c is `center`. One sort, then O(n).

    The dual certificate is the Huber function D(y) = (y - c)^2 on [low, high], continued by its tangents. It is a sum
    of ReLUs whose thresholds all lie where the constraint is tight, hence E D(x) - beta sum |v| = E (g - c)^2. The same
    clipping is optimal for every R_g = E h(g) with h convex and smallest at c: replace (y - c)^2 by h above.

    Args:
        x: real sample (n,), in any order.
        beta: right side of (1), a mean, in data units.
        center: c, where the regulariser E (g - c)^2 is zero.

    Returns:
        `Winsorised`.

    Raises:
        InputError: x is not one-dimensional, empty or not finite, or beta is negative.

    References:
        Theory 1.4; [S22] solves the two-point sample {1, -1}.

    Example:
        >>> winsorise(torch.tensor([1.0, -1.0]), 0.05).points  # beta_sum = 0.1
        tensor([-0.9000,  0.9000], dtype=torch.float64)
    """
    x = _sample(x, "x")
    if not (math.isfinite(beta) and beta >= 0):
        raise InputError(f"`beta` must be a finite number of at least 0, got {beta}")
    return winsorise_sorted(x.sort().values, beta, center=center)


def winsorise_sorted(ascending: Tensor, beta: float, *, center: float = 0.0) -> Winsorised:
    """`winsorise` for a finite float64 sample that is already sorted ascending."""
    low, high = cuts(ascending, beta)
    low, high = min(low, center), max(high, center)
    points = ascending.clamp(low, high)
    n = ascending.shape[0]
    edge = torch.tensor([low, high], dtype=ascending.dtype, device=ascending.device)
    below, above = (int(k) for k in torch.searchsorted(ascending, edge))
    offset = points - center if center else points
    value = float(offset @ offset) / n
    slack = float((ascending[above:] - high).sum()) / n, float((low - ascending[:below]).sum()) / n
    # E D(x) = E (g - c)^2 + slope * mean excess on each side, and sum |v| is the two slopes
    slopes = 2.0 * (high - center), 2.0 * (center - low)
    bound = value + slopes[0] * (slack[0] - beta) + slopes[1] * (slack[1] - beta)
    stats = {
        "beta": beta,
        "primal_residual": _coupled_discrepancy(ascending, points) - beta,
        "dual_residual": 0.0,
        "clipped_above": (n - above) / n,
        "clipped_below": below / n,
    }
    return Winsorised(points, low, high, center, Solution(value, bound, value - bound, Status.OPTIMAL, stats))


def stop_loss_discrepancy(x: Tensor, g: Tensor) -> Discrepancy:
    """Sup over s in {-1, +1} and every threshold b of |E (s x - b)_+ - E (s g - b)_+|, exactly.

    The difference is piecewise linear in b, so the supremum sits at a sample or at infinity, where it is the difference
    of the means. O(N log N).

    Args:
        x: real sample (n,).
        g: generated sample (m,).

    Returns:
        An exact `Discrepancy` with witness (s, b): the neuron (s t - b)_+ that tells most.

    Example:
        >>> round(stop_loss_discrepancy(torch.tensor([1.0, -1.0]), torch.tensor([0.9, -0.9])).value, 6)
        0.05
    """
    x, g = _sample(x, "x").sort().values, _sample(g, "g").sort().values
    knots = torch.cat([x, g])
    difference = _stop_loss(x, knots) - _stop_loss(g, knots)
    shift = x.mean() - g.mean()  # E (b - x)_+ = E (x - b)_+ - E x + b
    best, sign = difference.abs(), 1.0
    mirrored = (difference - shift).abs()
    if mirrored.max() > best.max():
        best, sign = mirrored, -1.0
    index = int(best.argmax())
    witness = torch.stack([torch.full_like(knots[index], sign), sign * knots[index]])
    # 1e-16 * N of cancellation is removed by measuring the winner directly
    value = float(((sign * x - witness[1]).clamp_min(0).mean() - (sign * g - witness[1]).clamp_min(0).mean()).abs())
    return Discrepancy(value, value, witness, exact=True)


def huber_discriminator(result: Winsorised, *, max_neurons: int = MAX_NEURONS) -> TwoLayerDiscriminator:
    """Return the optimal discriminator as a ReLU network with thresholds.

    D is the largest of the tangents of (y - c)^2 at the generated values: a neuron half-way between neighbours,
    weighted by twice their distance. Above `max_neurons`, tangents at evenly ranked values are kept: still a valid
    dual point.

    Args:
        result: what `winsorise` returned.
        max_neurons: at most this many neurons.

    Returns:
        A `TwoLayerDiscriminator` with activation "relu", d = 1 and one bias per neuron.

    Example:
        >>> D = huber_discriminator(winsorise(torch.tensor([1.0, -1.0]), 0.05))
        >>> D(torch.tensor([[0.9], [0.0], [2.0]], dtype=torch.float64)).tolist()
        [0.81, 0.0, 2.79]
    """
    signs, thresholds, weights = [], [], []
    for sign in (1.0, -1.0):
        side = (sign * (result.points - result.center)).clamp_min(0).unique()  # ascending distances from the centre
        side = side[side > 0]
        keep = max(1, max_neurons // 2)
        if len(side) > keep:
            side = side[torch.linspace(0, len(side) - 1, keep).round().long()]
        edges = torch.cat([side.new_zeros(1), side])
        weights.append(2.0 * edges.diff())
        thresholds.append(0.5 * (edges[1:] + edges[:-1]))
        signs.append(torch.full_like(side, sign))
    sign, distance, weight = torch.cat(signs), torch.cat(thresholds), torch.cat(weights)
    D = TwoLayerDiscriminator(1, max(1, len(sign)), activation="relu", bias=True, dtype=torch.float64)
    if len(sign):
        with torch.no_grad():
            D.directions.copy_(sign[:, None])
            D.outer.copy_(weight)
            if D.bias is not None:
                D.bias.copy_(-(distance + sign * result.center))
    return D.to(result.points.device)


def _coupled_discrepancy(x: Tensor, g: Tensor) -> float:
    """`stop_loss_discrepancy` of two ascending samples of one size, O(n).

    Convex conjugation turns stop-loss transforms into integrals S of the largest fraction and keeps the sup-norm.
    """
    below = (x - g).cumsum(0)  # n (S_x(1) - S_g(1)) - n (S_x - S_g) at (n - k)/n
    low, high = (float(edge) for edge in below.aminmax())
    return max(abs(low), abs(high), abs(low - float(below[-1])), abs(high - float(below[-1]))) / x.shape[0]


def _stop_loss(ascending: Tensor, b: Tensor) -> Tensor:
    """E (x - b)_+ at many thresholds, from one cumulative sum."""
    n = ascending.shape[0]
    tail = torch.cat([ascending.flip(0).cumsum(0).flip(0), ascending.new_zeros(1)])
    index = torch.searchsorted(ascending, b)
    return (tail[index] - (n - index) * b) / n


def _sample(x: Tensor, name: str) -> Tensor:
    x = torch.as_tensor(x).detach()
    if x.ndim != 1 or x.shape[0] == 0:
        raise InputError(f"`{name}` must have shape (n,) with n >= 1, got {tuple(x.shape)}")
    x = x.double()
    if not bool(x.isfinite().all()):
        raise InputError(f"`{name}` holds NaN or infinity; clean it first")
    return x
