"""The only reader of arguments: what counts as a number, a whole number, a seed, and rows of data, everywhere the same.

Every function returns the argument in its plain form, so that a caller keeps what was checked and not what came.
"""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from saddlegan.errors import InputError, InputTypeError

RandomState = int | np.random.RandomState | np.random.Generator | torch.Generator | None

LARGEST_SEED = 2**64 - 1  # the last that torch takes


def count(name: str, value: object, *, least: int = 1) -> int:
    """Read a whole number: Python's, numpy's, or an array or tensor without axes; booleans are no numbers.

    Args:
        name: the argument's name, for the message.
        value: what came.
        least: the smallest that is allowed.

    Raises:
        InputError: not whole, or below `least`.

    Example:
        >>> count("steps", np.int64(3)), count("steps", torch.tensor(2))
        (3, 2)
    """
    entry = _scalar(value)
    if not isinstance(entry, Integral) or isinstance(entry, bool) or int(entry) < least:
        raise InputError(f"`{name}` must be a whole number of at least {least}, got {value!r}")
    return int(entry)


def number(name: str, value: object, *, least: float = 0.0, most: float = math.inf, infinite: bool = False) -> float:
    """Read a real number within [least, most]: Python's, numpy's, or an array or tensor without axes.

    Args:
        name: the argument's name, for the message.
        value: what came.
        least: lower end, allowed; minus infinity for none.
        most: upper end, allowed.
        infinite: whether infinity is allowed.

    Raises:
        InputError: no number, NaN, or out of range.

    Example:
        >>> number("lam", np.float32(0.5)), number("lam", float("inf"), infinite=True)
        (0.5, inf)
    """
    entry = _scalar(value)
    found = float(entry) if isinstance(entry, Real) and not isinstance(entry, bool) else math.nan
    if not least <= found <= most or (math.isinf(found) and not infinite):
        kind = "a number" if infinite else "a finite number"
        within = "" if math.isinf(least) else f" of at least {least:g}" if math.isinf(most) else ""
        within = within or ("" if math.isinf(most) else f" in [{least:g}, {most:g}]")
        raise InputError(f"`{name}` must be {kind}{within}, got {value!r}")
    return found


def positive(name: str, value: object) -> float:
    """Read a finite number above zero.

    Raises:
        InputError: anything else.
    """
    entry = _scalar(value)
    found = float(entry) if isinstance(entry, Real) and not isinstance(entry, bool) else math.nan
    if not 0.0 < found < math.inf:
        raise InputError(f"`{name}` must be a finite number above 0, got {value!r}")
    return found


def check_seed(random_state: object, *, name: str = "random_state") -> None:
    """Refuse what is no seed, and draw nothing: for work that may not need its seed.

    Raises:
        InputError: a number that no generator takes.
        InputTypeError: anything else that `generator` does not take.
    """
    entry = _scalar(random_state)
    if isinstance(entry, Integral) and not isinstance(entry, bool):
        if not 0 <= int(entry) <= LARGEST_SEED:
            raise InputError(f"`{name}` must be a seed from 0 to 2**64 - 1, got {random_state!r}")
    elif random_state is not None and not isinstance(
        random_state, (np.random.RandomState, np.random.Generator, torch.Generator)
    ):
        raise InputTypeError(
            f"`{name}` must be a whole number, a numpy RandomState or Generator, a torch.Generator or None, "
            f"got {random_state!r}"
        )


def generator(random_state: Any, *, name: str = "random_state") -> torch.Generator:
    """Turn any seed into a torch generator; the global generators are never touched.

    Args:
        random_state: a whole number, a numpy RandomState or Generator (one draw is taken from it), a torch.Generator
            (used as it is, and moved on), or None for fresh entropy.
        name: the argument's name, for the message.

    Raises:
        InputError: a number that no generator takes.
        InputTypeError: anything else.

    Example:
        >>> generator(np.int64(7)).initial_seed()
        7
    """
    check_seed(random_state, name=name)
    if isinstance(random_state, torch.Generator):
        return random_state
    made = torch.Generator()
    if random_state is None:
        made.seed()
    elif isinstance(random_state, np.random.RandomState):
        made.manual_seed(int(random_state.randint(2**31 - 1)))
    elif isinstance(random_state, np.random.Generator):
        made.manual_seed(int(random_state.integers(2**63 - 1)))
    else:
        made.manual_seed(int(random_state))
    return made


def seed(random_state: Any, *, name: str = "random_state") -> int:
    """Turn any seed into a whole number, for work that draws the same again and again.

    Args:
        random_state: see `generator`; a generator moves on by one draw.
        name: the argument's name, for the message.

    Example:
        >>> seed(np.int64(7))
        7
    """
    source = generator(random_state, name=name)
    if source is random_state:
        return int(torch.randint(2**62, (), generator=source, device=source.device))
    return source.initial_seed()


def rows(data: Any, name: str = "X", *, most: int | None = None) -> Any:
    """Bring rows of data from any source into an array or a tensor; arrays, memmaps and tensors pass through.

    Args:
        data: an array, memmap, tensor, list, data frame, or a DataLoader (the first entry of its batches).
        name: the argument's name, for the message.
        most: rows to take from a loader; all if None.

    Returns:
        A tensor or an array, not checked any further.

    Raises:
        InputTypeError: none of these.
        InputError: a list whose rows have different lengths, or an empty loader.

    Example:
        >>> rows([[1.0, 2.0], [3.0, 4.0]]).shape
        (2, 2)
    """
    if isinstance(data, (Tensor, np.ndarray)):
        return data
    if isinstance(data, DataLoader):
        kept: list[Tensor] = []
        for batch in data:
            first = batch[0] if isinstance(batch, (list, tuple)) else batch
            kept.append(first.detach() if isinstance(first, Tensor) else torch.as_tensor(np.asarray(first)))
            if most is not None and sum(map(len, kept)) >= most:
                break
        if not kept:
            raise InputError(f"`{name}` is a loader without batches")
        return torch.cat(kept)[:most]
    if isinstance(data, (list, tuple)) or hasattr(data, "__array__") or hasattr(data, "to_numpy"):
        try:
            if isinstance(data, (list, tuple)) and data and all(isinstance(row, Tensor) for row in data):
                return torch.stack([row.detach() for row in data])
            to_numpy = getattr(data, "to_numpy", None)
            return np.asarray(data) if to_numpy is None else to_numpy()
        except (ValueError, TypeError, RuntimeError) as error:
            raise InputError(f"`{name}` must hold rows of one length, (n, ...): {error}") from error
    raise InputTypeError(
        f"`{name}` must be an array, a tensor, a list of rows, a data frame or a DataLoader, got {type(data).__name__}"
    )


def _scalar(value: object) -> object:
    """The entry of an array or tensor without axes, else the value itself."""
    if isinstance(value, (np.ndarray, np.generic, Tensor)) and value.ndim == 0:
        return value.item()
    return value
