"""Data parallel training: gradients and figures averaged over the processes of a `torch.distributed` group."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn

from saddlegan.errors import InputError


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
