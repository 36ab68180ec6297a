"""The primal-dual rule: the generator's distribution is the multiplier, and follows its own dual step."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal, final

import torch
import torch.distributed as dist
from torch import Tensor
from torch.amp.grad_scaler import GradScaler
from torch.optim import Optimizer

from saddlegan import checks
from saddlegan.batch import Rows, conditions, count, cut, join, samples, spread
from saddlegan.errors import InputError
from saddlegan.game import Game
from saddlegan.modules import evaluating, like
from saddlegan.results import Step
from saddlegan.train.parts._parallel import gather, share
from saddlegan.train.rules._base import AbstractRule, Constraint

Schedule = float | Callable[[int], float]
Bandwidths = Sequence[float] | Callable[[int], Sequence[float]] | Literal["auto"]

SCALED = (0.15, 0.35, 0.7)  # of the plane's unit sd; see `spreads`
BLIND = 1e-6  # mean density at real points below which the density term moves nothing


def kernel_density(points: Tensor, sample: Tensor, bandwidths: Sequence[float], *, replicas: int = 1) -> Tensor:
    """p(x_i) = mean over s of mean_j exp(-||x_i - y_j||^2 / (2 s^2)), a Gaussian density up to its constants.

    Args:
        points: x (m, ...), flattened.
        sample: y (n, ...), flattened.
        bandwidths: the s, in data units.
        replicas: number of equal parts that both are cut into; densities of different parts do not mix.

    Returns:
        (m,), between 0 and 1, differentiable in both.

    Example:
        >>> kernel_density(torch.zeros(1, 2), torch.tensor([[0.0, 1.0]]), [1.0])
        tensor([0.6065])
    """
    replicas, bandwidths = checks.count("replicas", replicas), _bandwidths(bandwidths)
    with torch.autocast(points.device.type, enabled=False):  # the exponent needs every digit of the distances
        wide = torch.float64 if points.dtype == torch.float64 else torch.float32
        X = points.flatten(1).to(wide).unflatten(0, (replicas, -1))
        Y = sample.flatten(1).to(wide).unflatten(0, (replicas, -1))
        shift = X.mean(1, keepdim=True).detach()  # distances near the data lose no digits to a far origin
        X, Y = X - shift, Y - shift
        distances = torch.baddbmm(
            X.square().sum(2, keepdim=True) + Y.square().sum(2)[:, None, :], X, Y.mT, alpha=-2.0
        ).clamp_min(0.0)
        terms = [torch.exp(distances * (-0.5 / s**2)).mean(2) for s in bandwidths]
        return (torch.stack(terms).mean(0) if len(terms) > 1 else terms[0]).flatten()


def _bandwidths(bandwidths: Sequence[float]) -> list[float]:
    found = [checks.positive("bandwidths", bandwidth) for bandwidth in bandwidths]
    if not found:
        raise InputError("`bandwidths` is empty; give at least one")
    return found


def spreads(points: Tensor, *, replicas: int = 1) -> Tensor:
    """Root of half the total variance of each part, (replicas,): 1 for data of unit sd in the plane.

    Squared distances between samples grow with the number of dimensions as the total variance does, so that kernels of
    widths in this unit see the same share of their neighbours in any dimension and at any scale of the data.

    Example:
        >>> spreads(torch.tensor([[-2.0, 0.0], [2.0, 0.0], [0.0, -2.0], [0.0, 2.0]]))
        tensor([1.4142])
    """
    wide = torch.float64 if points.dtype == torch.float64 else torch.float32
    X = points.flatten(1).to(wide).unflatten(0, (replicas, -1))
    return (X - X.mean(1, keepdim=True)).square().sum(2).mean(1).mul(0.5).sqrt()


@final
class PrimalDual(AbstractRule):
    """Alternating training whose generator also moves its density to the dual step's target at real points, (6).

        D_{t+1} = D_t + b grad_D V(G_t, D_t)
        target(x_i) = p_G(x_i) - alpha f1(D_{t+1}(x_i))        held fixed
        G_{t+1} = G_t - a grad_G [ L_G(G, D_{t+1}) + w mean_i (target(x_i) - p_G(x_i))^2 ]

    p_G is a Gaussian kernel density of the generated batch, without its normalising constants. Gradient descent on L_G
    alone can only move samples along grad D; where the data have mass and the samples none, f1(D(x_i)) < 0 and the
    second term pulls density there: the cure of mode collapse. Only the product w * alpha matters for the gradient:
    tune one number. Bandwidths about 0.2 to 1 times the distance between modes; the data's own tiny scale is too small.
    Where kernels are so narrow that the density at real points underflows, the term is silent and the rule says so.

    Assumptions: f1(t*) = 0 and f0'(t*) = -f1'(t*) for one t*, see `Objective.equilibrium`.

    `Step`: `discriminator_loss` and `value` at (G_t, D_t); `generator_loss` at (G_t, D_{t+1}), the density term
    included; `stats["density_loss"]` is that term, `stats["density"]` the mean of p_G at the real points.

    Args:
        game: see `AbstractRule`, as for all arguments not listed below.
        opt_G: optimiser of G.
        opt_D: optimiser of D.
        weight: w, a number or a function of the number of steps done; 0 is plain alternating training.
        alpha: the dual step, a number or a function of the number of steps done.
        bandwidths: of the kernels, in units of the feature space (or of the data), or a function of the steps done;
            "auto" takes 0.15, 0.35 and 0.7 times the root of half the total variance of the first batch's features,
            which follows the data's scale and dimension.
        points: real points at which densities are matched, the first rows spread evenly over x; all of x if None.
        features: map into the space of the densities, such as a classifier's features for images; the data if None.
        replicas: equal parts of a batch that are independent runs (see `Replicas`); their densities do not mix.
        generator: source of latents.
        accumulate: pieces per batch; every piece is matched at the same real points.
        constraint: applied to D after its moves.
        group: process group; real points are shared between the processes.
        scaler: for float16.

    Raises:
        ObjectiveError: the objective has no Lagrangian view.
        InputError: a number is out of range.

    Warns:
        UserWarning: once, when the density at real points is below 1e-6.

    References:
        [C18] equation (6) of the theory.

    Example:
        >>> import torch
        >>> from saddlegan import Game, networks
        >>> G, D = networks.LinearGenerator(2, 3), networks.TwoLayerDiscriminator(3, 4)
        >>> rule = PrimalDual(
        ...     Game(G, D, latent=2), torch.optim.SGD(G.parameters(), 0.1), torch.optim.SGD(D.parameters(), 0.1)
        ... )
        >>> sorted(rule.step(torch.ones(8, 3)).stats)
        ['density', 'density_loss']
    """

    options: ClassVar[Mapping[str, str]] = {
        "weight": "weight",
        "bandwidths": "bandwidths",
        "points": "points",
        "seeds": "replicas",
    }

    def __init__(
        self,
        game: Game,
        opt_G: Optimizer,
        opt_D: Optimizer,
        *,
        weight: Schedule = 40.0,
        alpha: Schedule = 1.0,
        bandwidths: Bandwidths = "auto",
        points: int | None = None,
        features: Callable[[Tensor], Tensor] | None = None,
        replicas: int = 1,
        generator: torch.Generator | None = None,
        accumulate: int = 1,
        constraint: Constraint | None = None,
        group: dist.ProcessGroup | None = None,
        scaler: GradScaler | None = None,
    ) -> None:
        super().__init__(
            game,
            opt_G,
            opt_D,
            generator=generator,
            accumulate=accumulate,
            constraint=constraint,
            group=group,
            scaler=scaler,
        )
        game.objective.require_lagrangian("PrimalDual")
        replicas = checks.count("replicas", replicas)
        if replicas > 1 and accumulate > 1:
            raise InputError("`replicas` and `accumulate` cannot be joined: pieces would mix the replicas")
        if replicas > 1 and group is not None:
            raise InputError("`replicas` and `group` cannot be joined: shared real points would mix the replicas")
        if points is not None:
            points = checks.count("points", points)
        self.weight = weight
        self.alpha = alpha
        self.bandwidths = bandwidths
        self.points = points
        self.features = features
        self.replicas = replicas
        self._spreads: Tensor | None = None  # of the first batch that has any, where bandwidths are "auto"
        self._warned = False
        if isinstance(bandwidths, str) and bandwidths != "auto":
            raise InputError(f"`bandwidths` must be numbers, a function of the step or 'auto', got {bandwidths!r}")
        _ = self._now(0)  # refuse bad numbers here, not in the first step

    def _now(self, t: int) -> tuple[float, float, list[float]]:
        weight = self.weight(t) if callable(self.weight) else self.weight
        alpha = self.alpha(t) if callable(self.alpha) else self.alpha
        given = SCALED if isinstance(self.bandwidths, str) else self.bandwidths
        bandwidths = _bandwidths(given(t) if callable(given) else given)
        weight = checks.number("weight", weight)
        alpha = checks.number("alpha", alpha)
        return weight, alpha, bandwidths

    def _step(self, x: Rows) -> Step:
        z = self._latents(count(x))
        discriminator_loss = self._ascend(x, z)
        value = self._generator_penalty(x, z) - float(discriminator_loss)
        weight, alpha, bandwidths = self._now(self.steps_done)
        z = self._latents(count(x))
        if weight == 0.0:
            generator_loss = self._descend(self._generator_losses(x, z))
            return Step(value, float(generator_loss), float(discriminator_loss), {"density_loss": 0.0, "density": 0.0})
        with torch.no_grad(), evaluating(self.game.D):
            points = self._real_points(x)
            near = samples(points)  # densities are those of samples; conditions only tell D what it looks at
            link, f1 = self.game.objective.link, self.game.objective.f1
            raw = self.game.D(near, *conditions(points))
            rise = -alpha * f1(link(raw)).reshape(len(raw), -1).mean(1)
            rise = gather(self.group, rise.repeat_interleave(len(near) // len(raw)))
            near = gather(self.group, near if self.features is None else self.features(near))
        unit = self._unit(x) if isinstance(self.bandwidths, str) else None
        seen: list[tuple[Tensor, Tensor]] = []
        losses = self._density_losses(x, z, near, rise, weight, bandwidths, unit, seen)
        generator_loss = self._descend(losses)
        term, density = (torch.stack(figures).mean() for figures in zip(*seen, strict=True))
        stats = {"density_loss": float(term), "density": float(density)}
        if stats["density"] < BLIND and not self._warned:
            self._warned = True
            widths = ", ".join(f"{b * (1.0 if unit is None else float(unit.mean())):.3g}" for b in bandwidths)
            warnings.warn(
                f"the density of generated samples at real points is {stats['density']:.1e}: kernels of widths "
                f"{widths} see nothing, and this is plain training. Widen `bandwidths` (or leave them 'auto'), or give "
                "`features` in which real and generated samples are closer",
                UserWarning,
                stacklevel=3,
            )
        return Step(value, float(generator_loss), float(discriminator_loss), stats)

    def _in(self, unit: Tensor | None, rows: Tensor) -> Tensor:
        """Rows in units of their replica's spread."""
        if unit is None:
            return rows
        return rows / unit.repeat_interleave(len(rows) // len(unit)).view(-1, *[1] * (rows.ndim - 1))

    def _real_points(self, x: Rows) -> Rows:
        if self.points is None:
            return x
        points = share(self.group, self.points)
        if self.replicas == 1:
            return spread(x, points, rows_in_groups=self.game.rows_in_groups)
        return join([spread(piece, points) for piece in cut(x, self.replicas)])

    @torch.no_grad()
    def _unit(self, x: Rows) -> Tensor:
        """Unit of the bandwidths for each replica, measured once."""
        if self._spreads is None:
            real = samples(x)
            rows = gather(self.group, real if self.features is None else self.features(real))
            found = spreads(rows, replicas=self.replicas)
            if not bool((found > 0).all()):  # a batch of one point has no scale; the next may
                return torch.where(found > 0, found, 1.0)
            self._spreads = found
        return self._spreads

    def _own_state(self) -> dict[str, Any]:
        return {} if self._spreads is None else {"spreads": self._spreads}

    def _load_own_state(self, own: Mapping[str, Any]) -> None:
        found = own.get("spreads")
        self._spreads = None if found is None else found.to(like(self.game.G).device, copy=True)

    def _density_losses(
        self,
        x: Rows,
        z: Rows,
        near: Tensor,
        rise: Tensor,
        weight: float,
        bandwidths: list[float],
        unit: Tensor | None,
        seen: list[tuple[Tensor, Tensor]],
    ) -> Iterator[Tensor]:
        for x_piece, piece in zip(self._pieces(x), self._pieces(z), strict=True):
            batch = self.game.batch(x_piece, piece)
            fake = batch.fake
            made = fake if self.features is None else self.features(fake)
            density = kernel_density(self._in(unit, near), self._in(unit, made), bandwidths, replicas=self.replicas)
            # held fixed: the term pulls the density up to the target and never the target down
            target = (density + rise.flatten()).detach()
            term = weight * (target - density).square().mean()
            seen.append((term.detach(), density.detach().mean()))
            yield self.game.generator_loss_of(batch) + term
