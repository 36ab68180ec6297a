"""What goes along with a rule: full batches, schedules, averages, scalers, autocast, compiled players."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler

from saddlegan import Game, networks, train
from saddlegan.errors import InputError, InputTypeError, NonFiniteLossError
from train_cases import RULES, adam, bits, data, largest_difference, mlp_game, same_bits, sgd


def source(seed: int = 3) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# full batches from an iterator


def test_an_iterator_gives_each_move_a_full_batch() -> None:
    """The oracle is one tensor that holds the same batches, which the rule cuts."""
    whole, taken = mlp_game(), mlp_game()
    first = train.Alternating(whole, *adam(whole), n_critic=3, generator=source())
    second = train.Alternating(taken, *adam(taken), n_critic=3, generator=source())
    batches = iter([data(8, seed=seed) for seed in range(6)])
    for start in (0, 3):
        first.step(torch.cat([data(8, seed=seed) for seed in range(start, start + 3)]))
        second.step(batches)
    assert same_bits(bits(whole), bits(taken))
    assert next(batches, None) is None


def test_batches_of_an_iterator_may_differ_in_length_and_hold_conditions() -> None:
    class Told(nn.Module):
        def __init__(self, n_in: int, n_out: int) -> None:
            super().__init__()
            self.net = networks.MLP(n_in + 1, n_out, hidden=(4,), activation="silu").double()

        def forward(self, x: Tensor, label: Tensor) -> Tensor:
            return self.net(torch.cat([x, label[:, None].double()], dim=1))

    G, D = Told(3, 2), Told(2, 1)
    game = Game(G, D, latent=3)
    rule = train.Alternating(game, *adam(game), n_critic=2, generator=source())
    loader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(data(12), torch.arange(12) % 2), batch_size=8, shuffle=False
    )
    rule.step(iter(loader))  # 8 rows, then the 4 that are left
    assert rule.steps_done == 1


def test_an_iterator_that_ends_within_a_step_moves_nothing() -> None:
    game = mlp_game()
    before = bits(game)
    rule = train.Alternating(game, *adam(game), n_critic=3)
    with pytest.raises(InputError, match="ended after 2 of the 3 batches of a step"):
        rule.step(iter([data(), data()]))
    assert same_bits(bits(game), before)
    assert rule.steps_done == 0


@pytest.mark.parametrize("name", RULES)
def test_every_rule_takes_an_iterator(name: str) -> None:
    game = mlp_game()
    assert math.isfinite(RULES[name](game, source(), None).step(itertools.repeat(data())).value)


# gradients that are not finite


class Root(nn.Module):
    """sqrt of a square: finite at 0, where its slope is 0/0."""

    def __init__(self, player: str) -> None:
        super().__init__()
        self.layer = nn.Linear(3 if player == "G" else 2, 2 if player == "G" else 1).double()
        nn.init.zeros_(self.layer.weight)
        nn.init.zeros_(self.layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x).square().sqrt()


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("player", ["G", "D"])
def test_a_gradient_that_is_not_finite_moves_no_optimiser_of_its_player(name: str, player: str) -> None:
    game = mlp_game().replace(**{player: Root(player)})
    game.discriminator_penalty = None
    rule = RULES[name](game, source(), None)
    spoilt = game.G if player == "G" else game.D
    before = [p.detach().clone() for p in spoilt.parameters()]
    with pytest.raises(NonFiniteLossError, match=r"gradient is not finite|is nan"):
        rule.step(data())
    assert same_bits([p.detach() for p in spoilt.parameters()], before)
    rule.on_nonfinite = "skip"
    assert math.isnan(rule.step(data()).value)
    assert rule.skipped == 1
    assert same_bits([p.detach() for p in spoilt.parameters()], before)


def test_large_gradients_whose_sum_overflows_are_finite() -> None:
    """Two slopes of 3e38 add to infinity in float32, though neither is infinite."""
    G, D = networks.MLP(3, 2, hidden=(4,)), nn.Linear(2, 1, bias=False)
    game = Game(G, D, objective="wasserstein", latent=3)
    game.G.requires_grad_(False)
    nn.init.zeros_(D.weight)
    train.Alternating(game, *sgd(game, lr=2.0**-120)).step(torch.full((4, 2), 3e38))
    assert D.weight.flatten().tolist() == pytest.approx([3e38 * 2.0**-120] * 2, rel=1e-3)


# float16 and autocast


def pair16(seed: int = 0) -> Game:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        G = networks.MLP(3, 2, hidden=(8,), activation="tanh")
        D = networks.MLP(2, 1, hidden=(8,), activation="silu")
    return Game(G, D, objective="vanilla", latent=3, discriminator_penalty=train.R1(0.1))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_plays_the_loop_that_casts_anew_for_each_pass(dtype: torch.dtype) -> None:
    """Oracle: a loop by hand whose every pass has a block of its own, as torch's guide says."""
    game, mine = pair16(), pair16()
    rule = train.Alternating(game, *sgd(game, lr=0.5), generator=source())
    opt_G, opt_D = sgd(mine, lr=0.5)
    latents = source()
    x = data().float()
    for _ in range(5):
        with torch.autocast("cpu", dtype=dtype):
            rule.step(x)
        z = torch.randn(8, 3, generator=latents)
        with torch.autocast("cpu", dtype=dtype), torch.no_grad():
            fake = mine.G(z)
        opt_D.zero_grad()
        with torch.autocast("cpu", dtype=dtype, cache_enabled=False):
            inputs = x.clone().requires_grad_(True)
            raw = mine.D(inputs)
            (slope,) = torch.autograd.grad(raw.sum(), inputs, create_graph=True)
            raw = raw.float()
        with torch.autocast("cpu", dtype=dtype, cache_enabled=False):
            on_fake = mine.D(fake).float()
        softplus = nn.functional.softplus
        loss = softplus(-raw).mean() + softplus(on_fake).mean() + 0.05 * slope.float().square().sum(1).mean()
        loss.backward()
        opt_D.step()
        z = torch.randn(8, 3, generator=latents)
        opt_G.zero_grad()
        with torch.autocast("cpu", dtype=dtype):
            on_fake = mine.D(mine.G(z)).float()
        (-softplus(on_fake).mean()).backward()
        opt_G.step()
    assert largest_difference(bits(game), bits(mine)) < 1e-6
    assert largest_difference(bits(game), bits(pair16())) > 1e-2


def test_losses_are_float32_under_autocast() -> None:
    game = pair16()
    x, z = data().float(), torch.zeros(8, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert game.D(x).dtype == torch.bfloat16
        assert game.value(x, z).dtype == torch.float32
        assert game.generator_loss(z).dtype == torch.float32


def test_a_scaler_changes_no_update_without_overflow() -> None:
    """A power of two scales exactly: in float32 the same bits with and without."""
    plain, scaled = pair16(), pair16()
    one = train.Alternating(plain, *adam(plain), generator=source())
    scaler = GradScaler("cpu", init_scale=2.0**10, growth_interval=3)
    two = train.Alternating(scaled, *adam(scaled), generator=source(), scaler=scaler)
    for seed in range(4):
        first, second = one.step(data(seed=seed).float()), two.step(data(seed=seed).float())
        assert repr(first) == repr(second)
    assert same_bits(bits(plain), bits(scaled))
    assert scaler.get_scale() == 2.0**11  # grown once, after three steps


def test_small_gradients_survive_float16_with_a_scaler() -> None:
    """A slope of 2^-28 is 0 in float16; scaled by 2^16 it is not. Oracle: the slope in closed form."""

    class Faint(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(2, 1))

        def forward(self, x: Tensor) -> Tensor:
            return (x @ self.weight) * 2.0**-12 * 2.0**-12

    def slope(scaler: GradScaler | None) -> list[float]:
        D = Faint()
        game = Game(networks.LinearGenerator(3, 2), D, objective="wasserstein", latent=3)
        game.G.requires_grad_(False)
        game.G.weight.data.zero_()  # type: ignore[union-attr]
        with torch.autocast("cpu", dtype=torch.float16):
            train.Alternating(game, *sgd(game), scaler=scaler).step(torch.full((4, 2), 2.0**-4))
        assert D.weight.grad is not None
        return D.weight.grad.flatten().tolist()

    assert slope(None) == [0.0, 0.0]
    assert slope(GradScaler("cpu", init_scale=2.0**16)) == pytest.approx([-(2.0**-28)] * 2, rel=1e-2)


def test_an_overflow_skips_the_step_and_halves_the_scale() -> None:
    game = pair16()
    scaler = GradScaler("cpu", init_scale=2.0**127)
    rule = train.Alternating(game, *adam(game), generator=source(), scaler=scaler)
    game.D[2].weight.data.mul_(1e3)  # type: ignore[index,union-attr]
    before = bits(game)
    assert math.isnan(rule.step(data().float()).value)
    assert rule.skipped == 1
    assert scaler.get_scale() == 2.0**126
    assert same_bits(bits(game), before)


def test_a_gradient_that_no_scale_makes_finite_is_an_error_at_last() -> None:
    game = mlp_game().replace(D=Root("D"))
    game.discriminator_penalty = None
    rule = train.Alternating(game, *adam(game), scaler=GradScaler("cpu", init_scale=4.0))
    for _ in range(3):  # 4, 2, 1
        rule.step(data())
    with pytest.raises(NonFiniteLossError, match="gradient is not finite"):
        rule.step(data())
    with pytest.raises(InputTypeError, match="GradScaler"):
        train.Alternating(game, *adam(game), scaler="dynamic")  # type: ignore[arg-type]


# schedules and averages in the state


def with_everything(game: Game) -> tuple[train.AbstractRule, train.MovingAverage]:
    r1 = train.ApproximateR1(2.0, generator=source(5))
    game.discriminator_penalty = r1
    opt_G, opt_D = adam(game)
    scaler = GradScaler("cpu", init_scale=2.0**8, growth_interval=2)
    rule = train.Alternating(game, opt_G, opt_D, generator=source(), scaler=scaler)
    average = train.MovingAverage(game.G)
    assert r1.generator is not None
    rule.attach(
        average,
        train.Schedule(opt_G, "lr", train.warm_up(1e-2, 1e-3, steps=4)),
        train.Schedule(r1, "weight", train.warm_up(2.0, 0.1, steps=5, shape="geometric")),
        train.Schedule(average, "decay", train.warm_up(0.0, train.decay_of(3.0), steps=4, shape="linear")),
        torch.optim.lr_scheduler.ExponentialLR(opt_D, 0.9),
        r1.generator,
    )
    return rule, average


def test_a_run_that_was_killed_goes_on_with_the_same_bits() -> None:
    game, other = mlp_game(), mlp_game(seed=9)
    rule, average = with_everything(game)
    for seed in range(3):
        rule.step(data(seed=seed))
    saved = copy.deepcopy(rule.state_dict())
    fresh, again = with_everything(other)
    fresh.load_state_dict(saved)
    for seed in range(3, 7):
        assert repr(rule.step(data(seed=seed))) == repr(fresh.step(data(seed=seed)))
    assert same_bits(bits(game), bits(other))
    assert same_bits(list(average.module.state_dict().values()), list(again.module.state_dict().values()))
    assert rule.scaler is not None
    assert fresh.scaler is not None
    assert rule.scaler.get_scale() == fresh.scaler.get_scale() == 2.0**11
    assert [group["lr"] for group in rule.opt_D.param_groups] == [group["lr"] for group in fresh.opt_D.param_groups]


def test_schedules_are_those_of_a_loop_by_hand() -> None:
    """Oracle: the same training with every number set by hand before each step, and the average's own formula."""
    game, mine = mlp_game(), mlp_game()
    r1, my_r1 = train.R1(0.1), train.R1(0.1)
    game.discriminator_penalty, mine.discriminator_penalty = r1, my_r1
    rule = train.Alternating(game, *sgd(game), generator=source())
    hand = train.Alternating(mine, *sgd(mine), generator=source())
    average = train.MovingAverage(game.G)
    rule.attach(
        average,
        train.Schedule(rule.opt_G, "lr", lambda t: 0.1 / (1 + t)),
        train.Schedule(r1, "weight", lambda t: 1.0 + t),
        train.Schedule(average, "decay", lambda t: t / (t + 1)),
    )
    expected = [p.detach().clone() for p in mine.G.parameters()]
    for t in range(5):
        rule.step(data(seed=t))
        hand.opt_G.param_groups[0]["lr"] = 0.1 / (1 + t)
        my_r1.weight = 1.0 + t
        hand.step(data(seed=t))
        # decays t / (t + 1) make the average the mean of all generators so far
        expected = [(t * e + p.detach()) / (t + 1) for e, p in zip(expected, mine.G.parameters(), strict=True)]
    assert same_bits(bits(game), bits(mine))
    assert largest_difference([p.detach() for p in average.module.parameters()], expected) < 1e-12


def test_parts_that_do_not_fit_are_refused() -> None:
    game = mlp_game()
    rule = train.Alternating(game, *adam(game))
    with pytest.raises(InputTypeError, match="`attach` takes"):
        rule.attach(3)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="has no 'rate'"):
        train.Schedule(rule.opt_G, "rate", float)
    with pytest.raises(InputError, match="has no 'gamma'"):
        train.Schedule(train.R1(), "gamma", float)
    saved = rule.state_dict()
    rule.attach(train.MovingAverage(game.G))
    with pytest.raises(InputError, match=r"attached parts \[\] and this rule has \['MovingAverage'\]"):
        rule.load_state_dict(saved)
    with pytest.raises(InputError, match="`shape`"):
        train.warm_up(0.0, 1.0, steps=3, shape="square")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="`start`"):
        train.warm_up(0.0, 1.0, steps=3, shape="geometric")


# compiled players


def compiled(game: Game) -> Game:
    """The same pair through dynamo and autograd of whole graphs, without a compiler of machine code."""
    torch._dynamo.reset()
    return game.replace(G=torch.compile(game.G, backend="aot_eager"), D=torch.compile(game.D, backend="aot_eager"))  # type: ignore[arg-type]


@pytest.fixture
def _fresh_compiler() -> Iterator[None]:
    yield
    torch._dynamo.reset()


@pytest.mark.slow  # compiles
@pytest.mark.filterwarnings("ignore:The .grad attribute")  # torch looks at it itself
@pytest.mark.usefixtures("_fresh_compiler")
@pytest.mark.parametrize("name", ["alternating", "proximal-fresh", "extragradient"])
def test_compiled_players_play_the_same_game(name: str) -> None:
    plain, other = mlp_game(), mlp_game()
    plain.discriminator_penalty = other.discriminator_penalty = None
    other = compiled(other)
    one, two = RULES[name](plain, source(), None), RULES[name](other, source(), None)
    for seed in range(3):
        one.step(data(seed=seed))
        two.step(data(seed=seed))
    assert largest_difference(bits(plain), bits(other)) < 1e-12


@pytest.mark.slow  # compiles
@pytest.mark.filterwarnings("ignore:The .grad attribute")  # torch looks at it itself
@pytest.mark.usefixtures("_fresh_compiler")
@pytest.mark.parametrize("name", ["alternating", "proximal"])
def test_second_derivatives_of_a_compiled_player_are_refused_by_name(name: str) -> None:
    game = compiled(mlp_game())
    if name == "proximal":
        game.discriminator_penalty = None
    rule = RULES[name](game, source(), None)
    before = bits(game)
    with pytest.raises(InputError, match="differentiates D twice"):
        rule.step(data())
    assert same_bits(bits(game), before)
