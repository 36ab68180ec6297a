"""Theory 1.2: the estimator for the WGAN with a quadratic discriminator, solved by equation (2)."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable
from typing import Any, Literal, get_args

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
    read_data,
)
from saddlegan.fit._features import feature_moments
from saddlegan.fit._latent import LatentMixin
from saddlegan.fit._quadratic_program import QuadraticOptimum, solve_quadratic
from saddlegan.fit._sums import MomentSums, read_weights, sums_of, weighted_moment
from saddlegan.moments._second_moment import AbstractSecondMoment, floating, row_blocks, working_dtype
from saddlegan.networks import FeatureGenerator, LinearGenerator, TwoLayerDiscriminator
from saddlegan.results import Solution, Status

Noise = Literal["beta", "ml"]
Features = nn.Module | Callable[[Tensor], Tensor] | None


class QuadraticWGAN(LatentMixin, DensityMixin, AbstractWGAN):
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
        noise: variance that `score_samples` gives the directions outside the generator's subspace: "beta" for `beta_`,
            or "ml" for the mean of the eigenvalues there, the likeliest: the density of scikit-learn's `PCA`, with
            its factor n / (n - 1) on every variance about an estimated mean.

    Attributes:
        beta_: the right side used.
        mean_: mu (d,), zeros if not centred.
        components_: leading eigenvectors of the data's second moment in rows (k, d).
        eigenvalues_: their eigenvalues (k,).
        spectrum_: all eigenvalues (d,) where the solver had them (d up to 1024), else those of `eigenvalues_`; float64.
        generator_: `networks.LinearGenerator` or `networks.FeatureGenerator`.
        discriminator_: `networks.TwoLayerDiscriminator`, the witness of optimality.
        solution_: `Solution` with primal value, dual bound, gap and residuals.
        game_: the `Game` whose saddle point the pair is.
        n_samples_seen_: rows in all calls of `partial_fit`, or in the last `fit`.
        noise_variance_: variance of the log-density outside the generator's subspace.

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
        noise: Noise = "beta",
    ) -> None:
        self.n_latent = n_latent
        self.beta = beta
        self.center = center
        self.features = features
        self.n_moment_latents = n_moment_latents
        self.random_state = random_state
        self.noise = noise

    def fit(self, X: Any, y: object = None, sample_weight: Any = None) -> QuadraticWGAN:
        """Solve the WGAN for data X.

        Args:
            X: data (n, d): numpy array, memmap, data frame, or torch tensor (its device and dtype are kept); bytes
                count as float32, other integers as float64.
            y: ignored.
            sample_weight: weight of each row (n,), at least 0; moments are then means with these weights.

        Returns:
            The estimator itself.

        Raises:
            InputError: X or a parameter is unusable, or `beta` is not feasible with so few latents.
            SolveError: the eigensolver failed.
        """
        del y
        self._check()
        X = read_data(self, X, reset=True, min_samples=2)
        self._sums = None
        moment = weighted_moment(X, read_weights(sample_weight, len(X)), center=self.center)
        self._solve(X, moment, tolerance=1e-9 if working_dtype(X) == torch.float64 else 1e-5)
        self.n_samples_seen_ = len(X)
        return self

    def partial_fit(self, X: Any, y: object = None, sample_weight: Any = None) -> QuadraticWGAN:
        """Solve the WGAN for the rows X and all rows of earlier calls, as one `fit` on all of them would.

        Sums of second moments (d, d) are kept between calls; `fit` forgets them.

        Args:
            X: data (n, d).
            y: ignored.
            sample_weight: weight of each row (n,), at least 0.

        Returns:
            The estimator itself.

        Raises:
            InputError: X or a parameter is unusable, or `beta` is not feasible with so few latents.
            SolveError: the eigensolver failed.
        """
        del y
        self._check()
        earlier: MomentSums | None = getattr(self, "_sums", None)
        X = read_data(self, X, reset=earlier is None, min_samples=2 if earlier is None else 1)
        sums = sums_of(X, sample_weight, earlier)
        self._solve(X, sums.moment(center=self.center), tolerance=1e-9)
        self.n_samples_seen_ = len(X) + (0 if earlier is None else self.n_samples_seen_)
        self._sums = sums
        return self

    def _check(self) -> tuple[int, int, float | str]:
        n_latent = checks.count("n_latent", self.n_latent)
        draws = checks.count("n_moment_latents", self.n_moment_latents, least=2)
        beta = check_beta(self.beta, auto=True)
        checks.check_seed(self.random_state)
        if self.features is not None and not callable(self.features):
            raise InputTypeError(f"`features` must be None, a module or a callable, got {self.features!r}")
        if self.noise not in get_args(Noise):
            raise InputError(f"`noise` must be one of {', '.join(get_args(Noise))}, got {self.noise!r}")
        return n_latent, draws, beta

    def _solve(self, X: Any, moment: AbstractSecondMoment, *, tolerance: float) -> QuadraticWGAN:
        n_latent, draws, beta = self._check()
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
        whole = moment.spectrum()
        self.spectrum_ = like(X, optimum.eigenvalues if whole is None else whole)
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

    @property
    def noise_variance_(self) -> float:
        """Variance s of the log-density outside the generator's subspace, in squared data units; 0 if there is none."""
        check_is_fitted(self, "generator_")
        if self.noise == "beta":
            return self.beta_
        values = torch.as_tensor(self.eigenvalues_).double()
        kept = values[values > self.beta_]
        others = len(self.mean_) - len(kept)
        left = float(self.solution_.stats["total_moment"]) - float(kept.sum())
        return self._unbiased() * max(0.0, left / others) if others else 0.0

    def _unbiased(self) -> float:
        """What the most likely variances are multiplied by."""
        n = self.n_samples_seen_
        return n / (n - 1) if self.noise == "ml" and self.center and n > 1 else 1.0

    def _latent_noise(self) -> float:
        return self.beta_

    def score_samples(self, X: Any) -> Any:
        """Log-density of each row under N(mean_, P* + noise).

            -2 log p(x) = sum over kept i of (log lambda_i + (v_i^T y)^2 / lambda_i)
                          + (d - kept) log s + ||y - its kept part||^2 / s + d log(2 pi),    y = x - mean_

        The solved generator lives on a subspace and has no density; here the variance that the constraint discards is
        put back: beta along each kept direction, and s along all others, with s = `noise_variance_`. It is the density
        of probabilistic PCA, with sigma^2 = beta or the most likely one. With `features` it is the Gaussian of the same
        moments, not the density of the samples.

        Args:
            X: data (n, d).

        Returns:
            Log-densities (n,), in nats.

        Raises:
            InputError: wrong shape, NaN, or no noise where the generator has no variance (no density).
        """
        check_is_fitted(self, "generator_")
        X = read_data(self, X, reset=False)
        mean = torch.as_tensor(self.mean_).double()
        values = torch.as_tensor(self.eigenvalues_).double()
        components = torch.as_tensor(self.components_).double()[values > self.beta_]
        values = self._unbiased() * values[values > self.beta_]
        others, log_determinant = len(mean) - len(values), values.log().sum()
        noise = self.noise_variance_ if others else 1.0
        if noise <= 0:
            raise InputError(
                "the model has no density: no variance is left outside the generator's subspace (`beta_` is "
                f"{self.beta_:g}); fit with a positive `beta` or fewer latents"
            )
        log_determinant = log_determinant + others * math.log(noise)
        density = torch.empty(len(X), dtype=torch.as_tensor(self.mean_).dtype, device=mean.device)
        start = 0
        for block in row_blocks(X, torch.float64, elements=SCORE_ELEMENTS):
            centred = block.to(mean) - mean
            projected = centred @ components.T
            rest = centred - projected @ components  # not a difference of squares, which would cancel
            quadratic = (projected.square() / values).sum(1) + rest.square().sum(1) / noise * (others > 0)
            quadratic = quadratic + log_determinant + len(mean) * math.log(2.0 * math.pi)
            density[start : start + len(block)] = -0.5 * quadratic
            start += len(block)
        return like(self.mean_, density)

    def score(self, X: Any, y: object = None) -> float:  # type: ignore[override]
        """Mean of `score_samples`; `y` is ignored."""
        del y
        return float(self.score_samples(X).mean())


SCORE_ELEMENTS = 1 << 20  # numbers of a block: several copies of it are made


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
