"""Running a module's own `forward` on something that knows more than a value: bounds, slopes, degrees.

A `Traced` object stands for a tensor. Every torch function that meets it is looked up by name among the rules of its
class; a function without a rule raises `UnknownError`, so that nothing is ever concluded about a network that is not
understood from end to end. Control flow that depends on values is refused for the same reason.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self, cast

import torch
from torch import Tensor


class UnknownError(Exception):
    """The network does something of which no rule is known; a bound is then infinite."""


MOVES = frozenset(
    (
        *("reshape", "view", "flatten", "squeeze", "unsqueeze", "permute", "transpose", "contiguous", "unflatten"),
        *("clone", "getitem", "detach", "identity", "to", "float", "double", "movedim", "narrow", "select", "swapaxes"),
    )
)
_PLAIN = {"__add__": "add", "__radd__": "add", "__mul__": "mul", "__rmul__": "mul", "__sub__": "sub"}
_PLAIN |= {"__rsub__": "rsub", "__matmul__": "matmul", "__rmatmul__": "rmatmul", "__truediv__": "div"}
_PLAIN |= {"__neg__": "neg", "__getitem__": "getitem", "true_divide": "div", "divide": "div", "negative": "neg"}
_PLAIN |= {"multiply": "mul", "subtract": "sub", "concat": "cat", "concatenate": "cat", "mm": "matmul", "mv": "matmul"}
_PLAIN |= {"__pow__": "pow", "special_expit": "sigmoid", "expit": "sigmoid"}


def plain_name(function: Callable[..., Any]) -> str:
    """Name of a torch function, the same for operators, methods and functions; others' functions are refused."""
    module = getattr(function, "__module__", None) or getattr(function, "__objclass__", torch.Tensor).__module__
    if not module.startswith("torch"):
        raise UnknownError(f"a function of {module}")
    name = getattr(function, "__name__", "")
    return _PLAIN.get(name, name)


class Traced(abc.ABC):
    """A tensor inside a `forward`, with what is known of it.

    Args:
        value: the tensor itself, at one point of those that are looked at.
    """

    def __init__(self, value: Tensor) -> None:
        self.value = value

    @abc.abstractmethod
    def apply(
        self, name: str, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Traced:
        """Result of a torch function one of whose arguments this is; raise `UnknownError` where no rule is known."""

    def become(self, other: Self) -> Self:
        """Take another's place, as functions in place do."""
        vars(self).update(vars(other))
        return self

    @classmethod
    def __torch_function__(
        cls,
        function: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = dict(kwargs or {})
        mine = next(entry for entry in _flat([*args, *given.values()]) if isinstance(entry, cls))
        if given.get("alpha", 1) != 1:
            raise UnknownError("a sum with a factor")
        in_place = bool(given.pop("inplace", False))
        name = plain_name(function)
        if name.endswith("_") and not name.endswith("__"):
            raise UnknownError(f"`{name}`, which works in place")
        found = mine.apply(name, function, args, given)
        # F.relu(x, inplace=True) hands its first argument on, changed
        return cast("Traced", args[0]).become(found) if in_place and isinstance(args[0], Traced) else found

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or not hasattr(torch.Tensor, name):
            raise AttributeError(name)
        method = getattr(torch.Tensor, name)
        if not callable(method):
            raise UnknownError(f"`.{name}` of a tensor")
        return lambda *args, **kwargs: type(self).__torch_function__(method, (type(self),), (self, *args), kwargs)

    def _call(self, name: str, *args: Any) -> Any:
        return type(self).__torch_function__(getattr(torch.Tensor, name), (type(self),), args, {})

    def __add__(self, other: Any) -> Any:
        return self._call("__add__", self, other)

    def __radd__(self, other: Any) -> Any:
        return self._call("__add__", self, other)

    def __mul__(self, other: Any) -> Any:
        return self._call("__mul__", self, other)

    def __rmul__(self, other: Any) -> Any:
        return self._call("__mul__", self, other)

    def __sub__(self, other: Any) -> Any:
        return self._call("__sub__", self, other)

    def __rsub__(self, other: Any) -> Any:
        return self._call("__add__", self._call("__neg__", self), other)

    def __truediv__(self, other: Any) -> Any:
        return self._call("__truediv__", self, other)

    def __neg__(self) -> Any:
        return self._call("__neg__", self)

    def __matmul__(self, other: Any) -> Any:
        return self._call("__matmul__", self, other)

    def __pow__(self, power: Any) -> Any:
        return self._call("__pow__", self, power)

    def __getitem__(self, index: Any) -> Any:
        return self._call("__getitem__", self, index)

    def __len__(self) -> int:
        return len(self.value)

    def __bool__(self) -> bool:
        raise UnknownError("a branch that depends on values")

    __float__ = __int__ = __iter__ = __bool__  # type: ignore[assignment]

    def __iadd__(self, other: Any) -> Any:  # would change other names of the same tensor as well
        raise UnknownError("a sum in place")

    __isub__ = __imul__ = __itruediv__ = __iadd__

    @property
    def shape(self) -> torch.Size:
        """The tensor's shape."""
        return self.value.shape

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return self.value.ndim

    @property
    def dtype(self) -> torch.dtype:
        """Type of its numbers."""
        return self.value.dtype

    @property
    def device(self) -> torch.device:
        """Where it lies."""
        return self.value.device

    def size(self, axis: int | None = None) -> Any:
        """The tensor's shape, or its length along one axis."""
        return self.value.size() if axis is None else self.value.size(axis)

    def dim(self) -> int:
        """Number of axes."""
        return self.value.ndim

    def numel(self) -> int:
        """Number of entries."""
        return self.value.numel()


def _flat(entries: Sequence[Any]) -> list[Any]:
    found: list[Any] = []
    for entry in entries:
        found += _flat(entry) if isinstance(entry, (list, tuple)) else [entry]
    return found


def swap(entry: Any, known: Mapping[int, Any]) -> Any:
    """Arguments with traced objects replaced, by their identity."""
    if isinstance(entry, (list, tuple)):
        return type(entry)(swap(part, known) for part in entry)
    return known.get(id(entry), entry)


def call(function: Callable[..., Any], args: Any, kwargs: Any, known: Mapping[int, Any]) -> Tensor:
    """A function of the same arguments with tensors in the place of traced ones."""
    given = {name: swap(entry, known) for name, entry in kwargs.items()}
    return function(*swap(args, known), **given)


def traced(args: Any, kwargs: Mapping[str, Any]) -> list[Traced]:
    """All traced objects among arguments, as often as they occur: x * x is a product of two."""
    return [entry for entry in _flat([*args, *kwargs.values()]) if isinstance(entry, Traced)]


def check_rows(linear: Callable[[Tensor], Tensor], like: Tensor, name: str) -> None:
    """Refuse a linear function that mixes samples: no other row of its output may feel the first one."""
    probe = torch.zeros_like(like)
    still = linear(probe)
    probe[0] = torch.randn(probe.shape[1:], generator=torch.Generator().manual_seed(0)).to(probe)
    moved = linear(probe)
    if len(moved) != len(like) or not moved.is_floating_point() or not torch.equal(moved[1:], still[1:]):
        raise UnknownError(f"`{name}`, which mixes samples")


def check_move(move: Callable[[Tensor], Tensor], like: Tensor, name: str) -> None:
    """Refuse a rearrangement that mixes samples or shows an entry twice."""
    check_rows(move, like, name)
    places = move(torch.arange(1.0, like.numel() + 1.0, dtype=torch.float64, device=like.device).view_as(like))
    if len(places.unique()) < places.numel():
        raise UnknownError(f"`{name}`, which repeats entries")


def run(module: Callable[..., Any], start: Traced) -> Traced:
    """The module's output; raises `UnknownError` where something without a rule is met."""
    try:
        with torch.no_grad():
            found = module(start)
    except UnknownError:
        raise
    except Exception as error:  # a function that cannot deal with a stand-in: whatever it is, nothing is known
        raise UnknownError(f"{type(error).__name__}: {error}") from error
    if not isinstance(found, Traced):
        raise UnknownError("an output that does not come from the input alone")
    return found
