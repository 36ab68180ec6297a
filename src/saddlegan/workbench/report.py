"""`report.html`, one page that opens offline, and its JSON twin: a list of sections built from the run folder alone.

A section is made by a function of the `Scene`. To add one, write such a function and `register` it; a maker returns
None where it does not apply, so every run shows what it has.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from saddlegan.errors import DataError, InputError
from saddlegan.workbench import data as sources
from saddlegan.workbench import html
from saddlegan.workbench.data import Data
from saddlegan.workbench.runs import Run

SAMPLES = 2500  # generated for the report, as many as the PacGAN protocol judges
SAMPLE_ELEMENTS = 1 << 24  # fewer samples where each is large


@dataclasses.dataclass(frozen=True)
class Section:
    """One part of a report.

    Attributes:
        id: anchor, unique on the page.
        title: heading.
        html: what follows the heading, built with `saddlegan.workbench.html`.
        data: the same facts for the JSON twin, plain JSON.
    """

    id: str
    title: str
    html: Markup
    data: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Scene:
    """What the makers of sections see.

    Attributes:
        run: the run folder; makers read the files that their command wrote.
        data: the run's data, or None if they are gone.
        missing: why the data are gone, else "".
        seed: of the samples.
    """

    run: Run
    data: Data | None
    missing: str = ""
    seed: int = 0

    @functools.cached_property
    def samples(self) -> np.ndarray:
        """Generated samples (n, d) in data units, drawn once for all sections."""
        return self.run.sample(max(2, min(SAMPLES, SAMPLE_ELEMENTS // self.run.config.data.shape[1])), self.seed)

    @property
    def name(self) -> str:
        """Short name of the data."""
        return short_name(self.run.config.data.source)


Maker = Callable[[Scene], Section | None]
_MAKERS: list[tuple[float, Maker]] = []


def register(order: float, maker: Maker) -> None:
    """Add a section to every report that it applies to.

    Args:
        order: places it: 10 certificate, 20 limits, 30 samples, 40 spectrum, 50 components, 60 witness, 80 data,
            90 how to repeat.
        maker: returns the section, or None where it does not apply.
    """
    if (order, maker) not in _MAKERS:
        _MAKERS.append((order, maker))


def short_name(source: str) -> str:
    """A built-in source's own name, or the last part of a path."""
    return Path(source).name or source


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
            data = sources.load_spec(run.config.data)
        except (DataError, InputError) as error:
            missing = str(error)
    scene = Scene(run, data, missing)
    made = (maker(scene) for _, maker in sorted(_makers(), key=lambda entry: entry[0]))
    sections = [section for section in made if section is not None]
    config = run.config
    title = title_of(run)
    environment = Environment(
        loader=PackageLoader("saddlegan.workbench", "templates"), autoescape=True, undefined=StrictUndefined
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
    return run.write_text("report.html", page)


def title_of(run: Run) -> str:
    """The heading of a run's report."""
    config = run.config
    model = config.model.replace("-", " ")
    kind = "WGAN" if config.command == "fit" else "GAN"
    return f"{model[:1].upper()}{model[1:]} {kind} of {short_name(config.data.source)}"


def subtitle_of(run: Run) -> str:
    """One line: what the data are and how long the latents."""
    config = run.config
    n, d = config.data.shape
    shape = config.data.image_shape
    each = f"images of {' x '.join(map(str, shape))}" if shape else f"points in {d} dimension{'s' if d > 1 else ''}"
    size = config.latent.size
    return f"{n:,} {each}; {size} latent{'s' if size > 1 else ''}; {config.objective} objective"


def _makers() -> list[tuple[float, Maker]]:
    # they register themselves, and import this module
    from saddlegan.workbench import judged, sections, solved, stages, trained

    del judged, sections, solved, stages, trained
    return list(_MAKERS)


def unavailable(scene: Scene) -> Markup:
    """Say that the data are gone, where a section would have shown them."""
    return html.text(f"The data could not be loaded again, so they are not shown: {scene.missing}")
