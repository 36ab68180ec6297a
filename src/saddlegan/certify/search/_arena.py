"""The pair under judgement, frozen, with its samples, its units and the domain of deviating generators."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from saddlegan.batch import Rows, conditions, count, part, samples, take, with_samples
from saddlegan.certify.search._domain import Domain, Held
from saddlegan.certify.search._measure import SELECT, Gain, Splits, block_values, gain_of, mean_value, paired, thinned
from saddlegan.game import Game
from saddlegan.modules import clone, frozen, like
from saddlegan.search import Batch, Found, Search, Units, apply, perturbed

WHOLE = 2048  # at most so many samples and latents are searched as a whole
WHOLE_NUMBERS = 2_000_000  # but not so many that their graph keeps more numbers than this, in memory and in time
LEAST = 256  # samples, however large their graph
PROBED = 64  # samples on which the units of a search's steps are measured
DEAD = 1e-3  # a slope that promises less than this share of the ideal gain, over the whole spread of the data, is none
ROUNDINGS = 32  # rounding errors of V in units of the mean size of its terms


class _Shown(nn.Module):
    """Gives back what stands in the place of its latents, whatever it is told beside."""

    def forward(self, x: Tensor, *given: Tensor) -> Tensor:
        return x


def _is_dead(player: nn.Module, output: Tensor) -> bool:
    """Whether no trainable parameter moves the output, to first order."""
    if not output.requires_grad:
        return True
    parameters = [p for p in player.parameters() if p.requires_grad]
    # cotangents of both signs, so that outputs which sum to a constant (a softmax) do not look dead
    signs = torch.ones(output.numel(), dtype=output.dtype, device=output.device)
    signs[::2] = -0.7
    slopes = torch.autograd.grad(output.reshape(-1), parameters, signs, allow_unused=True)
    return all(slope is None or not bool(slope.any()) for slope in slopes)


@dataclasses.dataclass(frozen=True)
class Deviation:
    """One player's best deviation found.

    Attributes:
        player: the deviating copy, in evaluation mode.
        gains: held-out gains by block.
        curve: (step, gain on the selection sample) of the start that won.
        free_gains: the same where the domain of the search does not hold the player's samples.
        settled: whether that search had settled.
        growth: what the last quarter of that search, and of an inner maximum, still added.
        slack: what an unfinished inner maximum may still take off the gain; 0 where there is none.
        answer: the discriminator of that inner maximum; None where there is none.
    """

    player: nn.Module
    gains: Tensor
    free_gains: Tensor
    curve: tuple[tuple[int, float], ...]
    settled: bool
    growth: float
    slack: float
    answer: nn.Module | None = None


class Once(nn.Module):
    """A player that computes nothing twice for the same tensors.

    Args:
        player: who computes.
        only: what it is asked again and again while it stands still: computed now, and nothing else is kept.
    """

    def __init__(self, player: nn.Module, only: tuple[Tensor, ...] | None = None) -> None:
        super().__init__()
        self.player = player
        self._known: list[tuple[tuple[Tensor, ...], Tensor]] = []
        self._keeps = only is None
        if only is not None:
            with torch.no_grad():
                self._known.append((only, player(*only)))

    def forward(self, *given: Tensor) -> Tensor:
        for known, output in self._known:
            if len(known) == len(given) and all(a is b for a, b in zip(known, given, strict=True)):
                return output
        output = self.player(*given)
        if self._keeps:
            self._known.append((given, output))
        return output


class Arena:
    """The pair as it stands, frozen, with the samples on which deviations are searched, chosen and measured.

    Args:
        game: the user's pair; only copied.
        splits: the samples.
        search: settings.
        generator: source of batches and perturbations.
        domain: where deviating generators may put their samples.
    """

    def __init__(
        self, game: Game, splits: Splits, *, search: Search, generator: torch.Generator, domain: Domain | None = None
    ) -> None:
        self.G, self.D = frozen(game.G), frozen(game.D)
        self.game = game.replace(G=self.G, D=self.D)
        self.trainable_G, self.trainable_D = clone(game.G), clone(game.D)
        self.splits, self.search, self.generator = splits, search, generator
        self.domain = None if game.has_own_value else domain
        self.planned, self._done = 2, 0  # searches of one certificate, for the callback
        self.freed: Found | None = None  # the generator's search on V itself, which every lambda shares
        self.answer: nn.Module | None = None  # the discriminator's own deviation
        penalised = game.generator_penalty is not None or game.discriminator_penalty is not None
        self._graph = penalised or game.has_own_value  # which may differentiate in samples
        self.select_value = self.mean(self.game.value, splits.select)
        self.held_out_value = self.blocks(self.game.value, splits.held_out)
        self.units_G, self.units_D = self._units()
        self.rounding = ROUNDINGS * torch.finfo(like(game.D).dtype).eps * self._magnitude()
        self.floor = search.tolerance * abs(self.select_value) + self.rounding

    def fixed(self, G: nn.Module, batch: Batch) -> tuple[Game, Batch]:
        """The game with G's samples in place of latents, which saves G's work while only D moves."""
        plain = isinstance(batch[0], Tensor) and isinstance(batch[1], Tensor) and not self.game.has_own_value
        if self.game.generator_penalty is not None or not plain:  # it may look into G itself, or at what G is told
            return self.game.replace(G=G), batch
        with torch.no_grad():
            fakes = torch.cat([G(z) for z in batch[1].split(SELECT)])
        return self.game.replace(G=nn.Identity()), (batch[0], fakes)

    def mean(self, value: Callable[[Tensor, Tensor], Tensor], batch: Batch) -> float:
        return mean_value(value, batch, graph=self._graph, rows_in_groups=self.game.rows_in_groups)

    def blocks(self, value: Callable[[Tensor, Tensor], Tensor], batch: Batch) -> Tensor:
        return block_values(value, batch, graph=self._graph, rows_in_groups=self.game.rows_in_groups)

    def gain(self, blocks: Tensor, *, significance: float, slack: float = 0.0) -> Gain:
        """A gain measured by block, beside the pair's own value on the held-out samples."""
        return gain_of(
            blocks,
            value=float(self.held_out_value.mean()),
            tolerance=self.search.tolerance,
            significance=significance,
            slack=slack,
            rounding=self.rounding,
        )

    def ideal_gain(self, *, significance: float) -> Gain | None:
        """What a generator that reproduced the data would gain, V(G*, D*) - [E f0(D*(x)) + E f1(D*(x'))].

        Real samples stand in the generator's place (theory 4.4). A lower bound of the gain for the class of all
        generators, alive where gradients are dead. None where it is not defined: an own value, or a penalty of the
        generator, whose figure for such a generator nobody knows.
        """
        if self.game.has_own_value or self.game.generator_penalty is not None:
            return None
        real, held_out = self.splits.search, self.splits.held_out[0]
        if paired(self.game, real):  # as many as there are samples
            real = part(real, 0, count(held_out))
            if count(real) != count(held_out):
                return None
        blocks = self.blocks(self.game.replace(G=_Shown()).value, (held_out, real))
        # block by block on the same samples: what both values share cancels, and with it most of the noise
        return self.gain(self.held_out_value - blocks, significance=significance)

    def blindness(self, ideal: Gain | None) -> str | None:
        """Why the generator's search sees nothing: samples that no parameter moves, or a dead slope; else None."""
        if self.game.has_own_value:  # G's samples are the value's own affair
            return None
        x, z = self.splits.select
        G = clone(self.trainable_G).eval()
        fake = self.game.replace(G=G).generate(z, conditions(x))
        if _is_dead(G, fake):
            return "no parameter of G moves its samples"
        if ideal is not None and ideal.significant:
            points = fake.detach().requires_grad_(True)
            shown = with_samples(z, points) if isinstance(z, tuple) else points
            if not isinstance(z, tuple) and conditions(x):
                shown = with_samples(x, points)
            value = self.game.replace(G=_Shown()).value(x, shown)
            (slope,) = torch.autograd.grad(value, points, allow_unused=True, materialize_grads=True)
            real = samples(x)
            centre = real.mean(0)
            # the whole way to the data: its spread, or the distance to it, in the data's own units
            way = max(float((side - centre).flatten(1).norm(dim=1).mean()) for side in (real, fake.detach()))
            promised = way * float(slope.double().flatten(1).norm(dim=1).sum())
            if promised < DEAD * ideal.mean:
                return (
                    f"V has no slope left at G's samples, although real samples in their place would lower it by "
                    f"{ideal.mean:.4g}"
                )
        return None

    @functools.cached_property
    def outside(self) -> float:
        """Share of the pair's own samples that lie beyond the domain."""
        if self.domain is None:
            return 0.0
        x, z = self.splits.select
        with torch.no_grad():
            return self.domain.outside(self.game.generate(z, conditions(x)))

    @property
    def foreign(self) -> bool:
        """Whether the domain is not the pair's: most of its samples lie beyond, and deviations are judged as they are.

        Held in the domain all generators look alike from so far away, and nothing would be seen of what they gain.
        """
        return self.outside > 0.5

    def baseline(self, G: nn.Module, batch: Batch) -> Tensor:
        """V of the pair, by block, from which a generator's gain counts.

        What the pair itself would gain by being brought into the domain is no deviation's own gain; the pair's own
        generator, which stays, is not brought there.
        """
        value = self.blocks(self.game.value, batch)
        if G is self.G or self.domain is None or self.outside == 0.0 or self.foreign:
            return value
        brought = self.blocks(self.game.replace(G=Held(self.G, self.domain)).value, batch)
        return brought if float(brought.mean()) < float(value.mean()) else value

    @torch.no_grad()
    def _magnitude(self) -> float:
        """Mean size of the terms of which V is the mean: its rounding error is in proportion to it."""
        if self.game.has_own_value:
            return abs(self.select_value)
        objective = self.game.objective
        real, fake = self._outputs(self.D)
        if objective.pairing is not None:
            rows = min(len(real), len(fake))
            terms = [objective.pairing(real[:rows] - fake[:rows]), real, fake]
        else:
            terms = [objective.f0(objective.link(real)), objective.f1(objective.link(fake))]
        size = sum(float(term.double().abs().mean()) for term in terms)
        return size if math.isfinite(size) else 0.0

    def draw(self) -> Batch:
        """Return a batch of the search sample with fresh latents."""
        return self.pick(self.splits.search), self.game.sample_latent(self._rows, self.generator)

    def held(self, G: nn.Module) -> nn.Module:
        """The generator, its samples held in the domain; the pair's own, which stays where it is, as it is."""
        return G if self.domain is None or G is self.G else Held(G, self.domain)

    def judged(self, G: nn.Module) -> nn.Module:
        """The generator as a gain on the proximal value is measured."""
        return G if self.foreign else self.held(G)

    def done(self) -> None:
        """Count a search that has ended."""
        self._done += 1

    def tell(self, who: str, share: float) -> None:
        """Report to the callback: searches done, and the share of the one that runs."""
        if self.search.callback is not None:
            self.search.callback(who, min(1.0, (self._done + share) / max(1, self.planned)))

    @property
    def _rows(self) -> int:
        """Rows of a step's batch, in whole groups."""
        groups = self.game.rows_in_groups
        return max(groups, self.search.batch_size // groups * groups)

    @functools.cached_property
    def whole_batch(self) -> Batch:
        """The sample that L-BFGS climbs: the search half, or as much of it as memory should hold."""
        x, groups = self.splits.search, self.game.rows_in_groups
        most = min(WHOLE, max(LEAST, int(WHOLE_NUMBERS / self._kept())))
        rows = min(count(x), most) // groups * groups
        latents = rows if paired(self.game, x) else most // groups * groups
        return part(x, 0, rows), self.game.sample_latent(latents, self.generator)

    @functools.cached_property
    def inner_batch(self) -> Batch:
        """The held-out rows on which a cautious inner maximum is searched: all of 25,000 took most of the time."""
        return thinned(self.splits.held_out, WHOLE, rows_in_groups=self.game.rows_in_groups)

    def _kept(self) -> float:
        """Numbers that the graph of V keeps for each sample, with both players in it."""
        kept, (x, z) = 0, self.draw()
        G, D = clone(self.trainable_G).eval(), clone(self.trainable_D).eval()

        def count_numbers(tensor: Tensor) -> Tensor:
            nonlocal kept
            kept += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(count_numbers, lambda tensor: tensor):
            self.game.replace(G=G, D=D).value(x, z)
        return max(1.0, kept / count(x))

    def pick(self, sample: Rows) -> Rows:
        return take(sample, torch.randint(count(sample), (self._rows,), generator=self.generator))

    @functools.cached_property
    def _probe(self) -> tuple[Rows, Rows, Tensor]:
        """A few samples, latents and generated samples on which outputs are looked at."""
        groups = self.game.rows_in_groups
        rows = max(PROBED // groups, 1) * groups
        x, z = (part(half, 0, min(rows, count(half))) for half in self.splits.select)
        with torch.no_grad():
            return x, z, self.game.generate(z, conditions(x))

    def _outputs(self, D: nn.Module) -> tuple[Tensor, Tensor]:
        """D's raw values of a few samples of either kind, one a sample."""
        x, z, fake = self._probe
        raw = D(samples(x), *conditions(x)), D(fake, *self.game.batch(x, z, fake=fake).fake_conditions)
        real, made = (each.reshape(len(each), -1).mean(1) for each in raw)
        return real, made

    def _units(self) -> tuple[Units, Units]:
        """Units of G's and of D's steps: the spread of the data; 1 for logits, the spread of D where V is linear."""
        if self.game.has_own_value:
            return Units(), Units()
        x, z, fake = self._probe
        given = conditions(x)
        with torch.no_grad():
            outputs = torch.cat(self._outputs(self.D)).double()
        spread = float(outputs.std(correction=0)) if _is_linear(self.game) else 1.0
        real = samples(x).flatten(1).double()
        centre = real.mean(0)
        unit = float((real - centre).norm(dim=1).square().mean().sqrt())
        if unit == 0:  # data at one point: their distance to the samples
            unit = float((fake.flatten(1).double() - centre).norm(dim=1).square().mean().sqrt())
        return (
            Units(lambda G: self.game.replace(G=G).generate(z, given).flatten(1), unit or 1.0),
            Units(lambda D: torch.cat(self._outputs(D)), spread if 0 < spread < math.inf else 1.0),
        )

    def starts(self, player: nn.Module, *, discriminator: bool) -> list[nn.Module]:
        size, others = self.search.perturbation, self.search.restarts - 1
        return [player, *(self.near(player, size, discriminator=discriminator) for _ in range(others))]

    def near(self, player: nn.Module, size: float, *, discriminator: bool) -> nn.Module:
        units = self.units_D if discriminator else self.units_G
        return self._projected(perturbed(player, size, self.generator, units=units), discriminator=discriminator)

    def mirrored(self) -> nn.Module:
        """Discriminator with every trainable parameter negated."""
        D = clone(self.trainable_D)
        with torch.no_grad():
            for parameter in D.parameters():
                if parameter.requires_grad:
                    parameter.neg_()
        return self._projected(D, discriminator=True)

    def _projected(self, player: nn.Module, *, discriminator: bool) -> nn.Module:
        return apply(self.search.project_discriminator if discriminator else self.search.project_generator, player)


def _is_linear(game: Game) -> bool:
    """Whether V is linear in D's output, whose unit is then nobody's: the Wasserstein value."""
    if game.objective.pairing is not None:
        return False
    t = torch.tensor([-2.0, -1.0, 1.0, 2.0], dtype=torch.float64)
    halves = (game.objective.f0(game.objective.link(t)), game.objective.f1(game.objective.link(t)))
    return all(torch.allclose(half, half[2] * t, rtol=1e-12, atol=0.0) for half in halves)


def is_bare(game: Game) -> bool:
    """Whether V only ever calls D, and never looks into it."""
    return game.discriminator_penalty is None and game.fake_transform is None and not game.has_own_value
