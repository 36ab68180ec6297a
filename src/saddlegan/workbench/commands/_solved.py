"""Solved estimators as run folders: one, or one for each label inside of the run of all."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from saddlegan.fit import ByClass
from saddlegan.results import as_dict
from saddlegan.workbench.data import sources
from saddlegan.workbench.data.sources import Data
from saddlegan.workbench.report import explorer, export
from saddlegan.workbench.report import page as report
from saddlegan.workbench.runs import classes, players
from saddlegan.workbench.runs import folder as runs
from saddlegan.workbench.runs.config import LatentSpec, RunConfig
from saddlegan.workbench.runs.folder import Run


@dataclasses.dataclass(frozen=True)
class Made:
    """What the runs of one command have in common.

    Attributes:
        model: the solver's word.
        options: what `config.json` keeps of the options.
        seed: of the command.
        command_line: what to type to make the run again.
    """

    model: str
    options: Mapping[str, Any]
    seed: int
    command_line: str


def write(
    out: Path,
    estimator: Any,
    data: Data,
    made: Made,
    *,
    overwrite: bool = False,
    fill: Callable[[Run], None] | None = None,
    explored: bool = False,
) -> Run:
    """Write the run of one solved estimator, with its certificate, preview and report.

    Args:
        out: the run folder.
        estimator: fitted.
        data: what it was fitted to.
        made: the command.
        overwrite: replace an existing run.
        fill: writes the certificate and what else the run holds; the solution and spectrum if None.
        explored: write the explorer too.
    """
    with staged(out, estimator, data, made, overwrite=overwrite) as run:
        (fill or _fill(estimator))(run)
        export.write_preview(run)
        report.write(run, data=data)
        if explored:
            explorer.write(run)
    return Run.open(out)


def staged(out: Path, estimator: Any, data: Data, made: Made, *, overwrite: bool = False) -> Any:
    """The run folder of a solved estimator, to be filled."""
    config = RunConfig(
        command="fit",
        model=made.model,
        data=data.spec,
        latent=LatentSpec(size=estimator.generator_.n_latent),
        generator=players.network_spec(estimator.generator_),
        discriminator=None if isinstance(estimator, ByClass) else players.network_spec(estimator.discriminator_),
        seed=made.seed,
        options=dict(made.options),
        command_line=made.command_line,
    )
    D = None if isinstance(estimator, ByClass) else estimator.discriminator_
    return runs.create(out, config, generator=estimator.generator_, discriminator=D, overwrite=overwrite)


def _fill(estimator: Any) -> Callable[[Run], None]:
    def fill(run: Run) -> None:
        spectrum = estimator.spectrum_.tolist() if hasattr(estimator, "spectrum_") else []
        run.write_json("certificate.json", {"solution": as_dict(estimator.solution_), "spectrum": spectrum})

    return fill


def write_classes(
    out: Path,
    model: ByClass,
    data: Data,
    made: Made,
    *,
    overwrite: bool = False,
    fill: Callable[[Any], Callable[[Run], None]] = _fill,
) -> Run:
    """Write the run of all labels, and in it one of each, which every command reads like any other.

    Args:
        out: the run folder.
        model: fitted.
        data: what it was fitted to, with labels.
        made: the command.
        overwrite: replace an existing run.
        fill: for a label's estimator, what writes its certificate.
    """
    with staged(out, model, data, made, overwrite=overwrite) as run:
        names = classes.names([str(label) for label in model.classes_])
        entries: list[dict[str, Any]] = []
        for label, name, share, estimator in zip(model.classes_, names, model.priors_, model.estimators_, strict=True):
            rows = sources.of_label(data, label)
            with staged(run.path / classes.FOLDER / name, estimator, rows, made) as own:
                fill(estimator)(own)
                export.write_preview(own)
            entry = {"label": str(label), "folder": name, "rows": len(rows.X), "share": float(share)}
            entries.append({**entry, "solution": as_dict(estimator.solution_)})
        run.write_json("certificate.json", {"classes": entries})
        export.write_preview(run)
        report.write(run, data=data)
        if data.image_shape is not None and explorer.can_show(run):
            explorer.write(run)
    return Run.open(out)
