"""Theory 1.2: the WGAN with a quadratic discriminator, solved in closed form by equation (2)."""

from __future__ import annotations

import copy
import dataclasses
import math
import time
from collections.abc import Callable
from typing import Any

import torch
from sklearn.base import DensityMixin
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from saddlegan._linalg import AbstractSecondMoment, floating, second_moment, working_dtype
from saddlegan.errors import InputError, InputTypeError, SolveError
from saddlegan.fit._base import (
    AbstractWGAN,
    RandomState,
    check_beta,
    check_count,
    like,
    plain_tensor,
    read_data,
    torch_generator,
)
from saddlegan.game import Game, PathNormPenalty, SecondMomentPenalty
from saddlegan.networks import AbstractFeatures, FeatureGenerator, LinearGenerator, TwoLayerDiscriminator
from saddlegan.results import Solution, Status

Features = nn.Module | Callable[[Tensor], Tensor] | None


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
        moment: M, from `saddlegan._linalg.second_moment`.
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

    feature_square = weight.square().sum() if feature_moment is None else ((feature_moment @ weight) * weight).sum()
    value = float(feature_square)
    witness = vectors[:kept]
    # any Lambda >= 0 scaled to lambda_max <= 1 is dual feasible, so rounding in the eigenvectors cannot break the bound
    top = float(torch.linalg.matrix_norm(witness, 2)) ** 2 if kept else 0.0
    dual = float((moment.matvec(witness) * witness).sum()) - level * float(witness.square().sum())
    bound = max(0.0, dual / max(1.0, top))
    primal_residual = moment.spectral_distance(factor) - level
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
            f"the eigenpairs are not accurate enough for a proof: gap {gap:.3g}, constraint exceeded by "
            f"{primal_residual:.3g}; use float64 data",
            solution,
        )
    return QuadraticOptimum(level, values, vectors, weight, factor, kept, solution)


def _inverse_root(S: Tensor | None, n_latent: int, like_: Tensor) -> tuple[Tensor, int]:
    """Return U_S sigma^(-1/2), descending, and the rank of S."""
    if S is None:
        return torch.eye(n_latent, dtype=like_.dtype, device=like_.device), n_latent
    sigma, U = torch.linalg.eigh(S)
    sigma, U = sigma.flip(0), U.flip(1)
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


@dataclasses.dataclass(frozen=True)
class _FeatureMoments:
    mean: Tensor
    second: Tensor
    half_difference: Tensor | None  # between two independent estimates of `second`; None when the moments are exact


def _feature_moments(
    features: nn.Module | Callable[[Tensor], Tensor], n_latent: int, n: int, generator: torch.Generator, like_: Tensor
) -> _FeatureMoments:
    """Mean and E phi phi^T of the features, float64: exact where they know them, else from n latents in two halves."""
    if isinstance(features, AbstractFeatures):
        mean, covariance = (moment.to(like_.device, torch.float64) for moment in features.moments())
        return _FeatureMoments(mean, covariance + torch.outer(mean, mean), None)
    means: list[Tensor] = []
    seconds: list[Tensor] = []
    for _ in range(2):
        remaining, total, second = n // 2, torch.zeros(()), torch.zeros(())
        while remaining > 0:
            size = min(remaining, 8192)
            z = torch.randn(size, n_latent, generator=generator, dtype=like_.dtype, device=generator.device)
            with torch.no_grad():
                phi = features(z.to(like_.device))
            if not isinstance(phi, Tensor) or phi.ndim != 2 or len(phi) != size:
                got = tuple(phi.shape) if isinstance(phi, Tensor) else type(phi).__name__
                raise InputError(f"`features` must map latents ({size}, {n_latent}) to ({size}, k), got {got}")
            phi = phi.double()
            total, second = total.to(phi) + phi.sum(0), second.to(phi) + phi.T @ phi
            remaining -= size
        if not bool(torch.isfinite(second).all()):
            raise InputError("`features` returned NaN or infinity")
        means.append(total / (n // 2))
        seconds.append(second / (n // 2))
    mean, second = (means[0] + means[1]) / 2, (seconds[0] + seconds[1]) / 2
    return _FeatureMoments(mean, second, (seconds[0] - seconds[1]) / 2)


class QuadraticWGAN(DensityMixin, AbstractWGAN):
    """The WGAN with a two-layer quadratic discriminator, solved exactly.

        minimise E ||G(z) - mu||^2   subject to   ||C_X - C_G||_2 <= beta

    over generators G(z) = phi(z)^T W + mu, by equation (2): an eigendecomposition and a soft threshold. The optimal
    discriminator D*(x) = sum over lambda_i > beta of ((x - mu)^T v_i)^2 proves it: dual value = primal value. The model
    sees second moments only; it is probabilistic PCA without its noise, sigma^2 = beta.

    Args:
        n_latent: length of a latent z ~ N(0, I).
        beta: right side of the constraint in squared data units, or "auto" for the smallest feasible one,
            lambda_{k+1}.
        center: whether moments are taken about the data's mean (which is added to every sample). If not, mu = 0 above.
        features: None for phi(z) = z; an `AbstractFeatures` (`networks.ReLUFeatures`, `networks.PolynomialFeatures`),
            whose moments are exact; or any module or callable (m, n_latent) -> (m, k), whose moments are estimated. A
            module is copied and frozen in eval mode. With `center`, features are centred too, so that samples have mean
            mu exactly.
        n_moment_latents: latents drawn to estimate the moments of `features` that do not know their own; the resulting
            error of C_G (spectral norm, from two independent halves) is `solution_.stats["moment_error"]`.
        random_state: seed for that estimate.

    Attributes:
        beta_: the right side used.
        mean_: mu (d,), zeros if not centred.
        components_: leading eigenvectors of the data's second moment in rows (k, d).
        eigenvalues_: their eigenvalues (k,).
        generator_: `networks.LinearGenerator` or `networks.FeatureGenerator`.
        discriminator_: `networks.TwoLayerDiscriminator`, the witness of optimality.
        solution_: `Solution` with primal value, dual bound, gap and residuals.
        game_: the `Game` whose saddle point the pair is.

    References:
        [S22] theorem 3.2; theory 1.2, equation (2).

    Example:
        >>> from sklearn.datasets import load_digits
        >>> model = QuadraticWGAN(n_latent=16).fit(load_digits().data)
        >>> print(f"{model.solution_.value:.2f} {model.beta_:.3f} {abs(model.solution_.gap) < 1e-9}")
        767.06 15.843 True
        >>> model.sample(5, random_state=0).shape
        (5, 64)
    """

    def __init__(
        self,
        n_latent: int = 16,
        beta: float | str = "auto",
        center: bool = True,
        features: Features = None,
        *,
        n_moment_latents: int = 200_000,
        random_state: RandomState = None,
    ) -> None:
        self.n_latent = n_latent
        self.beta = beta
        self.center = center
        self.features = features
        self.n_moment_latents = n_moment_latents
        self.random_state = random_state

    def fit(self, X: Any, y: object = None) -> QuadraticWGAN:
        """Solve the WGAN for data X.

        Args:
            X: data (n, d): numpy array, memmap, data frame, or torch tensor (its device and dtype are kept); bytes
                count as float32, other integers as float64.
            y: ignored.

        Returns:
            The estimator itself.

        Raises:
            InputError: X or a parameter is unusable, or `beta` is not feasible with so few latents.
            SolveError: the eigensolver failed.
        """
        del y
        check_count("n_latent", self.n_latent)
        check_count("n_moment_latents", self.n_moment_latents)
        check_beta(self.beta, auto=True)
        if self.features is not None and not callable(self.features):
            raise InputTypeError(f"`features` must be None, a module or a callable, got {self.features!r}")
        X = read_data(self, X, reset=True, min_samples=2)
        moment = second_moment(X, center=self.center)
        tolerance = 1e-9 if working_dtype(X) == torch.float64 else 1e-5
        kind = torch.empty(0, dtype=floating(X), device=moment.mean.device)
        if self.features is None:
            optimum = solve_quadratic(moment, n_latent=self.n_latent, beta=self.beta, tolerance=tolerance)
            self.solution_ = optimum.solution
            self.generator_ = _linear_generator(optimum, moment.mean, self.n_latent, kind)
        else:
            optimum = self._fit_features(self.features, moment, kind, tolerance)
        mean = moment.mean.to(kind)
        self.discriminator_ = _quadratic_discriminator(optimum, mean)
        self.beta_ = optimum.beta
        self.mean_ = like(X, mean)
        self.components_ = like(X, optimum.components.to(kind))
        self.eigenvalues_ = like(X, optimum.eigenvalues.to(kind))
        self.game_ = Game(
            self.generator_,
            self.discriminator_,
            objective="wasserstein",
            latent=self.n_latent,
            generator_penalty=SecondMomentPenalty(mean),
            discriminator_penalty=PathNormPenalty(optimum.beta),
        )
        return self

    def _fit_features(
        self,
        features: nn.Module | Callable[[Tensor], Tensor],
        moment: AbstractSecondMoment,
        kind: Tensor,
        tolerance: float,
    ) -> QuadraticOptimum:
        if isinstance(features, nn.Module):
            features = copy.deepcopy(features).to(kind.device, kind.dtype).eval().requires_grad_(False)
        moments = _feature_moments(
            features, self.n_latent, self.n_moment_latents, torch_generator(self.random_state), kind
        )
        covariance = moments.second - torch.outer(moments.mean, moments.mean)
        S = covariance if self.center else moments.second
        optimum = solve_quadratic(moment, n_latent=self.n_latent, beta=self.beta, feature_moment=S, tolerance=tolerance)
        self.solution_ = optimum.solution
        if moments.half_difference is not None:
            # W^T E W is d x d; with the QR factor of W^T its spectrum is that of a k x k matrix
            R = torch.linalg.qr(optimum.weight.T).R
            error = float(torch.linalg.eigvalsh(R @ moments.half_difference @ R.T).abs().max())
            self.solution_ = dataclasses.replace(
                optimum.solution,
                status=Status.ESTIMATED,
                stats={**optimum.solution.stats, "moment_error": error, "moment_latents": self.n_moment_latents},
            )
        self.generator_ = FeatureGenerator(
            features,
            weight=optimum.weight.to(kind),
            mean=moment.mean.to(kind),
            offset=(moments.mean if self.center else torch.zeros_like(moments.mean)).to(kind),
            feature_mean=moments.mean.to(kind),
            feature_covariance=covariance.to(kind),
            n_latent=self.n_latent,
        )
        return optimum

    def score_samples(self, X: Any) -> Any:
        """Log-density of each row under N(mean_, P* + beta I).

        The solved generator lives on a subspace and has no density; here the variance that the constraint discards,
        beta, is put back as isotropic noise, which is the density of probabilistic PCA with sigma^2 = beta. With
        `features` it is the Gaussian of the same moments, not the density of the samples.

        Args:
            X: data (n, d).

        Returns:
            Log-densities (n,), in nats.

        Raises:
            InputError: wrong shape, NaN, or beta_ = 0 (no density).
        """
        check_is_fitted(self, "generator_")
        rows = plain_tensor(self, X)
        if self.beta_ <= 0:
            raise InputError("`beta_` is 0: the model has no density; fit with a positive `beta` or fewer latents")
        mean = torch.as_tensor(self.mean_).double()
        values = torch.as_tensor(self.eigenvalues_).double()
        components = torch.as_tensor(self.components_).double()[values > self.beta_]
        values = values[values > self.beta_]
        centred = rows.to(mean) - mean
        projected = centred @ components.T
        # inverse of P* + beta I: 1/lambda_i along kept components, 1/beta elsewhere
        quadratic = centred.square().sum(1) / self.beta_ - projected.square() @ (1.0 / self.beta_ - 1.0 / values)
        log_determinant = values.log().sum() + (len(mean) - len(values)) * math.log(self.beta_)
        density = -0.5 * (quadratic + log_determinant + len(mean) * math.log(2.0 * math.pi))
        return like(self.mean_, density.to(torch.as_tensor(self.mean_)))

    def score(self, X: Any, y: object = None) -> float:  # type: ignore[override]
        """Mean of `score_samples`; `y` is ignored."""
        del y
        return float(self.score_samples(X).mean())


def _linear_generator(optimum: QuadraticOptimum, mean: Tensor, n_latent: int, kind: Tensor) -> LinearGenerator:
    d = len(mean)
    generator = LinearGenerator(
        n_latent, d, generator=torch.Generator(kind.device), dtype=kind.dtype, device=kind.device
    )
    with torch.no_grad():
        generator.weight.zero_()
        generator.weight[: len(optimum.factor)] = optimum.factor.to(kind)
        generator.mean.copy_(mean)
    return generator


def _quadratic_discriminator(optimum: QuadraticOptimum, mean: Tensor) -> TwoLayerDiscriminator:
    neurons = max(1, optimum.kept)  # a discriminator without neurons would have no device; one with weight 0 is D = 0
    discriminator = TwoLayerDiscriminator(
        len(mean),
        neurons,
        activation="quadratic",
        generator=torch.Generator(mean.device),
        dtype=mean.dtype,
        device=mean.device,
    )
    with torch.no_grad():
        discriminator.directions.copy_(optimum.components[:neurons])
        discriminator.outer.fill_(1.0 if optimum.kept else 0.0)
        discriminator.center.copy_(mean)
    return discriminator
