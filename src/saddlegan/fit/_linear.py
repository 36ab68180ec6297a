"""Theory 1.1: the WGAN with a linear discriminator, which sees means only."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from saddlegan.fit._base import AbstractWGAN, check_beta, read_data
from saddlegan.fit._sums import read_weights, total_weight, weighted_mean
from saddlegan.moments._second_moment import column_mean, floating
from saddlegan.networks import LinearGenerator, TwoLayerDiscriminator
from saddlegan.results import Solution, Status


@dataclasses.dataclass(frozen=True)
class LinearOptimum:
    """The saddle point of 1.1: the point m* (d,), the discriminator's weight w* = 2 m* (d,), and the certificate."""

    point: Tensor
    weight: Tensor
    solution: Solution


def solve_linear(mean: Tensor, *, beta: float) -> LinearOptimum:
    """Minimise ||m||^2 subject to ||mean - m||_2 <= beta.

        m* = (1 - beta / ||mean||)_+ mean,   value (||mean|| - beta)_+^2,
        dual: max over w of  w^T mean - beta ||w|| - ||w||^2 / 4,  attained at w* = 2 m*

    Args:
        mean: E x (d,).
        beta: right side of the constraint, in data units.

    Returns:
        The optimum; bound and residuals are measured on m* and w*.

    References:
        [S22] theorem 3.1; theory 1.1.

    Example:
        >>> solve_linear(torch.tensor([3.0, 4.0]), beta=1.0).point
        tensor([2.4000, 3.2000], dtype=torch.float64)
    """
    mean = mean.double()
    norm = float(mean.norm())
    point = (max(0.0, 1.0 - beta / norm) if norm > 0 else 0.0) * mean
    weight = 2.0 * point
    value = float(point.square().sum())
    bound = float(weight @ mean - beta * weight.norm() - weight.square().sum() / 4)
    stats = {
        "beta": beta,
        "primal_residual": float((mean - point).norm()) - beta,
        "dual_residual": 0.0,  # the dual has no constraint: every w bounds the value
        "mean_norm": norm,
    }
    return LinearOptimum(point, weight, Solution(value, bound, value - bound, Status.OPTIMAL, stats))


class LinearWGAN(AbstractWGAN):
    """The WGAN with a two-layer linear discriminator, solved exactly: mean matching.

        minimise E ||G(z) - mu_0||^2   subject to   ||mu_X - mu_G||_2 <= beta

    A linear discriminator sees means only, so the optimal generator makes one point, (1 - beta/||mu||)_+ mu: say so
    when you compare it. It is the first row of the theory's table, and a baseline that everything else must beat.

    Args:
        beta: right side of the constraint, in data units; 0 matches the mean exactly.
        center: subtract the mean first (mu_0 = mu_X instead of 0). The optimum is then the mean itself, for every beta.

    Attributes:
        beta_: the right side used.
        mean_: mu_0 (d,): the data's mean if centred, else zeros.
        components_: direction of the mean (1, d), which is the witness; zeros if there is none.
        eigenvalues_: its length (1,): what beta is subtracted from.
        generator_: `networks.LinearGenerator` with weight 0.
        discriminator_: `networks.TwoLayerDiscriminator` with one linear neuron.
        solution_: `Solution`.
        game_: the `Game` whose saddle point the pair is.

    References:
        [S22] theorem 3.1; theory 1.1.

    Example:
        >>> model = LinearWGAN(beta=1.0).fit([[3.0, 3.0], [3.0, 5.0]])
        >>> round(model.solution_.value, 9), round(model.solution_.bound, 9)
        (16.0, 16.0)
        >>> model.sample(1).round(2)
        array([[2.4, 3.2]])
    """

    def __init__(self, beta: float = 0.0, center: bool = False) -> None:
        self.beta = beta
        self.center = center

    def fit(self, X: Any, y: object = None, sample_weight: Any = None) -> LinearWGAN:
        """Solve the WGAN for data X (n, d), with weights of its rows (n,) if given; `y` is ignored.

        Returns:
            The estimator itself.

        Raises:
            InputError: X or `beta` is unusable.
        """
        del y
        check_beta(self.beta, auto=False)
        X = read_data(self, X, reset=True, min_samples=2)
        self._sums = None
        return self._solve(X, weighted_mean(X, read_weights(sample_weight, len(X))))

    def partial_fit(self, X: Any, y: object = None, sample_weight: Any = None) -> LinearWGAN:
        """Solve the WGAN for the rows X and all rows of earlier calls; `fit` forgets them.

        Returns:
            The estimator itself.

        Raises:
            InputError: X or `beta` is unusable.
        """
        del y
        check_beta(self.beta, auto=False)
        earlier: tuple[float, Tensor] | None = getattr(self, "_sums", None)
        X = read_data(self, X, reset=earlier is None, min_samples=2 if earlier is None else 1)
        weight = total_weight(sample_weight, len(X))
        mean = weighted_mean(X, read_weights(sample_weight, len(X)))
        if earlier is not None:
            weight += earlier[0]
            mean = earlier[1] + (mean - earlier[1]) * (1.0 - earlier[0] / weight)
        self._solve(X, mean)
        self._sums = (weight, mean)
        return self

    def _solve(self, X: Any, sample_mean: Tensor) -> LinearWGAN:
        beta = float(check_beta(self.beta, auto=False))
        kind = torch.empty(0, dtype=floating(X), device=sample_mean.device)
        origin = sample_mean if self.center else torch.zeros_like(sample_mean)
        optimum = solve_linear(sample_mean - origin, beta=beta)
        direction = torch.nn.functional.normalize((sample_mean - origin)[None])

        d = len(origin)
        seed = torch.Generator(kind.device)
        generator = LinearGenerator(1, d, generator=seed, dtype=kind.dtype, device=kind.device)
        discriminator = TwoLayerDiscriminator(
            d, 1, activation="linear", generator=seed, dtype=kind.dtype, device=kind.device
        )
        with torch.no_grad():
            generator.weight.zero_()
            generator.mean.copy_(origin + optimum.point)
            discriminator.directions.copy_(direction)
            discriminator.outer.fill_(float(optimum.weight.norm()))
            discriminator.center.copy_(origin)
        self._keep(
            X,
            generator,
            discriminator,
            optimum.solution,
            beta=beta,
            origin=origin.to(kind),
            components=direction.to(kind),
            eigenvalues=(sample_mean - origin).norm()[None].to(kind),
            n_latent=1,
        )
        return self

    def score(self, X: Any, y: object = None) -> float:
        """Minus the discrepancy between new data and the generator, -||mu_X - mu_G||_2; larger is better.

        Args:
            X: data (n, d) that the fit has not seen.
            y: ignored.

        Raises:
            InputError: wrong shape or NaN.
        """
        del y
        X, (mean, _) = self._new_data(X)
        return -float((column_mean(X).to(mean) - mean).norm())
