"""Pictures with labels for the experiments: digits if nothing is named, any image data by name or path otherwise."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np

from saddlegan.errors import DataError
from saddlegan.metrics.features import Classifier
from saddlegan.workbench.data import sources, synthetic, tables

HELD_OUT = 5  # one picture in so many is kept back


@dataclasses.dataclass(frozen=True)
class Pictures:
    """Square pictures in [-1, 1], in a random order that is always the same.

    Attributes:
        name: of the data, with their number and side.
        train: rows (n, side * side * channels), float32.
        held_out: rows that no training sees.
        labels: of `train`, or None.
        held_out_labels: of `held_out`, or None.
        side: in pixels.
        channels: 1 or 3.
    """

    name: str
    train: np.ndarray
    held_out: np.ndarray
    labels: np.ndarray | None
    held_out_labels: np.ndarray | None
    side: int
    channels: int

    @property
    def shape(self) -> tuple[int, ...]:
        """(h, w) or (h, w, c) of a row."""
        return (self.side, self.side) if self.channels == 1 else (self.side, self.side, self.channels)

    def named(self) -> tuple[np.ndarray, np.ndarray]:
        """Labels of `train` and of `held_out`.

        Raises:
            DataError: there are none.
        """
        if self.labels is None or self.held_out_labels is None:
            raise DataError(
                f"{self.name} has no labels: save them beside the images in a .npz as {tables.LABEL_KEYS[0]!r}"
            )
        return self.labels, self.held_out_labels

    def classifier(self, cache: Path | None) -> Classifier:
        """A classifier trained on the labels of `train`, kept in the folder `cache`.

        Raises:
            DataError: there are no labels.
        """
        labels, _ = self.named()
        return Classifier.fit(self.train, labels, image_shape=self.shape, random_state=0, cache=cache)


def load(source: str | None, *, side: int | None = None) -> Pictures:
    """Load pictures, scale them to [-1, 1], and shrink them to `side` by means over squares.

    Args:
        source: digits if None, or what `saddlegan data` knows by name or path; labels are read from a .npz that holds
            them as "labels", "y" or "target". With `side` a folder's pictures may have any size and shape: of each
            the largest centred square is taken.
        side: the side to shrink to; 28 pixels are padded to 32 first. As they are if None.

    Raises:
        DataError: no square pictures, or a side that cannot be had.
    """
    if side is not None and source is not None and source not in synthetic.SOURCES and Path(source).is_dir():
        data = sources.load_pictures(Path(source), resolutions=(side,))[1]
    else:
        data = sources.load(source or "digits")
    if data.image_shape is None or data.image_shape[0] != data.image_shape[1] or data.value_range is None:
        raise DataError(f"`data` must be square pictures for this experiment, got {data.description}")
    labels = sources.labels(source or "digits")
    own, channels = data.image_shape[0], (*data.image_shape, 1)[2]
    low, high = data.value_range
    X = (np.asarray(data.X, dtype=np.float32) - low) * (2.0 / (high - low)) - 1.0
    images = X.reshape(len(X), own, own, channels)
    if side is not None and side != own:
        if own == 28 and 32 % side == 0:
            images = np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)), constant_values=-1.0)
        grown = images.shape[1]
        if grown % side:
            raise DataError(f"pictures of side {own} cannot be shrunk to {side}")
        images = images.reshape(len(X), side, grown // side, side, grown // side, channels).mean((2, 4))
    order = np.random.default_rng(0).permutation(len(images))
    rows = images[order].reshape(len(images), math.prod(images.shape[1:])).astype(np.float32)
    cut = len(rows) // HELD_OUT
    named = None if labels is None else labels[order]
    return Pictures(
        f"{data.name} ({len(rows):,} of {images.shape[1]} x {images.shape[1]})",
        rows[cut:],
        rows[:cut],
        None if named is None else named[cut:],
        None if named is None else named[:cut],
        images.shape[1],
        channels,
    )
