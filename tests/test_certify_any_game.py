"""Conditional, grouped, pairing and own-value games judged by search: verdicts against known saddle points."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from saddlegan import Batch, Game, certify
from saddlegan.certify import Search
from saddlegan.errors import InputError, ObjectiveError
from test_train_own_values import Weights, constrained, domain_adaptation, group_robust

FAST = Search(steps=150, restarts=1, batch_size=16, tolerance=1e-3, learning_rate=1e-2)


class Placed(nn.Module):
    """G(z, label): one place a label, with unit noise."""

    def __init__(self, places: list[float]) -> None:
        super().__init__()
        self.places = nn.Parameter(torch.tensor(places, dtype=torch.float64))

    def forward(self, z: Tensor, label: Tensor) -> Tensor:
        assert not label.is_floating_point()
        return z + self.places[label][:, None]


class Slopes(nn.Module):
    """D(x, label): a slope and an offset a label."""

    def __init__(self) -> None:
        super().__init__()
        self.slopes = nn.Parameter(torch.zeros(2, 2, dtype=torch.float64))

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        assert not label.is_floating_point()
        assert len(x) == len(label)
        return self.slopes[0, label] * x[:, 0] + self.slopes[1, label]


def labelled(n: int = 2048) -> tuple[Tensor, Tensor]:
    source = torch.Generator().manual_seed(1)
    label = torch.arange(n) % 2
    return torch.randn(n, 1, generator=source, dtype=torch.float64) + label[:, None], label


@pytest.mark.slow  # whole searches
@pytest.mark.parametrize("form", ["tuple", "mapping", "sampler"])
def test_a_conditional_pair_is_judged_with_its_labels(form: str) -> None:
    """Labels at 0 and 1 in the data: right places leave D = 0 nothing to gain, swapped ones (same mixture) do not."""
    X, label = labelled()
    data = {"tuple": (X, label), "mapping": {"label": label, "x": X}, "sampler": lambda n, generator: (X, label)}[form]
    right, swapped = (Game(Placed(places), Slopes(), latent=1) for places in ([0.0, 1.0], [1.0, 0.0]))
    good = certify.nash(right, data, search=FAST)
    bad = certify.nash(swapped, data, search=FAST)
    assert good.verdict != "refuted"
    assert bad.verdict == "refuted"
    assert bad.discriminator_gain > 0.1 > abs(good.discriminator_gain)
    norms = certify.gradient_norms(right, data)
    assert norms.discriminator < 0.1 < certify.gradient_norms(swapped, data).discriminator
    assert certify.proximal(swapped, data, lam=0.1, norm="l2", search=FAST).verdict != "proved"


def test_a_conditional_pair_without_its_labels_is_refused() -> None:
    X, label = labelled(64)
    loader = DataLoader(TensorDataset(X), batch_size=32)
    assert len(label) == len(X)
    with pytest.raises(InputError, match="`G` does not accept latents"):
        certify.nash(Game(Placed([0.0, 1.0]), Slopes(), latent=1), loader, search=FAST)


@pytest.mark.slow  # whole searches
@pytest.mark.parametrize("form", ["list", "mapping"])
def test_a_loader_brings_the_labels_along(form: str) -> None:
    """Oracle: the same rows as a tuple; the loader keeps their order."""
    X, label = labelled()
    rows = [{"x": x, "label": y} for x, y in zip(X, label, strict=True)]
    dataset = TensorDataset(X, label) if form == "list" else rows
    loader = DataLoader(dataset, batch_size=100)  # type: ignore[arg-type]
    for places in ([0.0, 1.0], [1.0, 0.0]):
        game = Game(Placed(places), Slopes(), latent=1)
        whole = certify.nash(game, (X, label), search=FAST)
        loaded = certify.nash(game, loader, search=FAST)
        assert (whole.verdict, whole.gap) == (loaded.verdict, loaded.gap)
    norms = [certify.gradient_norms(game, rows, samples=2048) for rows in (loader, (X, label))]
    assert norms[0] == norms[1]


def test_labels_that_nobody_takes_are_left_out() -> None:
    """Oracle: the samples alone. An optional label is taken, as training takes it."""
    X, label = labelled(512)
    loader = DataLoader(TensorDataset(X, label), batch_size=100)

    class Optional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.slope = nn.Parameter(torch.zeros(1, dtype=torch.float64))
            self.told = False

        def forward(self, x: Tensor, label: Tensor | None = None) -> Tensor:
            self.told |= label is not None
            return self.slope * x[:, 0]

    game = Game(nn.Linear(1, 1).double(), nn.Linear(1, 1).double(), latent=1)
    assert certify.gradient_norms(game, loader) == certify.gradient_norms(game, X)
    optional = Optional()
    certify.gradient_norms(Game(Placed([0.0, 1.0]), optional, latent=1), loader)
    assert optional.told


def test_a_known_saddle_of_an_own_value_is_not_refuted_and_others_are() -> None:
    """V = g^2 + d (1 - g) with saddle (1, 2); at (1, 1) G gains by falling to 1/2, at (0, 0) D gains without end."""
    game, rows, saddle = constrained()
    assert isinstance(rows, Tensor)
    X = torch.zeros(64, 1).double()
    for g, d, verdict in ((*saddle, "not"), (1.0, 1.0, "refuted"), (0.0, 0.0, "refuted")):
        with torch.no_grad():
            next(game.G.parameters()).fill_(g)
            next(game.D.parameters()).fill_(d)
        found = certify.nash(game, X, search=FAST)
        assert (found.verdict == "refuted") == (verdict == "refuted"), (g, d, found)
        norms = certify.gradient_norms(game, X)
        assert (norms.generator < 1e-9 and norms.discriminator < 1e-9) == (verdict == "not")


def robust() -> tuple[Game, object, tuple[float, float]]:
    """Group-robust regression by rows: V = 2 E q_group (1 + group) (w - x)^2, saddle in closed form."""

    def value(G: nn.Module, D: nn.Module, batch: Batch) -> Tensor:
        (group,) = batch.conditions
        return 2 * (D()[group] * (1.0 + group) * (G() - batch.x[:, 0]).square()).mean()

    _, _, (w, logit) = group_robust()
    group = torch.arange(2048) % 2
    rows = (1.0 - 2.0 * group.double())[:, None], group
    return Game.from_value(nn.Parameter(torch.zeros(1).double()), Weights(), value), rows, (w, logit)


def adapted() -> tuple[Game, object, tuple[float, float]]:
    game, _, (shift, w) = domain_adaptation()
    source = torch.linspace(0.0, 2.0, 2048, dtype=torch.float64)[:, None]
    return game, (source, source - 1.0), (shift, w)


@pytest.mark.slow  # whole searches
@pytest.mark.filterwarnings("ignore::saddlegan.errors.BudgetWarning")
@pytest.mark.parametrize("make", [robust, adapted])
@pytest.mark.parametrize("ask", [certify.nash, certify.stackelberg])
def test_saddles_with_conditions_are_not_refuted_and_others_are(
    make: Callable[[], tuple[Game, object, tuple[float, float]]], ask: Callable[..., certify.Certificate]
) -> None:
    """Oracle: the saddles in closed form; away from them a player gains, as the gradient at that place says."""
    game, rows, (g, d) = make()

    def judged(g: float, d: float) -> certify.Certificate:
        with torch.no_grad():
            next(game.G.parameters()).fill_(g)
            next(game.D.parameters()).fill_(d)
        return ask(game, rows, search=FAST)

    at = judged(g, d)
    assert at.verdict != "refuted", at
    off = judged(g + 0.5, d)
    assert off.verdict == ("refuted" if ask is certify.nash else off.verdict)
    assert off.discriminator_gain > 0.01 > at.discriminator_gain
    # with both groups' losses equal D is content with any weights: a Stackelberg equilibrium, and no Nash equilibrium
    content = make is robust and ask is certify.stackelberg
    assert judged(g, d + 1.0).verdict in (("not refuted", "undecided") if content else ("refuted",))


class Product(Game):
    """V = g d, whose only saddle is (0, 0), by a subclass that overrides `value`."""

    def value(self, x: Tensor, z: Tensor) -> Tensor:
        return self.G.weight.sum() * self.D.weight.sum()  # type: ignore[operator,union-attr]


@pytest.mark.parametrize(("g", "d", "refuted"), [(0.0, 0.0, False), (1.0, 0.0, True), (0.0, 1.0, True)])
def test_a_subclass_is_judged_by_its_own_value(g: float, d: float, refuted: bool) -> None:
    G, D = (nn.Linear(1, 1, bias=False).double() for _ in range(2))
    G.weight.data.fill_(g)
    D.weight.data.fill_(d)
    found = certify.nash(Product(G, D, latent=1), torch.zeros(64, 1).double(), search=FAST)
    assert (found.verdict == "refuted") == refuted
    values = certify.game_spectrum(Product(G, D, latent=1), torch.zeros(64, 1).double())
    assert sorted(complex(v).imag for v in values) == pytest.approx([-1.0, 1.0])


class Sums(nn.Module):
    """A discriminator of packs of four rows."""

    def __init__(self) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.zeros(1, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return self.slope * x.view(-1, 4).sum(1)


def test_groups_stay_whole_in_every_split() -> None:
    source = torch.Generator().manual_seed(0)
    G = nn.Linear(1, 1).double()
    with torch.no_grad():
        G.weight.fill_(1.0)
        G.bias.fill_(2.0)
    game = Game(G, Sums(), latent=1, rows_in_groups=4, objective="vanilla")
    X = torch.randn(4001, 1, generator=source, dtype=torch.float64)
    found = certify.nash(game, X, search=FAST)
    assert found.verdict == "refuted"
    assert math.isfinite(certify.gradient_norms(game, X).discriminator)


def test_pairing_pairs_are_judged_and_their_non_saturating_form_names_its_twin() -> None:
    source = torch.Generator().manual_seed(0)
    X = torch.randn(1024, 1, generator=source, dtype=torch.float64)
    for shift, refuted in ((0.0, False), (1.0, True)):
        G = nn.Linear(1, 1).double()
        D = nn.Linear(1, 1).double()
        with torch.no_grad():
            G.weight.fill_(1.0)
            G.bias.fill_(shift)
            D.weight.zero_()
        found = certify.nash(Game(G, D, latent=1, objective="pairing"), X, search=FAST)
        assert (found.verdict == "refuted") == refuted
    with pytest.raises(ObjectiveError, match="twin is 'pairing'"):
        certify.nash(Game(G, D, latent=1, objective="pairing-non-saturating"), X, search=FAST)


def test_generators_are_not_credited_for_a_penalty_that_is_ds_alone() -> None:
    """D = w x at w = 1 on data N(0, 1): under Wasserstein with R2 a generator that moves changes V by -w b only."""
    G, D = nn.Linear(1, 1).double(), nn.Linear(1, 1, bias=False).double()
    with torch.no_grad():
        G.weight.fill_(1.0)
        G.bias.zero_()
        D.weight.zero_()
    X = torch.randn(512, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    class Far:
        discriminator_only = True

        def __call__(self, D: nn.Module, batch: object) -> Tensor:
            return 5.0 * batch.fake.square().mean()  # type: ignore[attr-defined]

    plain = Game(G, D, latent=1, objective="wasserstein")
    with_penalty = Game(G, D, latent=1, objective="wasserstein", discriminator_penalty=Far())
    gains = [certify.nash(game, X, search=FAST).generator_gain for game in (plain, with_penalty)]
    assert gains[0] == pytest.approx(gains[1], abs=1e-12)


def test_data_that_do_not_fit_an_own_value_are_refused() -> None:
    game = Game.from_value(
        nn.Linear(2, 1).double(), nn.Linear(2, 1).double(), lambda G, D, b: G(b.x).mean() * D(b.x).mean()
    )
    with pytest.raises(InputError, match="own value does not accept"):
        certify.nash(game, torch.zeros(64, 3).double(), search=FAST)
