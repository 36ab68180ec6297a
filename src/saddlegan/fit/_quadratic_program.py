"""Theory 1.2: equation (2), the saddle point of the WGAN with a quadratic discriminator, from second moments alone."""

from __future__ import annotations

import dataclasses
import math
import time

import torch
from torch import Tensor

from saddlegan.errors import InputError, SolveError
from saddlegan.moments._second_moment import AbstractSecondMoment
from saddlegan.results import Solution, Status

NOISE = 1e-4  # of the tolerance: eigenvalues below that, relative to the largest, are rounding of zero


@dataclasses.dataclass(frozen=True)
class QuadraticOptimum:
    """The saddle point (2): generator weight and discriminator directions, with their certificate.

    Attributes:
        beta: the constraint's right side.
        eigenvalues: the leading eigenvalues lambda_1 >= ... of M (k,).
        components: their eigenvectors in rows (k, d).
        weight: W* (m, d) for m features; m = k when the features are the latents.
        factor: F (k, d) with P* = F^T F.
        kept: number of eigenvalues above beta, the rank of P* and of Lambda*.
        solution: primal value, dual bound, gap, residuals.
    """

    beta: float
    eigenvalues: Tensor
    components: Tensor
    weight: Tensor
    factor: Tensor
    kept: int
    solution: Solution


def solve_quadratic(
    moment: AbstractSecondMoment,
    *,
    n_latent: int,
    beta: float | str = "auto",
    feature_moment: Tensor | None = None,
    tolerance: float = 1e-9,
) -> QuadraticOptimum:
    """Minimise tr P subject to ||M - P||_2 <= beta and rank P <= k: equation (2), with the dual as proof.

        P* = sum_i (lambda_i - beta)_+ v_i v_i^T,    W* = U_S sigma^(-1/2) (lambda - beta)_+^(1/2) V^T

    Args:
        moment: M, from `saddlegan.moments._second_moment.second_moment`.
        n_latent: k when the features are the latents themselves (S = I).
        beta: right side of the constraint, or "auto" for the smallest feasible one, lambda_{k+1}.
        feature_moment: S = E phi phi^T (m, m); k is then its rank. None means S = I.
        tolerance: the relative residual up to which the solution counts as optimal.

    Returns:
        The optimum. Its primal value is measured on W*, its bound on Lambda*, its primal residual on M - P*.

    Raises:
        InputError: no generator with k latents satisfies the constraint at this `beta`; the message names the smallest
            feasible one.
        SolveError: an eigenpair is not accurate enough; the solution so far is its `result`.

    References:
        [S22] theorem 3.2 and appendix; theory, equation (2).
    """
    started = time.perf_counter()
    root, rank = _inverse_root(feature_moment, n_latent, moment.mean)
    pairs = moment.eigenpairs(rank + 1)
    values, vectors = pairs.values, pairs.vectors
    scale = float(values[0])
    # an eigenvalue that rounding cannot tell from 0 is 0: the rank is reached, and so is M itself
    values = torch.where(values > NOISE * tolerance * scale, values, 0.0)
    smallest = float(values[rank]) if rank < len(values) else 0.0
    level = smallest if beta == "auto" else float(beta)
    slack = tolerance * scale
    if level < smallest - slack:
        raise InputError(
            f"`beta`={level:g} is not feasible with {rank} latent features: the smallest feasible beta is "
            f'{_round_up(smallest)} (use it, "auto", or more latents)'
        )
    values, vectors = values[:rank], vectors[:rank]
    shrunk = (values - level).clamp_min(0)
    kept = int((shrunk > 0).sum())
    factor = shrunk.sqrt()[:, None] * vectors
    weight = root[:, : len(factor)] @ factor

    # measured on W* itself, not on the eigenvalues it was made of: the two sides of the gap stay independent
    feature_square = weight.square().sum() if feature_moment is None else ((feature_moment @ weight) * weight).sum()
    value = float(feature_square)
    witness = vectors[:kept]
    # any Lambda >= 0 scaled to lambda_max <= 1 is dual feasible, so rounding in the eigenvectors cannot break the bound
    top = float(torch.linalg.matrix_norm(witness, 2)) ** 2 if kept else 0.0
    dual = float((moment.matvec(witness) * witness).sum()) - level * float(witness.square().sum())
    bound = max(0.0, dual / max(1.0, top))
    # of the factor that is handed out, on M - P itself: eigenvectors that lost orthogonality show here
    primal_residual = moment.excess(factor, level)
    gap = value - bound
    optimal = abs(gap) <= slack * max(1, kept) and primal_residual <= slack
    solution = Solution(
        value=value,
        bound=bound,
        gap=gap,
        status=Status.OPTIMAL if optimal else Status.FAILED,
        stats={
            "beta": level,
            "primal_residual": primal_residual,
            "dual_residual": top - 1.0 if kept else 0.0,
            "eigenpair_residual": pairs.residual,
            "weight_norm_squared": float(weight.square().sum()),
            "kept": kept,
            "smallest_feasible_beta": smallest,
            "total_moment": moment.trace(),
            "solve_seconds": time.perf_counter() - started,
        },
    )
    if not optimal:
        raise SolveError(
            f"the solution is not proved to {tolerance:g} of the largest eigenvalue {scale:.3g}: gap {gap:.3g}, "
            f"constraint exceeded by {primal_residual:.3g}, eigenpair residual {pairs.residual:.3g}",
            solution,
        )
    return QuadraticOptimum(level, values, vectors, weight, factor, kept, solution)


def _inverse_root(S: Tensor | None, n_latent: int, like_: Tensor) -> tuple[Tensor, int]:
    """Return U_S sigma^(-1/2), descending, and the rank of S."""
    if S is None:
        return torch.eye(n_latent, dtype=like_.dtype, device=like_.device), n_latent
    sigma, U = torch.linalg.eigh(S)
    sigma, U = sigma.flip(0), U.flip(1)
    # what rounding leaves of zero eigenvalues: their inverse roots would fill W with noise
    rank = int((sigma > len(sigma) * torch.finfo(S.dtype).eps * sigma[0]).sum())
    if rank == 0:
        raise InputError("`features` are constant: their second moment has rank 0")
    return U[:, :rank] / sigma[:rank].sqrt(), rank


def _round_up(number: float) -> str:
    """Print a positive number with 6 digits, rounded up, so that whoever types it is feasible."""
    if number <= 0:
        return "0"
    step = 10.0 ** (math.floor(math.log10(number)) - 5)
    return f"{math.ceil(number / step) * step:.6g}"
