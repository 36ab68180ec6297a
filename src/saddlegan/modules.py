"""What the library does with anybody's module: copies, averages, modes, gradients, its device and dtype."""

from __future__ import annotations

import contextlib
import copy
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import _SpectralNorm
from torch.nn.utils.spectral_norm import SpectralNorm


def like(module: nn.Module) -> Tensor:
    """Return a floating tensor of the module, which tells device and dtype; float32 on the CPU if it has none."""
    for tensor in itertools.chain(module.parameters(), module.buffers()):  # lazily: every step of a rule asks
        if tensor.is_floating_point():
            return tensor
    return torch.empty(0)


def clone(module: nn.Module) -> nn.Module:
    """Deep copy without gradients; modules that keep a computed tensor as an attribute (old weight norms) work too."""
    computed = {
        id(entry): entry.detach().clone()
        for part in module.modules()
        for entry in vars(part).values()
        if isinstance(entry, Tensor) and entry.grad_fn is not None
    }
    twin = copy.deepcopy(module, computed)
    for parameter in twin.parameters():
        parameter.grad = None
    return twin


@torch.no_grad()
def follow(mine: nn.Module, other: nn.Module, rate: float) -> None:
    """Move a module's parameters the share `rate` of the way to another's; copy buffers, which are no iterates."""
    for p, q in zip(mine.parameters(), other.parameters(), strict=True):
        p.lerp_(q, rate)
    for p, q in zip(mine.buffers(), other.buffers(), strict=True):
        p.copy_(q)


def frozen(module: nn.Module) -> nn.Module:
    """Copy in evaluation mode whose parameters ask for no gradient."""
    return clone(module).eval().requires_grad_(False)


def awake(module: nn.Module, original: nn.Module) -> nn.Module:
    """Copy in evaluation mode whose parameters ask for a gradient where those of its original do."""
    twin = frozen(module)
    for parameter, own in zip(twin.parameters(), original.parameters(), strict=True):
        parameter.requires_grad_(own.requires_grad)
    return twin


@contextlib.contextmanager
def evaluating(*players: nn.Module) -> Iterator[None]:
    """Put players in evaluation mode for a while: dropout and instance noise off, running statistics at rest."""
    modes = [(module, module.training) for player in players for module in player.modules()]
    for module, _ in modes:
        module.training = False
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@torch.no_grad()
def settle_spectral_norms(module: nn.Module, iterations: int = 15) -> None:
    """Let the power iterations of torch's spectral norms, old and new, catch up with the weights, in any mode.

    A norm that lags behind its weight is too small: the network then is steeper than its class allows.
    """
    for part in module.modules():
        for parametrised in getattr(part, "parametrizations", {}).values():
            weight = getattr(parametrised, "original", None)
            if weight is None:
                continue
            for each in parametrised:
                if isinstance(each, _SpectralNorm) and hasattr(each, "_u"):
                    each._power_method(each._reshape_weight_to_matrix(weight), iterations)
                weight = each(weight)
        for hook in part._forward_pre_hooks.values():
            if isinstance(hook, SpectralNorm):
                kept, hook.n_power_iterations = hook.n_power_iterations, iterations
                hook.compute_weight(part, do_power_iteration=True)
                hook.n_power_iterations = kept


def trainable(player: nn.Module) -> list[nn.Parameter]:
    """Parameters of a player that take a gradient, in their order."""
    return [p for p in player.parameters() if p.requires_grad]


def owned(state: Any) -> Any:
    """Copy of a state whose tensors nobody else writes to; `state_dict` of a module or optimiser hands out its own."""
    if isinstance(state, Tensor):
        return state.detach().clone()
    if isinstance(state, Mapping):
        return {name: owned(entry) for name, entry in state.items()}
    if isinstance(state, (list, tuple)):
        return type(state)(owned(entry) for entry in state)
    return state


def set_gradients(parameters: Sequence[nn.Parameter], gradients: Sequence[Tensor]) -> None:
    """Hand gradients to an optimiser, each laid out in memory like its parameter.

    Fused optimisers read memory as if the gradient lay like the parameter; `autograd.grad` does not promise it.
    """
    for parameter, gradient in zip(parameters, gradients, strict=True):
        same = gradient.stride() == parameter.stride()
        parameter.grad = gradient if same else torch.empty_like(parameter).copy_(gradient)


def wide(entry: Tensor) -> Tensor:
    """The tensor in float32 where it has fewer digits: losses and squares of slopes overflow and round in half."""
    return entry.float() if entry.dtype in (torch.float16, torch.bfloat16) else entry
