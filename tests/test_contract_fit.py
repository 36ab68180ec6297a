"""The contract of door 1. A new estimator adds one row to ESTIMATORS and must pass everything here."""

import math
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils.estimator_checks import parametrize_with_checks

from saddlegan import Game, Solution, Status, fit
from saddlegan.errors import InputError

ESTIMATORS = [
    fit.QuadraticWGAN(n_latent=2),
    fit.LinearWGAN(beta=0.1),
    fit.PolynomialWGAN(beta=0.1),
    fit.ReLUWGAN(beta=1.0, random_state=0),  # at 0.1 each of some hundred fits takes twice as long
]
# scikit-learn checks that do not apply, by estimator, each with its reason
EXPECTED_FAILURES: dict[str, dict[str, str]] = {}


@pytest.mark.slow  # fits every estimator many times
@parametrize_with_checks(
    ESTIMATORS, expected_failed_checks=lambda estimator: EXPECTED_FAILURES.get(type(estimator).__name__, {})
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
def test_scikit_learn_manners(estimator, check):
    """The array-API check skips itself unless an environment variable asks for it; everything else must pass."""
    check(estimator)


@pytest.fixture(params=ESTIMATORS, ids=lambda e: type(e).__name__)
def estimator(request):
    return clone(request.param)


@pytest.fixture
def X():
    rng = np.random.default_rng(0)
    return rng.standard_normal((40, 3)) @ np.diag([2.0, 1.0, 0.5]) + 1.0


@pytest.mark.slow  # fits every estimator many times
def test_fit_gives_a_solution_that_certifies_itself(estimator, X):
    assert estimator.fit(X) is estimator
    solution = estimator.solution_
    assert isinstance(solution, Solution)
    assert solution.status.ok
    assert solution.gap == pytest.approx(solution.value - solution.bound)
    assert solution.bound <= solution.value + 1e-9 * max(1.0, abs(solution.value))
    if solution.status is Status.OPTIMAL:
        assert abs(solution.gap) <= 1e-6 * max(1.0, solution.value)
    assert solution.stats["primal_residual"] <= 1e-6
    assert solution.stats["dual_residual"] <= 1e-6
    assert solution.stats["beta"] == estimator.beta_


@pytest.mark.slow  # fits every estimator many times
def test_fitted_players_are_modules_in_one_game(estimator, X):
    estimator.fit(X)
    assert isinstance(estimator.game_, Game)
    assert estimator.game_.G is estimator.generator_
    assert estimator.game_.D is estimator.discriminator_
    x = torch.from_numpy(X)
    with torch.no_grad():
        assert estimator.discriminator_(x).numel() == len(X)
        value = float(estimator.game_.value(x, estimator.game_.sample_latent(64, torch.Generator().manual_seed(0))))
    assert math.isfinite(value)
    assert estimator.beta_ >= 0


def fresh(estimator: Any) -> Any:
    return clone(estimator)


@pytest.mark.slow  # fits every estimator many times
def test_samples_are_reproducible_and_of_the_data_s_kind(estimator, X):
    estimator.fit(X)
    first = estimator.sample(5, random_state=3)
    assert isinstance(first, np.ndarray)
    assert first.shape == (5, 3)
    assert first.dtype == X.dtype
    np.testing.assert_array_equal(first, estimator.sample(5, random_state=3))
    tensor = fresh(estimator).fit(torch.from_numpy(X)).sample(5, random_state=3)
    assert isinstance(tensor, torch.Tensor)
    np.testing.assert_allclose(tensor.numpy(), first, rtol=1e-6, atol=1e-9)


@pytest.mark.slow  # fits every estimator many times
def test_global_random_states_stay_untouched(estimator, X):
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state(legacy=False)
    estimator.fit(X).sample(3, random_state=0)
    assert torch.equal(torch_state, torch.get_rng_state())
    np.testing.assert_equal(np.random.get_state(legacy=False), numpy_state)


@pytest.mark.slow  # fits every estimator many times
def test_pickling_keeps_the_model(estimator, X):
    estimator.fit(X)
    again = pickle.loads(pickle.dumps(estimator))
    np.testing.assert_array_equal(again.sample(2, random_state=0), estimator.sample(2, random_state=0))


def test_bad_data_raise_named_errors(estimator, X):
    with pytest.raises(NotFittedError):
        estimator.sample(1)
    broken = X.copy()
    broken[3, 1] = np.nan
    for bad in (broken, torch.from_numpy(broken), X[:1], X[:0], X[0], torch.ones(2, 2, 2), np.array([["a"], ["b"]])):
        with pytest.raises(InputError, match="`X`"):
            fresh(estimator).fit(bad)
    with pytest.raises(InputError, match="`beta`"):
        fresh(estimator).set_params(beta=-1.0).fit(X)
