"""Games with a value of their own, whose saddle points are known: every rule that should converge does."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from saddlegan import Batch, Game, train
from saddlegan.errors import InputError, InputTypeError, ObjectiveError

Rows = Tensor | tuple[Tensor, ...]


def number(value: float) -> nn.Parameter:
    return nn.Parameter(torch.tensor([value], dtype=torch.float64))


def constrained() -> tuple[Game, Rows, list[float]]:
    """min g^2 subject to g = 1 by its multiplier d: V = g^2 + d (1 - g), saddle at g = 1, d = 2."""

    def value(G: nn.Module, D: nn.Module, batch: Batch) -> Tensor:
        return (G().square() + D() * (1 - G())).sum()

    return Game.from_value(number(0.0), number(0.0), value), torch.zeros(2, 1).double(), [1.0, 2.0]


class Weights(nn.Module):
    """A distribution over two groups by its logit."""

    def __init__(self) -> None:
        super().__init__()
        self.logit = number(0.0)

    def forward(self) -> Tensor:
        return torch.cat([torch.sigmoid(self.logit), torch.sigmoid(-self.logit)])


def group_robust() -> tuple[Game, Rows, list[float]]:
    """min over w, max over q of q_1 (w - 1)^2 + 2 q_2 (w + 1)^2: w = 2 sqrt 2 - 3, q_1 / q_2 = sqrt 2."""

    def value(G: nn.Module, D: nn.Module, batch: Batch) -> Tensor:
        (group,) = batch.conditions
        loss = (G() - batch.x[:, 0]).square() * (1.0 + group)
        return (D() * torch.stack([loss[group == k].mean() for k in (0, 1)])).sum()

    rows = torch.tensor([[1.0], [-1.0]], dtype=torch.float64), torch.tensor([0, 1])
    return Game.from_value(number(0.5), Weights(), value), rows, [2 * math.sqrt(2) - 3, math.log(math.sqrt(2))]


class Moved(nn.Module):
    """A feature map: the target domain, shifted."""

    def __init__(self) -> None:
        super().__init__()
        self.shift = number(0.0)

    def forward(self, target: Tensor) -> Tensor:
        return target + self.shift


def domain_adaptation() -> tuple[Game, Rows, list[float]]:
    """A domain classifier w x against a feature map that shifts the target: equal domains at a shift of 1, w = 0."""

    def value(G: nn.Module, D: nn.Module, batch: Batch) -> Tensor:
        (target,) = batch.conditions
        told = logsigmoid(D() * batch.x).mean() + logsigmoid(-D() * G(target)).mean()
        return told - 0.5 * D().square().sum()

    source = torch.linspace(0.0, 2.0, 9, dtype=torch.float64)[:, None]
    return Game.from_value(Moved(), number(0.5), value), (source, source - 1.0), [1.0, 0.0]


RULES: dict[str, Callable[..., train.AbstractRule]] = {
    **{name: rule for name, rule in train.RULES.items() if name not in ("primal-dual", "proximal")},
    "proximal": lambda *players: train.Proximal(*players, norm="parameters", lam=0.1),
}


@pytest.mark.slow  # whole trainings
@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("make", [constrained, group_robust, domain_adaptation])
def test_rules_reach_the_saddle_of_a_value_of_their_own(
    name: str, make: Callable[[], tuple[Game, Rows, list[float]]]
) -> None:
    game, rows, saddle = make()
    rule = RULES[name](game, torch.optim.SGD(game.G.parameters(), 0.1), torch.optim.SGD(game.D.parameters(), 0.1))
    for _ in range(800):
        step = rule.step(rows)
    reached = [float(p.detach()) for p in (*game.G.parameters(), *game.D.parameters())]
    assert reached == pytest.approx(saddle, abs=2e-3)
    assert step.value == pytest.approx(float(game.value(rows, game.sample_latent(2)).detach()), abs=1e-3)


def test_what_an_own_value_cannot_have_is_refused_by_name() -> None:
    game, rows, _ = constrained()
    opts = torch.optim.SGD(game.G.parameters(), 0.1), torch.optim.SGD(game.D.parameters(), 0.1)
    with pytest.raises(ObjectiveError, match="own-value"):
        train.PrimalDual(game, *opts)
    with pytest.raises(InputError, match="'parameters'"):
        train.Proximal(game, *opts)
    with pytest.raises(InputError, match="needs `x`"):
        game.generator_loss(torch.zeros(2, 1))
    with pytest.raises(InputError, match="makes its samples itself"):
        _ = game.batch(rows, torch.zeros(2, 1)).fake
    with pytest.raises(InputTypeError, match="`value`"):
        Game.from_value(number(0.0), number(0.0), 3.0)  # type: ignore[arg-type]
    with pytest.raises(InputTypeError, match="`D`"):
        Game.from_value(number(0.0), 3.0, lambda G, D, batch: G())  # type: ignore[arg-type]
    both = number(0.0)
    with pytest.raises(InputError, match="share trainable"):
        Game.from_value(both, both, lambda G, D, batch: G())
