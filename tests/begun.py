"""A run that is begun and let go at once, for tests that fill it or read it later."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from saddlegan.workbench.runs import folder
from saddlegan.workbench.runs.config import RunConfig


def begun(
    path: Path, config: RunConfig, *, generator: nn.Module, discriminator: nn.Module | None, overwrite: bool = False
) -> folder.Run:
    """Make a run of its first players; its lock is free again."""
    with folder.begin(path, config, generator=generator, discriminator=discriminator, overwrite=overwrite) as run:
        return run
