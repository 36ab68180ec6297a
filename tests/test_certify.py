"""Certificates by search on any pair: nothing is left changed, refusals, data sources, honest figures."""

from __future__ import annotations

import copy
import dataclasses
import random
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm
from torch.utils.data import DataLoader, TensorDataset

from games import Point, Slope, clamp_to
from saddlegan import Batch, Certificate, Game, Status, certify
from saddlegan.certify._spectrum import summarise
from saddlegan.certify.search import _deviate
from saddlegan.certify.search._arena import Arena
from saddlegan.certify.search._deviate import best_generator
from saddlegan.certify.search._judge import prepare
from saddlegan.certify.search._measure import gain_of
from saddlegan.errors import BlindWarning, BudgetWarning, InputError, InputTypeError, ObjectiveError
from saddlegan.proximal import proximal_value, squared_distance, warn_if_piecewise_linear
from saddlegan.search import Found, Units, ascend

FAST = certify.Search(steps=12, restarts=2, evaluations=4, batch_size=16)
TINY = certify.Search(steps=3, restarts=1, evaluations=1, batch_size=16)  # where it matters what is left behind alone

pytestmark = pytest.mark.filterwarnings("ignore::saddlegan.errors.BudgetWarning")


def _images(n: int = 128) -> Tensor:
    return torch.randn(n, 1, 8, 8, generator=torch.Generator().manual_seed(5))


def _pair() -> Game:
    """Batch norm, dropout and spectral norm: every kind of state that a forward pass can move."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        G = nn.Sequential(
            nn.Linear(4, 32),
            nn.BatchNorm1d(32),
            nn.SiLU(),
            nn.Dropout(0.2),
            nn.Linear(32, 64),
            nn.Unflatten(1, (1, 8, 8)),
        )
        D = nn.Sequential(
            spectral_norm(nn.Conv2d(1, 8, 4, 2, 1)), nn.Softplus(beta=4.0), nn.Flatten(), nn.Linear(128, 1)
        )
    return Game(G, D, objective="vanilla", latent=4)


def _simple(objective: str = "vanilla") -> Game:
    rng = torch.Generator().manual_seed(3)
    D = nn.Sequential(nn.Linear(2, 8), nn.SiLU(), nn.Linear(8, 1))
    G = nn.Linear(2, 2)
    with torch.no_grad():
        for parameter in (*G.parameters(), *D.parameters()):
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=rng))
    return Game(G, D, objective=objective, latent=2)


def _points(n: int = 256) -> Tensor:
    return torch.randn(n, 2, generator=torch.Generator().manual_seed(1)) + 1.0


def _snapshot(game: Game, optimiser: torch.optim.Optimizer) -> dict[str, Any]:
    modules = [*game.G.modules(), *game.D.modules()]
    parameters = [*game.G.parameters(), *game.D.parameters()]
    return copy.deepcopy(
        {
            "G": game.G.state_dict(),
            "D": game.D.state_dict(),
            "modes": [module.training for module in modules],
            "grads": [parameter.grad for parameter in parameters],
            "requires": [parameter.requires_grad for parameter in parameters],
            "optimiser": optimiser.state_dict(),
            "torch": torch.get_rng_state(),
            "numpy": np.random.get_state()[1],
            "python": random.getstate(),
            "grad mode": torch.is_grad_enabled(),
        }
    )


def _same(one: Any, two: Any) -> bool:
    if isinstance(one, Tensor):
        return isinstance(two, Tensor) and one.dtype == two.dtype and torch.equal(one, two)
    if isinstance(one, np.ndarray):
        return bool(np.array_equal(one, two))
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(_same(one[key], two[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(two) and all(map(_same, one, two))
    return bool(one == two)


CALLS: dict[str, Callable[[Game, Any], object]] = {
    "nash": lambda game, data: certify.nash(game, data, search=TINY),
    "stackelberg": lambda game, data: certify.stackelberg(game, data, search=TINY),
    "proximal": lambda game, data: certify.proximal(game, data, lam=1.0, search=TINY),
    "duality_gap": lambda game, data: certify.duality_gap(game, data, search=TINY),
    "proximal_duality_gap": lambda game, data: certify.proximal_duality_gap(game, data, lam=1.0, search=TINY),
    "critical_lambda": lambda game, data: certify.critical_lambda(game, data, lams=(0.0, 1.0), search=TINY),
    "gradient_norms": lambda game, data: certify.gradient_norms(game, data),
    "game_spectrum": lambda game, data: certify.game_spectrum(game, data, count=2),
    "path_angle": lambda game, data: certify.path_angle(game, _pair().G, _pair().D, data, points=3),
    "generator_deviation": lambda game, data: certify.generator_deviation(game, data, search=TINY),
}


@pytest.mark.slow  # whole searches
@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("training", [True, False])
def test_pair_optimisers_and_random_states_are_bit_identical_afterwards(name: str, training: bool) -> None:
    game = _pair()
    game.G.train(training)
    game.D.train(training)
    optimiser = torch.optim.Adam([*game.G.parameters(), *game.D.parameters()])
    value = game.value(_images(16), game.sample_latent(16))
    value.backward()
    optimiser.step()
    order = torch.Generator().manual_seed(1)
    loader = DataLoader(TensorDataset(_images()), batch_size=32, shuffle=True, generator=order)
    before, loaded = _snapshot(game, optimiser), order.get_state()
    CALLS[name](game, loader)
    assert _same(before, _snapshot(game, optimiser))
    assert torch.equal(loaded, order.get_state())


@pytest.mark.slow  # whole searches
def test_everything_is_restored_after_an_exception() -> None:
    game = _pair()
    optimiser = torch.optim.SGD(game.G.parameters(), lr=0.1)
    before = _snapshot(game, optimiser)
    calls = 0

    def breaking(D: nn.Module, batch: Batch) -> Tensor:
        nonlocal calls
        calls += 1
        torch.rand(3)
        np.random.rand()
        if calls > 100:
            raise RuntimeError("user code")
        return batch.x.new_zeros(())

    broken = Game(game.G, game.D, objective="vanilla", latent=4, discriminator_penalty=breaking)
    with pytest.raises(RuntimeError, match="user code"):
        certify.nash(broken, _images(), search=FAST)
    assert _same(before, _snapshot(game, optimiser))


def test_the_comparison_of_snapshots_can_fail() -> None:
    game = _pair()
    optimiser = torch.optim.SGD(game.G.parameters(), lr=0.1)
    before = _snapshot(game, optimiser)
    game.D(_images(4))  # in train mode this moves the spectral norm's vectors
    assert not _same(before, _snapshot(game, optimiser))


@pytest.mark.slow  # whole searches
def test_same_seed_same_certificate_whatever_the_global_state() -> None:
    game = _pair()
    first = certify.proximal(game, _images(), lam=1.0, search=TINY)
    torch.rand(7)
    second = certify.proximal(game, _images(), lam=1.0, search=TINY)
    third = certify.proximal(game, _images(), lam=1.0, search=TINY, random_state=1)
    assert first.gap == second.gap != third.gap


@pytest.mark.parametrize("objective", ["non-saturating", "hinge", "least-squares"])
@pytest.mark.parametrize("name", ["nash", "proximal_duality_gap", "critical_lambda", "generator_deviation"])
def test_objectives_that_are_not_zero_sum_are_refused_by_name(objective: str, name: str) -> None:
    with pytest.raises(ObjectiveError, match=objective):
        CALLS[name](_simple(objective), _points())


def test_bad_pairs_and_data_are_refused_by_name() -> None:
    game, X = _simple(), _points()
    with pytest.raises(InputError, match=r"`batch_size` 64"):
        certify.nash(game, X[:100])
    with pytest.raises(InputError, match="`data` holds NaN"):
        certify.nash(game, torch.full((256, 2), torch.nan))
    with pytest.raises(InputError, match="`data` must hold samples in rows"):
        certify.nash(game, torch.zeros(0, 2))
    with pytest.raises(InputTypeError, match="`data` must be an array"):
        certify.nash(game, "digits")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="`G` makes samples of shape"):
        certify.nash(game, torch.zeros(256, 5))
    with pytest.raises(InputError, match="`G` does not accept latents"):
        certify.nash(Game(game.G, game.D, latent=7), X)
    with pytest.raises(InputError, match="`lam`"):
        certify.proximal(game, X, lam=-1.0)
    with pytest.raises(InputError, match="`norm`"):
        certify.proximal(game, X, lam=1.0, norm="taxicab")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="`lams`"):
        certify.critical_lambda(game, X, lams=())
    with pytest.raises(InputError, match="`random_state`"):
        certify.nash(game, X, random_state=-1)
    with pytest.raises(InputError, match="`steps`"):
        certify.Search(steps=0)
    with torch.no_grad():
        game.D[0].weight[0, 0] = torch.nan  # type: ignore[index]
    with pytest.raises(InputError, match="`D` has NaN"):
        certify.nash(game, X)
    frozen = _simple()
    frozen.G.requires_grad_(False)
    with pytest.raises(InputError, match="`G` has no trainable parameters"):
        certify.nash(frozen, X)


@pytest.mark.slow  # whole searches
def test_all_data_sources_give_the_same_samples() -> None:
    game, X = _simple(), _points()
    plain = certify.nash(game, X, search=FAST).gap
    assert certify.nash(game, X.numpy(), search=FAST).gap == plain
    assert certify.nash(game, DataLoader(TensorDataset(X), batch_size=100), search=FAST).gap == plain
    assert certify.nash(game, lambda n, generator: X, search=FAST).gap == plain


def test_value_that_is_not_finite_gives_a_certificate_not_an_error() -> None:
    game = Game(
        *(lambda g: (g.G, g.D))(_simple()), latent=2, generator_penalty=lambda G, batch: batch.fake.sum() * torch.inf
    )
    certificate = certify.nash(game, _points(), search=FAST)
    assert (certificate.status, certificate.verdict, certificate.bound) == (Status.NON_FINITE, "undecided", "none")


def test_spent_budget_warns_and_says_so() -> None:
    game = _simple()
    # a level that no gain reaches, so that nothing refutes while the searches still rise
    search = certify.Search(steps=10, restarts=1, batch_size=16, significance=1e-100)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(BudgetWarning, match="steps"):
            certify.nash(game, _points(), search=search)


@pytest.mark.slow  # whole searches
def test_certificate_reports_its_settings_and_curves() -> None:
    certificate = certify.proximal(_simple(), _points(), lam=0.5, search=FAST)
    assert certificate.gap == pytest.approx(certificate.generator_gain + certificate.discriminator_gain)
    assert certificate.stats["settings"]["steps"] == 12
    assert len(certificate.stats["curves"]["generator"]) >= 2
    assert certificate.stats["lam"] == 0.5


@pytest.mark.slow  # whole searches
def test_clipping_keeps_the_discriminator_in_its_class() -> None:
    def clip(D: nn.Module) -> None:
        for parameter in D.parameters():
            parameter.clamp_(-0.05, 0.05)

    game = _simple("wasserstein")
    with torch.no_grad():
        clip(game.D)
    free = certify.nash(game, _points(), search=certify.Search(steps=100, restarts=1)).discriminator_gain
    bounded = certify.nash(
        game, _points(), search=certify.Search(steps=100, restarts=1, project_discriminator=clip)
    ).discriminator_gain
    assert 0 < bounded < 0.5 * free


def test_gain_of_matches_the_t_test() -> None:
    # oracle: scipy's one-sample t-test accepts exactly where the threshold is cleared
    from scipy.stats import ttest_1samp

    rng = np.random.default_rng(0)
    for shift in (0.0, 0.2, 0.5, 1.0):
        blocks = rng.standard_normal(32) + shift
        p = ttest_1samp(blocks, 0.0, alternative="greater").pvalue
        gain = gain_of(torch.from_numpy(blocks), value=0.0, tolerance=0.0, significance=0.01)
        assert gain.significant == (p < 0.01)


def test_sobolev_penalty_gradient_against_finite_differences() -> None:
    rng = torch.Generator().manual_seed(0)
    D = nn.Sequential(nn.Linear(3, 5), nn.Softplus(beta=4.0), nn.Linear(5, 1)).double()
    centre = copy.deepcopy(D)
    with torch.no_grad():
        for parameter, old in zip(D.parameters(), centre.parameters(), strict=True):
            old.copy_(0.5 * torch.randn(old.shape, generator=rng, dtype=torch.float64))
            parameter.copy_(old + 0.3 * torch.randn(old.shape, generator=rng, dtype=torch.float64))
    x = torch.randn(20, 3, generator=rng, dtype=torch.float64)
    loss = squared_distance(D, centre, x, "sobolev")
    gradients = torch.autograd.grad(loss, list(D.parameters()), allow_unused=True, materialize_grads=True)
    assert sum(float(gradient.abs().sum()) for gradient in gradients) > 0.1
    for parameter, gradient in zip(D.parameters(), gradients, strict=True):
        for index in range(parameter.numel()):
            ends = []
            for sign in (1.0, -1.0):
                with torch.no_grad():
                    parameter.view(-1)[index] += sign * 1e-5
                ends.append(squared_distance(D, centre, x, "sobolev").item())
                with torch.no_grad():
                    parameter.view(-1)[index] -= sign * 1e-5
            difference = (ends[0] - ends[1]) / 2e-5
            assert float(gradient.view(-1)[index]) == pytest.approx(difference, rel=1e-5, abs=1e-7)


def test_proximal_value_is_the_value_less_half_lam_distance() -> None:
    game, X = _simple(), _points(32)
    z = game.sample_latent(32, torch.Generator().manual_seed(0))
    centre = copy.deepcopy(game.D)
    with torch.no_grad():
        game.D[2].weight.mul_(2.0)  # type: ignore[index,operator]
    expected = game.value(X, z) - 0.35 * squared_distance(game.D, centre, X, "l2")
    assert proximal_value(game, centre, X, z, lam=0.7, norm="l2").item() == pytest.approx(expected.item())
    assert proximal_value(game, centre, X, z, lam=0.0, norm="l2").item() == game.value(X, z).item()


@pytest.mark.slow  # whole searches
@pytest.mark.parametrize("activation", [nn.ReLU(), nn.LeakyReLU(0.2), nn.PReLU()])
def test_piecewise_linear_discriminators_are_warned_about_by_name(activation: nn.Module) -> None:
    D = nn.Sequential(nn.Linear(2, 4), activation, nn.Linear(4, 1))
    game = Game(_simple().G, D, latent=2)
    with pytest.warns(UserWarning, match="softplus"):
        certify.proximal(game, _points(), lam=1.0, search=FAST)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_if_piecewise_linear(D, "l2")
        warn_if_piecewise_linear(_simple().D, "sobolev")


@pytest.mark.slow  # whole searches
def test_searched_verdicts_are_never_called_proved() -> None:
    for name in ("nash", "stackelberg", "proximal", "duality_gap"):
        certificate = CALLS[name](_simple(), _points())
        assert isinstance(certificate, Certificate)
        assert certificate.verdict != "proved"
        assert certificate.bound != "exact"


def test_generator_deviation_lowers_the_value() -> None:
    game, X = _simple(), _points()
    moved = certify.generator_deviation(game, X, search=certify.Search(steps=60, restarts=1))
    z = game.sample_latent(256, torch.Generator().manual_seed(0))
    assert game.replace(G=moved).value(X, z).item() < game.value(X, z).item()


class _Noisy(nn.Module):
    """One number w."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(1, dtype=torch.float64))


def test_a_ladder_hands_out_its_deviations_and_moves_no_frozen_layer() -> None:
    """Oracle: the pair's own weights; V itself; to stay, which gains nothing."""
    game = _simple()
    game.G = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    game.G[0].requires_grad_(False)
    data = torch.randn(256, 2, generator=torch.Generator().manual_seed(1))
    moved: dict[float, nn.Module] = {}
    spectrum = certify.critical_lambda(game, data, lams=(0.0, 1.0, np.inf), search=FAST, deviations=moved)
    assert set(moved) == {0.0, 1.0, np.inf}
    for player in moved.values():
        assert torch.equal(player[0].weight, game.G[0].weight)
        assert not any(p.requires_grad for p in player.parameters())
    z = game.sample_latent(4096, torch.Generator().manual_seed(2))
    here, there = (game.replace(G=G).value(data, z).item() for G in (game.G, moved[np.inf]))
    assert there < here
    assert spectrum.generator_gains[-1] > 0.0


def test_a_ladder_searches_no_generator_where_the_discriminator_alone_refutes() -> None:
    """Oracle: the thorough ladder, verdict for verdict."""
    data = _points() + 3.0
    lams, search = (0.0, 1.0, np.inf), dataclasses.replace(TINY, steps=20)
    shares: list[float] = []
    told = dataclasses.replace(search, callback=lambda who, share: shares.append(share))
    whole = certify.critical_lambda(_simple(), data, lams=lams, search=search)
    moved: dict[float, nn.Module] = {}
    quick = certify.critical_lambda(_simple(), data, lams=lams, search=told, thorough=False, deviations=moved)
    assert (quick.sentence, quick.upper) == (whole.sentence, whole.upper)
    assert quick.sentence.startswith("The pair is refuted as a Stackelberg equilibrium, hence as")
    above = summarise({1.0: quick.certificates[1]}, stats={})
    assert above.sentence.startswith("The pair is refuted at lambda = 1, the smallest tried")
    assert [step.verdict for step in quick.certificates] == ["refuted"] * 3
    assert set(moved) == {np.inf}
    assert max(shares) == 1.0
    assert np.isnan(quick.generator_gains[:2]).all()
    assert quick.certificates[-1] == whole.certificates[-1]
    for lam, short, long in zip(lams[:2], quick.certificates, whole.certificates, strict=False):
        assert short.stats["lam"] == lam
        assert short.discriminator_gain == long.discriminator_gain > 0
        assert "the discriminator could gain at least" in short.sentence
        assert "not measured" in short._repr_html_()
        assert short.bracket is None or short.bracket[0] == short.discriminator_gain
        assert np.isfinite(short.upper) == np.isfinite(long.upper)


def test_a_ladder_searches_on_where_the_discriminator_refutes_nothing() -> None:
    """Oracle: the thorough ladder. D is zero, and G's samples are the data's: no discriminator gains."""
    game = _simple()
    with torch.no_grad():
        game.G.weight.copy_(torch.eye(2))
        game.G.bias.zero_()
        game.D[2].weight.zero_()
        game.D[2].bias.zero_()
    data = torch.randn(256, 2, generator=torch.Generator().manual_seed(1))
    whole, quick = (
        certify.critical_lambda(game, data, lams=(0.0, 1.0), search=TINY, thorough=thorough)
        for thorough in (True, False)
    )
    assert [step.verdict for step in whole.certificates] != ["refuted"] * 2
    assert quick.generator_gains == whole.generator_gains


def test_to_stay_is_the_least_that_a_generator_gains(monkeypatch: pytest.MonkeyPatch) -> None:
    """A search on V that ends below it reports 0, and has not settled where it is below by more than chance."""
    game, data = _simple(), torch.randn(256, 2, generator=torch.Generator().manual_seed(1))

    def astray(arena: Arena, who: str, starts: list[nn.Module], *given: Any, **options: Any) -> Found:
        worse = copy.deepcopy(starts[0])
        with torch.no_grad():  # G's samples where D is lowest: V is larger there
            worse.bias -= 5.0 * game.D[0].weight.mT @ game.D[2].weight.mT[:, 0]
        return Found(worse, 0.0, ((1, 0.0),), True, 0.0)

    arena = prepare(game, data, "data", search=TINY, random_state=0, exact=False).arena()
    monkeypatch.setattr(_deviate, "_best_of", astray)
    found = best_generator(arena)
    assert float(found.gains.abs().max()) == 0.0
    assert not found.settled
    assert all(torch.equal(p, q) for p, q in zip(found.player.parameters(), game.G.parameters(), strict=True))


@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.5, 0.999)])
def test_a_search_scores_and_returns_the_average_of_its_iterates(betas: tuple[float, float]) -> None:
    """Oracle: Adam and the geometric average written out by hand, on a noisy parabola with its top at 1."""
    steps, rate = 60, 0.05
    noise = torch.randn(steps, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def climb() -> Callable[[], tuple[Tensor, Tensor]]:
        rows = iter(noise)
        return lambda: (next(rows), torch.empty(0))

    found = ascend(
        _Noisy(),
        lambda player, x, z: -0.5 * (player.w - 1.0 + x).square().sum(),  # type: ignore[operator]
        lambda player: -abs(float(player.w.detach()) - 1.0),  # type: ignore[arg-type,operator]
        climb(),
        search=certify.Search(steps=steps, evaluations=1),
        units=Units(lambda player: player.w.expand(1, 1), unit=4.0),  # moving w by 4 moves the output by one unit
        learning_rate=rate / 4.0,
        project=None,
        betas=betas,
    )
    w = average = first = second = 0.0
    for t in range(1, steps + 1):
        slope = w - 1.0 + float(noise[t - 1])
        first = betas[0] * first + (1 - betas[0]) * slope
        second = betas[1] * second + (1 - betas[1]) * slope**2
        w -= rate * first / (1 - betas[0] ** t) / (second / (1 - betas[1] ** t)) ** 0.5
        average += (w - average) * 15 / steps
    assert float(found.player.w.detach()) == pytest.approx(average, abs=1e-10)  # type: ignore[arg-type,operator]
    assert found.score == pytest.approx(-abs(average - 1.0), abs=1e-10)
    assert abs(average - w) > 1e-3  # the check could tell them apart


def test_an_average_is_projected_before_it_is_scored() -> None:
    """The unit circle is no convex class: averages leave it, projection brings them back."""

    def onto_circle(player: nn.Module) -> None:
        player.w.div_(player.w.norm())  # type: ignore[operator,union-attr]

    player = _Noisy()
    player.w = nn.Parameter(torch.tensor([1.0, 0.0], dtype=torch.float64))
    found = ascend(
        player,
        lambda D, x, z: D.w[1],  # type: ignore[index]
        lambda D: float(D.w[1].detach()),  # type: ignore[index]
        lambda: (torch.empty(0), torch.empty(0)),
        search=certify.Search(steps=40, evaluations=4),
        units=Units(),
        learning_rate=0.05,
        project=onto_circle,
    )
    assert float(found.player.w.detach().norm()) == pytest.approx(1.0)  # type: ignore[operator]


@pytest.mark.slow  # whole searches
def test_a_gap_measures_both_players_out_of_sample_and_says_how_far_it_was_still_growing() -> None:
    for steps in (20, 100):
        found = certify.proximal_duality_gap(_simple(), _points(), lam=1.0, search=certify.Search(steps=steps))
        assert found.stats["growth"] >= found.stats["inner_slack"]
        allowed = max(0.05 * abs(found.gap), found.standard_error)
        if found.gap < -6 * found.standard_error:  # no true gap is negative: a search failed
            assert (found.status, found.verdict) != (Status.SETTLED, "not refuted")
        else:
            assert (found.status is Status.SETTLED) == (found.stats["growth"] <= allowed)


def _far_off(bias: float) -> tuple[Game, Tensor]:
    """Samples at -40, data at 40, and the logit D(x) = bias x: for a large bias V has no slope left at the samples."""
    G, D = nn.Linear(1, 1).double(), nn.Linear(1, 1).double()
    with torch.no_grad():
        for parameter, number in ((G.weight, 0.01), (G.bias, -40.0), (D.weight, bias), (D.bias, 0.0)):
            parameter.fill_(number)
    X = 40.0 + torch.randn(512, 1, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    return Game(G, D, objective="vanilla", latent=1), X


WHOLE_SPACE = dataclasses.replace(FAST, domain=None)


@pytest.mark.slow  # whole searches
@pytest.mark.parametrize("name", ["nash", "proximal", "duality_gap", "proximal_duality_gap"])
def test_vanishing_gradients_are_no_evidence(name: str) -> None:
    """Oracle: at logits of +-1000 log sigmoid is -1000, its slope zero: real samples in G's place lower V by 1000."""
    game, X = _far_off(25.0)
    more = {"lam": 1.0} if "proximal" in name else {}
    with pytest.warns(BlindWarning, match="no slope"):
        certificate = getattr(certify, name)(game, X, search=WHOLE_SPACE, **more)
    assert isinstance(certificate, Certificate)
    assert (certificate.verdict, certificate.status) == ("undecided", Status.BLIND)
    assert certificate.stats["ideal_gain"] == pytest.approx(1000.0, rel=0.02)
    assert "undecided" in certificate.sentence
    assert "real samples in their place" in certificate.sentence


@pytest.mark.slow  # whole searches
def test_small_slopes_are_climbed_all_the_same() -> None:
    """At logits of +-40 the slope is e^-40, which no absolute step climbs. Oracle: the ideal gain, about 40."""
    for domain in ("data", None):
        game, X = _far_off(1.0)
        found = certify.nash(game, X, search=certify.Search(steps=60, restarts=1, domain=domain))  # type: ignore[arg-type]
        assert found.verdict == "refuted"
        assert found.generator_gain > 36.0


def test_a_domain_lends_a_slope_where_there_is_none() -> None:
    """Held at the data's edge, the samples are where D has a slope; the generator that is found gains by itself."""
    game, X = _far_off(25.0)
    found = certify.nash(game, X, search=certify.Search(steps=60, restarts=1))
    assert (found.verdict, found.stats["outside"]) == ("refuted", 1.0)
    assert found.generator_gain == pytest.approx(1000.0, rel=0.15)


def test_the_worst_pair_does_not_stop_a_training() -> None:
    game, X = _far_off(25.0)
    watch = certify.Watch(game, X, every=1, below=1e6, search=WHOLE_SPACE)
    with pytest.warns(BlindWarning):
        assert not watch(1)
    with pytest.raises(InputError, match="`below`"):
        certify.Watch(game, X, every=1, below=-1.0)


@pytest.mark.slow  # whole searches
def test_a_gain_found_within_a_search_is_suspected_and_never_refutes() -> None:
    """Oracle: leader, by analysis proximal up to lambda 3, where weights stored small slow the inner search down."""
    for size in (1.0, 0.01):
        theta = Point(torch.zeros(1, dtype=torch.float64))
        w = Slope(torch.zeros(1, dtype=torch.float64))
        game = Game(
            theta,
            w,
            objective="wasserstein",
            latent=1,
            generator_penalty=lambda G, batch: -0.5 * batch.fake.square().sum(1).mean(),
            discriminator_penalty=lambda D, batch, size=size: (
                0.5 * (D.w / size).square().sum() + (2.0 * batch.fake @ D.w / size - batch.fake @ D.w).mean()
            ),
        )
        search = certify.Search(steps=60, samples=256, learning_rate=1e-2, project_generator=clamp_to(1.0))
        for lam in (0.0, 1.0):  # in units of the stored weight the critical lambda is at least 3
            found = certify.proximal(game, torch.zeros(256, 1, dtype=torch.float64), lam=lam, search=search, norm="l2")
            assert found.verdict != "refuted"
            assert (found.verdict == "suspected") == ("suspected" in found.sentence)
