"""The discrepancy of ReLU discriminators: exact where it can be, two-sided where it cannot."""

from __future__ import annotations

import dataclasses
import importlib.util
import math

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from saddlegan.fit.relu._arrangements import count_subsets, sweep
from saddlegan.fit.relu._relaxation import side_bound
from saddlegan.fit.relu._zonotope import Projection, hausdorff, project, support, vertex
from saddlegan.results import Discrepancy

ENUMERABLE = 512  # subsets of points up to which all activation patterns are listed
COUPLING_CELLS = 4_000_000  # entries of the cost matrix up to which an optimal coupling is computed
POLISHED = 8  # starts that are followed to a local maximum
LARGE = 4096  # samples above which a quarter of them are followed
ROUNDS = 50
SEARCH_STARTS = 16  # of the ascents inside a solver, which are many


def relu_discrepancy(
    X: Tensor, G: Tensor, *, n_starts: int = 64, generator: torch.Generator | None = None, bound: bool = True
) -> Discrepancy:
    """Sup over ||u|| <= 1 of |E (x^T u)_+ - E (g^T u)_+|: the Hausdorff distance of two zonotopes.

    Exact in one and two dimensions (an angular sweep, O(N log N)) and wherever all activation patterns can be listed.
    Otherwise a multi-start ascent gives `value`, which some u attains, and couplings and moments give `upper`.

    Args:
        X: real sample (n, d), float64.
        G: generated sample (m, d), float64, on the same device.
        n_starts: directions from which the ascent starts, beside the informed ones.
        generator: source of the starts; a fixed seed if None.
        bound: whether to compute `upper` where the value is not exact; infinity if not.

    Returns:
        `Discrepancy`.

    References:
        Theory 1.4.

    Example:
        >>> X = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], dtype=torch.float64)
        >>> round(relu_discrepancy(X, torch.zeros(1, 3, dtype=torch.float64)).value, 12), 0.5 * math.sqrt(2)
        (0.707106781187, 0.7071067811865476)
    """
    d = X.shape[1]
    if d <= 2:
        return planar(X, G)
    size = float(max(X.abs().max(), G.abs().max())) or 1.0
    X, G = X / size, G / size
    work = max(count_subsets(len(P), min(P.shape)) for P in (X, G))
    if work <= ENUMERABLE:
        best = hausdorff(X, G)
        exact = best.upper - best.lower <= 1e-9 * max(best.upper, 1.0)
        return Discrepancy(best.lower * size, best.upper * size, best.direction, exact=exact)
    best = ascend(X, G, n_starts=n_starts, generator=generator)
    upper = max(upper_bound(X, G, best.direction, floor=best.lower), best.lower) if bound else math.inf
    return Discrepancy(best.lower * size, upper * size, best.direction, exact=False)


def searched(X: Tensor, G: Tensor, *, generator: torch.Generator) -> tuple[float, Tensor]:
    """Value and witness of `relu_discrepancy`: exact in one and two dimensions, else by a small ascent."""
    if X.shape[1] <= 2:
        found = planar(X, G)
        return found.value, found.witness
    best = ascend(X, G, n_starts=SEARCH_STARTS, generator=generator, polished=0)
    return best.lower, best.direction


def planar(X: Tensor, G: Tensor) -> Discrepancy:
    """`relu_discrepancy` in one or two dimensions, exactly."""
    weights = torch.cat([X.new_full((len(X),), 1.0 / len(X)), G.new_full((len(G),), -1.0 / len(G))])
    points = torch.cat([X, G])
    if X.shape[1] == 1:
        points = torch.nn.functional.pad(points, (0, 1))
    value, u = sweep(points, weights)
    u = torch.nn.functional.normalize(u[: X.shape[1]], dim=0)
    return Discrepancy(abs(value), abs(value), u, exact=True)


def ascend(
    X: Tensor, G: Tensor, *, n_starts: int, generator: torch.Generator | None, polished: int = POLISHED
) -> Projection:
    """Best local maximum of |E (x^T u)_+ - E (g^T u)_+| from many starts, run side by side.

    First normalised gradient steps with a shrinking length, for all starts and both signs at once; then, from the best,
    the convex-concave procedure: take the vertex of the one zonotope in direction u, project it on the other, let u be
    the direction between them. Each round raises the distance, and it ends at a vertex. `polished` starts are followed
    so, a quarter of them for large samples.

    Returns:
        `Projection` with `lower` attained by `direction`; `upper` only bounds the last vertex.
    """
    d = X.shape[1]
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    random = torch.randn(n_starts, d, generator=generator, dtype=X.dtype, device=generator.device).to(X.device)
    mean = X.mean(0) - G.mean(0)
    # where second moments differ most, which random starts miss in many dimensions
    axes = torch.linalg.eigh(X.T @ X / len(X) - G.T @ G / len(G)).eigenvectors.T[[0, -1]]
    start = torch.cat([random, axes, -axes, mean[None], -mean[None]])
    start = torch.nn.functional.normalize(start[start.norm(dim=1) > 0])
    U = torch.cat([start, start])
    sign = torch.cat([X.new_ones(len(start)), -X.new_ones(len(start))])
    best, champion = X.new_full((len(U),), -math.inf), U
    for step in range(ROUNDS):
        slope = sign[:, None] * (vertex(X, U) - vertex(G, U))  # gradient; its product with u is the value
        value = (slope * U).sum(1)
        better = value > best
        best, champion = torch.where(better, value, best), torch.where(better[:, None], U, champion)
        # from the best so far, with steps that shrink: f is piecewise linear, and plain ascent would hop over its kinks
        U = torch.nn.functional.normalize(champion + torch.nn.functional.normalize(slope) / (1.0 + 0.2 * step))
    winner = Projection(math.inf, -math.inf, champion[0])
    if polished == 0:
        top = int(best.argmax())
        return Projection(math.inf, float(best[top]), champion[top])
    for index in apart(champion, best, count=polished if max(len(X), len(G)) <= LARGE else -(-polished // 4)):
        P, Q = (X, G) if sign[index] > 0 else (G, X)
        found = _climb(champion[index], P, Q)
        if found.lower > winner.lower:
            winner = found
    return winner


def apart(directions: Tensor, values: Tensor, *, count: int, cosine: float = 1.0 - 1e-5) -> list[int]:
    """Return the indices of the highest values, at most `count`, skipping directions beside one already chosen."""
    chosen: list[int] = []
    for index in values.argsort(descending=True).tolist():
        if len(chosen) == count:
            break
        if not chosen or float((directions[chosen] @ directions[index]).max()) < cosine:
            chosen.append(index)
    return chosen


def _climb(u: Tensor, P: Tensor, Q: Tensor) -> Projection:
    best = Projection(math.inf, float(support(P, u[None]) - support(Q, u[None])), u)
    for _ in range(ROUNDS):
        found = project(vertex(P, u[None])[0], Q, tolerance=1e-7)
        u = found.direction
        value = float(support(P, u[None]) - support(Q, u[None]))  # at least found.lower: the vertex may move on
        if value <= best.lower * (1.0 + 1e-12):
            break
        best = Projection(found.upper, value, u)
    return best


def local_maxima(P: Tensor, Q: Tensor, U: Tensor, *, signed: bool, count: int) -> tuple[Tensor, Tensor]:
    """Cheap local maxima of f(u) = E (p^T u)_+ - E (q^T u)_+, or of |f|, from the directions U: two gradient steps.

    Returns:
        Up to `count` directions that are not neighbours, and their values of f or |f|, descending; their first is not
        the global maximum in general.
    """

    def height(directions: Tensor) -> Tensor:
        value = support(P, directions) - support(Q, directions)
        return value if signed else value.abs()

    top = height(U)
    for _ in range(2):
        slope = vertex(P, U) - vertex(Q, U)
        sign = 1.0 if signed else (slope * U).sum(1, keepdim=True).sign()
        moved = torch.nn.functional.normalize(U + torch.nn.functional.normalize(slope * sign))
        value = height(moved)
        better = value > top
        U, top = torch.where(better[:, None], moved, U), torch.where(better, value, top)
    chosen = apart(U, top, count=count)
    return U[chosen], top[chosen]


def upper_bound(X: Tensor, G: Tensor, direction: Tensor, *, floor: float = -math.inf) -> float:
    """Upper bound of the ReLU discrepancy, from couplings and their relaxation.

        2 (t)_+ = t + |t|,   hence   2 sup  =  max over ||u|| = 1 of  |delta^T u| + |E |x^T u| - E |g^T u||

    with delta = mu_X - mu_G; either sign of the last term is bounded by `side_bound`, both by a coupling's cost.

    Args:
        X: (n, d).
        G: (m, d).
        direction: unit vector along which a cheap coupling is sorted where the optimal one is too expensive.
        floor: no bound below that is looked for.

    Example:
        >>> upper_bound(torch.tensor([[1.0, 0.0]]), torch.tensor([[-1.0, 0.0]]), torch.tensor([1.0, 0.0]))
        1.0
    """
    X, G = X.double(), G.double()
    couplings = _couplings(X, G, direction.double())
    sides = []
    for P, Q, pairs in ((X, G, couplings), (G, X, [coupling.turned() for coupling in couplings])):
        least = max(floor, *sides) if sides else floor
        starts = [pair.cancelled(P, Q) for pair in pairs]
        sides.append(0.5 * side_bound(P, Q, starts, floor=2.0 * least))
    return max(0.0, min(_cost(X, G, couplings), max(sides)))


def coupling_bound(X: Tensor, G: Tensor, direction: Tensor) -> float:
    """Upper bound of the ReLU discrepancy: ||mu_X - mu_G|| / 2 plus half a transport cost that ignores signs.

    (t)_+ = (t + |t|) / 2, and | |x^T u| - |g^T u| | <= min(||x - g||, ||x + g||) under any coupling of x and g. It is
    never above the Wasserstein distance W1(X, G), since both halves are at most half of it.

    Args:
        X: (n, d).
        G: (m, d).
        direction: unit vector along which a cheap coupling is sorted where the optimal one is too expensive.

    Returns:
        The bound.

    Example:
        >>> coupling_bound(torch.tensor([[1.0, 0.0]]), torch.tensor([[-1.0, 0.0]]), torch.tensor([1.0, 0.0]))
        1.0
    """
    return _cost(X, G, _couplings(X, G, direction))


def _cost(X: Tensor, G: Tensor, couplings: list[Coupling]) -> float:
    return 0.5 * float((X.mean(0) - G.mean(0)).norm()) + 0.5 * min(pairs.cost(X, G) for pairs in couplings)


@dataclasses.dataclass(frozen=True)
class Coupling:
    """Pairs of points with weights, whose sums over either point's pairs are 1 / n and 1 / m.

    Attributes:
        rows: indices into the one sample.
        columns: indices into the other.
        weights: in the samples' dtype.
    """

    rows: Tensor
    columns: Tensor
    weights: Tensor

    def turned(self) -> Coupling:
        """The same, the samples exchanged."""
        return Coupling(self.columns, self.rows, self.weights)

    def cost(self, P: Tensor, Q: Tensor) -> float:
        """Mean distance of a pair, each with the nearer sign."""
        p, q = P[self.rows], Q[self.columns]
        return float(self.weights @ torch.minimum((p - q).norm(dim=1), (p + q).norm(dim=1)))

    def cancelled(self, P: Tensor, Q: Tensor) -> Tensor:
        """What each p loses to its partners, for `side_bound`: rows (1 + n, d)."""
        p, q = P[self.rows], Q[self.columns]
        sign = torch.where((p * q).sum(1) >= 0.0, 1.0, -1.0).to(q)
        return P.new_zeros(1 + len(P), P.shape[1]).index_add_(0, 1 + self.rows, (self.weights * sign)[:, None] * q)


def _couplings(X: Tensor, G: Tensor, direction: Tensor) -> list[Coupling]:
    """The optimal coupling if it can be had, else two that sort both samples."""
    n, m = len(X), len(G)
    if n * m <= COUPLING_CELLS:
        cost = torch.minimum(torch.cdist(X, G), torch.cdist(X, -G)).cpu().numpy()
        if n == m:
            rows, columns = (torch.as_tensor(index, device=X.device) for index in linear_sum_assignment(cost))
            return [Coupling(rows, columns, X.new_full((n,), 1.0 / n))]
        if importlib.util.find_spec("ot") is not None:
            plan = _transport(cost)
            rows, columns = (torch.as_tensor(index, device=X.device) for index in np.nonzero(plan))
            return [Coupling(rows, columns, torch.as_tensor(plan[plan.nonzero()]).to(X))]
    return [_sorted_coupling(X, G, key) for key in (direction, None)]


def _transport(cost: np.ndarray) -> np.ndarray:
    """Optimal transport plan, from the network simplex of POT."""
    import ot  # an extra; imported where it is needed

    n, m = cost.shape
    return ot.emd(np.full(n, 1.0 / n), np.full(m, 1.0 / m), cost, numItermax=10_000_000)


def _sorted_coupling(X: Tensor, G: Tensor, direction: Tensor | None) -> Coupling:
    """The coupling that sorts both samples by |p^T u|, or by length."""
    order = [(P.norm(dim=1) if direction is None else (P @ direction).abs()).argsort() for P in (X, G)]
    n, m = len(X), len(G)
    edges = torch.cat([torch.arange(1, n + 1).double() / n, torch.arange(1, m + 1).double() / m]).unique()
    lengths = torch.cat([edges[:1], edges.diff()]).to(X)
    middle = edges.to(X) - 0.5 * lengths
    return Coupling(
        order[0][(middle * n).long().clamp_max(n - 1)], order[1][(middle * m).long().clamp_max(m - 1)], lengths
    )
