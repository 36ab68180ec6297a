"""The ReLU discrepancy from above: a semidefinite relaxation, made tight by cancelling one sample against the other."""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor

HELD = 4_000_000  # entries of a matrix of points against points, or against products, that is kept
SEARCHED = 1_100_000  # entries of points against points in a step of the search
LARGEST = 1500  # side of the matrix whose leading eigenvalue bounds fourth moments
PRODUCTS = 2e10  # multiplications that making it may take
RANK = 300  # of the factor by which fourth moments are weighed
WEIGHINGS = 10  # fixed-point steps of those weights
ROUNDS = 60  # of Frank-Wolfe, each a product of both samples
STEPS = 2  # of the power method in each round
LAST_STEPS = 20  # of it before a certificate
TOLERANCE = 1e-3  # of the value: a step that promises less is the last
CHECKED = 10  # rounds between certificates
MIXTURES = (0.0, 1e-3, 1e-2)  # shares of the identity in what weighs a certificate
SLACK = 1e-12  # relative rounding of eigenvalues, on the safe side


@dataclasses.dataclass(frozen=True)
class Minorant:
    """E |g^T u| >= u^T matrix u + offset for all ||u|| = 1.

    Attributes:
        matrix: (d, d), symmetric.
        offset: a number.
    """

    matrix: Tensor
    offset: float

    def at(self, L: Tensor) -> float:
        """<matrix, L L^T> + offset."""
        return float((self.matrix @ L * L).sum()) + self.offset


def minorant_by_length(G: Tensor) -> Minorant:
    """E |g^T u| >= u^T (E g g^T / ||g||) u, as |g^T u| <= ||g||."""
    # a point at 0 has no direction; its row is 0 whatever is divided
    return Minorant((G / G.norm(dim=1).clamp_min(torch.finfo(G.dtype).tiny)[:, None]).T @ G / len(G), 0.0)


def minorant_by_fourth_moments(G: Tensor) -> Minorant | None:
    """Bound E |g^T u| from below by fourth moments.

    For t = g^T u and any b >= 0, |t| >= (3/2) b t^2 - (1/2) b^3 t^4, an equality at |t| = 1 / b. With s = ||g||^2 / d
    and the traceless h = g g^T - s I, t^2 = s + <h, u u^T - I / d>, so that on the unit sphere

        mean b^3 t^4  <=  mean b^3 (2 s t^2 - s^2) + (1 - 1 / d) Lambda

    where Lambda is the largest eigenvalue of mean b^3 h h^T on symmetric matrices, or of its kernel. Any weights b are
    valid; good ones come from a fixed point, b_j^2 = s_j / y_j, where y_j is what the worst pseudo-moment Y of trace 1
    sees, s_j^2 + (1 - 1 / d) <h_j, Y h_j>.

    Args:
        G: (m, d), float64.

    Returns:
        The minorant; None where its eigenvalue would cost too much, or the sample is all zeros.
    """
    m, d = G.shape
    s = G.square().sum(1) / d
    pairs = d * (d + 1) // 2
    side = min(m, pairs)
    if side > LARGEST or side**2 * max(m, pairs) > PRODUCTS or not bool((s > 0).any()):
        return None
    free = 1.0 - 1.0 / d
    kernel = ((G @ G.T).square() - d * torch.outer(s, s)) / m if m <= pairs else None
    if kernel is None and m * pairs > HELD:
        b = (s + s.mean()).rsqrt()
    else:
        b = _weights(_traceless(G, s) if kernel is None else kernel, s, free, factor=kernel is None)
    root = (b**3).sqrt()
    if kernel is None:
        kernel = G.new_zeros(pairs, pairs)
        for points, share, weight in zip(G.split(4096), s.split(4096), root.split(4096), strict=True):
            h = _traceless(points, share) * weight[:, None]
            kernel += h.T @ h / m
    else:
        kernel = root[:, None] * kernel * root
    values = torch.linalg.eigvalsh(kernel)
    top = max(0.0, float(values[-1])) + SLACK * float(values.abs().max())
    scale = math.sqrt(float((b * s).mean()) / (float((b**3 * s**2).mean()) + free * top))  # the best multiple of b
    b, top = b * scale, top * scale**3
    matrix = (G * (1.5 * b - b**3 * s)[:, None]).T @ G / m
    return Minorant(matrix, 0.5 * float((b**3 * s**2).mean()) - 0.5 * free * top)


def _traceless(G: Tensor, s: Tensor) -> Tensor:
    """Each h = g g^T - s I as a row of length d (d + 1) / 2 with the products of symmetric matrices."""
    rows, columns = torch.triu_indices(G.shape[1], G.shape[1], device=G.device)
    diagonal = rows == columns
    return (G[:, rows] * G[:, columns] - s[:, None] * diagonal) * torch.where(diagonal, 1.0, 2.0**0.5).to(G)


def _weights(H: Tensor, s: Tensor, free: float, *, factor: bool) -> Tensor:
    """Weights b (m,) by the power method on Y = C C^T; H holds the rows h_j (`factor`), or their kernel over m."""
    columns = min(RANK, *H.shape)
    C = torch.randn(H.shape[1], columns, generator=torch.Generator().manual_seed(0), dtype=H.dtype).to(H.device)
    b = s.mean().rsqrt().expand_as(s)
    for _ in range(WEIGHINGS):
        seen = H @ C if factor else len(s) * (H @ C)  # without rows, C stands for its products with them
        trace = float(C.square().sum()) if factor else float((seen * C).sum())
        if trace <= 0.0:
            break
        y = s.square() + free * seen.square().sum(1) / trace
        b = torch.where(y > 0.0, (s / y.clamp_min(torch.finfo(y.dtype).tiny)).sqrt(), 0.0)
        C = (b**3)[:, None] * seen
        C = H.T @ C if factor else C
        C = C / C.norm().clamp_min(torch.finfo(C.dtype).tiny)
    return b


@dataclasses.dataclass
class Rest:
    """What is left to bound: sum_i ||L^T r_i|| - sum_k w_k (<K_k, L L^T> + o_k), and the L where that is large.

    Attributes:
        rows: r (n + 1, d), each with its probability.
        weights: w, at least 0 and in sum at most 1.
        minorants: K and o.
        L: (d, d) with ||L||_F = 1.
    """

    rows: Tensor
    weights: Tensor
    minorants: list[Minorant]
    L: Tensor

    def lowered(self) -> tuple[Tensor, float]:
        """Sum of the weighted minorants."""
        matrix = torch.zeros_like(self.L)
        for weight, minorant in zip(self.weights.tolist(), self.minorants, strict=True):
            matrix += weight * minorant.matrix
        offset = sum(w * k.offset for w, k in zip(self.weights.tolist(), self.minorants, strict=True))
        return matrix, offset

    def ascend(self, steps: int) -> None:
        """Steps of the power method, which climb: the sum of norms is convex in L, and half a shift stills the rest."""
        matrix, _ = self.lowered()
        shift = 0.5 * max(0.0, float(torch.linalg.eigvalsh(matrix)[-1]))
        for _ in range(steps):
            seen = self.rows @ self.L
            slope = self.rows.T @ (seen / _lengths(seen)[:, None]) - 2.0 * (matrix @ self.L - shift * self.L)
            length = float(slope.norm())
            if length == 0.0:
                return
            self.L = slope / length

    def bound(self) -> float:
        """Certificate: |r_i^T u| <= c_i / 2 + |r_i^T u|^2 / (2 c_i) for every c > 0, and a largest eigenvalue."""
        matrix, offset = self.lowered()
        lengths = self.rows.norm(dim=1)
        seen = (self.rows @ self.L).square().sum(1)
        found = math.inf
        for mixture in MIXTURES:
            c = ((1.0 - mixture) * seen + mixture * lengths.square() / len(self.L)).sqrt()
            # a row that L does not see still has a length
            c = torch.maximum(c, 1e-9 * lengths).clamp_min(torch.finfo(c.dtype).tiny)
            form = (self.rows / (2.0 * c)[:, None]).T @ self.rows - matrix
            values = torch.linalg.eigvalsh(0.5 * (form + form.T))
            rounding = SLACK * float(values.abs().max())
            found = min(found, 0.5 * float(c.sum()) + float(values[-1]) + rounding - offset)
        return found


def _lengths(rows: Tensor) -> Tensor:
    return rows.norm(dim=1).clamp_min(torch.finfo(rows.dtype).tiny)


def side_bound(X: Tensor, G: Tensor, starts: list[Tensor], *, floor: float = -math.inf) -> float:
    """Bound max over ||u|| = 1 of |delta^T u| + E |x^T u| - E |g^T u|, delta = mu_X - mu_G.

    With r_0 = delta, r_i = x_i / n and s_i = sign(r_i^T u), any T with sum_i |T_ji| <= 1 - w for each j gives
    (1 - w) |g_j^T u| >= sum_i T_ji s_i g_j^T u, and minorants of the rest w, so that the maximum is at most that of

        sum_i |(r_i - (1 / m) sum_j T_ji g_j)^T u| - sum_k w_k (u^T K_k u + o_k),    sum_k w_k = w.

    u is relaxed to a matrix L of ||L||_F = 1, a concave problem in L L^T whose dual (`Rest.bound`) is a bound for every
    L; T and w are improved by Frank-Wolfe against the worst L so far. Couplings are the T of one sign per point.

    Args:
        X: (n, d), float64.
        G: (m, d).
        starts: what couplings cancel of the rows r, each (n + 1, d), to begin with.
        floor: the search ends once the bound is at most that.

    Returns:
        The bound.
    """
    n, d = X.shape
    rows = torch.cat([(X.mean(0) - G.mean(0))[None], X / n])
    L = torch.eye(d, dtype=X.dtype, device=X.device) / d**0.5
    minorants = [minorant for make in (minorant_by_length, minorant_by_fourth_moments) if (minorant := make(G))]
    alone = [Rest(rows, weights, minorants, L) for weights in torch.eye(len(minorants)).to(rows)]
    coupled = [Rest(rows - used, rows.new_zeros(len(minorants)), minorants, L) for used in starts]
    for rest in (*alone, *coupled):
        rest.ascend(CHECKED)
    best = _lowered(min(alone, key=Rest.bound), rows, G, floor=floor)
    for rest in coupled:
        # Frank-Wolfe forgets a coupling slowly: it is where to begin only if it is better than all that was found
        if best > floor and rest.bound() < best:
            best = min(best, _lowered(rest, rows, G, floor=floor))
    return best


def _lowered(rest: Rest, rows: Tensor, G: Tensor, *, floor: float) -> float:
    """Bound once T and w have been improved from `rest` on."""
    best = rest.bound()
    for step in range(ROUNDS):
        if best <= floor:
            break
        moved = _frank_wolfe(rest, rows, G, step=step)
        if (step + 1) % CHECKED == 0 or not moved:
            settled = dataclasses.replace(rest)
            settled.ascend(LAST_STEPS)
            best = min(best, settled.bound())
        if not moved:
            break
    return best


def _frank_wolfe(rest: Rest, rows: Tensor, G: Tensor, *, step: int) -> bool:
    """One step of T and w towards the corner that lowers the value at L most; whether that is worth while."""
    rest.ascend(STEPS)
    seen = rest.rows @ rest.L
    lengths = _lengths(seen)
    direction = seen / lengths[:, None]
    worth = [minorant.at(rest.L) for minorant in rest.minorants]
    weights = torch.zeros_like(rest.weights)
    corner = torch.zeros_like(rows)
    best = max(worth)
    among = _among(len(rows), len(G), step).to(rows.device)
    gain = direction[among].float() @ (G @ rest.L).float().T  # any T is valid
    chosen = gain.abs().argmax(0)
    top = gain.gather(0, chosen[None])[0]
    if best >= float(top.abs().mean()):
        weights[worth.index(best)] = 1.0
    else:
        corner.index_add_(0, among[chosen], top.sign()[:, None].to(G) * G / len(G))
    move = corner - (rows - rest.rows)
    change = weights - rest.weights
    moved = move @ rest.L
    fall = float((direction * moved).sum()) + float(change @ change.new_tensor(worth))
    curvature = float((moved.square().sum(1) / lengths).sum())
    # the norms lie below their tangent parabolas: the step of those, but no longer than Frank-Wolfe's own
    longest = 2.0 / (step + 2)
    length = min(longest, fall / curvature) if curvature > 0.0 else longest * (fall > 0.0)
    if length <= 0.0:
        return False
    rest.rows = rest.rows - length * move
    rest.weights = rest.weights + length * change
    return fall > TOLERANCE * float(lengths.sum())


def _among(rows: int, m: int, step: int) -> Tensor:
    """Rows whose signs a step may use: all, or as many as a step may take, others in each."""
    most = max(2, SEARCHED // m)
    if rows <= most:
        return torch.arange(rows)
    others = torch.randperm(rows - 1, generator=torch.Generator().manual_seed(step))[: most - 1]
    return torch.cat([torch.zeros(1, dtype=torch.long), 1 + others])
