"""Early stopping by a metric; nothing here waits for torch, so that wrong words are answered at once."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from saddlegan.errors import InputError

if TYPE_CHECKING:
    from saddlegan.results import Step


class StopWhen:
    """Early stopping on a metric: a callback from words such as "high_quality>=0.95".

    Raises:
        InputError: the words are not NAME, one of >= <= > <, and a number.

    Example:
        >>> StopWhen("total_variation<=0.05").after_metrics({"total_variation": 0.04})
        True
    """

    _OPERATORS: Mapping[str, Callable[[float, float], bool]] = {
        ">=": operator.ge,
        "<=": operator.le,
        ">": operator.gt,
        "<": operator.lt,
    }

    def __init__(self, words: str) -> None:
        match = re.fullmatch(r"\s*(\w+)\s*(>=|<=|>|<)\s*([-+.\deE]+)\s*", words)
        try:
            if match is None:
                raise ValueError
            self.name, self._compare, self.level = match[1], self._OPERATORS[match[2]], float(match[3])
        except ValueError as error:
            raise InputError(f"`stop_when` must read like high_quality>=0.95, got {words!r}") from error

    def after_step(self, done: int, step: Step) -> bool:
        """Never stops."""
        del done, step
        return False

    def after_metrics(self, row: Mapping[str, Any]) -> bool:
        """Stop once the metric of this line is on the right side.

        Raises:
            InputError: no such metric in the line.
        """
        value = row.get(self.name)
        if not isinstance(value, (int, float)):
            known = [name for name, entry in row.items() if isinstance(entry, (int, float))]
            raise InputError(f"`stop_when` names {self.name!r}; this run measures {', '.join(known)}")
        return self._compare(float(value), self.level)
