"""`certificate.json`: one JSON object with a key per writer. A fit writes `solution` and `spectrum`."""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import Field

from saddlegan import checks
from saddlegan.errors import InputError, RunError
from saddlegan.results import Solution, from_dict
from saddlegan.workbench.runs.folder import Run
from saddlegan.workbench.runs.reading import REMEDY, Number, Part, Whole, validated

NAME = "certificate.json"
OTHER_FIGURES = frozenset({"solve_seconds", "moment_error", "total_moment"})  # where a method has them
COUNTS = frozenset({"kept", "moment_latents"})
LARGEST_SIDE = 1 << 14  # of a picture, in pixels
FIGURES = ("beta", "primal_residual", "dual_residual")  # of a solution's `stats`: what every reader relies on


class _Seconds(Part):
    reading: Number
    all: Number


class _StageStats(Part):
    primal_residual: Number
    passes: Number
    stage_seconds: Number


class _StageSolution(Part):
    value: Number
    gap: Number
    stats: _StageStats


class _Stage(Part):
    resolution: Annotated[Whole, Field(ge=1, le=LARGEST_SIDE)]
    channels: Annotated[Whole, Field(ge=1, le=4)]
    beta: Number
    kept: Whole
    fresh: Whole
    total: Number
    spectrum: list[Number]
    solution: _StageSolution


class _Facts(Part):
    """What fits write; other commands' keys have readers of their own."""

    spectrum: list[Number] = Field(default_factory=list)
    stages: list[_Stage] = Field(default_factory=list)
    seconds: _Seconds | None = None


def read_solution(run: Run) -> Solution | None:
    """The solution that a fit wrote, or None if the run was not solved.

    Raises:
        RunError: `certificate.json` is damaged.
    """
    found = read(run).get("solution")
    if found is None:
        return None
    try:
        solution = from_dict(Solution, found)
        for name in FIGURES:
            checks.number(f"solution.stats.{name}", solution.stats.get(name), least=-math.inf)
        for name in OTHER_FIGURES & solution.stats.keys():
            checks.number(f"solution.stats.{name}", solution.stats[name], least=0.0)
        for name in COUNTS & solution.stats.keys():
            checks.count(f"solution.stats.{name}", solution.stats[name], least=0)
    except InputError as error:
        raise RunError(f"{run.path / NAME} is damaged: {error}; {REMEDY}") from error
    return solution


def read_spectrum(run: Run) -> list[float]:
    """The data's leading eigenvalues as a fit wrote them, descending; empty if it wrote none.

    Raises:
        RunError: `certificate.json` is damaged.
    """
    return read(run).get("spectrum", [])


def read(run: Run) -> dict[str, Any]:
    """The file's entries, those of a fit validated; none if there is no file.

    Raises:
        RunError: it is damaged.
    """
    found = run.read_json(NAME) if run.has(NAME) else {}
    validated(_Facts, found, str(run.path / NAME))
    return found


def read_stages(run: Run) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """What a progressive fit wrote of each resolution, coarse to fine, and its seconds.

    Raises:
        RunError: `certificate.json` is damaged or holds no stages.
    """
    found = read(run)
    if not found.get("stages") or not found.get("seconds"):
        raise RunError(f"{run.path / NAME} is damaged: stages: field required; {REMEDY}")
    return found["stages"], found["seconds"]


def add(run: Run, key: str, value: Any) -> None:
    """Set one key of `certificate.json`, keeping what others wrote.

    Args:
        run: the run folder.
        key: the writer's own key.
        value: results, arrays or plain JSON.

    Raises:
        RunError: the file is damaged, cannot be written, or the run is being written by another process.
    """
    with run.writing():
        run.write_json(NAME, {**read(run), key: value})
