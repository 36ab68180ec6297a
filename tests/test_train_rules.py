"""Each rule against an update written out by hand, and against plain alternating training where it reduces to it."""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable
from typing import Any, final

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from saddlegan import Game, networks, train
from saddlegan.errors import InputError, InputTypeError, ObjectiveError
from saddlegan.results import Step
from saddlegan.workbench.training.recipe import Recipe
from train_cases import RULES, adam, bits, clone, data, largest_difference, mlp_game, same_bits, sgd, without_a_case

LR = 0.05
R1_WEIGHT = 0.1
Weights = dict[str, Tensor]


def source(seed: int = 3) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# the oracle: losses and updates written out with functional calls, sharing no code with the rules


class Hand:
    """Vanilla GAN with R1 and plain gradient steps, written out."""

    def __init__(self, game: Game) -> None:
        self.G_net, self.D_net = copy.deepcopy(game.G), copy.deepcopy(game.D)
        self.G = {k: p.detach().clone() for k, p in self.G_net.named_parameters()}
        self.D = {k: p.detach().clone() for k, p in self.D_net.named_parameters()}
        self.source = source()

    def latents(self, n: int) -> Tensor:
        return torch.randn(n, 3, generator=self.source, dtype=torch.float64)

    def generate(self, G: Weights, z: Tensor) -> Tensor:
        return functional_call(self.G_net, G, (z,))

    def judge(self, D: Weights, x: Tensor) -> Tensor:
        return functional_call(self.D_net, D, (x,))

    def loss_D(self, D: Weights, x: Tensor, fake: Tensor) -> Tensor:
        x = x.detach().requires_grad_(True)
        (slope,) = torch.autograd.grad(self.judge(D, x).sum(), x, create_graph=True)
        r1 = 0.5 * R1_WEIGHT * slope.square().sum(1).mean()
        value = torch.log(torch.sigmoid(self.judge(D, x))).mean()
        value = value + torch.log(2 * (1 - torch.sigmoid(self.judge(D, fake)))).mean()
        return r1 - value

    def loss_G(self, G: Weights, D: Weights, z: Tensor) -> Tensor:
        return torch.log(2 * (1 - torch.sigmoid(self.judge(D, self.generate(G, z))))).mean()

    def slope(self, loss: Callable[[Weights], Tensor], at: Weights, *, graph: bool = False) -> Weights:
        at = at if graph else {k: p.detach().requires_grad_(True) for k, p in at.items()}
        gradient = torch.autograd.grad(
            loss(at), list(at.values()), create_graph=graph, allow_unused=True, materialize_grads=True
        )
        return dict(zip(at, gradient, strict=True))

    def minus(self, at: Weights, gradient: Weights, lr: float = LR) -> Weights:
        return {k: at[k] - lr * gradient[k] for k in at}

    def values(self) -> list[Tensor]:
        return [*self.G.values(), *self.D.values()]


def hand_simultaneous(h: Hand, x: Tensor) -> None:
    z = h.latents(len(x))
    fake = h.generate(h.G, z).detach()
    gD = h.slope(lambda D: h.loss_D(D, x, fake), h.D)
    gG = h.slope(lambda G: h.loss_G(G, h.D, z), h.G)
    h.D, h.G = h.minus(h.D, gD), h.minus(h.G, gG)


def hand_alternating(h: Hand, x: Tensor) -> None:
    for part in x.chunk(2):
        fake = h.generate(h.G, h.latents(len(part))).detach()
        h.D = h.minus(h.D, h.slope(lambda D, p=part, f=fake: h.loss_D(D, p, f), h.D))
    z = h.latents(len(x) // 2)
    h.G = h.minus(h.G, h.slope(lambda G: h.loss_G(G, h.D, z), h.G))


def hand_extragradient(h: Hand, x: Tensor) -> None:
    z = h.latents(len(x))

    def field(G: Weights, D: Weights) -> tuple[Weights, Weights]:
        fake = h.generate(G, z).detach()
        return h.slope(lambda g: h.loss_G(g, D, z), G), h.slope(lambda d: h.loss_D(d, x, fake), D)

    gG, gD = field(h.G, h.D)
    gG, gD = field(h.minus(h.G, gG), h.minus(h.D, gD))
    h.G, h.D = h.minus(h.G, gG), h.minus(h.D, gD)


class HandOptimistic:
    def __init__(self) -> None:
        self.last: tuple[Weights, Weights] | None = None

    def __call__(self, h: Hand, x: Tensor) -> None:
        z = h.latents(len(x))
        fake = h.generate(h.G, z).detach()
        now = h.slope(lambda G: h.loss_G(G, h.D, z), h.G), h.slope(lambda D: h.loss_D(D, x, fake), h.D)
        last = now if self.last is None else self.last
        h.G = h.minus(h.G, {k: 2 * now[0][k] - last[0][k] for k in h.G})
        h.D = h.minus(h.D, {k: 2 * now[1][k] - last[1][k] for k in h.D})
        self.last = now


class HandAlternatingExtrapolation:
    def __init__(self, h: Hand) -> None:
        self.ahead = dict(h.D)

    def __call__(self, h: Hand, x: Tensor) -> None:
        z, G, D = h.latents(len(x)), h.G, h.D
        h.G = h.minus(G, h.slope(lambda g: h.loss_G(g, self.ahead, z), G))
        fake = h.generate({k: G[k] + 2.0 * (h.G[k] - G[k]) for k in G}, z).detach()
        h.D = h.minus(D, h.slope(lambda d: h.loss_D(d, x, fake), D))
        self.ahead = {k: D[k] + 2.0 * (h.D[k] - D[k]) for k in D}


class HandLookahead:
    def __init__(self, h: Hand) -> None:
        self.slow, self.steps = (dict(h.G), dict(h.D)), 0

    def __call__(self, h: Hand, x: Tensor) -> None:
        fake = h.generate(h.G, h.latents(len(x))).detach()
        h.D = h.minus(h.D, h.slope(lambda D: h.loss_D(D, x, fake), h.D))
        z = h.latents(len(x))
        h.G = h.minus(h.G, h.slope(lambda G: h.loss_G(G, h.D, z), h.G))
        self.steps += 1
        if self.steps % 2 == 0:
            G, D = self.slow
            h.G = {k: G[k] + 0.25 * (h.G[k] - G[k]) for k in G}
            h.D = {k: D[k] + 0.25 * (h.D[k] - D[k]) for k in D}
            self.slow = dict(h.G), dict(h.D)


def hand_unrolled(h: Hand, x: Tensor) -> None:
    fake = h.generate(h.G, h.latents(len(x))).detach()
    h.D = h.minus(h.D, h.slope(lambda D: h.loss_D(D, x, fake), h.D))
    z = h.latents(len(x))

    def loss(G: Weights) -> Tensor:
        D = {k: p.detach().requires_grad_(True) for k, p in h.D.items()}
        for _ in range(2):
            D = h.minus(D, h.slope(lambda d: h.loss_D(d, x, h.generate(G, z)), D, graph=True), 0.3)
        return h.loss_G(G, D, z)

    h.G = h.minus(h.G, h.slope(loss, h.G))


def sobolev(h: Hand, D: Weights, centre: Weights, x: Tensor) -> Tensor:
    x = x.detach().requires_grad_(True)
    (a,) = torch.autograd.grad(h.judge(D, x).sum(), x, create_graph=True)
    (b,) = torch.autograd.grad(h.judge(centre, x).sum(), x)
    return (a - b).square().sum(1).mean()


class HandProximal:
    """Persistent: the moving D' is kept here, the game's D is the centre."""

    def __init__(self, h: Hand) -> None:
        self.inner = dict(h.D)

    def __call__(self, h: Hand, x: Tensor) -> None:
        fake = h.generate(h.G, h.latents(len(x))).detach()
        centre = h.D

        def loss(D: Weights) -> Tensor:
            return h.loss_D(D, x, fake) + 0.5 * 2.0 * sobolev(h, D, centre, x[::2])

        self.inner = h.minus(self.inner, h.slope(loss, self.inner))
        z = h.latents(len(x))
        h.G = h.minus(h.G, h.slope(lambda G: h.loss_G(G, self.inner, z), h.G))
        h.D = {k: centre[k] + 0.25 * (self.inner[k] - centre[k]) for k in centre}


def hand_proximal_fresh(h: Hand, x: Tensor) -> None:
    fake = h.generate(h.G, h.latents(len(x))).detach()
    centre, inner = h.D, h.D
    for _ in range(3):
        inner = h.minus(inner, h.slope(lambda D: h.loss_D(D, x, fake) + 0.5 * 2.0 * sobolev(h, D, centre, x), inner))
    z = h.latents(len(x))
    h.G = h.minus(h.G, h.slope(lambda G: h.loss_G(G, inner, z), h.G))
    h.D = {k: centre[k] + 0.6 * (inner[k] - centre[k]) for k in centre}


def hand_primal_dual(h: Hand, x: Tensor) -> None:
    fake = h.generate(h.G, h.latents(len(x))).detach()
    h.D = h.minus(h.D, h.slope(lambda D: h.loss_D(D, x, fake), h.D))
    z, near = h.latents(len(x)), x[::2]
    f1 = torch.log(2 * (1 - torch.sigmoid(h.judge(h.D, near)))).flatten().detach()

    def density(G: Weights) -> Tensor:
        squares = (near[:, None] - h.generate(G, z)[None]).square().sum(2)
        return torch.stack([torch.exp(-squares / (2 * s * s)).mean(1) for s in (0.5, 1.5)]).mean(0)

    target = (density(h.G) - 0.3 * f1).detach()
    h.G = h.minus(h.G, h.slope(lambda G: h.loss_G(G, h.D, z) + 4.0 * (target - density(G)).square().mean(), h.G))


ByHand = Callable[[Hand, Tensor], None]

#: each row of the contract table again, as a rule with its options and the same update written by hand
HAND: dict[str, tuple[type[train.AbstractRule], dict[str, Any], Callable[[Hand], ByHand]]] = {
    "simultaneous": (train.Simultaneous, {}, lambda h: hand_simultaneous),
    "alternating": (train.Alternating, {"n_critic": 2}, lambda h: hand_alternating),
    "extragradient": (train.Extragradient, {}, lambda h: hand_extragradient),
    "optimistic": (train.Optimistic, {}, lambda h: HandOptimistic()),
    "alternating-extrapolation": (train.AlternatingExtrapolation, {}, HandAlternatingExtrapolation),
    "lookahead": (train.Lookahead, {"steps": 2, "rate": 0.25}, HandLookahead),
    "unrolled": (train.Unrolled, {"steps": 2, "length": 0.3}, lambda h: hand_unrolled),
    "proximal": (train.Proximal, {"lam": 2.0, "rate": 0.25, "points": 4}, HandProximal),
    "proximal-fresh": (
        train.Proximal,
        {"lam": 2.0, "steps": 3, "rate": 0.6, "persistent": False},
        lambda h: hand_proximal_fresh,
    ),
    "primal-dual": (
        train.PrimalDual,
        {"weight": 4.0, "alpha": 0.3, "bandwidths": (0.5, 1.5), "points": 4},
        lambda h: hand_primal_dual,
    ),
}


def test_every_registered_rule_has_its_rows() -> None:
    """A new rule without a case, or without its update written by hand, fails here."""
    assert without_a_case(train.RULES) == []
    assert list(HAND) == list(RULES)
    assert without_a_case([*train.RULES, "new"]) == ["new"]


def follow_by_hand(
    make: Callable[..., train.AbstractRule], options: dict[str, Any], by: Callable[[Hand], ByHand]
) -> None:
    """Three steps of a rule beside its update written by hand."""
    game = mlp_game()
    h = Hand(game)
    rule, by_hand = make(game, *sgd(game, lr=LR), generator=source(), **options), by(h)
    start = bits(game)
    for seed in range(3):
        rule.step(data(seed=seed))
        by_hand(h, data(seed=seed))
        assert largest_difference(bits(game), h.values()) < 1e-12
    assert largest_difference(bits(game), start) > 1e-3


@pytest.mark.parametrize("name", HAND)
def test_first_three_steps_equal_the_update_written_by_hand(name: str) -> None:
    follow_by_hand(*HAND[name])


@final
class Wrong(train.AbstractRule):
    """Wrong on purpose: G moves first, so that D answers another generator."""

    def _step(self, x: Any) -> Step:
        generator_loss = self._descend(self._generator_losses(x, self._latents(len(x))))
        discriminator_loss = self._ascend(x, self._latents(len(x)))
        return Step(0.0, float(generator_loss), float(discriminator_loss))


def test_a_wrong_rule_is_caught() -> None:
    for by in (hand_simultaneous, hand_alternating):
        with pytest.raises(AssertionError):
            follow_by_hand(Wrong, {}, lambda h, by=by: by)


def test_rules_name_options_that_they_and_a_recipe_have() -> None:
    for name, rule in train.RULES.items():
        own = set(inspect.signature(rule).parameters)
        assert set(rule.options.values()) <= own, name
        assert set(rule.options) <= set(Recipe.model_fields), name


def test_the_comparison_can_fail() -> None:
    game = mlp_game()
    h = Hand(game)
    train.Alternating(game, *sgd(game, lr=LR), generator=source(), n_critic=2).step(data())
    hand_simultaneous(h, data())
    assert largest_difference(bits(game), h.values()) > 1e-6
    assert not same_bits(bits(game), h.values())
    assert largest_difference(bits(game), h.values()[1:]) == math.inf


# reductions to the bit


@pytest.mark.parametrize(
    "special",
    [
        lambda g: train.PrimalDual(g, *adam(g), generator=source(), weight=0.0),
        lambda g: train.Unrolled(g, *adam(g), generator=source(), steps=1, length=0.0),
        lambda g: train.Unrolled(g, *adam(g), generator=source(), steps=0),
        lambda g: train.Lookahead(g, *adam(g), generator=source(), steps=2, rate=1.0),
        lambda g: train.Proximal(g, *adam(g), generator=source(), lam=1e-12, steps=0, persistent=False),
        lambda g: train.Proximal(g, *adam(g), generator=source(), lam=9.0, steps=1, persistent=False),
        lambda g: train.Proximal(g, *adam(g), generator=source(), lam=0.0, steps=1, rate=1.0),
    ],
    ids=[
        "primal-dual w=0",
        "unrolled length 0",
        "unrolled 0",
        "lookahead rate 1",
        "proximal 0 inner",
        "proximal 1 fresh",
        "proximal lam=0",
    ],
)
def test_special_cases_are_plain_alternating_to_the_bit(special: Callable[[Game], train.AbstractRule]) -> None:
    game, plain = mlp_game(), mlp_game()
    rule = special(game)
    ordinary = train.Alternating(plain, *adam(plain), generator=source())
    for seed in range(4):
        a, b = rule.step(data(seed=seed)), ordinary.step(data(seed=seed))
        assert (a.value, a.generator_loss, a.discriminator_loss) == (b.value, b.generator_loss, b.discriminator_loss)
    assert same_bits(bits(game), bits(plain))


# the contract every rule meets


@pytest.mark.parametrize("name", RULES)
def test_state_dict_round_trip_to_the_bit(name: str) -> None:
    game = mlp_game()
    rule = RULES[name](game, source(), None)
    for seed in range(3):
        rule.step(data(seed=seed))
    saved = copy.deepcopy(rule.state_dict())
    after = [rule.step(data(seed=seed)) for seed in range(3, 6)]
    fresh_game = mlp_game(seed=9)
    fresh = RULES[name](fresh_game, source(99), None)
    fresh.load_state_dict(saved)
    again = [fresh.step(data(seed=seed)) for seed in range(3, 6)]
    assert same_bits(bits(game), bits(fresh_game))
    assert [repr(s) for s in after] == [repr(s) for s in again]
    assert fresh.steps_done == 6


@pytest.mark.parametrize("name", RULES)
def test_gradient_accumulation_changes_nothing(name: str) -> None:
    if name == "unrolled":
        pytest.skip("pieces are unrolled by themselves: see its docstring")
    game, cut = mlp_game(), mlp_game()
    whole, pieces = RULES[name](game, source(), None), RULES[name](cut, source(), None)
    pieces.accumulate = 4
    for seed in range(3):
        whole.step(data(16, seed=seed))
        pieces.step(data(16, seed=seed))
    assert largest_difference(bits(game), bits(cut)) < 1e-9


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_autocast_and_dtypes(name: str, dtype: torch.dtype) -> None:
    game = mlp_game()
    game.G.to(dtype)
    game.D.to(dtype)
    rule = RULES[name](game, source(), None)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.float32):
        step = rule.step(data().to(dtype))
    assert math.isfinite(step.value)
    assert all(p.dtype == dtype for p in (*game.G.parameters(), *game.D.parameters()))


@pytest.mark.gpu
@pytest.mark.parametrize("name", RULES)
def test_on_cuda(name: str) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA")
    game, mirror = mlp_game(), mlp_game()
    mirror.G.cuda()
    mirror.D.cuda()
    rule, other = RULES[name](game, source(), None), RULES[name](mirror, source(), None)
    for seed in range(3):
        rule.step(data(seed=seed))
        other.step(data(seed=seed).cuda())
    assert largest_difference(bits(game), [p.cpu() for p in bits(mirror)]) < 1e-9


@pytest.mark.parametrize("name", RULES)
def test_value_and_losses_belong_together(name: str) -> None:
    """V = -(D's loss), and R_g is part of it: the oracle is the game itself at the iterate that the rule names."""
    game = mlp_game()
    game.generator_penalty = lambda G, batch: batch.fake.square().mean()
    before = clone(game)
    step = RULES[name](game, source(), None).step(data())
    z = before.sample_latent(8, source())
    if name in ("simultaneous", "optimistic", "unrolled", "proximal", "primal-dual"):
        assert step.value == pytest.approx(float(before.value(data(), z).detach()), abs=1e-12)


def test_sgd_momentum_and_rmsprop_are_wrapped_too() -> None:
    for make in (
        lambda p: torch.optim.SGD(p, 0.01, momentum=0.9, nesterov=True),
        lambda p: torch.optim.RMSprop(p, 0.01),
        lambda p: torch.optim.AdamW(p, 0.01, amsgrad=True),
        lambda p: torch.optim.Adagrad(p, 0.01),
    ):
        game = mlp_game()
        opt_D = make(game.D.parameters())
        rule = train.Extragradient(game, make(game.G.parameters()), opt_D, generator=source())
        for seed in range(2):
            rule.step(data(seed=seed))
        steps = {float(state["step"]) for state in opt_D.state.values() if "step" in state}
        assert steps <= {2.0}


def test_extragradient_leaves_no_trace_of_the_look_ahead() -> None:
    """With a look-ahead gradient equal to the plain one (a linear game in G alone), it is one plain Adam step."""
    G = networks.LinearGenerator(2, 2).double()
    D = networks.TwoLayerDiscriminator(2, 2, activation="linear", dtype=torch.float64)
    D.outer.data.fill_(1.0)
    D.requires_grad_(False)
    D.outer.requires_grad_(True)
    game = Game(G, D, objective="wasserstein", latent=2)
    plain = clone(game)
    rule = train.Extragradient(
        game, torch.optim.Adam(G.parameters(), 0.1), torch.optim.SGD([D.outer], 0.0), generator=source()
    )
    other = train.Simultaneous(
        plain, torch.optim.Adam(plain.G.parameters(), 0.1), torch.optim.SGD([plain.D.outer], 0.0), generator=source()
    )
    for seed in range(3):
        rule.step(data(seed=seed))
        other.step(data(seed=seed))
    assert same_bits(bits(game), bits(plain))


# terms that must move parameters, by finite differences


def test_the_proximal_term_moves_every_weight() -> None:
    game, off = mlp_game(activation="softplus"), mlp_game(activation="softplus")
    rule = train.Proximal(game, *sgd(game), generator=source(), lam=3.0)
    none = train.Proximal(off, *sgd(off), generator=source(), lam=0.0)
    for seed in range(2):  # the first ascent starts at the centre, where the term is flat
        rule.step(data(seed=seed))
        none.step(data(seed=seed))
    inner, free = rule.state_dict()["own"]["inner"], none.state_dict()["own"]["inner"]
    moved = {key: float((inner[key] - free[key]).abs().max()) for key in inner}
    # a constant added to D does not change its gradient: the output bias alone feels nothing directly
    assert all(change > 1e-8 for key, change in moved.items() if key != "2.bias"), moved


def test_the_proximal_gradient_is_the_difference_quotient_of_the_reported_loss() -> None:
    """The oracle is a central difference in one hidden bias of D', away from the centre."""
    h, losses, gradient = 1e-5, [], 0.0
    for shift in (0.0, h, -h):
        game = mlp_game()
        rule = train.Proximal(game, *sgd(game, lr=0.0), generator=source(), lam=3.0)
        state = rule.state_dict()
        state["own"]["inner"]["0.bias"] += 0.3
        state["own"]["inner"]["0.bias"][1] += shift
        rule.load_state_dict(state)
        step = rule.step(data())
        assert step.stats["distance"] > 1e-4
        losses.append(step.discriminator_loss)
        if shift == 0.0:
            assert game.D[0].bias.grad is not None
            gradient = float(game.D[0].bias.grad[1])
    assert gradient == pytest.approx((losses[1] - losses[2]) / (2 * h), rel=1e-6)


def test_the_density_term_moves_the_generator_as_its_difference_quotient_says() -> None:
    """Oracle: central differences of w mean (target - p_G)^2 with the target held at the old generator."""
    game, plain = mlp_game(), mlp_game()
    z_source = source()
    for g, weight, make in ((game, 4.0, sgd), (plain, 0.0, sgd)):
        train.PrimalDual(g, *make(g, lr=0.0), generator=source(), weight=weight, bandwidths=(0.8,)).step(data())
    z_source.manual_seed(3)
    game.sample_latent(8, z_source)
    z = game.sample_latent(8, z_source)

    def density() -> Tensor:
        return train.kernel_density(data(), game.G(z), [0.8]).detach()

    f1 = game.objective.f1(game.D(data())).flatten().detach()
    target = density() - f1
    largest = 0.0
    for parameter, other in zip(game.G.parameters(), plain.G.parameters(), strict=True):
        assert parameter.grad is not None
        assert other.grad is not None
        flat, term = parameter.data.view(-1), (parameter.grad - other.grad).view(-1)
        for i in range(len(flat)):
            h = 1e-5
            flat[i] += h
            up = 4.0 * (target - density()).square().mean()
            flat[i] -= 2 * h
            down = 4.0 * (target - density()).square().mean()
            flat[i] += h
            assert float(term[i]) == pytest.approx(float(up - down) / (2 * h), rel=1e-5, abs=1e-9)
            largest = max(largest, abs(float(term[i])))
    assert largest > 1e-3


@pytest.mark.slow  # many steps
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("d", [2, 64])
def test_the_densities_of_the_primal_dual_rule_follow_scale_and_dimension(d: int, scale: float) -> None:
    """Oracle: the mean of exp(-|x - y|^2 / (2 s^2)) for independent x, y ~ N(0, I_d) is (1 + 2 / s^2)^(-d/2)."""

    class Copies(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gain = nn.Parameter(torch.tensor(scale, dtype=torch.float64))

        def forward(self, z: Tensor) -> Tensor:
            return self.gain * z

    G, D = Copies(), nn.Linear(d, 1).double()
    rule = train.PrimalDual(Game(G, D, latent=d), *sgd(Game(G, D, latent=d), lr=0.0), generator=source())
    x = scale * torch.randn(1024, d, generator=source(9), dtype=torch.float64)
    wanted = sum((1 + 4 / (d * s * s)) ** (-d / 2) for s in (0.15, 0.35, 0.7)) / 3
    assert rule.step(x).stats["density"] == pytest.approx(wanted, rel=0.2)
    again = train.PrimalDual(Game(G, D, latent=d), *sgd(Game(G, D, latent=d), lr=0.0), generator=source())
    again.load_state_dict(rule.state_dict())
    assert again.step(2 * x).stats["density"] < 0.9 * wanted  # the unit is that of the first batch


def test_a_density_that_underflows_is_warned_about_once() -> None:
    game = mlp_game()
    rule = train.PrimalDual(game, *sgd(game), generator=source(), bandwidths=(1e-3,))
    with pytest.warns(UserWarning, match="see nothing"):
        rule.step(data() + 50.0)
    rule.step(data() + 50.0)


def test_kernel_density_against_the_double_sum_and_far_origins() -> None:
    x, y = data(5, seed=1), data(9, seed=2)
    direct = torch.stack(
        [torch.exp(-(x[:, None] - y[None]).square().sum(2) / (2 * s * s)).mean(1) for s in (0.3, 1.0)]
    ).mean(0)
    assert torch.allclose(train.kernel_density(x, y, (0.3, 1.0)), direct, atol=1e-14)
    far = train.kernel_density((x + 1e4).float(), (y + 1e4).float(), (0.3, 1.0))
    near = train.kernel_density((x + 1e4).float().double(), (y + 1e4).float().double(), (0.3, 1.0))
    assert torch.allclose(far.double(), near, atol=1e-5)


# bad input is refused by name


def test_bad_input_is_refused() -> None:
    game, other, hinge = mlp_game(), mlp_game(seed=1), mlp_game(objective="hinge")
    opt_G, opt_D = sgd(game)
    with pytest.raises(InputError, match="opt_G"):
        train.Alternating(game, opt_D, opt_G)
    with pytest.raises(InputError, match="opt_D"):
        train.Alternating(game, opt_G, sgd(other)[1])
    with pytest.raises(InputError, match="lacks"):
        train.Alternating(game, opt_G, torch.optim.SGD(list(game.D.parameters())[:1], 0.1))
    with pytest.raises(InputError, match="maximize"):
        train.Alternating(game, opt_G, torch.optim.SGD(game.D.parameters(), 0.1, maximize=True))
    with pytest.raises(InputTypeError, match="`game`"):
        train.Alternating(game.G, opt_G, opt_D)  # type: ignore[arg-type]
    with pytest.raises(InputTypeError, match="`opt_G`"):
        train.Alternating(game, 0.1, opt_D)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="n_critic"):
        train.Alternating(game, opt_G, opt_D, n_critic=0)
    with pytest.raises(InputError, match="accumulate"):
        train.Alternating(game, opt_G, opt_D, accumulate=0)
    with pytest.raises(InputError, match="multiple of 6"):
        train.Alternating(game, opt_G, opt_D, n_critic=2, accumulate=3).step(data(8))
    with pytest.raises(InputError, match="`x`"):
        train.Alternating(game, opt_G, opt_D).step(data(0))
    with pytest.raises(InputTypeError, match="`x`"):
        train.Alternating(game, opt_G, opt_D).step([1.0])  # type: ignore[arg-type]
    with pytest.raises(InputError, match="`lam`"):
        train.Proximal(game, opt_G, opt_D, lam=math.nan)
    with pytest.raises(InputError, match="`steps`"):
        train.Proximal(game, opt_G, opt_D, steps=0)
    with pytest.raises(InputError, match="`norm`"):
        train.Proximal(game, opt_G, opt_D, norm="h1")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="bandwidths"):
        train.PrimalDual(game, opt_G, opt_D, bandwidths=())
    with pytest.raises(InputError, match="`group`"):
        train.Alternating(game, opt_G, opt_D, group=object())  # type: ignore[arg-type]
    with pytest.raises(ObjectiveError, match="PrimalDual"):
        train.PrimalDual(hinge, *sgd(hinge))


def test_foreign_states_are_refused() -> None:
    game = mlp_game()
    alternating = train.Alternating(game, *sgd(game), generator=source())
    state = alternating.state_dict()
    with pytest.raises(InputError, match="Alternating"):
        train.Simultaneous(game, *sgd(game), generator=source()).load_state_dict(state)
    with pytest.raises(InputError, match="opt_D"):
        alternating.load_state_dict({key: value for key, value in state.items() if key != "opt_D"})
    fresh = train.Proximal(game, *sgd(game), generator=source(), persistent=False, steps=2)
    with pytest.raises(InputError, match="persistent"):
        train.Proximal(game, *sgd(game), generator=source()).load_state_dict(fresh.state_dict())


def test_piecewise_linear_discriminators_are_warned_about_with_the_remedy() -> None:
    game = mlp_game(activation="leaky-relu")
    with pytest.warns(UserWarning, match="softplus"):
        train.Proximal(game, *sgd(game), lam=1.0)
    train.Proximal(game, *sgd(game), lam=1.0, norm="parameters")  # no warning: errors otherwise


def test_frozen_parameters_stay() -> None:
    game = mlp_game()
    frozen: nn.Parameter = game.D[0].weight
    frozen.requires_grad_(False)
    before = frozen.clone()
    rule = train.Unrolled(game, *adam(game), generator=source())
    rule.step(data())
    assert torch.equal(frozen, before)
