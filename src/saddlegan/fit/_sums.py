"""Moments of weighted rows, and sums of moments over batches that merge."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch
from torch import Tensor

from saddlegan.errors import InputError
from saddlegan.fit._saved import record
from saddlegan.moments._second_moment import (
    AbstractSecondMoment,
    DenseMoment,
    RowMoment,
    column_mean,
    row_blocks,
    second_moment,
    working_dtype,
)


def read_weights(sample_weight: Any, n: int) -> Tensor | None:
    """Check weights, one per row, and return them as float64 (n,) that sum to 1; None passes through.

    Raises:
        InputError: not n finite numbers of at least 0, or all of them 0.
    """
    if sample_weight is None:
        return None
    try:
        entries = sample_weight.detach().cpu() if isinstance(sample_weight, Tensor) else sample_weight
        weights = np.asarray(entries, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"`sample_weight` must be one number per row: {error}") from error
    weights = np.broadcast_to(weights, n) if weights.ndim == 0 else weights
    if weights.shape != (n,):
        raise InputError(f"`sample_weight` must have shape ({n},), one number per row, got {weights.shape}")
    if not np.isfinite(weights).all() or weights.min() < 0 or weights.max() == 0:
        raise InputError("`sample_weight` must be finite and at least 0, and not zero for every row (none left)")
    return torch.from_numpy(weights / weights.sum())


def total_weight(sample_weight: Any, n: int) -> float:
    """Sum of the weights of n rows, n without any."""
    if sample_weight is None:
        return float(n)
    entries = sample_weight.detach().cpu() if isinstance(sample_weight, Tensor) else sample_weight
    return float(np.broadcast_to(np.asarray(entries, dtype=np.float64), n).sum())


def weighted_mean(X: Any, weights: Tensor | None) -> Tensor:
    """Mean of rows (d,), float64; sum_i w_i x_i for weights that sum to 1."""
    if weights is None:
        return column_mean(X)
    device = X.device if isinstance(X, Tensor) else torch.device("cpu")
    total, start = torch.zeros(X.shape[1], dtype=torch.float64, device=device), 0
    weights = weights.to(device)
    for block in row_blocks(X, torch.float64):
        total += weights[start : start + len(block)] @ block
        start += len(block)
    return total


def weighted_moment(X: Any, weights: Tensor | None, *, center: bool) -> AbstractSecondMoment:
    """M = sum_i w_i (x_i - mu)(x_i - mu)^T for weights that sum to 1; the plain second moment for None."""
    if weights is None:
        return second_moment(X, center=center)
    n, d = X.shape
    mean = weighted_mean(X, weights)
    origin = mean if center else torch.zeros_like(mean)
    roots, dtype = weights.to(mean.device).sqrt(), working_dtype(X)
    parts: list[Tensor] = []
    matrix = mean.new_zeros(d, d) if d <= n else None
    start = 0
    for block in row_blocks(X, dtype):
        rows = (block - origin.to(dtype)) * roots[start : start + len(block), None].to(dtype)
        start += len(block)
        if matrix is None:
            parts.append(rows)
        else:
            matrix += rows.T @ rows
    return RowMoment(origin, torch.cat(parts)) if matrix is None else DenseMoment(origin, matrix)


@record
@dataclasses.dataclass(frozen=True)
class MomentSums:
    """What batches of rows add up to, about their mean, so that nothing cancels when they are merged.

    Attributes:
        weight: sum of the rows' weights, their number without any.
        mean: mu (d,).
        scatter: sum of w_i (x_i - mu)(x_i - mu)^T (d, d).
    """

    weight: float
    mean: Tensor
    scatter: Tensor

    def merged(self, other: MomentSums) -> MomentSums:
        """Return the sums of both: Chan, Golub and LeVeque's update.

        Example:
            >>> a, b = (MomentSums(1.0, torch.tensor([x]), torch.zeros(1, 1)) for x in (0.0, 2.0))
            >>> a.merged(b)
            MomentSums(weight=2.0, mean=tensor([1.]), scatter=tensor([[2.]]))
        """
        total = self.weight + other.weight
        delta = other.mean - self.mean
        between = torch.outer(delta, delta) * (self.weight * other.weight / total)
        return MomentSums(total, self.mean + delta * (other.weight / total), self.scatter + other.scatter + between)

    def moment(self, *, center: bool) -> DenseMoment:
        """Return the second moment of all rows so far."""
        covariance = self.scatter / self.weight
        if center:
            return DenseMoment(self.mean, covariance)
        return DenseMoment(torch.zeros_like(self.mean), covariance + torch.outer(self.mean, self.mean))


def sums_of(X: Any, sample_weight: Any, earlier: MomentSums | None = None) -> MomentSums:
    """Add up one batch, and merge it with the sums of earlier ones.

    Raises:
        InputError: unusable weights, or rows on another device than the earlier ones.
    """
    weights = read_weights(sample_weight, len(X))
    total = total_weight(sample_weight, len(X))
    moment = weighted_moment(X, weights, center=True)
    if earlier is not None and earlier.mean.device != moment.mean.device:
        raise InputError(f"`X` is on {moment.mean.device}, but the rows of earlier calls were on {earlier.mean.device}")
    if isinstance(moment, RowMoment):
        rows = moment.rows.double()
        scatter = rows.T @ rows
    else:
        scatter = moment.matvec(torch.eye(moment.size).to(moment.mean))
    batch = MomentSums(total, moment.mean, scatter * total)
    return batch if earlier is None else earlier.merged(batch)
