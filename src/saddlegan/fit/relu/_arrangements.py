"""Activation patterns of ReLU neurons: the cells of the arrangement of hyperplanes x_i^T u = 0.

On a cell the set {i : x_i^T u > 0} is constant, so that E (x^T u)_+ is linear in u there.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

TOLERANCE = 1e-10  # |x^T u| / ||x|| below which a point lies on the hyperplane
CHUNK = 1 << 10  # subsets treated in one batch


def count_subsets(n: int, rank: int) -> int:
    """Return how many subsets `cells` walks through for n points of that rank, an upper bound for its work."""
    return 2**n if n <= rank else math.comb(n, max(rank - 1, 0))


def cells(P: np.ndarray) -> np.ndarray:
    """List every activation pattern of the rows of P that some open cell has.

    Every cell of an arrangement that spans the space is a pointed cone, so it touches a ray on which rank - 1
    independent hyperplanes meet: walk through those rays and open the points that vanish there, recursively where more
    than rank - 1 of them do (repeated or collinear points).

    Args:
        P: points (n, d), none of them zero.

    Returns:
        Patterns (count, n), boolean, each once.

    References:
        [S22] section 2; the count is at most 2 sum_{i < r} C(n - 1, i) for rank r (Cover).

    Example:
        >>> cells(np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])).shape  # three lines cut the plane into six cells
        (6, 3)
    """
    lines, member, same = _lines(P / np.linalg.norm(P, axis=1, keepdims=True))
    return _cells_of_lines(lines)[:, member] == same


def _lines(P: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Collect unit vectors that lie on one line: the lines, each point's line, and whether it points the same way."""
    first = np.abs(P @ P.T) >= 1.0 - TOLERANCE
    leader = first.argmax(axis=1)
    chosen, member = np.unique(leader, return_inverse=True)
    return P[chosen], member, (P * P[leader]).sum(1) > 0


def _cells_of_lines(P: np.ndarray) -> np.ndarray:
    n = P.shape[0]
    _, spectrum, basis = np.linalg.svd(P, full_matrices=False)
    # rows are unit vectors, so that the tolerance is an angle
    rank = int((spectrum > TOLERANCE * max(1.0, spectrum[0])).sum())
    if n == rank:
        return _all_signs(n)
    # within the span nothing is lost: directions outside it change no sign
    P = P @ basis[:rank].T
    if rank == 1:
        positive = P[:, 0] > 0
        return np.stack([positive, ~positive])
    found: list[np.ndarray] = []
    for rays, zero in _rays(P, rank):
        generic = zero.sum(1) == rank - 1
        found.append(_open(P, rays[generic], zero[generic], _all_signs(rank - 1)))
        found += [_open(P, rays[[i]], zero[[i]], _cells_of_lines(P[zero[i]])) for i in np.flatnonzero(~generic)]
    return _distinct(np.concatenate(found), n)


def _open(P: np.ndarray, rays: np.ndarray, zero: np.ndarray, local: np.ndarray) -> np.ndarray:
    """Packed patterns of the cells that touch the rays and their mirrors; `zero` marks equally many points on each."""
    count, n = zero.shape
    patterns = np.empty((2, count, len(local), n), dtype=bool)
    patterns[0] = (rays @ P.T > 0)[:, None, :]
    patterns[1] = ~patterns[0]
    where = np.nonzero(zero)[1].reshape(count, local.shape[1])
    patterns[:, np.arange(count)[:, None, None], np.arange(len(local))[:, None], where[:, None, :]] = local
    # packed to bits: patterns are many, and repeats come from every ray that a cell touches
    return np.unique(np.packbits(patterns.reshape(-1, n), axis=1), axis=0)


def _distinct(packed: np.ndarray, n: int) -> np.ndarray:
    return np.unpackbits(np.unique(packed, axis=0), axis=1)[:, :n].astype(bool)


def _rays(P: np.ndarray, rank: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Unit vectors (count, rank) on which rank - 1 independent hyperplanes meet, and which points vanish on each."""
    subsets = itertools.combinations(range(P.shape[0]), rank - 1)
    while chunk := list(itertools.islice(subsets, CHUNK)):
        _, spectrum, basis = np.linalg.svd(P[np.array(chunk)], full_matrices=True)
        # dependent subsets meet in more than a ray; another subset gives their rays
        rays = basis[spectrum[:, -1] > TOLERANCE, -1]
        yield rays, np.abs(rays @ P.T) <= TOLERANCE * 10


def _all_signs(n: int) -> np.ndarray:
    return ((np.arange(2**n)[:, None] >> np.arange(n)) & 1).astype(bool)


def sweep(P: Tensor, weights: Tensor, *, signed: bool = False) -> tuple[float, Tensor]:
    """Max over unit u in the plane of |sum_i w_i (p_i^T u)_+|, exactly, by one angular sweep.

    Between consecutive angles at which some p_i^T u changes sign the sum is a fixed linear function a^T u. Its extremes
    on the arc are a / ||a||, -a / ||a|| where they lie inside, else the end points. O(N log N).

    Args:
        P: points (N, 2), float64.
        weights: signed weights (N,).
        signed: maximise the sum itself instead of its modulus.

    Returns:
        The sum at the maximiser, with its sign, and the maximising unit vector (2,).

    Example:
        >>> value, u = sweep(torch.tensor([[3.0, 4.0]], dtype=torch.float64), torch.tensor([2.0], dtype=torch.float64))
        >>> value, [round(c, 12) for c in u.tolist()]
        (10.0, [0.6, 0.8])
    """
    active = P.abs().sum(1) > 0
    P, weights = P[active], weights[active]
    if P.shape[0] == 0:
        return 0.0, torch.tensor([1.0, 0.0], dtype=P.dtype, device=P.device)
    weighted = weights[:, None] * P
    # every line is met once on a half circle; the opposite half has the complementary pattern
    angle = torch.remainder(torch.atan2(P[:, 1], P[:, 0]) + 0.5 * math.pi, math.pi)
    angle, order = angle.sort()
    # start in the widest gap: nobody's side is in doubt there, whatever the rounding
    gap = torch.cat([angle[:1] + math.pi - angle[-1:], angle.diff()])
    widest = int(gap.argmax())
    angle = torch.cat([angle[widest:], angle[:widest] + math.pi])
    order = order.roll(-widest)
    P, weighted = P[order], weighted[order]
    start = angle[0] - 0.5 * gap[widest]
    inside = P @ torch.stack([start.cos(), start.sin()]) > 0
    # at its angle, a point enters if it was outside and leaves if it was inside
    change = torch.where(inside[:, None], -weighted, weighted)
    first = weighted[inside].sum(0, keepdim=True)
    slope = torch.cat([first, first + change.cumsum(0)])  # (N + 1, 2), arc k between angle[k-1] and angle[k]
    left = torch.cat([start[None], angle])
    right = torch.cat([angle, start[None] + math.pi])
    opposite = slope - weighted.sum(0)  # a of the antipodal arc, read at -u
    here, there = _inner(slope, left, right), _inner(opposite, left, right)
    turned = torch.cat([left, right, there])
    theta = torch.cat([left, right, here, turned + math.pi])
    values = torch.cat([_along(slope, t) for t in (left, right, here)] + [_along(opposite, t) for t in turned.chunk(3)])
    theta = theta[(values if signed else values.abs()).argmax()]
    u = torch.stack([theta.cos(), theta.sin()])
    return float((weighted * (P @ u > 0)[:, None]).sum(0) @ u), u


def _inner(slope: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """Angle on [left, right] at which |slope^T u| is largest in the interior, or `left` where there is none."""
    theta = torch.atan2(slope[:, 1], slope[:, 0])
    theta = left + torch.remainder(theta - left, math.pi)
    return torch.where(theta <= right, theta, left)


def _along(slope: Tensor, theta: Tensor) -> Tensor:
    return slope[:, 0] * theta.cos() + slope[:, 1] * theta.sin()
