"""Function space: convergence from half the support, the known rate, and the premises."""

import math

import pytest
import torch
from scipy.optimize import minimize_scalar

from saddlegan import Status, fit
from saddlegan.errors import InputError, ObjectiveError
from saddlegan.objectives import OBJECTIVES

LAGRANGIAN = [name for name, o in OBJECTIVES.items() if o.equilibrium is not None]


def half_support(k=20):
    p = torch.arange(1, k + 1, dtype=torch.float64)
    start = torch.zeros(k, dtype=torch.float64)
    start[: k // 2] = 2.0 / k
    return p / p.sum(), start


@pytest.mark.slow  # many steps
def test_mass_returns_to_the_missing_half():
    """Oracle: p_g* = p_d."""
    p_init = torch.tensor([0.25] * 4 + [0.0] * 4)
    solution = fit.function_space(torch.full((8,), 0.125), p_init, steps=6_000, step_size=0.1)
    assert float(solution.stats["total_variation"][0]) == pytest.approx(0.5)
    assert float(solution.stats["total_variation"][-1]) < 0.02
    assert solution.status is Status.SETTLED
    assert solution.stats["saddle_value"] == pytest.approx(math.log(0.5))
    assert solution.bound <= math.log(0.5) <= solution.value


@pytest.mark.slow  # many steps
@pytest.mark.parametrize("objective", LAGRANGIAN)
@pytest.mark.parametrize("schedule", ["constant", "inverse-sqrt"])
def test_gap_of_the_averages_obeys_the_known_rate(objective, schedule):
    """Oracle: the theorem's own right side, evaluated on the trajectory."""
    p_data, p_init = half_support(8)
    solution = fit.function_space(p_data, p_init, objective, steps=800, step_size=0.1, schedule=schedule)
    assert -1e-12 <= solution.gap <= solution.stats["rate_bound"] + 1e-12
    assert solution.status.ok


@pytest.mark.slow  # many steps
@pytest.mark.parametrize("schedule", ["constant", "inverse-sqrt"])
def test_gap_of_wasserstein_by_hand(schedule):
    """Oracle: the game with |D| <= 1 on a finite space, max over D of (p_d - p) D, min over p, written out."""
    p_data, p_init = half_support(8)
    gaps = []
    for steps in (10, 4_000):
        solution = fit.function_space(p_data, p_init, "wasserstein", steps=steps, step_size=0.1, schedule=schedule)
        D, p = solution.stats["D_average"], solution.stats["p_average"]
        assert solution.value == pytest.approx(float((p - p_data).abs().sum()) + 0.0)
        assert solution.bound == pytest.approx(float(p_data @ D - D.max()))
        gaps.append(solution.gap)
    assert gaps[0] > 0.1
    assert gaps[1] < 0.5 * gaps[0]


def test_gap_of_vanilla_against_scipy():
    """Oracle: scipy's bounded maximiser for every value of D, and every vertex of the simplex for p."""
    p_data, p_init = half_support(6)
    solution = fit.function_space(p_data, p_init, "vanilla", steps=50)
    rule, saddle = OBJECTIVES["vanilla"], solution.stats["saddle_discriminator"]
    value = 0.0
    for a, b in zip(p_data.tolist(), solution.stats["p_average"].tolist(), strict=True):

        def loss(t, a=a, b=b):
            t = torch.tensor(t, dtype=torch.float64)
            return -float(a * rule.f0(t) + b * rule.f1(t))

        value -= minimize_scalar(loss, bounds=(saddle - 1, saddle + 1), method="bounded", options={"xatol": 1e-10}).fun
    assert solution.value == pytest.approx(value, abs=1e-8)
    D = solution.stats["D_average"]
    vertices = [float(p_data @ rule.f0(D) + rule.f1(D)[i]) for i in range(6)]
    assert solution.bound == pytest.approx(min(vertices))


@pytest.mark.slow  # many fits
def test_more_steps_lower_the_rate_bound():
    p_data, p_init = half_support(8)
    bounds = [
        fit.function_space(p_data, p_init, steps=n, step_size=0.5, schedule="inverse-sqrt").stats["rate_bound"]
        for n in (100, 1600)
    ]
    assert bounds[1] < 0.6 * bounds[0]


@pytest.mark.parametrize("objective", ["least-squares", "hinge"])
def test_premises_are_checked(objective):
    with pytest.raises(ObjectiveError, match="f1"):
        fit.function_space([0.5, 0.5], [1.0, 0.0], objective)


def test_divergence_is_reported():
    solution = fit.function_space([0.5, 0.5], [1.0, 0.0], "kl", steps=50, step_size=1e200)
    assert solution.status in (Status.NON_FINITE, Status.BUDGET_SPENT)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (([0.5, 0.6], [1.0, 0.0]), "p_data"),
        (([0.5, 0.5], [1.0]), "p_init"),
        (([0.5, float("nan")], [1.0, 0.0]), "p_data"),
        (([0.5, 0.5], [-1.0, 0.0]), "p_init"),
    ],
)
def test_bad_probabilities(arguments, name):
    with pytest.raises(InputError, match=name):
        fit.function_space(*arguments)


@pytest.mark.parametrize("option", [{"steps": 0}, {"step_size": 0.0}, {"schedule": "cosine"}])
def test_bad_options(option):
    with pytest.raises(InputError, match=f"`{next(iter(option))}`"):
        fit.function_space([1.0], [1.0], **option)
