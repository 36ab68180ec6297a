"""What is written down about data so that they can be loaded again."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from saddlegan.workbench.data.tables import TableOptions


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
        table: how a text file was read.
        resolutions: sides at which a progressive fit saw the pictures; the rows are those of the last one.
        crop: (size, x, y) of the square that was cut out of every file, or None.
        cache: folder of the decoded pictures where the user named one.
        stored_shape: shape of the pictures before they were reduced to the last resolution, or None.
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
    resolutions: tuple[int, ...] | None = None
    crop: tuple[int, int, int] | None = None
    cache: str | None = None
    stored_shape: tuple[int, ...] | None = None
