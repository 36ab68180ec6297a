"""Best deviations by gradient search: the discriminator's, the generator's, the generator's on the proximal value."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from saddlegan.batch import Rows, conditions, count, part, samples, take, with_samples
from saddlegan.certify.search._measure import SELECT, Gain, Splits, block_values, gain_of, mean_value, paired
from saddlegan.game import Game
from saddlegan.modules import clone, frozen
from saddlegan.proximal import Norm, proximal_value
from saddlegan.search import Ascent, Batch, Found, Search, apply, ascend, best_of, perturbed

FAR = 1.0  # noise of a far inner start, in units of each tensor's root mean square
ADVERSARIAL = (0.5, 0.999)  # Adam's decays where two players move, as in training
WARM = 1 / 8  # share of the steps that the inner discriminator takes before the generator moves
DEAD = 1e-3  # a slope that promises less than this share of the ideal gain, over the whole spread of the data, is none
POLISH = 5  # inner steps before a generator on its way is scored, in units of `inner_steps`


@dataclasses.dataclass(frozen=True)
class Deviation:
    """One player's best deviation found.

    Attributes:
        player: the deviating copy, in evaluation mode.
        gains: held-out gains by block.
        curve: (step, gain on the selection sample) of the start that won.
        settled: whether that search had settled.
        growth: what the last quarter of that search, and of an inner maximum, still added.
        slack: what an unfinished inner maximum may still take off the gain; 0 where there is none.
    """

    player: nn.Module
    gains: Tensor
    curve: tuple[tuple[int, float], ...]
    settled: bool
    growth: float
    slack: float


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


class Arena:
    """The pair as it stands, frozen, with the samples on which deviations are searched, chosen and measured.

    Args:
        game: the user's pair; only copied.
        splits: the samples.
        search: settings.
        generator: source of batches and perturbations.
    """

    def __init__(self, game: Game, splits: Splits, *, search: Search, generator: torch.Generator) -> None:
        self.G, self.D = frozen(game.G), frozen(game.D)
        self.game = game.replace(G=self.G, D=self.D)
        self.trainable_G, self.trainable_D = clone(game.G), clone(game.D)
        self.splits, self.search, self.generator = splits, search, generator
        penalised = game.generator_penalty is not None or game.discriminator_penalty is not None
        self._graph = penalised or game.has_own_value  # which may differentiate in samples
        self.select_value = self._mean(self.game.value, splits.select)
        self.held_out_value = self._blocks(self.game.value, splits.held_out)

    def _fixed(self, G: nn.Module, batch: Batch) -> tuple[Game, Batch]:
        """The game with G's samples in place of latents, which saves G's work while only D moves."""
        plain = isinstance(batch[0], Tensor) and isinstance(batch[1], Tensor) and not self.game.has_own_value
        if self.game.generator_penalty is not None or not plain:  # it may look into G itself, or at what G is told
            return self.game.replace(G=G), batch
        with torch.no_grad():
            fakes = torch.cat([G(z) for z in batch[1].split(SELECT)])
        return self.game.replace(G=nn.Identity()), (batch[0], fakes)

    def _mean(self, value: Callable[[Tensor, Tensor], Tensor], batch: Batch) -> float:
        return mean_value(value, batch, graph=self._graph, rows_in_groups=self.game.rows_in_groups)

    def _blocks(self, value: Callable[[Tensor, Tensor], Tensor], batch: Batch) -> Tensor:
        return block_values(value, batch, graph=self._graph, rows_in_groups=self.game.rows_in_groups)

    def ideal_gain(self, *, value: float, significance: float) -> Gain | None:
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
        blocks = self._blocks(self.game.replace(G=_Shown()).value, (held_out, real))
        # block by block on the same samples: what both values share cancels, and with it most of the noise
        gains = self.held_out_value - blocks
        return gain_of(gains, value=value, tolerance=self.search.tolerance, significance=significance)

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

    def draw(self) -> Batch:
        """Return a batch of the search sample with fresh latents."""
        return self._batch(self.splits.search), self.game.sample_latent(self._rows, self.generator)

    def discriminator(self) -> Deviation:
        """Search max_D V(G, D)."""

        def value(D: nn.Module, x: Tensor, z: Tensor) -> Tensor:
            return self.game.replace(D=D).value(x, z)

        selecting, select = self._fixed(self.G, self.splits.select)
        measuring, held_out = self._fixed(self.G, self.splits.held_out)

        def score(D: nn.Module) -> float:
            return self._mean(selecting.replace(D=D).value, select) - self.select_value

        found = best_of(
            self._starts(self.trainable_D, discriminator=True),
            value,
            score,
            self.draw,
            search=self.search,
            project=self.search.project_discriminator,
        )
        player = frozen(found.player)
        gains = self._blocks(measuring.replace(D=player).value, held_out) - self.held_out_value
        return Deviation(player, gains, found.curve, found.settled, found.slack, 0.0)

    def generator_on_value(self, *, known: Sequence[nn.Module] = ()) -> Deviation:
        """Search min_G V(G, D); `known` are further generators to try.

        A penalty that is D's alone is left out on both sides: G is not credited for what only D plays.
        """
        game = self.game.without_discriminator_only_penalty()
        select_value, held_out_value = self.select_value, self.held_out_value
        if game is not self.game:
            select_value = self._mean(game.value, self.splits.select)
            held_out_value = self._blocks(game.value, self.splits.held_out)

        def loss(G: nn.Module, x: Tensor, z: Tensor) -> Tensor:
            return -game.replace(G=G).value(x, z)

        def score(G: nn.Module) -> float:
            return select_value - self._mean(game.replace(G=G).value, self.splits.select)

        found = best_of(
            self._starts(self.trainable_G, discriminator=False),
            loss,
            score,
            self.draw,
            search=self.search,
            project=self.search.project_generator,
        )
        # what was found at a smaller lambda is a deviation at a larger one: gains do not fall for want of luck
        player = frozen(max([found.player, *known], key=score))
        gains = held_out_value - self._blocks(game.replace(G=player).value, self.splits.held_out)
        return Deviation(player, gains, found.curve, found.settled, found.slack, 0.0)

    def generator_on_proximal(
        self, *, lam: float, norm: Norm, known: Sequence[nn.Module] = (), cautious: bool = True
    ) -> Deviation:
        """Search min_G V_lam(G, D), equation (3).

        A persistent inner discriminator follows the generator. The generators that win are then given a full inner
        maximum.

        Args:
            lam: weight of the proximal term, finite.
            norm: its distance.
            known: further generators to try, such as those found at a smaller lam.
            cautious: search the inner maximum on the very sample on which the generator is scored. One that fits its
                sample is too large rather than too small, so that no gain is exaggerated by an inner discriminator
                that failed to generalise: right for verdicts. Otherwise it is searched, chosen and measured on
                different samples, as the discriminator's own deviation is: right for a gap, the difference of both.
        """
        outcomes = [
            self._follow(start, self._rate(index), lam=lam, norm=norm)
            for index, start in enumerate(self._starts(self.trainable_G, discriminator=False))
        ]
        candidates = [(frozen(outcome.player), warm) for outcome, warm in outcomes]
        candidates += [(player, self.trainable_D) for player in known]

        def judged(number: int, batch: Batch) -> tuple[Tensor, Found]:
            return self._proximal_gains(*candidates[number], batch, lam=lam, norm=norm, cautious=cautious)

        chosen = 0
        if len(candidates) > 1:
            scores = [float(judged(number, self.splits.select)[0].mean()) for number in range(len(candidates))]
            chosen = scores.index(max(scores))
        gains, inner = judged(chosen, self.splits.held_out)
        outcome = outcomes[min(chosen, len(outcomes) - 1)][0]
        settled = outcome.settled and inner.settled
        return Deviation(candidates[chosen][0], gains, outcome.curve, settled, outcome.slack + inner.slack, inner.slack)

    def _follow(self, start: nn.Module, rate: float, *, lam: float, norm: Norm) -> tuple[Found, nn.Module]:
        """Descend V(G, D') with D' kept near the inner maximum of equation (3); return the generator and D'."""
        D = clone(self.trainable_D).train()
        climb = Ascent(
            D,
            learning_rate=self.search.learning_rate,
            betas=ADVERSARIAL,
            project=self.search.project_discriminator,
        )

        def follow(G: nn.Module, steps: int) -> None:
            for _ in range(steps):
                game, (x, z) = self._fixed(G, self.draw())
                climb(proximal_value(game.replace(D=D), self.D, x, z, lam=lam, norm=norm))

        def loss(G: nn.Module, x: Tensor, z: Tensor) -> Tensor:
            follow(G, self.search.inner_steps)
            return -self.game.replace(G=G, D=D).value(x, z)

        def score(G: nn.Module) -> float:
            follow(G, POLISH * self.search.inner_steps)
            D.eval()
            value = self._mean(self._proximal(G, D, lam=lam, norm=norm), self.splits.select)
            D.train()
            return self.select_value - max(value, self._mean(self.game.replace(G=G).value, self.splits.select))

        # a discriminator that lags would make the first generators look best, one far ahead gives them no slope
        follow(clone(start).train(), max(1, round(WARM * self.search.steps)))
        found = ascend(
            start,
            loss,
            score,
            self.draw,
            search=self.search,
            learning_rate=rate,
            project=self.search.project_generator,
            betas=ADVERSARIAL,
        )
        return found, D

    def _proximal_gains(
        self, G: nn.Module, warm: nn.Module, batch: Batch, *, lam: float, norm: Norm, cautious: bool
    ) -> tuple[Tensor, Found]:
        """V(G*, D*) - V_lam(G, D*) by block; see `generator_on_proximal` for where the inner maximum is searched."""
        game, sample = self._fixed(G, batch)

        def proximal(D: nn.Module) -> Callable[[Tensor, Tensor], Tensor]:
            played = game.replace(D=D)
            return lambda x, z: proximal_value(played, self.D, x, z, lam=lam, norm=norm)

        def value(D: nn.Module, x: Tensor, z: Tensor) -> Tensor:
            return proximal(D)(x, z)

        scored = sample if cautious else self._fixed(G, self.splits.select)[1]

        def score(D: nn.Module) -> float:
            return self._mean(proximal(D), scored)

        def draw() -> Batch:
            return (self._batch(sample[0]), self._batch(sample[1])) if cautious else self._fixed(G, self.draw())[1]

        # the follower first: it is near the inner maximum at the generator that won; then the proximal term's centre
        starts = [warm, *[self.trainable_D] * min(2, self.search.restarts)]
        if self.search.restarts > 2:  # far starts, for an inner problem that is not concave
            starts += [self._near(self.trainable_D, FAR, discriminator=True), self._mirrored()]
        if self.search.restarts == 1:
            starts = [max(starts, key=lambda D: score(frozen(D)))]
        inner = best_of(starts, value, score, draw, search=self.search, project=self.search.project_discriminator)
        unmoved = self._blocks(game.value, sample)
        reached = self._blocks(proximal(inner.player), sample)
        pair = self._blocks(self.game.value, batch)
        # D* itself is a candidate: the inner maximum is never below V(G, D*), and a failed search invents no gain
        return pair - (reached if float(reached.mean()) > float(unmoved.mean()) else unmoved), inner

    def _proximal(self, G: nn.Module, D: nn.Module, *, lam: float, norm: Norm) -> Callable[[Tensor, Tensor], Tensor]:
        game = self.game.replace(G=G, D=D)
        return lambda x, z: proximal_value(game, self.D, x, z, lam=lam, norm=norm)

    @property
    def _rows(self) -> int:
        """Rows of a step's batch, in whole groups."""
        groups = self.game.rows_in_groups
        return max(groups, self.search.batch_size // groups * groups)

    def _batch(self, sample: Rows) -> Rows:
        return take(sample, torch.randint(count(sample), (self._rows,), generator=self.generator))

    def _rate(self, index: int) -> float:
        return self.search.learning_rate * (10.0 if index % 3 == 2 else 1.0)

    def _starts(self, player: nn.Module, *, discriminator: bool) -> list[nn.Module]:
        size, others = self.search.perturbation, self.search.restarts - 1
        return [player, *(self._near(player, size, discriminator=discriminator) for _ in range(others))]

    def _near(self, player: nn.Module, size: float, *, discriminator: bool) -> nn.Module:
        return self._projected(perturbed(player, size, self.generator), discriminator=discriminator)

    def _mirrored(self) -> nn.Module:
        """Discriminator with every trainable parameter negated."""
        D = clone(self.trainable_D)
        with torch.no_grad():
            for parameter in D.parameters():
                if parameter.requires_grad:
                    parameter.neg_()
        return self._projected(D, discriminator=True)

    def _projected(self, player: nn.Module, *, discriminator: bool) -> nn.Module:
        return apply(self.search.project_discriminator if discriminator else self.search.project_generator, player)
