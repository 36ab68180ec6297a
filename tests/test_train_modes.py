"""Mode collapse on the ring: a generator that was regressed onto one mode is brought back by the primal-dual rule."""

from __future__ import annotations

from saddlegan.workbench import data as sources
from saddlegan.workbench import loop
from saddlegan.workbench.recipe import defaults_for, make_recipe
from saddlegan.workbench.session import Session

STEPS = 400


def test_the_primal_dual_rule_recovers_the_ring_from_one_mode() -> None:
    ring = sources.load("ring", n_samples=10_000)
    options = {"rule": "primal-dual", "start": "collapsed:1", "average": 0.9, "noise": 0.05, "noise_end": 0.05}
    session = Session(make_recipe(**{**defaults_for(ring, "primal-dual"), **options}), ring)
    collapsed = loop.measure(session, ring)
    assert collapsed["modes"] == 1
    assert collapsed["high_quality"] > 0.5
    for _ in range(STEPS):
        session.step()
    recovered = loop.measure(session, ring)
    assert recovered["modes"] == 8
    assert recovered["high_quality"] > 0.1  # below 5% a count of modes would mean nothing
    assert recovered["total_variation"] < 0.4
