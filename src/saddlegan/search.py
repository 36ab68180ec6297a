"""Gradient searches for a player's best response.

A search works on copies, starts at the given players and at perturbations of them, and returns the best player that it
met; what it found is a lower bound of what there is to find.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from saddlegan import checks
from saddlegan.batch import Rows
from saddlegan.errors import InputError
from saddlegan.modules import clone, follow, set_gradients

Project = Callable[[nn.Module], None]
Batch = tuple[Rows, Rows]  # real samples (n, ...) or (x, *conditions), latents (m, ...)


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
            object.__setattr__(self, name, checks.count(name, getattr(self, name)))
        for name in ("perturbation", "tolerance"):
            object.__setattr__(self, name, checks.number(name, getattr(self, name)))
        for name in ("learning_rate", "significance"):
            object.__setattr__(self, name, checks.positive(name, getattr(self, name)))
        if not self.significance < 1:
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


def perturbed(module: nn.Module, size: float, generator: torch.Generator) -> nn.Module:
    """Copy whose trainable parameters carry Gaussian noise of `size` times their root mean square (at least 0.1)."""
    twin = clone(module)
    with torch.no_grad():
        for parameter in twin.parameters():
            if parameter.requires_grad:
                # drawn on the CPU: one seed gives the same starts on every device
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
    # the last quarter of the curve: what it still gained, more steps might gain again
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
