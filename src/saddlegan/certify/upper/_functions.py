"""What torch's functions do to slopes and ranges: activations, and functions that are affine in one argument."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from saddlegan.certify.upper._traced import UnknownError, call


@dataclasses.dataclass(frozen=True)
class Pointwise:
    """A function of one number.

    Attributes:
        at: the function.
        slopes: its least and largest slope, anywhere.
        slope_range: least and largest slope between lo and hi.
        range: least and largest value between lo and hi.
    """

    at: Callable[[Tensor], Tensor]
    slopes: tuple[float, float]
    slope_range: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
    range: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def _rising(
    at: Callable[[Tensor], Tensor], slope: Callable[[Tensor], Tensor], slopes: tuple[float, float]
) -> Pointwise:
    """Convex and not falling: values and slopes both grow."""
    return Pointwise(at, slopes, lambda lo, hi: (slope(lo), slope(hi)), lambda lo, hi: (at(lo), at(hi)))


def _bell(at: Callable[[Tensor], Tensor], slope: Callable[[Tensor], Tensor], top: float) -> Pointwise:
    """Not falling, with a slope that is even and falls away from 0."""

    def slope_range(lo: Tensor, hi: Tensor) -> tuple[Tensor, Tensor]:
        far = torch.maximum(lo.abs(), hi.abs())
        near = torch.where((lo <= 0) & (hi >= 0), torch.zeros_like(lo), torch.minimum(lo.abs(), hi.abs()))
        return slope(far), slope(near)

    return Pointwise(at, (0.0, top), slope_range, lambda lo, hi: (at(lo), at(hi)))


def _wave(at: Callable[[Tensor], Tensor], slope: Callable[[Tensor], Tensor]) -> Pointwise:
    """Sine and cosine: slope and second derivative within [-1, 1]."""

    def around(f: Callable[[Tensor], Tensor]) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
        def bound(lo: Tensor, hi: Tensor) -> tuple[Tensor, Tensor]:
            middle, half = f(0.5 * (lo + hi)), 0.5 * (hi - lo)
            return (middle - half).clamp_min(-1.0), (middle + half).clamp_max(1.0)

        return bound

    return Pointwise(at, (-1.0, 1.0), around(slope), around(at))


def _swish(
    at: Callable[[Tensor], Tensor],
    slope: Callable[[Tensor], Tensor],
    *,
    bend: float,
    slopes: tuple[float, float],
    least: float,
) -> Pointwise:
    """SiLU and GELU: slopes by a bound on the second derivative, values by the slopes; `least` is the minimum."""

    def slope_range(lo: Tensor, hi: Tensor) -> tuple[Tensor, Tensor]:
        middle, half = slope(0.5 * (lo + hi)), 0.5 * (hi - lo)
        return (middle - bend * half).clamp_min(slopes[0]), (middle + bend * half).clamp_max(slopes[1])

    def range_(lo: Tensor, hi: Tensor) -> tuple[Tensor, Tensor]:
        # at most at an end, since there is no maximum inside; at least at an end, or at the minimum
        a, b = at(lo), at(hi)
        low, steepest = slope_range(lo, hi)
        half = 0.5 * (hi - lo)
        reach = torch.maximum(low.abs(), steepest.abs()) * half
        inside = (at(0.5 * (lo + hi)) - reach).clamp_min(least)
        return torch.where(low >= 0, a, torch.minimum(torch.minimum(a, b), inside)), torch.maximum(a, b)

    return Pointwise(at, slopes, slope_range, range_)


def _leaky(slope: float) -> Pointwise:
    if not 0 <= slope <= 1:
        raise UnknownError("a leaky ReLU that is not convex")
    return _rising(
        lambda t: F.leaky_relu(t, slope),
        lambda t: torch.where(t >= 0, torch.ones_like(t), torch.full_like(t, slope)),
        (slope, 1.0),
    )


def _elu(alpha: float) -> Pointwise:
    def slope(t: Tensor) -> Tensor:
        return torch.where(t > 0, torch.ones_like(t), alpha * t.clamp_max(0.0).exp())

    if not 0 <= alpha <= 1:
        raise UnknownError("an ELU that is not convex")
    return _rising(lambda t: F.elu(t, alpha), slope, (0.0, 1.0))


def _erf(t: Tensor) -> Tensor:
    return 0.5 * (1.0 + torch.erf(t / math.sqrt(2.0)))


def _gelu_slope(t: Tensor) -> Tensor:
    return _erf(t) + t * torch.exp(-0.5 * t * t) / math.sqrt(2.0 * math.pi)


def _silu_slope(t: Tensor) -> Tensor:
    s = torch.sigmoid(t)
    return s * (1.0 + t * (1.0 - s))


def _flat(t: Tensor) -> Tensor:
    return torch.sigmoid(t) * torch.sigmoid(-t)


# extreme slopes of SiLU and GELU, rounded outwards; largest second derivatives are 1/2 and sqrt(2 / pi), at 0
_SILU = _swish(F.silu, _silu_slope, bend=0.5, slopes=(-0.0999, 1.0999), least=-0.2786)
_GELU = _swish(F.gelu, _gelu_slope, bend=0.7979, slopes=(-0.1290, 1.1290), least=-0.1701)
_RELU = _rising(torch.relu, lambda t: (t >= 0).to(t), (0.0, 1.0))
_SIGMOID = _bell(torch.sigmoid, _flat, 0.25)
_TANH = _bell(torch.tanh, lambda t: 1.0 - torch.tanh(t).square(), 1.0)


def pointwise(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Pointwise | None:
    """The activation of that name with its settings, or None where it is none of those that are known."""
    given = list(args[1:])

    def setting(key: str, default: float) -> float:
        return float(kwargs.get(key, given.pop(0) if given else default))

    if name in ("relu", "sigmoid", "tanh", "sin", "cos"):
        return {"relu": _RELU, "sigmoid": _SIGMOID, "tanh": _TANH, "sin": _SIN, "cos": _COS}[name]
    if name == "silu":
        return _SILU
    if name == "gelu":
        if kwargs.get("approximate", given[0] if given else "none") != "none":
            raise UnknownError("an approximate GELU")
        return _GELU
    if name == "leaky_relu":
        return _leaky(setting("negative_slope", 0.01))
    if name == "elu":
        alpha = setting("alpha", 1.0)
        if setting("scale", 1.0) != 1.0 or setting("input_scale", 1.0) != 1.0:
            raise UnknownError("a scaled ELU")
        return _elu(alpha)
    if name == "softplus":
        beta = setting("beta", 1.0)
        # above its threshold torch's is the identity, 2e-9 / beta off at the default of 20
        if setting("threshold", 20.0) < 20.0:
            raise UnknownError("a softplus with an early threshold")
        return _rising(lambda t: F.softplus(t, beta), lambda t: torch.sigmoid(beta * t), (0.0, 1.0))
    if name in ("hardtanh", "relu6"):
        lo, hi = (0.0, 6.0) if name == "relu6" else (setting("min_val", -1.0), setting("max_val", 1.0))
        return Pointwise(
            lambda t: t.clamp(lo, hi),
            (0.0, 1.0),
            lambda a, b: (torch.zeros_like(a), ((a <= hi) & (b >= lo)).to(a)),
            lambda a, b: (a.clamp(lo, hi), b.clamp(lo, hi)),
        )
    if name == "abs":
        return Pointwise(
            torch.abs,
            (-1.0, 1.0),
            lambda a, b: (torch.where(a >= 0, 1.0, -1.0).to(a), torch.where(b <= 0, -1.0, 1.0).to(a)),
            lambda a, b: (
                torch.where((a <= 0) & (b >= 0), torch.zeros_like(a), torch.minimum(a.abs(), b.abs())),
                torch.maximum(a.abs(), b.abs()),
            ),
        )
    return None


_SIN = _wave(torch.sin, torch.cos)
_COS = _wave(torch.cos, lambda t: -torch.sin(t))

SIGNED = frozenset(
    [
        "linear",
        "conv1d",
        "conv2d",
        "conv3d",
        "conv_transpose1d",
        "conv_transpose2d",
        "conv_transpose3d",
        "matmul",
        "mul",
        "div",
    ]
)
POSITIVE = frozenset(
    ["sum", "mean", "avg_pool1d", "avg_pool2d", "avg_pool3d", "adaptive_avg_pool1d", "adaptive_avg_pool2d", "pad"]
)


@dataclasses.dataclass(frozen=True)
class Affine:
    """A function A t + b of one tensor.

    Attributes:
        at: t -> A t + b.
        linear: t -> A t.
        positive: t -> |A| t.
        name: torch's name for it.
        args: what it was called with.
        kwargs: by name.
    """

    at: Callable[[Tensor], Tensor]
    linear: Callable[[Tensor], Tensor]
    positive: Callable[[Tensor], Tensor]
    name: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


def affine(
    name: str, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], at: int
) -> Affine | None:
    """The affine function of the one traced argument, whose identity is `at`; None for a name without a rule."""
    if name in ("dropout", "dropout1d", "dropout2d", "feature_dropout", "alpha_dropout"):
        if kwargs.get("training", args[2] if len(args) > 2 else True):
            raise UnknownError("dropout in training mode")
        return Affine(_same, _same, _same, "identity", args, kwargs)
    if name == "batch_norm":
        return _batch_norm(args, kwargs)
    if name == "interpolate":
        if kwargs.get("mode", args[3] if len(args) > 3 else "nearest") not in ("nearest", "bilinear", "area"):
            raise UnknownError("an interpolation with negative weights")
    elif name == "pad":
        if kwargs.get("mode", args[2] if len(args) > 2 else "constant") != "constant" or kwargs.get(
            "value", args[3] if len(args) > 3 else None
        ):
            raise UnknownError("padding by something other than zeros")
    elif name not in SIGNED and name not in POSITIVE:
        return None
    place = next((k for k, entry in enumerate(args) if id(entry) == at), None)
    if place is None:  # given by name
        if "input" not in kwargs or id(kwargs["input"]) != at:
            raise UnknownError(f"the arguments of `{name}`")
        place, args, kwargs = 0, (kwargs["input"], *args), {k: v for k, v in kwargs.items() if k != "input"}
    if (name == "div" and place != 0) or (name in SIGNED - {"matmul", "mul"} and place != 0):
        raise UnknownError(f"`{name}` by something that depends on the input")
    positive_args: list[Any] = list(args)
    linear_args: list[Any] = list(args)
    given = dict(kwargs)
    if name in SIGNED:
        for k, entry in enumerate(args):
            if k != place and isinstance(entry, Tensor):
                positive_args[k] = entry.abs()
            elif k != place and k < 2 and isinstance(entry, (int, float)):
                positive_args[k] = abs(entry)
        if name not in ("matmul", "mul", "div"):
            given.pop("bias", None)
            if len(args) > 2:
                positive_args[2] = linear_args[2] = None
            if isinstance(given.get("weight"), Tensor):
                raise UnknownError("a weight given by name")

    def of(arguments: Any, settings: Mapping[str, Any]) -> Callable[[Tensor], Tensor]:
        return lambda t: call(function, tuple(arguments), settings, {at: t})

    return Affine(of(args, kwargs), of(linear_args, given), of(positive_args, given), name, args, kwargs)


def _same(t: Tensor) -> Tensor:
    return t


def _batch_norm(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Affine:
    names = ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")
    given = dict(zip(names, args, strict=False)) | dict(kwargs)
    mean, variance = given.get("running_mean"), given.get("running_var")
    if given.get("training", False) or not (isinstance(mean, Tensor) and isinstance(variance, Tensor)):
        raise UnknownError("batch norm in training mode")
    scale = (variance + given.get("eps", 1e-5)).rsqrt()
    scale = scale if given.get("weight") is None else scale * given["weight"]
    shift = -mean * scale if given.get("bias") is None else given["bias"] - mean * scale

    def wide(entry: Tensor, t: Tensor) -> Tensor:
        return entry.to(t).reshape(1, -1, *[1] * (t.ndim - 2))

    return Affine(
        lambda t: t * wide(scale, t) + wide(shift, t),
        lambda t: t * wide(scale, t),
        lambda t: t * wide(scale.abs(), t),
        "batch_norm",
        args,
        kwargs,
    )
