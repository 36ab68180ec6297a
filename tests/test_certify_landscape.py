"""Landscape diagnostics. Oracles: dense Jacobian by torch.func, finite differences, games solved by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from games import MAKERS, Point, Slope
from saddlegan import Game, certify
from saddlegan.errors import InputError


def _bilinear(theta: float, w: float) -> Game:
    def parameter(value: float) -> torch.Tensor:
        return torch.tensor([value], dtype=torch.float64)

    return Game(Point(parameter(theta)), Slope(parameter(w)), objective="wasserstein", latent=1)


ZEROS = torch.zeros(64, 1, dtype=torch.float64)


def test_bilinear_game_rotates() -> None:
    # V = -w theta: v = (-w, theta), Jacobian [[0, -1], [1, 0]], eigenvalues +-i
    values = certify.game_spectrum(_bilinear(0.3, 0.2), ZEROS, count=2)
    assert sorted(values.imag) == pytest.approx([-1.0, 1.0])
    assert values.real == pytest.approx([0.0, 0.0])
    norms = certify.gradient_norms(_bilinear(0.3, 0.2), ZEROS)
    assert (norms.generator, norms.discriminator) == pytest.approx((0.2, 0.3))


def test_strongly_convex_concave_game_attracts() -> None:
    # V = |theta|^2/2 - theta.w - |w|^2/2: Jacobian [[1, -1], [1, 1]], eigenvalues 1 +- i
    known = MAKERS["quadratic"](0, moved=False)
    values = certify.game_spectrum(known.game, known.data, count=2)
    assert values.real == pytest.approx([1.0, 1.0])
    assert sorted(values.imag) == pytest.approx([-1.0, 1.0])


def test_path_angle_of_an_attractor_changes_sign_at_one() -> None:
    away, at = MAKERS["quadratic"](0, moved=True), MAKERS["quadratic"](0, moved=False)
    angle = certify.path_angle(away.game, at.game.G, at.game.D, away.data, points=31)
    before = [c for a, c in zip(angle.alphas, angle.cosines, strict=True) if a < 0.99]
    after = [c for a, c in zip(angle.alphas, angle.cosines, strict=True) if a > 1.01]
    assert max(before) < -0.5
    assert min(after) > 0.5
    # by hand: v = theta (1, 1) on this line, at 45 degrees to it
    assert before[0] == pytest.approx(-np.sqrt(0.5))
    with pytest.raises(InputError, match="no line"):
        certify.path_angle(at.game, at.game.G, at.game.D, at.data)


@pytest.mark.slow  # whole searches
def test_leading_eigenvalues_by_products_against_the_dense_jacobian(rng: torch.Generator) -> None:
    G = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 3)).double()
    D = nn.Sequential(nn.Linear(3, 16), nn.Softplus(), nn.Linear(16, 1)).double()
    with torch.no_grad():
        for parameter in (*G.parameters(), *D.parameters()):
            parameter.copy_(0.7 * torch.randn(parameter.shape, generator=rng, dtype=torch.float64))
    game = Game(G, D, objective="vanilla", latent=2)
    X = torch.randn(64, 3, generator=rng, dtype=torch.float64)
    found = certify.game_spectrum(game, X, count=4, samples=64)
    # the same batch, every entry of the Jacobian by central differences of the gradient field
    from saddlegan.certify._landscape import Field, draw

    field = Field(game, draw(game, X, "test", 64, 0))
    start = torch.cat([p.detach().reshape(-1).clone() for p in field.parameters])
    columns = []
    for index in range(len(start)):
        ends = []
        for sign in (1.0, -1.0):
            moved = start.clone()
            moved[index] += sign * 1e-5
            nn.utils.vector_to_parameters(moved, field.parameters)
            ends.append(field.field())
        columns.append(((ends[0] - ends[1]) / 2e-5).numpy())
    dense = np.linalg.eigvals(np.stack(columns, axis=1))
    expected = np.sort(np.abs(dense))[::-1][:4]
    assert np.abs(found) == pytest.approx(expected, rel=1e-4)
