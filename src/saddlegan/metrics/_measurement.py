"""What every measure returns, how it reads its samples, and where its floor and its error come from."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from saddlegan import checks, modules
from saddlegan.checks import RandomState
from saddlegan.errors import InputError, SampleSizeWarning

Features = Callable[[Any], Any]
Estimate = Callable[[np.ndarray, np.ndarray], float]

SPLITS = 10  # random halvings behind each floor and each standard error
BLOCK = 1024  # rows compared with rows at a time: memory stays at BLOCK**2 numbers, whatever n is


@dataclasses.dataclass(frozen=True, repr=False)
class Measurement:
    """A figure about generated samples, with what real samples would have got.

    Attributes:
        value: the measure of all samples.
        floor: real against real, by the same measure. At the very sizes of `value` where `held_out` rows were given,
            else between two halves of the real rows: then compare it with `stats["matched"]`, which is at its sizes.
        standard_error: of `value`: the spread over random halves of both samples.
        stats: `matched` (the measure at the floor's sizes), `floor_error` (spread of the floor over the splits),
            `sizes`, `floor_sizes`, `features` (length of a feature vector), `better` ("lower" or "higher"), and
            figures of one measure.

    Example:
        >>> Measurement(value=0.5, floor=0.1, standard_error=0.02)
        Measurement(value=0.5, floor=0.1, standard_error=0.02)
    """

    value: float
    floor: float
    standard_error: float
    stats: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __repr__(self) -> str:
        return f"Measurement(value={self.value:.6g}, floor={self.floor:.6g}, standard_error={self.standard_error:.6g})"

    @property
    def above_floor(self) -> float:
        """How many standard errors the samples are worse than real ones, at equal sizes; beyond 3 it is no accident.

            (matched - floor) / sqrt(standard_error^2 + floor_error^2), with the sign turned where higher is better.

        Example:
            >>> Measurement(0.5, 0.1, 0.04, {"matched": 0.5, "floor_error": 0.03}).above_floor
            8.0
        """
        sign = -1.0 if self.stats.get("better") == "higher" else 1.0
        excess = sign * (self.stats.get("matched", self.value) - self.floor)
        error = float(np.hypot(self.standard_error, self.stats.get("floor_error", 0.0)))
        if error == 0.0:
            return 0.0 if excess == 0.0 else float(np.copysign(np.inf, excess))
        return float(excess / error)


def read(name: str, data: Any, features: Features | None, batch_size: int) -> np.ndarray:
    """Bring samples into features (n, k), float64.

    Args:
        name: the argument's name, for the messages.
        data: rows from any source, (n, ...).
        features: what is measured of each row, called on blocks; None for the numbers themselves. A module is put
            into evaluation mode for the while and gets tensors of its own dtype and device.
        batch_size: rows in a block.

    Raises:
        InputError: fewer than 2 rows, NaN, or features of the wrong shape.
    """
    found = checks.rows(data, name)
    if found.ndim < 1 or len(found) < 2:
        raise InputError(f"`{name}` must hold at least 2 rows, (n, ...), got shape {tuple(found.shape)}")
    if features is None:
        taken = _plain(found).reshape(len(found), -1).astype(np.float64)
    else:
        blocks = [_features_of(features, found[i : i + batch_size]) for i in range(0, len(found), batch_size)]
        taken = np.concatenate(blocks)
    if not np.isfinite(taken).all():
        where = f"`{name}` holds" if features is None else f"the features of `{name}` hold"
        raise InputError(f"{where} NaN or infinity; the generator or the features have diverged")
    return taken


def read_pair(
    real: Any, generated: Any, held_out: Any, features: Features | None, batch_size: int, *, warn: bool = True
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Bring both samples, and the rows for the floor if there are any, into features of one length.

    Raises:
        InputError: as `read`; or lengths that differ; or too few held out rows.

    Warns:
        SampleSizeWarning: fewer samples than features.
    """
    batch_size = checks.count("batch_size", batch_size)
    X, Y = read("real", real, features, batch_size), read("generated", generated, features, batch_size)
    H = None if held_out is None else read("held_out", held_out, features, batch_size)
    if X.shape[1] != Y.shape[1] or (H is not None and H.shape[1] != X.shape[1]):
        raise InputError(f"`real` and `generated` must agree in length, got {X.shape[1]} and {Y.shape[1]}")
    if H is not None and len(H) < len(Y):
        raise InputError(f"`held_out` must have as many rows as `generated`, {len(Y)} or more, got {len(H)}")
    if warn and min(len(X), len(Y)) < X.shape[1]:
        warnings.warn(
            f"{min(len(X), len(Y))} samples for {X.shape[1]} features: compare the value with its floor, never with 0, "
            "or pass `features` with fewer outputs",
            SampleSizeWarning,
            stacklevel=3,
        )
    return X, Y, H


def measured(
    estimate: Estimate,
    X: np.ndarray,
    Y: np.ndarray,
    H: np.ndarray | None,
    random_state: RandomState,
    *,
    better: str = "lower",
    stats: Mapping[str, Any] | None = None,
) -> Measurement:
    """The estimate on all rows, with floor and error from random halves.

    A half drawn without replacement has, for every statistic that is a mean, exactly the variance that the whole
    sample has around the truth: (1 - 1/2) s^2 / (n/2) = s^2 / n. Unlike the bootstrap with replacement it repeats no
    row, and repeated rows are what nearest neighbours and kernels must not see.
    """
    draw = np.random.default_rng(checks.seed(random_state))
    matched, floors = [], []
    for A, B, other in halves(X, Y, draw):
        matched.append(estimate(A, B))
        floors.append(estimate(A, other))
    real = None if H is None else estimate(X, H[: len(Y)])
    return found(X, Y, estimate(X, Y), matched, floors, real, better=better, stats=stats)


def found(
    X: np.ndarray,
    Y: np.ndarray,
    value: float,
    matched: Sequence[float] | np.ndarray,
    floors: Sequence[float] | np.ndarray,
    real: float | None,
    *,
    better: str = "lower",
    stats: Mapping[str, Any] | None = None,
) -> Measurement:
    """What was estimated on all rows (`value`, and `real` of held out rows) and on the halves, as a `Measurement`."""
    floor, at_floor, sizes = float(np.mean(floors)), float(np.mean(matched)), (len(X) // 2, _half(len(X), len(Y)))
    if real is not None:
        floor, at_floor, sizes = real, value, (len(X), len(Y))
    facts = {
        "matched": at_floor,
        "floor_error": float(np.std(floors, ddof=1)),
        "sizes": (len(X), len(Y)),
        "floor_sizes": sizes,
        "features": X.shape[1],
        "better": better,
    }
    return Measurement(float(value), float(floor), float(np.std(matched, ddof=1)), {**facts, **(stats or {})})


def halves(
    X: np.ndarray, Y: np.ndarray, draw: np.random.Generator
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Random halves of X and Y, and from the other half of X as many rows as the half of Y has."""
    for a, b, other in splits(len(X), len(Y), draw):
        yield X[a], Y[b], X[other]


def splits(n: int, m: int, draw: np.random.Generator) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """The indices of `halves` of n and m rows."""
    half, taken = n // 2, _half(n, m)
    for _ in range(SPLITS):
        order = draw.permutation(n)
        yield order[:half], draw.permutation(m)[:taken], order[half : half + taken]


def _half(n: int, m: int) -> int:
    return max(1, min(m // 2, n - n // 2))


def blocks(n: int) -> Iterator[slice]:
    """Slices of BLOCK rows."""
    return (slice(start, min(n, start + BLOCK)) for start in range(0, n, BLOCK))


def _plain(rows: Any) -> np.ndarray:
    return rows.detach().cpu().numpy() if isinstance(rows, Tensor) else np.asarray(rows)


def _features_of(features: Features, rows: Any) -> np.ndarray:
    if isinstance(features, nn.Module):
        rows = torch.as_tensor(rows).to(modules.like(features))
        with torch.no_grad(), modules.evaluating(features):
            found = features(rows)
    else:
        with torch.no_grad():
            found = features(rows)
    found = _plain(found)
    if found.ndim < 1 or len(found) != len(rows):
        raise InputError(f"`features` must return a row for each of {len(rows)} rows, got shape {tuple(found.shape)}")
    return found.reshape(len(found), -1).astype(np.float64)
