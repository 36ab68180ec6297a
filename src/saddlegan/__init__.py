"""GAN training as a saddle-point problem: `fit` finds an optimum, `train` moves a pair, `certify` judges it.

The doors are imported when they are first used, so that `saddlegan --help` need not wait for torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from saddlegan import certify, fit, metrics, networks, objectives, train
    from saddlegan.batch import Batch
    from saddlegan.game import Game
    from saddlegan.results import Certificate, Solution, Status, Step
    from saddlegan.workbench.saved import load, save

__version__ = "0.1.0"

__all__ = [
    "Batch",
    "Certificate",
    "Game",
    "Solution",
    "Status",
    "Step",
    "certify",
    "fit",
    "load",
    "metrics",
    "networks",
    "objectives",
    "save",
    "train",
]

_HOMES = {
    "Batch": "batch",
    "Game": "game",
    "Certificate": "results",
    "Solution": "results",
    "Status": "results",
    "Step": "results",
    "load": "workbench.saved",
    "save": "workbench.saved",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'saddlegan' has no attribute {name!r}")
    module = importlib.import_module(f"saddlegan.{_HOMES.get(name, name)}")
    return getattr(module, name) if name in _HOMES else module


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
