"""Discriminators that are affine in their trainable parameters: the inner maximum of equation (3) is then concave."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from saddlegan.batch import Rows, conditions, samples
from saddlegan.certify.upper._functions import POSITIVE, SIGNED
from saddlegan.certify.upper._traced import MOVES, Traced, UnknownError, call, traced
from saddlegan.modules import clone

_SUMS = MOVES | POSITIVE | {"add", "sub", "rsub", "neg", "cat", "stack", "expand"}
_PRODUCTS = SIGNED | {"rmatmul", "bmm", "dot", "outer"}


class _Affine(Traced):
    """A tensor that is affine in the parameters, with its value at the present ones."""

    def apply(
        self, name: str, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Traced:
        parts = traced(args, kwargs)
        if name in _PRODUCTS:
            factors = sum(isinstance(entry, Traced) for entry in args[:2])
            if factors > 1 or (name == "div" and isinstance(args[1], Traced)) or "weight" in kwargs:
                raise UnknownError(f"`{name}` of two things that both depend on the parameters")
        elif name not in _SUMS:
            raise UnknownError(f"`{name}`")
        value = call(function, args, kwargs, {id(part): part.value for part in parts})
        if not isinstance(value, Tensor):
            raise UnknownError(f"`{name}`, which gives no tensor")
        return _Affine(value)


def affine_in_parameters(D: nn.Module, x: Rows) -> bool:
    """Whether D's outputs at given samples are affine in its trainable parameters; False where that is not certain.

    D's own `forward` is run with stand-ins for the parameters: sums, products with constants and rearrangements pass, a
    nonlinear function of anything that depends on a trainable parameter does not. No parameter may be parametrised.

    Args:
        D: any module.
        x: samples (n, ...), perhaps with conditions.

    Example:
        >>> import torch
        >>> D = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 1))
        >>> affine_in_parameters(D, torch.zeros(2, 2))
        False
        >>> _ = D[0].requires_grad_(False)  # random features
        >>> affine_in_parameters(D, torch.zeros(2, 2))
        True
    """
    twin = clone(D).eval()
    for module in twin.modules():
        if hasattr(module, "parametrizations"):
            return False
        for name, parameter in list(module._parameters.items()):
            if parameter is not None and parameter.requires_grad:
                del module._parameters[name]
                vars(module)[name] = _Affine(parameter.detach())  # found before any parameter of that name
    try:
        found = twin(samples(x), *conditions(x))
    except Exception:  # whatever a stand-in cannot do: nothing is known then
        return False
    return isinstance(found, _Affine)
