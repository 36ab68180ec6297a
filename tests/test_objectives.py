"""Oracles: numerical conjugates, autograd, and the Jensen-Shannon divergence in closed form."""

import copy
import math
import pickle

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar

from saddlegan import objectives
from saddlegan.errors import ObjectiveError

F_DIVERGENCES = {
    "kl": lambda u: u * np.log(u) - u + 1 if u > 0 else 1.0,
    "reverse-kl": lambda u: u - 1 - np.log(u),
    "pearson-chi2": lambda u: (u - 1) ** 2,
    "squared-hellinger": lambda u: (np.sqrt(u) - 1) ** 2,
}
LAGRANGIAN = [o for o in objectives.OBJECTIVES.values() if o.equilibrium is not None]


@pytest.mark.parametrize("name", F_DIVERGENCES)
@pytest.mark.parametrize("t", [-3.0, -1.0, -0.2, 0.0, 0.3, 0.6])
def test_f1_is_minus_the_conjugate(name, t):
    """Oracle: f*(t) = sup over u >= 0 of u t - f(u) by a bounded scalar search in log u."""
    f = F_DIVERGENCES[name]
    search = minimize_scalar(
        lambda s: f(math.exp(s)) - math.exp(s) * t, bounds=(-18, 6), method="bounded", options={"xatol": 1e-12}
    )
    conjugate = max(-search.fun, -f(1e-300) if name != "reverse-kl" else -math.inf)
    assert float(objectives.get(name).f1(torch.tensor(t, dtype=torch.float64))) == pytest.approx(-conjugate, abs=1e-6)


@pytest.mark.parametrize("objective", LAGRANGIAN, ids=lambda o: o.name)
def test_premises_of_the_lagrangian_view(objective):
    """(4) needs f1(t*) = 0, f0'(t*) = -f1'(t*), and concavity. Oracle: autograd and second differences."""
    t = torch.tensor(objective.require_lagrangian("the test"), dtype=torch.float64, requires_grad=True)
    assert float(objective.f1(t).detach()) == pytest.approx(0.0, abs=1e-15)
    slope0, slope1 = (torch.autograd.grad(f(t), t)[0] for f in (objective.f0, objective.f1))
    assert float(slope0) == pytest.approx(-float(slope1), abs=1e-12)
    assert float(slope0) > 0

    grid = torch.linspace(
        max(-6.0, objective.domain[0]), min(6.0, objective.domain[1] - 0.05), 401, dtype=torch.float64
    )
    for f in (objective.f0, objective.f1):
        assert float(f(grid).diff().diff().max()) <= 1e-12


@pytest.mark.parametrize("name", ["least-squares", "hinge"])
def test_objectives_without_a_lagrangian_are_refused_by_name(name):
    with pytest.raises(ObjectiveError, match=name):
        objectives.get(name).require_lagrangian("function space")


@pytest.mark.parametrize("name", ["non-saturating", "least-squares", "hinge"])
def test_objectives_that_are_not_zero_sum_are_refused_by_name(name):
    assert objectives.get(name).generator_loss is not None
    with pytest.raises(ObjectiveError, match=name):
        objectives.get(name).require_zero_sum("a certificate")


SEPARABLE = [o for o in objectives.OBJECTIVES.values() if o.pairing is None]


@pytest.mark.parametrize("objective", SEPARABLE, ids=lambda o: o.name)
def test_link_maps_the_line_into_the_domain(objective):
    raw = torch.linspace(-20, 20, 101, dtype=torch.float64)
    t = objective.link(raw)
    assert bool((t >= objective.domain[0]).all())
    assert bool((t < objective.domain[1]).all() or (t <= objective.domain[1]).all())
    assert bool(torch.isfinite(objective.f0(objective.link(raw[30:70]))).all())
    assert bool(torch.isfinite(objective.f1(objective.link(raw[30:70]))).all())


def test_vanilla_maximum_is_the_jensen_shannon_divergence():
    """max_D V = 2 JS(p, q) - log 2 with the theory's log 2 in f1; oracle: the divergence in closed form."""
    p = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    q = torch.tensor([0.2, 0.2, 0.6], dtype=torch.float64)
    vanilla = objectives.get("vanilla")
    best = (p * vanilla.f0(torch.log(p / q)) + q * vanilla.f1(torch.log(p / q))).sum()
    m = (p + q) / 2
    js = 0.5 * (p * (p / m).log()).sum() + 0.5 * (q * (q / m).log()).sum()
    assert float(best) == pytest.approx(float(2 * js - math.log(2)), abs=1e-12)


def test_names_are_forgiving_and_unknown_ones_are_named():
    assert objectives.get("Reverse_KL") is objectives.REVERSE_KL
    assert objectives.get(objectives.KL) is objectives.KL
    with pytest.raises(ObjectiveError, match=r"wasserstein.*got 'wassertein'"):
        objectives.get("wassertein")


def test_objectives_survive_pickling_and_copying():
    for objective in objectives.OBJECTIVES.values():
        assert pickle.loads(pickle.dumps(objective)) is objective
        assert copy.deepcopy(objective) is objective
