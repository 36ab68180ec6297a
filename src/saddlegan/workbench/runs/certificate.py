"""`certificate.json`: one JSON object with a key per writer. A fit writes `solution` and `spectrum`."""

from __future__ import annotations

import math
from typing import Any

from saddlegan import checks
from saddlegan.errors import InputError, RunError
from saddlegan.results import Solution, from_dict
from saddlegan.workbench.runs.folder import Run

NAME = "certificate.json"
FIGURES = ("beta", "primal_residual", "dual_residual")  # of a solution's `stats`: what every reader relies on


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
    except InputError as error:
        raise RunError(f"{run.path / NAME} is damaged: {error}") from error
    return solution


def read_spectrum(run: Run) -> list[float]:
    """The data's leading eigenvalues as a fit wrote them, descending; empty if it wrote none.

    Raises:
        RunError: `certificate.json` is damaged.
    """
    try:
        return [checks.number("spectrum", value, least=-math.inf) for value in read(run).get("spectrum", [])]
    except (InputError, TypeError) as error:
        raise RunError(f"{run.path / NAME} is damaged: {error}") from error


def read(run: Run) -> dict[str, Any]:
    """The file's entries; none if there is no file.

    Raises:
        RunError: it does not hold a JSON object.
    """
    found = run.read_json(NAME) if run.has(NAME) else {}
    if not isinstance(found, dict):
        raise RunError(f"{run.path / NAME} is damaged: it must hold a JSON object")
    return found


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
