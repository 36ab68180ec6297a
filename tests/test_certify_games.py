"""Verdicts on games whose equilibria are known: no false "proved" or "refuted". Oracle: the games' analysis."""

from __future__ import annotations

import itertools
import math
import warnings

import numpy as np
import pytest
import torch

from games import MAKERS, Known, solve_matrix
from saddlegan import Certificate, certify
from saddlegan.errors import BlindWarning, BudgetWarning

SEEDS = 20
PROVABLE = ("pennies", "matrix", "quadratic-wgan")


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


@pytest.mark.parametrize("name", PROVABLE)
@pytest.mark.parametrize("seed", range(SEEDS))
def test_exact_verdicts_decide_every_provable_game(name: str, seed: int) -> None:
    known, moved = MAKERS[name](seed, moved=False), MAKERS[name](seed, moved=True)
    for pair, verdict in ((known, "proved"), (moved, "refuted")):
        assert certify.nash(pair.game, pair.data).verdict == verdict
        assert certify.stackelberg(pair.game, pair.data).verdict == verdict
        assert certify.proximal(pair.game, pair.data, lam=1.0).verdict == verdict
    assert abs(certify.nash(known.game, known.data).gap) <= 1e-8


@pytest.mark.parametrize("name", MAKERS)
def test_search_never_refutes_a_nash_equilibrium(name: str) -> None:
    for seed in range(SEEDS):
        known = MAKERS[name](seed, moved=False)
        certificate = _nash(known, seed)
        _check(known, certificate, math.inf)
        assert certificate.verdict != "proved"
        assert certificate.bound == "lower"


@pytest.mark.parametrize("name", ["pennies", "matrix", "bilinear", "dirac", "no-nash", "gaussian"])
def test_search_refutes_pairs_off_equilibrium(name: str) -> None:
    known = MAKERS[name](1, moved=True)
    search = known.search(steps=150, restarts=3, learning_rate=3e-3, samples=1024)
    assert certify.nash(known.game, known.data, search=search, exact=False).verdict == "refuted"


def test_search_leaves_a_saddle_that_is_not_nash() -> None:
    # at (0, 0) both gradients vanish; only a perturbed start finds theta = +-1, gain a/2
    known = MAKERS["leader"](0, moved=False)
    certificate = certify.nash(known.game, known.data, search=known.search(learning_rate=1e-2))
    assert certificate.verdict == "refuted"
    assert certificate.generator_gain == pytest.approx(0.5, abs=1e-2)


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


@pytest.mark.parametrize("lam", [0.5, 20.0])
def test_proximal_search_agrees_with_the_gaussian_closed_form(lam: float) -> None:
    known = MAKERS["gaussian"](1, moved=False)  # critical lambda 2/1.7
    search = known.search(steps=50, learning_rate=3e-3, samples=512, evaluations=10)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BudgetWarning)
        warnings.simplefilter("ignore", BlindWarning)  # a pure strategy is a softmax without slope
        _check(known, certify.proximal(known.game, known.data, lam=lam, norm=known.norm, search=search), lam)


def test_matrix_oracle_solves_rock_paper_scissors() -> None:
    p, q = solve_matrix(np.array([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]]))
    assert p == pytest.approx([1 / 3] * 3, abs=1e-9)
    assert q == pytest.approx([1 / 3] * 3, abs=1e-9)


def test_the_check_can_fail() -> None:
    known = MAKERS["pennies"](0, moved=False)
    lie = certify.nash(MAKERS["pennies"](0, moved=True).game, torch.zeros(1, 2))
    with pytest.raises(AssertionError, match="false refuted"):
        _check(known, lie, math.inf)


@pytest.mark.parametrize("restarts", [1, 2])
def test_too_few_starts_refute_nothing_at_a_finite_lambda(restarts: int) -> None:
    """They miss the inner maximum in the far corner of the game without a Nash point, which is a leader's optimum."""
    known = MAKERS["no-nash"](0, moved=False)
    search = known.search(steps=60, restarts=restarts, samples=512)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BudgetWarning)
        warnings.simplefilter("ignore", BlindWarning)  # a pure strategy is a softmax without slope
        _check(known, certify.stackelberg(known.game, known.data, search=search, exact=False), 0.0)
