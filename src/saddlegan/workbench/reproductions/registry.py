"""Every experiment by name. A new one: a function in a paper's file, and a row in that file's EXPERIMENTS."""

from __future__ import annotations

from saddlegan.errors import InputError
from saddlegan.workbench.reproductions import convexity, dynamics, equilibria, models, primal_dual, recovery, trained
from saddlegan.workbench.reproductions.finding import Experiment

PAPERS = (convexity, models, equilibria, dynamics, trained, primal_dual, recovery)
EXPERIMENTS: dict[str, Experiment] = {
    experiment.name: experiment for paper in PAPERS for experiment in paper.EXPERIMENTS
}


def find(name: str) -> Experiment:
    """The experiment of that name.

    Raises:
        InputError: there is none.
    """
    if name not in EXPERIMENTS:
        raise InputError(f"`NAME` must be one of {', '.join(EXPERIMENTS)}, got {name!r}")
    return EXPERIMENTS[name]
