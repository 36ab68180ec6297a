"""Best deviations on V by gradient search: the discriminator's and the generator's."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from saddlegan.batch import Rows, conditions, samples
from saddlegan.certify.search._arena import Arena, Deviation, Once, is_bare
from saddlegan.certify.search._measure import seed_all
from saddlegan.modules import awake, frozen
from saddlegan.search import Found, Units, best_of


def best_discriminator(arena: Arena) -> Deviation:
    """Search max_D V(G, D)."""
    searching, searched = arena.fixed(arena.G, arena.whole_batch)
    selecting, select = arena.fixed(arena.G, arena.splits.select)
    measuring, held_out = arena.fixed(arena.G, arena.splits.held_out)

    def value(D: nn.Module, x: Rows, z: Rows) -> Tensor:
        return arena.game.replace(D=D).value(x, z)

    def whole(D: nn.Module) -> Tensor:
        seed_all(0)
        return searching.replace(D=D).value(*searched)

    def score(D: nn.Module) -> float:
        return arena.mean(selecting.replace(D=D).value, select) - arena.select_value

    found = _best_of(
        arena,
        "discriminator",
        arena.starts(arena.trainable_D, discriminator=True),
        value,
        score,
        whole=whole,
        units=arena.units_D,
        project=arena.search.project_discriminator,
    )
    player = frozen(found.player)
    arena.answer = awake(player, arena.trainable_D)
    gains = arena.blocks(measuring.replace(D=player).value, held_out) - arena.held_out_value
    return Deviation(player, gains, gains, found.curve, found.settled, found.slack, 0.0)


def best_generator(arena: Arena, *, known: Sequence[Deviation] = ()) -> Deviation:
    """Search min_G V(G, D) within the domain; `known` are further generators to try.

    A penalty that is D's alone is left out on both sides: G is not credited for what only D plays.
    """
    game = arena.game.without_discriminator_only_penalty()
    select_value, held_out_value = arena.select_value, arena.held_out_value
    if game is not arena.game:
        select_value = arena.mean(game.value, arena.splits.select)
        held_out_value = arena.blocks(game.value, arena.splits.held_out)

    sample = arena.whole_batch
    on_sample = game
    if is_bare(game):  # no generator moves D(x)
        on_sample = game.replace(D=Once(arena.D, (samples(sample[0]), *conditions(sample[0]))))

    def search(starts: list[nn.Module], held: Callable[[nn.Module], nn.Module]) -> Found:
        def loss(G: nn.Module, x: Rows, z: Rows) -> Tensor:
            return -game.replace(G=held(G)).value(x, z)

        def whole(G: nn.Module) -> Tensor:
            seed_all(0)
            return -on_sample.replace(G=held(G)).value(*sample)

        def score(G: nn.Module) -> float:
            return select_value - arena.mean(game.replace(G=held(G)).value, arena.splits.select)

        return _best_of(
            arena,
            "generator",
            starts,
            loss,
            score,
            whole=whole,
            units=arena.units_G,
            project=arena.search.project_generator,
        )

    def scores(G: nn.Module) -> tuple[float, float]:
        """Gains with the samples held in the domain and as they are."""
        values = (arena.mean(game.replace(G=each).value, arena.splits.select) for each in (arena.held(G), G))
        held, free = (select_value - value for value in values)
        return held, free

    if arena.freed is None:
        arena.freed = search(arena.starts(arena.trainable_G, discriminator=False), arena.held)
    found = arena.freed
    # what was found at a smaller lambda is a deviation at a larger one: gains do not fall for want of luck
    players = [found.player, *(each.player for each in known)]
    player = frozen(max(players, key=lambda G: scores(G)[0]))
    reached, alone = scores(player)
    if arena.domain is not None and reached > 0 and alone < 0.5 * reached:
        # what was found gains in the box only: a generator that goes there by itself may gain as well
        again = search([awake(player, arena.trainable_G), arena.trainable_G], lambda G: G)
        player = frozen(max([player, again.player], key=lambda G: min(scores(G))))
    gains = held_out_value - arena.blocks(game.replace(G=arena.held(player)).value, arena.splits.held_out)
    free = gains
    if arena.domain is not None:
        free = held_out_value - arena.blocks(game.replace(G=player).value, arena.splits.held_out)
    if arena.outside > 0.0 and float(free.mean()) < float(gains.mean()):
        # the pair's own samples lie outside: to be brought into the domain is no move of the generator's own
        gains = free
    settled = found.settled
    if float(gains.mean()) < 0.0:  # to stay gains nothing, and loses nothing
        settled = settled and not ahead(-gains)
        player, gains, free = arena.G, torch.zeros_like(gains), torch.zeros_like(gains)
    return Deviation(player, gains, free, found.curve, settled, found.slack, 0.0)


def _best_of(
    arena: Arena,
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
    arena.tell(who, 0.0)
    for outcome in best_of(
        starts,
        objective,
        score,
        arena.draw,
        whole=whole,
        search=arena.search,
        units=units,
        project=project,
        floor=arena.floor,
    ):
        found.append(outcome)
        arena.tell(who, len(found) / (len(starts) + 1))
    arena.done()
    # the last, where it went on from the best, knows how both searches grew
    return max(reversed(found), key=lambda outcome: outcome.score)


def ahead(lead: Tensor) -> bool:
    """Whether a lead by block is more than chance."""
    return float(lead.mean()) > 2.0 * float(lead.std()) / len(lead) ** 0.5
