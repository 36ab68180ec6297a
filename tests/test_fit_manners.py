"""What scikit-learn's users expect of an estimator beyond `fit` and `score`.

Oracles: dense Gaussian conditioning, repeated rows, one fit of all rows, scikit-learn's PCA.
"""

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
from saddlegan.errors import InputError, InputTypeError
from saddlegan.networks import ReLUFeatures

MOMENT_SOLVERS = [
    fit.QuadraticWGAN(n_latent=3),
    fit.QuadraticWGAN(n_latent=3, center=False),
    fit.PolynomialWGAN(beta=0.8, a=0.7, b=-0.4, solver="closed-form"),
    fit.LinearWGAN(beta=0.2),
]
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
        fit.QuadraticWGAN(2, noise="most").fit(X)


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
        fit.ByClass(fit.ReLUWGAN()).fit(X, y, sample_weight=weights)
