"""Theory 1.6: the stages of ProCoGAN as a chain of solves (2) on the exact moments of linear features."""

from __future__ import annotations

import dataclasses
import time

import torch
from torch import Tensor

from saddlegan.errors import InputError
from saddlegan.fit._quadratic import QuadraticOptimum, solve_quadratic
from saddlegan.fit._quadratic_program import NOISE
from saddlegan.fit._saved import record
from saddlegan.fit.progressive._images import AbstractImages, ImageBlocks, enlarge
from saddlegan.moments._lanczos import OVERSAMPLING, random_block
from saddlegan.moments._second_moment import DENSE_SIZE, AbstractSecondMoment, DenseMoment, Eigenpairs, second_moment
from saddlegan.moments._streaming import GRAM_SIZE, Passes, StreamedMoment, gram_moment
from saddlegan.results import Solution

WIDE_ROWS = 1024  # fewer images than pixels: up to here the n x n matrix of the rows is diagonalised instead
RANK_TOLERANCE = 1e-10  # variances below, relative to the largest, are rounding: dividing by them loses everything
ALIGNED = 0.1  # cosine from which an eigenvector counts as the sharpened one of the stage before
FRESH_VARIANCE = 0.5  # of the first fresh latent, in units of the smallest variance handed up


@record
@dataclasses.dataclass(frozen=True, repr=False)
class Stage:
    """One resolution of ProCoGAN, solved.

    Its samples are mean + z[:k] F for latents z ~ N(0, I), and z is shared with every other stage.

    Attributes:
        resolution: r.
        beta: lambda_{k+1} of the data at this resolution, the constraint's right side.
        mean: mu_r (d,) of the data, d = r r c.
        eigenvalues: lambda_1 >= ... >= lambda_k of their covariance.
        components: eigenvectors in rows (k, d); their signs follow the stage before.
        factor: F (k, d), the population covariance of the samples is F^T F.
        weight: W* (m, d) of equation (2) on the features [enlarged output of the stage before, fresh latents].
        fresh: number of latents that enter here.
        kept: rank of the samples' covariance.
        solution: primal value, dual bound, gap and residuals.
    """

    resolution: int
    beta: float
    mean: Tensor
    eigenvalues: Tensor
    components: Tensor
    factor: Tensor
    weight: Tensor
    fresh: int
    kept: int
    solution: Solution

    def __repr__(self) -> str:
        return f"Stage({self.resolution}, kept={self.kept}, fresh={self.fresh}, beta={self.beta:.6g})"


class AlignedMoment(AbstractSecondMoment):
    """A moment whose eigenpairs are known and signed, answering again without another pass over the data.

    Args:
        moment: M.
        pairs: its leading eigenpairs.
        reference: directions in rows (k', d); each eigenvector is turned to point along its own. Those without one are
            turned towards brightness.
        noise: values below, relative to the largest, are rounding of zero.
    """

    def __init__(self, moment: AbstractSecondMoment, pairs: Eigenpairs, reference: Tensor, *, noise: float) -> None:
        self._moment = moment
        self.mean = moment.mean
        vectors, values = pairs.vectors.clone(), pairs.values.clone()
        values[values <= noise * values[0]] = 0.0
        # brightness decides, and a fixed random direction where a vector has none
        along = vectors @ (1.0 + random_block(1, vectors.shape[1], vectors.device)[0])
        known = min(len(reference), len(vectors))
        cosines = (vectors[:known] * reference[:known]).sum(1)
        along[:known] = torch.where(cosines.abs() > ALIGNED, cosines, along[:known])
        vectors[along < 0] *= -1.0
        self._products = moment.matvec(vectors)
        self.residuals = (self._products - values[:, None] * vectors).norm(dim=1)
        self._pairs = Eigenpairs(values, vectors, float(self.residuals.max()))

    def matvec(self, V: Tensor) -> Tensor:
        if torch.equal(V, self._pairs.vectors[: len(V)]):
            return self._products[: len(V)]
        return self._moment.matvec(V)

    def trace(self) -> float:
        return self._moment.trace()

    def eigenpairs(self, k: int) -> Eigenpairs:
        return Eigenpairs(self._pairs.values[:k], self._pairs.vectors[:k], self._pairs.residual)

    def spectral_distance(self, factor: Tensor) -> float:
        return self._moment.spectral_distance(factor)


@dataclasses.dataclass(frozen=True)
class _Features:
    """phi = [enlarged output of the stage before, along its principal directions; fresh latents], about its mean.

    Attributes:
        directions: where the old coordinates point among the pixels, orthonormal rows (p, d).
        latents: A (L, m) with phi = z A for the L latents so far.
        moment: S = A^T A (m, m), diagonal and descending.
    """

    directions: Tensor
    latents: Tensor
    moment: Tensor


def _features(before: Stage | None, resolution: int, k: int, size: int, device: torch.device) -> _Features:
    if before is None:
        eye = torch.eye(k, dtype=torch.float64, device=device)
        return _Features(eye.new_zeros(0, size), eye, eye)
    P, sigma, directions = torch.linalg.svd(enlarge(before.factor, before.resolution, resolution), full_matrices=False)
    p = min(k, int((sigma.square() > RANK_TOLERANCE * sigma[0].square()).sum()))
    P, sigma, directions = P[:, :p], sigma[:p], directions[:p]
    signs = P.gather(0, P.abs().argmax(0, keepdim=True))[0].sign()  # a positive latent moves along its direction
    P, directions = P * signs, directions * signs[:, None]
    # fresh latents get the smallest variances, each its own, so that latent i feeds direction i at every resolution
    smallest = sigma[-1].square() if p else sigma.new_ones(())
    fresh = smallest * torch.linspace(FRESH_VARIANCE, FRESH_VARIANCE / 2, k - p, dtype=sigma.dtype, device=device)
    latents = torch.block_diag(P * sigma, torch.diag(fresh.sqrt()))
    variances = torch.cat([sigma.square(), fresh])
    return _Features(directions, latents, torch.diag(variances))


def solve_stage(
    moment: AbstractSecondMoment, before: Stage | None, *, resolution: int, n_components: int, tolerance: float
) -> tuple[Stage, QuadraticOptimum]:
    """Solve equation (2) for the features that the stage before hands up.

        phi_r = [upsample(G_{r/2}(z)), 1, fresh z],   S_r = E phi phi^T exactly,   beta_r = lambda_{k+1}(C_r)

    The constant feature carries the mean; about it, S_r is the covariance of linear maps of Gaussian latents, so it is
    known without drawing any. Fresh latents fill the rank up to k, and ||C_r - C_G||_2 <= beta_r holds in population.

    Args:
        moment: covariance of the data at this resolution.
        before: the coarser stage, or None for the first.
        resolution: r.
        n_components: k, at most d.
        tolerance: relative accuracy of the eigenpairs.

    Returns:
        The stage, and the optimum in the discriminator's terms.

    Raises:
        SolveError: the eigenpairs are not accurate enough.

    References:
        [S22] section 4 (progressive training); theory 1.6.
    """
    started = time.perf_counter()
    d, k = moment.size, min(n_components, moment.size)
    pairs = moment.eigenpairs(min(k + 1, d))
    # no latent for a direction in which the data do not vary, as in grey pictures stored in three channels
    k = min(k, max(1, int((pairs.values > NOISE * tolerance * pairs.values[0]).sum())))
    features = _features(before, resolution, k, d, moment.mean.device)
    # the solver pairs the j-th eigenvector of S with the j-th of the data: point the latter along the former
    p = len(features.directions)
    order = torch.linalg.eigh(features.moment).eigenvectors.flip(1)
    reference = order[:p, :p].T @ features.directions
    aligned = AlignedMoment(moment, pairs, reference, noise=NOISE * tolerance)
    pairs_seconds = time.perf_counter() - started
    optimum = solve_quadratic(
        aligned,
        n_latent=k,
        feature_moment=None if before is None else features.moment,
        tolerance=tolerance,
    )
    factor = features.latents @ optimum.weight
    residuals = aligned.residuals
    solution = dataclasses.replace(
        optimum.solution,
        stats={
            **optimum.solution.stats,
            "resolution": resolution,
            "fresh_latents": k - p,
            # an eigenvalue of C_r lies within this of beta
            "beta_error": float(residuals[k]) if k < d else 0.0,
            "pair_seconds": pairs_seconds,
        },
    )
    stage = Stage(
        resolution=resolution,
        beta=optimum.beta,
        mean=moment.mean,
        eigenvalues=optimum.eigenvalues,
        components=optimum.components,
        factor=factor,
        weight=optimum.weight,
        fresh=k - p,
        kept=optimum.kept,
        solution=solution,
    )
    return stage, dataclasses.replace(optimum, factor=factor, solution=solution)


def measure(
    images: AbstractImages,
    before: Stage | None,
    passes: Passes,
    *,
    resolution: int,
    n_components: int,
    tolerance: float,
) -> tuple[AbstractSecondMoment, float]:
    """Choose how the covariance at one resolution is held, and measure it.

    Few images keep their rows; up to `GRAM_SIZE` pixels the Gram matrix is summed in one pass; above, the leading
    eigenpairs are iterated from the enlarged eigenvectors of the stage before.

    Returns:
        The moment, and the relative accuracy that a solve on it can claim.

    Raises:
        InputError: NaN, or `n_components` exceeds what the images can carry.
    """
    blocks = ImageBlocks(images.level(resolution), resolution)
    n, d = blocks.shape
    if n_components >= n:
        raise InputError(f"`n_components` at resolution {resolution} is {n_components}, but there are only {n} images")
    label = f"{resolution} x {resolution}"
    if d > n and n <= WIDE_ROWS:
        rows = torch.cat(list(blocks.blocks(0, n, 0, 1))).double()
        return second_moment(rows, center=True), 1e-9
    first = next(blocks.blocks(0, min(n, 64), 0, 1))
    exact = first.dtype == torch.uint8
    if d <= GRAM_SIZE:
        dtype = torch.float64 if d <= DENSE_SIZE or first.dtype == torch.float64 else torch.float32
        dtype = torch.uint8 if exact else dtype
        moment: DenseMoment = gram_moment(blocks, passes, shift=first.double().mean(0), dtype=dtype, label=label)
        return moment, 1e-5 if dtype == torch.float32 else 1e-9
    guess = first.new_zeros(0, d, dtype=torch.float64)
    shift = first.double().mean(0)
    if before is not None:
        guess = enlarge(before.components, before.resolution, resolution)
        shift = enlarge(before.mean[None], before.resolution, resolution)[0]
    extra = n_components + 1 + max(OVERSAMPLING, n_components // 6) - len(guess)
    start = torch.cat([guess, random_block(max(1, extra), d, first.device)])
    dtype = torch.float64 if first.dtype == torch.float64 else torch.float32
    streamed = StreamedMoment(blocks, passes, start=start, shift=shift, dtype=dtype, tolerance=tolerance, label=label)
    return streamed, max(tolerance, 1e-9)
