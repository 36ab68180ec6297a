"""`saddlegan compare`: several runs as one table and one picture for each data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from saddlegan.errors import InputError
from saddlegan.workbench.commands import _options as options
from saddlegan.workbench.commands._call import Outcome
from saddlegan.workbench.terminal import console

if TYPE_CHECKING:
    from saddlegan.workbench.runs.folder import Run


def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders.")],
    out: Annotated[Path, typer.Option("--out", help="Picture to write, .png; - for standard output.")] = Path(
        "compare.png"
    ),
    import_: options.ImportOption = None,
) -> Outcome:
    """Show the last metrics, proofs and measures of RUNs side by side, and curves of trainings in one picture.

    Runs of different data are not comparable: each data set has its own table and its own picture, OUT-NAME.png.
    """
    if len(runs) < 2:
        raise InputError("`RUN` must be given at least twice; one run has its own report")
    options.check_ending(out, (".png",))
    if len({path.resolve() for path in runs}) < len(runs):
        raise InputError("`RUN` names one folder twice")
    for path in runs:
        options.check_run(path, import_)
    from saddlegan.workbench.report.scene import short_name
    from saddlegan.workbench.runs.folder import Run
    from saddlegan.workbench.saved import import_modules

    import_modules(import_ or [])
    groups: dict[tuple[str, tuple[int, ...]], list[Run]] = {}
    for path in runs:
        run = Run.open(path)
        groups.setdefault((run.config.data.source, run.config.data.shape[1:]), []).append(run)
    names = [short_name(source) for source, _ in groups]
    if len(groups) > 1 and out == options.STANDARD_OUTPUT:
        raise InputError("`RUN`s of different data make several pictures; --out - holds one")
    facts: list[dict[str, Any]] = []
    for number, ((_, width), same) in enumerate(groups.items()):
        picture = out
        if len(groups) > 1:  # figures of different data must not stand in one table
            name = names[number] if names.count(names[number]) == 1 else f"{names[number]}-{width[0]}-{number + 1}"
            console.say(f"{name}, {width[0]} values a row:")
            picture = out.with_stem(f"{out.stem}-{Path(name).stem}")
        facts.append({"data": names[number], "columns": width[0], **_compare(same, picture)})
    return Outcome({"groups": facts})


def _compare(runs: Sequence[Run], out: Path) -> dict[str, Any]:
    from saddlegan.workbench.files import write_atomic
    from saddlegan.workbench.report.figures import training as training_figures
    from saddlegan.workbench.report.sections import trained
    from saddlegan.workbench.runs.certificate import read_solution

    lines: dict[str, list[dict[str, Any]]] = {}
    models: dict[str, str] = {}
    solved: list[str] = []
    solutions: dict[str, dict[str, float]] = {}
    names: list[str] = []
    for run in runs:
        rows = run.metrics()
        if rows:  # a solved run has no training to draw; its samples were measured
            label = run.path.name if run.path.name not in lines else str(run.path)
            lines[label], models[label] = rows, run.config.model
        elif (solution := read_solution(run)) is not None:
            solutions[str(run.path)] = {"value": solution.value, "bound": solution.bound, "gap": solution.gap}
            solved.append(
                f"{run.path}: solved, value {solution.value:.6g}, gap {solution.gap:.2g}, {solution.status.value}"
            )
        else:
            raise InputError(f"{run.path} has no metrics and no solution; nothing of it can be compared")
    if lines:
        first = next(iter(lines.values()))
        names = [name for name in trained.numeric_names(first) if all(name in rows[-1] for rows in lines.values())]
        for line in table(lines, models, names, max(len(label) for label in lines)):
            console.say(line)
    found = measures(runs)
    for line in [*solved, *measured(found)]:
        console.say(line)
    facts: dict[str, Any] = {
        "metrics": {label: {"model": models[label], **rows[-1]} for label, rows in lines.items()},
        "solved": solutions,
        "measures": found,
    }
    if lines:
        with options.written(out, ".png") as path:
            write_atomic(path, training_figures.curves(trained.panels(lines, names)))
        facts["file"] = str(out)
    return facts


def measures(runs: Sequence[Run]) -> dict[str, Mapping[str, Any]]:
    """The measures of the samples that each run's report holds."""
    from saddlegan.workbench.report import page

    found: dict[str, Mapping[str, Any]] = {}
    for run in runs:
        found[str(run.path)] = page.read_measures(run)
    return found


def measured(found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Those that every run has, one line each, with what real rows get."""
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
