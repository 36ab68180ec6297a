"""Measuring without a trace: data from any source, splits, held-out gains with a standard error, refusals."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import math
import random
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from scipy.stats import t as student
from torch import Tensor
from torch.utils.data import DataLoader

from saddlegan import checks
from saddlegan.batch import Rows, apply, conditions, count, join, part, samples, take, tensors
from saddlegan.batch import read as read_rows
from saddlegan.errors import InputError
from saddlegan.game import Game
from saddlegan.modules import evaluating, frozen, like
from saddlegan.moments._second_moment import as_tensor
from saddlegan.search import Batch

# an array, tensor, list, data frame, DataLoader, a callable n, generator -> x; or (x, *conditions) of these, or a
# mapping with an "x"
Data = Any

Value = Callable[[Rows, Rows], Tensor]

BLOCKS = 32  # the held-out sample is cut into blocks; the spread of their gains gives the standard error
LATENTS = 2048  # at least so many held-out latents: they cost nothing but a forward pass
SELECT = 1024  # at most so many samples and latents score the players on their way


@contextlib.contextmanager
def untouched(data: Data | None = None) -> Iterator[None]:
    """Give every global random generator, and a loader's own, back in the state in which it was found."""
    loader = data.generator if isinstance(data, DataLoader) else None
    kept = None if loader is None else loader.get_state()
    python, numpy = random.getstate(), np.random.get_state()
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    try:
        with torch.random.fork_rng(devices=devices), torch.enable_grad():
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        if loader is not None and kept is not None:
            loader.set_state(kept)


def seed_all(seed: int) -> None:
    """Seed the global generators, inside `untouched` only: dropout and random penalties then meet the same draws."""
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():  # torch.manual_seed would queue a call for a CUDA that may never start
        torch.cuda.manual_seed_all(seed)


def read(data: Data, *, game: Game, rows: int, generator: torch.Generator) -> Rows:
    """Read real samples (n, ...) from whatever `checks.rows` reads, or from a sampler; conditions come along.

    Args:
        data: the source; a sampler is called as data(n, generator). Conditional data are a tuple (x, *conditions) or a
            mapping with an "x", given, sampled or loaded.
        game: who looks at the rows. Labels of a loader whose D does not take them are left out, as many loaders bring
            some that nobody needs.
        rows: how many to take from a loader or a sampler; arrays and tensors are taken whole.
        generator: for samplers.

    Raises:
        InputError: empty data, one axis only, NaN or infinity.
        InputTypeError: none of these.
    """
    if isinstance(data, DataLoader):
        return _loaded(data, game, rows)
    made, sampled = data, False
    if callable(data) and not isinstance(data, Tensor):
        made, sampled = data(rows, generator), True
    if isinstance(made, Mapping) and "x" in made:
        made = (made["x"], *(entry for name, entry in made.items() if name != "x"))
    if isinstance(made, tuple) and made and getattr(made[0], "ndim", 0) > 1:
        given = (entry if isinstance(entry, Tensor) else torch.as_tensor(np.asarray(entry)) for entry in made[1:])
        return read_rows((_samples(made[0]), *given))
    return _samples(made if sampled else checks.rows(made, "data", most=rows))


def _loaded(loader: Any, game: Game, rows: int) -> Rows:
    """At most so many rows of a loader, with their conditions where the game's players take them."""
    kept: list[Rows] = []
    told: bool | None = None
    for batch in loader:
        several = isinstance(batch, Mapping) or (isinstance(batch, (list, tuple)) and len(batch) > 1)
        if told is None:
            told = several and _told(game, batch)
        if told:
            kept.append(apply(torch.Tensor.detach, read_rows(batch)))
        else:
            first: Any = batch["x"] if isinstance(batch, Mapping) and "x" in batch else batch
            first = first[0] if isinstance(first, (list, tuple)) else first
            kept.append(first.detach() if isinstance(first, Tensor) else torch.as_tensor(np.asarray(first)))
        if sum(map(count, kept)) >= rows:
            break
    if not kept:
        raise InputError("`data` is a loader without batches")
    made = part(join(kept), 0, rows)
    return _samples(made) if isinstance(made, Tensor) else (_samples(made[0]), *made[1:])


def _told(game: Game, batch: Any) -> bool:
    """Whether D takes what a loader brings beside the samples; own values read their batch themselves."""
    if game.has_own_value:
        return True
    try:
        few = placed(part(read_rows(batch), 0, game.rows_in_groups), like(game.D))
        with torch.no_grad(), evaluating(game.D):
            game.D(samples(few), *conditions(few))
    except TypeError:  # no argument to take them; InputTypeError: entries that are no tensors
        return False
    except Exception:  # it takes them, and not in this shape or type: what judges the pair says so
        return True
    return True


def _samples(made: Any) -> Tensor:
    X = as_tensor(made)
    if X.ndim < 2 or X.shape[0] == 0:
        raise InputError(f"`data` must hold samples in rows, (n, ...), got shape {tuple(X.shape)}")
    if not X.isfinite().all():
        raise InputError("`data` holds NaN or infinity; clean it first")
    return X


@dataclasses.dataclass(frozen=True)
class Splits:
    """Three disjoint parts: the steps see `search`, the best start is chosen on `select`, gains come from `held_out`.

    Choosing and measuring on different samples keeps the figure honest: the best of several is not better by luck.
    """

    search: Rows
    select: Batch
    held_out: Batch


def paired(game: Game, X: Rows) -> bool:
    """Whether latents must be as many as samples: each belongs to a sample, or to its conditions."""
    return not isinstance(X, Tensor) or game.has_own_value or game.objective.pairing is not None


def placed(X: Rows, reference: Tensor) -> Rows:
    """Rows where the players compute; conditions keep their type unless it is another floating one."""

    def move(entry: Tensor) -> Tensor:
        return entry.to(reference) if entry.is_floating_point() else entry.to(reference.device)

    x = samples(X).to(reference)
    return x if isinstance(X, Tensor) else (x, *(apply(move, entry) for entry in X[1:]))


def split(game: Game, X: Rows, *, batch_size: int, generator: torch.Generator) -> Splits:
    """Shuffle X and cut it into a half and two quarters; draw latents for the last two.

    Raises:
        InputError: the search half is smaller than a batch, or a quarter too small for a standard error.
    """
    n = count(X)
    if n // 2 < batch_size or n < 8:
        raise InputError(
            f"`data` has {n} samples; half of them feed the search, so at least {max(8, 2 * batch_size)} are needed "
            f"for `batch_size` {batch_size}: pass more data or Search(batch_size={max(1, n // 2)})"
        )
    # data may be sorted by label or time: unshuffled, the three parts would be three distributions
    order = torch.randperm(n, generator=generator)
    X = placed(take(X, order), like(game.D))
    groups = game.rows_in_groups
    half, quarter = (rows // groups * groups for rows in (n // 2, n // 2 + n // 4))
    end, chosen = n // groups * groups, min(quarter - half, SELECT // groups * groups)
    if half < groups or chosen < 2 * groups or end - quarter < 2 * groups:
        raise InputError(f"`data` has {n} samples, too few for groups of {groups} in a half and two quarters")
    together = paired(game, X)
    select = game.sample_latent(chosen if together else SELECT // groups * groups, generator)
    # latents are free where they need no partner: more of them than samples lower the error at no cost in data
    most = end - quarter if together else max(LATENTS, n - quarter) // groups * groups
    held_out = game.sample_latent(most, generator)
    return Splits(part(X, 0, half), (part(X, half, half + chosen), select), (part(X, quarter, end), held_out))


def mean_value(value: Value, batch: Batch, *, graph: bool = True, rows_in_groups: int = 1) -> float:
    """Evaluate a value on a sample, in as few pieces as memory needs."""
    blocks = -(-count(batch[0]) // SELECT)
    return float(block_values(value, batch, blocks=blocks, graph=graph, rows_in_groups=rows_in_groups).mean())


def _blocks(rows: Rows, blocks: int, rows_in_groups: int) -> list[Rows]:
    """Nearly equal blocks of whole groups."""
    places = torch.arange(count(rows) // rows_in_groups).tensor_split(blocks)
    edges = [int(place[0]) * rows_in_groups for place in places] + [count(rows)]
    return [part(rows, start, stop) for start, stop in itertools.pairwise(edges)]


def _fitting(blocks: int, x: Rows, rows_in_groups: int) -> int:
    """Two blocks at least, for a standard error, and two rows or groups in each."""
    return min(blocks, max(2, count(x) // rows_in_groups // 2))


def thinned(batch: Batch, most: int, *, rows_in_groups: int = 1) -> Batch:
    """The first rows of each block of a sample, equally many, together about `most`: as many blocks as before."""
    blocks = _fitting(BLOCKS, batch[0], rows_in_groups)
    each = max(2, most // rows_in_groups // blocks) * rows_in_groups

    def first(rows: Rows) -> Rows:
        return join([part(block, 0, min(each, count(block))) for block in _blocks(rows, blocks, rows_in_groups)])

    return first(batch[0]), first(batch[1])


def block_values(
    value: Value, batch: Batch, *, blocks: int = BLOCKS, graph: bool = True, rows_in_groups: int = 1
) -> Tensor:
    """Evaluate a value on equal blocks of a sample: (blocks,), float64.

    Each block starts from one seed of its own, so that two values with random penalties meet the same draws. Without
    `graph` the value is computed faster, but a penalty of the user's that differentiates would fail.
    """
    x, z = batch
    blocks = _fitting(blocks, x, rows_in_groups)
    values = []
    pieces = zip(_blocks(x, blocks, rows_in_groups), _blocks(z, blocks, rows_in_groups), strict=True)
    for index, (x_block, z_block) in enumerate(pieces):
        seed_all(index)
        with torch.set_grad_enabled(graph):
            values.append(value(x_block, z_block).detach().double().cpu())
    return torch.stack(values)


@dataclasses.dataclass(frozen=True)
class Gain:
    """A player's measured gain: mean, standard error and the least gain that chance would not explain."""

    mean: float
    standard_error: float
    threshold: float

    @property
    def significant(self) -> bool:
        """Whether the gain is above its threshold."""
        return self.mean > self.threshold


def gain_of(
    blocks: Tensor, *, value: float, tolerance: float, significance: float, slack: float = 0.0, rounding: float = 0.0
) -> Gain:
    """Judge block-wise gains by Student's t at a one-sided level, above a tolerance relative to |V|.

    Args:
        blocks: gains (b,).
        value: V of the pair.
        tolerance: gains up to tolerance |V| count as none.
        significance: one-sided level, already divided by the number of tests.
        slack: what an unfinished inner maximum may still take away.
        rounding: what the rounding of V itself may feign.
    """
    count = blocks.shape[0]
    # between blocks, not rows: a value need not be a mean over rows (penalties, groups, pairs)
    error = float(blocks.std()) / math.sqrt(count)
    # Student's, not the normal's: so few blocks estimate their own spread badly
    quantile = float(student.isf(significance, count - 1))
    return Gain(float(blocks.mean()), error, tolerance * abs(value) + rounding + quantile * error + slack)


def check(game: Game, X: Rows, purpose: str) -> None:
    """Refuse by name what no certificate can judge.

    Raises:
        ObjectiveError: the objective is not zero-sum.
        InputError: NaN in weights, no trainable parameters, or shapes that do not fit.
    """
    game.objective.require_zero_sum(purpose)
    for name, player in (("G", game.G), ("D", game.D)):
        if not all(bool(p.isfinite().all()) for p in player.parameters()):
            raise InputError(f"`{name}` has NaN or infinite weights; certify an earlier checkpoint")
        if not any(p.requires_grad for p in player.parameters()):
            raise InputError(f"`{name}` has no trainable parameters to deviate with; call {name}.requires_grad_(True)")
    G, D = frozen(game.G), frozen(game.D)
    n = min(2, count(X) // game.rows_in_groups) * game.rows_in_groups
    if n == 0:
        raise InputError(f"`data` has {count(X)} samples, not one group of {game.rows_in_groups}")
    z = game.sample_latent(n, torch.Generator().manual_seed(0))
    first = placed(part(X, 0, n), like(game.D))
    copied = game.replace(G=G, D=D)
    if game.has_own_value:
        try:
            copied.value(first, z)
        except (RuntimeError, TypeError) as error:
            raise InputError(f"the game's own value does not accept `data`: {error}") from error
        return
    try:
        fake = copied.generate(z, conditions(first))
    except (RuntimeError, TypeError) as error:
        raise InputError(
            f"`G` does not accept latents of shape {tuple(next(tensors(z)).shape)}: {error}; set Game(latent=...) to "
            "the size that G was built for"
        ) from error
    shape = samples(X).shape[1:]
    if fake.shape[1:] != shape:
        raise InputError(
            f"`G` makes samples of shape {tuple(fake.shape[1:])} but `data` has {tuple(shape)}; they must agree"
        )
    try:
        D(fake, *copied.batch(first, z, fake=fake).fake_conditions)
    except (RuntimeError, TypeError) as error:
        raise InputError(f"`D` does not accept samples of shape {tuple(fake.shape[1:])}: {error}") from error
