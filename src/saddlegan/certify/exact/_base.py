"""Games whose inner problems are solved exactly, recognised by the types of their players and penalties.

A class of games costs one file: subclass `AbstractExactGame`, and hand it to `register`.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Mapping
from typing import Any, Self

from torch import Tensor

from saddlegan.game import Game
from saddlegan.results import Certificate, Status


class AbstractExactGame(abc.ABC):
    """A pair of a game whose best responses are known exactly, for the empirical distribution of the data."""

    @classmethod
    @abc.abstractmethod
    def read(cls, game: Game, X: Tensor) -> Self | None:
        """Recognise the pair, or return None where it is not of this class.

        Args:
            game: the pair; must not be changed.
            X: all real samples (n, ...).
        """

    @property
    @abc.abstractmethod
    def value(self) -> float:
        """V(G, D), with exact expectations."""

    @property
    @abc.abstractmethod
    def best_discriminator_value(self) -> float:
        """max_D V(G, D); infinity where it is unbounded."""

    @property
    @abc.abstractmethod
    def best_generator_value(self) -> float:
        """min_G V(G, D); minus infinity where it is unbounded."""

    @property
    @abc.abstractmethod
    def stackelberg_value(self) -> float | None:
        """min_G max_D V(G, D), or None where no exact value is known."""

    @property
    def discriminator_gain(self) -> float:
        """max_D V(G, D) - V(G, D); override it where the difference of two values would cancel."""
        return self.best_discriminator_value - self.value

    @property
    def generator_gain(self) -> float:
        """V(G, D) - min_G V(G, D); override it where the difference of two values would cancel."""
        return self.value - self.best_generator_value

    @property
    @abc.abstractmethod
    def tolerance(self) -> float:
        """Absolute error of the values, that of stored weights included: a gain up to it refutes nothing."""

    @property
    def discriminator_tolerance(self) -> float:
        """Absolute error of the discriminator's gain."""
        return self.tolerance

    @property
    def generator_tolerance(self) -> float:
        """Absolute error of the generator's gain."""
        return self.tolerance

    @property
    def provable(self) -> bool:
        """Whether gains within their tolerances are a proof.

        False where only a coarse storage type explains them; the pair is then left undecided.
        """
        return True

    @property
    @abc.abstractmethod
    def stats(self) -> Mapping[str, Any]:
        """Residuals and method, in words and numbers."""


def certificate(
    kind: str,
    generator: float,
    discriminator: float,
    bound: Any,
    verdict: Any,
    stats: dict[str, Any],
    *,
    upper: float = math.inf,
    error: float = 0.0,
    status: Status = Status.OPTIMAL,
) -> Certificate:
    """Certificate of two gains, whose sum is the gap; computed ones have no standard error, sampled ones have."""
    gap = generator + discriminator
    return Certificate(kind, gap, generator, discriminator, bound, verdict, error, status, stats, upper)
