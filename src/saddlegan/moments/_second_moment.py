"""Second moments and their leading eigenpairs, in one pass over row blocks, on the tensors' own device.

`second_moment` measures M = E (x - mu)(x - mu)^T (mu = 0 unless centred). Tall data hold the d x d matrix; wide data
(d > n) hold the n rows instead and never form d x d.
"""

from __future__ import annotations

import abc
import contextlib
import dataclasses
import functools
import math
from collections.abc import Callable, Iterator
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from saddlegan.errors import InputError, SolveError
from saddlegan.moments._gram import add_gram, signed_bytes, symmetrised
from saddlegan.moments._lanczos import MAX_PASSES, OVERSAMPLING, block_lanczos, random_block
from saddlegan.moments._tridiagonal import LAPACK, Tridiagonal, reduce

BLOCK_ELEMENTS = 1 << 22  # elements of a row block: large enough for full matrix-product speed, small beside the data
DENSE_SIZE = 1024  # LAPACK's full eigendecomposition up to here, Lanczos for a few pairs above
# residuals relative to the largest eigenvalue; a value alone has the square of its vector's error
SMALL_SIZE = 128  # below, all eigenvectors cost no more than a few
PAIR_TOLERANCE = 1e-11
VALUE_TOLERANCE = 1e-7
PASSES = 0.6  # of Lanczos, times d and by the vectors of a block: a reduction to tridiagonal form costs as much
SHIFT_ROWS = 1024  # whose mean comes close enough to that of all
RESOLVED = 5e-14  # of the largest eigenvalue: a Cholesky factorisation tells numbers from zero up to that
ROUNDING = 1e-15  # of a product with a moment, relative to its trace: nothing below is resolved


def floating(X: Any) -> torch.dtype:
    """Return the floating dtype that results for X are given in: its own, or float64 / float32 for integers / bytes."""
    dtype = as_tensor(X[:0]).dtype
    if dtype.is_floating_point:
        return dtype
    return torch.float32 if dtype == torch.uint8 else torch.float64


def working_dtype(X: Any) -> torch.dtype:
    """Return the dtype of the products: float64, but float32 where the data have no more and the matrix is large."""
    small = min(X.shape) <= DENSE_SIZE
    return torch.float64 if small or floating(X) == torch.float64 else torch.float32


def row_blocks(X: Any, dtype: torch.dtype, *, elements: int | None = None) -> Iterator[Tensor]:
    """Yield row blocks of a numpy array, memmap or tensor (n, d) as tensors of `dtype`, reading each row once.

    Args:
        X: the rows.
        dtype: of the blocks.
        elements: numbers in a block, `BLOCK_ELEMENTS` if None.
    """
    rows = max(1, (elements or BLOCK_ELEMENTS) // max(1, X.shape[1]))
    for start in range(0, X.shape[0], rows):
        yield as_tensor(X[start : start + rows]).to(dtype)


def as_tensor(block: Any) -> Tensor:
    """View an array as a tensor; read-only and exotic-endian memory is copied, since torch cannot hold it."""
    if isinstance(block, Tensor):
        return block.detach()
    block = np.asarray(block)
    if not block.flags.writeable or not block.dtype.isnative or min(block.strides, default=0) < 0:
        block = block.astype(block.dtype.newbyteorder("="), copy=True)
    return torch.from_numpy(block)


def column_mean(X: Any) -> Tensor:
    """Mean of the rows (d,), summed in float64."""
    total = torch.zeros(X.shape[1], dtype=torch.float64, device=X.device if isinstance(X, Tensor) else None)
    for block in row_blocks(X, working_dtype(X)):
        total += block.sum(0, dtype=torch.float64)
    return total / X.shape[0]


@dataclasses.dataclass(frozen=True)
class Eigenpairs:
    """Leading eigenpairs of a symmetric matrix: values (k,) descending, vectors (k, d) in rows, both float64.

    `residual` is max_i ||M v_i - lambda_i v_i||, which bounds the error of every value.
    """

    values: Tensor
    vectors: Tensor
    residual: float


class AbstractSecondMoment(abc.ABC):
    """M = (1/n) sum (x - mu)(x - mu)^T behind a product with vectors; `second_moment` chooses how it is held."""

    mean: Tensor  # mu (d,), float64; zeros when not centred

    @property
    def size(self) -> int:
        """The dimension d."""
        return self.mean.shape[0]

    @abc.abstractmethod
    def matvec(self, V: Tensor) -> Tensor:
        """Return M V^T for rows V (k, d), as rows (k, d) in float64."""

    @abc.abstractmethod
    def trace(self) -> float:
        """Return tr M, the mean squared norm of the (centred) rows."""

    @abc.abstractmethod
    def eigenpairs(self, k: int) -> Eigenpairs:
        """Return the min(k, d) leading eigenpairs, with the residual of the worst.

        Raises:
            SolveError: Lanczos iteration did not converge.
        """

    def spectrum(self) -> Tensor | None:
        """All d eigenvalues, descending, where they are known without further work than `eigenpairs`; else None."""
        return None

    @abc.abstractmethod
    def spectral_distance(self, factor: Tensor) -> float:
        """||M - F^T F||_2 for a factor F (k, d), measured on the difference, not taken from the pairs behind F."""

    def excess(self, factor: Tensor, level: float) -> float:
        """Return ||M - F^T F||_2 - level, or a bound of it from above that is rounding."""
        return self.spectral_distance(factor) - level

    def _checked(self, values: Tensor, vectors: Tensor) -> Eigenpairs:
        residual = float((self.matvec(vectors) - values[:, None] * vectors).norm(dim=1).max())
        return Eigenpairs(values.clamp_min(0), vectors, residual)


@dataclasses.dataclass(frozen=True)
class DenseMoment(AbstractSecondMoment):
    """M held as a d x d matrix: tall data.

    Attributes:
        mean: mu (d,).
        matrix: M (d, d), float64.
    """

    mean: Tensor
    matrix: Tensor

    def matvec(self, V: Tensor) -> Tensor:
        return V @ self.matrix

    def trace(self) -> float:
        return float(self.matrix.diagonal().sum())

    def eigenpairs(self, k: int) -> Eigenpairs:
        k = min(k, self.size)
        if self._by_reduction and 4 * k <= self.size:
            with contextlib.suppress(np.linalg.LinAlgError):
                values, vectors = map(torch.from_numpy, self._reduced.leading(k))
                return self._checked(values, vectors)
        if self.size <= DENSE_SIZE or 4 * k > self.size or self.matrix.device.type != "cpu":
            # LAPACK beats Lanczos for small matrices and for many pairs; eigh is ascending
            values, vectors = self._all_pairs
            return self._checked(values.flip(0)[:k].contiguous(), vectors.T.flip(0)[:k].contiguous())
        with contextlib.suppress(SolveError):
            return self._checked(*_lanczos(self.matvec, self.size, k, "LA", max_passes=self._passes(k)))
        return self._checked(*map(torch.from_numpy, self._reduced.leading(k)))

    def _passes(self, k: int) -> int:
        """Products to spend on k pairs until a reduction costs less: in a flat spectrum Lanczos finds no end."""
        return max(1, min(MAX_PASSES, int(PASSES * self.size / (k + OVERSAMPLING))))

    @functools.cached_property
    def _all_pairs(self) -> tuple[Tensor, Tensor]:
        values, vectors = torch.linalg.eigh(self.matrix)
        return values, vectors

    @property
    def _by_reduction(self) -> bool:
        return SMALL_SIZE <= self.size <= DENSE_SIZE and self.matrix.device.type == "cpu"

    @functools.cached_property
    def _reduced(self) -> Tridiagonal:
        return reduce(self.matrix.numpy())

    @functools.cached_property
    def _values(self) -> Tensor:
        return torch.from_numpy(self._reduced.values()) if self._by_reduction else self._all_pairs[0]

    def spectrum(self) -> Tensor | None:
        return None if self.size > DENSE_SIZE else self._values.flip(0).clamp_min(0)

    def spectral_distance(self, factor: Tensor) -> float:
        factor = factor.detach().to(self.mean)
        if self._by_reduction:
            return float(np.abs(reduce((self.matrix - factor.T @ factor).numpy()).values()).max())
        if self.size > DENSE_SIZE:
            with contextlib.suppress(SolveError):
                values, _ = _lanczos(
                    lambda V: self.matvec(V) - (V @ factor.T) @ factor,
                    self.size,
                    1,
                    "LM",
                    self.mean.device,
                    floor=ROUNDING * self.trace(),
                    max_passes=self._passes(1),
                )
                return float(values.abs().max())
        return float(torch.linalg.eigvalsh(self.matrix - factor.T @ factor).abs().max())

    def excess(self, factor: Tensor, level: float) -> float:
        # -b I <= M - F^T F <= b I where both differences have a Cholesky factor: a tenth of the work of eigenvalues
        factor = factor.detach().to(self.mean)
        if self._by_reduction and level > 0.0 and bool(factor.any()):
            rounding = RESOLVED * float(self._values[-1])
            rest = self.matrix - factor.T @ factor
            if all(_is_definite(sign * rest, level + rounding) for sign in (-1.0, 1.0)):
                return rounding
        return self.spectral_distance(factor) - level


def _is_definite(matrix: Tensor, shift: float) -> bool:
    """Whether matrix + shift I has a Cholesky factor; the matrix is overwritten."""
    matrix.diagonal().add_(shift)
    # the transposed view is what LAPACK calls contiguous, and the same matrix
    return LAPACK.dpotrf(matrix.numpy().T, lower=1, clean=0, overwrite_a=1)[1] == 0


@dataclasses.dataclass(frozen=True)
class RowMoment(AbstractSecondMoment):
    """M = A^T A held as its n rows A = (X - mu) / sqrt(n): wide data, d > n; nothing d x d is formed.

    Attributes:
        mean: mu (d,).
        rows: A (n, d).
    """

    mean: Tensor
    rows: Tensor

    def matvec(self, V: Tensor) -> Tensor:
        return ((V.to(self.rows.dtype) @ self.rows.T) @ self.rows).double()

    def trace(self) -> float:
        return float(torch.linalg.vector_norm(self.rows, dtype=torch.float64).square())

    @functools.cached_property
    def gram(self) -> Tensor:
        """A A^T (n, n), whose eigenvalues are those of M that are not zero."""
        return (self.rows @ self.rows.T).double()

    @functools.cached_property
    def _all_pairs(self) -> tuple[Tensor, Tensor]:
        values, vectors = torch.linalg.eigh(self.gram)
        return values, vectors

    def spectrum(self) -> Tensor | None:
        values = self._all_pairs[0].flip(0).clamp_min(0)[: self.size]
        return torch.cat([values, values.new_zeros(self.size - len(values))]) if self.size <= DENSE_SIZE else None

    def spectral_distance(self, factor: Tensor) -> float:
        return float(_row_difference(self.rows, factor.to(self.rows))[0].abs().max())

    def eigenpairs(self, k: int) -> Eigenpairs:
        n = self.rows.shape[0]
        k, kept = min(k, self.size), min(k, n)
        values, left = self._all_pairs
        # QR, not division by the singular value: it keeps orthonormality where a value is tiny or zero
        vectors = torch.linalg.qr((left.T.flip(0)[:kept].to(self.rows.dtype) @ self.rows).T.double()).Q.T
        pairs = self._checked(values.flip(0)[:kept].contiguous(), vectors.contiguous())
        if k == kept:
            return pairs
        # the rank is at most n: further eigenvalues are zero, and no direction belongs to them
        zeros = values.new_zeros(k - kept)
        return Eigenpairs(
            torch.cat([pairs.values, zeros]),
            torch.cat([pairs.vectors, zeros[:, None].expand(-1, self.size)]),
            pairs.residual,
        )


def second_moment(X: Any, *, center: bool) -> AbstractSecondMoment:
    """Measure the second moment of X (n, d), about its mean if `center`, reading tall data once.

    Raises:
        InputError: X holds NaN or infinity.
    """
    n, d = X.shape
    device = X.device if isinstance(X, Tensor) else torch.device("cpu")
    dtype = working_dtype(X)
    if d > n:
        mean = column_mean(X) if center else torch.zeros(d, dtype=torch.float64, device=device)
        rows = torch.empty(n, d, dtype=dtype, device=device)
        start = 0
        for block in row_blocks(X, dtype):
            torch.sub(block, mean.to(dtype), out=rows[start : start + len(block)])
            start += len(block)
        moment: AbstractSecondMoment = RowMoment(mean, rows.div_(n**0.5))
    else:
        moment = DenseMoment(*_gram(X, center=center, dtype=dtype, device=device))
    if not math.isfinite(moment.trace()):
        raise InputError("`X` holds NaN or infinity (or overflows when squared); clean or rescale it first")
    return moment


def _row_difference(A: Tensor, B: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Spectrum of A^T A - B^T B for rows A (n, d), B (m, d): nothing d x d is formed.

    With [A; B]^T = Q R it is that of R J R^T, J = diag(I, -I), and Q w is the eigenvector that belongs to w. Products
    of R lose eps ||A||^2; roots of a Gram matrix's eigenvalues would lose sqrt(eps) ||A||^2.

    Returns:
        Eigenvalues (p,), eigenvectors w in columns (p, p), and Q (d, p), p <= n + m.
    """
    Q, R = torch.linalg.qr(torch.cat([A, B]).T)
    R = R.double()
    values, w = torch.linalg.eigh(R[:, : len(A)] @ R[:, : len(A)].T - R[:, len(A) :] @ R[:, len(A) :].T)
    return values, w, Q


def moment_difference(first: AbstractSecondMoment, second: AbstractSecondMoment) -> tuple[float, Tensor]:
    """||M_1 - M_2||_2 and the unit vector (d,) that attains it: LAPACK's full spectrum for small d, else Lanczos."""
    if first.size <= DENSE_SIZE:
        identity = torch.eye(first.size, dtype=torch.float64, device=first.mean.device)
        values, vectors = torch.linalg.eigh(first.matvec(identity) - second.matvec(identity).to(identity))
        vectors = vectors.T
    elif isinstance(first, RowMoment) and isinstance(second, RowMoment):
        dtype = torch.promote_types(first.rows.dtype, second.rows.dtype)
        values, w, Q = _row_difference(first.rows.to(dtype), second.rows.to(first.rows.device, dtype))
        top = int(values.abs().argmax())
        return float(values[top].abs()), torch.nn.functional.normalize(Q.double() @ w[:, top], dim=0)
    else:
        noise = ROUNDING * max(first.trace(), second.trace())
        values, vectors = _lanczos(
            lambda V: first.matvec(V) - second.matvec(V), first.size, 1, "LM", first.mean.device, floor=noise
        )
    top = int(values.abs().argmax())
    return float(values[top].abs()), vectors[top]


def _gram(X: Any, *, center: bool, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """One pass over tall data: mean (d,) and second moment about it (d, d), both float64.

    Rows are shifted, by the mean of the first (bytes by 128, and summed exactly), so that the final rank-one
    correction cancels no digits.
    """
    n, d = X.shape
    total = torch.zeros(d, dtype=torch.float64, device=device)
    matrix = torch.zeros(d, d, dtype=torch.float64, device=device)
    in_bytes = as_tensor(X[:0]).dtype == torch.uint8
    shift = torch.full_like(total, 128.0) if in_bytes else torch.zeros_like(total)
    for index, block in enumerate(row_blocks(X, torch.uint8 if in_bytes else dtype)):
        if in_bytes:
            block = signed_bytes(block)
        elif center:
            if index == 0:
                shift = block[:SHIFT_ROWS].mean(0).double()
            block = block - shift.to(dtype)
        # bytes exactly; floats pairwise, as they are: to widen each number first takes longer than its products
        total += block.sum(0, dtype=torch.int32 if in_bytes else dtype)
        add_gram(matrix, block)
    return recentred(symmetrised(matrix).div_(n), total / n, shift, center=center)


def recentred(matrix: Tensor, delta: Tensor, shift: Tensor, *, center: bool) -> tuple[Tensor, Tensor]:
    """Turn E y y^T and E y of y = x - shift into the mean of x, or 0, and the second moment about it (in place)."""
    if center:
        return shift + delta, matrix.addr_(delta, delta, alpha=-1.0)
    matrix.addr_(shift, shift + delta).addr_(delta, shift)
    return torch.zeros_like(shift), matrix


def _lanczos(
    matvec: Callable[[Tensor], Tensor],
    size: int,
    k: int,
    which: Literal["LA", "LM"],
    device: torch.device | None = None,
    *,
    floor: float = 0.0,
    max_passes: int = MAX_PASSES,
) -> tuple[Tensor, Tensor]:
    """Extreme eigenpairs of a symmetric operator to rounding, values descending, vectors in rows.

    Residuals below `floor` are the operator's own rounding.
    """
    tolerance = VALUE_TOLERANCE if which == "LM" else PAIR_TOLERANCE
    found = block_lanczos(
        matvec,
        random_block(k + OVERSAMPLING, size, device or torch.device("cpu")),
        k=k,
        tolerances=lambda values: (tolerance * values.abs().max()).clamp_min(floor).expand_as(values),
        by_magnitude=which == "LM",
        max_passes=max_passes,
    )
    if not found.converged:
        raise SolveError(f"block Lanczos did not converge for {k} eigenpairs of size {size}", found)
    order = found.values.argsort(descending=True)
    return found.values[order], found.vectors[order]
