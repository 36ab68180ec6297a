"""No false verdict on families whose equilibria are known, in two units. Oracle: each family's closed form.

`benchmarks/bench_known_games.py` judges the same families over many seeds, five units and every lambda.
"""

from __future__ import annotations

import math

import pytest

from families import FAMILIES, ExactFamily, judged
from saddlegan import certify

pytestmark = [
    pytest.mark.filterwarnings("ignore::saddlegan.errors.BudgetWarning"),
    pytest.mark.filterwarnings("ignore::saddlegan.errors.BlindWarning"),
]


@pytest.mark.slow  # judges every family
@pytest.mark.parametrize("name", FAMILIES)
def test_no_family_gets_a_false_verdict(name: str) -> None:
    family = FAMILIES[name]
    search = {"steps": 10, "samples": 512, "restarts": 1, "evaluations": 5}
    lams = None if isinstance(family, ExactFamily) else (math.inf,)
    for unit in {family.units[0], family.units[-1]}:
        for lam, truth, certificate in judged(name, 1, unit, lams=lams, search=search):
            wrong = "refuted" if truth else "proved"
            assert certificate.verdict != wrong, f"false {wrong} at lambda {lam}, unit {unit}: {certificate}"


@pytest.mark.slow  # judges every family
@pytest.mark.parametrize(("name", "gain"), [("clipped, at the corner", 0.0), ("spectral norm, off the corner", 0.5)])
@pytest.mark.parametrize("lam", [math.inf, 1.0])
def test_to_be_brought_into_the_domain_is_no_gain_and_hides_none(name: str, gain: float, lam: float) -> None:
    """The pair's samples lie outside the data's box. Oracle: V = w (3 - t) with |t| <= 1, by hand."""
    known = FAMILIES[name].make(1, 1.0)
    options = {"search": known.search(steps=40, samples=512, restarts=3, evaluations=5), "random_state": 1}
    if math.isinf(lam):
        certificate = certify.nash(known.game, known.data, **options)
    else:
        certificate = certify.proximal(known.game, known.data, lam=lam, norm="parameters", **options)
    assert certificate.stats["outside"] > 0.0
    assert certificate.generator_gain <= gain + 5.0 * certificate.standard_error + 1e-6
    assert certificate.generator_gain >= 0.9 * gain
    # at the corner real samples in place of the generated would gain, beyond the class of G: that is a doubt, no more
    found = ("not refuted", "undecided") if gain == 0.0 else ("refuted",) if math.isinf(lam) else ("suspected",)
    assert certificate.verdict in found
