"""Mode collapse on the ring: a generator that was regressed onto one mode is brought back by the primal-dual rule."""

from __future__ import annotations

import pytest

from saddlegan.workbench.data import sources
from saddlegan.workbench.training import loop
from saddlegan.workbench.training.recipe import defaults_for, make_recipe
from saddlegan.workbench.training.session import Session

STEPS = 500


def recovered(rule: str, ring: sources.Data) -> tuple[dict[str, float], dict[str, float]]:
    """Metrics with the defaults of a collapsed start: at the start and after some steps."""
    start = "collapsed:1"
    recipe = make_recipe(**{**defaults_for(ring, rule, start), "rule": rule, "start": start})
    session = Session(recipe, ring)
    before = loop.measure(session, ring)
    for _ in range(STEPS):
        session.step()
    return before, loop.measure(session, ring)


@pytest.fixture(scope="module")
def ring() -> sources.Data:
    return sources.load("ring", n_samples=10_000)


@pytest.mark.slow  # a whole training
def test_the_primal_dual_rule_recovers_the_ring_from_one_mode(ring: sources.Data) -> None:
    before, after = recovered("primal-dual", ring)
    assert before["modes"] == 1
    assert before["high_quality"] > 0.5
    assert after["modes"] == 8
    assert after["high_quality"] > 0.05  # below that a count of modes would mean nothing
    assert after["total_variation"] < 0.4


@pytest.mark.slow  # a whole training
def test_plain_training_stays_collapsed_from_the_same_start(ring: sources.Data) -> None:
    # the control: without it the recovery would say nothing of the rule
    _, after = recovered("alternating", ring)
    assert after["modes"] <= 2
