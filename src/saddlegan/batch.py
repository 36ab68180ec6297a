"""What a game is played on: real samples with their conditions, latents, generated samples; cut and carried as one.

Rows are a tensor (n, ...), a tuple (x, *conditions), or a mapping with an "x"; every entry has n rows. Latents are a
tensor, a mapping, or a tuple (z, *conditions) whose z may be a tensor, a tuple or a mapping.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from saddlegan import checks
from saddlegan.errors import InputError, InputTypeError

Rows = Any  # Tensor | tuple[Tensor, ...] | list[Tensor] | Mapping[str, Tensor]; of latents the entries may be nested


class Batch:
    """One batch of a game, as penalties and own values see it.

    Args:
        x: real samples (n, ...).
        conditions: what G and D are told beside them, each (n, ...): labels, images, vectors.
        z: latents as drawn: (m, ...), or (z, *conditions) where the generated half has conditions of its own.
        fake: generated samples (m, ...); an own value, `Game.from_value`, makes them itself.
        rows_in_groups: how many rows D looks at together.

    Raises:
        InputError: a part is asked for that the batch does not hold.

    Example:
        >>> batch = Batch(torch.zeros(4, 2), (torch.arange(4),), torch.zeros(4, 3), torch.ones(4, 2))
        >>> len(batch), batch.fake_conditions[0].tolist()
        (4, [0, 1, 2, 3])
    """

    def __init__(
        self,
        x: Tensor | None,
        conditions: tuple[Any, ...] = (),
        z: Rows = None,
        fake: Tensor | None = None,
        *,
        rows_in_groups: int = 1,
    ) -> None:
        self._x, self._fake = x, fake
        self.conditions = conditions
        self.z = z
        self.rows_in_groups = checks.count("rows_in_groups", rows_in_groups)
        # which samples' slopes a penalty will ask for, and D's passes at them: (D, samples, raw outputs)
        self.differentiated: tuple[str, ...] = ()
        self.passes: dict[str, tuple[Any, Tensor, Tensor]] = {}

    def __len__(self) -> int:
        return len(self.x)

    @property
    def x(self) -> Tensor:
        """Real samples (n, ...)."""
        if self._x is None:
            raise InputError("this loss of the generator looks at real samples; pass `x` beside the latents")
        return self._x

    @property
    def fake(self) -> Tensor:
        """Generated samples (m, ...)."""
        if self._fake is None:
            raise InputError("this batch holds no `fake`: an own value makes its samples itself, G(batch.z)")
        return self._fake

    @property
    def fake_conditions(self) -> tuple[Any, ...]:
        """Conditions of the generated half: its own where the latents brought some, else the batch's."""
        return own_conditions(self.z) or self.conditions


def own_conditions(z: Rows) -> tuple[Any, ...]:
    """Conditions that latents (z, *conditions) bring along."""
    return z[1:] if isinstance(z, tuple) else ()


def read(x: Rows) -> Rows:
    """Bring what a loader gave into a tensor, or a tuple (x, *conditions).

    Args:
        x: a tensor; a tuple or list (x, *conditions); a mapping with an "x", whose other entries are the conditions
            in their order.

    Raises:
        InputTypeError: none of these, or an entry is not a tensor.
        InputError: entries of different lengths.

    Example:
        >>> x, labels = read({"label": torch.arange(3), "x": torch.zeros(3, 2)})
        >>> x.shape, labels.tolist()
        (torch.Size([3, 2]), [0, 1, 2])
    """
    if isinstance(x, Tensor):
        return x
    if isinstance(x, Mapping):
        if "x" not in x:
            raise InputTypeError(f"`x` is a mapping without an entry 'x': it has {', '.join(map(repr, x))}")
        x = (x["x"], *(entry for name, entry in x.items() if name != "x"))
    if not isinstance(x, (tuple, list)) or not x or not all(isinstance(entry, Tensor) for entry in x):
        what = type(x).__name__
        if isinstance(x, (tuple, list)):
            what = f"{what} of {', '.join(type(entry).__name__ for entry in x) or 'nothing'}"
        raise InputTypeError(
            f"`x` must be a torch.Tensor of real samples (n, ...), a tuple (x, *conditions) of tensors, or a mapping "
            f"with an 'x', got {what}"
        )
    lengths = [len(entry) if entry.ndim else 0 for entry in x]
    if len(set(lengths)) > 1:
        raise InputError(f"`x` and its conditions must have the same number of rows, got {lengths}")
    return x[0] if len(x) == 1 else tuple(x)


def samples(x: Rows) -> Tensor:
    """The samples of rows that were read."""
    return x if isinstance(x, Tensor) else x[0]


def conditions(x: Rows) -> tuple[Any, ...]:
    """The conditions of rows that were read."""
    return () if x is None or isinstance(x, Tensor) else tuple(x[1:])


def with_samples(x: Rows, other: Tensor) -> Rows:
    """The same rows with other samples."""
    return other if isinstance(x, Tensor) else (other, *x[1:])


def apply(function: Callable[[Tensor], Tensor], rows: Rows) -> Rows:
    """Do something to every tensor of rows or latents, keeping their structure.

    Raises:
        InputTypeError: something that is no tensor, tuple or mapping.
    """
    if isinstance(rows, Tensor):
        return function(rows)
    if isinstance(rows, Mapping):
        return {name: apply(function, entry) for name, entry in rows.items()}
    if isinstance(rows, (tuple, list)):
        return tuple(apply(function, entry) for entry in rows)
    raise InputTypeError(f"rows and latents are tensors, tuples or mappings of tensors, got {type(rows).__name__}")


def tensors(rows: Rows) -> Iterator[Tensor]:
    """Every tensor of rows or latents."""
    if isinstance(rows, Tensor):
        yield rows
    elif isinstance(rows, Mapping):
        for entry in rows.values():
            yield from tensors(entry)
    elif isinstance(rows, (tuple, list)):
        for entry in rows:
            yield from tensors(entry)
    else:
        raise InputTypeError(f"rows and latents are tensors, tuples or mappings of tensors, got {type(rows).__name__}")


def count(rows: Rows) -> int:
    """Number of rows."""
    return len(next(tensors(rows)))


def part(rows: Rows, start: int, stop: int) -> Rows:
    """Rows start to stop of every tensor."""
    return rows[start:stop] if isinstance(rows, Tensor) else apply(lambda entry: entry[start:stop], rows)


def take(rows: Rows, order: Tensor) -> Rows:
    """Rows at given places, in that order."""
    return apply(lambda entry: entry[order.to(entry.device)], rows)


def cut(rows: Rows, pieces: int) -> list[Rows]:
    """Equal pieces of rows, in their order."""
    size = count(rows) // pieces
    return [part(rows, k * size, (k + 1) * size) for k in range(pieces)]


def join(pieces: list[Rows]) -> Rows:
    """Rows of several pieces of one structure, one below the other."""
    if isinstance(pieces[0], Tensor):
        return torch.cat(pieces)
    return tuple(torch.cat(entries) for entries in zip(*pieces, strict=True))


def spread(rows: Rows, points: int, *, rows_in_groups: int = 1) -> Rows:
    """About `points` rows spread evenly over all, whole groups together; all rows where there are no more.

    Example:
        >>> spread(torch.arange(12), 4).tolist(), spread(torch.arange(12), 4, rows_in_groups=2).tolist()
        ([0, 3, 6, 9], [0, 1, 6, 7])
    """
    n = count(rows)
    groups, wanted = n // rows_in_groups, max(1, points // rows_in_groups)
    if points >= n:
        return rows
    if isinstance(rows, Tensor) and rows_in_groups == 1:
        return rows[:: n // points][:points]
    first = torch.arange(0, groups, groups // wanted)[:wanted] * rows_in_groups
    return take(rows, (first[:, None] + torch.arange(rows_in_groups)).flatten())
