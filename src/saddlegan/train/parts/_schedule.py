"""Numbers that change over a training as functions of the steps done, so that a resumed run needs only these."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, get_args

from torch.optim import Optimizer

from saddlegan import checks
from saddlegan.errors import InputError

Shape = Literal["linear", "cosine", "geometric"]


class Schedule:
    """target.name = value(t) before step t: a learning rate, a penalty's weight, noise, an average's decay.

    Hand it to a rule by `rule.attach`; the value is a function of the steps done alone, so that a rule that takes up
    its state goes on with the same bits.

    Args:
        target: an optimiser, all of whose parameter groups are set; or any object, whose attribute is set.
        name: "lr", or any other option of the optimiser; or the attribute.
        value: a callable steps done -> number, such as `warm_up`.

    Raises:
        InputError: the target has no such option or attribute.

    References:
        Huang et al., The GAN is dead; long live the GAN!, NeurIPS 2024: warm-ups of rate, R1 + R2 and half-life.

    Example:
        >>> from saddlegan.train import R1
        >>> r1 = R1(1.0)
        >>> Schedule(r1, "weight", lambda t: 1.0 / (1 + t)).set(3)
        >>> r1.weight
        0.25
    """

    def __init__(self, target: object, name: str, value: Callable[[int], float]) -> None:
        if isinstance(target, Optimizer):
            known = all(name in group for group in target.param_groups)
        else:
            known = hasattr(target, name)
        if not known:
            raise InputError(f"`name`: {type(target).__name__} has no {name!r} to set")
        self.target = target
        self.name = name
        self.value = value

    def set(self, t: int) -> None:
        """Set the number for the step after t steps."""
        number = float(self.value(t))
        if isinstance(self.target, Optimizer):
            for group in self.target.param_groups:
                group[self.name] = number
        else:
            setattr(self.target, self.name, number)


def warm_up(start: float, end: float, *, steps: int, shape: Shape = "cosine") -> Callable[[int], float]:
    """From `start` to `end` over `steps` steps, and `end` from then on: with s = min(1, t / steps),

        linear     start + s (end - start)
        cosine     start + (1 - cos(pi s)) / 2 (end - start)
        geometric  start (end / start)^s

    Args:
        start: value of step 0.
        end: last value.
        steps: how long it takes.
        shape: "linear", "cosine" or "geometric", whose ends are positive.

    Raises:
        InputError: an unknown shape, `steps` below 1, an end that is not finite, or not positive where it must be.

    Example:
        >>> value = warm_up(1.0, 0.01, steps=10, shape="geometric")
        >>> value(0), round(value(5), 6), round(value(99), 6)
        (1.0, 0.1, 0.01)
    """
    if shape not in get_args(Shape):
        raise InputError(f"`shape` must be one of {', '.join(get_args(Shape))}, got {shape!r}")
    steps = checks.count("steps", steps)
    start, end = (checks.number(name, entry, least=-math.inf) for name, entry in (("start", start), ("end", end)))
    if shape == "geometric":
        start, end = checks.positive("start", start), checks.positive("end", end)

    def value(t: int) -> float:
        s = min(1.0, t / steps)
        if shape == "geometric":
            return start * (end / start) ** s
        return start + (s if shape == "linear" else 0.5 * (1.0 - math.cos(math.pi * s))) * (end - start)

    return value


def decay_of(half_life: float) -> float:
    """The decay of a `MovingAverage` that forgets half in so many steps: 0.5^(1 / half_life).

    Args:
        half_life: in steps, positive.

    Example:
        >>> round(decay_of(1.0), 6), round(decay_of(693.147), 4)
        (0.5, 0.999)
    """
    return 0.5 ** (1.0 / checks.positive("half_life", half_life))
