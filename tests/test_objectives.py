"""Oracles: numerical conjugates, autograd, and the Jensen-Shannon divergence in closed form."""

import copy
import dataclasses
import math
import pickle

import pytest
import torch
from scipy.optimize import minimize_scalar

from saddlegan import objectives
from saddlegan.errors import ObjectiveError

F_GANS = [o for o in objectives.OBJECTIVES.values() if o.divergence is not None]
LAGRANGIAN = [o for o in objectives.OBJECTIVES.values() if o.equilibrium is not None]


def number(f, t):
    return float(f(torch.tensor(t, dtype=torch.float64)))


def check_conjugate(objective, t):
    """Oracle: f*(t) = sup over u >= 0 of u t - f(u) by a bounded scalar search in log u; u = 0 is its left end."""
    f = objective.divergence
    search = minimize_scalar(
        lambda s: number(f, math.exp(s)) - math.exp(s) * t, bounds=(-18, 6), method="bounded", options={"xatol": 1e-12}
    )
    conjugate = max(-search.fun, -number(f, 1e-300))
    assert number(objective.f1, t) == pytest.approx(-conjugate, abs=1e-6)


def check_divergence(objective):
    """f(1) = f'(1) = 0 and convex. Oracle: autograd and second differences."""
    one = torch.ones((), dtype=torch.float64, requires_grad=True)
    value = objective.divergence(one)
    (slope,) = torch.autograd.grad(value, one)
    assert abs(float(value.detach())) <= 1e-15
    assert abs(float(slope)) <= 1e-15
    u = torch.linspace(1e-3, 5.0, 400, dtype=torch.float64)
    assert float(objective.divergence(u).diff().diff().min()) >= -1e-12


@pytest.mark.parametrize("objective", F_GANS, ids=lambda o: o.name)
@pytest.mark.parametrize("t", [-3.0, -1.0, -0.2, 0.0, 0.3, 0.6])
def test_f1_is_minus_the_conjugate(objective, t):
    check_conjugate(objective, t)


@pytest.mark.parametrize("objective", F_GANS, ids=lambda o: o.name)
def test_divergences_are_normalised_and_convex(objective):
    check_divergence(objective)


def test_every_objective_with_an_identity_f0_names_its_divergence():
    """Wasserstein alone is bounded by D's class instead; a new f-GAN without its divergence fails here."""
    identity = objectives.WASSERSTEIN.f0
    assert [o.name for o in objectives.OBJECTIVES.values() if o.f0 is identity and o.divergence is None] == [
        "wasserstein"
    ]


def test_a_wrong_objective_is_caught():
    """Wrong on purpose: another conjugate, a divergence that is not normalised."""
    with pytest.raises(AssertionError):
        check_conjugate(dataclasses.replace(objectives.KL, f1=lambda t: 1.0 - 1.01 * torch.exp(t)), 0.3)
    with pytest.raises(AssertionError):
        check_divergence(dataclasses.replace(objectives.KL, divergence=lambda u: torch.xlogy(u, u)))


@pytest.mark.parametrize("objective", LAGRANGIAN, ids=lambda o: o.name)
def test_the_link_keeps_both_halves_concave(objective):
    """D ascends raw outputs, so that f0 and f1 must be concave after the link too. Oracle: second differences."""
    raw = torch.linspace(-6, 6, 401, dtype=torch.float64)
    for f in (objective.f0, objective.f1):
        assert float(f(objective.link(raw)).diff().diff().max()) <= 1e-12


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
