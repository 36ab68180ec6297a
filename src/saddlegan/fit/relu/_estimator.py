"""Theory 1.4: the WGAN with a two-layer ReLU discriminator."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Literal, get_args

import torch
from sklearn.utils.metaestimators import available_if
from torch import Tensor

from saddlegan import checks
from saddlegan.checks import RandomState
from saddlegan.errors import InputError
from saddlegan.fit._base import AbstractWGAN, check_beta, read_data
from saddlegan.fit._latent import LatentMixin
from saddlegan.fit._sums import read_weights
from saddlegan.fit.relu._discrepancy import relu_discrepancy
from saddlegan.fit.relu._free import solve_free
from saddlegan.fit.relu._gaussian import match_gaussian
from saddlegan.fit.relu._one_dimension import huber_discriminator, stop_loss_discrepancy, winsorise
from saddlegan.fit.relu._one_dimension_program import linear_generator, sorted_program
from saddlegan.moments._engines import Progress
from saddlegan.moments._second_moment import as_tensor, floating
from saddlegan.networks import LinearGenerator, PointGenerator, TwoLayerDiscriminator
from saddlegan.results import Solution

MOST_PARTS = 100  # into which the smallest weight of a row is cut to find the unit of all
MOST_ROWS = 1_000_000  # that rows of one column may be repeated to
ROUNDING = 1e-9
SCORE_DRAWS = 1000  # of a linear generator, or as many as there are rows
GeneratorKind = Literal["free", "linear"]


@dataclasses.dataclass(frozen=True)
class _Plan:
    n_latent: int | None
    n_points: int | None
    time_limit: float
    progress: Progress | None


@dataclasses.dataclass(frozen=True)
class _Fitted:
    generator: PointGenerator | LinearGenerator
    discriminator: TwoLayerDiscriminator
    n_latent: int
    solution: Solution


class ReLUWGAN(LatentMixin, AbstractWGAN):
    """The WGAN with a two-layer ReLU discriminator.

        minimise E ||G(z) - mu||^2   subject to   sup over ||u|| <= 1 of | E (x^T u)_+ - E (G(z)^T u)_+ |  <=  beta

    | data | generator | what is solved |
    |---|---|---|
    | d = 1, neurons with free thresholds | free | winsorisation: exact, closed form, O(n log n) |
    | d = 1, `n_points` no multiple of n | free | exact, a convex program in the sorted points |
    | d = 1, neurons with free thresholds | linear, g = z w + b | exact, a quadratic program in (w, b) |
    | d = 2, no thresholds | free, n points | local optimum beside a global bound that is nearly tight |
    | d > 2, no thresholds | free, n points | feasible descent; constraint searched, bound from a relaxation |
    | d >= 2, no thresholds | linear, g = W^T z | convex in W^T W; cuts by a search |

    mu = 0, or with `center` the data's mean, about which all of it is read: x - mu in the place of x.

    There is no `partial_fit`: what (1) sees of many rows is no sum of a few numbers, so that batches do not merge.
    With `generator="linear"` `transform` gives the latent of least norm; free points have none to give back.

    For thresholds in d >= 2 append a constant column to the data: they then count in ||u|| <= 1.

    Args:
        beta: right side of the constraint, in data units (a mean, not the sum over rows).
        generator: "free" for one point per row of data, "linear" for Gaussian latents times a matrix.
        n_latent: length of the linear generator's latent; None for as many as the optimum needs.
        random_state: seed for the search directions (d >= 2).
        center: subtract the data's mean first, and add it to every sample.
        n_points: number of the free generator's points; None for one per row of data. Where n does not divide it (1)
            may have no solution.
        time_limit: seconds after which the best answer so far is kept, with status BUDGET_SPENT (d >= 2); the step at
            hand is finished first. None for no limit.
        progress: called with (stage, steps done, steps at most) while a search runs (d >= 2).

    Attributes:
        beta_: the right side used.
        mean_: mu (d,), zeros if not centred.
        components_: the discriminator's directions u_j in rows (k, d).
        eigenvalues_: their weights |v_j| (k,).
        generator_: `networks.PointGenerator` or `networks.LinearGenerator`.
        discriminator_: `networks.TwoLayerDiscriminator`.
        solution_: `Solution`; its status says what is global, `bound` is a bound on the global optimum.
        game_: the `Game` that the pair plays.

    References:
        [S22] theorem on ReLU discriminators; theory 1.4.

    Example:
        >>> model = ReLUWGAN(beta=0.05).fit([[1.0], [-1.0]])
        >>> sorted(model.generator_.points.flatten().tolist()), round(model.solution_.bound, 9)
        ([-0.9, 0.9], 0.81)
    """

    def __init__(
        self,
        beta: float = 0.1,
        generator: GeneratorKind = "free",
        n_latent: int | None = None,
        random_state: RandomState = None,
        *,
        center: bool = False,
        n_points: int | None = None,
        time_limit: float | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.beta = beta
        self.generator = generator
        self.n_latent = n_latent
        self.random_state = random_state
        self.center = center
        self.n_points = n_points
        self.time_limit = time_limit
        self.progress = progress

    def fit(self, X: Any, y: object = None, sample_weight: Any = None) -> ReLUWGAN:
        """Solve the WGAN for data X (n, d), with weights of its rows (n,) if given; `y` is ignored.

        In two and more columns a row of weight w_i counts as the row n w_i x_i, the weights' sum being 1, since
        w (x^T u)_+ = (w x^T u)_+: (1) is met exactly for any weights. In one column, where neurons have thresholds,
        rows are repeated, so that weights must be whole multiples of a common unit. Rows of weight 0 get no point.

        Returns:
            The estimator itself.

        Raises:
            InputError: X, a parameter or a weight is unusable, or no such generator satisfies the constraint.
            SolveError: a solver did not reach a usable answer.
            MissingExtraError: a linear generator in d >= 2 needs cvxpy.
        """
        del y
        beta = float(check_beta(self.beta, auto=False))
        if self.generator not in get_args(GeneratorKind):
            raise InputError(f"`generator` must be 'free' or 'linear', got {self.generator!r}")
        plan = _Plan(
            None if self.n_latent is None else checks.count("n_latent", self.n_latent),
            None if self.n_points is None else checks.count("n_points", self.n_points),
            math.inf if self.time_limit is None else checks.positive("time_limit", self.time_limit),
            self.progress,
        )
        X = read_data(self, X, reset=True, min_samples=2)
        rows = as_tensor(X)
        kind = torch.empty(0, dtype=floating(X), device=rows.device)
        rows = rows.double()
        weights = read_weights(sample_weight, len(rows))
        if weights is not None:
            rows, weights = rows[weights.to(rows.device) > 0], weights[weights > 0].to(rows.device)
        mean = rows.mean(0) if weights is None else weights @ rows
        origin = mean if self.center else torch.zeros_like(rows[0])
        rows = rows - origin
        if weights is not None and rows.shape[1] == 1:
            rows = rows.repeat_interleave(_multiples(weights), 0)
        elif weights is not None:
            rows = rows * (len(rows) * weights)[:, None]
        if rows.shape[1] > 1 and beta == 0.0:
            raise InputError("`beta` must be positive for data of two or more columns, got 0")
        solve = {
            ("free", True): _free_1d,
            ("linear", True): _linear_1d,
            ("free", False): _free,
            ("linear", False): _linear,
        }[self.generator, rows.shape[1] == 1]
        fitted = solve(rows, beta, plan, checks.generator(self.random_state))
        with torch.no_grad():
            G = fitted.generator
            place = G.points if isinstance(G, PointGenerator) else G.mean
            place.add_(origin)
            fitted.discriminator.center.copy_(origin)
        discriminator = fitted.discriminator.to(kind)
        self._keep(
            X,
            fitted.generator.to(kind),
            discriminator,
            fitted.solution,
            beta=beta,
            origin=origin.to(kind),
            components=discriminator.directions,
            eigenvalues=discriminator.outer.abs(),
            n_latent=fitted.n_latent,
        )
        return self

    def _latent_noise(self) -> float:
        return 0.0

    def score(self, X: Any, y: object = None) -> float:
        """Minus the discrepancy between new data and the generator; larger is better.

            - sup over ||u|| <= 1 of | E (x^T u)_+ - E (G(z)^T u)_+ |,   with thresholds in one dimension

        Free points are compared as they are, a linear generator by a sample of the same draws at every call. Above two
        columns the supremum is searched: the discrepancy may be larger.

        Args:
            X: data (n, d) that the fit has not seen.
            y: ignored.

        Raises:
            InputError: wrong shape or NaN.
        """
        del y
        X, (mean, _) = self._new_data(X)
        rows = as_tensor(X).to(mean)
        if isinstance(self.generator_, PointGenerator):
            fake = self.generator_.points.detach()
        else:
            fake = torch.as_tensor(self.sample(max(SCORE_DRAWS, len(rows)), random_state=0))
        origin = torch.as_tensor(self.mean_).to(rows)
        rows, fake = rows - origin, fake.to(rows) - origin
        if rows.shape[1] == 1:
            return -stop_loss_discrepancy(rows[:, 0], fake[:, 0]).value
        return -relu_discrepancy(rows, fake, bound=False).value


def _has_latents(model: ReLUWGAN) -> bool:
    if model.generator == "linear":
        return True
    raise AttributeError('free points have no latent to give back; take `generator`="linear"')


# after the class is made: scikit-learn wraps the methods of a class's own body, and would lose the condition
for _name in ("transform", "inverse_transform", "fit_transform", "get_feature_names_out", "set_output"):
    setattr(ReLUWGAN, _name, available_if(_has_latents)(getattr(LatentMixin, _name)))


def _multiples(weights: Tensor) -> Tensor:
    """How often each row of one column stands for its weight, (n,) whole numbers.

    Raises:
        InputError: no common unit.
    """
    least = weights.min()
    for parts in range(1, MOST_PARTS + 1):
        counts = weights / least * parts
        if float((counts - counts.round()).abs().max()) <= ROUNDING * parts and float(counts.sum()) <= MOST_ROWS:
            return counts.round().long()
    raise InputError(
        "`sample_weight` must be whole multiples of a common unit for data of one column, such as 1 and 3; round them, "
        "or draw rows with their chances"
    )


def _free_1d(X: Tensor, beta: float, plan: _Plan, generator: torch.Generator) -> _Fitted:
    del generator
    result = winsorise(X[:, 0], beta)
    m, n = plan.n_points or len(X), len(X)
    points, solution = result.points.repeat_interleave(max(1, m // n)), result.solution
    if m % n:
        # the discriminator of all distributions' optimum stays a dual point, for every number of points
        found, solution = sorted_program(X[:, 0].cpu().numpy(), m, beta)
        points = torch.as_tensor(found).to(X)
    return _Fitted(PointGenerator(points[:, None]), huber_discriminator(result), 1, solution)


def _linear_1d(X: Tensor, beta: float, plan: _Plan, generator: torch.Generator) -> _Fitted:
    del generator
    result = linear_generator(X[:, 0].cpu().numpy(), beta)
    G = LinearGenerator(plan.n_latent or 1, 1, generator=torch.Generator(), dtype=torch.float64).to(X.device)
    with torch.no_grad():
        G.weight.zero_()
        G.weight[0, 0] = result.scale
        G.mean.fill_(result.shift)
    signs = torch.as_tensor(result.signs)[:, None]
    D = _discriminator(signs, torch.as_tensor(result.weights), -signs[:, 0] * torch.as_tensor(result.thresholds))
    return _Fitted(G, D.to(X.device), G.n_latent, result.solution)


def _free(X: Tensor, beta: float, plan: _Plan, generator: torch.Generator) -> _Fitted:
    found = solve_free(
        X, beta=beta, generator=generator, n_points=plan.n_points, time_limit=plan.time_limit, progress=plan.progress
    )
    discriminator = _discriminator(found.directions, found.outer, None)
    return _Fitted(PointGenerator(found.points), discriminator, 1, found.solution)


def _linear(X: Tensor, beta: float, plan: _Plan, generator: torch.Generator) -> _Fitted:
    result = match_gaussian(X, beta=beta, generator=generator, time_limit=plan.time_limit, progress=plan.progress)
    values, vectors = torch.linalg.eigh(result.covariance)
    values, vectors = values.flip(0), vectors.flip(1)
    rank = max(1, int((values > 1e-7 * values[0].clamp_min(1e-300)).sum()))
    k = plan.n_latent or rank
    if k < rank:
        raise InputError(f"`n_latent` must be at least {rank}, the rank of the optimal covariance, got {k}")
    d = X.shape[1]
    G = LinearGenerator(k, d, generator=torch.Generator(), dtype=torch.float64).to(X.device)
    with torch.no_grad():
        G.weight.zero_()
        G.weight[:rank] = (values[:rank].clamp_min(0).sqrt() * vectors[:, :rank]).T
        G.mean.zero_()
    # u^T P u moves 4 pi phi(u) times as fast as phi(u): the chain rule turns a multiplier into a neuron's weight
    phi = ((result.directions @ result.covariance * result.directions).sum(1) / (2.0 * torch.pi)).sqrt()
    neurons = 4.0 * torch.pi * phi * result.multipliers
    return _Fitted(G, _discriminator(result.directions, neurons, None), k, result.solution)


def _discriminator(directions: Tensor, outer: Tensor, bias: Tensor | None) -> TwoLayerDiscriminator:
    d = directions.shape[1]
    D = TwoLayerDiscriminator(
        d,
        max(1, len(outer)),
        activation="relu",
        bias=bias is not None,
        generator=torch.Generator(),
        dtype=torch.float64,
    ).to(directions.device)
    if len(outer):
        with torch.no_grad():
            D.directions.copy_(directions)
            D.outer.copy_(outer)
            if D.bias is not None and bias is not None:
                D.bias.copy_(bias)
    return D
