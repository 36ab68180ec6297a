"""What a classifier says of the samples: how sure and how varied its answers are, and in which classes they fall."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import ndtri

from saddlegan import checks
from saddlegan.checks import RandomState
from saddlegan.errors import InputError
from saddlegan.metrics._measurement import Features, Measurement, halves, measured, read_pair

LEVEL = 0.01  # of the test for the class farthest off, all classes together
SUM_TOLERANCE = 1e-3  # what float16 probabilities may miss of 1


def inception_like(
    *,
    real: Any,
    generated: Any,
    features: Features | None = None,
    held_out: Any = None,
    random_state: RandomState = None,
    batch_size: int = 256,
) -> Measurement:
    """Inception-like score, from any classifier's probabilities p(c | y), and the histogram over classes.

        exp( E_y KL( p(c | y) || E_y p(c | y) ) ),   in [1, number of classes]

    The score is blind to a class that is missing as long as the others are balanced; the histogram is not: its total
    variation distance from the real one stands in `stats` with its own floor.

    Args:
        real: rows (n, ...).
        generated: rows (m, ...).
        features: classifier: callable on a block of rows, giving probabilities (block, classes); None if `real` and
            `generated` are probabilities already.
        held_out: further real rows, at least m, for a floor at the very sizes; else real rows are halved.
        random_state: seed of the halves.
        batch_size: rows a call of `features`; the value does not depend on it.

    Returns:
        `Measurement` whose value is the score of the generated rows and whose floor that of real ones, higher better;
        `histogram`, `real_histogram` (shares by most probable class), `histogram_distance`, `histogram_floor`,
        `histogram_error` in `stats`; the mean probability of each class, `shares` and `real_shares`; and the class
        whose mean probability is farthest from the real one, `worst_class` (its column), by how many standard errors,
        `worst_class_deviation`, and how many chance alone would reach in one measurement of a hundred, all classes
        looked at, `worst_class_limit`: the sharpest test for a class that is missing, since a total variation adds
        up the noise of all the others. Probabilities, not the most probable class: where the share of class c falls
        from pi_c by eps, the log-likelihood of a sample y has the slope 1 - p(c | y) / pi_c in eps, so the mean of
        p(c | y) is the score test, and loses least with a classifier that is seldom sure.

    Raises:
        InputError: rows that are no probabilities, or too few.

    Reference:
        Salimans et al., Improved Techniques for Training GANs, NeurIPS 2016 (there of the Inception network).

    Example:
        >>> sure = np.eye(4)[np.arange(80) % 4]
        >>> found = inception_like(real=sure, generated=sure[sure[:, 3] == 0], random_state=0)
        >>> round(found.value, 9), round(found.stats["histogram_distance"], 9)
        (3.0, 0.25)
    """
    X, Y, H = read_pair(real, generated, held_out, features, batch_size, warn=False)
    for name, P in (("real", X), ("generated", Y)):
        if P.min() < 0 or np.abs(P.sum(1) - 1.0).max() > SUM_TOLERANCE:
            raise InputError(f"the classifier must give probabilities for `{name}`: rows of sum 1, none negative")
    seed = checks.seed(random_state)
    drawn = [(_distance(A, B), _distance(A, other)) for A, B, other in halves(X, Y, np.random.default_rng(seed))]
    deviations = np.abs(_deviations(X, Y))
    stats = {
        "shares": Y.mean(0).tolist(),
        "real_shares": X.mean(0).tolist(),
        "histogram": _histogram(Y).tolist(),
        "real_histogram": _histogram(X).tolist(),
        "histogram_distance": _distance(X, Y),
        "histogram_matched": _distance(X, Y) if H is not None else float(np.mean([pair[0] for pair in drawn])),
        "histogram_floor": _distance(X, H[: len(Y)]) if H is not None else float(np.mean([pair[1] for pair in drawn])),
        "histogram_error": float(np.hypot(*np.std(drawn, axis=0, ddof=1))),
        "worst_class": int(deviations.argmax()),
        "worst_class_deviation": float(deviations.max()),
        "worst_class_limit": float(ndtri(1.0 - LEVEL / (2 * X.shape[1]))),
    }
    return measured(lambda A, B: score(B), X, Y, H, seed, better="higher", stats=stats)


def _deviations(P: np.ndarray, Q: np.ndarray) -> np.ndarray:
    """Differences of the classes' mean probabilities in their own standard errors, as if both samples were one."""
    error = np.sqrt(np.concatenate([P, Q]).var(0) * (1.0 / len(P) + 1.0 / len(Q)))
    return np.divide(Q.mean(0) - P.mean(0), error, out=np.zeros(P.shape[1]), where=error > 0)


def score(P: np.ndarray) -> float:
    """The score of probabilities (n, classes)."""
    marginal = P.mean(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(P > 0, P * (np.log(P) - np.log(marginal)), 0.0)  # 0 log 0 = 0
    return float(np.exp(terms.sum(1).mean()))


def _histogram(P: np.ndarray) -> np.ndarray:
    return np.bincount(P.argmax(1), minlength=P.shape[1]) / len(P)


def _distance(P: np.ndarray, Q: np.ndarray) -> float:
    return float(np.abs(_histogram(P) - _histogram(Q)).sum() / 2)
