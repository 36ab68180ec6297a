"""Theory 1.2. Oracles: cvxpy/Clarabel, projected search from random starts, LAPACK, hypothesis properties."""

import copy
import math
import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import multivariate_normal
from sklearn.datasets import load_digits

from saddlegan import Status
from saddlegan.errors import InputError, InputTypeError, SolveError
from saddlegan.fit import QuadraticWGAN
from saddlegan.fit._quadratic_program import solve_quadratic
from saddlegan.moments import _second_moment
from saddlegan.moments._second_moment import second_moment
from saddlegan.networks import MLP, PolynomialFeatures, ReLUFeatures

DIGITS = load_digits().data


def random_data(seed=0, n=60, d=6):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, d)) @ rng.standard_normal((d, d)) + rng.standard_normal(d)


def covariance(X):
    return np.cov(np.asarray(X, dtype=np.float64).T, bias=True)


def population_covariance(model):
    _, factor = model.generator_.moments()
    return (factor.T @ factor).detach().numpy()


@pytest.fixture(scope="module")
def digits():
    return QuadraticWGAN(n_latent=16).fit(DIGITS)


def test_digits_are_solved_to_rounding(digits):
    solution = digits.solution_
    assert solution.status is Status.OPTIMAL
    assert abs(solution.gap) / solution.value <= 1e-10
    distance = np.linalg.norm(covariance(DIGITS) - population_covariance(digits), 2)
    assert distance <= digits.beta_ * (1 + 1e-9)
    # oracle: numpy's spectrum
    values = np.linalg.eigvalsh(covariance(DIGITS))[::-1]
    assert digits.beta_ == pytest.approx(values[16], rel=1e-12)
    assert solution.value == pytest.approx((values[:16] - values[16]).sum(), rel=1e-12)
    assert digits.mean_ == pytest.approx(DIGITS.mean(0), abs=1e-12)


@pytest.mark.slow  # a million samples
def test_samples_have_the_population_moments(digits):
    samples = digits.sample(200_000, random_state=0)
    expected = population_covariance(digits)
    assert np.abs(samples.mean(0) - DIGITS.mean(0)).max() < 0.1
    assert np.linalg.norm(covariance(samples) - expected, 2) < 0.02 * np.linalg.norm(expected, 2)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("beta", ["auto", 1.5])
@pytest.mark.parametrize("center", [True, False])
def test_cvxpy_agrees(seed, beta, center):
    """min tr P, P >= 0, ||M - P||_2 <= beta: the convex program without the rank bound, which the optimum meets."""
    cp = pytest.importorskip("cvxpy")
    X = random_data(seed)
    model = QuadraticWGAN(n_latent=3 if beta == "auto" else 6, beta=beta, center=center).fit(X)
    M = covariance(X) if center else X.T @ X / len(X)
    P = cp.Variable(M.shape, PSD=True)
    problem = cp.Problem(cp.Minimize(cp.trace(P)), [cp.sigma_max(M - P) <= model.beta_])
    problem.solve(solver=cp.CLARABEL)
    assert model.solution_.value == pytest.approx(problem.value, rel=1e-6)
    np.testing.assert_allclose(population_covariance(model), P.value, atol=1e-4 * np.abs(M).max())


def search(C, W, steps=400, rate=0.02):
    """Penalised search over W (batch, k, d) for small ||W||^2 with ||C - W^T W||_2 <= beta; yields its iterates."""
    beta = np.linalg.eigvalsh(C)[::-1][W.shape[1]]
    C, W = torch.from_numpy(C), W.clone().requires_grad_(True)
    optimiser = torch.optim.Adam([W], lr=rate)
    for step in range(steps):
        spectrum = torch.linalg.eigvalsh(C - W.mT @ W).abs()
        weight = 10.0 ** (4.0 * step / steps) / beta
        loss = (W.square().sum((1, 2)) + weight * (spectrum - beta).clamp_min(0).square().sum(1)).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        yield W.detach()


@pytest.mark.slow  # twenty searches
def test_search_from_random_starts_finds_nothing_better(digits, rng):
    """20 starts: a W whose distance to C is beta' is feasible for beta', so R_g(W) >= sum (lambda - beta')_+ always."""
    C = covariance(DIGITS)
    values = np.linalg.eigvalsh(C)[::-1].copy()
    W = torch.randn(20, 16, 64, generator=rng, dtype=torch.float64)
    closest = math.inf
    for iterate in search(C, W):
        reached = torch.linalg.eigvalsh(torch.from_numpy(C) - iterate.mT @ iterate).abs().amax(1).numpy()
        ours = np.clip(values[None, :] - reached[:, None], 0, None).sum(1)
        theirs = iterate.square().sum((1, 2)).numpy()
        assert (theirs >= ours * (1 - 1e-9)).all()
        closest = min(closest, float(reached.min()))
    assert closest <= 1.05 * digits.beta_  # the search did come near the constraint


@pytest.mark.slow  # many fits
def test_search_moves():
    """The helper above can fail: it does come down to a feasible point of a problem whose optimum it can reach."""
    C = np.diag([4.0, 1.0])
    *_, last = search(C, torch.full((1, 1, 2), 3.0, dtype=torch.float64), steps=800)
    assert float(last.square().sum()) == pytest.approx(3.0, rel=0.1)


def orthogonal(seed, d):
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((d, d)))[0]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), scale=st.floats(0.01, 100.0), k=st.integers(1, 6))
def test_invariances(seed, scale, k):
    X = random_data(seed)
    model = QuadraticWGAN(n_latent=k).fit(X)
    Q = orthogonal(seed, 6)
    turned = QuadraticWGAN(n_latent=k).fit(X @ Q)
    assert turned.solution_.value == pytest.approx(model.solution_.value, rel=1e-8, abs=1e-9)
    P = population_covariance(model)
    np.testing.assert_allclose(population_covariance(turned), Q.T @ P @ Q, atol=1e-7 * (1 + np.abs(P).max()))
    scaled = QuadraticWGAN(n_latent=k).fit(scale * X)
    assert scaled.beta_ == pytest.approx(scale**2 * model.beta_, rel=1e-7, abs=1e-9 * scale**2)
    assert scaled.solution_.value == pytest.approx(scale**2 * model.solution_.value, rel=1e-7, abs=1e-9)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), share=st.floats(0.0, 1.2))
def test_the_discriminator_proves_the_value(seed, share):
    """V(G*, D*) in the population equals the primal value; at beta >= lambda_1 the generator is constant."""
    X = random_data(seed)
    C = covariance(X)
    beta = share * np.linalg.eigvalsh(C)[-1]
    model = QuadraticWGAN(n_latent=6, beta=beta).fit(X)
    P = population_covariance(model)
    D = model.discriminator_
    Lambda = (D.directions.T * D.outer) @ D.directions
    Lambda = Lambda.detach().numpy()
    value = np.sum(Lambda * (C - P)) + np.trace(P) - beta * float(D.path_norm().detach())
    assert value == pytest.approx(model.solution_.value, rel=1e-9, abs=1e-9)
    if share >= 1.0:
        assert model.solution_.value == pytest.approx(0.0, abs=1e-9)
        assert np.abs(model.sample(5, random_state=0) - X.mean(0)).max() <= 1e-4


def test_both_players_are_at_their_best(digits, rng):
    """Nash: no move of W lowers, no discriminator of norm 1 raises the population value (1,000 random directions)."""
    C, P = covariance(DIGITS), population_covariance(digits)
    D = digits.discriminator_
    Lambda = ((D.directions.T * D.outer) @ D.directions).detach().numpy()
    assert np.linalg.eigvalsh(Lambda)[-1] <= 1 + 1e-12
    U = torch.nn.functional.normalize(torch.randn(1000, 64, generator=rng, dtype=torch.float64)).numpy()
    gains = np.abs(np.einsum("ij,jk,ik->i", U, C - P, U)) - digits.beta_
    assert gains.max() <= 0
    witness = digits.components_[0]
    assert witness @ (C - P) @ witness == pytest.approx(digits.beta_, rel=1e-9)


@pytest.mark.slow  # many fits
def test_game_value_on_samples_approaches_the_population(digits):
    x = torch.from_numpy(DIGITS)
    z = digits.game_.sample_latent(200_000, torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert float(digits.game_.value(x, z)) == pytest.approx(digits.solution_.value, rel=2e-2)


def test_fixed_beta_below_the_rank_names_the_smallest_feasible_one():
    X = random_data()
    smallest = np.linalg.eigvalsh(covariance(X))[::-1][2]
    with pytest.raises(InputError, match=r"`beta`=.*smallest feasible beta is") as caught:
        QuadraticWGAN(n_latent=2, beta=0.5 * smallest).fit(X)
    named = float(str(caught.value).split("smallest feasible beta is ")[1].split()[0])
    assert named >= smallest
    assert QuadraticWGAN(n_latent=2, beta=named).fit(X).solution_.status is Status.OPTIMAL


@pytest.mark.slow  # many fits
@pytest.mark.parametrize(
    "features",
    [ReLUFeatures(4, 20, generator=torch.Generator().manual_seed(0)), PolynomialFeatures(4, degree=2)],
    ids=["relu", "polynomial"],
)
@pytest.mark.parametrize("center", [True, False])
def test_features_with_known_moments_are_exact(features, center):
    X = random_data(d=8, n=100)
    model = QuadraticWGAN(n_latent=4, features=features, beta=0.5, center=center).fit(X)
    assert model.solution_.status is Status.OPTIMAL
    mean, factor = (m.detach().numpy() for m in model.generator_.moments())
    second = factor.T @ factor + np.outer(mean - model.mean_, mean - model.mean_)
    M = covariance(X) if center else X.T @ X / len(X)
    assert np.linalg.norm(M - second, 2) <= 0.5 * (1 + 1e-9)
    if center:
        np.testing.assert_allclose(mean, X.mean(0), atol=1e-12)
    samples = model.sample(400_000, random_state=1)
    drawn = (samples - model.mean_).T @ (samples - model.mean_) / len(samples)
    assert np.linalg.norm(drawn - second, 2) <= 0.03 * np.linalg.norm(second, 2)


@pytest.mark.slow  # many fits
def test_frozen_networks_as_features_report_their_error():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        features = torch.nn.Sequential(MLP(3, 10, hidden=(16,), activation="tanh"), torch.nn.Dropout(0.5))
    X = random_data()
    model = QuadraticWGAN(n_latent=3, features=features, beta=0.5, random_state=0).fit(X)
    assert model.solution_.status is Status.ESTIMATED
    assert features.training  # the user's module is left as it was
    fresh = model.sample(1_000_000, random_state=7)
    violation = np.linalg.norm(covariance(X) - covariance(fresh), 2) - 0.5
    assert violation <= 4 * model.solution_.stats["moment_error"]
    plain = QuadraticWGAN(n_latent=3, features=torch.sin, beta="auto", random_state=0).fit(X)
    assert plain.solution_.status is Status.ESTIMATED


def test_features_that_cannot_be_used_are_named():
    X = random_data()
    with pytest.raises(InputTypeError, match="`features`"):
        QuadraticWGAN(features="relu").fit(X)
    with pytest.raises(InputError, match="`features` must map"):
        QuadraticWGAN(n_latent=2, features=lambda z: z.sum()).fit(X)
    with pytest.raises(InputError, match="NaN"):
        QuadraticWGAN(n_latent=2, features=lambda z: z / 0.0 * 0.0).fit(X)
    with pytest.raises(InputError, match="constant"):
        QuadraticWGAN(n_latent=2, features=torch.zeros_like).fit(X)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_tensors_keep_their_kind(dtype):
    X = torch.from_numpy(random_data()).to(dtype)
    model = QuadraticWGAN(n_latent=3).fit(X)
    for fitted in (model.mean_, model.components_, model.eigenvalues_, model.sample(2), model.score_samples(X)):
        assert isinstance(fitted, torch.Tensor)
        assert fitted.dtype == dtype
    reference = QuadraticWGAN(n_latent=3).fit(X.numpy())
    assert model.solution_.value == pytest.approx(reference.solution_.value, rel=1e-6)
    assert isinstance(reference.sample(2), np.ndarray)


@pytest.mark.parametrize(
    "read",
    [
        lambda X, path: X.tolist(),
        lambda X, path: pd.DataFrame(X),
        lambda X, path: np.asfortranarray(X),
        lambda X, path: np.load(path, mmap_mode="r"),
        lambda X, path: torch.from_numpy(X),
    ],
    ids=["list", "pandas", "fortran", "memmap", "tensor"],
)
def test_every_container_gives_the_same_answer(read, tmp_path):
    X = random_data()
    np.save(tmp_path / "x.npy", X)
    expected = QuadraticWGAN(n_latent=3).fit(X).solution_.value
    assert QuadraticWGAN(n_latent=3).fit(read(X, tmp_path / "x.npy")).solution_.value == pytest.approx(expected)


def test_bytes_and_wide_data():
    bytes_ = DIGITS.astype(np.uint8)
    model = QuadraticWGAN(n_latent=16).fit(bytes_)
    assert model.solution_.value == pytest.approx(QuadraticWGAN(16).fit(DIGITS).solution_.value, rel=1e-12)
    assert model.sample(1).dtype == np.float32
    wide = QuadraticWGAN(n_latent=5).fit(np.random.default_rng(0).standard_normal((20, 3000)))
    assert wide.solution_.status is Status.OPTIMAL
    assert wide.sample(2, random_state=0).shape == (2, 3000)
    assert np.isfinite(wide.score_samples(np.zeros((1, 3000)))).all()


@pytest.mark.parametrize(("n", "d"), [(2, 3), (12, 50), (17, 18), (5, 400)])
@pytest.mark.parametrize("beta", ["auto", 0.0, 0.3])
@pytest.mark.parametrize("center", [True, False])
def test_wide_data_with_latents_for_their_whole_rank(n, d, beta, center):
    """Oracle: numpy's spectrum of the d x d difference, formed directly; beta = 0 once the rank is reached."""
    X = np.random.default_rng(n).standard_normal((n, d)) + 3.0
    least = n - 1 if center else n
    for k in (least, n + 3):
        model = QuadraticWGAN(k, beta=beta, center=center).fit(X)
        assert model.solution_.status is Status.OPTIMAL
        if beta == "auto":
            assert model.beta_ == 0.0
        Y = X - X.mean(0) if center else X
        scale = np.linalg.norm(Y.T @ Y / n, 2)
        distance = np.linalg.norm(Y.T @ Y / n - population_covariance(model), 2)
        assert distance - model.beta_ <= 1e-13 * scale
        assert model.solution_.stats["primal_residual"] == pytest.approx(distance - model.beta_, abs=1e-13 * scale)


def test_more_latents_than_dimensions_reproduce_the_covariance():
    X = random_data()
    model = QuadraticWGAN(n_latent=20).fit(X)
    assert model.beta_ == 0.0
    np.testing.assert_allclose(population_covariance(model), covariance(X), atol=1e-10)
    # nothing is discarded: the density is the data's own Gaussian, and none where that is flat
    np.testing.assert_allclose(model.score_samples(X), multivariate_normal(X.mean(0), covariance(X)).logpdf(X))
    flat = np.column_stack([X, X[:, 0]])
    with pytest.raises(InputError, match="no density"):
        QuadraticWGAN(n_latent=20).fit(flat).score_samples(flat)


def test_density_is_the_gaussian_with_beta_as_noise():
    """Oracle: scipy's multivariate normal with covariance P* + beta I."""
    X = random_data()
    model = QuadraticWGAN(n_latent=3).fit(X)
    density = multivariate_normal(X.mean(0), population_covariance(model) + model.beta_ * np.eye(6))
    np.testing.assert_allclose(model.score_samples(X), density.logpdf(X), rtol=1e-10)
    assert model.score(X) == pytest.approx(density.logpdf(X).mean())


def test_randomness_is_explicit(digits):
    state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    first = digits.sample(3, random_state=5)
    np.testing.assert_array_equal(first, digits.sample(3, random_state=5))
    np.testing.assert_array_equal(
        digits.sample(3, random_state=np.random.RandomState(1)), digits.sample(3, random_state=np.random.RandomState(1))
    )
    assert not np.array_equal(first, digits.sample(3, random_state=6))
    assert not np.array_equal(digits.sample(3), digits.sample(3))
    QuadraticWGAN(4, features=torch.tanh, random_state=0).fit(DIGITS)
    assert torch.equal(state, torch.get_rng_state())
    assert np.array_equal(numpy_state, np.random.get_state()[1])
    with pytest.raises(InputTypeError, match="`random_state`"):
        digits.sample(3, random_state="seed")


def test_estimators_survive_pickling_and_copying(digits):
    for again in (pickle.loads(pickle.dumps(digits)), copy.deepcopy(digits)):
        np.testing.assert_array_equal(again.sample(2, random_state=0), digits.sample(2, random_state=0))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.array([[1.0, np.nan], [0.0, 1.0]]), "NaN"),
        (np.array([[1.0, np.inf], [0.0, 1.0]]), "infinity"),
        (np.empty((0, 3)), "0 sample"),
        (np.ones((1, 3)), "1 sample"),
        (np.ones(5), "1D array"),
        (np.ones((3, 0)), "0 feature"),
        (np.array([["a", "b"], ["c", "d"]]), "could not convert|numeric"),
        (np.ones((2, 2)) * 1j, "Complex"),
        (torch.tensor([[1.0, math.nan], [0.0, 1.0]]), "NaN"),
        (torch.ones(1, 3), "at least 2 rows"),
        (torch.ones(5), "shape"),
        (torch.ones(2, 2, 2), "flatten"),
        (torch.ones(2, 2, dtype=torch.complex64), "real"),
    ],
)
def test_bad_data_are_named(bad, message):
    with pytest.raises(InputError, match=message) as caught:
        QuadraticWGAN().fit(bad)
    assert "`X`" in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beta": -1.0}, "`beta`"),
        ({"beta": math.nan}, "`beta`"),
        ({"beta": math.inf}, "`beta`"),
        ({"beta": "aut"}, "`beta`"),
        ({"beta": True}, "`beta`"),
        ({"n_latent": 0}, "`n_latent`"),
        ({"n_latent": 2.5}, "`n_latent`"),
        ({"n_moment_latents": 1}, "`n_moment_latents`"),
    ],
)
def test_bad_parameters_are_named(options, message):
    with pytest.raises(InputError, match=message):
        QuadraticWGAN(**options).fit(random_data())


def test_bad_sample_requests_are_named(digits):
    for n in (0, -1, 2.5):
        with pytest.raises(InputError, match="`n`"):
            digits.sample(n)
    with pytest.raises(InputError, match="64 features"):
        digits.score_samples(np.ones((2, 3)))
    with pytest.raises(InputError, match="3 features"):
        digits.score_samples(torch.ones(2, 3))


def test_inaccurate_eigenpairs_raise_with_the_result(monkeypatch):
    """A solver that fails says so and carries what it has."""
    moment = second_moment(random_data(), center=True)
    pairs = moment.eigenpairs(4)
    wrong = type(pairs)(pairs.values * 0.9, pairs.vectors, pairs.residual)
    monkeypatch.setattr(type(moment), "eigenpairs", lambda self, k: wrong)
    with pytest.raises(SolveError, match="not proved to 1e-09") as caught:
        solve_quadratic(moment, n_latent=3)
    assert caught.value.result.status is Status.FAILED


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA")
def test_cuda_tensors_stay_there():
    X = torch.from_numpy(random_data()).cuda()
    model = QuadraticWGAN(n_latent=3).fit(X)
    assert model.sample(2, random_state=0).device.type == "cuda"
    assert model.solution_.value == pytest.approx(QuadraticWGAN(n_latent=3).fit(X.cpu()).solution_.value)


def test_the_spectrum_costs_no_second_gram_matrix(monkeypatch):
    """Oracle: numpy's eigenvalues; and the number of Gram matrices that are formed."""
    formed = []
    gram = _second_moment._gram
    monkeypatch.setattr(_second_moment, "_gram", lambda *args, **options: formed.append(1) or gram(*args, **options))
    X = np.random.default_rng(0).standard_normal((60, 5)) * np.arange(1, 6)
    model = QuadraticWGAN(2).fit(X)
    expected = np.linalg.eigvalsh(np.cov(X, rowvar=False, bias=True))[::-1]
    np.testing.assert_allclose(model.spectrum_, expected, rtol=1e-9)
    assert len(formed) == 1
