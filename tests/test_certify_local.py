"""Local verdicts. Oracles: quadratic games whose Hessian blocks are given, numpy's eigenvalues."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from saddlegan import Game, certify
from saddlegan.game import Batch


def _quadratic(GG: np.ndarray, GD: np.ndarray, DD: np.ndarray, at: float = 0.0) -> Game:
    A, B, C = (torch.from_numpy(part) for part in (GG, GD, DD))
    g = nn.Parameter(torch.full((len(GG),), at, dtype=torch.float64))
    d = nn.Parameter(torch.full((len(DD),), at, dtype=torch.float64))

    def value(G: nn.Module, D: nn.Module, batch: Batch) -> torch.Tensor:
        del batch
        return 0.5 * G() @ A @ G() + G() @ B @ D() + 0.5 * D() @ C @ D()

    return Game.from_value(g, d, value)


DATA = torch.zeros(256, 1, dtype=torch.float64)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_quadratic_games_with_known_blocks(seed: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    m, n = rng.integers(1, 5, 2)
    B = rng.standard_normal((m, n))
    A, C = rng.standard_normal((m, m)), rng.standard_normal((n, n))
    A, C = A + A.T + (seed % 3) * np.eye(m), -(C @ C.T) - 0.3 * np.eye(n)
    if seed % 4 == 3:
        C = -C
    found = certify.local(_quadratic(scale * A, scale * B, scale * C), DATA)
    S = A - B @ np.linalg.solve(C, B.T)
    if C[0, 0] > 0 or np.linalg.eigvalsh(S)[0] < 0:
        expected = "neither", "refuted"
    elif np.linalg.eigvalsh(A)[0] > 0:
        expected = "strict local Nash", "proved"
    else:
        expected = "strict local minimax", "proved"
    assert (found.stats["point"], found.verdict) == expected
    top, error = found.stats["curvatures"]["discriminator"]
    assert top == pytest.approx(scale * np.linalg.eigvalsh(C)[-1], rel=1e-10)
    assert error < 1e-10 * scale


def test_a_pair_that_is_not_stationary_or_flat_is_left_open() -> None:
    eye = np.eye(2)
    moved = certify.local(_quadratic(eye, 0 * eye, -eye, at=0.1), DATA)
    assert (moved.stats["point"], moved.bound) == ("not stationary", "none")
    assert moved.generator_gain == pytest.approx(0.01)  # 1/2 |theta|^2, what a Newton step gains
    flat = certify.local(_quadratic(eye, eye, np.diag([-1.0, 0.0])), DATA)
    assert (flat.stats["point"], flat.bound) == ("degenerate", "none")


def test_a_curvature_that_is_only_noise_is_left_open() -> None:
    # E x = 0 up to chance: H_DD = -mean(x) is not known to have a sign
    g, d = (nn.Parameter(torch.zeros(1, dtype=torch.float64)) for _ in range(2))
    game = Game.from_value(g, d, lambda G, D, batch: (0.5 * G() ** 2 - 0.5 * batch.x.mean() * D() ** 2).sum())
    x = torch.randn(1024, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    assert certify.local(game, x).stats["point"] == "degenerate"
    assert certify.local(game, x + 1.0).stats["point"] == "strict local Nash"


def test_the_pair_is_left_as_it_was() -> None:
    game = Game(nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1)), latent=2)
    before = copy.deepcopy((game.G.state_dict(), game.D.state_dict()))
    certify.local(game, torch.randn(256, 2))
    for old, new in zip(before, (game.G.state_dict(), game.D.state_dict()), strict=True):
        assert all(torch.equal(old[name], new[name]) for name in old)
