"""The discrepancy of polynomial discriminators: a trust-region problem for each sign."""

from __future__ import annotations

import torch
from torch import Tensor

from saddlegan.moments._trust_region import minimise
from saddlegan.results import Discrepancy


def polynomial_discrepancy(moment: Tensor, mean: Tensor, *, a: float, b: float) -> Discrepancy:
    """Max over ||u|| = 1 of |a u^T Delta u + b delta^T u|, exactly.

    Args:
        moment: Delta = M_X - M_G (d, d), symmetric.
        mean: delta = mu_X - mu_G (d,).
        a: coefficient of t^2 in the activation a t^2 + b t + c; c cancels.
        b: coefficient of t.

    Returns:
        `Discrepancy`, exact; `upper` is the value of the dual, equal up to rounding.

    References:
        Theory 1.3.

    Example:
        >>> polynomial_discrepancy(torch.diag(torch.tensor([1.0, -3.0])), torch.zeros(2), a=1.0, b=1.0).value
        3.0
    """
    A, q = a * moment.double().cpu().numpy(), 0.5 * b * mean.double().cpu().numpy()
    sides = [minimise(-sign * A, -sign * q, radius=1.0, sphere=True) for sign in (1.0, -1.0)]
    best = min(sides, key=lambda side: side.value)
    witness = torch.as_tensor(best.point).to(moment.device)
    return Discrepancy(max(-best.value, 0.0), max(0.0, *(-side.bound for side in sides)), witness, exact=True)
