"""Theory 1.3: the WGAN with a two-layer polynomial discriminator, joint mean and covariance matching."""

from __future__ import annotations

import math
from typing import Any, Literal, get_args

import numpy as np
import torch

from saddlegan import checks
from saddlegan.errors import InputError
from saddlegan.fit._base import AbstractWGAN, check_beta, read_data
from saddlegan.fit._latent import LatentMixin
from saddlegan.fit._polynomial_discrepancy import polynomial_discrepancy
from saddlegan.fit._polynomial_program import SEMIDEFINITE_SIZE, solve_polynomial
from saddlegan.fit._sums import MomentSums, read_weights, sums_of, weighted_moment
from saddlegan.moments._second_moment import AbstractSecondMoment, column_mean, floating, second_moment
from saddlegan.networks import LinearGenerator, TwoLayerDiscriminator

Solver = Literal["auto", "semidefinite", "closed-form"]


class PolynomialWGAN(LatentMixin, AbstractWGAN):
    """The WGAN with a two-layer discriminator of activation a t^2 + b t + c and unit directions.

        minimise E ||G(z)||^2   subject to
        max over ||u|| = 1 of | a u^T (M_X - M_G) u + b (mu_X - mu_G)^T u |  <=  beta

    First the closed-form feasible point m = mu_X, P = mu mu^T + (C - (beta/|a|) I)_+ and its gap to a dual bound. Where
    that is open, with at most 60 columns, a semidefinite program of size d + 1 in the generator's mean and second
    moment. Both are realised by G(z) = m + F^T z.

    Args:
        a: coefficient of t^2; not zero (then use `LinearWGAN`).
        b: coefficient of t.
        c: constant; it cancels in every comparison.
        beta: right side of the constraint, in the units of a t^2 + b t.
        solver: "semidefinite" (the extra `convex`) wherever the closed form leaves a gap, "closed-form" only, or "auto"
            by the number of columns.
        time_limit: seconds for the semidefinite program; the closed form stands when they are over. None for no limit.

    Attributes:
        beta_: the right side used.
        mean_: zeros (d,): nothing is subtracted.
        components_: the discriminator's unit directions u_j in rows (k, d).
        eigenvalues_: their weights |v_j| (k,).
        generator_: `networks.LinearGenerator`.
        discriminator_: `networks.TwoLayerDiscriminator`, the dual point.
        solution_: `Solution`; OPTIMAL, or FEASIBLE with the gap that is left.
        game_: the `Game` that the pair plays.

    References:
        [S22] theorem 3.3; theory 1.3.

    Example:
        >>> rows = [[2.0, 0.0], [-2.0, 0.0], [0.0, 1.0], [0.0, -1.0]]
        >>> model = PolynomialWGAN(beta=0.5, solver="closed-form").fit(rows)  # M = diag(2, 1/2)
        >>> round(model.solution_.value, 9), round(model.solution_.bound, 9)
        (1.5, 1.5)
    """

    def __init__(
        self,
        a: float = 1.0,
        b: float = 1.0,
        c: float = 0.0,
        beta: float = 0.1,
        solver: Solver = "auto",
        *,
        time_limit: float | None = None,
    ) -> None:
        self.a = a
        self.b = b
        self.c = c
        self.beta = beta
        self.solver = solver
        self.time_limit = time_limit

    def fit(self, X: Any, y: object = None, sample_weight: Any = None) -> PolynomialWGAN:
        """Solve the WGAN for data X (n, d), with weights of its rows (n,) if given; `y` is ignored.

        Returns:
            The estimator itself.

        Raises:
            InputError: X or a parameter is unusable.
            MissingExtraError: the semidefinite program needs cvxpy.
        """
        del y
        self._check()
        X = read_data(self, X, reset=True, min_samples=2)
        self._sums = None
        return self._solve(X, weighted_moment(X, read_weights(sample_weight, len(X)), center=True))

    def partial_fit(self, X: Any, y: object = None, sample_weight: Any = None) -> PolynomialWGAN:
        """Solve the WGAN for the rows X and all rows of earlier calls, as one `fit` on all of them would.

        Sums of second moments (d, d) are kept between calls; `fit` forgets them.

        Returns:
            The estimator itself.

        Raises:
            InputError: X or a parameter is unusable.
            MissingExtraError: the semidefinite program needs cvxpy.
        """
        del y
        self._check()
        earlier: MomentSums | None = getattr(self, "_sums", None)
        X = read_data(self, X, reset=earlier is None, min_samples=2 if earlier is None else 1)
        sums = sums_of(X, sample_weight, earlier)
        self._solve(X, sums.moment(center=True))
        self._sums = sums
        return self

    def _check(self) -> tuple[float, float, float, float, float]:
        beta = float(check_beta(self.beta, auto=False))
        a, b, c = (
            checks.number(name, value, least=-math.inf) for name, value in (("a", self.a), ("b", self.b), ("c", self.c))
        )
        if a == 0.0:
            raise InputError("`a` must not be 0: without t^2 the discriminator is linear, use LinearWGAN")
        if self.solver not in get_args(Solver):
            raise InputError(f"`solver` must be one of {', '.join(get_args(Solver))}, got {self.solver!r}")
        return a, b, c, beta, math.inf if self.time_limit is None else checks.positive("time_limit", self.time_limit)

    def _latent_noise(self) -> float:
        return self.beta_ / abs(float(self.a))

    def _solve(self, X: Any, centred: AbstractSecondMoment) -> PolynomialWGAN:
        a, b, c, beta, time_limit = self._check()
        mean = centred.mean.cpu().numpy()
        d = len(mean)
        covariance = centred.matvec(torch.eye(d, dtype=torch.float64, device=centred.mean.device)).cpu().numpy()
        moment = 0.5 * (covariance + covariance.T) + np.outer(mean, mean)
        semidefinite = d <= SEMIDEFINITE_SIZE if self.solver == "auto" else self.solver == "semidefinite"
        optimum = solve_polynomial(mean, moment, beta, a=a, b=b, semidefinite=semidefinite, time_limit=time_limit)

        values, vectors = np.linalg.eigh(optimum.moment - np.outer(optimum.mean, optimum.mean))
        kept = values > 1e-12 * max(float(values[-1]), 0.0)
        factor = (np.sqrt(values[kept]) * vectors[:, kept]).T[::-1].copy()
        kind = torch.empty(0, dtype=floating(X), device=centred.mean.device)
        generator = LinearGenerator(max(1, len(factor)), d, generator=torch.Generator()).to(kind)
        neurons = len(optimum.outer)
        discriminator = TwoLayerDiscriminator(
            d, max(1, neurons), activation="polynomial", a=a, b=b, c=c, generator=torch.Generator()
        ).to(kind)
        with torch.no_grad():
            generator.weight.zero_()
            generator.weight[: len(factor)] = torch.as_tensor(factor).to(kind)
            generator.mean.copy_(torch.as_tensor(optimum.mean))
            if neurons:
                discriminator.directions.copy_(torch.as_tensor(optimum.directions))
                discriminator.outer.copy_(torch.as_tensor(optimum.outer))
        self._keep(
            X,
            generator,
            discriminator,
            optimum.solution,
            beta=beta,
            origin=torch.zeros(d).to(kind),
            components=discriminator.directions,
            eigenvalues=discriminator.outer.abs(),
            n_latent=generator.n_latent,
        )
        return self

    def score(self, X: Any, y: object = None) -> float:
        """Minus the discrepancy between new data and the generator's population; larger is better.

            - max over ||u|| = 1 of | a u^T (M_X - M_G) u + b (mu_X - mu_G)^T u |

        Args:
            X: data (n, d) that the fit has not seen.
            y: ignored.

        Raises:
            InputError: wrong shape or NaN.
        """
        del y
        X, (mean, factor) = self._new_data(X)
        moment = second_moment(X, center=False).matvec(torch.eye(len(mean), dtype=mean.dtype, device=mean.device))
        delta = 0.5 * (moment + moment.T).to(mean) - factor.T @ factor - torch.outer(mean, mean)
        shift = column_mean(X).to(mean) - mean
        return -polynomial_discrepancy(delta, shift, a=float(self.a), b=float(self.b)).value
