"""No false verdict on families whose equilibria are known, in two units. Oracle: each family's closed form.

`benchmarks/bench_known_games.py` judges the same families over many seeds, five units and every lambda.
"""

from __future__ import annotations

import math

import pytest

from families import FAMILIES, ExactFamily, judged

pytestmark = [
    pytest.mark.filterwarnings("ignore::saddlegan.errors.BudgetWarning"),
    pytest.mark.filterwarnings("ignore::saddlegan.errors.BlindWarning"),
]


@pytest.mark.parametrize("name", FAMILIES)
def test_no_family_gets_a_false_verdict(name: str) -> None:
    family = FAMILIES[name]
    search = {"steps": 10, "samples": 512, "restarts": 1, "evaluations": 5}
    lams = None if isinstance(family, ExactFamily) else (math.inf,)
    for unit in {family.units[0], family.units[-1]}:
        for lam, truth, certificate in judged(name, 1, unit, lams=lams, search=search):
            wrong = "refuted" if truth else "proved"
            assert certificate.verdict != wrong, f"false {wrong} at lambda {lam}, unit {unit}: {certificate}"
