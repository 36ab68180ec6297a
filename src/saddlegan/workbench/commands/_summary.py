"""What a user reads at the end of a fit."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
        ("primal residual", f"{solution.stats['primal_residual']:.2g}"),
        ("dual residual", f"{solution.stats['dual_residual']:.2g}"),
    ]
    if "moment_error" in solution.stats:
        rows.append(("feature moment error", f"{solution.stats['moment_error']:.2g}"))
    return [*rows, ("seconds", f"{seconds:.2f}, with data and report")]
