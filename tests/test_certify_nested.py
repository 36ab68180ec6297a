"""Nestedness of every spectrum: gains rise with lambda up to their errors. Oracle: monotonicity of V_lam in lam."""

from __future__ import annotations

import dataclasses
import itertools
import math
import warnings

import numpy as np
import pytest

from games import MAKERS
from saddlegan import certify
from saddlegan.certify import GaussianW2Game, Spectrum
from saddlegan.certify._spectrum import summarise
from saddlegan.errors import BlindWarning, BudgetWarning

LADDER = (0.0, 0.3, 3.0, 30.0, math.inf)


def _rises(spectrum: Spectrum) -> bool:
    """Written without the library's own check: two standard errors of each gain, and the inner slack."""

    def error(index: int) -> float:
        stats = spectrum.certificates[index].stats
        spread = stats["standard_errors"]["generator"] if "standard_errors" in stats else 0.0
        return 2.0 * spread + stats.get("inner_slack", 0.0) + stats.get("tolerance", 0.0) + 1e-9

    gains = spectrum.generator_gains
    return all(gains[i] <= gains[j] + error(i) + error(j) for i, j in itertools.combinations(range(len(gains)), 2))


@pytest.mark.slow  # whole searches
@pytest.mark.parametrize("moved", [False, True])
@pytest.mark.parametrize("name", MAKERS)
def test_searched_spectra_are_nested(name: str, moved: bool) -> None:
    known = MAKERS[name](2, moved=moved)
    # the inner maximum of (theta - w)^2 lies in the opposite corner: only far starts, from three restarts on, find it
    restarts = 3 if name == "no-nash" else 1
    search = known.search(steps=20, restarts=restarts, evaluations=2, samples=256, learning_rate=5e-3, inner_steps=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BudgetWarning)
        warnings.simplefilter("ignore", BlindWarning)  # a pure strategy is a softmax without slope
        spectrum = certify.critical_lambda(
            known.game, known.data, lams=LADDER, norm=known.norm, search=search, exact=False
        )
    assert spectrum.lams == LADDER
    assert _rises(spectrum), spectrum.generator_gains
    assert spectrum.violations == ()
    refuted = [lam for lam, found in zip(LADDER, spectrum.certificates, strict=True) if found.verdict == "refuted"]
    assert not any(known.equilibrium(lam) for lam in refuted)


@pytest.mark.parametrize("name", ["pennies", "matrix", "quadratic-wgan"])
@pytest.mark.parametrize("moved", [False, True])
def test_exact_spectra_are_nested(name: str, moved: bool) -> None:
    for seed in range(5):
        known = MAKERS[name](seed, moved=moved)
        spectrum = certify.critical_lambda(known.game, known.data, lams=LADDER)
        assert spectrum.stats["method"] == "exact"
        assert _rises(spectrum), spectrum.generator_gains
        assert spectrum.violations == ()


@pytest.mark.slow  # whole searches
@pytest.mark.parametrize("diagonal", [(4.0, 1.0, 0.25), (9.0,), (2.0, 2.0), (5.0, 3.0, 2.0, 1.0, 0.5)])
def test_bisected_spectra_are_nested(diagonal: tuple[float, ...]) -> None:
    game = GaussianW2Game(np.diag(diagonal), eta=1.7)
    spectrum = game.critical_lambda()
    assert len(spectrum.lams) > 5
    assert _rises(spectrum), spectrum.generator_gains
    assert spectrum.violations == ()


def test_a_violation_is_found_and_said() -> None:
    known = MAKERS["pennies"](0, moved=True)
    one = certify.nash(known.game, known.data)
    low = dataclasses.replace(one, generator_gain=1.0, standard_error=0.01, stats={}, verdict="refuted")
    near, far = (dataclasses.replace(low, generator_gain=gain) for gain in (0.97, 0.9))
    assert summarise({0.0: low, 1.0: near}, stats={}).violations == ()
    broken = summarise({0.0: low, 1.0: near, 2.0: far}, stats={})
    assert broken.violations == ((0.0, 2.0), (1.0, 2.0))
    assert "lambda = 0 and 2 contradict nestedness" in broken.sentence
    assert not _rises(broken)
    proved = dataclasses.replace(low, generator_gain=1.0, verdict="proved")
    assert summarise({0.0: low, math.inf: proved}, stats={}).violations == ((0.0, math.inf),)
