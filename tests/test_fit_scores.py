"""What estimators answer about new data. Oracles: the discrepancy of samples, scipy's and scikit-learn's densities."""

from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from saddlegan import fit
from saddlegan.errors import InputError

NO_DENSITY = [
    (fit.LinearWGAN(beta=0.2), "linear", {}),
    (fit.PolynomialWGAN(beta=0.3, a=0.7, b=-0.4, solver="closed-form"), "polynomial", {"a": 0.7, "b": -0.4}),
    (fit.ReLUWGAN(beta=0.3, random_state=0), "relu", {}),
]
IRIS: Any = load_iris()
SEED: Any = np.int64(0)
SEARCHES: dict[
    str, tuple[Any, dict[str, Any]]
] = {  # what is searched for each estimator; complete by `test_every_estimator_is_searched`
    "QuadraticWGAN": (fit.QuadraticWGAN(), {"n_latent": np.arange(1, 3)}),
    "LinearWGAN": (fit.LinearWGAN(), {"beta": np.array([0.1, 0.5], dtype=np.float32)}),
    "PolynomialWGAN": (fit.PolynomialWGAN(solver="closed-form"), {"beta": np.array([0.1, 0.5])}),
    "ReLUWGAN": (fit.ReLUWGAN(random_state=SEED), {"beta": np.array([0.5, 1.0])}),
    "ProCoGAN": (fit.ProCoGAN((2, 4), (1, 1)), {"n_components": [(np.int64(1), np.int64(1)), (1, 2)]}),
    "ByClass": (fit.ByClass(fit.QuadraticWGAN()), {"estimator__n_latent": np.arange(1, 3)}),
}


@pytest.mark.slow  # many fits
@pytest.mark.parametrize(("estimator", "kind", "options"), NO_DENSITY, ids=lambda e: str(e)[:8])
def test_score_is_minus_the_discrepancy_of_held_out_rows(estimator, kind, options):
    X = IRIS.data[:, :2]
    model = estimator.fit(X[::2])
    if kind == "relu":
        generated = model.generator_.points.detach().numpy()
    else:  # a sample with the population's mean and covariance exactly: the mean plus and minus each column of F
        mean, F = (entry.detach().numpy() for entry in moments_of(model))
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


def moments_of(model: Any) -> Any:
    return model.generator_.moments()


def test_score_of_images_is_minus_the_distance_of_their_moments():
    """Oracle: numpy's spectral norm, at the finest stage."""
    images = np.random.default_rng(0).integers(0, 256, (60, 8, 8)).astype(np.uint8)
    model = fit.ProCoGAN((2, 4), (2, 5)).fit(images[:40])
    rows = images[40:].astype(np.float64).reshape(-1, 4, 2, 4, 2).mean((2, 4)).reshape(-1, 16) - model.mean_
    _, factor = (entry.detach().numpy().astype(np.float64) for entry in moments_of(model))
    expected = np.linalg.norm(rows.T @ rows / 20 - factor.T @ factor, 2)
    assert model.score(images[40:]) == pytest.approx(-expected, rel=1e-2)  # its means of bytes are bytes
    with pytest.raises(InputError, match="a side that 4 divides"):
        model.score(images[:, :6, :6])


def test_every_estimator_is_searched():
    assert set(SEARCHES) == {"ByClass", *(kind.__name__ for kind in fit.ESTIMATORS.values())}


@pytest.mark.slow  # fits every estimator many times
@pytest.mark.parametrize("name", SEARCHES)
@pytest.mark.parametrize("shape", [(24, 3), (8, 10)], ids=["tall", "wide"])
def test_grid_search_and_pipelines_over_every_estimator(name, shape):
    estimator, grid = SEARCHES[name]
    X = np.random.default_rng(0).standard_normal(shape)
    y = np.arange(len(X)) % 2
    first = StandardScaler()
    if name == "ProCoGAN":  # pictures: fewer and more of them than the pixels of the finest
        X = np.random.default_rng(0).integers(0, 256, (40 if shape[1] == 3 else 10, 4, 4)).astype(np.uint8)
        y, first = np.arange(len(X)) % 2, FunctionTransformer()
    if name == "ByClass":  # a density needs more rows of every label than latents
        X, y = np.random.default_rng(0).standard_normal((24, 3 if shape[1] == 3 else 30)), np.arange(24) % 2
    if name == "ReLUWGAN":
        X, y = X[: 6 if shape[1] > 3 else 24, :7], y[: 6 if shape[1] > 3 else 24]  # its search takes seconds above
    steps = make_pipeline(first, estimator)
    given = {f"{name.lower()}__{key}": values for key, values in grid.items()}
    search = GridSearchCV(steps, given, cv=2, error_score=np.nan).fit(X, y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.best_estimator_.score(X) == pytest.approx(search.score(X))


def test_names_of_latents_everywhere_or_a_reason():
    X = IRIS.data[:30, :3]
    for model in (
        fit.QuadraticWGAN(2),
        fit.PolynomialWGAN(beta=0.1, solver="closed-form"),
        fit.ReLUWGAN(beta=0.5, generator="linear", center=True, n_latent=4, random_state=0),
    ):
        prefix = type(model).__name__.lower()
        names = model.fit(X).get_feature_names_out().tolist()
        assert names == [f"{prefix}{place}" for place in range(model.generator_.n_latent)]
        assert model.transform(X).shape == (30, len(names))
    with pytest.raises(AttributeError) as refused:
        fit.ReLUWGAN(beta=0.5).transform(X)
    assert "free points have no latent" in str(refused.value.__cause__)
    assert not hasattr(fit.LinearWGAN(), "transform")  # all samples are one point


def test_latents_of_a_linear_relu_generator_give_the_rows_back():
    """Oracle: least squares, which is exact where the generator reaches every direction."""
    X = IRIS.data[:30, :2]
    model = fit.ReLUWGAN(beta=0.05, generator="linear", center=True, random_state=0).fit(X)
    np.testing.assert_allclose(model.inverse_transform(model.transform(X)), X, atol=1e-8)


@pytest.mark.slow  # exact fits of thirty rows
@pytest.mark.parametrize("options", [{}, {"center": True}], ids=["as they are", "centred"])
def test_weighted_rows_of_relu_are_repeated_rows(options):
    """Oracle: (1) of the repeated rows, whose zonotope the weighted ones must have."""
    X = np.random.default_rng(1).standard_normal((6, 2))
    weights = np.array([1.0, 2.0, 0.0, 3.0, 1.0, 1.0])
    repeated = np.repeat(X, weights.astype(int), axis=0)
    model = fit.ReLUWGAN(beta=0.1, random_state=0, **options).fit(X, sample_weight=weights)
    origin = repeated.mean(0) if options else 0.0
    np.testing.assert_allclose(model.mean_, np.broadcast_to(origin, 2), atol=1e-12)
    G = model.generator_.points.detach().numpy()
    assert len(G) == 5
    assert fit.discrepancy(repeated - origin, G - origin, "relu").value <= 0.1 * (1 + 1e-6)
    plain = fit.ReLUWGAN(beta=0.1, random_state=0, n_points=8, **options).fit(repeated)
    assert model.solution_.bound == pytest.approx(plain.solution_.bound, rel=1e-3)
    line = fit.ReLUWGAN(beta=0.1).fit(X[:, :1], sample_weight=weights)
    other = fit.ReLUWGAN(beta=0.1).fit(repeated[:, :1])
    assert line.solution_.value == pytest.approx(other.solution_.value, rel=1e-12)
    with pytest.raises(InputError, match="common unit"):
        fit.ReLUWGAN(beta=0.1).fit(X[:, :1], sample_weight=np.sqrt([2.0, 3.0, 5.0, 7.0, 11.0, 13.0]))


def test_a_weighted_linear_relu_generator_meets_the_weighted_constraint():
    X, weights = np.random.default_rng(2).standard_normal((12, 3)), np.linspace(0.5, 2.0, 12)
    model = fit.ReLUWGAN(beta=0.2, generator="linear", center=True, random_state=0).fit(X, sample_weight=weights)
    shares = weights / weights.sum()
    U = np.random.default_rng(0).standard_normal((4000, 3))
    U /= np.linalg.norm(U, axis=1, keepdims=True)
    W = model.generator_.weight.detach().numpy()
    own = np.sqrt(((U @ W.T) ** 2).sum(1) / (2 * np.pi))  # E (g^T u)_+ of a Gaussian
    theirs = np.maximum(U @ (X - shares @ X).T, 0.0) @ shares
    assert np.abs(own - theirs).max() <= 0.2 * (1 + 1e-4)
