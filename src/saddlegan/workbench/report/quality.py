"""Measures of a generator's samples against data: the same ones in every report, in `measure` and in `compare`."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from saddlegan import metrics
from saddlegan.errors import InputError, SampleSizeWarning
from saddlegan.metrics import Measurement
from saddlegan.results import plain

MOST = 1000  # rows of each sample
MOST_ELEMENTS = 1 << 23  # fewer where each is large
LEAST = 24  # rows of each sample below which nothing is said
SURE = 3.0  # standard errors over the floor that are called worse than real rows

MEANINGS = {
    "coverage": "share of real balls (5 neighbours) that a sample hits; falls when classes are missing",
    "kernel": "kernel distance, cubic, unbiased: 0 for equal distributions, below it by chance",
    "sliced": "sliced W2 distance, 128 directions",
    "frechet": "Frechet distance; not an FID, and to be compared with its floor alone",
    "copies": "share of samples far nearer to a real row than its own nearest neighbour: memorised",
}


@dataclasses.dataclass(frozen=True)
class Quality:
    """What was measured.

    Attributes:
        measures: by name, the one to read first at the top.
        features: what the distances looked at, in words.
        n: rows of each sample.
    """

    measures: Mapping[str, Measurement]
    features: str
    n: int

    def plain(self) -> dict[str, Any]:
        """Plain JSON."""
        each = {name: plain(dataclasses.asdict(found)) for name, found in self.measures.items()}
        for name, found in self.measures.items():
            each[name]["above_floor"] = plain(found.above_floor)
        return {"n": self.n, "features": self.features, "measures": each}


def measure(
    real: np.ndarray,
    generated: np.ndarray,
    *,
    image_shape: Sequence[int] | None = None,
    value_range: tuple[float, float] | None = None,
    seed: int = 0,
    n: int = MOST,
) -> Quality:
    """Measure rows (m, d) against data rows (N, d): two disjoint parts of the data give value and floor.

    Args:
        real: data.
        generated: samples, in the data's units.
        image_shape: of a row; then the distances look at a random convolution net, else at the numbers.
        value_range: black and white of images.
        seed: of the choice of rows and of what the measures draw.
        n: rows of each sample at most.

    Raises:
        InputError: too few rows, other lengths, or NaN.
    """
    if generated.ndim != 2 or real.shape[1] != generated.shape[1]:
        raise InputError(f"samples of length {generated.shape[-1]} cannot be measured against {real.shape[1]} columns")
    n = min(n, len(real) // 2, len(generated), max(LEAST, MOST_ELEMENTS // real.shape[1]))
    if n < LEAST:
        raise InputError(
            f"at least {2 * LEAST} data rows and {LEAST} samples are needed, got {len(real)}, {len(generated)}"
        )
    order = np.sort(np.random.default_rng(seed).permutation(len(real))[: 2 * n])  # sorted: memmaps are read in order
    order = np.random.default_rng(seed + 1).permutation(order)
    rows: dict[str, Any] = {"real": real[order[:n]], "generated": generated[:n], "held_out": real[order[n:]]}
    net, words = None, "the numbers themselves"
    if image_shape is not None:
        net = metrics.features.RandomConvolution(tuple(image_shape), value_range=value_range or (0.0, 1.0))
        words = "a random convolution net for the distances, pixels for coverage and copies"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SampleSizeWarning)  # every figure stands beside its floor
        found = {
            "coverage": metrics.density_coverage(**rows, random_state=seed),
            "kernel": metrics.kernel(**rows, features=net, random_state=seed),
            "sliced": metrics.sliced(**rows, features=net, random_state=seed),
            "frechet": metrics.frechet(**rows, features=net, random_state=seed),
            "copies": metrics.copies(**rows, random_state=seed),
        }
    return Quality(found, words, n)


def verdict(found: Measurement) -> str:
    """One measure in words: value, error, floor, and whether real rows would have done better."""
    far = found.above_floor
    said = "worse than real rows" if far > SURE else "not told from real rows"
    return f"{found.value:.4g} +- {found.standard_error:.2g}, real {found.floor:.4g}: {said} ({far:+.1f} errors)"
