"""Data parallel training: gradients, figures and batch statistics of the processes of a `torch.distributed` group.

Together they compute what one process would with all their rows: gradients are averaged, batch norm sees the whole
batch, and sums that a later derivative passes through carry it to every process.
"""

from __future__ import annotations

import contextlib
import types
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from saddlegan.errors import InputError

LEFT = (
    "another process of `group` has left: it ran out of data, or failed with a message of its own; give every process "
    "as many batches, or loop over train.together(loader, group)"
)
Item = TypeVar("Item")


def check_group(group: dist.ProcessGroup | None) -> None:
    """Refuse a group that this process is not part of.

    Raises:
        InputError: `torch.distributed` is not initialised, or the process does not belong to the group.
    """
    if group is None:
        return
    if not (dist.is_available() and dist.is_initialized()):
        raise InputError("`group` was given but torch.distributed is not initialised; call init_process_group first")
    if dist.get_rank(group) < 0:
        raise InputError("`group` does not contain this process")


def share(group: dist.ProcessGroup | None, count: int) -> int:
    """This process's share of a count for the whole group, at least 1."""
    return count if group is None else max(1, count // dist.get_world_size(group))


def mean_over(group: dist.ProcessGroup | None, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Average tensors over the group, one flat message for each dtype; the identity without a group."""
    if group is None:
        return tuple(tensors)
    averaged = list(tensors)
    for dtype in dict.fromkeys(tensor.dtype for tensor in tensors):
        places = [i for i, tensor in enumerate(tensors) if tensor.dtype == dtype]
        flat = torch.cat([tensors[i].reshape(-1) for i in places])
        dist.all_reduce(flat, group=group)  # gloo knows no average
        flat /= dist.get_world_size(group)
        for i, part in zip(places, flat.split([tensors[i].numel() for i in places]), strict=True):
            averaged[i] = part.view_as(tensors[i])
    return tuple(averaged)


def gather(group: dist.ProcessGroup | None, tensor: Tensor) -> Tensor:
    """Rows of every process, in order of rank; all must hold the same number. Carries no gradient."""
    if group is None:
        return tensor
    parts = [torch.empty_like(tensor) for _ in range(dist.get_world_size(group))]
    dist.all_gather(parts, tensor.contiguous(), group=group)
    return torch.cat(parts)


def broadcast_module(group: dist.ProcessGroup | None, module: nn.Module) -> None:
    """Give every process the first one's parameters and buffers."""
    if group is None:
        return
    source = dist.get_global_rank(group, 0)
    for tensor in (*module.parameters(), *module.buffers()):
        dist.broadcast(tensor.detach(), source, group=group)


class _Sum(torch.autograd.Function):
    """The sum of a tensor over the group; its gradient is the sum of the gradients of all processes."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, group: dist.ProcessGroup) -> Tensor:
        ctx.group = group
        total = tensor.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total, group=group)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, None]:
        return _Sum.apply(gradients[0], ctx.group), None


def linked_mean_over(group: dist.ProcessGroup | None, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Average tensors over the group with a graph that reaches into every process; the identity without a group."""
    if group is None:
        return tuple(tensors)
    size = dist.get_world_size(group)
    summed: list[Tensor] = [_Sum.apply(tensor, group) for tensor in tensors]
    return tuple(total / size for total in summed)


@contextlib.contextmanager
def whole_batch_statistics(group: dist.ProcessGroup | None, players: Sequence[nn.Module]) -> Iterator[None]:
    """Let batch norm in the players see the rows of all processes while the block runs, as one process would."""
    layers = [] if group is None else [m for player in players for m in player.modules() if _is_batch_norm(m)]

    def forward(self: _BatchNorm, x: Tensor) -> Tensor:
        if group is None or not (self.training or self.running_mean is None):
            return type(self).forward(self, x)
        return _whole_batch_norm(self, x, group)

    for layer in layers:
        layer.forward = types.MethodType(forward, layer)
    try:
        yield
    finally:
        for layer in dict.fromkeys(layers):
            del layer.forward  # the class's own shows again


def _is_batch_norm(module: nn.Module) -> bool:
    return isinstance(module, _BatchNorm) and not isinstance(module, nn.SyncBatchNorm)


def _whole_batch_norm(layer: _BatchNorm, x: Tensor, group: dist.ProcessGroup) -> Tensor:
    """Y = (x - mean) / sqrt(var + eps) * weight + bias, mean and var over the rows of all processes."""
    wide = x if x.dtype in (torch.float32, torch.float64) else x.float()
    axes = [axis for axis in range(x.ndim) if axis != 1]
    shape = [1, -1, *[1] * (x.ndim - 2)]
    count = wide.new_tensor([x.numel() / x.shape[1]])
    total: Tensor = _Sum.apply(torch.cat([wide.sum(axes), count]), group)
    n = total[-1].detach()
    mean = total[:-1] / n
    centred = wide - mean.view(shape)
    # about the common mean: a difference of squares would cancel
    summed: Tensor = _Sum.apply(centred.square().sum(axes), group)
    variance = summed / n
    _follow(layer, mean.detach(), variance.detach() * (n / (n - 1).clamp_min(1)))
    y = centred * (variance + layer.eps).rsqrt().view(shape)
    if layer.weight is not None:
        y = y * layer.weight.view(shape)
    if layer.bias is not None:
        y = y + layer.bias.view(shape)
    return y.to(x.dtype)


@torch.no_grad()
def _follow(layer: _BatchNorm, mean: Tensor, variance: Tensor) -> None:
    """Running statistics as `torch.nn` keeps them: an average with `momentum`, or of all batches."""
    if layer.running_mean is None or layer.running_var is None:
        return
    factor = layer.momentum
    if layer.num_batches_tracked is not None:
        layer.num_batches_tracked.add_(1)
        if factor is None:
            factor = 1.0 / float(layer.num_batches_tracked)
    factor = 0.0 if factor is None else factor
    layer.running_mean.lerp_(mean.to(layer.running_mean), factor)
    layer.running_var.lerp_(variance.to(layer.running_var), factor)


def same_everywhere(group: dist.ProcessGroup | None, numbers: Sequence[int] | None, device: torch.device) -> None:
    """Compare what this process is about to do with what the others are; None says that it cannot go on.

    Raises:
        InputError: another process has other numbers, cannot go on, or is gone.
    """
    if group is None:
        return
    mine = torch.tensor([-1, -1] if numbers is None else [*numbers], dtype=torch.int64, device=device)
    found = [torch.empty_like(mine) for _ in range(dist.get_world_size(group))]
    try:
        dist.all_gather(found, mine, group=group)
    except RuntimeError as error:
        raise InputError(LEFT) from error
    if numbers is None:
        return  # the caller raises its own error
    rows = [each.tolist() for each in found]
    if any(each[0] < 0 for each in rows):
        raise InputError(LEFT)
    if any(each != rows[0] for each in rows):
        raise InputError(
            "`x` must have as many rows of one size in every process of `group`, or gradients would be weighted "
            f"wrongly; the processes have {', '.join(str(each[0]) for each in rows)} rows of "
            f"{', '.join(str(each[1]) for each in rows)} numbers (DataLoader: drop_last=True)"
        )


def check_buffers(group: dist.ProcessGroup | None, players: dict[str, nn.Module]) -> None:
    """Refuse layers that keep statistics of their own process alone.

    Raises:
        InputError: a buffer differs between the processes; the message names it.
    """
    if group is None:
        return
    named = [
        (f"{letter}.{name}", buffer.detach())
        for letter, player in players.items()
        for name, buffer in player.named_buffers()
        if buffer.is_floating_point()
    ]
    if not named:
        return
    flat = torch.cat([buffer.double().reshape(-1) for _, buffer in named])
    first = flat.clone()
    dist.broadcast(first, dist.get_global_rank(group, 0), group=group)
    scale = first.abs().clamp_min(1.0)
    far = ((flat - first).abs() > 1e-3 * scale).split([buffer.numel() for _, buffer in named])
    differ = torch.tensor([float(each.any()) for each in far], device=flat.device)
    dist.all_reduce(differ, group=group)
    if bool(differ.any()):
        name = named[int((differ > 0).int().argmax())][0]
        raise InputError(
            f"the buffer {name} follows each process's own rows, so the processes of `group` now hold different "
            "players; use torch.nn's batch norm, whose statistics are taken over all of them, or a norm without buffers"
        )


def together(batches: Iterable[Item], group: dist.ProcessGroup | None = None) -> Iterator[Item]:
    """Yield batches as long as every process of a group has one, so that all leave the loop after the same step.

    Args:
        batches: this process's own, such as a `DataLoader`.
        group: a `torch.distributed` process group; None is the loop itself.

    Raises:
        InputError: another process has ended or failed within the loop.

    Example:
        >>> list(together([1, 2, 3]))
        [1, 2, 3]
    """
    check_group(group)
    source = iter(batches)
    while True:
        item = next(source, None)
        if group is not None:
            left = torch.tensor([0 if item is None else 1])
            try:
                dist.all_reduce(left, op=dist.ReduceOp.MIN, group=group)
            except RuntimeError as error:
                raise InputError(LEFT) from error
            if not int(left):
                return
        if item is None:
            return
        yield item
