"""Theory 1.5: the two-layer ReLU generator of least weight decay that realises given samples.

A neuron pays ||w||^2 + ||v||^2 >= 2 ||w|| ||v||, so that directions w can have length one and

    min ||W1||^2 + ||W2||^2  s.t. (Z W1)_+ W2 = G   =   min 2 sum_j ||v_j||  s.t.  sum_j (Z w_j)_+ v_j^T = G,

a group lasso over one group per direction: convex, and with the dual max 2 <Y, G> s.t. ||Y^T (Z w)_+|| <= 1 for every
unit w. A direction matters through its activation pattern and its place in the pattern's cone: start from sampled
patterns, and add the directions at which the dual constraint fails.
"""

from __future__ import annotations

import dataclasses
import math
import time
from typing import Any

import numpy as np
import torch
from scipy.optimize import nnls
from sklearn.base import BaseEstimator
from torch import nn

from saddlegan import checks
from saddlegan.checks import RandomState
from saddlegan.errors import InputError
from saddlegan.fit._base import read_data
from saddlegan.fit._convex import cvxpy, solve
from saddlegan.fit.relu._arrangements import cells, count_subsets
from saddlegan.moments._engines import Progress
from saddlegan.moments._second_moment import as_tensor, floating
from saddlegan.results import Solution, Status

ENUMERABLE = 20_000  # subsets of latents walked through to list all patterns
RANGE_TOLERANCE = 1e-9  # relative distance from the span of the neurons at which a target counts as unreachable
PRICE_TOLERANCE = 3e-6  # violation of the dual constraint that is left
ADDED = 24  # directions added in one round
SEARCH_ROUNDS = 60


@dataclasses.dataclass(frozen=True)
class TwoLayerFit:
    """A two-layer ReLU generator and the proof of how little weight decay could do.

    Attributes:
        generator: Linear, ReLU, Linear without biases, balanced: every neuron has ||w_j|| = ||v_j||.
        solution: value ||W1||^2 + ||W2||^2 and its lower bound for every two-layer ReLU network, of any width.
    """

    generator: nn.Sequential
    solution: Solution


def two_layer_generator(
    Z: Any,
    target: Any,
    *,
    tolerance: float = 0.0,
    n_directions: int | None = None,
    max_rounds: int = 40,
    n_starts: int = 64,
    random_state: RandomState = 0,
    time_limit: float | None = None,
    progress: Progress | None = None,
) -> TwoLayerFit:
    """Solve min ||W1||^2 + ||W2||^2 subject to ||(Z W1)_+ W2 - G||_F <= tolerance ||G||_F by its convex program.

    The network is feasible and its regulariser is the program's value. The bound divides a dual point by its dual norm
    max over unit w of ||Y^T (Z w)_+||, which is exact for up to two latents, and for a target of rank one where all
    activation patterns can be listed; otherwise it is bounded from above, by spectral norms over the patterns or over
    all of them at once, and the gap stays open.

    Args:
        Z: latents (m, k); append a column of ones for thresholds.
        target: G (m, d), the samples to realise, for instance those of `QuadraticWGAN`'s generator on Z.
        tolerance: relative error that is allowed; 0 for equality.
        n_directions: directions sampled at the start, each with its activation pattern; None for 4 m.
        max_rounds: rounds in which violated directions are added; 1 solves over the sampled directions alone.
        n_starts: starts of the search for them, beside the informed ones.
        random_state: seed of both.
        time_limit: seconds after which no further round begins; the network and its bound so far are the answer.
        progress: called with (stage, rounds done, rounds at most).

    Returns:
        `TwoLayerFit`; `solution.status` is OPTIMAL where bound and value agree to 1e-5, else FEASIBLE.
        `solution.stats` has the residual (`primal_residual` <= 0 up to rounding), `neurons`, `rounds`, `patterns`
        (listed; 0 if too many) and `dual_norm`.

    Raises:
        InputError: unusable data, different numbers of rows, or a target that no such network reaches.
        MissingExtraError: cvxpy is missing.

    References:
        Theory 1.5; [S22] on two-layer ReLU generators; Pilanci and Ergen (2020) on the convex program.

    Example:
        >>> Z = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
        >>> found = two_layer_generator(Z, np.abs(Z[:, :1]))  # |z_1| needs two neurons, each of cost 2
        >>> round(found.solution.value, 6), round(found.solution.bound, 6), found.solution.status.name
        (4.0, 4.0, 'OPTIMAL')
        >>> [round(g, 6) + 0.0 for g in found.generator(torch.tensor(Z)).flatten().tolist()]
        [1.0, 0.0, 1.0, 0.0]
    """
    latents, samples = _read("Z", Z), _read("target", target)
    if len(latents) != len(samples):
        raise InputError(f"`Z` and `target` must have as many rows, got {len(latents)} and {len(samples)}")
    tolerance = checks.number("tolerance", tolerance)
    if not tolerance < 1.0:
        raise InputError(f"`tolerance` must be at least 0 and below 1, got {tolerance!r}")
    max_rounds = checks.count("max_rounds", max_rounds)
    n_starts = checks.count("n_starts", n_starts)
    if n_directions is not None:
        n_directions = checks.count("n_directions", n_directions)
    deadline = time.perf_counter() + (math.inf if time_limit is None else checks.positive("time_limit", time_limit))
    dtype, device = floating(Z), as_tensor(Z).device
    size = float(np.linalg.norm(samples))
    if size == 0.0:
        nothing = np.zeros((latents.shape[1], 1)), np.zeros((1, samples.shape[1]))
        stats = {"primal_residual": 0.0, "dual_residual": 0.0, "neurons": 0, "rounds": 0, "patterns": 0}
        return TwoLayerFit(_network(*nothing, dtype, device), Solution(0.0, 0.0, 0.0, Status.OPTIMAL, stats))
    unit = float(np.abs(latents).max()) or 1.0
    # outputs outside the target's row space only cost: work in coordinates of that space
    left, spectrum, axes = np.linalg.svd(samples / size, full_matrices=False)
    rank = int((spectrum > 1e-13 * spectrum[0]).sum())
    G, axes = left[:, :rank] * spectrum[:rank], axes[:rank]
    search = _Search(latents / unit, n_starts=n_starts, generator=checks.generator(random_state))
    first = W = search.first_directions(4 * len(G) if n_directions is None else int(n_directions))
    _check_reachable(np.maximum(search.Z @ W.T, 0.0), G, tolerance)
    V, bound, rounds, dual_norm = np.zeros((0, rank)), 0.0, 0, math.inf
    for _ in range(max_rounds):
        rounds += 1
        V, Y = _group_lasso(np.maximum(search.Z @ W.T, 0.0), G, tolerance)
        found, heights, upper = search.price(Y, W)
        reached = float((Y * G).sum() - tolerance * np.linalg.norm(Y)) / max(upper, 1e-300)
        if reached > bound:
            bound, dual_norm = reached, upper
        if progress is not None:
            progress("two-layer generator", rounds, max_rounds)
        over = rounds == max_rounds or time.perf_counter() > deadline
        if over or heights.max(initial=0.0) <= 1.0 + PRICE_TOLERANCE:
            break
        # the first directions keep the target in reach, the active ones the value; the others have had their day
        W = np.vstack([first, W[len(first) :][_active(V)[len(first) :]], found[heights > 1.0 + PRICE_TOLERANCE]])
    W, V = _pruned(search.Z, W, V, G, tolerance)
    cost, active = np.linalg.norm(V, axis=1), _active(V, least=1e-10)
    scale = size / unit
    root = np.sqrt(cost[active] * scale)
    W1 = W[active].T * root
    W2 = (V[active] * (scale / root)[:, None]) @ axes
    value = float(np.square(W1).sum() + np.square(W2).sum())
    bound *= 2.0 * scale
    stats = {
        "primal_residual": float(np.linalg.norm(np.maximum(latents @ W1, 0.0) @ W2 - samples)) - tolerance * size,
        "dual_residual": 0.0,
        "neurons": int(active.sum()),
        "rounds": rounds,
        "patterns": search.n_patterns,
        "dual_norm": dual_norm,
    }
    status = Status.OPTIMAL if value - bound <= 1e-5 * value else Status.FEASIBLE
    return TwoLayerFit(_network(W1, W2, dtype, device), Solution(value, bound, value - bound, status, stats))


def _read(name: str, data: Any) -> np.ndarray:
    try:
        return as_tensor(read_data(BaseEstimator(), data, reset=True)).double().cpu().numpy()
    except InputError as error:
        raise InputError(str(error).replace("`X`", f"`{name}`", 1)) from error


def _network(W1: np.ndarray, W2: np.ndarray, dtype: torch.dtype, device: torch.device) -> nn.Sequential:
    layers = []
    for weight in (W1, W2):
        layer = nn.Linear(*weight.shape, bias=False, dtype=dtype, device=device)
        with torch.no_grad():
            layer.weight.copy_(torch.as_tensor(weight.T))
        layers.append(layer)
    return nn.Sequential(layers[0], nn.ReLU(), layers[1])


def _check_reachable(Phi: np.ndarray, G: np.ndarray, tolerance: float) -> None:
    missing = float(np.linalg.norm(G - Phi @ np.linalg.lstsq(Phi, G, rcond=None)[0]))
    if missing > tolerance + RANGE_TOLERANCE:
        raise InputError(
            f"`target` is not realised by ReLU neurons on these latents: the relative error is at least {missing:.3g}; "
            "raise `tolerance` or `n_directions`, or use more latent columns (a column of ones gives thresholds)"
        )


def _group_lasso(Phi: np.ndarray, G: np.ndarray, tolerance: float) -> tuple[np.ndarray, np.ndarray]:
    """Solve min sum_j ||v_j|| s.t. ||Phi V - G||_F <= tolerance; returns V and the multiplier Y of Phi V = G."""
    cp = cvxpy()
    V = cp.Variable((Phi.shape[1], G.shape[1]))
    realised, limits = Phi @ V, []
    if tolerance > 0.0:
        error = cp.Variable(G.shape)
        realised, limits = realised + error, [cp.norm(error, "fro") <= tolerance]
    equation = realised == G
    solve(cp.Problem(cp.Minimize(cp.sum(cp.norm(V, 2, axis=1))), [equation, *limits]))
    return np.asarray(V.value), -np.asarray(equation.dual_value)


def _active(V: np.ndarray, *, least: float = 1e-6) -> np.ndarray:
    cost = np.linalg.norm(V, axis=1)
    return cost > least * cost.max()


def _pruned(
    Z: np.ndarray, W: np.ndarray, V: np.ndarray, G: np.ndarray, tolerance: float
) -> tuple[np.ndarray, np.ndarray]:
    """Drop the neurons that an interior-point solver leaves with next to no weight; the rest makes up for them."""
    W, V = W[_active(V)], V[_active(V)]
    Phi = np.maximum(Z @ W.T, 0.0)
    error = G - Phi @ V
    excess = max(0.0, 1.0 - tolerance / max(float(np.linalg.norm(error)), 1e-300))
    return W, V + np.linalg.lstsq(Phi, excess * error, rcond=None)[0]


class _Search:
    """The dual norm max over unit w of ||Y^T (Z w)_+||: where it is large, and a bound above it."""

    def __init__(self, Z: np.ndarray, *, n_starts: int, generator: torch.Generator) -> None:
        self.Z = Z
        self._starts = n_starts
        self._generator = generator
        self._rows = np.abs(Z).sum(1) > 0
        rank = int(np.linalg.matrix_rank(Z))
        listed = bool(self._rows.any()) and count_subsets(int(self._rows.sum()), rank) <= ENUMERABLE
        self._patterns = cells(Z[self._rows]) if listed else None
        self.n_patterns = 0 if self._patterns is None else len(self._patterns)

    def first_directions(self, count: int) -> np.ndarray:
        """Unit directions: both ways along every latent, and at random."""
        directions = [self.Z[self._rows], -self.Z[self._rows], self._random(count)]
        if self.Z.shape[1] == 2:
            edges = self._edges()
            middle = edges + 0.5 * np.diff(edges, append=edges[:1] + 2.0 * math.pi)
            directions += [np.stack([np.cos(t), np.sin(t)], 1) for t in (edges, middle)]
        W = np.vstack(directions)
        return W / np.linalg.norm(W, axis=1, keepdims=True)

    def price(self, Y: np.ndarray, W: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
        """Return local maxima of ||Y^T (Z w)_+||, their heights in descending order, and an upper bound on all."""
        candidates, upper = self._candidates(Y)
        U = np.vstack([W, self._random(self._starts), candidates])
        top = self._height(Y, U)
        for step in range(SEARCH_ROUNDS):
            active = np.maximum(U @ self.Z.T, 0.0)
            slope = ((active @ Y) @ Y.T * (active > 0)) @ self.Z
            slope /= np.maximum(np.linalg.norm(slope, axis=1, keepdims=True), 1e-300)
            moved = U + slope * (4.0 / (1.0 + 0.5 * step))
            moved /= np.maximum(np.linalg.norm(moved, axis=1, keepdims=True), 1e-300)
            height = self._height(Y, moved)
            better = height > top
            U, top = np.where(better[:, None], moved, U), np.where(better, height, top)
        chosen: list[int] = []
        for index in np.argsort(-top).tolist():
            if len(chosen) == ADDED:
                break
            if not chosen or float((U[chosen] @ U[index]).max()) < 1.0 - 1e-10:
                chosen.append(index)
        if self.Z.shape[1] <= 2:
            upper = float(top.max())  # the candidates hold every cone's maximiser
        return U[chosen], top[chosen], max(upper, float(top.max()))

    def _height(self, Y: np.ndarray, U: np.ndarray) -> np.ndarray:
        return np.linalg.norm(np.maximum(U @ self.Z.T, 0.0) @ Y, axis=1)

    def _random(self, count: int) -> np.ndarray:
        generator = self._generator
        draw = torch.randn(count, self.Z.shape[1], generator=generator, dtype=torch.float64, device=generator.device)
        U = draw.cpu().numpy()
        return U / np.linalg.norm(U, axis=1, keepdims=True)

    def _edges(self) -> np.ndarray:
        """Ascending angles at which some neuron's pattern changes, in the plane."""
        Z = self.Z[self._rows]
        angle = np.arctan2(Z[:, 1], Z[:, 0]) + 0.5 * math.pi
        return np.unique(np.mod(np.concatenate([angle, angle + math.pi]), 2.0 * math.pi))

    def _candidates(self, Y: np.ndarray) -> tuple[np.ndarray, float]:
        """Directions that may be the maximiser, and an upper bound (in the plane the candidates' own maximum)."""
        k = self.Z.shape[1]
        if k == 1:
            return np.array([[1.0], [-1.0]]), math.inf
        if k == 2:
            # on an arc ||Y^T D Z w||^2 is a quadratic form: its eigenvector where that lies inside, else an edge
            edges = self._edges()
            middle = edges + 0.5 * np.diff(edges, append=edges[:1] + 2.0 * math.pi)
            patterns = np.stack([np.cos(middle), np.sin(middle)], 1) @ self.Z.T > 0
            A = np.einsum("mr,am,mk->ark", Y, patterns.astype(float), self.Z, optimize=True)
            B = A.transpose(0, 2, 1) @ A
            phi = 0.5 * np.arctan2(2.0 * B[:, 0, 1], B[:, 0, 0] - B[:, 1, 1])
            angle = np.concatenate([edges, phi, phi + math.pi])
            return np.stack([np.cos(angle), np.sin(angle)], 1), math.inf
        if self._patterns is None:
            # (t)_+ = (t + |t|) / 2, and || |Z w| || = ||Z w||
            whole = np.linalg.norm(Y, 2) * np.linalg.norm(self.Z, 2)
            return np.zeros((0, k)), 0.5 * float(np.linalg.norm(Y.T @ self.Z, 2) + whole)
        Z, rows = self.Z[self._rows], Y[self._rows]
        A = np.einsum("mr,am,mk->ark", rows, self._patterns.astype(float), Z, optimize=True)
        _, spectrum, vectors = np.linalg.svd(A, full_matrices=False)
        bounds, directions = spectrum[:, 0], vectors[:, 0]
        if Y.shape[1] == 1:
            for i in np.flatnonzero(bounds > 1.0):  # a linear function on a cone: the projection, exactly
                cone = Z * np.where(self._patterns[i], 1.0, -1.0)[:, None]
                sides = [nnls(cone.T, -sign * A[i, 0]) for sign in (1.0, -1.0)]
                bounds[i] = max(side[1] for side in sides)
                sign, (weights, _) = (1.0, sides[0]) if sides[0][1] >= sides[1][1] else (-1.0, sides[1])
                projected = sign * A[i, 0] + cone.T @ weights
                if bounds[i] > 1e-12:
                    directions[i] = projected / np.linalg.norm(projected)
        highest = np.argsort(-bounds)[: 4 * ADDED]
        return np.vstack([directions[highest], -directions[highest]]), float(bounds.max())
