"""`report.html`, one page that opens offline, and its JSON twin: a list of sections built from the run folder alone.

A section is made by a function of the `Scene` that returns None where it does not apply, so every run shows what it
has. To add one, write such a function in `sections/` and put it where it belongs in `SECTIONS`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from pydantic import Field

from saddlegan.errors import DataError, InputError
from saddlegan.workbench.data.sources import Data
from saddlegan.workbench.report import card
from saddlegan.workbench.report.scene import Scene, Section, subtitle_of, title_of
from saddlegan.workbench.report.sections import (
    equilibrium,
    every_run,
    findings,
    labels,
    measured,
    solved,
    stages,
    trained,
)
from saddlegan.workbench.runs.folder import Run
from saddlegan.workbench.runs.opened import data_of
from saddlegan.workbench.runs.reading import Figure, Number, Part, validated

# every section that a report may have, from top to bottom
SECTIONS: tuple[Callable[[Scene], Section | None], ...] = (
    findings.findings,
    solved.certificate,
    labels.labels,
    equilibrium.section,
    solved.limits,
    trained.training,
    trained.modes,
    trained.progress,
    stages.stages,
    measured.quality_of_samples,
    every_run.samples,
    solved.spectrum,
    every_run.components,
    solved.witness,
    every_run.witness,
    every_run.data_facts,
    every_run.repeat,
)


class _Measure(Part):
    value: Figure
    floor: Figure
    standard_error: Number


class _Data(Part):
    measures: dict[str, _Measure] = Field(default_factory=dict)


class _Section(Part):
    id: str
    data: _Data


class _Report(Part):
    """What a comparison reads of a `report.json`."""

    sections: list[_Section]


def read_measures(run: Run) -> dict[str, dict[str, Any]]:
    """The measures of the samples in a run's `report.json`; none where there is none.

    Raises:
        RunError: it is damaged.
    """
    if not run.has("report.json"):
        return {}
    report: _Report = validated(_Report, run.read_json("report.json"), str(run.path / "report.json"))
    data = next((section.data for section in report.sections if section.id == "quality"), _Data())
    return {name: each.model_dump() for name, each in data.measures.items()}


def write(run: Run, *, data: Data | None = None) -> Path:
    """Write `report.html` and `report.json` of a run.

    Args:
        run: the run folder.
        data: the run's data if they are at hand; else they are loaded again from where the config says.

    Returns:
        Path of `report.html`.

    Raises:
        RunError: the run is damaged, or cannot be written to.
    """
    missing = ""
    if data is None:
        try:
            data = data_of(run)
        except (DataError, InputError) as error:
            missing = str(error)
    scene = Scene(run, data, missing)
    sections = [section for make in SECTIONS if (section := make(scene)) is not None]
    config = run.config
    title = title_of(run)
    environment = Environment(
        loader=PackageLoader("saddlegan.workbench.report", "templates"), autoescape=True, undefined=StrictUndefined
    )
    page = environment.get_template("report.html.j2").render(
        title=title,
        subtitle=subtitle_of(run),
        sections=sections,
        version=config.saddlegan,
        created=config.created.replace("T", " ").replace("+00:00", " UTC"),
    )
    twin = {
        "title": title,
        "config": config.model_dump(mode="json"),
        "sections": [{"id": s.id, "title": s.title, "data": dict(s.data)} for s in sections],
    }
    run.write_json("report.json", twin)
    card.write(run, sections)
    return run.write_text("report.html", page)
