"""The kernel distance of samples to data along a training: one `Track` for each seed, small enough not to be felt."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from saddlegan import metrics
from saddlegan.errors import SampleSizeWarning
from saddlegan.workbench.data.sources import Data

ROWS = 128  # of each sample: the cost of a line grows with its square
LEAST = 48  # rows of data below which nothing is measured
SEED = 0  # of the rows that are compared with, the same for every line and every resume


class Tracked:
    """Figures for a line of metrics, of data whose modes are not known.

    Args:
        data: what is trained on; pictures are looked at by a random convolution net, other rows as they are.
        seeds: number of generators.
    """

    def __init__(self, data: Data, *, seeds: int) -> None:
        self._tracks: list[metrics.Track] = []
        self._rows: list[np.ndarray] = []
        n = min(ROWS, len(data.X) // 2)
        if data.centers is not None or 2 * n < LEAST:
            return
        chosen = np.random.default_rng(SEED).permutation(len(data.X))[: 2 * n]
        rows = np.asarray(data.X[np.sort(chosen)], dtype=np.float64)[np.argsort(np.argsort(chosen))]
        net: Callable[[Any], Any]
        if data.image_shape is not None and data.value_range is not None:
            net = metrics.features.RandomConvolution(data.image_shape, value_range=data.value_range)
        else:
            # in units of each column's spread, so that no column drowns the others under the cubic kernel
            center, sd = rows.mean(0), rows.std(0)
            net = functools.partial(_standardised, center=center, scale=np.where(sd > 0, sd, 1.0))
        for place in range(seeds):
            self._tracks.append(
                metrics.Track(
                    lambda n, place=place: self._rows[place][:n],
                    rows[:n],
                    every=1,
                    n=n,
                    features=net,
                    held_out=rows[n:],
                    random_state=SEED,
                )
            )

    def figures(self, rows: list[np.ndarray]) -> dict[str, Any]:
        """`kernel`, and `kernel_above_floor` in standard errors; with several seeds their means, and each seed's.

        Args:
            rows: of each seed finite samples, of which the first are compared.
        """
        if not self._tracks:
            return {}
        self._rows = rows
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SampleSizeWarning)  # the figure beside it counts from the floor
            found = [tracked.measures["kernel"] for track in self._tracks if (tracked := track()) is not None]
        by_seed = {
            "kernel": [each.value for each in found],
            "kernel_above_floor": [each.above_floor for each in found],
        }
        row: dict[str, Any] = {name: float(np.mean(values)) for name, values in by_seed.items()}
        if len(found) > 1:
            row.update({f"{name}_by_seed": values for name, values in by_seed.items()})
        return row


def _standardised(rows: np.ndarray, *, center: np.ndarray, scale: np.ndarray) -> np.ndarray:
    return (np.asarray(rows) - center) / scale
