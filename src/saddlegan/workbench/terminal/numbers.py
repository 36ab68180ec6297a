"""Ranges of numbers in words, and numbers read from words: what every option says that was given a wrong one."""

from __future__ import annotations

import dataclasses
import math


@dataclasses.dataclass(frozen=True)
class Range:
    """The numbers that an option takes.

    Attributes:
        least: smallest that is allowed.
        above: all are larger.
        most: largest that is allowed.
        below: all are smaller.
    """

    least: float = -math.inf
    above: float = -math.inf
    most: float = math.inf
    below: float = math.inf

    def holds(self, number: float) -> bool:
        """Whether a number is finite and within."""
        return math.isfinite(number) and self.least <= number <= self.most and self.above < number < self.below

    def words(self, *, whole: bool) -> str:
        """What must be given, in words.

        Example:
            >>> Range(least=1).words(whole=True), Range(least=0, most=1).words(whole=False)
            ('a whole number of at least 1', 'a number from 0 to 1')
        """
        most = self.below - 1 if whole and self.below < math.inf else self.most
        kind = "a whole number" if whole else "a number" if min(most, self.below) < math.inf else "a finite number"
        if self.least > -math.inf and most < math.inf:
            return f"{kind} from {self.least:.16g} to {most:.16g}"
        low = f" of at least {self.least:g}" if self.least > -math.inf else ""
        low = f" above {self.above:g}" if self.above > -math.inf else low
        high = f" at most {most:g}" if most < math.inf else f" below {self.below:g}" if self.below < math.inf else ""
        return f"{kind}{low}{' and' if low and high else ''}{high}"


ANY = Range()


def read(text: str, allowed: Range, *, whole: bool) -> float | int | None:
    """The number that a word says, or None if it says none that is allowed."""
    try:
        found: float = int(text) if whole else float(text)
    except ValueError:
        return None
    return found if allowed.holds(found) else None
