"""Where `saddlegan train --log` writes: TensorBoard, trackio or wandb, each an optional extra."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saddlegan.errors import MissingExtraError

if TYPE_CHECKING:
    from saddlegan.monitor import Log

LOGS = ("tensorboard", "trackio", "wandb")
PROJECT = "saddlegan"


def check_log(word: str) -> None:
    """Refuse a logger that is not installed, before anything slow is imported.

    Raises:
        MissingExtraError: it is not.
    """
    try:
        found = importlib.util.find_spec(word)
    except ValueError:  # a module without a spec: somebody has put it there
        return
    if found is None:
        raise MissingExtraError(word, word)


@contextlib.contextmanager
def opened_log(word: str, folder: Path, options: Mapping[str, Any]) -> Iterator[Log]:
    """A logger for one training, closed at the end of the block.

    Args:
        word: one of `LOGS`.
        folder: the run folder; its name is the run's name, and local files lie in it.
        options: the recipe, where the logger keeps such.

    Raises:
        MissingExtraError: it is not installed.
    """
    check_log(word)
    if word == "tensorboard":
        from saddlegan.monitor import tensorboard

        writer = importlib.import_module("torch.utils.tensorboard").SummaryWriter(str(folder / "tensorboard"))
        with contextlib.closing(writer):
            yield tensorboard(writer)
        return
    module: Any = importlib.import_module(word)
    if word == "trackio":
        module.init(project=PROJECT, name=folder.name, config=dict(options))
        try:
            yield module.log
        finally:
            module.finish()
        return
    run = module.init(project=PROJECT, name=folder.name, dir=str(folder), config=dict(options))
    try:
        yield run.log
    finally:
        run.finish()
