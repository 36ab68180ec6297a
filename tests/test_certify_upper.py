"""Gains from above. Oracles: closed forms, cvxpy, singular values, brute-force grids, long searches."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import cvxpy as cp
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from saddlegan import Certificate, Game, certify, objectives
from saddlegan.certify.search import _bracket
from saddlegan.certify.upper import _transport
from saddlegan.certify.upper._box import largest_output
from saddlegan.certify.upper._interval import output_range
from saddlegan.certify.upper._slope import lipschitz, nominal_lipschitz
from saddlegan.certify.upper._transport import best_value
from saddlegan.networks import MLP, ImageDiscriminator, spectral_normalise

pytestmark = pytest.mark.filterwarnings("ignore::saddlegan.errors.BudgetWarning")

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky": lambda: nn.LeakyReLU(0.2),
    "elu": nn.ELU,
    "softplus": lambda: nn.Softplus(beta=4.0),
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "hardtanh": nn.Hardtanh,
    "relu6": nn.ReLU6,
}


class _Residual(nn.Module):
    """What users write: a forward of their own, with functions, sums, products and reshapes."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(2, 8), nn.Linear(8, 8), nn.Linear(8, 1)
        self.norm = nn.BatchNorm1d(8)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.a(x))
        h = h + F.gelu(self.norm(self.b(h)))
        return 2.0 * self.c(h).squeeze(1) - 1.0 + torch.sin(x).sum(1)


def _net(seed: int, make: Callable[[], nn.Module], size: float = 1.0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        D = make().double().eval()
        with torch.no_grad():
            for parameter in D.parameters():
                parameter.mul_(size)
    return D


def _critic(activation: str) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(
        nn.Linear(2, 16), ACTIVATIONS[activation](), nn.Linear(16, 16), ACTIVATIONS[activation](), nn.Linear(16, 1)
    )


@pytest.mark.parametrize("make", [*map(_critic, ACTIVATIONS), _Residual, lambda: MLP(2, 1, fourier=2.0)])
def test_no_slope_exceeds_the_lipschitz_bound(make: Callable[[], nn.Module]) -> None:
    D = _net(0, make, 1.5)
    bound = lipschitz(D, (2,))
    rng = torch.Generator().manual_seed(1)
    x = 3.0 * torch.randn(4000, 2, generator=rng, dtype=torch.float64)
    y = x + 1e-2 * torch.randn(4000, 2, generator=rng, dtype=torch.float64)
    slopes = (D(x) - D(y)).detach().reshape(-1).abs() / (x - y).norm(dim=1)
    assert float(slopes.max()) <= bound < 1e3


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 5, 7)])
@pytest.mark.parametrize("layer", ["conv", "strided", "grouped", "transposed", "pool"])
def test_the_norm_of_a_layer_is_that_of_its_matrix(shape: tuple[int, int, int], layer: str) -> None:
    # oracle: the matrix of the layer, column by column, and its singular values
    c = shape[0]
    makers: dict[str, Callable[[], nn.Module]] = {
        "conv": lambda: nn.Conv2d(c, 4, 3, padding=1),
        "strided": lambda: nn.Conv2d(c, 2, 4, 2, 1),
        "grouped": lambda: nn.Conv2d(c, 2 * c, 3, groups=c, bias=False),
        "transposed": lambda: nn.ConvTranspose2d(c, 2, 4, 2, 1),
        "pool": lambda: nn.AvgPool2d(2, 1),
    }
    D = _net(0, makers[layer])
    n = math.prod(shape)
    columns = D(torch.eye(n, dtype=torch.float64).reshape(n, *shape)) - D(torch.zeros(1, *shape, dtype=torch.float64))
    norm = float(torch.linalg.matrix_norm(columns.detach().flatten(1), 2))
    assert lipschitz(D, shape) == pytest.approx(norm, rel=1e-6)
    assert lipschitz(D, shape) >= norm * (1 - 1e-12)


def test_a_convolution_too_large_to_write_out_is_bounded_by_its_overlap(monkeypatch: pytest.MonkeyPatch) -> None:
    for stride in (1, 2):
        D = _net(stride, lambda: nn.Conv2d(3, 4, 4, stride, 1))  # noqa: B023
        exact = lipschitz(D, (3, 8, 8))
        with monkeypatch.context() as patch:
            patch.setattr("saddlegan.certify.upper._slope.DENSE", 1)
            assert exact <= lipschitz(D, (3, 8, 8)) < 5 * exact


class _Mixes(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x - x.mean(0)


class _Squares(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (x * x).sum(1)


class _Branches(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.sum(1) if x.sum() > 0 else 5 * x.sum(1)


class _Foreign(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.from_numpy(np.square(x.numpy())).sum(1)


class _Repeats(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x[:, [0, 0, 0]]


@pytest.mark.parametrize("D", [_Mixes(), _Repeats(), _Squares(), _Branches(), _Foreign(), nn.Softmax(1), nn.PReLU()])
def test_what_is_not_understood_is_bounded_by_nothing(D: nn.Module) -> None:
    assert lipschitz(D, (2,)) == math.inf


def test_the_class_of_a_spectrally_normalised_net_has_the_norms_it_names() -> None:
    D = spectral_normalise(MLP(2, 1, hidden=(8, 8)))
    assert nominal_lipschitz(D, (2,)) == pytest.approx(1.0)
    # three strided convolutions of gain 2, each entry in 2 x 2 patches, and a linear layer: (2 * 2)^2 * 2
    assert nominal_lipschitz(ImageDiscriminator(size=16, width=4), (256,)) == pytest.approx(32.0)
    assert nominal_lipschitz(MLP(2, 1, hidden=(8,)), (2,)) == math.inf
    half = nn.Sequential(spectral_normalise(nn.Linear(2, 8)), nn.ReLU(), nn.Linear(8, 1))
    assert nominal_lipschitz(half, (2,)) == math.inf
    half[2].requires_grad_(False)  # a frozen layer has the norm it has
    norm = float(torch.linalg.matrix_norm(half[2].weight.detach(), 2))
    assert nominal_lipschitz(half, (2,)) == pytest.approx(norm, rel=1e-5)


@pytest.mark.parametrize("make", [*map(_critic, ACTIVATIONS), _Residual])
@pytest.mark.parametrize("slopes", [True, False])
def test_no_output_leaves_its_interval(make: Callable[[], nn.Module], slopes: bool) -> None:
    D = _net(2, make, 2.0)
    rng = torch.Generator().manual_seed(3)
    centre = 2.0 * torch.randn(50, 2, generator=rng, dtype=torch.float64)
    radius = torch.rand(50, 2, generator=rng, dtype=torch.float64) * 10.0 ** torch.linspace(-3, 0.5, 50)[:, None]
    low, high = output_range(D, centre, radius, slopes=slopes)
    inside = centre + radius * (2 * torch.rand(400, 50, 2, generator=rng, dtype=torch.float64) - 1)
    with torch.no_grad():
        found = D(inside.reshape(-1, 2)).reshape(400, 50)
    assert bool((found >= low).all())
    assert bool((found <= high).all())
    small = slice(0, 15)  # the mean-value form is nearly exact in small boxes
    width = (high - low)[small] / (found.amax(0) - found.amin(0))[small]
    assert float(width.median()) < (10.0 if slopes else 100.0)


@pytest.mark.slow  # solves many programs
@pytest.mark.parametrize("d", [1, 2, 3])
@pytest.mark.parametrize("activation", ["leaky", "silu", "tanh"])
def test_branch_and_bound_encloses_the_largest_output(d: int, activation: str) -> None:
    def make() -> nn.Module:
        act = ACTIVATIONS[activation]
        return nn.Sequential(nn.Linear(d, 24), act(), nn.Linear(24, 24), act(), nn.Linear(24, 1))

    D = _net(d, make, 2.0)
    side = torch.linspace(-2.0, 1.0, {1: 20001, 2: 201, 3: 41}[d], dtype=torch.float64)
    grid = torch.cartesian_prod(*[side] * d).reshape(-1, d)
    best = float(D(grid).detach().max())
    low, high = grid.amin(0), grid.amax(0)
    found = largest_output(D, low, high, tolerance=1e-3)
    assert best <= found.upper <= found.found + 2e-3
    assert found.method == "branch and bound"
    grown = largest_output(D, low, 2.0 * high, tolerance=1e-3)
    assert grown.upper >= found.found


def test_images_are_bounded_by_intervals() -> None:
    D = _net(0, lambda: ImageDiscriminator(size=8, width=4))
    low = torch.full((64,), -1.0, dtype=torch.float64)
    found = largest_output(D, low, -low, tolerance=1e-3)
    rng = torch.Generator().manual_seed(0)
    tried = D(torch.randint(2, (2000, 64), generator=rng, dtype=torch.float64) * 2 - 1).detach().max()
    assert float(tried) <= found.upper < 100.0


def _program(name: str, x: np.ndarray, y: np.ndarray, slope: float) -> float:
    """Theory 4.5 written out, solved by Clarabel."""
    d, e = cp.Variable(len(x)), cp.Variable(len(y))
    f0 = {"vanilla": -cp.logistic(-d), "reverse-kl": 1 - cp.exp(-d), "squared-hellinger": 1 - cp.exp(-d)}.get(name, d)
    f1 = {
        "vanilla": -cp.logistic(e) + math.log(2),
        "pearson-chi2": 1 - cp.square(cp.pos(e + 2)) / 4,
        "kl": 1 - cp.exp(e),
        "squared-hellinger": 1 - cp.exp(e),
    }.get(name, -e)
    distance = np.linalg.norm(x[:, None] - y[None], axis=2)
    problem = cp.Problem(
        cp.Maximize(cp.sum(f0) / len(x) + cp.sum(f1) / len(y)), [d[:, None] - e[None, :] <= slope * distance]
    )
    return float(problem.solve(solver="CLARABEL"))


NAMES = ("vanilla", "wasserstein", "kl", "reverse-kl", "pearson-chi2", "squared-hellinger")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("slope", [0.3, 4.0])
def test_the_best_lipschitz_value_is_that_of_the_convex_program(name: str, slope: float) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((20, 2)), 0.7 * rng.standard_normal((24, 2)) + 0.5
    true = _program(name, x, y, slope)
    bound = best_value(objectives.get(name), torch.tensor(x), torch.tensor(y), slope=slope)
    assert true - 1e-6 * (1 + abs(true)) <= bound <= true + 1e-3 * (1 + abs(true))


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("name", NAMES)
def test_bounds_do_not_depend_on_units(name: str, scale: float) -> None:
    rng = torch.Generator().manual_seed(0)
    x, y = torch.randn(64, 3, generator=rng), 0.5 * torch.randn(80, 3, generator=rng)
    objective = objectives.get(name)
    one = best_value(objective, x.double(), y.double(), slope=2.0)
    assert best_value(objective, scale * x.double(), scale * y.double(), slope=2.0 / scale) == pytest.approx(one, 1e-3)


@pytest.mark.parametrize("sizes", [(50, 50), (40, 70)])
def test_on_the_line_wasserstein_is_the_area_between_quantiles(sizes: tuple[int, int]) -> None:
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal(sizes[0]) * 2, rng.standard_normal(sizes[1]) + 1
    grid = (np.arange(280_000) + 0.5) / 280_000
    exact = np.abs(np.quantile(x, grid, method="inverted_cdf") - np.quantile(y, grid, method="inverted_cdf")).mean()
    bound = best_value(objectives.WASSERSTEIN, torch.from_numpy(x)[:, None], torch.from_numpy(y)[:, None], slope=3.0)
    assert bound == pytest.approx(3.0 * exact, rel=1e-6)


@pytest.mark.parametrize("name", ["wasserstein", "vanilla"])
def test_blocks_only_loosen_a_bound(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = torch.Generator().manual_seed(2)
    x, y = torch.randn(101, 2, generator=rng), 0.5 * torch.randn(67, 2, generator=rng)
    whole = best_value(objectives.get(name), x, y, slope=2.0)
    monkeypatch.setattr(_transport, "PAIRS", 500)
    cut = best_value(objectives.get(name), x, y, slope=2.0)
    assert whole - 1e-3 <= cut <= whole + 1.0


def _ring(n: int = 512) -> Tensor:
    rng = torch.Generator().manual_seed(0)
    angle = 2 * math.pi * torch.randint(8, (n,), generator=rng) / 8
    return torch.stack([angle.cos(), angle.sin()], 1) + 0.05 * torch.randn(n, 2, generator=rng)


def _game(objective: str, *, spectral: bool, seed: int = 0) -> Game:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        G, D = nn.Sequential(nn.Linear(2, 16), nn.SiLU(), nn.Linear(16, 2)), MLP(2, 1, hidden=(16, 16))
        if spectral:
            spectral_normalise(D, gain=2.0)
            for _ in range(50):
                D(torch.zeros(1, 2))
    return Game(G, D, objective=objective, latent=2)


LONG = certify.Search(steps=100, restarts=1, batch_size=64)


@pytest.mark.slow  # solves many programs
@pytest.mark.parametrize("objective", ["vanilla", "wasserstein", "pairing", "squared-hellinger"])
@pytest.mark.parametrize("lam", [math.inf, 1.0])
def test_brackets_contain_what_a_search_finds(objective: str, lam: float) -> None:
    game = _game(objective, spectral=True)
    search = LONG if math.isinf(lam) else dataclasses.replace(LONG, steps=20)
    found = certify.proximal(game, _ring(), lam=lam, norm="l2", search=search)
    assert found.bracket is not None
    least, most = found.bracket
    assert 0.0 <= least <= most < 10.0
    assert found.generator_gain + found.discriminator_gain <= most
    parts = found.stats["upper"]
    assert "slope at most" in parts["discriminator"]["scope"]
    assert parts["generator"]["method"].startswith("branch and bound")
    assert f"[{least:.4g}, {most:.4g}]" in found.sentence == str(found)


@pytest.mark.slow  # many convex programs
def test_free_nets_are_bounded_where_the_objective_is() -> None:
    found = certify.nash(_game("vanilla", spectral=False), _ring(), search=dataclasses.replace(LONG, steps=20))
    # V is at most log 2, whatever D is
    top = math.log(2) - found.stats["value"]
    assert found.stats["upper"]["discriminator"]["gain"] == pytest.approx(top, rel=1e-3)
    free = certify.nash(_game("wasserstein", spectral=False), _ring(), search=dataclasses.replace(LONG, steps=20))
    assert free.bracket is None
    assert "[" not in free.sentence


@pytest.mark.slow  # solves many programs
def test_a_wrong_bound_is_caught_by_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    true = _bracket.discriminator_upper

    def halved(*args: object, **options: object) -> object:
        bound = true(*args, **options)  # type: ignore[arg-type]
        return dataclasses.replace(bound, gain=0.01 * bound.gain)

    monkeypatch.setattr(_bracket, "discriminator_upper", halved)
    found = certify.nash(_game("vanilla", spectral=True), _ring(), search=LONG)
    assert found.bracket is None
    assert "does not hold" in found.stats["upper"]["discriminator"]["doubt"]


@pytest.mark.slow  # many convex programs
def test_a_class_steeper_than_it_says_is_named() -> None:
    game = _game("vanilla", spectral=True)
    with torch.no_grad():  # the power iteration has not caught up with the weights
        for name, parameter in game.D.named_parameters():
            if name.endswith("original"):
                parameter.add_(0.5 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
                parameter[0] *= 20.0
    found = certify.nash(game, _ring(), search=dataclasses.replace(LONG, steps=10))
    part = found.stats["upper"]["discriminator"]
    assert part["doubt"] is None or "above its class" in part["doubt"]
    assert found.discriminator_gain <= part["gain"]


@pytest.mark.slow  # many convex programs
def test_penalties_and_values_that_are_not_known_are_bounded_by_nothing() -> None:
    base = _game("vanilla", spectral=True)
    quick = dataclasses.replace(LONG, steps=5, restarts=1)
    own = Game(base.G, base.D, latent=2, discriminator_penalty=lambda D, batch: -batch.x.square().mean())
    bounded = certify.nash(own, _ring(), search=quick).stats["upper"]
    assert math.isinf(bounded["discriminator"]["gain"])
    assert math.isinf(bounded["generator"]["gain"])
    value = Game.from_value(base.G, base.D, lambda G, D, batch: D(batch.x).mean() - D(G(batch.z)).mean(), latent=2)
    assert certify.nash(value, _ring(), search=quick).bracket is None


def test_exact_classes_have_both_sides() -> None:
    pennies = certify.matrix_game([[1.0, -1.0], [-1.0, 1.0]], row=[0.5, 0.5], column=[0.5, 0.5])
    proved = certify.nash(pennies, torch.zeros(1, 2))
    assert proved.within(1e-9)
    assert not proved.within(-1e-9)
    pure = certify.matrix_game([[1.0, -1.0], [-1.0, 1.0]], row=[1.0, 0.0], column=[1.0, 0.0])
    found = certify.nash(pure, torch.zeros(1, 2))  # by hand: the row player gains 2
    assert found.bracket == pytest.approx((2.0, 2.0))
    gaussian = certify.GaussianW2Game(np.diag([4.0, 1.0, 0.25]), 1.7)
    assert gaussian.nash().bracket == pytest.approx((0.85, 0.85))
    proximal = gaussian.proximal(lam=3 / 1.7)
    assert proximal.bracket is not None
    assert proximal.gap <= proximal.upper <= gaussian.nash().upper
    line = certify.GaussianWGAN(0.0, 2.0)
    assert line.nash().bracket == pytest.approx((line.nash().gap,) * 2)


@pytest.mark.slow  # many convex programs
def test_a_certificate_within_epsilon() -> None:
    found = certify.nash(_game("vanilla", spectral=True), _ring(), search=dataclasses.replace(LONG, steps=20))
    assert isinstance(found, Certificate)
    assert found.within(found.upper)
    assert not found.within(0.99 * found.upper)
