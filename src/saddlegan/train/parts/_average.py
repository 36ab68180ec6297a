"""The generator's moving average: the copy to sample from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from saddlegan import checks
from saddlegan.errors import InputError
from saddlegan.modules import follow, frozen, owned


class MovingAverage:
    """average_{t+1} = decay * average_t + (1 - decay) * G_t over parameters; buffers are copied.

    Args:
        G: the module to follow.
        decay: in [0, 1); 0.999 remembers about a thousand steps.

    Attributes:
        module: the averaged copy, in evaluation mode.

    Example:
        >>> G = nn.Linear(2, 2)
        >>> average = MovingAverage(G, decay=0.0)
        >>> _ = G.weight.data.fill_(3.0)
        >>> average.update()
        >>> bool((average.module.weight == 3.0).all())
        True
    """

    def __init__(self, G: nn.Module, *, decay: float = 0.999) -> None:
        if decay == 1.0:
            raise InputError("`decay` must be below 1: at 1 the average would never move")
        self.decay = checks.number("decay", decay, most=1.0)
        self.module = frozen(G)
        self._followed = G

    def update(self) -> None:
        """Take in the generator's current parameters; call it after each step."""
        follow(self.module, self._followed, 1.0 - self.decay)

    def state_dict(self) -> dict[str, Any]:
        """Copies of the averaged parameters and buffers."""
        return owned(self.module.state_dict())

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up a saved average."""
        self.module.load_state_dict(dict(state))
