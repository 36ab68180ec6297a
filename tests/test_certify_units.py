"""Searches do not depend on units: of the data, of stored weights, of the value. Oracle: the game in other units."""

from __future__ import annotations

import math
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from saddlegan import Game, certify
from saddlegan.certify.search._domain import domain_of
from saddlegan.errors import BudgetWarning, InputError, InputTypeError
from saddlegan.modules import settle_spectral_norms
from saddlegan.search import Units

SCALES = [1e-4, 1e4]


class Stored(nn.Module):
    """A linear map whose weights are kept as w / s."""

    def __init__(self, inputs: int, outputs: int, s: float, source: torch.Generator) -> None:
        super().__init__()
        self.s = s
        weight = torch.randn(outputs, inputs, generator=source, dtype=torch.float64) / math.sqrt(inputs)
        self.w, self.b = nn.Parameter(weight / s), nn.Parameter(torch.zeros(outputs, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return x @ (self.s * self.w).T + self.s * self.b


class Times(nn.Module):
    def __init__(self, c: float) -> None:
        super().__init__()
        self.c = c

    def forward(self, x: Tensor) -> Tensor:
        return self.c * x


def pair(*, data: float = 1.0, weights: float = 1.0, value: float = 1.0, **options: Any) -> tuple[Game, Tensor]:
    """One pair on one sample, in units of choice."""
    source = torch.Generator().manual_seed(0)
    G = nn.Sequential(Stored(2, 8, weights, source), nn.Tanh(), Stored(8, 2, 1.0, source), Times(data))
    D = nn.Sequential(
        Times(1.0 / data), Stored(2, 8, 1.0, source), nn.SiLU(), Stored(8, 1, weights, source), Times(value)
    )
    X = torch.randn(1024, 2, generator=source, dtype=torch.float64)
    X[:, 0] += X[:, 1].square()
    return Game(G, D, latent=2, **options), data * X


def judged(game: Game, X: Tensor, **options: Any) -> certify.Certificate:  # type: ignore[name-defined]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BudgetWarning)
        search = certify.Search(steps=20, restarts=2, **options)
        return certify.nash(game, X, search=search)


def same(one: Any, two: Any, unit: float = 1.0) -> None:
    size = 0.01 * abs(one.stats["value"])
    assert two.generator_gain / unit == pytest.approx(one.generator_gain, abs=size)
    assert two.discriminator_gain / unit == pytest.approx(one.discriminator_gain, abs=size)
    assert (two.verdict, two.status) == (one.verdict, one.status)


@pytest.mark.slow  # whole searches
@pytest.mark.parametrize("what", ["data", "weights"])
def test_gains_and_verdicts_are_the_same_in_other_units(what: str) -> None:
    plain = judged(*pair())
    assert plain.discriminator_gain > 0.1
    assert plain.generator_gain > 0.01
    for scale in SCALES:
        same(plain, judged(*pair(**{what: scale})))


@pytest.mark.slow  # whole searches
def test_gains_of_a_wasserstein_value_are_in_proportion_to_it() -> None:
    def bounded(value: float) -> tuple[Game, Tensor]:
        return pair(
            value=value,
            objective="wasserstein",
            discriminator_penalty=lambda D, batch: (
                0.5 * (D(batch.x).square().mean() + D(batch.fake).square().mean()) / value
            ),
        )

    plain = judged(*bounded(1.0))
    assert plain.discriminator_gain > 0.01
    for scale in SCALES:
        same(plain, judged(*bounded(scale)), unit=scale)


@pytest.mark.slow  # whole searches
def test_the_comparison_can_fail() -> None:
    with pytest.raises(AssertionError):
        same(judged(*pair()), judged(*pair(), domain=(-1.0, 1.0)))


def test_unit_steps_against_per_sample_gradients() -> None:
    """Oracle: ||d o / d p||_F of each sample by autograd; random signs estimate its mean square."""
    game, X = pair()
    x = X[:64]
    slopes = [torch.zeros((), dtype=torch.float64) for _ in game.D.parameters()]
    for row in x:
        gradients = torch.autograd.grad(game.D(row[None]).sum(), list(game.D.parameters()))
        slopes = [total + g.square().sum() / len(x) for total, g in zip(slopes, gradients, strict=True)]
    steps = Units(lambda D: D(x), unit=2.0).steps(game.D)
    for step, slope, p in zip(steps, slopes, game.D.parameters(), strict=True):
        exact = 2.0 / float(slope.sqrt()) / math.sqrt(p.numel())
        assert 0.4 * exact < step < 2.5 * exact


def test_a_discriminator_that_is_all_but_constant_moves_its_last_layer_first() -> None:
    D = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1)).double()
    with torch.no_grad():
        D[2].weight.mul_(1e-9)
    x = torch.randn(64, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    steps = Units(lambda player: player(x)).steps(D)
    assert max(steps) < 100.0  # by the slope at D alone the first layer would move by 1e8


def test_samples_inside_the_data_are_left_alone_and_others_held_in_the_box() -> None:
    X = torch.tensor([[0.0, 5.0], [2.0, 5.0]])
    domain = domain_of(X, "data")
    assert domain is not None
    assert torch.equal(domain.hold(X), X)
    held = domain.hold(torch.tensor([[-10.0, 5.0], [99.0, 5.0]]))
    assert held[:, 0].tolist() == pytest.approx([-0.1, 2.1], abs=2e-3)  # a tenth larger in all
    assert domain.outside(torch.tensor([[-0.05, 5.0], [3.0, 5.0]])) == 0.5
    assert domain_of(torch.zeros(4, 2), "data") is None
    assert domain_of(X, None) is None
    wide = domain_of(X, (-1.0, 1.0))
    assert wide is not None
    assert wide.hold(torch.tensor([[9.0, -9.0]])).tolist()[0] == pytest.approx([1.0, -1.0], abs=2e-3)
    with pytest.raises(InputError, match="`domain` must rise"):
        certify.Search(domain=(1.0, 0.0))
    with pytest.raises(InputTypeError, match="`domain`"):
        certify.Search(domain="box")  # type: ignore[arg-type]


@pytest.mark.slow  # whole searches
def test_the_gain_of_a_generator_is_finite_within_the_domain_and_grows_without() -> None:
    """On a linear D the best generator sits at the box's corner: gain |w|_1 times the way there, closed form."""
    G, D = nn.Linear(1, 2).double(), nn.Linear(2, 1).double()
    with torch.no_grad():
        G.weight.zero_()
        G.bias.zero_()
        D.weight.copy_(torch.tensor([[1.0, -2.0]]))
    X = torch.rand(1024, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    game = Game(G, D, latent=1, objective="wasserstein")
    inside = judged(game, X, project_discriminator=lambda D: None)
    assert inside.generator_gain == pytest.approx(3 * 1.1, rel=0.02)
    assert inside.stats["domain"] == pytest.approx([-1.1, 1.1], abs=0.01)
    assert judged(game, X, domain=None, project_discriminator=lambda D: None).generator_gain > 2 * inside.generator_gain


@pytest.mark.parametrize("kind", ["new", "old"])
def test_settled_spectral_norms_are_exact(kind: str) -> None:
    """Oracle: singular values by LAPACK."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layer = nn.Linear(20, 30)
        layer = spectral_norm(layer) if kind == "new" else nn.utils.spectral_norm(layer)
        with torch.no_grad():
            original = layer.parametrizations.weight.original if kind == "new" else layer.weight_orig
            original.normal_()
    layer.eval().requires_grad_(False)
    layer(torch.zeros(1, 20))
    assert float(torch.linalg.matrix_norm(layer.weight, 2)) > 1.05  # the norm lags behind the new weight
    settle_spectral_norms(layer, 300)
    layer(torch.zeros(1, 20))
    assert float(torch.linalg.matrix_norm(layer.weight, 2)) == pytest.approx(1.0, abs=1e-3)
