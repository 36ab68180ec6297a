"""What a user reads at the end of a fit, and what a program does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from saddlegan.workbench.commands._call import Outcome
from saddlegan.workbench.terminal import console

if TYPE_CHECKING:
    from saddlegan.fit import ByClass
    from saddlegan.results import Solution

SHOWN = 20  # labels that a terminal shows


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


def classes_told(out: Path, model: ByClass, *, seconds: float) -> Outcome:
    """Tell a user and a program what a fit class by class found."""
    from saddlegan.results import as_dict, plain

    each = list(zip(model.classes_, model.priors_, model.solutions_, strict=True))
    rows = [
        (
            f"label {label}",
            f"{share:.1%} of the rows, value {found.value:.6g}, gap {found.gap:.2g}, {found.status.value}",
        )
        for label, share, found in each[:SHOWN]
    ]
    more = [("and", f"{len(each) - SHOWN} labels more")] if len(each) > SHOWN else []
    console.facts(f"{len(each)} models, one for each label", [*rows, *more, ("seconds", f"{seconds:.2f}, in all")])
    console.say(str(out / "report.html"))
    labels = [
        {"label": str(label), "share": float(share), "solution": plain(as_dict(found))} for label, share, found in each
    ]
    return Outcome({"run": str(out), "report": str(out / "report.html"), "labels": labels})
