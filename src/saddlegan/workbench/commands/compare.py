"""`saddlegan compare`: several runs as one table and one picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from saddlegan.errors import InputError
from saddlegan.workbench.terminal import console


def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders.")],
    out: Annotated[Path, typer.Option("--out", help="Picture to write.")] = Path("compare.png"),
) -> None:
    """Show the last metrics, proofs and measures of RUNs side by side, and curves of trainings in one picture."""
    if len(runs) < 2:
        raise InputError("`RUN` must be given at least twice; one run has its own report")
    if out.suffix.lower() != ".png":
        raise InputError(f"`out` must end in .png, got {out}")
    from saddlegan.workbench.report.figures import training as training_figures
    from saddlegan.workbench.report.sections import trained
    from saddlegan.workbench.runs.certificate import read_solution
    from saddlegan.workbench.runs.folder import Run, write_atomic

    lines: dict[str, list[dict[str, Any]]] = {}
    models: dict[str, str] = {}
    solved: list[str] = []
    names: list[str] = []
    if len({path.resolve() for path in runs}) < len(runs):
        raise InputError("`RUN` names one folder twice")
    for path in runs:
        run = Run.open(path)
        rows = run.metrics()
        if rows:  # a solved run has no training to draw; its samples were measured
            label = path.name if path.name not in lines else str(path)
            lines[label], models[label] = rows, run.config.model
        elif (solution := read_solution(run)) is not None:
            solved.append(f"{path}: solved, value {solution.value:.6g}, gap {solution.gap:.2g}, {solution.message}")
        else:
            raise InputError(f"{path} has no metrics and no solution; nothing of it can be compared")
    if lines:
        first = next(iter(lines.values()))
        names = [name for name in trained.numeric_names(first) if all(name in rows[-1] for rows in lines.values())]
        for line in table(lines, models, names, max(len(label) for label in lines)):
            console.say(line)
    for line in [*solved, *measured(runs)]:
        console.say(line)
    if lines:
        write_atomic(out, training_figures.curves(trained.panels(lines, names)))
        console.say(str(out))


def measured(runs: list[Path]) -> list[str]:
    """The measures of the samples that every one of the reports holds, with what real rows get."""
    from saddlegan.workbench.runs.folder import Run

    found: dict[str, dict[str, Any]] = {}
    for path in runs:
        run = Run.open(path)
        sections = run.read_json("report.json")["sections"] if run.has("report.json") else []
        found[str(path)] = next((s["data"].get("measures", {}) for s in sections if s["id"] == "quality"), {})
    names = [name for name in next(iter(found.values())) if all(name in each for each in found.values())]
    return [
        f"{name} of {path}: {trained_number(each[name]['value'])} +- {each[name]['standard_error']:.2g} "
        f"(real {trained_number(each[name]['floor'])})"
        for name in names
        for path, each in found.items()
    ]


def table(lines: dict[str, list[dict[str, Any]]], models: dict[str, str], names: list[str], width: int) -> list[str]:
    """The last line of each run as columns of text; several seeds as mean +- standard deviation."""
    import numpy as np

    rows = [["run", "rule", "step", *(name.replace("_", " ") for name in names)]]
    for label, metrics in lines.items():
        last = metrics[-1]
        cells = []
        for name in names:
            by_seed = last.get(f"{name}_by_seed")
            spread = f" +- {np.std(by_seed):.2g}" if by_seed else ""
            cells.append(f"{trained_number(last[name])}{spread}")
        rows.append([label, models[label], f"{last['step']:,}", *cells])
    widths = [max(width if i == 0 else 0, *(len(row[i]) for row in rows)) for i in range(len(rows[0]))]
    return ["  ".join(cell.ljust(size) for cell, size in zip(row, widths, strict=True)).rstrip() for row in rows]


def trained_number(value: Any) -> str:
    """A metric as a reader wants it; words such as "nan" stay."""
    return f"{value:.4g}" if isinstance(value, (int, float)) else str(value)
