"""Measuring without a trace: data from any source, splits, held-out gains with a standard error, refusals."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from scipy.stats import t as student
from torch import Tensor
from torch.utils.data import DataLoader

from saddlegan import checks
from saddlegan.errors import InputError
from saddlegan.game import Game
from saddlegan.modules import frozen, like
from saddlegan.moments._second_moment import as_tensor
from saddlegan.search import Batch

Data = Any  # an array, tensor, list, data frame, DataLoader, or a callable n, generator -> x

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


def read(data: Data, *, rows: int, generator: torch.Generator) -> Tensor:
    """Read real samples (n, ...) from whatever `checks.rows` reads, or from a sampler.

    Args:
        data: the source; a sampler is called as data(n, generator).
        rows: how many to take from a loader or a sampler; arrays and tensors are taken whole.
        generator: for samplers.

    Raises:
        InputError: empty data, one axis only, NaN or infinity.
        InputTypeError: none of these.
    """
    if callable(data) and not isinstance(data, (Tensor, DataLoader)):
        X = as_tensor(data(rows, generator))
    else:
        X = as_tensor(checks.rows(data, "data", most=rows))
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

    search: Tensor
    select: Batch
    held_out: Batch


def split(game: Game, X: Tensor, *, batch_size: int, generator: torch.Generator) -> Splits:
    """Shuffle X and cut it into a half and two quarters; draw latents for the last two.

    Raises:
        InputError: the search half is smaller than a batch, or a quarter too small for a standard error.
    """
    n = X.shape[0]
    if n // 2 < batch_size or n < 8:
        raise InputError(
            f"`data` has {n} samples; half of them feed the search, so at least {max(8, 2 * batch_size)} are needed "
            f"for `batch_size` {batch_size}: pass more data or Search(batch_size={max(1, n // 2)})"
        )
    order = torch.randperm(n, generator=generator)
    reference = like(game.D)
    X = X[order.to(X.device)].to(device=reference.device, dtype=reference.dtype)
    half, quarter = n // 2, n // 2 + n // 4
    select = game.sample_latent(SELECT, generator)
    held_out = game.sample_latent(max(LATENTS, n - quarter), generator)
    return Splits(X[:half], (X[half:quarter][:SELECT], select), (X[quarter:], held_out))


def mean_value(value: Callable[[Tensor, Tensor], Tensor], batch: Batch, *, graph: bool = True) -> float:
    """Evaluate a value on a sample, in as few pieces as memory needs."""
    return float(block_values(value, batch, blocks=-(-batch[0].shape[0] // SELECT), graph=graph).mean())


def block_values(
    value: Callable[[Tensor, Tensor], Tensor], batch: Batch, *, blocks: int = BLOCKS, graph: bool = True
) -> Tensor:
    """Evaluate a value on equal blocks of a sample: (blocks,), float64.

    Each block starts from one seed of its own, so that two values with random penalties meet the same draws. Without
    `graph` the value is computed faster, but a penalty of the user's that differentiates would fail.
    """
    x, z = batch
    blocks = min(blocks, max(2, x.shape[0] // 2))
    values = []
    for index, (x_block, z_block) in enumerate(zip(x.tensor_split(blocks), z.tensor_split(blocks), strict=True)):
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


def gain_of(blocks: Tensor, *, value: float, tolerance: float, significance: float, slack: float = 0.0) -> Gain:
    """Judge block-wise gains by Student's t at a one-sided level, above a tolerance relative to 1 + |V|.

    Args:
        blocks: gains (b,).
        value: V of the pair.
        tolerance: gains up to tolerance (1 + |V|) count as none.
        significance: one-sided level, already divided by the number of tests.
        slack: what an unfinished inner maximum may still take away.
    """
    count = blocks.shape[0]
    error = float(blocks.std()) / math.sqrt(count)
    quantile = float(student.isf(significance, count - 1))
    return Gain(float(blocks.mean()), error, tolerance * (1.0 + abs(value)) + quantile * error + slack)


def check(game: Game, X: Tensor, purpose: str) -> None:
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
    z = game.sample_latent(2, torch.Generator().manual_seed(0))
    try:
        fake = G(z)
    except RuntimeError as error:
        raise InputError(
            f"`G` does not accept latents of shape {tuple(z.shape)}: {error}; set Game(latent=...) to the size that G "
            "was built for"
        ) from error
    if fake.shape[1:] != X.shape[1:]:
        raise InputError(
            f"`G` makes samples of shape {tuple(fake.shape[1:])} but `data` has {tuple(X.shape[1:])}; they must agree"
        )
    try:
        D(fake)
    except RuntimeError as error:
        raise InputError(f"`D` does not accept samples of shape {tuple(fake.shape[1:])}: {error}") from error
