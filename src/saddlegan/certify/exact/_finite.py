"""Finite games: mixed strategies on both sides, solved exactly by linear programming."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any, Self

import numpy as np
import torch
from scipy.optimize import linprog
from torch import Tensor, nn

from saddlegan.certify.exact._base import AbstractExactGame
from saddlegan.errors import InputError, SolveError
from saddlegan.game import Game
from saddlegan.moments._second_moment import as_tensor
from saddlegan.objectives import WASSERSTEIN

UNIT = 2.0**-44  # relative error of a strategy kept as square roots, or found by a linear program
RATIONAL = 100  # payoffs of up to so many entries are solved in rational numbers


class _Mixed(nn.Module):
    """Weights p_i = a_i^2 / sum a^2 from amplitudes: every point of the simplex, corners included, is reached."""

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.amplitude = nn.Parameter(weights.sqrt())

    def weights(self) -> Tensor:
        """The mixed strategy (k,)."""
        squared = self.amplitude.square()
        return squared / squared.sum()


class MixedGenerator(_Mixed):
    """G(z) = p for every z: the row player's mixed strategy as a sample (k,)."""

    def forward(self, z: Tensor) -> Tensor:
        """Return p once for each latent, (n, k)."""
        return self.weights().expand(z.shape[0], -1)


class MixedDiscriminator(_Mixed):
    """D(p) = -p^T A q: the column player's mixed strategy q over the columns of the payoff A.

    Args:
        weights: q (n,).
        payoff: A (m, n), what the row player pays.
    """

    payoff: Tensor

    def __init__(self, weights: Tensor, payoff: Tensor) -> None:
        super().__init__(weights)
        self.register_buffer("payoff", payoff)

    def forward(self, x: Tensor) -> Tensor:
        """Return -x^T A q for rows x (n, m)."""
        return -(x @ self.payoff) @ self.weights()


def matrix_game(payoff: Any, *, row: Any, column: Any) -> Game:
    """Return the finite game min over p, max over q of p^T A q, at the pair (row, column).

    It is the Wasserstein game (0) with D(x) = -x^T A q and G(z) = p. The real term E D(x) vanishes on the data
    `torch.zeros(1, m)`; with data on the simplex the game is the finite Wasserstein GAN (p - E x)^T A q.

    Args:
        payoff: A (m, n), what the row player pays the column player.
        row: mixed strategy p (m,) of the row player, the generator.
        column: mixed strategy q (n,) of the column player, the discriminator.

    Returns:
        A `Game` whose equilibria `certify` decides by linear programming.

    Raises:
        InputError: A is not a finite matrix, or a strategy is not a probability vector of fitting length.

    References:
        Theory 2: Nash equilibria; von Neumann's minimax theorem.

    Example:
        >>> from saddlegan import certify
        >>> pennies = certify.matrix_game([[1.0, -1.0], [-1.0, 1.0]], row=[0.5, 0.5], column=[0.5, 0.5])
        >>> certify.nash(pennies, torch.zeros(1, 2)).verdict
        'proved'
    """
    A = as_tensor(np.asarray(payoff, dtype=np.float64))
    if A.ndim != 2 or A.numel() == 0 or not A.isfinite().all():
        raise InputError(f"`payoff` must be a finite matrix (m, n), got shape {tuple(A.shape)}")
    p = _probabilities("row", row, A.shape[0])
    q = _probabilities("column", column, A.shape[1])
    return Game(MixedGenerator(p), MixedDiscriminator(q, A), objective=WASSERSTEIN, latent=1)


def _probabilities(name: str, weights: Any, size: int) -> Tensor:
    p = as_tensor(np.asarray(weights, dtype=np.float64))
    if p.shape != (size,) or not p.isfinite().all() or p.min() < 0 or abs(float(p.sum()) - 1.0) > 1e-9:
        raise InputError(f"`{name}` must be {size} probabilities that sum to 1, got {weights!r}")
    return p.clone()


class FiniteGame(AbstractExactGame):
    """V(p, q) = (p - mean x)^T A q, in rational numbers: what is computed has no rounding error at all.

    The strategies come as squares of floating numbers, a few units in the last place off those that were meant. That
    is the only error, and it moves a gain by its relative size times the payoffs *in play*: an entry that no strategy
    uses widens no tolerance.

    Args:
        p: row strategy (m,).
        q: column strategy (n,).
        A: payoff (m, n).
        x: mean of the data (m,).
        unit: relative error of the strategies.
    """

    def __init__(self, p: np.ndarray, q: np.ndarray, A: np.ndarray, x: np.ndarray, unit: float = UNIT) -> None:
        self._size, self._unit = A.shape, unit
        self._p, self._q = _normalised(p), _normalised(q)
        self._A, self._x = [_fractions(row) for row in A], _fractions(x)
        self._rows = [_dot(row, self._q) for row in self._A]
        moved = [a - b for a, b in zip(self._p, self._x, strict=True)]
        self._columns = [_dot(moved, column) for column in zip(*self._A, strict=True)]

    @classmethod
    def read(cls, game: Game, X: Tensor) -> Self | None:
        plain = game.generator_penalty is None and game.discriminator_penalty is None
        if not (plain and game.objective is WASSERSTEIN and isinstance(game.latent, int) and X.ndim == 2):
            return None
        G, D = game.G, game.D
        if not (type(G) is MixedGenerator and type(D) is MixedDiscriminator):
            return None
        if not (G.amplitude.requires_grad and D.amplitude.requires_grad):
            return None  # a frozen strategy cannot deviate: another class of players
        with torch.no_grad():
            p, q = (player.amplitude.double().square().cpu().numpy() for player in (G, D))
        single = torch.float64 != G.amplitude.dtype or torch.float64 != D.amplitude.dtype
        x = np.array([math.fsum(column) / len(X) for column in X.double().T.tolist()])
        return cls(p, q, D.payoff.double().cpu().numpy(), x, 2.0**-18 if single else UNIT)

    @property
    def value(self) -> float:
        return float(_dot(self._columns, self._q))

    @property
    def best_discriminator_value(self) -> float:
        return float(max(self._columns))

    @property
    def best_generator_value(self) -> float:
        return float(min(self._rows) - _dot(self._x, self._rows))

    @property
    def discriminator_gain(self) -> float:
        return float(max(self._columns) - _dot(self._columns, self._q))

    @property
    def generator_gain(self) -> float:
        return float(_dot(self._rows, self._p) - min(self._rows))

    @functools.cached_property
    def _program(self) -> float:
        """Min over p of max over q of (p - x)^T A q: by the simplex method in rational numbers where A is small."""
        offset = [_dot(self._x, column) for column in zip(*self._A, strict=True)]
        payoff = [[entry - o for entry, o in zip(row, offset, strict=True)] for row in self._A]
        if self._size[0] * self._size[1] <= RATIONAL:
            return float(_value(payoff))
        return self._linear_program(np.array([[float(entry) for entry in row] for row in payoff]))

    def _linear_program(self, B: np.ndarray) -> float:
        # min over p, t of t subject to p^T B e_j <= t for every column j, in units of the largest entry: the solver's
        # tolerances are absolute
        unit = float(np.abs(B).max()) or 1.0
        m, n = B.shape
        solved = linprog(
            np.r_[np.zeros(m), 1.0],
            A_ub=np.c_[B.T / unit, -np.ones(n)],
            b_ub=np.zeros(n),
            A_eq=np.r_[np.ones(m), 0.0][None],
            b_eq=[1.0],
            bounds=[(0, None)] * m + [(None, None)],
            method="highs",
        )
        if solved.status != 0:
            raise SolveError(f"the linear program of the finite game failed: {solved.message}", solved)
        # whatever the solver's error: any q proves min over rows of (B q) to be a lower bound of the game's value
        q = np.maximum(-solved.ineqlin.marginals, 0.0)
        return float((B @ (q / q.sum())).min())

    @property
    def stackelberg_value(self) -> float | None:
        return self._program

    @property
    def tolerance(self) -> float:
        return max(self.discriminator_tolerance, self.generator_tolerance)

    @property
    def discriminator_tolerance(self) -> float:
        best = self._columns.index(max(self._columns))
        weight = [a + abs(b) for a, b in zip(self._p, self._x, strict=True)]
        moved = (_dot(weight, [abs(row[best] - row[j]) for row in self._A]) for j in range(self._size[1]))
        return self._unit * float(_dot(self._q, list(moved)))

    @property
    def generator_tolerance(self) -> float:
        best = self._A[self._rows.index(min(self._rows))]
        moved = (_dot(self._q, [abs(a - b) for a, b in zip(row, best, strict=True)]) for row in self._A)
        return self._unit * float(_dot(self._p, list(moved)))

    @property
    def provable(self) -> bool:
        return self._unit == UNIT

    @property
    def stats(self) -> Mapping[str, Any]:
        return {"method": "best responses in rational numbers; linear programming", "game_value": self._program}


def _fractions(numbers: Any) -> list[Fraction]:
    return [Fraction(float(number)) for number in numbers]


def _normalised(squares: np.ndarray) -> list[Fraction]:
    weights = _fractions(squares)
    total = sum(weights)
    return [weight / total for weight in weights]


def _dot(a: Sequence[Fraction], b: Sequence[Fraction]) -> Fraction:
    return sum((x * y for x, y in zip(a, b, strict=True)), Fraction(0))


def _value(payoff: list[list[Fraction]]) -> Fraction:
    """Value of min over p, max over q of p^T B q by the simplex method; Bland's rule, so that it ends."""
    shift = 1 - min(min(row) for row in payoff)  # all payoffs positive, and with them the value
    # max sum u subject to B^T u <= 1, u >= 0: u = p / value, the optimum is 1 / value
    table = [[entry + shift for entry in column] for column in zip(*payoff, strict=True)]
    m, n = len(payoff), len(table)
    table = [[*row, *(Fraction(i == j) for j in range(n)), Fraction(1)] for i, row in enumerate(table)]
    cost, basis = [Fraction(-1)] * m + [Fraction(0)] * (n + 1), list(range(m, m + n))
    while True:
        enter = next((j for j in range(m + n) if cost[j] < 0), None)
        if enter is None:
            return 1 / cost[-1] - shift
        _, _, leave = min((table[i][-1] / table[i][enter], basis[i], i) for i in range(n) if table[i][enter] > 0)
        pivot = table[leave][enter]
        table[leave] = [entry / pivot for entry in table[leave]]
        for row in (*(row for i, row in enumerate(table) if i != leave), cost):
            factor = row[enter]
            if factor:
                row[:] = [a - factor * b for a, b in zip(row, table[leave], strict=True)]
        basis[leave] = enter
