"""Moments of data that do not fit: the exact Gram matrix in one pass, and leading eigenpairs by block Lanczos above.

Bytes are summed in integers, so their Gram matrix is exact and every engine returns the same bits.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import math
from collections.abc import Callable

import torch
from torch import Tensor

from saddlegan._engines import AbstractBlocks, AbstractKernel, Passes, Totals
from saddlegan._linalg import PANELS, AbstractSecondMoment, DenseMoment, Eigenpairs
from saddlegan.errors import InputError, SolveError

GRAM_SIZE = 4096  # above, d x d is not formed: 128 MiB in float64 here, and growing with d^2
INTEGER_ROWS = 1 << 16  # 2^16 products of two signed bytes stay below 2^31
FLOAT_ROWS = 1 << 10  # 2^10 products of two signed bytes are exact in float32: 2^10 * 2^14 = 2^24
OVERSAMPLING = 16
MAX_PASSES = 48
BASIS_BLOCKS = 12  # blocks of the Lanczos basis before it restarts


@functools.cache
def integer_products() -> bool:
    """Whether this machine multiplies signed bytes into 32-bit integers without saturation."""
    extremes = torch.tensor([-128, 127, -128, -127], dtype=torch.int8).repeat(8, 16)
    try:
        product = torch._int_mm(extremes, extremes.T.contiguous())
    except (RuntimeError, AttributeError):
        return False
    return bool((product == extremes.int() @ extremes.T.int()).all())


def _byte_gram(block: Tensor, low: int, high: int) -> Tensor:
    """Rows low to high of the lower triangle of sum (x - 128)(x - 128)^T over bytes x (m, d), exactly."""
    signed = (block ^ 128).view(torch.int8)
    if block.device.type == "cpu" and integer_products():
        return torch._int_mm(signed[:, low:high].T.contiguous(), signed[:, :high])
    parts = [part[:, low:high].float().T @ part[:, :high].float() for part in signed.split(FLOAT_ROWS)]
    return functools.reduce(torch.add, (part.double() for part in parts))


@dataclasses.dataclass(frozen=True)
class GramKernel(AbstractKernel):
    """Sum of rows (d,) and of their outer products (d, d), about `shift`; bytes about 128, in integers.

    Attributes:
        shift: (d,); near the mean, so that centring afterwards cancels no digits.
        dtype: of the products of rows that are not bytes.
        label: for the progress bar.
    """

    shift: Tensor
    dtype: torch.dtype
    label: str

    def start(self) -> Totals:
        d = len(self.shift)
        like = {"dtype": torch.float64, "device": self.shift.device}
        return torch.zeros(d, **like), torch.zeros(d, d, **like)

    def add(self, totals: Totals, block: Tensor) -> None:
        total, matrix = totals
        d = block.shape[1]
        edges = [d * p // PANELS for p in range(PANELS + 1)] if d > 1024 else [0, d]
        if block.dtype == torch.uint8:
            total += block.sum(0, dtype=torch.int64) - 128 * len(block)
            for part in block.split(INTEGER_ROWS):
                for low, high in zip(edges, edges[1:], strict=False):
                    matrix[low:high, :high] += _byte_gram(part, low, high)
            return
        rows = block.to(self.dtype) - self.shift.to(self.dtype)
        total += rows.sum(0, dtype=torch.float64)
        for low, high in zip(edges, edges[1:], strict=False):
            matrix[low:high, :high] += rows[:, low:high].T @ rows[:, :high]

    def fingerprint(self) -> str:
        return f"gram {_digest(self.shift)} {self.dtype}"


@dataclasses.dataclass(frozen=True)
class ProductKernel(AbstractKernel):
    """Sum of ((x - s) . [V, 1]) (x - s)^T and of ||x - s||^2: the product with V (k, d) and the mean in one pass.

    Attributes:
        shift: s (d,).
        V: vectors in rows (k, d), in the dtype of the products.
        label: for the progress bar.
    """

    shift: Tensor
    V: Tensor
    label: str

    def start(self) -> Totals:
        k, d = self.V.shape
        like = {"dtype": torch.float64, "device": self.V.device}
        return torch.zeros(k + 1, d, **like), torch.zeros((), **like)

    def add(self, totals: Totals, block: Tensor) -> None:
        product, square = totals
        rows = block.to(self.V.dtype)
        rows = rows.sub_(self.shift) if rows is not block else rows - self.shift
        left = torch.ones(len(rows), len(self.V) + 1, dtype=rows.dtype, device=rows.device)
        torch.matmul(rows, self.V.T, out=left[:, :-1])
        product += left.T @ rows
        square += torch.linalg.vector_norm(rows).double().square()

    def fingerprint(self) -> str:
        return f"product {_digest(self.shift)} {_digest(self.V)}"


def _digest(tensor: Tensor) -> str:
    return hashlib.sha256(tensor.cpu().contiguous().numpy().tobytes()).hexdigest()


def gram_moment(blocks: AbstractBlocks, passes: Passes, *, shift: Tensor, dtype: torch.dtype, label: str) -> DenseMoment:
    """Mean and covariance of the rows in one pass, held as d x d.

    Args:
        blocks: the rows (n, d).
        passes: runs the pass.
        shift: (d,), near the mean.
        dtype: of the products of rows that are not bytes; bytes are summed exactly.
        label: for the progress bar.

    Raises:
        InputError: NaN or infinity.
    """
    n, d = blocks.shape
    bytes_ = dtype == torch.uint8
    kernel = GramKernel(shift, torch.float32 if bytes_ else dtype, label)
    total, matrix = passes.run(blocks, kernel)
    origin = torch.full_like(total, 128.0) if bytes_ else shift.to(dtype).double()
    matrix = matrix.tril_() + matrix.tril(-1).T
    delta = total / n
    matrix.div_(n).addr_(delta, delta, alpha=-1.0)
    moment = DenseMoment(origin + delta, matrix)
    _check_finite(moment.trace())
    return moment


def _check_finite(trace: float) -> None:
    if not math.isfinite(trace):
        raise InputError("`X` holds NaN or infinity (or overflows when squared); clean or rescale it first")


@dataclasses.dataclass(frozen=True)
class Krylov:
    """Extreme eigenpairs of a symmetric operator from a block Lanczos basis.

    Attributes:
        values: Ritz values (k,), in the order asked for.
        vectors: Ritz vectors in rows (k, d).
        residuals: ||A v_i - theta_i v_i|| of each pair (k,).
        passes: products with the operator.
        converged: whether every residual met its tolerance.
    """

    values: Tensor
    vectors: Tensor
    residuals: Tensor
    passes: int
    converged: bool


def block_lanczos(
    product: Callable[[Tensor], Tensor],
    start: Tensor,
    *,
    k: int,
    tolerances: Callable[[Tensor], Tensor],
    by_magnitude: bool = False,
    max_passes: int = MAX_PASSES,
) -> Krylov:
    """Leading eigenpairs of a symmetric operator A by block Lanczos with full reorthogonalisation.

    Each pass multiplies A with one block of vectors; the pairs are the best ones of all blocks so far (Rayleigh-Ritz).
    As A Q_j lies in the basis and the newest remainder R, residuals come without another product: ||s_j^T R||.

    Args:
        product: V (b, d) to A V in rows.
        start: block of b >= 1 vectors in rows; good guesses save passes.
        k: number of pairs; at most d.
        tolerances: Ritz values (k,) to the residuals (k,) that are small enough.
        by_magnitude: order by |value| instead of by value.
        max_passes: products to spend.

    References:
        Golub and Underwood, The block Lanczos method, 1977; Saad, Numerical Methods for Large Eigenvalue Problems, 2011.
    """
    d = start.shape[1]
    basis, width = _orthonormal(start), start.shape[0]
    last, T, passes, scale = basis, start.new_zeros(0, 0), 0, 0.0
    while True:
        remainder = product(last)
        passes += 1
        H = remainder @ basis.T
        remainder -= H @ basis
        again = remainder @ basis.T
        remainder -= again @ basis
        H += again
        N, b = len(basis), len(last)
        grown = T.new_zeros(N, N)
        grown[: N - b, : N - b] = T
        grown[N - b :], grown[:, N - b :] = H, H.T
        corner = H[:, N - b :]
        grown[N - b :, N - b :] = (corner + corner.T) / 2
        T = grown
        values, S = torch.linalg.eigh(T)
        order = (values.abs() if by_magnitude else values).argsort(descending=True)
        values, S = values[order], S[:, order]
        kept = min(k, N)
        residuals = (S[N - b :, :kept].T @ remainder).norm(dim=1)
        scale = max(scale, float(values.abs().max()))
        converged = kept == k and bool((residuals <= tolerances(values[:kept])).all())
        last = _orthonormal(remainder, floor=1e-12 * scale)
        if converged or len(last) == 0 or N == d or passes >= max_passes:
            vectors = torch.linalg.qr((S[:, :kept].T @ basis).T).Q.T
            vectors *= ((S[:, :kept].T @ basis) * vectors).sum(1).sign()[:, None]
            return Krylov(values[:kept], vectors, residuals, passes, converged or len(last) == 0 or N == d)
        last = last[: d - N]
        if N + len(last) > max(BASIS_BLOCKS * width, 2 * k + width):
            basis = last = _orthonormal(S[:, : max(width, k)].T @ basis)
            T = T.new_zeros(0, 0)
        else:
            basis = torch.cat([basis, last])


def _orthonormal(rows: Tensor, floor: float = 0.0) -> Tensor:
    """An orthonormal basis of the rows' span, in rows; directions of singular value <= floor are dropped."""
    _, sigma, V = torch.linalg.svd(rows, full_matrices=False)
    floor = max(floor, float(sigma.max()) * len(rows) * torch.finfo(rows.dtype).eps)
    return V[sigma > floor]


class StreamedMoment(AbstractSecondMoment):
    """Covariance of rows that are read again for every product; nothing d x d is held.

    The first pass multiplies a start block and measures mean and trace on the way, so centring costs no pass of its own.

    Args:
        blocks: the rows (n, d).
        passes: runs the passes.
        start: guesses of the leading eigenvectors in rows (b, d).
        shift: guess of the mean (d,).
        dtype: of the products.
        tolerance: residual of a kept pair, relative to the largest eigenvalue.
        label: for the progress bar.

    Raises:
        InputError: NaN or infinity.
    """

    def __init__(
        self,
        blocks: AbstractBlocks,
        passes: Passes,
        *,
        start: Tensor,
        shift: Tensor,
        dtype: torch.dtype,
        tolerance: float,
        label: str,
    ) -> None:
        self._blocks, self._passes, self._label = blocks, passes, label
        self._dtype, self.tolerance = dtype, tolerance
        self._shift = shift.to(dtype)
        self._delta = torch.zeros_like(shift)
        self._guess = _orthonormal(start)
        raw, square = self._raw(self._guess)
        self._delta = raw[-1] / blocks.shape[0]
        self.mean = self._shift.double() + self._delta
        self._trace = float(square) / blocks.shape[0] - float(self._delta.square().sum())
        _check_finite(self._trace)
        self._first: Tensor | None = self._centred(raw, self._guess)
        self._found: Krylov | None = None

    def _raw(self, V: Tensor) -> Totals:
        return self._passes.run(self._blocks, ProductKernel(self._shift, V.to(self._dtype), self._label))

    def _centred(self, raw: Tensor, V: Tensor) -> Tensor:
        return raw[:-1] / self._blocks.shape[0] - torch.outer(V @ self._delta, self._delta)

    def matvec(self, V: Tensor) -> Tensor:
        raw, _ = self._raw(V)
        return self._centred(raw, V)

    def trace(self) -> float:
        return self._trace

    def _product(self, V: Tensor) -> Tensor:
        if self._first is not None and V is self._guess:
            product, self._first = self._first, None
            return product
        return self.matvec(V)

    def eigenpairs(self, k: int) -> Eigenpairs:
        k = min(k, self.size)

        def tolerances(values: Tensor) -> Tensor:
            return self.tolerance * values[0] * torch.ones_like(values)

        found = block_lanczos(self._product, self._guess, k=k, tolerances=tolerances)
        if not found.converged:
            raise SolveError(
                f"block Lanczos did not reach {self.tolerance:g} lambda_1 for {k} eigenpairs in {found.passes} passes: the "
                f"worst residual is {float(found.residuals.max()):.3g}; raise `tolerance`",
                found,
            )
        self._found = found
        return Eigenpairs(found.values.clamp_min(0), found.vectors, float(found.residuals.max()))

    def spectral_distance(self, factor: Tensor) -> float:
        factor = factor.to(self.mean)
        generator = torch.Generator().manual_seed(0)
        start = torch.randn(OVERSAMPLING, self.size, generator=generator, dtype=torch.float64).to(factor.device)
        found = block_lanczos(
            lambda V: self.matvec(V) - (V @ factor.T) @ factor,
            start,
            k=1,
            tolerances=lambda values: self.tolerance * values.abs(),
            by_magnitude=True,
            max_passes=8,
        )
        return float(found.values.abs().max())
