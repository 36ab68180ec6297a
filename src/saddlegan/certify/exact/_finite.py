"""Finite games: mixed strategies on both sides, solved exactly by linear programming."""

from __future__ import annotations

import functools
from collections.abc import Mapping
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
    """V(p, q) = (p - mean x)^T A q: best responses are the extreme payoffs, the game's value a linear program.

    Args:
        p: row strategy (m,).
        q: column strategy (n,).
        A: payoff (m, n).
        x: mean of the data (m,).
    """

    def __init__(self, p: np.ndarray, q: np.ndarray, A: np.ndarray, x: np.ndarray) -> None:
        self._p, self._q, self._A, self._x = p, q, A, x

    @classmethod
    def read(cls, game: Game, X: Tensor) -> Self | None:
        plain = game.generator_penalty is None and game.discriminator_penalty is None
        if game.has_own_value or not (plain and game.objective is WASSERSTEIN):
            return None
        if not (type(game.G) is MixedGenerator and type(game.D) is MixedDiscriminator):
            return None
        with torch.no_grad():
            p, q = game.G.weights().double().cpu().numpy(), game.D.weights().double().cpu().numpy()
        return cls(p, q, game.D.payoff.double().cpu().numpy(), X.double().mean(0).cpu().numpy())

    @property
    def value(self) -> float:
        return float((self._p - self._x) @ self._A @ self._q)

    @property
    def best_discriminator_value(self) -> float:
        return float(((self._p - self._x) @ self._A).max())

    @property
    def best_generator_value(self) -> float:
        return float((self._A @ self._q).min() - self._x @ self._A @ self._q)

    @functools.cached_property
    def _program(self) -> float:
        # min over p, t of t subject to (p - x)^T A e_j <= t for every column j
        m, n = self._A.shape
        solved = linprog(
            np.r_[np.zeros(m), 1.0],
            A_ub=np.c_[self._A.T, -np.ones(n)],
            b_ub=self._A.T @ self._x,
            A_eq=np.r_[np.ones(m), 0.0][None],
            b_eq=[1.0],
            bounds=[(0, None)] * m + [(None, None)],
            method="highs",
        )
        if solved.status != 0:
            raise SolveError(f"the linear program of the finite game failed: {solved.message}", solved)
        return float(solved.fun)

    @property
    def stackelberg_value(self) -> float | None:
        return self._program

    @property
    def tolerance(self) -> float:
        # feasibility tolerance of HiGHS is 1e-7 absolute; strategies come as square roots in double precision
        return 1e-7 * max(1.0, float(np.abs(self._A).max()))

    @property
    def stats(self) -> Mapping[str, Any]:
        return {"method": "linear programming", "game_value": self._program}
