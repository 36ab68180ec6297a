"""What is written down about data so that they can be loaded again."""

from __future__ import annotations

import math

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from saddlegan.workbench.data.tables import TableOptions, Words


class DataSpec(BaseModel):
    """Where the data came from: the arguments of `saddlegan.workbench.data.sources.load`, and what it found.

    Attributes:
        source: built-in name or absolute path.
        n_samples: number of points drawn from a synthetic source, else None.
        random_state: seed of a synthetic source.
        skip_bad: whether unreadable images were skipped.
        shape: (n, d).
        image_shape: (h, w) or (h, w, c) if the rows are images.
        value_range: the values of black and white in images.
        columns: names of the columns, None where the source has none.
        table: how a text file was read, and which columns were meant.
        words: columns of words that became columns of 0 and 1.
        units: (mean, standard deviation) of every column before it was standardised, else None.
        resolutions: sides at which a progressive fit saw the pictures; the rows are those of the last one.
        crop: (size, x, y) of the square that was cut out of every file, or None.
        cache: folder of the decoded pictures where the user named one.
        stored_shape: shape of the pictures before they were reduced to the last resolution, or None.
        labels: where the rows' labels came from: a column, FILE or FILE:COLUMN, "" for the source's own; None if no
            labels were asked for.
        label: the only label whose rows are meant, or None for all.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    n_samples: int | None = None
    random_state: int = 0
    skip_bad: bool = False
    shape: tuple[int, int] = Field(description="n, d")
    image_shape: tuple[int, ...] | None = None
    value_range: tuple[float, float] | None = None
    columns: tuple[str, ...] | None = None
    table: TableOptions = TableOptions()
    words: tuple[Words, ...] = ()
    units: tuple[tuple[float, float], ...] | None = None
    resolutions: tuple[int, ...] | None = None
    crop: tuple[int, int, int] | None = None
    cache: str | None = None
    stored_shape: tuple[int, ...] | None = None
    labels: str | None = None
    label: str | None = None

    @model_validator(mode="after")
    def _of_one_width(self) -> DataSpec:
        """Whatever is said of columns is said of all of them."""
        n, d = self.shape
        widths = {
            "columns": d if self.columns is None else len(self.columns),
            "units": d if self.units is None else len(self.units),
            "image_shape": d if self.image_shape is None else math.prod(self.image_shape),
        }
        for name, width in widths.items():
            if width != d:
                raise ValueError(f"{name} is of {width} numbers, shape of {d}")
        if min(n, d) < 1:
            raise ValueError("shape must be of positive numbers")
        if any(not column.values or not 0 <= column.start <= d - len(column.values) for column in self.words):
            raise ValueError("words are outside the columns")
        return self

    def in_own_units(self, rows: np.ndarray) -> np.ndarray:
        """Rows (n, d) in the table's own units."""
        if self.units is None:
            return rows
        mean, sd = np.asarray(self.units, dtype=np.float64).T
        return rows * sd + mean

    def names(self) -> tuple[str, ...]:
        """Names of the rows' columns; x1, x2, ... where the source has none."""
        return self.columns or tuple(f"x{index + 1}" for index in range(self.shape[1]))

    def as_table(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Rows (n, d) as named columns in the table's own units; of words the likeliest of each row.

        Example:
            >>> from saddlegan.workbench.data.tables import Words
            >>> spec = DataSpec(source="t.csv", shape=(9, 3), columns=("a", "kind=x", "kind=y"),
            ...                 words=(Words(name="kind", start=1, values=("x", "y")),))
            >>> {name: column.tolist() for name, column in spec.as_table(np.array([[2.0, 0.1, 0.8]])).items()}
            {'a': [2.0], 'kind': ['y']}
        """
        numbers, names = self.in_own_units(rows), self.names()
        starts = {column.start: column for column in self.words}
        found: dict[str, np.ndarray] = {}
        place = 0
        while place < rows.shape[1]:
            column = starts.get(place)
            if column is None:
                name = names[place] if names[place] not in found else f"{names[place]}.{place}"
                found[name] = numbers[:, place]
                place += 1
            else:
                width = len(column.values)
                found[column.name] = np.array(column.values)[rows[:, place : place + width].argmax(1)]
                place += width
        return found
