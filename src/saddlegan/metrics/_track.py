"""Measures along a training: a call after each step, a figure every so many."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from saddlegan import checks
from saddlegan.checks import RandomState
from saddlegan.errors import InputError
from saddlegan.metrics._distances import kernel
from saddlegan.metrics._measurement import Features, Measurement, read

Measure = Callable[..., Measurement]


@dataclasses.dataclass(frozen=True)
class Tracked:
    """What was measured at one step.

    Attributes:
        step: number of calls so far.
        measures: by name.
    """

    step: int
    measures: Mapping[str, Measurement]


class Track:
    """Measures a generator along its training: call it after each step.

    Features of the real rows are taken once, samples only at the steps that are measured. The same rows and the same
    halves serve every step, so that figures along a training differ by the generator alone.

    Args:
        sample: called with a number n, gives n generated rows (n, ...); it owns the latents and the generator's mode.
        real: rows (m, ...).
        every: steps between two measurements.
        n: samples at each.
        measures: by name, functions of this room; the kernel distance if None.
        features: what is measured of each row; the rows themselves if None.
        held_out: further real rows, at least n, for a floor at the very sizes.
        random_state: seed of the halves.
        batch_size: rows a call of `features`.

    Attributes:
        history: what was measured, oldest first.

    Raises:
        InputError: a count below 1, too few rows, or no measures.

    Example:
        >>> x = np.random.default_rng(0).standard_normal((200, 2))
        >>> track = Track(lambda n: x[:n] + 1.0, x, every=2, n=100)
        >>> [track() is None for _ in range(4)], [each.step for each in track.history]
        ([True, False, True, False], [2, 4])
        >>> track.history[-1].measures["kernel"].above_floor > 3.0
        True
    """

    def __init__(
        self,
        sample: Callable[[int], Any],
        real: Any,
        *,
        every: int = 500,
        n: int = 1000,
        measures: Mapping[str, Measure] | None = None,
        features: Features | None = None,
        held_out: Any = None,
        random_state: RandomState = 0,
        batch_size: int = 256,
    ) -> None:
        self.every = checks.count("every", every)
        self.n = checks.count("n", n, least=2)
        self.measures = dict(measures) if measures is not None else {"kernel": kernel}
        if not self.measures:
            raise InputError("`measures` must name at least one, got none")
        self.history: list[Tracked] = []
        self._sample, self._features, self._batch_size = sample, features, checks.count("batch_size", batch_size)
        self._seed = checks.seed(random_state)
        self._real = read("real", real, features, self._batch_size)
        self._held_out = None if held_out is None else read("held_out", held_out, features, self._batch_size)
        self._steps = 0

    def __call__(self) -> Tracked | None:
        """Count a step; measure if it is time to.

        Returns:
            What was measured, or None between measurements.

        Raises:
            InputError: the samples hold NaN, or are too few.
        """
        self._steps += 1
        if self._steps % self.every:
            return None
        rows: np.ndarray = read("generated", self._sample(self.n), self._features, self._batch_size)
        found = {
            name: measure(real=self._real, generated=rows, held_out=self._held_out, random_state=self._seed)
            for name, measure in self.measures.items()
        }
        self.history.append(Tracked(self._steps, found))
        return self.history[-1]
