"""What the sections of a report are made from, and what they give back."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from saddlegan.errors import DataError
from saddlegan.moments._second_moment import DENSE_SIZE, AbstractSecondMoment, second_moment
from saddlegan.workbench.data.sources import Data
from saddlegan.workbench.report import html
from saddlegan.workbench.runs.folder import Run

SAMPLES = 2500  # generated for the report, as many as the PacGAN protocol judges
LOOKED_AT = 1 << 22  # numbers of the data beyond which rows are thinned for pictures
MEASURED = 1 << 26  # and for moments of so many columns that blocks do not help
SAMPLE_ELEMENTS = 1 << 24  # fewer samples where each is large


@dataclasses.dataclass(frozen=True)
class Section:
    """One part of a report.

    Attributes:
        id: anchor, unique on the page.
        title: heading.
        html: what follows the heading, built with `saddlegan.workbench.report.html`.
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

    @functools.cached_property
    def moment(self) -> AbstractSecondMoment:
        """The data's second moment about their mean, measured in one pass for all sections."""
        return self.measured(center=True)

    def measured(self, *, center: bool) -> AbstractSecondMoment:
        """The data's second moment: of all rows, block by block, unless d x d is too large to be held."""
        if self.data is None:
            raise DataError(self.missing)
        X = self.data.X
        return second_moment(X if X.shape[1] <= DENSE_SIZE else thin(X, MEASURED), center=center)

    @property
    def name(self) -> str:
        """Short name of the data."""
        return short_name(self.run.config.data.source)


def thin(X: np.ndarray, most: int = LOOKED_AT) -> np.ndarray:
    """Take evenly spaced rows where there are more than a picture needs.

    Args:
        X: (n, d).
        most: numbers to keep, at most.
    """
    return np.asarray(X[:: math.ceil(X.size / most)])


def short_name(source: str) -> str:
    """A built-in source's own name, or the last part of a path."""
    return Path(source).name or source


def title_of(run: Run) -> str:
    """The heading of a run's report."""
    config = run.config
    model = config.model.replace("-", " ")
    kind = "WGAN" if config.command == "fit" else "GAN"
    by_class = config.data.labels is not None and config.data.label is None
    which = f", label {config.data.label}" if config.data.label is not None else ", class by class" if by_class else ""
    return f"{model[:1].upper()}{model[1:]} {kind} of {short_name(config.data.source)}{which}"


def subtitle_of(run: Run) -> str:
    """One line: what the data are and how long the latents."""
    config = run.config
    n, d = config.data.shape
    shape = config.data.image_shape
    each = f"images of {' x '.join(map(str, shape))}" if shape else f"points in {d} dimension{'s' if d > 1 else ''}"
    by_class = config.data.labels is not None and config.data.label is None
    size = config.latent.size - by_class  # one latent draws the label
    labels = " for each label" if by_class else ""
    return f"{n:,} {each}; {size} latent{'s' if size > 1 else ''}{labels}; {config.objective} objective"


def unavailable(scene: Scene) -> Markup:
    """Say that the data are gone, where a section would have shown them."""
    return html.text(f"The data could not be loaded again, so they are not shown: {scene.missing}")
