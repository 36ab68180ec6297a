"""The proximal value from above, where the inner maximum is concave: what makes a refutation at finite lambda sound."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call

from saddlegan.batch import conditions, samples
from saddlegan.certify.search._arena import Arena
from saddlegan.certify.search._bracket import generated, row_weights
from saddlegan.certify.upper._affine import affine_in_parameters
from saddlegan.certify.upper._transport import halves
from saddlegan.modules import clone, trainable
from saddlegan.proximal import Norm

ENTRIES = 1 << 24  # numbers in the matrix of features, at most
NEWTON = 50
FLAT = 1e-12  # eigenvalues of the metric below this share of its trace count as none


@dataclasses.dataclass(frozen=True)
class Verified:
    """A generator's gain on the proximal value, with its inner maximum enclosed.

    Attributes:
        gains: V(G*, D*) - V_lam(G, D*) by block, at the best D' found.
        slack: the inner maximum is larger than that by at most so much.
    """

    gains: Tensor
    slack: float


def verified_gain(arena: Arena, G: nn.Module, *, lam: float, norm: Norm) -> Verified | None:
    """Solve max over D' of V(G, D') - (lam/2) ||D' - D*||^2 on the held-out samples, and bound it from above.

    For D affine in its trainable parameters and an objective with concave halves, the value is lam-strongly concave in
    the norm's own metric M: at any w it is at most its value there plus g^T M^+ g / (2 lam), g the gradient at w. Along
    one direction that the metric does not see (D's constant, in Sobolev's) a plane through a second point stands in:
    every concave function lies below each of its tangent planes, and so below their convex combinations.

    Args:
        arena: the pair and its samples.
        G: the generator's deviation.
        lam: finite and positive.
        norm: of the proximal term.

    Returns:
        The gain and its slack, or None where the inner maximum is not known to be concave, or not bounded so.

    References:
        Theory 4.2 (a).
    """
    game = arena.game
    known = halves(game.objective)
    x, z = arena.splits.held_out
    plain = known is not None and not game.has_own_value and game.fake_transform is None and game.rows_in_groups == 1
    plain = plain and game.generator_penalty is None and game.discriminator_penalty is None and not conditions(x)
    projected = arena.search.project_discriminator is not None
    if not (plain and isinstance(z, Tensor)) or projected or not 0 < lam < math.inf:
        return None
    D = clone(arena.trainable_D).eval().double()
    real, fake = samples(x).double(), generated(arena, G, x, z).double()
    if not affine_in_parameters(D, real[:2]):
        return None
    size = sum(p.numel() for p in trainable(D))
    if (len(real) * (real[0].numel() if norm == "sobolev" else 1) + len(fake)) * size > ENTRIES:
        return None
    (d, A, M), (e, B, _) = _linearised(D, real, norm), _linearised(D, fake, None)
    weights = tuple(row_weights(rows, len(real), arena).to(d) for rows in (real, fake))
    halves_ = [
        _Half(lambda t: game.objective.f0(game.objective.link(t)), d, A, weights[0]),
        _Half(lambda t: game.objective.f1(game.objective.link(t)), e, B, weights[1]),
    ]
    u = _maximise(halves_, M, lam)
    slack = _slack(halves_, u, M, lam)
    if slack is None:
        return None
    blocks = len(arena.held_out_value)
    means = [torch.stack([part.mean() for part in half.rows(u).tensor_split(blocks)]) for half in halves_]
    inner = means[0] + means[1] - 0.5 * lam * float(u @ M @ u)
    return Verified((arena.held_out_value - inner.cpu()).detach(), slack)


@dataclasses.dataclass(frozen=True)
class _Half:
    """A weighted mean of f(d + A u): concave in u."""

    f: Callable[[Tensor], Tensor]
    d: Tensor
    A: Tensor
    weights: Tensor

    def rows(self, u: Tensor) -> Tensor:
        return self.f(self.d + self.A @ u)

    def at(self, u: Tensor) -> tuple[float, Tensor, Tensor]:
        """Value, gradient and Hessian."""
        with torch.enable_grad():
            t = (self.d + self.A @ u).requires_grad_(True)
            values = self.f(t)
            (first,) = torch.autograd.grad(values.sum(), t, create_graph=True)
            second = torch.zeros_like(t)
            if first.requires_grad:
                (second,) = torch.autograd.grad(first.sum(), t)
        first = first.detach() * self.weights
        return float(self.weights @ values.detach()), self.A.T @ first, (self.A.T * (second * self.weights)) @ self.A


def _at(halves_: Sequence[_Half], u: Tensor) -> tuple[float, Tensor, Tensor]:
    (a, g, H), (b, k, J) = (half.at(u) for half in halves_)
    return a + b, g + k, H + J


def _linearised(D: nn.Module, rows: Tensor, norm: Norm | None) -> tuple[Tensor, Tensor, Tensor]:
    """D at the rows, its slopes in the parameters (n, p), and the metric of the norm (p, p)."""
    named = {name: p.detach() for name, p in D.named_parameters() if p.requires_grad}
    shapes = [(name, p.shape, p.numel()) for name, p in named.items()]
    size = sum(count for _, _, count in shapes)

    def at(step: Tensor, points: Tensor) -> Tensor:
        pieces = step.split([count for _, _, count in shapes])
        moved = {name: named[name] + piece.view(shape) for (name, shape, _), piece in zip(shapes, pieces, strict=True)}
        return functional_call(D, moved, (points,)).reshape(len(points), -1).mean(1)

    zero = rows.new_zeros(size)
    with torch.no_grad():
        here = at(zero, rows)
        unit = torch.eye(size, dtype=rows.dtype, device=rows.device)
        slopes = torch.stack([at(step, rows) - here for step in unit], 1)
    if norm is None or norm == "parameters":
        return here, slopes, unit
    if norm == "l2":
        return here, slopes, slopes.T @ slopes / len(rows)
    points = rows.clone().requires_grad_(True)
    (start,) = torch.autograd.grad(at(zero, points).sum(), points, allow_unused=True, materialize_grads=True)
    turns = []
    for step in unit:
        (turn,) = torch.autograd.grad(at(step, points).sum(), points, allow_unused=True, materialize_grads=True)
        turns.append((turn - start).flatten())
    turned = torch.stack(turns)
    return here, slopes, turned @ turned.T / len(rows)


def _maximise(halves_: Sequence[_Half], M: Tensor, lam: float) -> Tensor:
    """Newton's steps with a backtracking line search; the bound holds wherever they end."""

    def whole(u: Tensor) -> float:
        value = sum(float(half.weights @ half.rows(u)) for half in halves_)
        return value - 0.5 * lam * float(u @ M @ u)

    u = M.new_zeros(len(M))
    ridge = 1e-12 * lam * float(M.diagonal().mean()) * torch.eye(len(M), dtype=M.dtype, device=M.device)
    for _ in range(NEWTON):
        now, g, H = _at(halves_, u)
        now, g, H = now - 0.5 * lam * float(u @ M @ u), g - lam * (M @ u), lam * M - H
        step = torch.linalg.lstsq(H + ridge, g[:, None]).solution[:, 0]
        promised, length = float(g @ step), 1.0
        if not promised > 1e-16 * abs(now):
            break
        while length > 1e-8 and not whole(u + length * step) >= now + 1e-4 * length * promised:
            length *= 0.5
        if length <= 1e-8:
            break
        u = u + length * step
    return u


def _slack(halves_: Sequence[_Half], u: Tensor, M: Tensor, lam: float) -> float | None:
    """Bound max(value - (lam/2) u^T M u) - (the same at u) from above; None where nothing bounds it."""
    spectrum, Q = torch.linalg.eigh(M)
    seen = spectrum > FLAT * float(spectrum.sum())
    value, g, _ = _at(halves_, u)

    def above(planes: Sequence[tuple[float, Tensor, float, Tensor]]) -> float | None:
        """Maximum of a convex combination of tangent planes (share, point, value, slope) less the proximal term."""
        mean, offset = torch.zeros_like(g), 0.0
        for share, point, height, slope in planes:
            mean = mean + share * slope
            offset += share * (height - float(slope @ point))
        parts = Q.T @ mean
        if float(parts[~seen].norm()) > 1e-13 * max(float(slope.norm()) for *_, slope in planes):
            return None
        return offset + float((parts[seen].square() / spectrum[seen]).sum()) / (2.0 * lam)

    best = above([(1.0, u, value, g)])
    if best is None:
        flat = Q[:, ~seen] @ (Q[:, ~seen].T @ g)
        direction = flat / flat.norm()
        bounds = []
        for reach in (1e-6, 1e-4, 1e-2, 1.0):
            other = u + reach * direction
            height, slope, _ = _at(halves_, other)
            a, b = float(g @ direction), float(slope @ direction)
            if b < 0 < a:
                bounds.append(above([(-b / (a - b), u, value, g), (a / (a - b), other, height, slope)]))
        best = min((bound for bound in bounds if bound is not None), default=math.inf)
    here = value - 0.5 * lam * float(u @ M @ u)
    return max(best - here, 0.0) if math.isfinite(best) else None
