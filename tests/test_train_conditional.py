"""Conditions go along with their samples through every rule, split and penalty, and are never blurred or mixed."""

from __future__ import annotations

import math
import runpy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from saddlegan import Batch, Game, networks, train
from saddlegan.batch import cut, read, spread
from saddlegan.errors import InputError, InputTypeError
from saddlegan.proximal import squared_distance
from train_cases import RULES, adam, bits, data, largest_difference, mlp_game, same_bits

EXAMPLES = Path(__file__).parents[1] / "examples"
CODES = torch.tensor([11, 23, 37])  # no number between two labels is a label


def source(seed: int = 3) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Checked(nn.Module):
    """A network of (input, label) that refuses what is no label, and remembers the pairs that it saw."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.net = networks.MLP(inputs + 3, outputs, hidden=(6,), activation="softplus").double()
        self.seen: list[tuple[Tensor, Tensor]] = []

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        assert not label.is_floating_point()
        assert len(label) == len(x)
        assert bool(torch.isin(label, CODES).all())
        self.seen.append((x.detach().clone(), label.clone()))
        places = (label[:, None] == CODES).long().argmax(1)
        return self.net(torch.cat([x, one_hot(places, 3).to(x.dtype)], dim=1))


def conditional_game(**options: Any) -> Game:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Game(Checked(3, 2), Checked(2, 1), latent=3, **options)


def rows(n: int = 16, seed: int = 7) -> tuple[Tensor, Tensor]:
    """Samples whose first coordinate says which label is theirs."""
    label = CODES[torch.randint(3, (n,), generator=source(seed))]
    x = data(n, seed=seed)
    x[:, 0] = label.to(x.dtype)
    return x, label


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("penalty", ["gradient", "r1+r2", "approximate"])
def test_every_rule_keeps_each_label_beside_its_sample(name: str, penalty: str) -> None:
    penalties = {
        "gradient": train.GradientPenalty(10.0),
        "r1+r2": train.Penalties(train.R1(1.0), train.R2(1.0)),
        "approximate": train.Penalties(train.ApproximateR1(1.0), train.ApproximateR2(1.0)),
    }
    game = conditional_game(discriminator_penalty=penalties[penalty])
    D = game.D
    assert isinstance(D, Checked)
    game.D = train.InstanceNoise(D, sd=1e-9)
    rule = RULES[name](game, source(), None)
    rule.accumulate = 2
    before = bits(game)
    for seed in range(2):
        assert math.isfinite(rule.step(rows(seed=seed)).value)
    assert not same_bits(before, bits(game))
    real = [(x, y) for x, y in D.seen if bool((x[:, 0] > 10).all())]
    assert len(real) >= 4
    if penalty != "gradient":  # whose points lie between real and generated samples
        assert all(float((x[:, 0] - y).abs().max()) < 0.1 for x, y in real)


@pytest.mark.parametrize("name", RULES)
def test_accumulated_conditional_steps_equal_whole_ones(name: str) -> None:
    if name == "unrolled":
        pytest.skip("pieces are unrolled by themselves: see its docstring")
    game, other = conditional_game(), conditional_game()
    whole, pieces = RULES[name](game, source(), None), RULES[name](other, source(), None)
    pieces.accumulate = 4
    for seed in range(2):
        whole.step(rows(seed=seed))
        pieces.step(rows(seed=seed))
    assert largest_difference(bits(game), bits(other)) < 1e-9


@pytest.mark.slow  # whole trainings
def test_conditions_decide_what_is_learned() -> None:
    """Labels give the mean: G told a label must make samples at that label's place."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        G = Checked(3, 1)
        D = Checked(1, 1)
    game = Game(G, D, latent=3, objective="non-saturating", discriminator_penalty=train.R1(0.1))
    optimisers = (torch.optim.Adam(p.parameters(), 0.02, betas=(0.0, 0.9)) for p in (G, D))
    rule = train.Alternating(game, *optimisers, generator=source())
    places = {11: -1.0, 23: 0.0, 37: 1.0}
    draws = source()
    for _ in range(600):
        label = CODES[torch.randint(3, (48,), generator=draws)]
        means = torch.tensor([places[int(code)] for code in label], dtype=torch.float64)
        rule.step((means[:, None] + 0.1 * torch.randn(48, 1, generator=draws, dtype=torch.float64), label))
    z = game.sample_latent(200, source(1))
    for code, place in places.items():
        made = G(z, torch.full((200,), code)).detach()
        assert float(made.mean()) == pytest.approx(place, abs=0.25)


@pytest.mark.slow  # whole trainings
def test_both_classes_of_a_conditional_ring_are_complete() -> None:
    """Eight modes, labels their parity, a gradient penalty: the example, whose counter is the PacGAN protocol's."""
    with torch.random.fork_rng():
        found, seen = runpy.run_path(str(EXAMPLES / "conditional_ring.py"))["run"](400, 1)
    assert [(entry.stats["modes"], entry.stats["total"]) for entry in found] == [(4, 4), (4, 4)]
    assert min(entry.value for entry in found) > 0.3  # a class that ignored its label would be near the other's modes
    assert seen == {0, 1}


def test_generated_conditions_of_their_own_take_precedence() -> None:
    def latent(n: int, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        return torch.zeros(n, 3).double(), torch.full((n,), 37)

    game = conditional_game()
    game.latent = latent
    x, label = rows()
    batch = game.batch((x, torch.full((16,), 11)), game.sample_latent(16))
    assert int(batch.conditions[0].max()) == 11
    assert int(batch.fake_conditions[0].min()) == 37
    assert math.isfinite(train.Alternating(game, *adam(game)).step((x, label)).value)


class Two(nn.Module):
    """A generator whose latent is a mapping or a tuple."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(5, 2).double()

    def forward(self, z: Any) -> Tensor:
        parts = z.values() if isinstance(z, dict) else z
        return self.net(torch.cat(list(parts), dim=1))


@pytest.mark.parametrize("form", ["tuple", "mapping"])
def test_latents_may_be_tuples_and_mappings(form: str) -> None:
    def latent(n: int, generator: torch.Generator | None) -> Any:
        a = torch.randn(n, 2, generator=generator, dtype=torch.float64)
        b = torch.rand(n, 3, generator=generator, dtype=torch.float64)
        return ((a, b),) if form == "tuple" else {"style": a, "place": b}

    with torch.random.fork_rng():
        torch.manual_seed(0)
        G = Two()
    game, cut_game = Game(G, mlp_game().D, latent=latent), Game(Two(), mlp_game().D, latent=latent)
    cut_game.G.load_state_dict(G.state_dict())
    whole = train.Alternating(game, *adam(game), generator=source())
    pieces = train.Alternating(cut_game, *adam(cut_game), generator=source(), accumulate=4)
    for seed in range(2):
        whole.step(data(seed=seed))
        pieces.step(data(seed=seed))
    assert largest_difference(bits(game), bits(cut_game)) < 1e-12


def test_the_sobolev_distance_differentiates_in_samples_only() -> None:
    """Oracle: a D that is linear in x with a slope chosen by its label, so that the distance is a mean of squares."""

    class Slopes(nn.Module):
        def __init__(self, slopes: list[float]) -> None:
            super().__init__()
            self.slopes = nn.Parameter(torch.tensor(slopes, dtype=torch.float64))

        def forward(self, x: Tensor, label: Tensor) -> Tensor:
            return self.slopes[label] * x[:, 0]

    label = torch.tensor([0, 0, 1, 2])
    found = squared_distance(Slopes([1.0, 2.0, 4.0]), Slopes([0.0, 0.0, 0.0]), (data(4), label), "sobolev")
    assert float(found.detach()) == pytest.approx((1 + 1 + 4 + 16) / 4)


def test_replicas_take_their_own_conditions() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        parts = [Plain() for _ in range(2)]
    x, label = data(8), torch.arange(8)[:, None].double()
    apart = torch.cat([part(x[4 * r : 4 * r + 4], label[4 * r : 4 * r + 4]) for r, part in enumerate(parts)])
    torch.testing.assert_close(train.Replicas(parts)(x, label), apart)


class Plain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(3, 1).double()

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        return self.net(torch.cat([x, label], dim=1))


def test_noise_penalties_are_r1_and_r2_in_expectation() -> None:
    """Oracle: the penalties themselves, whose slopes a central difference checks elsewhere."""
    D, x, fake = mlp_game().D, data(8), data(8, seed=8)
    many = Batch(x.repeat(4000, 1), fake=fake.repeat(4000, 1))
    for exact, noisy in (
        (train.R1(2.0), train.ApproximateR1(2.0, sd=1e-3, generator=source())),
        (train.R2(2.0), train.ApproximateR2(2.0, sd=1e-3, generator=source())),
    ):
        wanted = exact(D, Batch(x, fake=fake)).item()
        assert noisy(D, many).item() == pytest.approx(wanted, rel=0.03)
    assert train.R2(2.0)(D, Batch(x, fake=fake)).item() == pytest.approx(train.R1(2.0)(D, Batch(fake)).item())


def test_batches_are_read_from_what_loaders_give() -> None:
    x, label = rows(4)
    assert read(x) is x
    assert read([x]) is x
    for form in ((x, label), [x, label], {"x": x, "label": label}, {"label": label, "x": x}):
        assert torch.equal(read(form)[0], x)
        assert torch.equal(read(form)[1], label)
    with pytest.raises(InputTypeError, match="without an entry 'x'"):
        read({"image": x})
    with pytest.raises(InputTypeError, match="list of float"):
        read([1.0])
    with pytest.raises(InputError, match=r"same number of rows, got \[4, 3\]"):
        read((x, label[:3]))
    game = conditional_game()
    with pytest.raises(InputError, match="3 latents cannot take the conditions of 4 samples"):
        game.value((x, label), torch.zeros(3, 3).double())


def test_points_are_spread_in_whole_groups() -> None:
    x, label = torch.arange(24), torch.arange(24) + 100
    near, its = spread((x, label), 8, rows_in_groups=4)
    assert near.tolist() == [0, 1, 2, 3, 12, 13, 14, 15]
    assert torch.equal(its, near + 100)
    assert [part[0].tolist() for part in cut((x, label), 3)] == [
        list(range(8)),
        list(range(8, 16)),
        list(range(16, 24)),
    ]
