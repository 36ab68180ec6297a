"""Extreme eigenpairs of a symmetric operator that is only known by its products with blocks of vectors."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor

OVERSAMPLING = 16  # vectors in a block beyond the pairs asked for
MAX_PASSES = 400
BASIS_SIZE = 512  # the basis restarts beyond so many vectors, or beyond `basis_blocks` blocks


@dataclasses.dataclass(frozen=True)
class Krylov:
    """Extreme eigenpairs of a symmetric operator from a block Lanczos basis.

    Attributes:
        values: Ritz values (k,), in the order asked for.
        vectors: Ritz vectors in rows (k, d).
        residuals: ||A v_i - theta_i v_i|| of each pair (k,).
        passes: products with the operator.
        converged: whether every residual met its tolerance.
        basis: orthonormal rows Q (N, d).
        projection: T = Q A Q^T (N, N).
        remainder: R (b, d), what A times the last b basis vectors has outside the basis; A Q^T = Q^T T + [0, R^T].
    """

    values: Tensor
    vectors: Tensor
    residuals: Tensor
    passes: int
    converged: bool
    basis: Tensor
    projection: Tensor
    remainder: Tensor


def block_lanczos(
    product: Callable[[Tensor], Tensor],
    start: Tensor,
    *,
    k: int,
    tolerances: Callable[[Tensor], Tensor],
    by_magnitude: bool = False,
    max_passes: int = MAX_PASSES,
    basis_blocks: int = 6,
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
        basis_blocks: blocks to keep before restarting: more for dear products, fewer for cheap ones.

    References:
        Golub and Underwood, The block Lanczos method for computing eigenvalues, 1977.
    """
    d = start.shape[1]
    basis, width = orthonormal(start), start.shape[0]
    last, T, passes, scale = basis, start.new_zeros(0, 0), 0, 0.0
    while True:
        remainder = product(last)
        passes += 1
        H = remainder @ basis.T
        # the whole basis, not the last two blocks as in exact arithmetic: rounding brings pairs back that were found
        remainder -= H @ basis
        # a second time: after cancellation one projection leaves rounding errors as large as the remainder itself
        again = remainder @ basis.T
        remainder -= again @ basis
        H += again
        N, b = len(basis), len(last)
        grown = T.new_zeros(N, N)
        grown[: N - b, : N - b] = T
        grown[N - b :], grown[:, N - b :] = H, H.T
        # symmetric in exact arithmetic; eigh reads one triangle only, so neither may be favoured
        corner = H[:, N - b :]
        grown[N - b :, N - b :] = (corner + corner.T) / 2
        T = grown
        values, S = torch.linalg.eigh(T)
        order = (values.abs() if by_magnitude else values).argsort(descending=True)
        values, S = values[order], S[:, order]
        kept = min(k, N)
        # only the last block's rows of S meet the remainder: no product with A is spent on residuals
        residuals = (S[N - b :, :kept].T @ remainder).norm(dim=1)
        # over all passes: a restart may start with small Ritz values, and rounding remembers the large ones
        scale = max(scale, float(values.abs().max()))
        converged = kept == k and bool((residuals <= tolerances(values[:kept])).all())
        # deflation: directions at the rounding error of A are noise, and as new basis vectors would be false Ritz pairs
        last = orthonormal(remainder, floor=1e-12 * scale)
        if converged or len(last) == 0 or d == N or passes >= max_passes:
            # orthonormal once more: long bases lose digits; QR may flip signs, which the next line takes back
            vectors = torch.linalg.qr((S[:, :kept].T @ basis).T).Q.T
            vectors *= ((S[:, :kept].T @ basis) * vectors).sum(1).sign()[:, None]
            done = converged or len(last) == 0 or d == N
            return Krylov(values[:kept], vectors, residuals, passes, done, basis, T, remainder)
        # no more than the space has room for
        last = last[: d - N]
        if N + len(last) > max(basis_blocks * width, 2 * k + width, BASIS_SIZE):
            # thick restart: the best Ritz vectors, and a product with them, since T of the new basis is not kept
            basis = last = orthonormal(S[:, : max(width, k)].T @ basis)
            T = T.new_zeros(0, 0)
        else:
            basis = torch.cat([basis, last])


def orthonormal(rows: Tensor, floor: float = 0.0) -> Tensor:
    """An orthonormal basis of the rows' span, in rows; directions of singular value <= floor are dropped."""
    # QR alone fills a lost rank with arbitrary directions: trusted only if no pivot is near zero, else the SVD cuts
    Q, R = torch.linalg.qr(rows.T)
    if float(R.diagonal().abs().min()) > max(floor, 1e-8 * float(R.diagonal().abs().max())):
        return Q.T
    _, sigma, V = torch.linalg.svd(rows, full_matrices=False)
    floor = max(floor, float(sigma.max()) * len(rows) * torch.finfo(rows.dtype).eps)
    return V[sigma > floor]


def random_block(rows: int, size: int, device: torch.device) -> Tensor:
    """A fixed Gaussian block (rows, size) to start from, float64: the same computation gives the same bits."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(min(rows, size), size, generator=generator, dtype=torch.float64).to(device)
