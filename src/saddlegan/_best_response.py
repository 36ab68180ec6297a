"""The inner problems, written once: distances between discriminators for the proximal value (3), gradient search.

A search works on copies, starts at the given players and at perturbations of them, and returns the best player that it
met; what it found is a lower bound of what there is to find.
"""

from __future__ import annotations

import copy
import dataclasses
import math
import warnings
from collections.abc import Callable, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from saddlegan.errors import InputError
from saddlegan.game import Game, set_gradients
from saddlegan.networks import TwoLayerDiscriminator

Norm = Literal["sobolev", "l2", "parameters"]

_PIECEWISE_LINEAR = (nn.ReLU, nn.LeakyReLU, nn.PReLU, nn.RReLU, nn.ReLU6, nn.Hardtanh)
_PIECEWISE_LINEAR += (nn.Hardsigmoid, nn.Hardshrink, nn.Softshrink, nn.Threshold)


def warn_if_piecewise_linear(D: nn.Module, norm: Norm) -> None:
    """Warn where the Sobolev distance cannot see part of D: a piecewise linear activation.

    The input gradient of a piecewise linear D does not change with its hidden biases (almost everywhere), so that the
    distance has no gradient in them and the inner maximum of equation (3) is searched with a wrong slope. Activations
    that are called as functions inside `forward` are not seen.

    Args:
        D: the discriminator.
        norm: the distance in use; only "sobolev" is affected.

    Example:
        >>> import warnings
        >>> with warnings.catch_warnings(record=True) as caught:
        ...     warnings.simplefilter("always")
        ...     warn_if_piecewise_linear(nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 1)), "sobolev")
        >>> "softplus" in str(caught[0].message)
        True
    """
    if norm != "sobolev":
        return
    for module in D.modules():
        relu = isinstance(module, TwoLayerDiscriminator) and module.activation == "relu"
        if relu or isinstance(module, _PIECEWISE_LINEAR):
            warnings.warn(
                f"`D` contains {type(module).__name__}, which is piecewise linear: the Sobolev distance has no "
                "gradient in the biases before it. Use a smooth activation (softplus with beta=4, SiLU, tanh), or "
                'norm="l2" or norm="parameters".',
                UserWarning,
                stacklevel=3,
            )
            return


def squared_distance(D_new: nn.Module, D_old: nn.Module, x: Tensor, norm: Norm) -> Tensor:
    """||D_new - D_old||^2 of equation (3), differentiable in D_new's parameters.

    "sobolev" is E ||grad_x D_new(x) - grad_x D_old(x)||^2 with the graph kept, so that the term moves the parameters;
    "l2" is E |D_new(x) - D_old(x)|^2; "parameters" is the squared distance of the weights (cheap, not invariant).

    Args:
        D_new: the discriminator that moves.
        D_old: the centre; a constant.
        x: samples (n, ...) over which the expectation runs.
        norm: which distance.

    Returns:
        Scalar tensor.

    Raises:
        InputError: unknown norm.

    References:
        [FO20] definition of proximal equilibria.
    """
    if norm == "parameters":
        pairs = zip(D_new.parameters(), D_old.parameters(), strict=True)
        return torch.stack([(new - old.detach()).square().sum() for new, old in pairs]).sum()
    if norm == "l2":
        with torch.no_grad():
            centre = D_old(x)
        return (D_new(x) - centre).square().mean()
    if norm == "sobolev":
        moved = _input_gradient(D_new, x, create_graph=torch.is_grad_enabled())
        centre = _input_gradient(D_old, x, create_graph=False)
        return (moved - centre).flatten(1).square().sum(1).mean()
    raise InputError(f"`norm` must be one of {', '.join(get_args(Norm))}, got {norm!r}")


def _input_gradient(D: nn.Module, x: Tensor, *, create_graph: bool) -> Tensor:
    with torch.enable_grad():
        x = x.detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad(D(x).sum(), x, create_graph=create_graph)
    return gradient


Project = Callable[[nn.Module], None]
Batch = tuple[Tensor, Tensor]  # real samples (n, ...), latents (m, ...)


MEMORY = 1 / 15  # share of a search's steps that its moving average remembers


@dataclasses.dataclass(frozen=True)
class Search:
    """Settings of a gradient search: Adam from the pair itself and from perturbations of it.

    Attributes:
        steps: gradient steps of each start.
        learning_rate: Adam's rate; every third start uses ten times it.
        batch_size: samples and latents a step.
        restarts: number of starts; the first is the pair itself, the others are perturbed, so that a search that
            begins at a saddle point can leave it. Fewer than 3 never refute through the generator at a finite lambda.
        perturbation: standard deviation of the noise, in units of each tensor's root mean square (at least 0.1).
        evaluations: how often a start is scored on its way; the curve's number of points.
        patience: scores without progress after which a start has settled; at least `evaluations` never stops early.
        inner_steps: discriminator steps a generator step where the inner maximum of equation (3) is followed.
        samples: how many rows to take from a sampler or a loader; arrays and tensors are taken whole.
        tolerance: gains up to tolerance (1 + |V|) count as none.
        significance: one-sided level at which a measured gain refutes, shared out over the tests of one certificate.
        project_generator: called on the generator's copy after each step, to keep it in its class.
        project_discriminator: the same for the discriminator: clipping, say.

    Raises:
        InputError: a count is below 1, a rate is not positive, or the perturbation is negative.

    Example:
        >>> Search(steps=200).restarts
        3
    """

    steps: int = 400
    learning_rate: float = 1e-3
    batch_size: int = 64
    restarts: int = 3
    perturbation: float = 0.1
    evaluations: int = 20
    patience: int = 6
    inner_steps: int = 2
    samples: int = 8192
    tolerance: float = 1e-4
    significance: float = 1e-4
    project_generator: Project | None = None
    project_discriminator: Project | None = None

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "restarts", "evaluations", "patience", "inner_steps", "samples"):
            count = getattr(self, name)
            if isinstance(count, bool) or not isinstance(count, int) or count < 1:
                raise InputError(f"`{name}` must be a whole number of at least 1, got {count!r}")
        if not (self.learning_rate > 0 and math.isfinite(self.learning_rate)):
            raise InputError(f"`learning_rate` must be positive, got {self.learning_rate}")
        for name in ("perturbation", "tolerance"):
            size = getattr(self, name)
            if not (size >= 0 and math.isfinite(size)):
                raise InputError(f"`{name}` must not be negative, got {size}")
        if not 0 < self.significance < 1:
            raise InputError(f"`significance` must lie between 0 and 1, got {self.significance}")


@dataclasses.dataclass(frozen=True)
class Found:
    """What a search from one start came to.

    Attributes:
        player: the best copy met.
        score: its score.
        curve: (step, score) along the way.
        settled: whether the score had stopped growing.
        slack: growth of the best score over the last quarter of the curve, what more steps might still add.
    """

    player: nn.Module
    score: float
    curve: tuple[tuple[int, float], ...]
    settled: bool
    slack: float


def clone(module: nn.Module) -> nn.Module:
    """Deep copy without gradients; modules that keep a computed tensor as an attribute (old weight norms) work too."""
    computed = {
        id(entry): entry.detach().clone()
        for part in module.modules()
        for entry in vars(part).values()
        if isinstance(entry, Tensor) and entry.grad_fn is not None
    }
    twin = copy.deepcopy(module, computed)
    for parameter in twin.parameters():
        parameter.grad = None
    return twin


@torch.no_grad()
def follow(mine: nn.Module, other: nn.Module, rate: float) -> None:
    """Move a module's parameters the share `rate` of the way to another's; copy buffers, which are no iterates."""
    for p, q in zip(mine.parameters(), other.parameters(), strict=True):
        p.lerp_(q, rate)
    for p, q in zip(mine.buffers(), other.buffers(), strict=True):
        p.copy_(q)


def frozen(module: nn.Module) -> nn.Module:
    """Copy in evaluation mode whose parameters ask for no gradient."""
    return clone(module).eval().requires_grad_(False)


def perturbed(module: nn.Module, size: float, generator: torch.Generator) -> nn.Module:
    """Copy whose trainable parameters carry Gaussian noise of `size` times their root mean square (at least 0.1)."""
    twin = clone(module)
    with torch.no_grad():
        for parameter in twin.parameters():
            if parameter.requires_grad:
                noise = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype).to(parameter.device)
                parameter += size * max(0.1, float(parameter.square().mean().sqrt())) * noise
    return twin


class Ascent:
    """Adam's steps up a player's value, each followed by the projection into the player's class."""

    def __init__(
        self, player: nn.Module, *, learning_rate: float, betas: tuple[float, float], project: Project | None
    ) -> None:
        self.player, self.project = player, project
        self.trainable = [parameter for parameter in player.parameters() if parameter.requires_grad]
        self.optimiser = torch.optim.Adam(self.trainable, lr=learning_rate, betas=betas, fused=True)

    def __call__(self, value: Tensor) -> None:
        """Make one step; value is a scalar with a graph to the player."""
        gradients = torch.autograd.grad(-value, self.trainable, allow_unused=True, materialize_grads=True)
        set_gradients(self.trainable, gradients)
        self.optimiser.step()
        apply(self.project, self.player)


@torch.no_grad()
def apply(project: Project | None, player: nn.Module) -> nn.Module:
    """Project a player into its class, in place."""
    if project is not None:
        project(player)
    return player


def ascend(
    start: nn.Module,
    objective: Callable[[nn.Module, Tensor, Tensor], Tensor],
    score: Callable[[nn.Module], float],
    draw: Callable[[], Batch],
    *,
    search: Search,
    learning_rate: float,
    project: Project | None,
    betas: tuple[float, float] = (0.9, 0.999),
) -> Found:
    """Raise `objective` over a copy of `start` by Adam; keep the average of its iterates with the best `score`.

    Averages are scored because single iterates of a stochastic search jump about its goal, and those of a search
    against a player that answers circle around it.

    Args:
        start: where to begin; not changed.
        objective: (player, x, z) -> scalar, differentiable.
        score: player in evaluation mode -> number, on data that the steps do not see.
        draw: gives the next batch.
        search: settings.
        learning_rate: Adam's rate.
        project: keeps the player in its class; applied to the average too, since a class need not be convex.
        betas: Adam's decays; momentum makes a search against a player that answers swing.
    """
    player = clone(start).train()
    average = clone(start).eval()
    decay = max(0.0, 1.0 - 1.0 / (MEMORY * search.steps))
    climb = Ascent(player, learning_rate=learning_rate, betas=betas, project=project)
    every = max(1, search.steps // search.evaluations)
    curve: list[tuple[int, float]] = []
    best, best_score, stale = average, -math.inf, 0
    progress: list[float] = []
    for step in range(search.steps + 1):
        # the start itself is not scored: its spectral norms and running statistics may not fit perturbed weights yet
        if step and (step % every == 0 or step == search.steps):
            now = score(apply(project, average))
            curve.append((step, now))
            grown = now - best_score
            stale = 0 if grown > 0.01 * abs(best_score) + 1e-9 else stale + 1
            if grown > 0:
                best, best_score = clone(average), now
            progress.append(best_score)
            if step == search.steps or stale >= search.patience or not math.isfinite(now):
                break
        climb(objective(player, *draw()))
        follow(average, player, 1.0 - decay)
    slack = best_score - progress[-1 - len(progress) // 4]
    settled = stale >= search.patience or slack <= 0.01 * abs(best_score) + 1e-9
    return Found(best, best_score, tuple(curve), settled, slack if math.isfinite(slack) else math.inf)


def best_of(
    starts: Sequence[nn.Module],
    objective: Callable[[nn.Module, Tensor, Tensor], Tensor],
    score: Callable[[nn.Module], float],
    draw: Callable[[], Batch],
    *,
    search: Search,
    project: Project | None,
) -> Found:
    """Run `ascend` from every start, every third one at ten times the rate, and return the best outcome."""
    found = [
        ascend(
            start,
            objective,
            score,
            draw,
            search=search,
            learning_rate=search.learning_rate * (10.0 if index % 3 == 2 else 1.0),
            project=project,
        )
        for index, start in enumerate(starts)
    ]
    return max(found, key=lambda outcome: outcome.score)


def proximal_value(game: Game, D: nn.Module, x: Tensor, z: Tensor, *, lam: float, norm: Norm) -> Tensor:
    """V(G, D') - (lam/2) ||D' - D||^2 of equation (3) at one D', the game's discriminator.

    Args:
        game: the pair (G, D').
        D: the centre of the proximal term, a constant.
        x: real samples.
        z: latents.
        lam: weight; 0 leaves the value alone.
        norm: the distance.

    Example:
        >>> from saddlegan.networks import LinearGenerator, TwoLayerDiscriminator
        >>> game = Game(LinearGenerator(2, 3), TwoLayerDiscriminator(3, 4), objective="wasserstein", latent=2)
        >>> proximal_value(game, game.D, torch.ones(5, 3), torch.zeros(5, 2), lam=1.0, norm="sobolev").item()
        0.0
    """
    value = game.value(x, z)
    return value if lam == 0 else value - 0.5 * lam * squared_distance(game.D, D, x, norm)
