"""One solved model per label. Oracles: fits by hand, scipy's densities, scikit-learn's checks."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import multivariate_normal
from sklearn.datasets import load_digits, load_iris
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from saddlegan import fit
from saddlegan.errors import InputError, InputTypeError

SOLVERS = [
    fit.QuadraticWGAN(n_latent=1),
    fit.LinearWGAN(beta=0.1),
    fit.PolynomialWGAN(beta=0.1, solver="closed-form"),
    fit.ReLUWGAN(beta=0.3, random_state=0),
]


# a noise that every label's rows leave, also where the checks weigh all but two of them with 0
@parametrize_with_checks([fit.ByClass(fit.QuadraticWGAN(n_latent=64, beta=0.1)), fit.ByClass(fit.LinearWGAN(beta=0.1))])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
def test_scikit_learn_manners(estimator, check):
    check(estimator)


@pytest.fixture
def iris():
    return load_iris(return_X_y=True)


def test_digits_are_described_better_class_by_class_than_by_one_model():
    X, y = load_digits(return_X_y=True)
    train, test, labels, _ = train_test_split(X, y, test_size=0.3, random_state=0, stratify=y)
    single = fit.QuadraticWGAN(n_latent=16).fit(train)
    by_class = fit.ByClass(fit.QuadraticWGAN(n_latent=16)).fit(train, labels)
    assert by_class.score(test) > single.score(test) + 10.0


def test_every_label_has_the_model_of_its_own_rows(iris):
    X, y = iris
    words = np.array(["setosa", "versicolor", "virginica"])[y]
    for solver in SOLVERS[:3]:
        model = fit.ByClass(solver).fit(X[:120], words[:120])
        assert model.priors_ == pytest.approx([50 / 120, 50 / 120, 20 / 120])
        for code, word in enumerate(model.classes_):
            alone = type(solver)(**solver.get_params()).fit(X[:120][y[:120] == code])
            assert model.solution(word).value == alone.solution_.value
            np.testing.assert_array_equal(model[word].sample(3, random_state=1), alone.sample(3, random_state=1))


def test_bayes_rule_against_scipy(iris):
    X, y = iris
    model = fit.ByClass(fit.QuadraticWGAN(n_latent=2)).fit(X[:130], y[:130])
    joint = np.empty((len(X), 3))
    for label in range(3):
        rows = X[:130][y[:130] == label]
        values, vectors = np.linalg.eigh(np.cov(rows.T, bias=True))
        values[:2] = values[1]  # two of four directions are kept; beta is the third eigenvalue
        law = multivariate_normal(rows.mean(0), (vectors * values) @ vectors.T)
        joint[:, label] = len(rows) / 130 * law.pdf(X)
    np.testing.assert_allclose(model.predict_proba(X), joint / joint.sum(1, keepdims=True), rtol=1e-7, atol=1e-12)
    np.testing.assert_allclose(model.score_samples(X), np.log(joint.sum(1)), rtol=1e-9)
    np.testing.assert_array_equal(model.predict(X), joint.argmax(1))
    assert model.score(X, y) == pytest.approx(np.log(joint.sum(1)).mean())


def test_samples_have_the_labels_that_were_asked_for(iris):
    X, y = iris
    model = fit.ByClass(fit.QuadraticWGAN(n_latent=2)).fit(X, y)
    wanted = np.array([2, 0, 1, 0, 2] * 40)
    drawn = model.sample(200, y=wanted, random_state=0)
    assert (model.predict(drawn) == wanted).mean() > 0.9
    np.testing.assert_array_equal(drawn, model.sample(200, y=wanted, random_state=0))
    assert set(model.predict(model.sample(50, y=0, random_state=0))) == {0}
    counts = np.bincount(model.predict(model.sample(3000, random_state=0)), minlength=3)
    assert counts / 3000 == pytest.approx(np.full(3, 1 / 3), abs=0.05)


def test_witness_between_labels_against_full_moments(iris):
    X, y = iris
    model = fit.ByClass(fit.QuadraticWGAN(n_latent=3)).fit(X, y)
    for center in (False, True):
        M = [np.zeros((4, 4)) for _ in range(2)]
        for i, label in enumerate((0, 2)):
            mean, F = (entry.detach().numpy() for entry in model[label].generator_.moments())
            M[i] = F.T @ F + (0 if center else np.outer(mean, mean))
        found = model.discrepancy(0, 2, center=center)
        assert found.value == pytest.approx(np.linalg.norm(M[0] - M[1], 2))
        assert abs(found.witness @ (M[0] - M[1]) @ found.witness) == pytest.approx(found.value)
    linear = model.discrepancy(0, 2, kind="linear")
    assert linear.value == pytest.approx(np.linalg.norm(X[y == 0].mean(0) - X[y == 2].mean(0)))
    with pytest.raises(InputError, match="`kind`"):
        model.discrepancy(0, 2, kind="relu")


@pytest.mark.parametrize("kind", ["numpy", "torch", "pandas"])
def test_every_kind_of_data(iris, kind):
    X, y = iris
    if kind == "torch":
        X, y = torch.from_numpy(X).float(), torch.from_numpy(y)
    if kind == "pandas":
        X, y = pd.DataFrame(X, columns=list("abcd")), pd.Series(y)
    model = fit.ByClass(fit.QuadraticWGAN(n_latent=2)).fit(X, y)
    drawn = model.sample(4, random_state=0)
    assert isinstance(drawn, torch.Tensor if kind == "torch" else np.ndarray)
    assert drawn.shape == (4, 4)
    assert np.isfinite(model.score(X))


@pytest.mark.slow  # many fits
def test_images_by_label():
    images, y = load_digits().images, load_digits().target
    model = fit.ByClass(fit.ProCoGAN(resolutions=(4, 8), n_components=(6, 12))).fit(images, y)
    assert model.sample(3, y=[1, 1, 4], random_state=0).shape == (3, 8, 8, 1)
    alone = fit.ProCoGAN(resolutions=(4, 8), n_components=(6, 12)).fit(images[y == 4])
    assert model[4].solution_.value == alone.solution_.value
    with pytest.raises(InputTypeError, match="images"):
        fit.ByClass(fit.ProCoGAN()).fit(load_digits().data, y)


def test_grid_search_and_pipelines_over_a_density(iris):
    X, y = iris
    search = GridSearchCV(
        make_pipeline(StandardScaler(), fit.ByClass(fit.QuadraticWGAN())),
        {"byclass__estimator__n_latent": np.arange(1, 4)},
        cv=3,
    ).fit(X, y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert (search.predict(X) == y).mean() > 0.9


def test_score_without_density_is_each_label_s_own_on_its_rows(iris):
    X, y = iris
    for solver in SOLVERS[1:3]:
        model = fit.ByClass(solver).fit(X, y)
        held = np.arange(0, 150, 4)
        alone = [type(solver)(**solver.get_params()).fit(X[y == k]).score(X[held][y[held] == k]) for k in range(3)]
        assert model.score(X[held], y[held]) == pytest.approx(np.average(alone, weights=np.bincount(y[held])))
        with pytest.raises(InputError, match="`y`"):
            model.score(X)


def test_a_model_without_density_has_no_bayes_rule(iris):
    X, y = iris
    model = fit.ByClass(fit.LinearWGAN(beta=0.1)).fit(X, y)
    assert not hasattr(model, "predict_proba")
    assert not hasattr(model, "score_samples")


def test_bad_input_is_named(iris):
    X, y = iris
    model = fit.ByClass(fit.QuadraticWGAN(n_latent=2))
    with pytest.raises(InputError, match="`y`"):
        model.fit(X, y[:10])
    with pytest.raises(InputError, match="class 2"):
        model.fit(X[:101], y[:101])
    with pytest.raises(InputTypeError, match="`estimator`"):
        fit.ByClass("quadratic").fit(X, y)
    model.fit(X, y)
    for labels in (7, [0, 1], [[0, 1, 2]]):
        with pytest.raises(InputError, match="`y`"):
            model.sample(3, y=labels)
    flat = X * [1.0, 1.0, 1.0, 0.0]
    exact = fit.ByClass(fit.QuadraticWGAN(n_latent=4, beta=0.0)).fit(flat, y)
    with pytest.raises(InputError, match="class 0"):
        exact.predict(X)
