"""The left side of the constraint (1) as a two-sample measure, with its witness."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Literal, get_args

import torch
from sklearn.base import BaseEstimator
from torch import Tensor
from torch.nn.functional import normalize

from saddlegan import checks
from saddlegan.checks import RandomState
from saddlegan.errors import InputError
from saddlegan.fit._base import like, read_data
from saddlegan.fit._polynomial_discrepancy import polynomial_discrepancy
from saddlegan.fit.relu._discrepancy import relu_discrepancy
from saddlegan.fit.relu._one_dimension import stop_loss_discrepancy
from saddlegan.moments._second_moment import RowMoment, as_tensor, column_mean, moment_difference, second_moment
from saddlegan.results import Discrepancy

Kind = Literal["linear", "quadratic", "polynomial", "relu"]


def discrepancy(
    real: Any,
    generated: Any,
    kind: Kind = "quadratic",
    *,
    center: bool = False,
    a: float = 1.0,
    b: float = 1.0,
    thresholds: bool = False,
    n_starts: int = 64,
    random_state: RandomState = 0,
) -> Discrepancy:
    """How far two samples are apart for a class of two-layer discriminators.

        sup over ||u|| <= 1 of  | E s(x^T u) - E s(g^T u) |

    An integral probability metric and a two-sample statistic of its own: "linear" is the distance of the means,
    ||mu_X - mu_G||_2; "quadratic" the spectral norm ||M_X - M_G||_2 of the difference of the second moments;
    "polynomial" max over ||u|| = 1 of |a u^T (M_X - M_G) u + b (mu_X - mu_G)^T u|, a trust-region problem; "relu" the
    Hausdorff distance of the samples' zonotopes, exact for d <= 2 and for few points, else two-sided.

    Args:
        real: sample (n, d).
        generated: sample (m, d), of another size if need be.
        kind: the discriminator's activation.
        center: for "quadratic", compare covariances (each sample about its own mean) instead of second moments.
        a: coefficient of t^2 of the polynomial a t^2 + b t + c; c cancels.
        b: its coefficient of t.
        thresholds: for "relu" in one dimension, let neurons (s x - b)_+ have any threshold; the witness is (s, b).
        n_starts: for "relu", starts of the ascent where the value cannot be exact.
        random_state: seed of those starts.

    Returns:
        `Discrepancy`: value, upper, witness (d,) of the kind that `real` has, and whether the value is exact.

    Raises:
        InputError: unusable data, different widths, or unknown kind.

    References:
        [S22] section 3; theory, equation (1) and its table.

    Example:
        >>> discrepancy([[1.0, 0.0], [3.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]], kind="linear")
        Discrepancy(value=2, upper=2, witness=<shape (2,)>, exact=True)
    """
    if kind not in get_args(Kind):
        raise InputError(f"`kind` must be one of {', '.join(get_args(Kind))}, got {kind!r}")
    a, b = (checks.number(name, value, least=-math.inf) for name, value in (("a", a), ("b", b)))
    n_starts = checks.count("n_starts", n_starts)
    checks.check_seed(random_state)
    X, G = read_pair(real, generated)
    if kind == "linear":
        difference = column_mean(X) - column_mean(G)
        value, witness = float(difference.norm()), normalize(difference, dim=0)
    elif kind == "polynomial":
        return _of_kind(X, polynomial_difference(X, G, a=a, b=b))
    elif kind == "relu":
        return _of_kind(X, _relu(X, G, thresholds=thresholds, n_starts=n_starts, random_state=random_state))
    else:
        value, witness = moment_difference(second_moment(X, center=center), second_moment(G, center=center))
    return Discrepancy(value, value, like(X, witness), exact=True)


def _relu(X: Any, G: Any, *, thresholds: bool, n_starts: int, random_state: RandomState) -> Discrepancy:
    x, g = as_tensor(X).double(), as_tensor(G).double()
    if not thresholds:
        return relu_discrepancy(x, g, n_starts=n_starts, generator=checks.generator(random_state))
    if x.shape[1] != 1:
        raise InputError(
            f"`thresholds` is for samples of one column, got {x.shape[1]}; append a constant column to both instead"
        )
    return stop_loss_discrepancy(x[:, 0], g[:, 0])


def polynomial_difference(X: Any, G: Any, *, a: float, b: float) -> Discrepancy:
    """`discrepancy` of kind "polynomial" for checked samples."""
    moments = [second_moment(sample, center=False) for sample in (X, G)]
    eye = torch.eye(X.shape[1], dtype=torch.float64, device=moments[0].mean.device)
    delta = moments[0].matvec(eye) - moments[1].matvec(eye)
    return polynomial_discrepancy(0.5 * (delta + delta.T), column_mean(X) - column_mean(G), a=a, b=b)


def moment_discrepancy(
    first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor], *, kind: str, center: bool
) -> Discrepancy:
    """`discrepancy` of kind "linear" or "quadratic" from population moments: each a mean (d,) and F, Cov = F^T F.

    Raises:
        InputError: another kind.
    """
    (mean, F), (other_mean, other_F) = ((m.detach().double(), f.detach().double()) for m, f in (first, second))
    if kind == "linear":
        difference = mean - other_mean
        value, witness = float(difference.norm()), normalize(difference, dim=0)
    elif kind == "quadratic":
        factors = [F, other_F] if center else [torch.cat([F, mean[None]]), torch.cat([other_F, other_mean[None]])]
        value, witness = moment_difference(*(RowMoment(mean, factor) for factor in factors))
    else:
        raise InputError(f"`kind` must be linear or quadratic, got {kind!r}")
    return Discrepancy(value, value, witness, exact=True)


def _of_kind(X: Any, found: Discrepancy) -> Discrepancy:
    return dataclasses.replace(found, witness=like(X, found.witness))


def read_pair(real: Any, generated: Any) -> tuple[Any, Any]:
    """Check two samples of one width.

    Raises:
        InputError: unusable data or different widths; the message names the argument.
    """
    samples: list[Any] = []
    for name, sample in (("real", real), ("generated", generated)):
        try:
            samples.append(read_data(BaseEstimator(), sample, reset=True))
        except InputError as error:
            raise InputError(str(error).replace("`X`", f"`{name}`", 1)) from error
    X, G = samples
    if X.shape[1] != G.shape[1]:
        raise InputError(f"`real` and `generated` must have the same width, got {X.shape[1]} and {G.shape[1]}")
    if isinstance(X, Tensor) and isinstance(G, Tensor) and X.device != G.device:
        raise InputError(f"`real` and `generated` must be on one device, got {X.device} and {G.device}")
    return X, G
