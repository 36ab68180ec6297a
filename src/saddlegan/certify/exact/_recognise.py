"""Which exactly solved class a pair belongs to."""

from __future__ import annotations

from torch import Tensor

from saddlegan.certify.exact._base import AbstractExactGame
from saddlegan.certify.exact._finite import FiniteGame
from saddlegan.certify.exact._two_layer import TwoLayerGame
from saddlegan.errors import InputTypeError
from saddlegan.game import Game

_KINDS: list[type[AbstractExactGame]] = [FiniteGame, TwoLayerGame]


def register(kind: type[AbstractExactGame]) -> type[AbstractExactGame]:
    """Add a class of exactly solved games; the last one registered is asked first. Usable as a decorator.

    Args:
        kind: the class.

    Returns:
        The class itself.

    Raises:
        InputTypeError: not a subclass of `AbstractExactGame`.

    Example:
        >>> register(FiniteGame).__name__  # already known: nothing changes
        'FiniteGame'
    """
    if not (isinstance(kind, type) and issubclass(kind, AbstractExactGame)):
        raise InputTypeError(f"`kind` must be a subclass of AbstractExactGame, got {kind!r}")
    if kind not in _KINDS:
        _KINDS.insert(0, kind)
    return kind


def recognise(game: Game, X: Tensor) -> AbstractExactGame | None:
    """Return the exact game that the pair belongs to, or None."""
    for kind in _KINDS:
        found = kind.read(game, X)
        if found is not None:
            return found
    return None
