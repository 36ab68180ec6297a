"""What the gains that a search found could be at most, on the very samples on which they were measured."""

from __future__ import annotations

import math
import weakref
from typing import Any

import torch
from torch import Tensor

from saddlegan.batch import Rows, conditions, count, samples
from saddlegan.certify.search._arena import Arena, Deviation
from saddlegan.certify.search._domain import Domain
from saddlegan.certify.search._measure import BLOCKS, SELECT, block_values
from saddlegan.certify.upper._bound import Upper, discriminator_upper, generator_upper
from saddlegan.certify.upper._slope import nominal_lipschitz

_SEEN: weakref.WeakKeyDictionary[Arena, dict[Any, Upper]] = weakref.WeakKeyDictionary()


def bracket(arena: Arena, up: Deviation, down: Deviation, *, lam: float) -> tuple[float, dict[str, Any]]:
    """Bound the true gap from above; return the bound, infinite where there is none, and how it came about.

    A bound below what the search found is wrong, and is thrown away with a word.

    Args:
        arena: the pair and its samples.
        up: the discriminator's deviation found.
        down: the generator's.
        lam: of the proximal value.
    """
    if arena.game.has_own_value:
        return math.inf, {}
    seen = _SEEN.setdefault(arena, {})
    if id(up) not in seen:  # shared by a whole ladder of lambda
        seen[id(up)] = _checked(_of_discriminator(arena, up), up, arena)
    parts = {"discriminator": seen[id(up)], "generator": _checked(_of_generator(arena, down, lam), down, arena)}
    gap = sum(max(part.gain, 0.0) for part in parts.values())
    return gap, {name: part.describe() for name, part in parts.items()}


def _checked(bound: Upper, found: Deviation, arena: Arena) -> Upper:
    """The bound plus the rounding of the values beside it, or none where the search found more."""
    value = arena.held_out_value
    room = 64.0 * torch.finfo(samples(arena.splits.search).dtype).eps * (1.0 + float(value.abs().max()))
    gain, most = float(found.gains.mean()), bound.gain + room
    if math.isnan(most) or gain > most:
        doubt = f"a search found {gain:.4g}, more than the bound of {most:.4g}: the bound does not hold here"
        return Upper(math.inf, bound.scope, bound.method, doubt)
    return Upper(most, bound.scope, bound.method, bound.doubt)


def _of_discriminator(arena: Arena, up: Deviation) -> Upper:
    x, z = arena.splits.held_out
    game = arena.game.replace()
    game.generator_penalty = None  # no discriminator moves it
    with torch.no_grad():
        fake = generated(arena, arena.G, x, z)
    value = arena.held_out_value
    if arena.game.generator_penalty is not None:
        value = block_values(game.value, (x, z), rows_in_groups=game.rows_in_groups)
    return discriminator_upper(
        game,
        x,
        fake,
        value=float(value.mean()),
        weights=(row_weights(x, count(x), arena), row_weights(fake, count(x), arena)),
        others=(up.player,),
        lipschitz=_slope_of_class(arena, x),
    )


def _slope_of_class(arena: Arena, x: Rows) -> float:
    given = getattr(arena.search, "lipschitz", None)
    return nominal_lipschitz(arena.trainable_D, tuple(samples(x).shape[1:])) if given is None else given


def _of_generator(arena: Arena, down: Deviation, lam: float) -> Upper:
    x, z = arena.splits.held_out
    value = arena.held_out_value
    game = arena.game
    if math.isinf(lam) and game.discriminator_penalty is not None:
        game = game.without_discriminator_only_penalty()
        value = block_values(game.value, (x, z), rows_in_groups=game.rows_in_groups)
    if arena.domain is None:  # the whole space has no bound
        return Upper(math.inf, "all samples", "none without a domain")
    low, high = _box(arena, arena.domain, down, x, z)
    seen = _SEEN.setdefault(arena, {})
    key = (math.isinf(lam), tuple(low.flatten().tolist()), tuple(high.flatten().tolist()))
    if key not in seen:
        weights = row_weights(x, count(x), arena)
        seen[key] = generator_upper(game, x, value=float(value.mean()), weights=weights, low=low, high=high, lam=lam)
    return seen[key]


def _box(arena: Arena, domain: Domain, down: Deviation, x: Rows, z: Rows) -> tuple[Tensor, Tensor]:
    """The domain of the search, and large enough for the samples of the deviation found."""
    with torch.no_grad():
        fake = generated(arena, down.player, x, z)
    low, high = (domain.low - domain.margin).expand_as(fake[0]), (domain.high + domain.margin).expand_as(fake[0])
    return torch.minimum(low, fake.amin(0)), torch.maximum(high, fake.amax(0))


def generated(arena: Arena, G: Any, x: Rows, z: Rows) -> Tensor:
    """G's samples at latents z, in pieces."""
    game = arena.game.replace(G=G)
    if conditions(x) or not isinstance(z, Tensor):
        return game.generate(z, conditions(x))
    return torch.cat([game.generate(part) for part in z.split(SELECT)])


def row_weights(rows: Rows, n: int, arena: Arena) -> Tensor:
    """Weights of rows in a mean of blocks that may differ by a row, as `block_values` cuts them."""
    groups = arena.game.rows_in_groups
    blocks = min(BLOCKS, max(2, n // groups // 2))
    sizes = torch.tensor([len(part) for part in torch.arange(count(rows) // groups).tensor_split(blocks)])
    sizes[-1] += count(rows) // groups - sizes.sum()
    weights = torch.repeat_interleave(1.0 / (blocks * groups * sizes.double()), groups * sizes)
    return torch.cat([weights, weights.new_zeros(count(rows) - len(weights))])
