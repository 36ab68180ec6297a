"""Best deviations by gradient search: the discriminator's, the generator's, the generator's on the proximal value."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from saddlegan.batch import Rows, conditions, count, part, samples, take, with_samples
from saddlegan.certify.search._domain import Domain, Held
from saddlegan.certify.search._measure import (
    SELECT,
    Gain,
    Splits,
    block_values,
    gain_of,
    mean_value,
    paired,
    seed_all,
    thinned,
)
from saddlegan.game import Game
from saddlegan.modules import awake, clone, frozen, like
from saddlegan.proximal import Centre, Norm, proximal_value
from saddlegan.search import (
    RATES,
    Ascent,
    Batch,
    Found,
    Search,
    Units,
    apply,
    ascend,
    best_of,
    perturbed,
)

FAR = 1.0  # noise of a far inner start, in units of each tensor's root mean square
WHOLE = 2048  # at most so many samples and latents are searched as a whole
WHOLE_NUMBERS = 2_000_000  # but not so many that their graph keeps more numbers than this, in memory and in time
LEAST = 256  # samples, however large their graph
PROBED = 64  # samples on which the units of a search's steps are measured
INNER = 100  # iterations of L-BFGS for an inner maximum
FEW = 512  # rows on which inner maxima are compared, by generator or by start, before one is searched in full
TRIED = 50  # iterations of L-BFGS on these
ADVERSARIAL = (0.5, 0.999)  # Adam's decays where two players move, as in training
WARM = 1 / 8  # share of the steps that the inner discriminator takes before the generator moves
DEAD = 1e-3  # a slope that promises less than this share of the ideal gain, over the whole spread of the data, is none
ROUNDINGS = 32  # rounding errors of V in units of the mean size of its terms
POLISH = 5  # inner steps before a generator on its way is scored, in units of `inner_steps`


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


class _Shown(nn.Module):
    """Gives back what stands in the place of its latents, whatever it is told beside."""

    def forward(self, x: Tensor, *given: Tensor) -> Tensor:
        return x


class _Once(nn.Module):
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
        self._freed: Found | None = None  # the generator's search on V itself, which every lambda shares
        self._answer: nn.Module | None = None  # the discriminator's own deviation
        penalised = game.generator_penalty is not None or game.discriminator_penalty is not None
        self._graph = penalised or game.has_own_value  # which may differentiate in samples
        self.select_value = self._mean(self.game.value, splits.select)
        self.held_out_value = self._blocks(self.game.value, splits.held_out)
        self.units_G, self.units_D = self._units()
        self.rounding = ROUNDINGS * torch.finfo(like(game.D).dtype).eps * self._magnitude()
        self._floor = search.tolerance * abs(self.select_value) + self.rounding

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
        return gain_of(
            gains,
            value=value,
            tolerance=self.search.tolerance,
            significance=significance,
            rounding=self.rounding,
        )

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
    def _foreign(self) -> bool:
        """Whether the domain is not the pair's: most of its samples lie beyond, and deviations are judged as they are.

        Held in the domain all generators look alike from so far away, and nothing would be seen of what they gain.
        """
        return self.outside > 0.5

    def _baseline(self, G: nn.Module, batch: Batch) -> Tensor:
        """V of the pair, by block, from which a generator's gain counts.

        What the pair itself would gain by being brought into the domain is no deviation's own gain; the pair's own
        generator, which stays, is not brought there.
        """
        value = self._blocks(self.game.value, batch)
        if G is self.G or self.domain is None or self.outside == 0.0 or self._foreign:
            return value
        brought = self._blocks(self.game.replace(G=Held(self.G, self.domain)).value, batch)
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
        return self._batch(self.splits.search), self.game.sample_latent(self._rows, self.generator)

    def discriminator(self) -> Deviation:
        """Search max_D V(G, D)."""
        searching, searched = self._fixed(self.G, self._whole_batch)
        selecting, select = self._fixed(self.G, self.splits.select)
        measuring, held_out = self._fixed(self.G, self.splits.held_out)

        def value(D: nn.Module, x: Rows, z: Rows) -> Tensor:
            return self.game.replace(D=D).value(x, z)

        def whole(D: nn.Module) -> Tensor:
            seed_all(0)
            return searching.replace(D=D).value(*searched)

        def score(D: nn.Module) -> float:
            return self._mean(selecting.replace(D=D).value, select) - self.select_value

        found = self._best_of(
            "discriminator",
            self._starts(self.trainable_D, discriminator=True),
            value,
            score,
            whole=whole,
            units=self.units_D,
            project=self.search.project_discriminator,
        )
        player = frozen(found.player)
        self._answer = awake(player, self.trainable_D)
        gains = self._blocks(measuring.replace(D=player).value, held_out) - self.held_out_value
        return Deviation(player, gains, gains, found.curve, found.settled, found.slack, 0.0)

    def generator_on_value(self, *, known: Sequence[Deviation] = ()) -> Deviation:
        """Search min_G V(G, D) within the domain; `known` are further generators to try.

        A penalty that is D's alone is left out on both sides: G is not credited for what only D plays.
        """
        game = self.game.without_discriminator_only_penalty()
        select_value, held_out_value = self.select_value, self.held_out_value
        if game is not self.game:
            select_value = self._mean(game.value, self.splits.select)
            held_out_value = self._blocks(game.value, self.splits.held_out)

        sample = self._whole_batch
        on_sample = game
        if _is_bare(game):  # no generator moves D(x)
            on_sample = game.replace(D=_Once(self.D, (samples(sample[0]), *conditions(sample[0]))))

        def search(starts: list[nn.Module], held: Callable[[nn.Module], nn.Module]) -> Found:
            def loss(G: nn.Module, x: Rows, z: Rows) -> Tensor:
                return -game.replace(G=held(G)).value(x, z)

            def whole(G: nn.Module) -> Tensor:
                seed_all(0)
                return -on_sample.replace(G=held(G)).value(*sample)

            def score(G: nn.Module) -> float:
                return select_value - self._mean(game.replace(G=held(G)).value, self.splits.select)

            return self._best_of(
                "generator",
                starts,
                loss,
                score,
                whole=whole,
                units=self.units_G,
                project=self.search.project_generator,
            )

        def scores(G: nn.Module) -> tuple[float, float]:
            """Gains with the samples held in the domain and as they are."""
            values = (self._mean(game.replace(G=each).value, self.splits.select) for each in (self._held(G), G))
            held, free = (select_value - value for value in values)
            return held, free

        if self._freed is None:
            self._freed = search(self._starts(self.trainable_G, discriminator=False), self._held)
        found = self._freed
        # what was found at a smaller lambda is a deviation at a larger one: gains do not fall for want of luck
        players = [found.player, *(each.player for each in known)]
        player = frozen(max(players, key=lambda G: scores(G)[0]))
        reached, alone = scores(player)
        if self.domain is not None and reached > 0 and alone < 0.5 * reached:
            # what was found gains in the box only: a generator that goes there by itself may gain as well
            again = search([awake(player, self.trainable_G), self.trainable_G], lambda G: G)
            player = frozen(max([player, again.player], key=lambda G: min(scores(G))))
        gains = held_out_value - self._blocks(game.replace(G=self._held(player)).value, self.splits.held_out)
        free = gains
        if self.domain is not None:
            free = held_out_value - self._blocks(game.replace(G=player).value, self.splits.held_out)
        if self.outside > 0.0 and float(free.mean()) < float(gains.mean()):
            # the pair's own samples lie outside: to be brought into the domain is no move of the generator's own
            gains = free
        settled = found.settled
        if float(gains.mean()) < 0.0:  # to stay gains nothing, and loses nothing
            settled = settled and not _ahead(-gains)
            player, gains, free = self.G, torch.zeros_like(gains), torch.zeros_like(gains)
        return Deviation(player, gains, free, found.curve, settled, found.slack, 0.0)

    def generator_on_proximal(
        self, *, lam: float, norm: Norm, known: Sequence[Deviation] = (), cautious: bool = True
    ) -> Deviation:
        """Search min_G V_lam(G, D), equation (3), within the domain.

        A persistent inner discriminator follows the generator. Where one that gains is known with the discriminator
        that answers it, the search goes on from both; else it starts as often as every search. Who is best is
        decided on a few rows, and the winner is then given a full inner maximum.

        Args:
            lam: weight of the proximal term, finite.
            norm: its distance.
            known: further generators to try, such as those found at other lambdas.
            cautious: search the inner maximum on the very sample on which the generator is scored. One that fits its
                sample is too large rather than too small, so that no gain is exaggerated by an inner discriminator
                that failed to generalise: right for verdicts. Otherwise it is searched, chosen and measured on
                different samples, as the discriminator's own deviation is: right for a gap, the difference of both.
        """
        starts = [
            (awake(each.player, self.trainable_G), each.answer)
            for each in known[-1:]
            if each.answer is not None and float(each.gains.mean()) > 0.0
        ] or [(start, self.trainable_D) for start in self._starts(self.trainable_G, discriminator=False)]
        outcomes = []
        for index, (start, answer) in enumerate(starts):
            self._tell(f"generator at lambda = {lam:g}", index / (len(starts) + 1))
            rate = self.search.learning_rate * RATES[index % len(RATES)]
            outcomes.append(self._follow(start, answer, rate, lam=lam, norm=norm))
        self._tell(f"generator at lambda = {lam:g}", len(starts) / (len(starts) + 1))
        candidates = [(frozen(outcome.player), warm) for outcome, warm in outcomes]
        # who stayed at another lambda is no rival of who stays: losing to either is the same failure
        candidates += [(each.player, each.answer or self.trainable_D) for each in known if each.player is not self.G]
        chosen, settled = 0, True
        if cautious:
            # to stay is a deviation too, and loses no more than D gains there: whoever ends below has lost the way
            candidates.append((self.G, self._answer or self.trainable_D))
            scores = self._compared(candidates, lam=lam, norm=norm)
            means = [float(score.mean()) for score in scores]
            chosen = means.index(max(means))
            if candidates[chosen][0] is self.G:
                settled = not _ahead(scores[-1] - scores[means.index(max(means[:-1]))])
        G, warm = candidates[chosen]
        measured = self._inner_batch if cautious else self.splits.held_out
        answers = [self.trainable_D] if self._answer is None else [self.trainable_D, self._answer]
        if G is not self.G:  # what answers one generator may answer another that lies beyond the data
            played = self._judged(G)
            warm = max(
                [warm, *(D for _, D in candidates)],
                key=lambda D: self._mean(self._proximal(played, D, lam=lam, norm=norm), measured),
            )
        outcome = outcomes[min(chosen, len(outcomes) - 1)][0]
        gains, inner = self._proximal_gains(
            G,
            answers if G is self.G else self._inner_starts(warm),
            # who stays gains nothing at any D', and no caution is due; where D' fits its sample, the gap looks negative
            self.splits.held_out if G is self.G else measured,
            lam=lam,
            norm=norm,
            cautious=cautious and G is not self.G,
        )
        settled = settled and outcome.settled and inner.settled
        if G is not self.G and float(gains.mean()) < 0.0:
            stay, answer = self._proximal_gains(self.G, answers, measured, lam=lam, norm=norm, cautious=cautious)
            if float((stay - gains).mean()) > 0.0:
                settled = settled and not _ahead(stay - gains)
                G, gains, inner = self.G, stay, answer
        self._done += 1
        self._tell(f"generator at lambda = {lam:g}", 0.0)
        return Deviation(
            G, gains, gains, outcome.curve, settled, outcome.slack + inner.slack, inner.slack, inner.player
        )

    def _compared(self, candidates: list[tuple[nn.Module, nn.Module]], *, lam: float, norm: Norm) -> list[Tensor]:
        """Gains by block of generators with a D' each, on a few rows; the D' that they were measured at replace theirs.

        Those that cannot come out on top are not measured to the end.
        """
        few = thinned(self.splits.select, FEW, rows_in_groups=self.game.rows_in_groups)
        promises = [-self._mean(self._proximal(self._judged(G), D, lam=lam, norm=norm), few) for G, D in candidates]
        scores: dict[int, Tensor] = {}
        best = -math.inf
        # the most promising first: a gain that falls below one that was measured stays there
        for place in sorted(range(len(candidates)), key=lambda place: -promises[place]):
            G, D = candidates[place]
            gains, inner = self._proximal_gains(G, [D], few, lam=lam, norm=norm, iterations=TRIED, least=best)
            candidates[place], scores[place] = (G, inner.player), gains
            best = max(best, float(gains.mean()))
        return [scores[place] for place in range(len(candidates))]

    def _follow(
        self, start: nn.Module, answer: nn.Module, rate: float, *, lam: float, norm: Norm
    ) -> tuple[Found, nn.Module]:
        """Descend V(G, D') with D' kept near the inner maximum of equation (3); return the generator and D'.

        Args:
            start: the first generator.
            answer: the first D'.
            rate: change of a sample a step.
            lam: weight of the proximal term.
            norm: its distance.
        """
        D = awake(answer, self.trainable_D)
        climb = Ascent(
            D,
            units=self.units_D,
            learning_rate=self.search.learning_rate,
            betas=ADVERSARIAL,
            project=self.search.project_discriminator,
        )

        def follow(G: nn.Module, steps: int) -> None:
            for _ in range(steps):
                game, (x, z) = self._fixed(self._held(G), self.draw())
                climb(self._penalised(game, D, (x, z), lam=lam, centre=Centre(self.D, x, norm)))

        def loss(G: nn.Module, x: Rows, z: Rows) -> Tensor:
            follow(G, self.search.inner_steps)
            return -self.game.replace(G=self._held(G), D=D).value(x, z)

        def score(G: nn.Module) -> float:
            follow(G, POLISH * self.search.inner_steps)
            value = self._mean(self._proximal(self._held(G), D, lam=lam, norm=norm), self.splits.select)
            unmoved = self._mean(self.game.replace(G=self._held(G)).value, self.splits.select)
            return self.select_value - max(value, unmoved)

        # a discriminator that lags would make the first generators look best, one far ahead gives them no slope
        follow(clone(start).eval(), max(1, round(WARM * self.search.steps)))
        found = ascend(
            start,
            loss,
            score,
            self.draw,
            search=self.search,
            units=self.units_G,
            learning_rate=rate,
            project=self.search.project_generator,
            betas=ADVERSARIAL,
            floor=self._floor,
        )
        return found, D

    def _proximal_gains(
        self,
        G: nn.Module,
        starts: list[nn.Module],
        batch: Batch,
        *,
        lam: float,
        norm: Norm,
        cautious: bool = True,
        iterations: int = INNER,
        least: float = -math.inf,
    ) -> tuple[Tensor, Found]:
        """V(G*, D*) - V_lam(G, D*) by block; see `generator_on_proximal` for where the inner maximum is searched.

        The gain falls as the inner maximum rises: the search ends where less than `least` is left.
        """
        pair = self._baseline(G, batch)
        enough = float(pair.mean()) - least
        game, sample = self._fixed(self._judged(G), batch)
        scored = sample if cautious else self._fixed(self._judged(G), self.splits.select)[1]
        searched = sample if cautious else self._fixed(self._judged(G), self._whole_batch)[1]

        def proximal(D: nn.Module) -> Callable[[Rows, Rows], Tensor]:
            played = game.replace(D=D)
            return lambda x, z: proximal_value(played, self.D, x, z, lam=lam, norm=norm)

        def value(D: nn.Module, x: Rows, z: Rows) -> Tensor:
            return proximal(D)(x, z)

        def score(D: nn.Module) -> float:
            return self._mean(proximal(D), scored)

        def draw() -> Batch:
            if cautious:
                return self._batch(sample[0]), self._batch(sample[1])
            return self._fixed(self._judged(G), self.draw())[1]

        def climb(starts: Sequence[nn.Module], sample: Batch, steps: int) -> Found:
            centre = Centre(self.D, sample[0], norm)

            def whole(D: nn.Module) -> Tensor:
                seed_all(0)
                return self._penalised(game, D, sample, lam=lam, centre=centre)

            found = best_of(
                starts,
                value,
                score,
                draw,
                whole=whole,
                search=dataclasses.replace(self.search, steps=min(self.search.steps, steps)),
                units=self.units_D,
                project=self.search.project_discriminator,
                floor=self._floor,
                polish=False,
                enough=enough,
            )
            return max(found, key=lambda outcome: outcome.score)

        if self.search.restarts == 1 and len(starts) > 1:
            starts = [max(starts, key=lambda D: score(frozen(D)))]
        groups = self.game.rows_in_groups
        if len(starts) > 1 and self.search.project_discriminator is None and count(searched[0]) >= 2 * FEW:
            # on a few rows an iteration costs a fraction, and they tell which start leads to the higher maximum
            starts = [climb(starts, thinned(searched, FEW, rows_in_groups=groups), TRIED).player]
        inner = climb(starts, searched, iterations)
        unmoved = self._blocks(game.value, sample)
        reached = self._blocks(proximal(inner.player), sample)
        # D* itself is a candidate: the inner maximum is never below V(G, D*), and a failed search invents no gain
        return pair - (reached if float(reached.mean()) > float(unmoved.mean()) else unmoved), inner

    def _penalised(self, game: Game, D: nn.Module, batch: Batch, *, lam: float, centre: Centre) -> Tensor:
        """V(G, D') - (lam/2) ||D' - D*||^2 on the centre's own rows."""
        if lam == 0:
            return game.replace(D=D).value(*batch)
        if centre.norm == "l2" and _is_bare(game):  # V and the distance look at the same rows through the same D'
            D = _Once(D)
        return game.replace(D=D).value(*batch) - 0.5 * lam * centre.distance(D)

    def _inner_starts(self, warm: nn.Module) -> list[nn.Module]:
        # the follower first: it is near the inner maximum at the generator that won; then the proximal term's centre
        starts = [warm, self.trainable_D]
        if self.search.restarts > 2:  # far starts, for an inner problem that is not concave
            starts += [self._near(self.trainable_D, FAR, discriminator=True), self._mirrored()]
        return starts

    def _proximal(self, G: nn.Module, D: nn.Module, *, lam: float, norm: Norm) -> Callable[[Rows, Rows], Tensor]:
        game = self.game.replace(G=G, D=D)
        return lambda x, z: proximal_value(game, self.D, x, z, lam=lam, norm=norm)

    def _best_of(
        self,
        who: str,
        starts: list[nn.Module],
        objective: Callable[[nn.Module, Rows, Rows], Tensor],
        score: Callable[[nn.Module], float],
        *,
        whole: Callable[[nn.Module], Tensor],
        units: Units,
        project: Callable[[nn.Module], None] | None,
    ) -> Found:
        found: list[Found] = []
        self._tell(who, 0.0)
        for outcome in best_of(
            starts,
            objective,
            score,
            self.draw,
            whole=whole,
            search=self.search,
            units=units,
            project=project,
            floor=self._floor,
        ):
            found.append(outcome)
            self._tell(who, len(found) / (len(starts) + 1))
        self._done += 1
        # the last, where it went on from the best, knows how both searches grew
        return max(reversed(found), key=lambda outcome: outcome.score)

    def _tell(self, who: str, share: float) -> None:
        """Report to the callback: searches done, and the share of the one that runs."""
        if self.search.callback is not None:
            self.search.callback(who, min(1.0, (self._done + share) / max(1, self.planned)))

    def _held(self, G: nn.Module) -> nn.Module:
        """The generator, its samples held in the domain; the pair's own, which stays where it is, as it is."""
        return G if self.domain is None or G is self.G else Held(G, self.domain)

    def _judged(self, G: nn.Module) -> nn.Module:
        """The generator as a gain on the proximal value is measured."""
        return G if self._foreign else self._held(G)

    @property
    def _rows(self) -> int:
        """Rows of a step's batch, in whole groups."""
        groups = self.game.rows_in_groups
        return max(groups, self.search.batch_size // groups * groups)

    @functools.cached_property
    def _whole_batch(self) -> Batch:
        """The sample that L-BFGS climbs: the search half, or as much of it as memory should hold."""
        x, groups = self.splits.search, self.game.rows_in_groups
        most = min(WHOLE, max(LEAST, int(WHOLE_NUMBERS / self._kept())))
        rows = min(count(x), most) // groups * groups
        latents = rows if paired(self.game, x) else most // groups * groups
        return part(x, 0, rows), self.game.sample_latent(latents, self.generator)

    @functools.cached_property
    def _inner_batch(self) -> Batch:
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

    def _batch(self, sample: Rows) -> Rows:
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

    def _starts(self, player: nn.Module, *, discriminator: bool) -> list[nn.Module]:
        size, others = self.search.perturbation, self.search.restarts - 1
        return [player, *(self._near(player, size, discriminator=discriminator) for _ in range(others))]

    def _near(self, player: nn.Module, size: float, *, discriminator: bool) -> nn.Module:
        units = self.units_D if discriminator else self.units_G
        return self._projected(perturbed(player, size, self.generator, units=units), discriminator=discriminator)

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


def _ahead(lead: Tensor) -> bool:
    """Whether a lead by block is more than chance."""
    return float(lead.mean()) > 2.0 * float(lead.std()) / len(lead) ** 0.5


def _is_bare(game: Game) -> bool:
    """Whether V only ever calls D, and never looks into it."""
    return game.discriminator_penalty is None and game.fake_transform is None and not game.has_own_value


def _is_linear(game: Game) -> bool:
    """Whether V is linear in D's output, whose unit is then nobody's: the Wasserstein value."""
    if game.objective.pairing is not None:
        return False
    t = torch.tensor([-2.0, -1.0, 1.0, 2.0], dtype=torch.float64)
    halves = (game.objective.f0(game.objective.link(t)), game.objective.f1(game.objective.link(t)))
    return all(torch.allclose(half, half[2] * t, rtol=1e-12, atol=0.0) for half in halves)
