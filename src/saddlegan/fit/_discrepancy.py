"""The left side of the constraint (1) as a two-sample measure, with its witness."""

from __future__ import annotations

from typing import Any, Literal, get_args

from sklearn.base import BaseEstimator
from torch import Tensor
from torch.nn.functional import normalize

from saddlegan._linalg import column_mean, moment_difference, second_moment
from saddlegan.errors import InputError
from saddlegan.fit._base import like, read_data
from saddlegan.results import Discrepancy

Kind = Literal["linear", "quadratic"]


def discrepancy(real: Any, generated: Any, kind: Kind = "quadratic", *, center: bool = False) -> Discrepancy:
    """How far two samples are apart for a class of two-layer discriminators.

        sup over ||u|| <= 1 of  | E s(x^T u) - E s(g^T u) |

    An integral probability metric and a two-sample statistic of its own: "linear" is the distance of the means,
    ||mu_X - mu_G||_2; "quadratic" the spectral norm ||M_X - M_G||_2 of the difference of the second moments.

    Args:
        real: sample (n, d).
        generated: sample (m, d), of another size if need be.
        kind: the discriminator's activation.
        center: for "quadratic", compare covariances (each sample about its own mean) instead of second moments.

    Returns:
        `Discrepancy`: value, witness (d,) of the kind that `real` has, exact.

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
    X, G = read_pair(real, generated)
    if kind == "linear":
        difference = column_mean(X) - column_mean(G)
        value, witness = float(difference.norm()), normalize(difference, dim=0)
    else:
        value, witness = moment_difference(second_moment(X, center=center), second_moment(G, center=center))
    return Discrepancy(value, value, like(X, witness), exact=True)


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
