"""The inner maximum from above. Oracles: cvxpy, and closed forms of games that are linear in the discriminator."""

from __future__ import annotations

import math

import cvxpy as cp
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from games import Point, Slope
from saddlegan import Game, certify
from saddlegan.certify.search import _verified
from saddlegan.certify.search._judge import prepare
from saddlegan.certify.search._verified import verified_gain
from saddlegan.certify.upper._affine import affine_in_parameters
from saddlegan.modules import frozen
from saddlegan.proximal import Norm

pytestmark = pytest.mark.filterwarnings("ignore::saddlegan.errors.BudgetWarning")

QUICK = certify.Search(steps=40, restarts=3, batch_size=32)


class _Quadratic(nn.Module):
    """D(x) = a x^2 + b x + c."""

    def __init__(self, *entries: float) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.tensor(entries, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return self.p[0] * x[:, 0] ** 2 + self.p[1] * x[:, 0] + self.p[2]


class _Wide(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.tensor(0.7, dtype=torch.float64))

    def forward(self, z: Tensor) -> Tensor:
        return self.a * z + 0.2


class _Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.ones(2))

    def forward(self, x: Tensor) -> Tensor:
        return (x @ self.w) * self.w.sum()


def _features(trained: bool) -> nn.Module:
    D = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1))
    D[0].requires_grad_(trained)
    return D


@pytest.mark.parametrize(
    ("D", "affine"),
    [
        (nn.Linear(2, 1), True),
        (nn.Sequential(nn.Flatten(), nn.Linear(2, 1), nn.Flatten(0)), True),
        (Slope(torch.zeros(2)), True),
        (_Quadratic(1.0, 2.0, 3.0), True),
        (_features(False), True),
        (_features(True), False),
        (_Twice(), False),
        (nn.Sequential(nn.Linear(2, 4), nn.Linear(4, 1)), False),
        (spectral_norm(nn.Linear(2, 1)), False),
        (nn.Sequential(nn.Linear(2, 1), nn.Softplus()), False),
    ],
)
def test_affine_discriminators_are_known_and_no_others(D: nn.Module, affine: bool) -> None:
    like = next(D.parameters())
    assert affine_in_parameters(D, torch.randn(3, 2, generator=torch.Generator().manual_seed(0)).to(like)) == affine


def _arena(objective: str = "vanilla") -> tuple[certify.Search, object]:
    game = Game(_Wide(), _Quadratic(0.3, 0.1, -0.2), objective=objective, latent=1)
    x = 2.0 * torch.randn(128, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return QUICK, prepare(game, x, "test", search=QUICK, random_state=0, exact=False).arena()


def _program(arena: object, G: nn.Module, norm: Norm, lam: float) -> float:
    """V - max over D' of V(G, D') - (lam/2) ||D' - D||^2 on the held-out samples, by Clarabel."""
    x, z = arena.splits.held_out  # type: ignore[attr-defined]
    real, fake = x.numpy()[:, 0], G(z).detach().numpy()[:, 0]
    assert len(real) % 16 == 0  # so that blocks and rows have equal weights
    u, start = cp.Variable(3), np.array([0.3, 0.1, -0.2])

    def phi(t: np.ndarray) -> np.ndarray:
        return np.stack([t**2, t, np.ones_like(t)], 1)

    turn = np.stack([2 * real, np.ones_like(real), np.zeros_like(real)], 1)
    rows = {"parameters": np.eye(3), "l2": phi(real) / math.sqrt(len(real)), "sobolev": turn / math.sqrt(len(real))}
    value = -cp.sum(cp.logistic(-phi(real) @ (start + u))) / len(real)
    value = value - cp.sum(cp.logistic(phi(fake) @ (start + u))) / len(fake) + math.log(2)
    problem = cp.Problem(cp.Maximize(value - 0.5 * lam * cp.sum_squares(rows[norm] @ u)))
    problem.solve(solver="CLARABEL")
    return float(arena.held_out_value.mean()) - float(problem.value)  # type: ignore[attr-defined]


@pytest.mark.slow  # many convex programs
@pytest.mark.parametrize("norm", ["parameters", "l2", "sobolev"])
@pytest.mark.parametrize("lam", [0.1, 3.0])
def test_the_inner_maximum_is_the_convex_programs(norm: Norm, lam: float) -> None:
    _, arena = _arena()
    G = frozen(_Wide().requires_grad_(False))
    found = verified_gain(arena, G, lam=lam, norm=norm)  # type: ignore[arg-type]
    assert found is not None
    true = _program(arena, G, norm, lam)
    assert float(found.gains.mean()) - found.slack - 1e-7 <= true <= float(found.gains.mean()) + 1e-7
    assert found.slack <= 1e-7


@pytest.mark.slow  # many convex programs
@pytest.mark.parametrize("steps", [0, 1, 2])
@pytest.mark.parametrize("norm", ["parameters", "l2"])
def test_the_bound_holds_however_early_the_ascent_stops(
    steps: int, norm: Norm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_verified, "NEWTON", steps)
    _, arena = _arena()
    G = frozen(_Wide())
    found = verified_gain(arena, G, lam=1.0, norm=norm)  # type: ignore[arg-type]
    assert found is not None
    true = _program(arena, G, norm, 1.0)
    assert float(found.gains.mean()) - found.slack - 1e-7 <= true <= float(found.gains.mean()) + 1e-7
    assert steps or found.slack > 1e-4


def _linear(slope: float) -> Game:
    # V = -w theta at data 0: V_lam(theta, w*) = -w* theta + theta^2 / (2 lam), least at theta = lam w*
    start = torch.zeros(1, dtype=torch.float64)
    return Game(Point(start), Slope(start + slope), objective="wasserstein", latent=1)


@pytest.mark.slow  # solves many programs
@pytest.mark.parametrize("lam", [1.0])
def test_a_finite_lambda_refutes_where_the_inner_maximum_is_known(lam: float) -> None:
    data = torch.zeros(128, 1, dtype=torch.float64)
    search = certify.Search(steps=120, restarts=3, batch_size=32, learning_rate=3e-3)
    found = certify.proximal(_linear(0.1), data, lam=lam, norm="parameters", search=search)
    assert found.stats["inner_maximum"].startswith("enclosed")
    assert found.verdict == "refuted"
    assert 0.0 <= found.generator_gain <= 0.005 * lam + 1e-9  # lam w*^2 / 2
    still = certify.proximal(_linear(0.0), data, lam=lam, norm="parameters", search=search)
    assert still.verdict != "refuted"
    assert still.generator_gain <= 1e-12


@pytest.mark.slow  # many convex programs
def test_what_is_not_concave_stays_suspected() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        D = nn.Sequential(nn.Linear(1, 8), nn.Softplus(), nn.Linear(8, 1)).double()
    game = Game(_Wide(), D, objective="vanilla", latent=1)
    x = torch.randn(128, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = certify.proximal(game, x, lam=1.0, norm="l2", search=certify.Search(steps=10, restarts=1))
    assert found.stats["inner_maximum"] == "searched"
