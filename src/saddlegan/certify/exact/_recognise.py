"""Which exactly solved class a pair belongs to."""

from __future__ import annotations

from torch import Tensor, nn

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


# what an exact class may leave to its own `read`, and what must have its default; a field of neither list is refused
_READ = {"G", "D", "objective", "latent", "generator_penalty", "discriminator_penalty"}
_DEFAULT = {"fake_transform": None, "rows_in_groups": 1, "_own_value": None}
_NOTES = {"_read_latent", "_looked"}  # what a game has seen of its players; no part of its value


def standard(game: Game) -> bool:
    """Whether the value is the one that the exact classes solve: a plain `Game`, nothing added, nothing overridden.

    Fields are named one by one, so that a field that `Game` gets in future is refused until somebody has thought of it.
    """
    if type(game) is not Game or vars(game).keys() - _READ - _DEFAULT.keys() - _NOTES:
        return False
    if any(getattr(game, name) != default for name, default in _DEFAULT.items()):
        return False
    return not any(_changed(module) for player in (game.G, game.D) for module in player.modules())


def _changed(module: nn.Module) -> bool:
    """Whether hooks or a `forward` of its own make a module another function than its type says."""
    hooked = module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks
    return bool(hooked) or "forward" in vars(module)


def recognise(game: Game, X: Tensor) -> AbstractExactGame | None:
    """Return the exact game that the pair belongs to, or None."""
    if not standard(game):
        return None
    for kind in _KINDS:
        found = kind.read(game, X)
        if found is not None:
            return found
    return None
