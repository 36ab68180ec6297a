"""What scikit-learn's users expect of an estimator beyond `fit` and `score`.

Oracles: dense Gaussian conditioning, repeated rows, one fit of all rows, scikit-learn's PCA.
"""

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_digits, load_wine
from sklearn.decomposition import PCA
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from saddlegan import fit
from saddlegan.errors import InputError, InputTypeError, SolveError
from saddlegan.networks import ReLUFeatures

MOMENT_SOLVERS = [
    fit.QuadraticWGAN(n_latent=3),
    fit.QuadraticWGAN(n_latent=3, center=False),
    fit.PolynomialWGAN(beta=0.8, a=0.7, b=-0.4, solver="closed-form"),
    fit.LinearWGAN(beta=0.2),
]
WRONG: Any = "most"
LATENT_SOLVERS = [fit.QuadraticWGAN(n_latent=3), MOMENT_SOLVERS[2]]


def rows(n, d, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, d)) @ rng.standard_normal((d, d)) + 3.0 * rng.standard_normal(d)


def population(model):
    mean, factor = (entry.detach().numpy() for entry in model.generator_.moments())
    return mean, factor.T @ factor


@pytest.mark.parametrize("estimator", LATENT_SOLVERS, ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("shape", [(40, 6), (12, 30)], ids=["tall", "wide"])
def test_latents_are_gaussian_conditioning(estimator, shape):
    """Oracle: E[z | x] of the joint normal of (z, x) by its dense covariance."""
    X = rows(*shape)
    model = estimator.fit(X)
    F = model.generator_.weight.detach().numpy()
    noise = model.beta_ / abs(getattr(model, "a", 1.0))
    joint = np.linalg.solve(F.T @ F + noise * np.eye(shape[1]), (X - model.generator_.mean.detach().numpy()).T)
    np.testing.assert_allclose(model.transform(X), (F @ joint).T, rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(model.fit_transform(X), model.transform(X))


def test_latents_invert_samples_where_nothing_is_discarded():
    X = rows(50, 5)
    model = fit.QuadraticWGAN(n_latent=7).fit(X)  # beta = 0, and two latents that move nothing
    Z = model.transform(X)
    assert Z.shape == (50, 7)
    np.testing.assert_array_equal(Z[:, 5:], 0.0)
    np.testing.assert_allclose(model.inverse_transform(Z), X, atol=1e-9)
    np.testing.assert_allclose(Z.T @ Z / 50, np.diag([1.0] * 5 + [0.0] * 2), atol=1e-9)


def test_latents_come_in_the_kind_of_the_data():
    X = rows(40, 4)
    tensor = torch.from_numpy(X).float()
    Z = fit.QuadraticWGAN(2).fit(tensor).transform(tensor)
    assert isinstance(Z, torch.Tensor)
    assert Z.dtype == torch.float32
    frame = pd.DataFrame(X, columns=list("abcd"))
    model = fit.QuadraticWGAN(2).fit(frame)
    assert model.get_feature_names_out().tolist() == ["quadraticwgan0", "quadraticwgan1"]
    named = make_pipeline(StandardScaler(), fit.QuadraticWGAN(2)).set_output(transform="pandas").fit_transform(frame)
    assert named.columns.tolist() == ["quadraticwgan0", "quadraticwgan1"]
    assert named.index.equals(frame.index)


def test_latents_of_non_linear_generators_are_refused():
    X = rows(40, 4)
    seed = torch.Generator().manual_seed(0)
    model = fit.QuadraticWGAN(2, features=ReLUFeatures(2, 8, generator=seed)).fit(X)
    with pytest.raises(InputError, match="closed form"):
        model.transform(X)
    with pytest.raises(InputError, match="`Z`"):
        fit.QuadraticWGAN(2).fit(X).inverse_transform(np.zeros((3, 5)))


@pytest.mark.parametrize("estimator", MOMENT_SOLVERS, ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("shape", [(30, 4), (8, 20)], ids=["tall", "wide"])
@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_weights_count_rows(estimator, shape, kind):
    X = rows(*shape)
    weights = np.random.default_rng(1).integers(0, 4, len(X)).astype(float)
    repeated = np.repeat(X, weights.astype(int), axis=0)
    if kind == "torch":
        X, weights, repeated = torch.from_numpy(X), torch.from_numpy(weights), torch.from_numpy(repeated)
    wanted = population(estimator.fit(repeated))
    for unit in (1.0, 1e-3):
        found = population(estimator.fit(X, sample_weight=unit * weights))
        for a, b in zip(found, wanted, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-9)
    model = estimator.fit(X, sample_weight=weights)
    assert model.solution_.status.ok


def test_unusable_weights_are_named():
    X = rows(10, 3)
    for bad in (np.ones(9), -np.ones(10), np.zeros(10), np.full(10, np.nan), np.ones((10, 2)), ["a"] * 10):
        with pytest.raises(InputError, match="sample_weight"):
            fit.QuadraticWGAN(2).fit(X, sample_weight=bad)


@pytest.mark.parametrize("estimator", MOMENT_SOLVERS, ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("shape", [(60, 5), (24, 40)], ids=["tall", "wide"])
def test_batches_add_up_to_one_fit(estimator, shape):
    X = rows(*shape) + 300.0  # a mean far from 0: sums about it would cancel
    weights = np.random.default_rng(2).uniform(0.5, 2.0, len(X))
    for w in (None, weights):
        whole = population(estimator.fit(X, sample_weight=w))
        for part in np.array_split(np.arange(len(X)), 5):
            estimator.partial_fit(X[part], sample_weight=None if w is None else w[part])
        for a, b in zip(population(estimator), whole, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9 * np.abs(b).max())
    estimator.fit(X[:7])  # forgets
    again = population(estimator)
    estimator.partial_fit(X[:7])
    np.testing.assert_allclose(population(estimator)[1], again[1], rtol=1e-9, atol=1e-9 * np.abs(again[1]).max())


def test_a_failed_batch_leaves_the_sums_as_they_were():
    X = rows(30, 4)
    model = fit.QuadraticWGAN(2).partial_fit(X[:20])
    for bad in (X[20:, :3], np.full((2, 4), np.nan)):
        with pytest.raises(InputError, match="`X`"):
            model.partial_fit(bad)
    model.partial_fit(X[20:])
    assert model.n_samples_seen_ == 30
    np.testing.assert_allclose(population(model)[1], population(fit.QuadraticWGAN(2).fit(X))[1], atol=1e-10)


@pytest.mark.parametrize(("load", "latents"), [(load_digits, (2, 16, 30)), (load_wine, (1, 8))])
def test_most_likely_noise_is_the_density_of_principal_components(load, latents):
    """Oracle: scikit-learn's PCA, row by row; and nothing is lost against the noise that the constraint leaves."""
    X = load().data[np.random.default_rng(0).permutation(len(load().data))]
    for k in latents:
        model, pca = fit.QuadraticWGAN(k, noise="ml").fit(X[::2]), PCA(k, svd_solver="full").fit(X[::2])
        np.testing.assert_allclose(model.score_samples(X[1::2]), pca.score_samples(X[1::2]), rtol=1e-8)
        assert model.noise_variance_ == pytest.approx(pca.noise_variance_)
        assert model.score(X[1::2]) > fit.QuadraticWGAN(k).fit(X[::2]).score(X[1::2])
    with pytest.raises(InputError, match="`noise`"):
        fit.QuadraticWGAN(2, noise=WRONG).fit(X)


@pytest.mark.slow  # many fits
def test_beta_is_cross_validated():
    """30 rows of 12 columns: so few that the best beta lies inside the grid, not at its ends."""
    X = np.random.default_rng(0).standard_normal((30, 12)) * np.linspace(2.0, 0.5, 12)
    grid = np.geomspace(0.03, 30.0, 13)
    search = GridSearchCV(fit.QuadraticWGAN(n_latent=12), {"beta": grid}, cv=5).fit(X)
    assert grid[0] < search.best_params_["beta"] < grid[-1]
    for estimator in (fit.PolynomialWGAN(solver="closed-form"), fit.LinearWGAN()):
        scores = GridSearchCV(estimator, {"beta": grid}, cv=5).fit(X).cv_results_["mean_test_score"]
        assert np.isfinite(scores).all()
        assert len(set(scores)) > 5


def test_weights_by_class():
    X = rows(60, 4)
    y = np.arange(60) % 3
    weights = np.random.default_rng(3).integers(1, 4, 60)
    weighted = fit.ByClass(fit.QuadraticWGAN(2)).fit(X, y, sample_weight=weights)
    repeated = fit.ByClass(fit.QuadraticWGAN(2)).fit(np.repeat(X, weights, axis=0), np.repeat(y, weights))
    np.testing.assert_allclose(weighted.priors_, repeated.priors_)
    np.testing.assert_allclose(weighted.score_samples(X), repeated.score_samples(X))
    with pytest.raises(InputTypeError, match="sample_weight"):
        fit.ByClass(fit.ProCoGAN()).fit(X.reshape(60, 2, 2), y, sample_weight=weights)


@pytest.mark.slow  # many fits
@pytest.mark.parametrize("generator", ["free", "linear"])
@pytest.mark.parametrize("d", [1, 2])
def test_centred_relu_solves_the_shifted_data(generator, d):
    """Oracle: the fit of x - mu, moved back; and no shift of the data changes it."""
    X = np.random.default_rng(0).standard_normal((40, d)) * [1.0, 0.6][:d]
    options = {"beta": 0.2, "generator": generator, "random_state": 0}
    plain = fit.ReLUWGAN(**options).fit(X - X.mean(0))
    for shift in (0.0, 7.0):
        model = fit.ReLUWGAN(center=True, **options).fit(X + shift)
        np.testing.assert_allclose(model.mean_, X.mean(0) + shift, atol=1e-12)
        assert model.solution_.value == pytest.approx(plain.solution_.value, rel=1e-6)
        moved = plain.sample(9, random_state=1) + model.mean_
        np.testing.assert_allclose(model.sample(9, random_state=1), moved, atol=1e-5)
        assert model.score(X + shift) == pytest.approx(plain.score(X - X.mean(0)), abs=1e-5)
        # D*(x) and R_g are read about the mean as well
        x = torch.from_numpy(X)
        with torch.no_grad():
            there = model.discriminator_(x + shift)
            np.testing.assert_allclose(there, plain.discriminator_(x - x.mean(0)), atol=1e-4)


@pytest.mark.parametrize("m", [6, 8, 16, 20])
def test_other_numbers_of_points_on_the_line(m):
    """Oracles: winsorisation where n divides m; everywhere the constraint by brute force over thresholds."""
    pytest.importorskip("cvxpy")
    x = np.random.default_rng(1).standard_normal((8, 1))
    model = fit.ReLUWGAN(beta=0.15, n_points=m).fit(x)
    g = model.generator_.points.detach().numpy()
    assert g.shape == (m, 1)
    thresholds = np.linspace(-4.0, 4.0, 4001)
    for s in (1.0, -1.0):
        gap = np.maximum(s * x - thresholds, 0).mean(0) - np.maximum(s * g - thresholds, 0).mean(0)
        assert np.abs(gap).max() <= 0.15 + 1e-6
    assert model.solution_.value == pytest.approx(float(np.square(g).mean()), rel=1e-6)
    closed = fit.ReLUWGAN(beta=0.15).fit(x).solution_.value
    assert model.solution_.value >= closed - 1e-7  # a bound for every number of points
    if m % 8 == 0:
        assert model.solution_.value == pytest.approx(closed)


@pytest.mark.slow  # many fits
@pytest.mark.parametrize(("d", "m"), [(2, 10), (2, 40), (3, 14)])
def test_other_numbers_of_points_in_space(d, m):
    """Oracle: the exact or many-start discrepancy of the points; the bound is one for all distributions."""
    X = np.random.default_rng(2).standard_normal((20, d))
    model = fit.ReLUWGAN(beta=0.25, n_points=m, random_state=0).fit(X)
    g = model.generator_.points.detach().numpy()
    assert g.shape == (m, d)
    assert fit.discrepancy(X, g, kind="relu", n_starts=512).value <= 0.25 * (1 + 1e-3)
    value = float(np.square(g).sum(1).mean())
    assert model.solution_.value == pytest.approx(value)
    assert model.solution_.bound <= value
    assert value < np.square(X).sum(1).mean()


@pytest.mark.slow  # many fits
def test_too_few_points_are_refused():
    X = np.random.default_rng(3).standard_normal((30, 3))
    with pytest.raises(SolveError, match="`n_points`"):
        fit.ReLUWGAN(beta=0.01, n_points=2, random_state=0, time_limit=2).fit(X)
    with pytest.raises(InputError, match="`n_points`"):
        fit.ReLUWGAN(n_points=0).fit(X)


def test_latents_of_images_against_the_dense_gaussian():
    digits: Any = load_digits()
    images = digits.images[:200]
    model = fit.ProCoGAN(resolutions=(4, 8), n_components=(6, 12)).fit(images)
    F = model.stages_[-1].factor.numpy()
    centred = images.reshape(200, 64) - images.reshape(200, 64).mean(0)
    expected = F @ np.linalg.solve(F.T @ F + model.beta_ * np.eye(64), centred.T)
    np.testing.assert_allclose(model.transform(images), expected.T, atol=1e-9)
    rebuilt = model.inverse_transform(model.transform(images))
    assert rebuilt.shape == (200, 8, 8, 1)
    error = np.square(rebuilt[..., 0] - images).mean()
    assert error < np.square(images - images.mean(0)).mean() / 3
    # larger pictures are reduced as the fit reduces its own
    np.testing.assert_allclose(model.transform(images.repeat(2, 1).repeat(2, 2)), model.transform(images), atol=1e-9)
    assert isinstance(fit.ProCoGAN((4,), (6,)).fit(torch.from_numpy(images)).transform(images), torch.Tensor)
    with pytest.raises(InputError, match="`X`"):
        model.transform(images[:, :6, :6])
    broken = images.copy()
    broken[0, 0, 0] = np.nan
    with pytest.raises(InputError, match="NaN"):
        model.transform(broken)
