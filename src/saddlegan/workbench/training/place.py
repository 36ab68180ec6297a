"""Where a command computes: its device, and the processes that share the work."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import gc
import os
from collections.abc import Iterator

import torch
import torch.distributed as dist
from torch import nn

from saddlegan.errors import InputError

CPU = torch.device("cpu")
SMALL = 250_000  # weights of a pair of dense networks whose passes are too short to be shared among threads
PATIENCE = datetime.timedelta(days=1)  # for the process that measures, decodes or writes while the others wait


@dataclasses.dataclass(frozen=True)
class Place:
    """A device, and this process's part of the work.

    Attributes:
        device: where players and batches lie.
        rank: number of this process, from 0.
        size: number of processes.
    """

    device: torch.device = CPU
    rank: int = 0
    size: int = 1

    @property
    def group(self) -> dist.ProcessGroup | None:
        """The processes that share each batch; None if there is only this one."""
        return dist.group.WORLD if self.size > 1 else None

    @property
    def first(self) -> bool:
        """Whether this process speaks, measures and writes for all."""
        return self.rank == 0

    @property
    def sentence(self) -> str:
        """What a user reads first: device: cpu."""
        name = f" ({torch.cuda.get_device_name(self.device)})" if self.device.type == "cuda" else ""
        return f"device: {self.device.type}{name}{f', {self.size} processes' if self.size > 1 else ''}"

    def agree(self, *numbers: int) -> tuple[int, ...]:
        """The largest of each number over all processes, so that all do the same next."""
        if self.size == 1:
            return numbers
        largest = torch.tensor(numbers, device=self.device)
        dist.all_reduce(largest, op=dist.ReduceOp.MAX)
        return tuple(largest.tolist())

    @contextlib.contextmanager
    def one_after_another(self) -> Iterator[None]:
        """Let the first process go through the block before the others, which find what it left in a cache."""
        if self.size > 1 and not self.first:
            dist.barrier()
        yield
        if self.size > 1 and self.first:
            dist.barrier()


HERE = Place()


def device_of(word: str) -> torch.device:
    """The device that `--device` names; auto is cuda where there is one.

    Raises:
        InputError: cuda, and torch has none.

    Example:
        >>> device_of("cpu")
        device(type='cpu')
    """
    present = torch.cuda.is_available()
    if word == "cuda" and not present:
        built = "finds no GPU" if torch.version.cuda else "was built without CUDA"
        raise InputError(f"`device` cuda: torch {torch.__version__} {built} here; --device cpu computes without")
    return torch.device("cuda" if word == "cuda" or (word == "auto" and present) else "cpu")


@contextlib.contextmanager
def threads_for(*players: nn.Module) -> Iterator[None]:
    """One thread while the block runs, where the players are small and dense; whoever sets OMP_NUM_THREADS has it.

    Threads that share a pass of microseconds mostly wait for each other, and where other work wants the processor they
    wait for that as well: several times as long as one thread takes.
    """
    before = torch.get_num_threads()
    modules = [module for player in players for module in player.modules()]
    weights = sum(p.numel() for player in players for p in player.parameters())
    dense = not any(isinstance(module, nn.modules.conv._ConvNd) for module in modules)
    if dense and weights <= SMALL and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def processes() -> int:
    """The number of processes that torchrun started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1")) if "RANK" in os.environ else 1


@contextlib.contextmanager
def placed(device: torch.device) -> Iterator[Place]:
    """The place of this process, with the process group that torchrun asks for as long as the block runs.

    Whatever holds the group, such as a rule, must be gone at the block's end: gloo's threads have to end before Python.
    """
    if processes() == 1:
        yield Place(device)
        return
    with shared(device) as place:
        yield place


@contextlib.contextmanager
def shared(device: torch.device = CPU) -> Iterator[Place]:
    """`placed`, with a group of one process too."""
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    # what torch imports for its first optimiser would keep the group past its end
    torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.1)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    try:
        yield Place(device, dist.get_rank(), dist.get_world_size())
    finally:
        gc.collect()
        dist.destroy_process_group()
