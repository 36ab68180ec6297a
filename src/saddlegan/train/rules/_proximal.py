"""Proximal training: play on the proximal value, whose discriminator may not run far from a centre."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, final

import torch
import torch.distributed as dist
from torch import Tensor
from torch.amp.grad_scaler import GradScaler
from torch.optim import Optimizer

from saddlegan import checks
from saddlegan.batch import Rows, count, spread
from saddlegan.errors import InputError
from saddlegan.game import Game, Own
from saddlegan.modules import clone, evaluating, follow
from saddlegan.proximal import Norm, squared_distance, warn_if_piecewise_linear
from saddlegan.results import Step
from saddlegan.train.parts._parallel import mean_over, share
from saddlegan.train.rules._base import AbstractRule, Constraint


@final
class Proximal(AbstractRule):
    """G descends against the discriminator D' that maximises the proximal value (3) around D; D follows D'.

        D'_{k+1} = D'_k + b grad_D' [ V(G_t, D'_k) - (lam/2) ||D'_k - D_t||^2 ]        `steps` times by opt_D
        G_{t+1}  = G_t - a grad_G L_G(G_t, D')
        D_{t+1}  = D_t + rate (D' - D_t)                                               in parameters

    *Persistent* (the default, a single loop): D' is kept from step to step and one ascent a step suffices. *Fresh* (the
    paper's form, `persistent=False, steps=10, rate=1`): D' starts from D in each step. There the first ascent's penalty
    has no gradient, so `steps=1, rate=1` is plain alternating training, and so is `steps=0`, which leaves the inner
    problem out. The game's D is the centre between steps, the equilibrium player; D' belongs to the rule.

    `Step`: `value`, `discriminator_loss` (with the proximal term) and `stats["distance"]` = ||D' - D||^2 at
    (G_t, D' just before its last ascent); `generator_loss` at (G_t, D').

    Args:
        game: see `AbstractRule`, as for all arguments not listed below.
        opt_G: optimiser of G.
        opt_D: optimiser over the parameters of game.D; it makes the ascents of D'.
        lam: weight of the proximal term; small near Stackelberg play, large near Nash play.
        steps: ascents of D' per step.
        norm: "sobolev", E ||grad D' - grad D||^2 over real samples, which needs a smooth D; "l2"; or "parameters".
        rate: how far D follows D', in (0, 1]; 0.1 if persistent and 1 if fresh, unless given.
        persistent: keep D' over the steps.
        points: real samples that the proximal term runs over, spread evenly over x; all of x if None.
        generator: source of latents.
        accumulate: pieces per batch.
        constraint: applied to D' after its moves.
        group: process group.
        scaler: for float16.

    References:
        [FO20] section 6, proximal training; theory 2.3.

    Example:
        >>> import torch
        >>> from saddlegan import Game, networks
        >>> G, D = networks.LinearGenerator(2, 3), networks.TwoLayerDiscriminator(3, 4)
        >>> rule = Proximal(
        ...     Game(G, D, latent=2), torch.optim.SGD(G.parameters(), 0.1), torch.optim.SGD(D.parameters(), 0.1)
        ... )
        >>> rule.step(torch.ones(8, 3)).stats
        {'distance': 0.0}
    """

    options: ClassVar[Mapping[str, str]] = {
        "lam": "lam",
        "inner_steps": "steps",
        "norm": "norm",
        "persistent": "persistent",
        "points": "points",
    }

    def __init__(
        self,
        game: Game,
        opt_G: Optimizer,
        opt_D: Optimizer,
        *,
        lam: float = 1.0,
        steps: int = 1,
        norm: Norm = "sobolev",
        rate: float | None = None,
        persistent: bool = True,
        points: int | None = None,
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
        lam = checks.number("lam", lam)
        steps = checks.count("steps", steps, least=1 if persistent else 0)
        if norm not in ("sobolev", "l2", "parameters"):
            raise InputError(f"`norm` must be 'sobolev', 'l2' or 'parameters', got {norm!r}")
        if norm != "parameters" and isinstance(game.D, Own):
            raise InputError(f"`norm` {norm!r} needs a D of samples, and this one is a parameter: use 'parameters'")
        if rate is None:
            rate = 0.1 if persistent else 1.0
        rate = checks.number("rate", rate, least=1e-12, most=1.0)
        if points is not None:
            points = checks.count("points", points)
        if lam > 0:
            warn_if_piecewise_linear(game.D, norm)
        self.lam = lam
        self.steps = steps
        self.norm: Norm = norm
        self.rate = rate
        self.persistent = persistent
        self.points = points
        self._swapped = False
        # swapping keeps the optimiser's moments with D', whose path they describe
        self._other = clone(game.D)  # D' between persistent steps, the centre D within any step

    def _step(self, x: Rows) -> Step:
        z = self._latents(count(x))
        if self.persistent:
            self._swap()
            self._swapped = True
        elif self.steps > 1 or self.rate < 1.0:
            self._copy_to_other()
        near = x
        if self.points is not None:
            near = spread(x, share(self.group, self.points), rows_in_groups=self.game.rows_in_groups)
        distance = torch.zeros(())
        discriminator_loss = torch.zeros(())
        fakes = [self._fake(*pieces) for pieces in zip(self._pieces(x), self._pieces(z), strict=True)]
        for k in range(max(1, self.steps)):
            near_centre = not self.persistent and k == 0  # D' = D: the penalty and its gradient are zero
            seen: list[Tensor] = []
            losses = self._inner_losses(x, z, fakes, near, None if near_centre or self.lam == 0 else seen)
            discriminator_loss = self._set_gradient(self.game.D, losses)
            distance = mean_over(self.group, (seen[0].reshape(1),))[0] if seen else torch.zeros(())
            self.opt_D.step()
            self._constrain()
        value = self._generator_penalty(x, z) - float(discriminator_loss) + 0.5 * self.lam * float(distance)
        generator_loss = self._descend(self._generator_losses(x, self._latents(count(x))))
        self._follow()
        return Step(value, float(generator_loss), float(discriminator_loss), {"distance": float(distance)})

    def _inner_losses(
        self, x: Rows, z: Rows, fakes: list[Tensor | None], near: Rows, seen: list[Tensor] | None
    ) -> Iterator[Tensor]:
        for piece, latents, fake in zip(self._pieces(x), self._pieces(z), fakes, strict=True):
            loss = self.game.discriminator_loss(piece, fake, latents)
            if seen is None:
                yield loss
            else:
                with evaluating(self.game.D, self._other):  # noise and dropout are no part of a distance
                    distance = squared_distance(self.game.D, self._other, near, self.norm)
                seen.append(distance.detach())
                yield loss + 0.5 * self.lam * distance

    @torch.no_grad()
    def _follow(self) -> None:
        """D <- D + rate (D' - D); afterwards game.D is the centre again."""
        if self.persistent:
            # with its buffers: never played in training mode, its singular vectors and statistics would stand still
            for centre, inner in zip(self._other.parameters(), self.game.D.parameters(), strict=True):
                if inner.requires_grad:  # a layer frozen in mid-training stands still
                    centre.lerp_(inner, self.rate)
            for centre, inner in zip(self._other.buffers(), self.game.D.buffers(), strict=True):
                centre.copy_(inner)
            self._swap()
            self._swapped = False
        elif self.rate < 1.0 and self.steps > 0:
            for centre, inner in zip(self._other.parameters(), self.game.D.parameters(), strict=True):
                if inner.requires_grad:
                    inner.copy_(torch.lerp(centre, inner, self.rate))

    def _abandon(self) -> None:
        if self._swapped:  # game.D must be the centre again
            self._swap()
            self._swapped = False
        elif not self.persistent and (self.steps > 1 or self.rate < 1.0):
            follow(self.game.D, self._other, 1.0)

    def _pairs(self) -> Iterator[tuple[Tensor, Tensor]]:
        players = self.game.D, self._other
        yield from zip(*(itertools.chain(D.parameters(), D.buffers()) for D in players), strict=True)

    def _swap(self) -> None:
        """Exchange D and D' without copying; optimiser state stays with the parameters of game.D."""
        for ours, others in self._pairs():
            ours.data, others.data = others.data, ours.data

    @torch.no_grad()
    def _copy_to_other(self) -> None:
        for ours, others in self._pairs():
            others.copy_(ours)

    def _own_state(self) -> dict[str, Any]:
        return {"inner": self._other.state_dict()} if self.persistent else {}

    def _load_own_state(self, own: Mapping[str, Any]) -> None:
        if ("inner" in own) != self.persistent:
            raise InputError("`state` comes from the other form of Proximal: `persistent` must be the same")
        if self.persistent:
            self._other.load_state_dict(own["inner"])
