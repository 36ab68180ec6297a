"""Quadratic functions on the unit sphere, and with them the discrepancy of polynomial discriminators."""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.optimize import brentq
from torch import Tensor

from saddlegan.results import Discrepancy

RESOLUTION = 4 * np.finfo(np.float64).eps  # relative distance from the largest eigenvalue that counts as zero


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
    values, vectors = torch.linalg.eigh(moment.double())
    q = 0.5 * b * (vectors.T @ mean.double())
    spectrum, linear = a * values.cpu().numpy(), q.cpu().numpy()
    sides = [sphere_maximum(s * spectrum, s * linear) for s in (1.0, -1.0)]
    value, _, u = max(sides, key=lambda side: side[0])
    return Discrepancy(
        max(value, 0.0), max(side[1] for side in sides), vectors @ torch.as_tensor(u).to(vectors), exact=True
    )


def sphere_maximum(spectrum: np.ndarray, linear: np.ndarray) -> tuple[float, float, np.ndarray]:
    """Maximise sum_i (spectrum_i u_i^2 + 2 linear_i u_i) over ||u|| = 1: a trust-region problem in its eigenbasis.

    The dual is min over t > max spectrum of t + sum_i linear_i^2 / (t - spectrum_i), and u = linear / (t - spectrum) at
    its minimum. In the hard case that u is too short at t = max spectrum; the rest goes along the top eigenvector.

    Args:
        spectrum: eigenvalues (d,), in any order.
        linear: half the linear coefficients (d,).

    Returns:
        The maximum, the dual value (an upper bound) and the unit maximiser (d,).

    Example:
        >>> value, upper, u = sphere_maximum(np.array([0.0, 1.0]), np.array([0.5, 0.0]))  # the hard case
        >>> round(value, 12), round(upper, 12)
        (1.25, 1.25)
    """
    top = int(spectrum.argmax())
    distance = spectrum[top] - spectrum
    scale = float(distance.max() + np.abs(linear).max()) or 1.0
    low = max(float((np.abs(linear) - distance).max()), RESOLUTION * scale)
    high = max(float(np.linalg.norm(linear)), low) * (1.0 + 1e-12) + RESOLUTION * scale

    def shortfall(shift: float) -> float:
        return 1.0 - 1.0 / max(float(np.linalg.norm(linear / (shift + distance))), 1e-300)

    hard = shortfall(low) <= 0.0
    shift = low if hard or shortfall(high) >= 0.0 else float(brentq(shortfall, low, high, xtol=1e-300, rtol=RESOLUTION))  # type: ignore[arg-type]
    u = linear / (shift + distance)
    if hard:
        rest = float(u @ u - u[top] ** 2)
        u[top] = math.copysign(math.sqrt(max(0.0, 1.0 - rest)), u[top])
    u = u / np.linalg.norm(u)
    value = float(spectrum @ u**2 + 2.0 * linear @ u)
    upper = float(spectrum[top] + shift + (linear**2 / (shift + distance)).sum())
    return value, max(upper, value), u
