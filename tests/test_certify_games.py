"""Verdicts on games whose equilibria are known: no false "proved" or "refuted". Oracle: the games' analysis."""

from __future__ import annotations

import dataclasses
import itertools
import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from games import MAKERS, Known, dirac, leader, pennies, solve_matrix
from saddlegan import Certificate, certify
from saddlegan.certify.exact._recognise import _KINDS, recognise
from saddlegan.certify.search import _nested
from saddlegan.certify.search._judge import prepare
from saddlegan.certify.search._nested import best_proximal_generator
from saddlegan.errors import BlindWarning, BudgetWarning

SEEDS = 20
PROVABLE = [name for name, maker in MAKERS.items() if maker(1, moved=False).provable]


def _check(known: Known, certificate: Certificate, lam: float) -> None:
    truth = known.equilibrium(lam)
    assert not (certificate.verdict == "refuted" and truth), f"false refuted: {known.name} at {lam}: {certificate}"
    assert not (certificate.verdict == "proved" and not truth), f"false proved: {known.name} at {lam}: {certificate}"


def _nash(known: Known, seed: int) -> Certificate:
    search = known.search(steps=30, restarts=2, evaluations=6, patience=3, samples=512)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BudgetWarning)
        warnings.simplefilter("ignore", BlindWarning)  # a pure strategy is a softmax without slope
        return certify.nash(known.game, known.data, search=search, random_state=seed, exact=False)


@pytest.mark.slow  # whole searches
@pytest.mark.parametrize("name", PROVABLE)
@pytest.mark.parametrize("seed", range(SEEDS))
def test_exact_verdicts_decide_every_provable_game(name: str, seed: int) -> None:
    known, moved = MAKERS[name](seed, moved=False), MAKERS[name](seed, moved=True)
    for pair, verdict in ((known, "proved"), (moved, "refuted")):
        assert certify.nash(pair.game, pair.data).verdict == verdict
        assert certify.stackelberg(pair.game, pair.data).verdict == verdict
        assert certify.proximal(pair.game, pair.data, lam=1.0).verdict == verdict
    assert abs(certify.nash(known.game, known.data).gap) <= 1e-8


@pytest.mark.slow  # whole searches
@pytest.mark.parametrize("name", MAKERS)
def test_search_never_refutes_a_nash_equilibrium(name: str) -> None:
    for seed in range(SEEDS):
        known = MAKERS[name](seed, moved=False)
        certificate = _nash(known, seed)
        _check(known, certificate, math.inf)
        assert certificate.verdict != "proved"
        assert certificate.bound == "lower"


def contract(maker: Callable[..., Known], seed: int = 1) -> None:
    """What every known game must meet: its claims agree with what the certificates find, each by a way of its own.

    Exact classes decide what they solve, both ways. Elsewhere a search refutes what the game says is no equilibrium,
    and does not refute what it says is one; a critical lambda lies where verdicts change.
    """
    known, moved = maker(seed, moved=False), maker(seed, moved=True)
    assert not moved.equilibrium(0.0), "the moved pair must be no equilibrium"
    for pair in (known, moved):
        solved = recognise(pair.game, torch.as_tensor(pair.data)) if not callable(pair.data) else None
        assert (solved is not None) == pair.provable, f"`provable` is {pair.provable}, the exact class {solved}"
        for lam in (0.0, math.inf) if pair.provable else ():
            truth = "proved" if pair.equilibrium(lam) else "refuted"
            assert certify.proximal(pair.game, pair.data, lam=lam).verdict == truth, f"not {truth} at {lam}"
        search = pair.search(steps=80, learning_rate=1e-2, samples=512, evaluations=10)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", BudgetWarning)
            warnings.simplefilter("ignore", BlindWarning)  # a pure strategy is a softmax without slope
            found = certify.nash(pair.game, pair.data, search=search, exact=pair.provable)
        _check(pair, found, math.inf)
        assert (found.verdict == "refuted") != pair.equilibrium(math.inf), f"{found.verdict} as a Nash equilibrium"
    if 0.0 < known.critical < math.inf:
        search = known.search(steps=80, learning_rate=1e-2, samples=512, evaluations=10)
        below, above = (
            certify.proximal(known.game, known.data, lam=share * known.critical, norm=known.norm, search=search).verdict
            for share in (0.5, 10.0)
        )
        assert below not in ("refuted", "suspected"), f"{below} below the critical lambda"
        assert above in ("refuted", "suspected"), f"{above} above the critical lambda"


@pytest.mark.slow  # whole searches
@pytest.mark.parametrize("name", MAKERS)
def test_known_games_are_as_they_say(name: str) -> None:
    contract(MAKERS[name])


def test_every_exact_class_has_a_known_game() -> None:
    provable = [MAKERS[name](1, moved=False) for name in PROVABLE]
    assert {type(recognise(pair.game, torch.as_tensor(pair.data))) for pair in provable} == set(_KINDS)


def _altered(name: str, **claims: Any) -> Callable[..., Known]:
    return lambda seed, *, moved: dataclasses.replace(MAKERS[name](seed, moved=moved), **claims)


@pytest.mark.slow  # whole searches
@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (_altered("quadratic", critical=math.inf), "must be no equilibrium"),
        (lambda seed, *, moved: MAKERS["quadratic"](seed, moved=not moved), "must be no equilibrium"),
        (_altered("dirac", critical=math.nan), "as a Nash equilibrium"),
        (lambda seed, *, moved: dataclasses.replace(pennies(seed, moved=True), critical=_said(moved)), "not proved"),
        (lambda seed, *, moved: dataclasses.replace(pennies(seed, moved=False), critical=math.nan), "not refuted"),
        (lambda seed, *, moved: dataclasses.replace(dirac(seed, moved=True), critical=_said(moved)), "false refuted"),
        (_altered("pennies", provable=False), "`provable` is False"),
        (_altered("quadratic", provable=True), "`provable` is True"),
        (
            lambda seed, *, moved: dataclasses.replace(leader(seed, moved=moved), critical=math.nan if moved else 50.0),
            "below the critical",
        ),
        (
            lambda seed, *, moved: dataclasses.replace(leader(seed, moved=moved), critical=math.nan if moved else 0.05),
            "above the critical",
        ),
    ],
)
def test_a_known_game_that_is_wrong_on_purpose_is_caught(wrong: Callable[..., Known], said: str) -> None:
    with pytest.raises(AssertionError, match=said):
        contract(wrong)


def _said(moved: bool) -> float:
    return math.nan if moved else math.inf


@pytest.mark.slow  # whole searches
def test_search_leaves_a_saddle_that_is_not_nash() -> None:
    # at (0, 0) both gradients vanish; only a perturbed start finds theta = +-1, gain a/2
    known = MAKERS["leader"](0, moved=False)
    certificate = certify.nash(known.game, known.data, search=known.search(learning_rate=1e-2))
    assert certificate.verdict == "refuted"
    assert certificate.generator_gain == pytest.approx(0.5, abs=1e-2)


@pytest.mark.slow  # whole searches
def test_spectrum_encloses_the_known_critical_lambda_and_rises() -> None:
    known = MAKERS["leader"](0, moved=False)  # b^2/a - c = 3
    search = known.search(learning_rate=2e-2, steps=100, samples=512)
    spectrum = certify.critical_lambda(
        known.game, known.data, lams=(0.0, 1.5, 6.0, math.inf), norm="parameters", search=search
    )
    assert (spectrum.lower, spectrum.suspected, spectrum.upper) == (1.5, 6.0, math.inf)
    gains = spectrum.generator_gains
    assert gains[2] == pytest.approx(0.5 * (1.0 - 4.0 / 7.0), abs=2e-2)
    assert all(later >= earlier - 2e-2 for earlier, later in itertools.pairwise(gains))
    assert "suspected not to be a proximal equilibrium from lambda = 6 on" in spectrum.sentence
    assert "refuted as a Nash equilibrium" in spectrum.sentence


def test_matrix_oracle_solves_rock_paper_scissors() -> None:
    p, q = solve_matrix(np.array([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]]))
    assert p == pytest.approx([1 / 3] * 3, abs=1e-9)
    assert q == pytest.approx([1 / 3] * 3, abs=1e-9)


@pytest.mark.slow  # whole searches
@pytest.mark.parametrize("restarts", [1, 2])
def test_too_few_starts_refute_nothing_at_a_finite_lambda(restarts: int) -> None:
    """They miss the inner maximum in the far corner of the game without a Nash point, which is a leader's optimum."""
    known = MAKERS["no-nash"](0, moved=False)
    search = known.search(steps=60, restarts=restarts, samples=512)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BudgetWarning)
        warnings.simplefilter("ignore", BlindWarning)  # a pure strategy is a softmax without slope
        _check(known, certify.stackelberg(known.game, known.data, search=search, exact=False), 0.0)


def test_a_search_that_loses_to_staying_put_has_not_settled(monkeypatch):
    """Led astray to theta + 1 at lambda = 1 the leader gains (a - b^2 / (c + 1)) / 2 < 0; to stay gains 0 there."""
    known = leader(1, moved=False)
    found = prepare(
        known.game, known.data, "data", search=certify.Search(steps=5, restarts=1), random_state=0, exact=True
    ).arena()
    sound = best_proximal_generator(found, lam=1.0, norm="parameters")
    assert sound.settled
    follow = _nested._follow

    def astray(arena, start, answer, rate, **options):
        reached, D = follow(arena, start, answer, rate, **options)
        with torch.no_grad():
            reached.player.theta.add_(1.0)
        return reached, D

    monkeypatch.setattr(_nested, "_follow", astray)
    lost = best_proximal_generator(found, lam=1.0, norm="parameters")
    assert not lost.settled
    assert float(lost.gains.mean()) == pytest.approx(0.0, abs=1e-12)
    assert torch.equal(lost.player.theta, known.game.G.theta)
    assert not best_proximal_generator(
        found, lam=1.0, norm="parameters", known=[lost]
    ).settled  # nor at the next lambda
