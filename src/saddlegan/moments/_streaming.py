"""Moments of data that do not fit: the exact Gram matrix in one pass, and leading eigenpairs by block Lanczos above.

Bytes are summed in integers, so their Gram matrix is exact and every engine returns the same bits.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math

import torch
from torch import Tensor

from saddlegan.errors import InputError, SolveError
from saddlegan.moments._engines import AbstractBlocks, AbstractKernel, Passes, Totals
from saddlegan.moments._gram import add_gram, signed_bytes, symmetrised
from saddlegan.moments._lanczos import OVERSAMPLING, Krylov, block_lanczos, orthonormal, random_block
from saddlegan.moments._second_moment import AbstractSecondMoment, DenseMoment, Eigenpairs, recentred

STREAM_PASSES = 60
GRAM_SIZE = 4096  # above, d x d is not formed: 128 MiB in float64 here, and growing with d^2


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
        in_bytes = block.dtype == torch.uint8
        rows = signed_bytes(block) if in_bytes else block.to(self.dtype) - self.shift.to(self.dtype)
        total += rows.sum(0, dtype=torch.float64)
        add_gram(matrix, rows)

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
        rows = rows - self.shift if rows is block else rows.sub_(self.shift)
        left = torch.ones(len(rows), len(self.V) + 1, dtype=rows.dtype, device=rows.device)
        torch.matmul(rows, self.V.T, out=left[:, :-1])
        product += left.T @ rows
        square += torch.linalg.vector_norm(rows, dtype=torch.float64).square()

    def fingerprint(self) -> str:
        return f"product {_digest(self.shift)} {_digest(self.V)}"


def _digest(tensor: Tensor) -> str:
    return hashlib.sha256(tensor.cpu().contiguous().numpy().tobytes()).hexdigest()


def gram_moment(
    blocks: AbstractBlocks, passes: Passes, *, shift: Tensor, dtype: torch.dtype, label: str
) -> DenseMoment:
    """Mean and covariance of the rows in one pass, held as d x d.

    Args:
        blocks: the rows (n, d).
        passes: runs the pass.
        shift: (d,), near the mean.
        dtype: of the products; torch.uint8 for bytes, which are summed exactly.
        label: for the progress bar.

    Raises:
        InputError: NaN or infinity.
    """
    n = blocks.shape[0]
    if dtype == torch.uint8:
        shift = torch.full_like(shift, 128.0)
    total, matrix = passes.run(blocks, GramKernel(shift, dtype, label))
    moment = DenseMoment(*recentred(symmetrised(matrix).div_(n), total / n, shift.to(torch.float64), center=True))
    _check_finite(moment.trace())
    return moment


def _check_finite(trace: float) -> None:
    if not math.isfinite(trace):
        raise InputError("`X` holds NaN or infinity (or overflows when squared); clean or rescale it first")


class StreamedMoment(AbstractSecondMoment):
    """Covariance of rows that are read again for every product; nothing d x d is held.

    The first pass multiplies a start block and measures mean and trace on the way: centring costs no pass of its own.

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
        self._guess = orthonormal(start)
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

        found = block_lanczos(
            self._product, self._guess, k=k, tolerances=tolerances, max_passes=STREAM_PASSES, basis_blocks=16
        )
        if not found.converged:
            raise SolveError(
                f"block Lanczos did not reach {self.tolerance:g} lambda_1 for {k} eigenpairs in {found.passes} passes: "
                f"the worst residual is {float(found.residuals.max()):.3g}; raise `tolerance`",
                found,
            )
        self._found = found
        return Eigenpairs(found.values.clamp_min(0), found.vectors, float(found.residuals.max()))

    def spectral_distance(self, factor: Tensor) -> float:
        """||(M - F^T F) Q^T||_2 over the whole Lanczos basis Q that `eigenpairs` left, which needs no further pass.

        A lower bound of ||M - F^T F||_2 that only a direction which every pass has missed could exceed. Factors outside
        that basis are measured by block Lanczos on the difference.
        """
        factor = factor.to(self.mean)
        found = self._found
        if found is not None:
            inside = factor @ found.basis.T
            if float((factor - inside @ found.basis).norm()) <= 1e-6 * float(factor.norm()):
                rest = factor.new_zeros(len(found.basis), len(found.remainder))
                rest[-len(found.remainder) :] = torch.linalg.qr(found.remainder.T).R.T
                return float(torch.linalg.matrix_norm(torch.cat([found.projection - inside.T @ inside, rest], 1), 2))
        found = block_lanczos(
            lambda V: self.matvec(V) - (V @ factor.T) @ factor,
            random_block(OVERSAMPLING, self.size, factor.device),
            k=1,
            tolerances=lambda values: self.tolerance * values.abs(),
            by_magnitude=True,
            max_passes=12,
        )
        return float(found.values.abs().max())
