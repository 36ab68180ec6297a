"""Many seeds at once: independent replicas of one game, their parameters stacked and their passes batched by vmap."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from saddlegan.errors import InputError
from saddlegan.game import Latent, read_latent

_ELEMENTWISE = (nn.ReLU, nn.LeakyReLU, nn.Softplus, nn.SiLU, nn.Tanh)  # act on every entry alone


def _is_plain(module: nn.Module) -> bool:
    """Whether a module is a chain of linear layers and elementwise activations, nothing shared, hooked or rewritten."""
    if not isinstance(module, nn.Sequential) or type(module).forward is not nn.Sequential.forward:
        return False
    if not all(type(layer) in (nn.Linear, *_ELEMENTWISE) for layer in module):
        return False
    if any(layer._forward_hooks or layer._forward_pre_hooks for layer in module):
        return False
    expected = [
        f"{place}.{name}"
        for place, layer in enumerate(module)
        if isinstance(layer, nn.Linear)
        for name in ("weight", "bias")
        if name == "weight" or layer.bias is not None
    ]
    return [name for name, _ in module.named_parameters()] == expected


class Multiply(torch.autograd.Function):
    """The identity whose gradient is multiplied by a number."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return weight.view_as(weight)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        return grad_outputs[0] * ctx.factor, None


class Replicas(nn.Module):
    """R modules of one architecture as one: rows of the input are cut into R equal parts, the r-th goes to the r-th.

    A loss that is a mean over the whole batch is (1/R) sum_r (mean over part r). Parameters hand their gradient back
    times R, so an elementwise optimiser (SGD, Adam, RMSprop, ...) moves each replica exactly as if it were alone, up to
    rounding; penalties that are means over rows keep that too. Layers that look across the batch in training mode and
    modules that change their buffers (batch norm, spectral norm) are refused: vmap cannot keep them apart.

    Args:
        modules: the replicas, equal in architecture.

    Raises:
        InputError: fewer than one module, different architectures, or buffers.

    Example:
        >>> pair = Replicas([nn.Linear(2, 3), nn.Linear(2, 3)])
        >>> pair(torch.zeros(10, 2)).shape
        torch.Size([10, 3])
    """

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        super().__init__()
        if not modules:
            raise InputError("`modules` is empty; give one module per replica")
        shapes = [[(name, p.shape) for name, p in m.named_parameters()] for m in modules]
        if any(type(m) is not type(modules[0]) for m in modules) or any(s != shapes[0] for s in shapes):
            raise InputError("`modules` must have one architecture: same class, same parameter shapes")
        if any(True for _ in modules[0].buffers()):
            raise InputError("`modules` have buffers (batch norm, spectral norm), which replicas cannot keep apart")
        stacked, _ = stack_module_state(list(modules))
        self._names = list(stacked)
        frozen = {name for name, p in modules[0].named_parameters() if not p.requires_grad}
        self.stacked = nn.ParameterList(
            [nn.Parameter(stacked[name].detach(), requires_grad=name not in frozen) for name in self._names]
        )
        self.count = len(modules)
        # held in a tuple, so that its own parameters are not this module's
        self._skeleton = (copy.deepcopy(modules[0]).requires_grad_(False),)
        self._batched = _is_plain(modules[0])

    def forward(self, x: Tensor, *conditions: Tensor) -> Tensor:
        """Return every replica's output on its own rows, and on its own conditions."""
        if len(x) % self.count:
            raise InputError(f"`x` must have rows in a multiple of {self.count} replicas, got {len(x)}")
        weights = [Multiply.apply(p, float(self.count)) if p.requires_grad else p for p in self.stacked]
        parts = x.unflatten(0, (self.count, -1))
        if self._batched and not conditions:
            made = self._layers(weights, parts)
        else:
            given = [entry.unflatten(0, (self.count, -1)) for entry in conditions]
            made = vmap(self._one)(weights, parts, *given)
        return made.flatten(0, 1)

    def _layers(self, weights: list[Tensor], rows: Tensor) -> Tensor:
        """What vmap does, layer by layer, with each bias inside its product: fewer passes over memory."""
        left = iter(weights)
        for layer in cast(nn.Sequential, self._skeleton[0]):
            if isinstance(layer, nn.Linear):
                weight = next(left).mT
                rows = rows @ weight if layer.bias is None else torch.baddbmm(next(left).unsqueeze(1), rows, weight)
            else:
                rows = layer(rows)
        return rows

    def _one(self, weights: list[Tensor], *rows: Tensor) -> Tensor:
        return functional_call(self._skeleton[0], dict(zip(self._names, weights, strict=True)), rows)

    def unstack(self) -> list[nn.Module]:
        """Each replica as a module of its own, with copies of its parameters."""
        modules = []
        for r in range(self.count):
            module = copy.deepcopy(self._skeleton[0])
            module.load_state_dict({name: p.detach()[r] for name, p in zip(self._names, self.stacked, strict=True)})
            for parameter, p in zip(module.parameters(), self.stacked, strict=True):
                parameter.requires_grad_(p.requires_grad)
            modules.append(module)
        return modules


def replica_count(module: nn.Module) -> int:
    """How many times too large a gradient a player hands back: the number of its replicas, 1 without any.

    Raises:
        InputError: some trainable parameters belong to replicas and some do not, so that no one number is right.
    """
    inside = [part for part in module.modules() if isinstance(part, Replicas)]
    if not inside:
        return 1
    counts = {part.count for part in inside}
    held = {id(p) for part in inside for p in part.parameters()}
    if len(counts) > 1 or any(id(p) not in held for p in module.parameters() if p.requires_grad):
        raise InputError("`Replicas` must hold all trainable parameters of a player, in equal numbers")
    return counts.pop()


class ReplicaLatent:
    """Latents for `Replicas`: part r comes from the r-th generator alone, as in a run of its own.

    Args:
        latent: what a single game would take: a length or a callable.
        generators: one source per replica. Save their states with your checkpoints.
        dtype: of Gaussian latents.

    Example:
        >>> sources = [torch.Generator().manual_seed(s) for s in (0, 1)]
        >>> ReplicaLatent(4, sources)(6, None).shape
        torch.Size([6, 4])
    """

    def __init__(
        self, latent: Latent, generators: Sequence[torch.Generator], *, dtype: torch.dtype | None = None
    ) -> None:
        if not generators:
            raise InputError("`generators` is empty; give one per replica")
        self.latent = read_latent(latent)
        self.generators = tuple(generators)
        self.dtype = dtype

    def __call__(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Latents (n, ...); the argument `generator` is not used."""
        del generator
        if n % len(self.generators):
            raise InputError(f"`n` must be a multiple of {len(self.generators)} replicas, got {n}")
        rows = n // len(self.generators)
        if isinstance(self.latent, int):
            size = self.latent
            return torch.cat(
                [torch.randn(rows, size, generator=g, dtype=self.dtype, device=g.device) for g in self.generators]
            )
        return torch.cat([self.latent(rows, g) for g in self.generators])
