"""Look ahead and come back: parameters and optimiser state set aside and put back, for any `torch.optim.Optimizer`."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from saddlegan.modules import trainable


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """A player and its optimiser at one moment; buffers (running statistics) are left to run on.

    Attributes:
        values: copies of the trainable parameters.
        state: the optimiser's own state per parameter. The optimiser works on copies until `restore`.
    """

    parameters: list[nn.Parameter]
    values: list[Tensor]
    state: dict[Any, dict[str, Any]]

    def restore(self, optimizer: Optimizer) -> None:
        """Put parameters and optimiser state back to the bit."""
        put(self.parameters, self.values)
        optimizer.state.clear()
        optimizer.state.update(self.state)


def take(player: nn.Module, optimizer: Optimizer) -> Snapshot:
    """Take a snapshot of a player and its optimiser."""
    parameters = trainable(player)
    state = dict(optimizer.state)
    for parameter, entries in state.items():
        optimizer.state[parameter] = {
            key: entry.clone() if isinstance(entry, Tensor) else entry for key, entry in entries.items()
        }
    return Snapshot(parameters, copies(parameters), state)


def copies(parameters: list[nn.Parameter]) -> list[Tensor]:
    """Detached copies of parameters."""
    return [p.detach().clone() for p in parameters]


@torch.no_grad()
def put(parameters: list[nn.Parameter], values: list[Tensor]) -> None:
    """Write values into parameters in place."""
    for parameter, value in zip(parameters, values, strict=True):
        parameter.copy_(value)
