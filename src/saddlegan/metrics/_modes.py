"""How many modes of a known mixture a generator holds: the PacGAN protocol, its ceiling, and its blind spots."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.stats import chi

from saddlegan import checks
from saddlegan.checks import RandomState
from saddlegan.errors import InputError
from saddlegan.metrics._distances import gaussian_distance
from saddlegan.metrics._measurement import Measurement, read

MODE_SAMPLES = 2500  # the protocol's number of samples
HIGH_QUALITY = 3.0  # Mahalanobis distance within which a sample belongs to its mode


@dataclasses.dataclass(frozen=True)
class ModeMetrics:
    """What 2,500 samples say about a mixture of m equal modes.

    Attributes:
        modes: modes with at least one high quality sample. Means nothing while `high_quality` is small: a uniform smear
            over the grid finds 21 of its 25 modes with 1% of its samples.
        total: m.
        high_quality: share of samples within 3 standard deviations of their nearest mode.
        ceiling: what a perfect sampler scores, 98.89% in two dimensions.
        total_variation: distance of the high quality samples' histogram over the modes from uniform, in [0, 1].
        spread: root mean square distance of high quality samples from their mode's centre, relative to the data's own
            (which is cut off at 3 as well). Below 1 the modes are held but each has shrunk.
    """

    modes: int
    total: int
    high_quality: float
    ceiling: float
    total_variation: float
    spread: float


def mode_metrics(samples: np.ndarray, centers: np.ndarray, sd: float) -> ModeMetrics:
    """Measure samples against a mixture of equal isotropic Gaussians.

    Args:
        samples: (n, d).
        centers: (m, d).
        sd: standard deviation of each mode in each direction.

    Returns:
        `ModeMetrics`.

    Raises:
        InputError: wrong shapes, no samples, NaN, or an `sd` that is not positive.

    Example:
        >>> centers = np.array([[0.0, 0.0], [4.0, 0.0]])
        >>> held = mode_metrics(np.array([[0.1, 0.0], [-0.1, 0.0], [0.0, 0.1], [2.0, 0.0]]), centers, sd=0.1)
        >>> held.modes, held.high_quality, held.total_variation
        (1, 0.75, 0.5)
    """
    samples, centers = np.asarray(samples, dtype=np.float64), np.asarray(centers, dtype=np.float64)
    if samples.ndim != 2 or centers.ndim != 2 or len(samples) == 0 or samples.shape[1] != centers.shape[1]:
        raise InputError(
            f"`samples` (n, d) and `centers` (m, d) must agree in d, got {samples.shape} and {centers.shape}"
        )
    if not np.isfinite(samples).all():
        raise InputError("`samples` hold NaN or infinity; the generator has diverged")
    sd = checks.positive("sd", sd)
    d, m = centers.shape[1], len(centers)
    squares = ((samples[:, None, :] - centers[None]) ** 2).sum(2)
    nearest = squares.argmin(1)
    distance = np.sqrt(squares[np.arange(len(samples)), nearest]) / sd
    good = distance < HIGH_QUALITY
    counts = np.bincount(nearest[good], minlength=m)
    share = counts / counts.sum() if good.any() else np.zeros(m)
    # a chi variable's second moment within the cut: d P(chi_{d+2} < c) / P(chi_d < c)
    within = d * chi.cdf(HIGH_QUALITY, d + 2) / chi.cdf(HIGH_QUALITY, d)
    return ModeMetrics(
        modes=int((counts > 0).sum()),
        total=m,
        high_quality=float(good.mean()),
        ceiling=float(chi.cdf(HIGH_QUALITY, d)),
        total_variation=float(np.abs(share - 1.0 / m).sum() / 2) if good.any() else 1.0,
        spread=float(np.sqrt((distance[good] ** 2).mean() / within)) if good.any() else 0.0,
    )


def modes(
    *,
    generated: Any,
    centers: Any,
    sd: float,
    real: Any = None,
    features: Callable[[Any], Any] | None = None,
    random_state: RandomState = None,
) -> Measurement:
    """Modes held and high quality share of a mixture of equal isotropic Gaussians, after PacGAN.

        value = share of samples within 3 standard deviations of their nearest mode

    A perfect sampler does not reach 1: in the plane it scores 1 - exp(-9/2) = 98.89%, which is the floor unless
    `real` rows are given. The protocol takes 2,500 samples.

    Args:
        generated: rows (n, d).
        centers: modes (m, d).
        sd: standard deviation of each mode in each direction.
        real: rows (k, d) whose own share becomes the floor; the perfect sampler's if None.
        features: callable on rows, giving points (n, d); the rows themselves if None.
        random_state: not needed, nothing is drawn; taken so that all measures are called alike.

    Returns:
        `Measurement`, higher better; `modes` (held), `total`, `total_variation`, `spread` in `stats`, as in
        `ModeMetrics`. Where the value is near 0, the number of modes means nothing.

    Raises:
        InputError: wrong shapes, no samples, NaN, or an `sd` that is not positive.

    Reference:
        Lin et al., PacGAN: The Power of Two Samples in Generative Adversarial Networks, NeurIPS 2018.

    Example:
        >>> found = modes(generated=[[0.1, 0.0], [9.0, 9.0]], centers=[[0.0, 0.0], [4.0, 0.0]], sd=0.1)
        >>> found.value, round(found.floor, 4), found.stats["modes"]
        (0.5, 0.9889, 1)
    """
    del random_state
    centers = np.asarray(checks.rows(centers, "centers"), dtype=np.float64)
    Y = read("generated", generated, features, len(checks.rows(generated, "generated")) or 1)
    found = mode_metrics(Y, centers, sd)
    floor, floor_error = found.ceiling, 0.0
    if real is not None:
        X = read("real", real, features, len(checks.rows(real, "real")) or 1)
        floor = mode_metrics(X, centers, sd).high_quality
        floor_error = math.sqrt(floor * (1.0 - floor) / len(X))
    error = math.sqrt(found.high_quality * (1.0 - found.high_quality) / len(Y))
    stats = dataclasses.asdict(found) | {"matched": found.high_quality, "floor_error": floor_error, "better": "higher"}
    return Measurement(found.high_quality, floor, error, stats)


def frechet_distance(first: np.ndarray, second: np.ndarray) -> float:
    """||mu_1 - mu_2||^2 + tr(C_1 + C_2 - 2 (C_1 C_2)^(1/2)), the squared W2 distance of the fitted Gaussians.

    Args:
        first: features (n, d).
        second: features (m, d).

    Raises:
        InputError: fewer than 2 rows, different widths, or NaN.

    Example:
        >>> x = np.random.default_rng(0).standard_normal((500, 3))
        >>> round(frechet_distance(x, x + 2.0), 6)  # a shift by 2 in three coordinates
        12.0
    """
    if first.ndim != 2 or second.ndim != 2 or first.shape[1] != second.shape[1] or min(len(first), len(second)) < 2:
        raise InputError(f"features must be (n, d) and (m, d) with n, m >= 2, got {first.shape} and {second.shape}")
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise InputError("features hold NaN or infinity")
    return gaussian_distance(first.astype(np.float64), second.astype(np.float64))
