"""Units and the trivial optimum, over every estimator and discrepancy. Oracle: x -> c x is a change of units."""

import numpy as np
import pytest

from saddlegan import Status, fit

SCALES = (1e-6, 1e-3, 1e3, 1e6)


def data(d, offset=0.0, n=40):
    X = np.random.default_rng(d).standard_normal((n, d)) * np.linspace(1.0, 2.0, d)
    return X - X.mean(0) + offset


CELLS = {
    "linear": lambda c: (fit.LinearWGAN(beta=0.2 * c), 4),
    "quadratic": lambda c: (fit.QuadraticWGAN(2, beta=2.0 * c**2, center=False), 4),
    "quadratic, auto": lambda c: (fit.QuadraticWGAN(2), 4),
    "polynomial": lambda c: (fit.PolynomialWGAN(0.8, 0.7 * c, beta=0.5 * c**2), 3),
    "polynomial, small a": lambda c: (fit.PolynomialWGAN(0.8 / c**2, 0.7 / c, beta=0.5), 3),
    "polynomial, closed form": lambda c: (fit.PolynomialWGAN(0.8, 0.7 * c, beta=0.5 * c**2, solver="closed-form"), 3),
    "relu, d = 1": lambda c: (fit.ReLUWGAN(0.1 * c), 1),
    "relu, linear, d = 1": lambda c: (fit.ReLUWGAN(0.3 * c, generator="linear"), 1),
    "relu, d = 2": lambda c: (fit.ReLUWGAN(0.2 * c, random_state=0), 2),
    "relu, d = 3": lambda c: (fit.ReLUWGAN(0.2 * c, random_state=0), 3),
    "relu, linear, d = 3": lambda c: (fit.ReLUWGAN(0.4 * c, generator="linear", random_state=0), 3),
}


@pytest.mark.slow  # fits every estimator in several units
@pytest.mark.parametrize("cell", CELLS)
def test_every_estimator_is_equivariant(cell):
    model, d = CELLS[cell](1.0)
    X = data(d, 0.3 if "linear," not in cell else 0.0, n=20 if "relu, d" in cell else 40)
    unit = model.fit(X).solution_
    for c in SCALES[::3] if "relu, d" in cell else SCALES:
        found = CELLS[cell](c)[0].fit(c * X).solution_
        assert found.status is unit.status
        # free points are found by a descent that rounding moves a little
        assert found.value / c**2 == pytest.approx(unit.value, rel=2e-2 if "relu, d" in cell else 1e-6, abs=1e-12)
        assert found.bound / c**2 == pytest.approx(unit.bound, rel=2e-2 if "relu, d" in cell else 1e-6, abs=1e-9)


@pytest.mark.parametrize("d", [1, 2, 6])
@pytest.mark.parametrize("kind", ["linear", "quadratic", "polynomial", "relu"])
def test_every_discrepancy_is_equivariant(kind, d):
    X, G = data(d, 0.3), 0.8 * data(d)[::-1]
    unit = fit.discrepancy(X, G, kind=kind, b=0.7)
    for c in SCALES:
        found = fit.discrepancy(c * X, c * G, kind=kind, b=0.7 * c)
        power = 2 if kind in ("quadratic", "polynomial") else 1
        assert found.value / c**power == pytest.approx(unit.value, rel=1e-6)
        assert found.upper / c**power == pytest.approx(unit.upper, rel=1e-6)
        assert found.exact is unit.exact


@pytest.mark.parametrize("d", [2, 5])
@pytest.mark.parametrize("model", [fit.LinearWGAN(), fit.QuadraticWGAN(3, center=False), fit.PolynomialWGAN()])
def test_a_large_beta_makes_zero_optimal(model, d):
    """Oracle: beta above E |x|^2 + E |x| bounds every left side of (1) at G = 0, and no value is smaller."""
    X = data(d, 0.3)
    lengths = np.linalg.norm(X, axis=1)
    model = type(model)(**model.get_params()).set_params(beta=float((lengths**2 + lengths).mean())).fit(X)
    assert model.solution_.status is Status.OPTIMAL
    assert model.solution_.value == pytest.approx(0.0, abs=1e-12)
    assert model.solution_.bound == pytest.approx(0.0, abs=1e-12)
    assert np.abs(model.sample(5, random_state=0)).max() <= 1e-7


def test_a_mean_far_away_does_not_hide_a_gap():
    """Oracle: the gap in units of the variance that the discriminator sees."""
    X = data(3, 1e3)
    solution = fit.PolynomialWGAN(beta=0.5).fit(X).solution_
    assert solution.status is Status.FEASIBLE or solution.gap <= 1e-2
    assert solution.bound <= solution.value
    assert solution.stats["primal_residual"] <= 1e-6
