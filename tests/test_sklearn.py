"""scikit-learn's own conformance checks, oracle for the estimator manners."""

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from saddlegan import fit


@parametrize_with_checks([fit.QuadraticWGAN(n_latent=2), fit.LinearWGAN()])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
def test_sklearn_compatible(estimator, check):
    check(estimator)
