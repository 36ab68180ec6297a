"""Local verdicts at a stationary pair: strict local Nash, strict local minimax, or neither, from second derivatives."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import torch

from saddlegan import checks
from saddlegan.batch import count, take
from saddlegan.certify._landscape import Field, draw
from saddlegan.certify.search._measure import Data, untouched
from saddlegan.checks import RandomState
from saddlegan.errors import InputError
from saddlegan.game import Game
from saddlegan.results import Certificate, Status

DENSE = 1500  # parameters of both players together up to which the Hessian is formed
BLOCKS = 8  # parts of the batch whose curvatures give a standard error
ERRORS = 4.0  # standard errors that a curvature must be away from zero


@dataclasses.dataclass(frozen=True)
class _Curvature:
    """An extreme eigenvalue and how far it may be off, by rounding and by sampling."""

    value: float
    error: float

    def sign(self) -> int:
        """1 or -1 where the sign is beyond doubt, else 0."""
        return 0 if abs(self.value) <= self.error else int(math.copysign(1, self.value))


def local(
    game: Game, data: Data, *, samples: int = 1024, tolerance: float = 1e-6, random_state: RandomState = 0
) -> Certificate:
    """Judge a stationary pair by its curvature: strict local Nash, strict local minimax (Stackelberg), or neither.

        local Nash:     H_DD < 0,  H_GG > 0
        local minimax:  H_DD < 0,  S = H_GG - H_GD H_DD^-1 H_DG > 0

    with H the Hessian of V in both players' parameters, in evaluation mode, by Hessian-vector products on one batch.
    Every extreme eigenvalue comes with an error: rounding, and four standard errors over eight parts of the batch. A
    sign that the error leaves open, a pair that is not stationary, and a flat direction (networks with symmetries have
    them) leave the question open. The verdict is about the batch and a neighbourhood of the pair; `nash` looks further.

    Args:
        game: the pair.
        data: real samples, see `nash`.
        samples: size of the batch.
        tolerance: the pair counts as stationary where a Newton step of neither player moves V by more than
            tolerance (1 + |V|).
        random_state: seed or generator.

    Returns:
        A `Certificate` of kind "local nash" or "local minimax". "proved" if the conditions hold, "refuted" if even the
        necessary ones fail, "undecided" if it is open. The gains are those of one Newton step. `stats["point"]` is
        "strict local Nash", "strict local minimax", "neither", "not stationary", "degenerate" or "too many parameters";
        `stats["curvatures"]` holds each extreme eigenvalue with its error.

    Raises:
        ObjectiveError: the objective is not zero-sum.
        InputError: see `nash`.

    References:
        Jin, Netrapalli, Jordan, "What is local optimality in nonconvex-nonconcave minimax optimization?", ICML 2020,
        propositions 4 to 6 and 18 to 20.

    Example:
        >>> from torch import nn
        >>> g, d = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
        >>> game = Game.from_value(g, d, lambda G, D, batch: (-G() ** 2 + 4 * G() * D() - D() ** 2).sum())
        >>> found = local(game, torch.zeros(64, 1))  # H_GG = -2 < 0, but S = -2 + 16 / 2 = 6
        >>> found.kind, found.verdict
        ('local minimax', 'proved')
    """
    tolerance = checks.positive("tolerance", tolerance)
    with untouched(data):
        field = Field(game, draw(game, data, "`certify.local`", samples, random_state))
        value = float(field.value())
        gradient = field.gradient(create_graph=True)
        size, split = gradient.shape[0], field.split
        stats: dict[str, Any] = {"value": value, "samples": samples, "parameters": size}
        g = gradient.detach().double().cpu().numpy()
        stats["gradient_norms"] = float(np.linalg.norm(g[:split])), float(np.linalg.norm(g[split:]))
        if size > DENSE:
            return _open("too many parameters", stats | {"limit": DENSE})
        eye = torch.eye(size, dtype=gradient.dtype, device=gradient.device)
        H = np.stack([field.hessian_vector(gradient, row).double().cpu().numpy() for row in eye])
        if not (np.isfinite(H).all() and np.isfinite(g).all()):
            return _open("degenerate", stats, Status.NON_FINITE)
        unit = float(torch.finfo(gradient.dtype).eps)
        rounding = float(np.abs(H - H.T).max()) + 8 * size * unit * float(np.linalg.norm(H, 2))
        H = 0.5 * (H + H.T)
        GG, GD, DD = H[:split, :split], H[:split, split:], H[split:, split:]
        blocks = _blocks(game, field)

        def judged(matrix: np.ndarray, index: int, lift: Any, blur: float) -> _Curvature:
            values, vectors = np.linalg.eigh(matrix)
            # first order: an eigenvalue moves by u^T (change of H) u; for S the answer of D moves along
            direction = torch.from_numpy(np.ascontiguousarray(lift(vectors[:, index]))).to(gradient)
            products = (block.hessian_vector(block.gradient(create_graph=True), direction) for block in blocks)
            along = [float(product @ direction) for product in products]
            error = float(np.std(along, ddof=1)) / math.sqrt(len(along)) if len(along) > 1 else 0.0
            return _Curvature(float(values[index]), ERRORS * error + blur)

        zeros_G, zeros_D = np.zeros(split), np.zeros(size - split)
        found = {
            "discriminator": judged(DD, -1, lambda u: np.r_[zeros_G, u], rounding),
            "generator": judged(GG, 0, lambda u: np.r_[u, zeros_D], rounding),
        }
        if found["discriminator"].sign() < 0:
            answer = -np.linalg.solve(DD, GD.T)  # D's first-order answer to a move of G
            blur = rounding * (1.0 + float(np.linalg.norm(answer, 2))) ** 2
            found["generator, answered"] = judged(GG + GD @ answer, 0, lambda u: np.r_[u, answer @ u], blur)
        stats["curvatures"] = {name: (entry.value, entry.error) for name, entry in found.items()}
        gains = _newton(g, H, split)
        stats["newton_gains"] = gains
        if not max(gains) <= tolerance * (1.0 + abs(value)):
            return _open("not stationary", stats, gains=gains)
        if found["discriminator"].sign() > 0:
            return _certificate("local minimax", "refuted", gains, stats | {"point": "neither"})
        if found["discriminator"].sign() == 0:
            return _open("degenerate", stats, gains=gains)
        if found["generator"].sign() > 0:
            return _certificate("local nash", "proved", gains, stats | {"point": "strict local Nash"})
        answered = found["generator, answered"].sign()
        if answered == 0:
            return _open("degenerate", stats, gains=gains)
        point = "strict local minimax" if answered > 0 else "neither"
        return _certificate("local minimax", "proved" if answered > 0 else "refuted", gains, stats | {"point": point})


def _newton(g: np.ndarray, H: np.ndarray, split: int) -> tuple[float, float]:
    """How much a Newton step along |H| of either player would move V, (generator, discriminator).

    Along directions that are flat to a millionth of the largest curvature a step of unit length counts.
    """
    moved = []
    for own in (slice(None, split), slice(split, None)):
        values, vectors = np.linalg.eigh(H[own, own])
        slopes, bends = np.abs(vectors.T @ g[own]), np.abs(values)
        floor = 1e-6 * max(float(bends.max()), 1e-300)
        flat = bends <= floor
        moved.append(float(0.5 * (slopes[~flat] ** 2 / bends[~flat]).sum() + slopes[flat].sum()))
    return moved[0], moved[1]


def _blocks(game: Game, field: Field) -> list[Field]:
    x, z = field.batch
    rows = min(count(x), count(z)) // BLOCKS // game.rows_in_groups * game.rows_in_groups
    if rows < 1:
        raise InputError(f"`data` has {count(x)} samples; {BLOCKS * game.rows_in_groups} are needed for an error")
    parts = torch.arange(BLOCKS * rows).split(rows)
    return [field.on((take(x, part), take(z, part))) for part in parts]


def _open(
    point: str, stats: dict[str, Any], status: Status = Status.LOCAL, gains: tuple[float, float] = (math.nan, math.nan)
) -> Certificate:
    return Certificate(
        "local minimax",
        sum(gains),
        gains[0],
        gains[1],
        "none",
        "undecided",
        0.0,
        status,
        stats | {"point": point, "doubt": point},
    )


def _certificate(kind: str, verdict: Any, gains: tuple[float, float], stats: dict[str, Any]) -> Certificate:
    return Certificate(kind, sum(gains), gains[0], gains[1], "exact", verdict, 0.0, Status.OPTIMAL, stats)
