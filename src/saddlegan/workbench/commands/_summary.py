"""What a user reads at the end of a fit, and what a program does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from saddlegan.results import Solution


def summary(solution: Solution, *, seconds: float) -> list[tuple[str, str]]:
    """What a user reads when the solve is done."""
    rows = [
        ("status", solution.status.value),
        ("value (primal)", f"{solution.value:.9g}"),
        ("bound (dual)", f"{solution.bound:.9g}"),
        ("gap", f"{solution.gap:.2g}"),
        ("beta", f"{solution.stats['beta']:.9g}"),
    ]
    for name in ("primal_residual", "dual_residual"):
        if name in solution.stats:
            rows.append((name.replace("_", " "), f"{solution.stats[name]:.2g}"))
    if "moment_error" in solution.stats:
        rows.append(("feature moment error", f"{solution.stats['moment_error']:.2g}"))
    return [*rows, ("seconds", f"{seconds:.2f}, with data and report")]


def facts(out: Path, solution: Solution) -> dict[str, Any]:
    """What a program reads when the solve is done."""
    from saddlegan.results import as_dict, plain

    return {"run": str(out), "report": str(out / "report.html"), "solution": plain(as_dict(solution))}
