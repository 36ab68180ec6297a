"""Whether a gain's standard error can be trusted: skewed and heavy tails, and events too rare for the held-out rows.

Student's t on means of blocks is right for rows without much skewness. Where a few rows carry the spread, the rows that
were held out may have missed them: the mean is then off while the standard error looks small. All rows at hand tell,
those of the search and of the selection too, since their spread is not what a search chooses by.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import torch
from scipy.stats import t as student
from torch import Tensor, nn

from saddlegan.batch import Rows, conditions, count, samples
from saddlegan.certify.search._arena import Arena
from saddlegan.game import Game

HEAVY = 0.1  # share of all squared deviations that one row may have; beyond, fewer than ten rows make the spread
UNSEEN = 2.0  # a heavy tail's range is taken to be this many times the range that was seen
PIECE = 1024


@dataclasses.dataclass(frozen=True)
class Tails:
    """What the rows say of a mean gain's error.

    Attributes:
        slack: by how much more than Student's t says the mean may be off, at the level asked for.
        heavy: a few rows carry the spread.
        doubt: that in words, or None.
    """

    slack: float = 0.0
    heavy: bool = False
    doubt: str | None = None


@dataclasses.dataclass(frozen=True)
class _Half:
    """Gains by row: those that were held out, and all."""

    held_out: Tensor
    every: Tensor

    def share(self) -> float:
        """The largest row's share of all squared deviations."""
        squares = (self.every - self.every.mean()).square()
        total = float(squares.sum())
        return float(squares.max()) / total if total > 0 else 0.0

    def constant(self) -> bool:
        """Whether all rows are the same gain, and not none."""
        return float(self.every[0]) != 0.0 and bool((self.every == self.every[0]).all())

    def variance(self) -> float:
        """Of the held-out mean, by whichever rows show more."""
        n = len(self.held_out)
        return max(float(self.every.var()), float(self.held_out.var())) / n

    def skewness(self) -> float:
        """Third central moment of the held-out mean."""
        third = float((self.every - self.every.mean()).pow(3).mean())
        return third / len(self.held_out) ** 2

    def reach(self) -> float:
        """Range of the rows, over the number held out."""
        return float(self.every.max() - self.every.min()) / (len(self.held_out) - 1)


def tails_of(
    arena: Arena, *, discriminator: nn.Module | None = None, generator: nn.Module | None = None, level: float
) -> Tails:
    """Look at the rows of one player's gain.

    The mean's quantile gets Cornish and Fisher's correction for skewness, with the spread of all rows. Where one row
    carries a tenth of it, Bernstein's empirical bound stands in, over twice the range that was seen: a mean that is
    still significant then does not hang on the tail.

    Args:
        arena: the pair and its samples.
        discriminator: the deviation found, or
        generator: the other player's.
        level: one-sided.

    Returns:
        What is known; nothing for values that are no means over rows.

    References:
        Maurer, Pontil, Empirical Bernstein Bounds, COLT 2009, theorem 4; Hall, The Bootstrap and Edgeworth Expansion,
        1992, section 2.
    """
    game = arena.game
    separable = not game.has_own_value and game.objective.pairing is None and game.fake_transform is None
    if not separable or game.rows_in_groups != 1:
        return Tails()
    halves = _rows(arena, discriminator, generator)
    if any(len(half.held_out) < 2 or not bool(half.every.isfinite().all()) for half in halves):
        return Tails()
    variance = sum(half.variance() for half in halves)
    if discriminator is not None and halves[0].constant():
        # rows that are all alike show no spread: how far a sample's mean may be off from them, nobody can tell
        alike = "all real samples count the same: nothing shows how far their mean may be off"
        return Tails(slack=max(float(halves[0].every[0]), 0.0), heavy=True, doubt=alike)
    if variance <= 0.0:
        return Tails()
    blocks = min(32, max(2, min(len(half.held_out) for half in halves) // 2))
    q, error = float(student.isf(level, blocks - 1)), math.sqrt(variance)
    # a mean whose own error is a sum of independent halves: third moments add
    skewness = abs(sum(half.skewness() for half in halves)) / variance**1.5
    skewed = (q + skewness * (2.0 * q * q + 1.0) / 6.0) * error
    worst = max(half.share() * half.variance() / variance for half in halves)
    if worst <= HEAVY:
        return Tails(slack=skewed - q * error if skewness > 0 else 0.0)
    log = math.log(2.0 / level)
    bernstein = math.sqrt(2.0 * log) * error + 7.0 / 3.0 * log * UNSEEN * sum(half.reach() for half in halves)
    doubt = (
        f"a single row carries {100 * worst:.0f}% of the gain's spread: its tail is too heavy, or an event too rare, "
        "for this many rows"
    )
    return Tails(slack=max(skewed, bernstein) - q * error, heavy=True, doubt=doubt)


@torch.no_grad()
def _rows(arena: Arena, discriminator: nn.Module | None, generator: nn.Module | None) -> list[_Half]:
    """Gains by row of the halves of V that the deviation moves."""
    game, splits = arena.game, arena.splits
    (x, z), (x_select, z_select) = splits.held_out, splits.select
    told = bool(conditions(x))  # then latents belong to their samples

    def real(played: Game, rows: Rows) -> Tensor:
        return _each(lambda part: game.objective.f0(game.objective.link(played.D(*_whole(part)))), rows)

    def fake(played: Game, latents: Rows, rows: Rows) -> Tensor:
        return _fakes(played, latents, conditions(rows) if told else ())

    halves = []
    if discriminator is not None:
        moved = game.replace(D=discriminator)
        parts = [real(moved, rows) - real(game, rows) for rows in (x, x_select, splits.search)]
        halves.append(_Half(parts[0], torch.cat(parts)))
    else:
        moved = game.replace(G=generator)
    sign = 1.0 if generator is None else -1.0
    pairs = ((z, x), (z_select, x_select))
    parts = [sign * (fake(moved, *pair) - fake(game, *pair)) for pair in pairs]
    halves.append(_Half(parts[0], torch.cat(parts)))
    return halves


def _whole(rows: Rows) -> tuple[Tensor, ...]:
    return (rows,) if isinstance(rows, Tensor) else tuple(rows)


def _each(function: Callable[[Rows], Tensor], rows: Rows) -> Tensor:
    """One number a row, those of a patch map averaged."""
    n = count(rows)
    pieces = []
    for start in range(0, n, PIECE):
        part = (
            rows[start : start + PIECE] if isinstance(rows, Tensor) else tuple(r[start : start + PIECE] for r in rows)
        )
        pieces.append(function(part).double().reshape(len(samples(part)), -1).mean(1).cpu())
    return torch.cat(pieces)


def _fakes(game: Game, latents: Rows, given: tuple[Tensor, ...]) -> Tensor:
    batch = game.batch(None, latents, fake=game.generate(latents, given))
    shown = batch.fake_conditions or given
    values = game.objective.f1(game.objective.link(game.D(batch.fake, *shown)))
    return values.double().reshape(len(batch.fake), -1).mean(1).cpu()
