"""Searches for a player's best response, in steps that do not depend on anybody's units.

A search works on copies, starts at the given players and at perturbations of them, and returns the best player that it
met; what it found is a lower bound of what there is to find. Two methods climb: L-BFGS on the whole sample, which finds
most of what a small network has to give in about a second, and Adam on batches with averaged iterates, for networks
that would learn a whole sample by heart and for players that are held in a class by a projection.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from saddlegan import checks
from saddlegan.batch import Rows
from saddlegan.errors import InputError, InputTypeError
from saddlegan.modules import clone, follow, set_gradients, settle_spectral_norms, trainable

Project = Callable[[nn.Module], None]
Batch = tuple[Rows, Rows]  # real samples (n, ...) or (x, *conditions), latents (m, ...)
Objective = Callable[[nn.Module, Rows, Rows], Tensor]
Score = Callable[[nn.Module], float]

MEMORY = 1 / 15  # share of a search's steps that its moving average remembers
PROBES = 8  # random signs that measure how far a parameter moves the output
REFRESH = 100  # steps after which the units of a search's steps are measured again
RATES = (1.0, 1 / 3, 3.0)  # rates of the starts, in units of `learning_rate`
TRIAL = 3  # strides after which a start of L-BFGS goes on only if it is ahead of those before it
HISTORY = 30  # pairs that L-BFGS remembers
STRIDE = 10  # iterations of L-BFGS between two scores
STALE = 2  # strides of L-BFGS without progress on the selection sample after which it has learnt its sample by heart


@dataclasses.dataclass(frozen=True)
class Search:
    """Settings of a search. Steps are measured in units of the change of a player's output, theory 4.3.

    A step at rate r moves each of a player's tensors so far that D's raw value, or G's sample in units of the data's
    spread, changes by about r. Rescaled data, weights or outputs are therefore searched alike.

    Attributes:
        steps: steps of Adam, and iterations of L-BFGS, of each start.
        learning_rate: change of the output a step of Adam; starts use it, a third and three times it in turn.
        batch_size: samples and latents a step of Adam.
        restarts: number of starts; the first is the pair itself, the others are perturbed, so that a search that
            begins at a saddle point can leave it. Fewer than 3 never suspect the generator at a finite lambda.
        perturbation: standard deviation of the noise, in units of each tensor's root mean square; of its unit step
            where the tensor is zero.
        evaluations: how often a start is scored on its way; the curve's number of points.
        patience: scores without progress after which a start has settled; at least `evaluations` never stops early.
        inner_steps: discriminator steps a generator step where the inner maximum of equation (3) is followed.
        samples: how many rows to take from a sampler or a loader; arrays and tensors are taken whole.
        tolerance: gains up to tolerance |V| count as none.
        significance: one-sided level at which a measured gain refutes, shared out over the tests of one certificate.
        domain: where deviating generators may put their samples. "data": the box of the data, a tenth larger; images
            have one range for all pixels. Two numbers: that range. None: the whole space, where the gain of a
            generator is often unbounded and the figure grows with the budget.
        project_generator: called on the generator's copy after each step, to keep it in its class.
        project_discriminator: the same for the discriminator: clipping, say.
        callback: called as callback(what is searched, share of the whole done) on the way.

    Raises:
        InputError: a count is below 1, a rate is not positive, the perturbation is negative, or the domain is empty.
        InputTypeError: `domain` is none of the three.

    Example:
        >>> Search(steps=200).restarts
        3
    """

    steps: int = 400
    learning_rate: float = 0.1
    batch_size: int = 64
    restarts: int = 3
    perturbation: float = 0.1
    evaluations: int = 20
    patience: int = 6
    inner_steps: int = 2
    samples: int = 8192
    tolerance: float = 1e-4
    significance: float = 1e-4
    domain: Literal["data"] | tuple[float, float] | None = "data"
    project_generator: Project | None = None
    project_discriminator: Project | None = None
    callback: Callable[[str, float], None] | None = None

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "restarts", "evaluations", "patience", "inner_steps", "samples"):
            object.__setattr__(self, name, checks.count(name, getattr(self, name)))
        for name in ("perturbation", "tolerance"):
            object.__setattr__(self, name, checks.number(name, getattr(self, name)))
        for name in ("learning_rate", "significance"):
            object.__setattr__(self, name, checks.positive(name, getattr(self, name)))
        if not self.significance < 1:
            raise InputError(f"`significance` must lie between 0 and 1, got {self.significance}")
        if self.domain is not None and self.domain != "data":
            object.__setattr__(self, "domain", _range(self.domain))


def _range(domain: Any) -> tuple[float, float]:
    if isinstance(domain, str) or not isinstance(domain, (tuple, list)) or len(domain) != 2:
        raise InputTypeError(f'`domain` must be "data", None or two numbers (lowest, highest), got {domain!r}')
    low, high = float(domain[0]), float(domain[1])
    if not low < high:
        raise InputError(f"`domain` must rise from its lowest to its highest number, got {domain}")
    return low, high


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


@dataclasses.dataclass(frozen=True)
class Units:
    """How far a player's parameters may move for its output to change by one unit, theory 4.3.

    For a tensor p of N entries the step is s_p = 1 / (sqrt(N) * rms over samples of ||d o / d p||_F), o the output in
    its own unit: then moving all entries of p by +-s_p changes the output by about one. Taking p = s q, x -> c x or
    another unit of the output changes nothing.

    Attributes:
        output: the player's output on some fixed samples, (n, ...), with its graph; None where a player has none that
            is known (the players of a value of the user's own): then steps are in units of each tensor's size.
        unit: what counts as one unit of the output.
    """

    output: Callable[[nn.Module], Tensor] | None = None
    unit: float = 1.0

    def steps(self, player: nn.Module) -> list[float]:
        """s_p of each trainable parameter, in their order."""
        parameters = trainable(player)
        sizes = [float(p.detach().double().square().mean().sqrt()) for p in parameters]
        here = self._slopes(player, parameters)
        if here is None:
            return [size or 1.0 for size in sizes]
        # a player that is nearly constant (an outer layer near zero) has no slope in its inner layers, but gets one
        # with the first step: so the slopes count that it has a typical step away. The output is affine in an outer
        # layer, which may take its whole step there; other tensors move by a part of their size at most
        away = clone(player)
        with torch.no_grad():
            for index, (p, size) in enumerate(zip(trainable(away), sizes, strict=True)):
                if here[index] == 0:
                    continue
                length = 0.1 / (here[index] * math.sqrt(p.numel()))
                if not self._affine(player, index, length):
                    length = min(length, 0.1 * size) if size > 0 else 0.0
                p += length * _signs(p, seed=index)
        there = self._slopes(away, trainable(away)) or here
        slopes = [max(pair) if math.isfinite(max(pair)) else 0.0 for pair in zip(here, there, strict=True)]
        return [
            1.0 / (slope * math.sqrt(p.numel())) if slope > 0 else size or 1.0
            for slope, p, size in zip(slopes, parameters, sizes, strict=True)
        ]

    def _affine(self, player: nn.Module, index: int, length: float) -> bool:
        """Whether the output is affine in one tensor, over twice a length."""
        twin = clone(player)
        p, outputs = trainable(twin)[index], []
        for _ in range(3):
            outputs.append(self.output(twin).double())  # type: ignore[misc]
            p += length * _signs(p, seed=index)
        first, second = outputs[1] - outputs[0], outputs[2] - outputs[1]
        return float((second - first).norm()) <= 1e-3 * float(first.norm())

    def _slopes(self, player: nn.Module, parameters: Sequence[nn.Parameter]) -> list[float] | None:
        """Rms over samples of ||d o / d p||_F by random signs, whose mean of squares it is."""
        if self.output is None:
            return None
        with torch.enable_grad():
            output = self.output(player)
        if not output.requires_grad:
            return [0.0] * len(parameters)
        squares = torch.zeros(len(parameters), dtype=torch.float64)
        for probe in range(PROBES):
            slopes = torch.autograd.grad(
                output, parameters, _signs(output, seed=probe), retain_graph=True, allow_unused=True
            )
            squares += torch.stack(
                [torch.zeros((), dtype=torch.float64) if s is None else s.double().square().sum().cpu() for s in slopes]
            )
        return (squares / PROBES / len(output)).sqrt().div(self.unit).tolist()


def _signs(like: Tensor, *, seed: int) -> Tensor:
    """Random signs, the same each time."""
    source = torch.Generator().manual_seed(seed)
    signs = torch.randint(2, like.shape, generator=source) * 2 - 1
    return signs.to(like.device, like.dtype)


def perturbed(module: nn.Module, size: float, generator: torch.Generator, *, units: Units) -> nn.Module:
    """Copy whose trainable parameters carry Gaussian noise of `size` times their root mean square, or unit step."""
    twin = clone(module)
    parameters = trainable(twin)
    sizes = [float(parameter.detach().square().mean().sqrt()) for parameter in parameters]
    if not all(sizes):
        sizes = [own or step for own, step in zip(sizes, units.steps(module), strict=True)]
    with torch.no_grad():
        for parameter, own in zip(parameters, sizes, strict=True):
            # drawn on the CPU: one seed gives the same starts on every device
            noise = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype).to(parameter.device)
            parameter += size * own * noise
    return twin


class Ascent:
    """Adam's steps up a player's value, in units of its output, each followed by the projection into its class.

    Adam's constant is 1e-16 of the first gradient's size: the direction depends on no scale, and float32 does not
    underflow where all gradients are small.
    """

    def __init__(
        self,
        player: nn.Module,
        *,
        units: Units,
        learning_rate: float,
        betas: tuple[float, float],
        project: Project | None,
    ) -> None:
        self.player, self.project, self.units, self.rate = player, project, units, learning_rate
        self.trainable = trainable(player)
        groups = [{"params": [parameter]} for parameter in self.trainable]
        self.optimiser = torch.optim.Adam(groups, lr=0.0, betas=betas, eps=1e-16, fused=True)
        self.sizes: list[Tensor] = [torch.ones(()) for _ in self.trainable]
        self.taken = 0

    def __call__(self, value: Tensor) -> None:
        """Make one step; value is a scalar with a graph to the player."""
        gradients = torch.autograd.grad(-value, self.trainable, allow_unused=True, materialize_grads=True)
        if self.taken == 0:
            sizes = [gradient.abs().max() for gradient in gradients]
            self.sizes = [torch.where((size > 0) & size.isfinite(), size, torch.ones_like(size)) for size in sizes]
        if self.taken % REFRESH == 0:
            for group, step in zip(self.optimiser.param_groups, self.units.steps(self.player), strict=True):
                group["lr"] = self.rate * step
        set_gradients(self.trainable, [g / size for g, size in zip(gradients, self.sizes, strict=True)])
        self.optimiser.step()
        self.taken += 1
        settle_spectral_norms(self.player, 1)
        apply(self.project, self.player)


@torch.no_grad()
def apply(project: Project | None, player: nn.Module) -> nn.Module:
    """Project a player into its class, in place."""
    if project is not None:
        project(player)
    return player


class _Record:
    """The best player met on the way, and whether it still grew."""

    def __init__(self, start: nn.Module, search: Search, floor: float, stale: int) -> None:
        self.best, self.score, self.search, self.floor, self.patience = start, -math.inf, search, floor, stale
        self.curve: list[tuple[int, float]] = []
        self.progress: list[float] = []
        self.stale = 0

    def add(self, step: int, player: nn.Module, score: float) -> bool:
        """Note a score; return whether to go on."""
        self.curve.append((step, score))
        grown = score - self.score
        # a player is better by a hundredth of what was found, or by what counts as anything at all
        self.stale = 0 if grown > max(0.01 * abs(self.score), self.floor) else self.stale + 1
        if grown > 0:
            self.best, self.score = clone(player), score
        self.progress.append(self.score)
        return self.stale < self.patience and math.isfinite(score)

    def found(self, *, converged: bool = False) -> Found:
        # the last quarter of the curve: what it still gained, more steps might gain again. One point shows no growth:
        # only a search that met its own stopping rule has settled then
        seen = len(self.progress)
        slack = self.score - self.progress[-1 - seen // 4] if seen >= 4 else self.score
        little = max(0.01 * abs(self.score), self.floor)
        settled = converged or self.stale >= self.patience or (seen >= 4 and slack <= little)
        if converged or (seen and not math.isfinite(slack)):
            slack = 0.0 if converged else math.inf
        return Found(self.best, self.score, tuple(self.curve), settled, max(slack, 0.0))


def ascend(
    start: nn.Module,
    objective: Objective,
    score: Score,
    draw: Callable[[], Batch],
    *,
    search: Search,
    units: Units,
    learning_rate: float,
    project: Project | None,
    betas: tuple[float, float] = (0.9, 0.999),
    floor: float = 0.0,
) -> Found:
    """Raise `objective` over a copy of `start` by Adam; keep the average of its iterates with the best `score`.

    Averages are scored because single iterates of a stochastic search jump about its goal, and those of a search
    against a player that answers circle around it. Players are in evaluation mode throughout, as they are judged.

    Args:
        start: where to begin; not changed.
        objective: (player, x, z) -> scalar, differentiable.
        score: player -> number, on data that the steps do not see.
        draw: gives the next batch.
        search: settings.
        units: the length of a step.
        learning_rate: change of the output a step.
        project: keeps the player in its class; applied to the average too, since a class need not be convex.
        betas: Adam's decays; momentum makes a search against a player that answers swing.
        floor: growth up to this counts as none.
    """
    player, average = clone(start).eval(), clone(start).eval()
    decay = max(0.0, 1.0 - 1.0 / (MEMORY * search.steps))
    climb = Ascent(player, units=units, learning_rate=learning_rate, betas=betas, project=project)
    every = max(1, search.steps // search.evaluations)
    record = _Record(average, search, floor, search.patience)
    for step in range(1, search.steps + 1):
        climb(objective(player, *draw()))
        follow(average, player, 1.0 - decay)
        if step % every == 0 or step == search.steps:
            settle_spectral_norms(average)
            if not record.add(step, average, score(apply(project, average))):
                break
    return record.found()


def ascend_whole(
    start: nn.Module,
    objective: Callable[[nn.Module], Tensor],
    score: Score,
    *,
    search: Search,
    units: Units,
    floor: float = 0.0,
    ahead: float = -math.inf,
    enough: float = math.inf,
) -> Found:
    """Raise `objective`, a whole sample's, by L-BFGS with a strong Wolfe line search; keep the best `score` met.

    The variables are the parameters in units of their steps, so that neither the line search nor the first step, which
    knows no curvature yet, depends on the scale of a tensor. A network with more weights than there are samples learns
    them by heart: the score on other samples falls, and the search ends.

    Args:
        start: where to begin; not changed.
        objective: player -> scalar, differentiable, the same at each call.
        score: player -> number, on data that the steps do not see.
        search: settings; `steps` iterations at most.
        units: the variables' units.
        floor: growth up to this counts as none.
        ahead: score to have passed after `TRIAL` strides, else the search ends there.
        enough: score at which nobody needs more.
    """
    player = clone(start).eval()
    parameters = trainable(player)
    sizes = torch.cat([p.new_full((p.numel(),), s) for p, s in zip(parameters, units.steps(player), strict=True)])
    q = nn.Parameter(torch.cat([p.detach().reshape(-1) for p in parameters]) / sizes)
    stretches = [p.numel() for p in parameters]
    scale = 0.0

    def put() -> None:
        with torch.no_grad():
            for p, piece in zip(parameters, (q * sizes).split(stretches), strict=True):
                p.copy_(piece.view_as(p))
        settle_spectral_norms(player)

    def closure() -> Tensor:
        nonlocal scale
        put()
        value = objective(player)
        slopes = torch.autograd.grad(-value, parameters, allow_unused=True, materialize_grads=True)
        gradient = torch.cat([slope.reshape(-1) for slope in slopes]) * sizes
        if scale == 0.0:  # the value in units of its first slope
            scale = float(gradient.norm()) or 1.0
        q.grad = gradient / scale
        return -value.detach() / scale

    record = _Record(player, search, floor, max(STALE, search.patience * STRIDE // 20))
    optimiser = torch.optim.LBFGS(
        [q],
        max_iter=STRIDE,
        max_eval=3 * STRIDE,
        history_size=HISTORY,
        line_search_fn="strong_wolfe",
        tolerance_grad=0.0,
        tolerance_change=1e-12 if q.dtype == torch.float64 else 1e-9,
    )
    converged = False
    for step in range(STRIDE, search.steps + STRIDE, STRIDE):
        before = q.detach().clone()
        optimiser.step(closure)
        if not bool(q.isfinite().all()):  # ran off along a value without a maximum
            break
        put()
        going = record.add(min(step, search.steps), player, score(player))
        converged = bool(torch.equal(before, q)) or float(q.grad.norm()) < 1e-6  # type: ignore[union-attr]
        behind = len(record.curve) == TRIAL and record.score <= ahead
        if converged or not going or behind or record.score >= enough:
            break
    return record.found(converged=converged)


def best_of(
    starts: Sequence[nn.Module],
    objective: Objective,
    score: Score,
    draw: Callable[[], Batch],
    *,
    whole: Callable[[nn.Module], Tensor] | None,
    search: Search,
    units: Units,
    project: Project | None,
    floor: float = 0.0,
    polish: bool = True,
    enough: float = math.inf,
) -> Iterator[Found]:
    """Search from every start; the outcomes in the order in which they come.

    Players without a projection climb the whole sample by L-BFGS, and the best of them goes on by Adam on batches,
    which does not learn the sample by heart; others go by Adam alone, at the rates of `RATES` in turn.
    """
    rates = [search.learning_rate * RATES[index % len(RATES)] for index in range(len(starts))]
    if whole is None or project is not None:
        for start, rate in zip(starts, rates, strict=True):
            yield ascend(
                start, objective, score, draw, search=search, units=units, learning_rate=rate, project=project,
                floor=floor,
            )  # fmt: skip
        return
    best = None
    for start in starts:
        # a start that is not ahead where the best one stood after as many steps hardly gets there
        stood = [score for _, score in best.curve[:TRIAL]] if best is not None else []
        outcome = ascend_whole(
            start,
            whole,
            score,
            search=search,
            units=units,
            floor=floor,
            ahead=max(stood, default=-math.inf),
            enough=enough,
        )
        yield outcome
        if best is None or outcome.score > best.score:
            best = outcome
    if polish and best is not None:
        yield _after(
            best,
            ascend(
                best.player,
                objective,
                score,
                draw,
                search=search,
                units=units,
                learning_rate=rates[0] / 3,
                project=None,
                floor=floor,
            ),
        )


def _after(first: Found, second: Found) -> Found:
    """Two searches, one begun where the other ended, as one: settled only if both were."""
    last = first.curve[-1][0] if first.curve else 0
    better = second if second.score > first.score else first
    return Found(
        better.player,
        better.score,
        (*first.curve, *((last + step, score) for step, score in second.curve)),
        first.settled and second.settled,
        second.slack + (0.0 if first.settled else first.slack),
    )
