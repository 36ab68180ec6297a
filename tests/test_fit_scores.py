"""What estimators answer about new data. Oracles: the discrepancy of samples, scipy's and scikit-learn's densities."""

import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from saddlegan import fit

NO_DENSITY = [
    (fit.LinearWGAN(beta=0.2), "linear", {}),
    (fit.PolynomialWGAN(beta=0.3, a=0.7, b=-0.4, solver="closed-form"), "polynomial", {"a": 0.7, "b": -0.4}),
    (fit.ReLUWGAN(beta=0.3, random_state=0), "relu", {}),
]
SEARCHES = [
    (fit.QuadraticWGAN(), {"n_latent": np.arange(1, 3)}),
    (fit.LinearWGAN(), {"beta": np.array([0.1, 0.5], dtype=np.float32)}),
    (fit.PolynomialWGAN(solver="closed-form"), {"beta": np.array([0.1, 0.5])}),
    (fit.ReLUWGAN(random_state=np.int64(0)), {"beta": np.array([0.1, 0.2])}),
]


@pytest.mark.slow  # many fits
@pytest.mark.parametrize(("estimator", "kind", "options"), NO_DENSITY, ids=lambda e: str(e)[:8])
def test_score_is_minus_the_discrepancy_of_held_out_rows(estimator, kind, options):
    X = load_iris().data[:, :2]
    model = estimator.fit(X[::2])
    if kind == "relu":
        generated = model.generator_.points.detach().numpy()
    else:  # a sample with the population's mean and covariance exactly: the mean plus and minus each column of F
        mean, F = (entry.detach().numpy() for entry in model.generator_.moments())
        spread = F * len(F) ** 0.5
        generated = mean + np.concatenate([spread, -spread])
    expected = fit.discrepancy(X[1::2], generated, kind=kind, **options).value
    assert model.score(X[1::2]) == pytest.approx(-expected, rel=1e-9)


def test_score_of_one_column_and_of_linear_relu_generators():
    x = np.random.default_rng(0).standard_normal((200, 1))
    model = fit.ReLUWGAN(beta=0.1).fit(x)
    assert -model.score(x) == pytest.approx(0.1, rel=1e-6)  # the constraint is active on the data that were fitted
    drawn = fit.ReLUWGAN(beta=0.1, generator="linear").fit(x)
    assert drawn.score(x) == drawn.score(x)
    assert -0.2 < drawn.score(x) < -0.05


@pytest.mark.slow  # fits every estimator many times
@pytest.mark.parametrize(("estimator", "grid"), SEARCHES, ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("shape", [(24, 3), (8, 10)], ids=["tall", "wide"])
def test_grid_search_and_pipelines_over_every_estimator(estimator, grid, shape):
    X = np.random.default_rng(0).standard_normal(shape)
    if isinstance(estimator, fit.ReLUWGAN):
        X = X[: 6 if shape[1] > 3 else 24, :7]  # its search takes seconds above
    name = type(estimator).__name__.lower()
    steps = make_pipeline(StandardScaler(), estimator)
    search = GridSearchCV(steps, {f"{name}__{key}": values for key, values in grid.items()}, cv=2).fit(X)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.best_estimator_.score(X) == pytest.approx(search.score(X))
