"""Pairs that used to train silently wrong: each either works, or is refused by name with what to do."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn

from saddlegan import Batch, Game, networks, train
from saddlegan.errors import InputError, InputTypeError, NonFiniteLossError, ObjectiveError
from train_cases import RULES, adam, bits, clone, data, mlp_game, same_bits, sgd


def source(seed: int = 3) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# D's output


class Shaped(nn.Module):
    """A discriminator whose output has an asked shape."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 1).double()
        self.shape = shape

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x).mean().expand(self.shape)


@pytest.mark.parametrize("shape", [(8, 2), (), (1,), (7,), (8, 1, 1), (16,)])
def test_outputs_that_are_not_one_number_a_sample_are_refused(shape: tuple[int, ...]) -> None:
    game = mlp_game().replace(D=Shaped(shape))
    game.discriminator_penalty = None
    with pytest.raises(InputError, match=r"`D` must return one number a sample"):
        train.Alternating(game, *adam(game)).step(data())


@pytest.mark.parametrize("shape", [(8,), (8, 1), (8, 1, 3, 3)])
def test_numbers_and_patch_maps_are_taken(shape: tuple[int, ...]) -> None:
    game = mlp_game().replace(D=Shaped(shape))
    game.discriminator_penalty = None
    assert math.isfinite(train.Alternating(game, *adam(game)).step(data()).value)


def test_groups_may_give_one_output_each() -> None:
    D = nn.Sequential(nn.Unflatten(0, (-1, 4)), nn.Flatten(1), nn.Linear(8, 1)).double()
    G = networks.MLP(3, 2, hidden=(5,)).double()
    game = Game(G, D, latent=3, rows_in_groups=4)
    rule = train.Alternating(game, *adam(game), n_critic=2, accumulate=2)
    rule.step(data(16))
    with pytest.raises(InputError, match="multiple of 16"):
        rule.step(data(8))
    with pytest.raises(InputError, match="one number a sample"):
        Game(G, D, latent=3).value(data(16), torch.zeros(16, 3).double())


# logits


@pytest.mark.parametrize("objective", ["vanilla", "non-saturating", "pairing"])
@pytest.mark.parametrize("last", [nn.Sigmoid(), nn.Softmax(dim=1), nn.Sequential(nn.LogSoftmax(dim=1))])
def test_squashed_logits_are_warned_about(objective: str, last: nn.Module) -> None:
    with pytest.warns(UserWarning, match="expects logits"):
        Game(nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 1), last), objective=objective, latent=2)


class Hidden(nn.Module):
    """Calls its sigmoid as a function, where no list of layers shows it."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.layer(x)).view(-1)


def test_a_sigmoid_called_as_a_function_is_found_once() -> None:
    game = Game(nn.Linear(2, 2), Hidden(), latent=2)
    rule = train.Alternating(game, *adam(game))
    with pytest.warns(UserWarning, match="expects logits"):
        rule.step(torch.randn(4, 2))
    rule.step(torch.randn(4, 2))  # warnings are errors in these tests


def test_a_sigmoid_is_no_fault_where_no_logits_are_expected() -> None:
    game = Game(nn.Linear(2, 2), Hidden(), latent=2, objective="least-squares")
    train.Alternating(game, *adam(game)).step(torch.randn(4, 2))
    gate = nn.Sequential(nn.Linear(2, 4), nn.Sigmoid(), nn.Linear(4, 1))  # a hidden sigmoid is none either
    game = Game(nn.Linear(2, 2), gate, latent=2)
    train.Alternating(game, *adam(game)).step(torch.randn(4, 2))


# losses that are not finite


@pytest.mark.parametrize("name", RULES)
def test_a_loss_that_is_not_finite_raises_and_harms_nobody(name: str) -> None:
    game = mlp_game()
    rule = RULES[name](game, source(), None)
    rule.step(data())
    before = bits(game)
    bad = data()
    bad[3, 0] = math.nan
    with pytest.raises(NonFiniteLossError, match="loss of D is nan"):
        rule.step(bad)
    if name == "alternating-extrapolation":  # G goes first, along a finite loss
        assert all(bool(p.isfinite().all()) for p in bits(game))
        before = bits(game)
    else:
        assert same_bits(before, bits(game))
    rule.on_nonfinite = "skip"
    assert math.isnan(rule.step(bad).value)
    assert rule.skipped == 1
    assert same_bits(before, bits(game)) or name == "alternating-extrapolation"
    assert math.isfinite(rule.step(data()).value)
    assert not same_bits(before, bits(game))


def test_extragradient_comes_back_when_the_point_ahead_is_not_finite() -> None:
    game = mlp_game()
    calls = 0

    def later(G: nn.Module, batch: Batch) -> Tensor:
        nonlocal calls
        calls += 1
        return batch.fake.sum() * (math.nan if calls == 2 else 0.0)

    game.generator_penalty = later
    rule = train.Extragradient(game, *adam(game), generator=source())
    before = bits(game)
    with pytest.raises(NonFiniteLossError, match="loss of G"):
        rule.step(data())
    assert same_bits(before, bits(game))
    assert not rule.opt_G.state


# frozen parameters, states, contexts


@pytest.mark.parametrize("name", RULES)
def test_a_layer_frozen_in_mid_training_stands_still(name: str) -> None:
    game = mlp_game()
    rule = RULES[name](game, source(), None)
    for seed in range(2):
        rule.step(data(seed=seed))
    layers = [game.D[0], game.G[0]]
    for layer in layers:
        layer.requires_grad_(False)
    before, rest = [layer.weight.clone() for layer in layers], bits(game)
    for seed in range(2):
        rule.step(data(seed=seed))
    assert all(torch.equal(old, layer.weight) for old, layer in zip(before, layers, strict=True))
    assert not same_bits(rest, bits(game))


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("player", ["G", "D"])
def test_a_wholly_frozen_player_stands_still_and_the_other_moves(name: str, player: str) -> None:
    game = mlp_game()
    getattr(game, player).requires_grad_(False)
    before = clone(game)
    rule = RULES[name](game, source(), None)
    for seed in range(2):
        assert math.isfinite(rule.step(data(seed=seed)).value)
    for letter in "GD":
        pairs = zip(getattr(game, letter).parameters(), getattr(before, letter).parameters(), strict=True)
        assert all(torch.equal(p, q) for p, q in pairs) == (letter == player)


def test_saved_states_own_their_tensors() -> None:
    game = mlp_game()
    rule = train.Alternating(game, *adam(game), generator=source())
    rule.step(data())
    saved, before = rule.state_dict(), bits(game)
    rule.step(data())
    rule.load_state_dict(saved)
    assert same_bits(before, bits(game))
    average = train.MovingAverage(game.G, decay=0.5)
    kept = average.state_dict()
    copied = copy.deepcopy(kept)
    rule.step(data())
    average.update()
    assert all(torch.equal(kept[key], copied[key]) for key in kept)


@pytest.mark.parametrize("name", RULES)
def test_a_caller_without_gradients_changes_nothing(name: str) -> None:
    game, other, third = mlp_game(), mlp_game(), mlp_game()
    RULES[name](game, source(), None).step(data())
    rule = RULES[name](other, source(), None)
    with torch.no_grad():
        rule.step(data())
    rule = RULES[name](third, source(), None)
    with torch.inference_mode():
        rule.step(data().clone())  # an inference tensor
    assert same_bits(bits(game), bits(other))
    assert same_bits(bits(game), bits(third))


# refused by name


def test_shared_parameters_are_refused() -> None:
    shared = nn.Linear(2, 2)
    with pytest.raises(InputError, match=r"G.0.weight is D.0.weight"):
        Game(nn.Sequential(shared), nn.Sequential(shared, nn.Linear(2, 1)), latent=2)
    shared.requires_grad_(False)
    Game(nn.Sequential(shared), nn.Sequential(shared, nn.Linear(2, 1)), latent=2)


def test_lbfgs_is_refused() -> None:
    game = mlp_game()
    with pytest.raises(InputError, match="`opt_D` is LBFGS"):
        train.Alternating(game, sgd(game)[0], torch.optim.LBFGS(game.D.parameters()))


def test_other_types_of_input_say_what_to_do() -> None:
    G, D = networks.MLP(3, 2, hidden=(5,)), networks.MLP(2, 1, hidden=(5,), activation="silu")
    game = Game(G, D, latent=3)
    rule = train.Alternating(game, *adam(game))
    with pytest.raises(InputTypeError, match=r"float64.*x\.to\(torch\.float32\)"):
        rule.step(data())
    with pytest.raises(InputTypeError, match=r"uint8.*127\.5"):
        rule.step(torch.zeros(8, 2, dtype=torch.uint8))


class Slope(torch.autograd.Function):
    """The first derivative of `Once`; its own derivative is refused in the words of a compiled module."""

    @staticmethod
    def forward(ctx: object, gradient: Tensor) -> Tensor:
        return gradient[:, None].expand(-1, 2)

    @staticmethod
    def backward(ctx: object, *grad_outputs: Tensor) -> Tensor:
        raise RuntimeError("torch.compile with aot_autograd does not currently support double backward")


class Once(torch.autograd.Function):
    """x -> sum of x, a kernel that can be differentiated once."""

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return x.sum(1)

    @staticmethod
    def backward(ctx: object, *grad_outputs: Tensor) -> Tensor:
        return Slope.apply(grad_outputs[0])


def test_second_derivatives_that_d_does_not_allow_are_refused_by_name() -> None:
    class Kernel(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1).double())

        def forward(self, x: Tensor) -> Tensor:
            return self.scale * Once.apply(x)

    game = Game(mlp_game().G, Kernel(), latent=3, discriminator_penalty=train.R1(1.0))
    rule = train.Alternating(game, *adam(game))
    with pytest.raises(InputError, match="ApproximateR1"):
        rule.step(data())
    game.discriminator_penalty = train.ApproximateR1(1.0)
    assert math.isfinite(rule.step(data()).value)


def test_a_loss_without_a_graph_is_refused() -> None:
    class Detached(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:
            return super().forward(input).detach()

    game = Game(Detached(3, 2).double(), mlp_game().D, latent=3)
    with pytest.raises(InputError, match="loss of G has no graph"):
        train.Simultaneous(game, *adam(game)).step(data())


def test_latent_callables() -> None:
    G, D = networks.MLP(3, 2, hidden=(5,)), networks.MLP(2, 1, hidden=(5,))
    assert Game(G, D, latent=lambda n: torch.zeros(n, 3)).sample_latent(4, source()).shape == (4, 3)  # type: ignore[arg-type]
    assert Game(G, D, latent=lambda n, generator=None: torch.zeros(n, 3)).sample_latent(4).shape == (4, 3)
    with pytest.raises(InputError, match="asked for 4 rows"):
        Game(G, D, latent=lambda n, generator: torch.zeros(n + 1, 3)).sample_latent(4)
    with pytest.raises(InputTypeError, match="ndarray"):
        Game(G, D, latent=lambda n, generator: torch.zeros(n, 3).numpy()).sample_latent(4)


# one game for both doors


class Shifted(Game):
    """V = g d, whose saddle is (0, 0)."""

    def value(self, x: Tensor, z: Tensor) -> Tensor:
        return self.G.weight.sum() * self.D.weight.sum()  # type: ignore[operator,union-attr]


def test_a_subclass_keeps_its_value_everywhere() -> None:
    G, D = (nn.Linear(1, 1, bias=False).double() for _ in range(2))
    G.weight.data.fill_(2.0)
    D.weight.data.fill_(3.0)
    game = Shifted(G, D, latent=1)
    other = game.replace(G=copy.deepcopy(G))
    assert type(other) is Shifted
    x = z = torch.zeros(2, 1).double()
    found = other.gradients(x, z)
    assert (found.generator[0].item(), found.discriminator[0].item()) == (3.0, -2.0)
    rule = train.Simultaneous(game, *sgd(game, lr=0.1))
    assert rule.step(x).value == 6.0
    assert (G.weight.item(), D.weight.item()) == pytest.approx((1.7, 3.2))


@pytest.mark.parametrize("objective", ["vanilla", "wasserstein", "kl", "reverse-kl", "pearson-chi2", "pairing"])
@pytest.mark.parametrize("penalty", ["none", "both", "own", "r1+r2", "gradient penalty"])
def test_gradients_are_the_derivative_of_the_value(objective: str, penalty: str) -> None:
    """One game for `train` and `certify`: gradients against autograd of `value`, penalties that see fakes included."""
    game = mlp_game(objective=objective)
    penalties = {
        "none": None,
        "both": lambda D, batch: 0.3 * D(batch.fake).square().mean() + 0.1 * D(batch.x).square().mean(),
        "own": lambda D, batch: 0.1 * D[0].weight.square().sum(),
        "r1+r2": train.Penalties(train.R1(0.5), train.R2(0.7)),
        "gradient penalty": train.GradientPenalty(10.0, generator=source(1)),
    }
    game.discriminator_penalty = penalties[penalty]
    game.generator_penalty = lambda G, batch: 0.2 * batch.fake.square().mean()
    x, z = data(), game.sample_latent(8, source())
    found = game.gradients(x, z)
    if penalty == "gradient penalty":
        game.discriminator_penalty.generator.manual_seed(1)  # type: ignore[union-attr]
    expected = torch.autograd.grad(game.value(x, z), list(game.G.parameters()), retain_graph=True)
    for ours, theirs in zip(found.generator, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-13, rtol=1e-12)
    if penalty == "gradient penalty":
        game.discriminator_penalty.generator.manual_seed(1)  # type: ignore[union-attr]
    expected = torch.autograd.grad(
        -game.value(x, z), list(game.D.parameters()), allow_unused=True, materialize_grads=True
    )
    for ours, theirs in zip(found.discriminator, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-13, rtol=1e-12)


def test_a_penalty_on_fakes_is_played_by_the_generator_in_training_too() -> None:
    """Oracle: central difference of the value in one weight of G, against the gradient that a rule hands to opt_G."""
    game = mlp_game()
    game.discriminator_penalty = lambda D, batch: 3.0 * D(batch.fake).square().mean()
    rule = train.Simultaneous(game, *sgd(game, lr=0.0), generator=source())
    rule.step(data())
    weight, z, h = game.G[0].weight, game.sample_latent(8, source()), 1e-6
    with torch.no_grad():
        weight[1, 0] += h
        up = game.value(data(), z).item()
        weight[1, 0] -= 2 * h
        down = game.value(data(), z).item()
        weight[1, 0] += h
    assert weight.grad[1, 0].item() == pytest.approx((up - down) / (2 * h), rel=1e-6)


def test_what_needs_two_halves_refuses_by_name() -> None:
    game = mlp_game(objective="pairing")
    with pytest.raises(ObjectiveError, match="pairing"):
        game.objective.f0(torch.zeros(1))
    with pytest.raises(ObjectiveError, match="PrimalDual"):
        train.PrimalDual(game, *sgd(game))
    with pytest.raises(ObjectiveError, match="zero-sum twin is 'pairing'"):
        mlp_game(objective="pairing-non-saturating").objective.require_zero_sum("a certificate")
    with pytest.raises(InputError, match="in pairs; got 8 and 6"):
        game.value(data(), torch.zeros(6, 3).double())
    with pytest.raises(ObjectiveError, match="from_value"):
        Game(nn.Linear(1, 1), nn.Linear(1, 1), objective="own-value")
