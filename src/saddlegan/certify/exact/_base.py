"""Games whose inner problems are solved exactly, recognised by the types of their players and penalties.

A class of games costs one file: subclass `AbstractExactGame`, and hand it to `register`.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import Any, Self

from torch import Tensor

from saddlegan.game import Game


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
    @abc.abstractmethod
    def tolerance(self) -> float:
        """Absolute rounding error of the values: a gain up to it counts as none."""

    @property
    @abc.abstractmethod
    def stats(self) -> Mapping[str, Any]:
        """Residuals and method, in words and numbers."""
