"""The labels of a run that was fitted class by class: each has a run of its own in the folder `labels`."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from saddlegan import checks
from saddlegan.errors import InputError, RunError
from saddlegan.results import Solution, from_dict
from saddlegan.workbench.data.labels import typed
from saddlegan.workbench.runs.certificate import NAME, read
from saddlegan.workbench.runs.folder import LABELS as FOLDER
from saddlegan.workbench.runs.folder import Run

SAFE = re.compile(r"[\w-][\w.-]{0,60}", re.ASCII)
SHOWN = 20  # labels in a message


@dataclasses.dataclass(frozen=True)
class Label:
    """One label of a run.

    Attributes:
        name: the label.
        folder: name of its run in `labels`.
        rows: of the data.
        share: of the rows, or of their weights.
        solution: its certificate.
    """

    name: str
    folder: str
    rows: int
    share: float
    solution: Solution


def names(labels: Sequence[str]) -> list[str]:
    """Names of folders for labels: the labels themselves where every file system takes them, else numbers."""
    safe = all(SAFE.fullmatch(label) for label in labels) and len({label.lower() for label in labels}) == len(labels)
    return list(labels) if safe else [str(place) for place in range(len(labels))]


def read_labels(run: Run) -> list[Label]:
    """The labels of a run in their order; none if it was not fitted class by class.

    Raises:
        RunError: `certificate.json` is damaged.
    """
    entries = read(run).get("classes", [])
    try:
        return [
            Label(
                name=str(entry["label"]),
                folder=str(entry["folder"]),
                rows=checks.count("rows", entry["rows"]),
                share=checks.number("share", entry["share"]),
                solution=from_dict(Solution, entry["solution"]),
            )
            for entry in entries
        ]
    except (InputError, KeyError, TypeError) as error:
        raise RunError(f"{run.path / NAME} is damaged: {error}") from error


def of_label(run: Run, label: str) -> Run:
    """The run of one label.

    Raises:
        InputError: no such label, or the run has none.
        RunError: damaged.
    """
    found = read_labels(run)
    if not found:
        raise InputError(f"`label`: {run.path} was not fitted class by class, see `fit --by-class`")
    entry = next((each for each in found if each.name == label), None)
    if entry is None:
        listed = f"{', '.join(each.name for each in found[:SHOWN])}{' ...' if len(found) > SHOWN else ''}"
        raise InputError(f"`label` must be one of {listed}; got {label!r}")
    return Run.open(run.path / FOLDER / entry.folder)


def column_name(run: Run) -> str:
    """What the labels' column is called beside those of the rows: as in the data, else "label"."""
    said = run.config.data.labels or ""
    path, mark, column = said.rpartition(":")
    if Path(said).is_absolute():  # FILE, or FILE:COLUMN
        said = column if mark and Path(path).is_absolute() else ""
    name = said or "label"
    while name in run.config.data.names():
        name += "_"
    return name


def sampled(run: Run, n: int, seed: int) -> Iterator[np.ndarray]:
    """The labels (m,) of each block of `run.sample_blocks(n, seed)`, of a run that was fitted class by class.

    Raises:
        InputError: it was not.
        RunError: it is damaged.
    """
    own = typed([label.name for label in read_labels(run)])
    for places in run.label_blocks(n, seed):
        yield own[places]
