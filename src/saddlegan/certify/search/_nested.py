"""The generator's best deviation on the proximal value, equation (3): a search within a search."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

from torch import Tensor, nn

from saddlegan.batch import Rows, count
from saddlegan.certify.search._arena import Arena, Deviation, Once, is_bare
from saddlegan.certify.search._deviate import ahead
from saddlegan.certify.search._measure import seed_all, thinned
from saddlegan.game import Game
from saddlegan.modules import awake, clone, frozen
from saddlegan.proximal import Centre, Norm, proximal_value
from saddlegan.search import RATES, Ascent, Batch, Found, ascend, best_of

FAR = 1.0  # noise of a far inner start, in units of each tensor's root mean square
INNER = 100  # iterations of L-BFGS for an inner maximum
FEW = 512  # rows on which inner maxima are compared, by generator or by start, before one is searched in full
TRIED = 50  # iterations of L-BFGS on these
ADVERSARIAL = (0.5, 0.999)  # Adam's decays where two players move, as in training
WARM = 1 / 8  # share of the steps that the inner discriminator takes before the generator moves
POLISH = 5  # inner steps before a generator on its way is scored, in units of `inner_steps`


def best_proximal_generator(
    arena: Arena, *, lam: float, norm: Norm, known: Sequence[Deviation] = (), cautious: bool = True
) -> Deviation:
    """Search min_G V_lam(G, D), equation (3), within the domain.

    A persistent inner discriminator follows the generator. Where one that gains is known with the discriminator
    that answers it, the search goes on from both; else it starts as often as every search. Who is best is
    decided on a few rows, and the winner is then given a full inner maximum.

    Args:
        arena: the pair and its samples.
        lam: weight of the proximal term, finite.
        norm: its distance.
        known: further generators to try, such as those found at other lambdas.
        cautious: search the inner maximum on the very sample on which the generator is scored. One that fits its
            sample is too large rather than too small, so that no gain is exaggerated by an inner discriminator
            that failed to generalise: right for verdicts. Otherwise it is searched, chosen and measured on
            different samples, as the discriminator's own deviation is: right for a gap, the difference of both.
    """
    starts = [
        (awake(each.player, arena.trainable_G), each.answer)
        for each in known[-1:]
        if each.answer is not None and float(each.gains.mean()) > 0.0
    ] or [(start, arena.trainable_D) for start in arena.starts(arena.trainable_G, discriminator=False)]
    outcomes = []
    for index, (start, answer) in enumerate(starts):
        arena.tell(f"generator at lambda = {lam:g}", index / (len(starts) + 1))
        rate = arena.search.learning_rate * RATES[index % len(RATES)]
        outcomes.append(_follow(arena, start, answer, rate, lam=lam, norm=norm))
    arena.tell(f"generator at lambda = {lam:g}", len(starts) / (len(starts) + 1))
    candidates = [(frozen(outcome.player), warm) for outcome, warm in outcomes]
    # who stayed at another lambda is no rival of who stays: losing to either is the same failure
    candidates += [(each.player, each.answer or arena.trainable_D) for each in known if each.player is not arena.G]
    chosen, settled = 0, True
    if cautious:
        # to stay is a deviation too, and loses no more than D gains there: whoever ends below has lost the way
        candidates.append((arena.G, arena.answer or arena.trainable_D))
        scores = _compared(arena, candidates, lam=lam, norm=norm)
        means = [float(score.mean()) for score in scores]
        chosen = means.index(max(means))
        if candidates[chosen][0] is arena.G:
            settled = not ahead(scores[-1] - scores[means.index(max(means[:-1]))])
    G, warm = candidates[chosen]
    measured = arena.inner_batch if cautious else arena.splits.held_out
    answers = [arena.trainable_D] if arena.answer is None else [arena.trainable_D, arena.answer]
    if G is not arena.G:  # what answers one generator may answer another that lies beyond the data
        played = arena.judged(G)
        warm = max(
            [warm, *(D for _, D in candidates)],
            key=lambda D: arena.mean(_proximal(arena, played, D, lam=lam, norm=norm), measured),
        )
    outcome = outcomes[min(chosen, len(outcomes) - 1)][0]
    gains, inner = _proximal_gains(
        arena,
        G,
        answers if G is arena.G else _inner_starts(arena, warm),
        # who stays gains nothing at any D', and no caution is due; where D' fits its sample, the gap looks negative
        arena.splits.held_out if G is arena.G else measured,
        lam=lam,
        norm=norm,
        cautious=cautious and G is not arena.G,
    )
    settled = settled and outcome.settled and inner.settled
    if G is not arena.G and float(gains.mean()) < 0.0:
        stay, answer = _proximal_gains(arena, arena.G, answers, measured, lam=lam, norm=norm, cautious=cautious)
        if float((stay - gains).mean()) > 0.0:
            settled = settled and not ahead(stay - gains)
            G, gains, inner = arena.G, stay, answer
    arena.done()
    arena.tell(f"generator at lambda = {lam:g}", 0.0)
    return Deviation(G, gains, gains, outcome.curve, settled, outcome.slack + inner.slack, inner.slack, inner.player)


def _compared(arena: Arena, candidates: list[tuple[nn.Module, nn.Module]], *, lam: float, norm: Norm) -> list[Tensor]:
    """Gains by block of generators with a D' each, on a few rows; the D' that they were measured at replace theirs.

    Those that cannot come out on top are not measured to the end.
    """
    few = thinned(arena.splits.select, FEW, rows_in_groups=arena.game.rows_in_groups)
    promises = [-arena.mean(_proximal(arena, arena.judged(G), D, lam=lam, norm=norm), few) for G, D in candidates]
    scores: dict[int, Tensor] = {}
    best = -math.inf
    # the most promising first: a gain that falls below one that was measured stays there
    for place in sorted(range(len(candidates)), key=lambda place: -promises[place]):
        G, D = candidates[place]
        gains, inner = _proximal_gains(arena, G, [D], few, lam=lam, norm=norm, iterations=TRIED, least=best)
        candidates[place], scores[place] = (G, inner.player), gains
        best = max(best, float(gains.mean()))
    return [scores[place] for place in range(len(candidates))]


def _follow(
    arena: Arena, start: nn.Module, answer: nn.Module, rate: float, *, lam: float, norm: Norm
) -> tuple[Found, nn.Module]:
    """Descend V(G, D') with D' kept near the inner maximum of equation (3); return the generator and D'.

    Args:
        arena: the pair and its samples.
        start: the first generator.
        answer: the first D'.
        rate: change of a sample a step.
        lam: weight of the proximal term.
        norm: its distance.
    """
    D = awake(answer, arena.trainable_D)
    climb = Ascent(
        D,
        units=arena.units_D,
        learning_rate=arena.search.learning_rate,
        betas=ADVERSARIAL,
        project=arena.search.project_discriminator,
    )

    def follow(G: nn.Module, steps: int) -> None:
        for _ in range(steps):
            game, (x, z) = arena.fixed(arena.held(G), arena.draw())
            climb(_penalised(arena, game, D, (x, z), lam=lam, centre=Centre(arena.D, x, norm)))

    def loss(G: nn.Module, x: Rows, z: Rows) -> Tensor:
        follow(G, arena.search.inner_steps)
        return -arena.game.replace(G=arena.held(G), D=D).value(x, z)

    def score(G: nn.Module) -> float:
        follow(G, POLISH * arena.search.inner_steps)
        value = arena.mean(_proximal(arena, arena.held(G), D, lam=lam, norm=norm), arena.splits.select)
        unmoved = arena.mean(arena.game.replace(G=arena.held(G)).value, arena.splits.select)
        return arena.select_value - max(value, unmoved)

    # a discriminator that lags would make the first generators look best, one far ahead gives them no slope
    follow(clone(start).eval(), max(1, round(WARM * arena.search.steps)))
    found = ascend(
        start,
        loss,
        score,
        arena.draw,
        search=arena.search,
        units=arena.units_G,
        learning_rate=rate,
        project=arena.search.project_generator,
        betas=ADVERSARIAL,
        floor=arena.floor,
    )
    return found, D


def _proximal_gains(
    arena: Arena,
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
    pair = arena.baseline(G, batch)
    enough = float(pair.mean()) - least
    game, sample = arena.fixed(arena.judged(G), batch)
    scored = sample if cautious else arena.fixed(arena.judged(G), arena.splits.select)[1]
    searched = sample if cautious else arena.fixed(arena.judged(G), arena.whole_batch)[1]

    def proximal(D: nn.Module) -> Callable[[Rows, Rows], Tensor]:
        played = game.replace(D=D)
        return lambda x, z: proximal_value(played, arena.D, x, z, lam=lam, norm=norm)

    def value(D: nn.Module, x: Rows, z: Rows) -> Tensor:
        return proximal(D)(x, z)

    def score(D: nn.Module) -> float:
        return arena.mean(proximal(D), scored)

    def draw() -> Batch:
        if cautious:
            return arena.pick(sample[0]), arena.pick(sample[1])
        return arena.fixed(arena.judged(G), arena.draw())[1]

    def climb(starts: Sequence[nn.Module], sample: Batch, steps: int) -> Found:
        centre = Centre(arena.D, sample[0], norm)

        def whole(D: nn.Module) -> Tensor:
            seed_all(0)
            return _penalised(arena, game, D, sample, lam=lam, centre=centre)

        found = best_of(
            starts,
            value,
            score,
            draw,
            whole=whole,
            search=dataclasses.replace(arena.search, steps=min(arena.search.steps, steps)),
            units=arena.units_D,
            project=arena.search.project_discriminator,
            floor=arena.floor,
            polish=False,
            enough=enough,
        )
        return max(found, key=lambda outcome: outcome.score)

    if arena.search.restarts == 1 and len(starts) > 1:
        starts = [max(starts, key=lambda D: score(frozen(D)))]
    groups = arena.game.rows_in_groups
    if len(starts) > 1 and arena.search.project_discriminator is None and count(searched[0]) >= 2 * FEW:
        # on a few rows an iteration costs a fraction, and they tell which start leads to the higher maximum
        starts = [climb(starts, thinned(searched, FEW, rows_in_groups=groups), TRIED).player]
    inner = climb(starts, searched, iterations)
    unmoved = arena.blocks(game.value, sample)
    reached = arena.blocks(proximal(inner.player), sample)
    # D* itself is a candidate: the inner maximum is never below V(G, D*), and a failed search invents no gain
    return pair - (reached if float(reached.mean()) > float(unmoved.mean()) else unmoved), inner


def _penalised(arena: Arena, game: Game, D: nn.Module, batch: Batch, *, lam: float, centre: Centre) -> Tensor:
    """V(G, D') - (lam/2) ||D' - D*||^2 on the centre's own rows."""
    if lam == 0:
        return game.replace(D=D).value(*batch)
    if centre.norm == "l2" and is_bare(game):  # V and the distance look at the same rows through the same D'
        D = Once(D)
    return game.replace(D=D).value(*batch) - 0.5 * lam * centre.distance(D)


def _inner_starts(arena: Arena, warm: nn.Module) -> list[nn.Module]:
    # the follower first: it is near the inner maximum at the generator that won; then the proximal term's centre
    starts = [warm, arena.trainable_D]
    if arena.search.restarts > 2:  # far starts, for an inner problem that is not concave
        starts += [arena.near(arena.trainable_D, FAR, discriminator=True), arena.mirrored()]
    return starts


def _proximal(arena: Arena, G: nn.Module, D: nn.Module, *, lam: float, norm: Norm) -> Callable[[Rows, Rows], Tensor]:
    game = arena.game.replace(G=G, D=D)
    return lambda x, z: proximal_value(game, arena.D, x, z, lam=lam, norm=norm)
