"""The one reader of a run's JSON: every fault is a line that names the file and the entry."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from saddlegan.errors import RunError

Kind = TypeVar("Kind", bound=BaseModel)
DEEPEST = 64  # levels of nesting; a run's files have less than ten
LARGEST = 2**63  # whole numbers beyond it are no sizes, and no floats without loss
REMEDY = "put a sound copy in its place, or make the run again"

Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Whole = Annotated[int, Field(strict=True)]
Figure = Number | Literal["nan", "inf", "-inf"]  # JSON has no words for these


class Part(BaseModel):
    """A part of a file, of which the reader relies on the declared entries."""

    model_config = ConfigDict(frozen=True, extra="allow")


def parse_json(content: bytes | str, place: str) -> Any:
    """Parse JSON as the library writes it: no NaN, no numbers or nesting beyond all measure.

    Args:
        content: of the file.
        place: what an error calls it: its path, with the line if it has many.

    Raises:
        RunError: anything else.
    """
    try:
        found = json.loads(content, parse_int=_whole, parse_constant=_constant)
        _check_depth(found)
    except (ValueError, RecursionError) as error:
        reason = "nested too deep" if isinstance(error, RecursionError) else error
        raise RunError(f"{place} is damaged: {reason}; {REMEDY}") from error
    return found


def validated(kind: type[Kind] | TypeAdapter[Any], found: object, place: str) -> Any:
    """Read parsed JSON as a pydantic model.

    Raises:
        RunError: an entry is missing or of another type; the message names the first.
    """
    try:
        return kind.validate_python(found) if isinstance(kind, TypeAdapter) else kind.model_validate(found)
    except ValidationError as error:
        raise RunError(f"{place} is damaged: {first_fault(error)}; {REMEDY}") from error


def first_fault(error: ValidationError) -> str:
    """The first entry that a model refused, and why, in one line."""
    first = error.errors()[0]
    at = ".".join(str(part) for part in first["loc"]) or "the file"
    if first["type"] == "model_type":
        return f"{at} must hold a JSON object"
    return f"{at}: {' '.join(first['msg'].split()).lower()}"


def _whole(digits: str) -> int:
    if len(digits) > 20 or abs(int(digits)) >= LARGEST:
        raise ValueError(f"the number {digits[:20]} is too large")
    return int(digits)


def _constant(word: str) -> float:
    raise ValueError(f"{word} is no number of JSON")


def _check_depth(found: object) -> None:
    level = [found]
    for _ in range(DEEPEST):
        level = [
            entry
            for value in level
            if isinstance(value, (dict, list))
            for entry in (value.values() if isinstance(value, dict) else value)
        ]
        if not level:
            return
    raise RecursionError
