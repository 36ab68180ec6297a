"""Theory 1.2: the estimator for the WGAN with a quadratic discriminator, solved by equation (2)."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable
from typing import Any

import torch
from sklearn.base import DensityMixin
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from saddlegan import checks
from saddlegan.checks import RandomState
from saddlegan.errors import InputError, InputTypeError
from saddlegan.fit._base import (
    AbstractWGAN,
    check_beta,
    like,
    plain_tensor,
    read_data,
)
from saddlegan.fit._features import feature_moments
from saddlegan.fit._quadratic_program import QuadraticOptimum, solve_quadratic
from saddlegan.moments._second_moment import AbstractSecondMoment, floating, second_moment, working_dtype
from saddlegan.networks import FeatureGenerator, LinearGenerator, TwoLayerDiscriminator
from saddlegan.results import Solution, Status

Features = nn.Module | Callable[[Tensor], Tensor] | None


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
        n_latent = checks.count("n_latent", self.n_latent)
        draws = checks.count("n_moment_latents", self.n_moment_latents, least=2)
        beta = check_beta(self.beta, auto=True)
        checks.check_seed(self.random_state)
        if self.features is not None and not callable(self.features):
            raise InputTypeError(f"`features` must be None, a module or a callable, got {self.features!r}")
        X = read_data(self, X, reset=True, min_samples=2)
        moment = second_moment(X, center=self.center)
        tolerance = 1e-9 if working_dtype(X) == torch.float64 else 1e-5
        kind = torch.empty(0, dtype=floating(X), device=moment.mean.device)
        if self.features is None:
            optimum = solve_quadratic(moment, n_latent=n_latent, beta=beta, tolerance=tolerance)
            solution, generator = optimum.solution, _linear_generator(optimum, moment.mean, n_latent, kind)
        else:
            optimum, solution, generator = self._solve_features(
                self.features, moment, kind, tolerance, n_latent=n_latent, beta=beta, draws=draws
            )
        mean = moment.mean.to(kind)
        self._keep(
            X,
            generator,
            _quadratic_discriminator(optimum, mean),
            solution,
            beta=optimum.beta,
            origin=mean,
            components=optimum.components.to(kind),
            eigenvalues=optimum.eigenvalues.to(kind),
            n_latent=n_latent,
        )
        return self

    def _solve_features(
        self,
        features: nn.Module | Callable[[Tensor], Tensor],
        moment: AbstractSecondMoment,
        kind: Tensor,
        tolerance: float,
        *,
        n_latent: int,
        beta: float | str,
        draws: int,
    ) -> tuple[QuadraticOptimum, Solution, FeatureGenerator]:
        if isinstance(features, nn.Module):
            features = copy.deepcopy(features).to(kind.device, kind.dtype).eval().requires_grad_(False)
        moments = feature_moments(features, n_latent, draws, checks.generator(self.random_state), kind)
        covariance = moments.second - torch.outer(moments.mean, moments.mean)
        S = covariance if self.center else moments.second
        optimum = solve_quadratic(moment, n_latent=n_latent, beta=beta, feature_moment=S, tolerance=tolerance)
        solution = optimum.solution
        if moments.half_difference is not None:
            # W^T E W is d x d; with the QR factor of W^T its spectrum is that of a k x k matrix
            R = torch.linalg.qr(optimum.weight.T).R
            error = float(torch.linalg.eigvalsh(R @ moments.half_difference @ R.T).abs().max())
            solution = dataclasses.replace(
                solution,
                status=Status.ESTIMATED,
                stats={**solution.stats, "moment_error": error, "moment_latents": draws},
            )
        generator = FeatureGenerator(
            features,
            weight=optimum.weight.to(kind),
            mean=moment.mean.to(kind),
            offset=(moments.mean if self.center else torch.zeros_like(moments.mean)).to(kind),
            feature_mean=moments.mean.to(kind),
            feature_covariance=covariance.to(kind),
            n_latent=n_latent,
        )
        return optimum, solution, generator

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
