"""`certificate.json`: one JSON object with a key per writer. A fit writes `solution` and `spectrum`."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from saddlegan.errors import RunError
from saddlegan.workbench.runs.folder import Run

NAME = "certificate.json"


class SolvedStats(BaseModel):
    """The figures of a `Solution` that reports use; whatever else the solver wrote is kept."""

    model_config = ConfigDict(frozen=True, extra="allow")

    beta: float
    primal_residual: float
    dual_residual: float
    kept: int = 0
    total_moment: float | None = None
    solve_seconds: float | None = None
    moment_error: float | None = None
    moment_latents: int | None = None


class Solved(BaseModel):
    """A `saddlegan.Solution` as it lies in the file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: float
    bound: float
    gap: float
    status: str
    message: str
    stats: SolvedStats


class _File(BaseModel):
    model_config = ConfigDict(extra="allow")

    solution: Solved | None = None
    spectrum: list[float] = []


def read_solution(run: Run) -> Solved | None:
    """The solution that a fit wrote, or None if the run was not solved.

    Raises:
        RunError: `certificate.json` is damaged.
    """
    return _read(run).solution


def read_spectrum(run: Run) -> list[float]:
    """The data's leading eigenvalues as a fit wrote them, descending; empty if it wrote none.

    Raises:
        RunError: `certificate.json` is damaged.
    """
    return _read(run).spectrum


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
        found = run.read_json(NAME) if run.has(NAME) else {}
        if not isinstance(found, dict):
            raise RunError(f"{run.path / NAME} is damaged: it must hold a JSON object")
        run.write_json(NAME, {**found, key: value})


def _read(run: Run) -> _File:
    if not run.has(NAME):
        return _File()
    try:
        return _File.model_validate(run.read_json(NAME))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the file"
        raise RunError(f"{run.path / NAME} is damaged: {place}: {first['msg'].lower()}") from error
