"""Named errors. Each message says what was expected, what came and what to do."""

from __future__ import annotations


class SaddleganError(Exception):
    """Base of every error that saddlegan raises on purpose."""


class InputError(SaddleganError, ValueError):
    """An argument or a data set cannot be used: wrong shape, NaN, empty, out of range."""


class InputTypeError(SaddleganError, TypeError):
    """An argument has a type that saddlegan does not read."""


class ObjectiveError(SaddleganError, ValueError):
    """The objective does not meet a premise: not zero-sum, or no Lagrangian view."""


class NonFiniteLossError(SaddleganError, ArithmeticError):
    """A player's loss became NaN or infinite; its optimiser did not move."""


class DataError(InputError):
    """A file or folder cannot be read as data; the message names it."""


class RunError(SaddleganError, ValueError):
    """A run folder is missing, foreign, incomplete, or would be overwritten."""


class CheckpointError(RunError):
    """A checkpoint is truncated, corrupt or of another run."""


class ModelError(SaddleganError, ValueError):
    """A saved estimator is missing, truncated, corrupt, or no saved estimator; or it cannot be written."""


class SolveError(SaddleganError, RuntimeError):
    """A solver did not reach a usable answer.

    Attributes:
        result: the `Solution` as far as it was computed.
    """

    def __init__(self, message: str, result: object) -> None:
        super().__init__(message)
        self.result = result


def _requirements(extra: str) -> list[str]:
    """What an extra of the installed saddlegan asks for: right for a copy from any place, where its name may not be."""
    from importlib import metadata  # an error that is seldom raised should not cost every start

    try:
        listed = metadata.requires("saddlegan") or []
    except metadata.PackageNotFoundError:
        return []
    found = [each.partition(";") for each in listed]
    return [what.strip() for what, _, when in found if when.strip().replace('"', "'") == f"extra == '{extra}'"]


class MissingExtraError(SaddleganError, ImportError):
    """An optional dependency is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        words = " ".join(f"'{each}'" for each in _requirements(extra)) or package
        super().__init__(f"`{package}` is needed here and is not installed; install it with: pip install {words}")


class BudgetWarning(UserWarning):
    """A step budget was spent before the search settled; the result's `status` says so too."""


class BlindWarning(UserWarning):
    """Gradients vanish at a pair: that a search found nothing there is no evidence."""


class SampleSizeWarning(UserWarning):
    """There are fewer samples than features: a distance is mostly its own floor."""
