"""Lipschitz constants from exact spectral norms of the layers: never too small."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

from saddlegan.certify.upper._functions import Affine, affine, pointwise
from saddlegan.certify.upper._traced import MOVES, Traced, UnknownError, call, check_move, check_rows, run, traced
from saddlegan.errors import InputError
from saddlegan.modules import clone, like

DENSE = 2048  # a layer's matrix is written out where its smaller side is at most so long
ROUNDING = 1e-9  # relative; eigenvalues of double matrices of this size are off by less


class _Slope(Traced):
    """A value for two samples, with a bound on its change by the change of the sample, both Euclidean.

    Args:
        value: (2, ...).
        slope: the bound.
        norms: nominal norms of weights, by identity, where a class is asked for and not one member; else None.
        free: identities of trainable weights that no norm bounds.
    """

    def __init__(
        self, value: Tensor, slope: float, norms: Mapping[int, float], free: frozenset[int] = frozenset()
    ) -> None:
        super().__init__(value)
        self.slope, self.norms, self.free = slope, norms, free

    def _with(self, value: Tensor, slope: float) -> _Slope:
        return _Slope(value, slope, self.norms, self.free)

    def apply(
        self, name: str, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Traced:
        parts: list[Any] = traced(args, kwargs)
        value = call(function, args, kwargs, {id(part): part.value for part in parts})
        if not isinstance(value, Tensor) or len(value) != len(self.value):
            raise UnknownError(f"`{name}`, which does not keep rows")
        if len(parts) > 1:
            if name in ("add", "sub") and all(part.value.shape == value.shape for part in parts):
                return self._with(value, sum(part.slope for part in parts))
            if name == "cat" and kwargs.get("dim", args[1] if len(args) > 1 else 0) not in (0, -value.ndim):
                return self._with(value, math.sqrt(sum(part.slope**2 for part in parts)))
            raise UnknownError(f"`{name}` of two things that depend on the input")
        act = pointwise(name, args, kwargs)
        if act is not None:
            return self._with(value, self.slope * max(abs(slope) for slope in act.slopes))
        at = id(self)
        if name in MOVES:
            check_move(lambda t: call(function, args, kwargs, {at: t}), self.value, name)
            return self._with(value, self.slope)
        if name in ("add", "sub", "cat", "neg"):
            if (name == "sub" and kwargs.get("alpha", 1) != 1) or (name == "add" and kwargs.get("alpha", 1) != 1):
                raise UnknownError(f"`{name}` with alpha")
            if value.shape != self.value.shape and name != "cat":
                raise UnknownError(f"`{name}` that spreads the input")
            return self._with(value, self.slope)
        if name.startswith("max_pool"):
            return self._with(value, self.slope * _pooled(name, args, kwargs))
        known = affine(name, function, args, kwargs, at)
        if known is None:
            raise UnknownError(f"`{name}`")
        check_rows(known.linear, self.value, name)
        return self._with(value, self.slope * self._norm(known))

    def _norm(self, known: Affine) -> float:
        weights = [entry for entry in known.args[1:2] if isinstance(entry, Tensor)]
        if known.name in ("matmul", "mul"):
            weights = [entry for entry in known.args if isinstance(entry, Tensor)]
        if any(id(weight) in self.free for weight in weights) or (known.name == "batch_norm" and self.free):
            raise UnknownError(f"`{known.name}` with trainable weights that nothing bounds")
        nominal = next((self.norms[id(weight)] for weight in weights if id(weight) in self.norms), None)
        if nominal is not None:
            if known.name == "linear":
                return nominal
            if known.name in ("conv1d", "conv2d", "conv3d"):
                return nominal * _overlap(known)
            raise UnknownError(f"the norm of a normalised `{known.name}`")
        exact = _dense_norm(known.linear, self.value.shape[1:], self.value)
        if exact is not None:
            return exact
        if known.name in ("conv1d", "conv2d", "conv3d"):
            weight = known.args[1].double()
            groups = int(known.kwargs.get("groups", known.args[6] if len(known.args) > 6 else 1))
            norms = [float(torch.linalg.matrix_norm(part.flatten(1), 2)) for part in weight.chunk(groups)]
            return max(norms) * (1.0 + ROUNDING) * _overlap(known)
        raise UnknownError(f"a `{known.name}` too large to write out")


def _dense_norm(linear: Callable[[Tensor], Tensor], shape: torch.Size, reference: Tensor) -> float | None:
    """Largest singular value, from the smaller Gram matrix; None where that is too large."""
    n_in = math.prod(shape)
    if n_in == 0:
        return 0.0
    with torch.enable_grad():
        probe = reference.new_zeros(1, *shape).requires_grad_(True)
        out = linear(probe)
        n_out = out.numel()
        if min(n_in, n_out) > DENSE:
            return None
        if n_in <= n_out:
            rows = _rows_of(linear, n_in, shape, reference)
        else:  # the transpose, by the gradient
            eye = torch.eye(n_out).to(out).reshape(n_out, *out.shape)
            (rows,) = torch.autograd.grad(out, probe, eye, is_grads_batched=True)
            rows = rows.reshape(n_out, n_in)
    gram = rows @ rows.T
    top = float(torch.linalg.eigvalsh(gram)[-1])
    return math.sqrt(max(top, 0.0) + ROUNDING * float(gram.diagonal().sum()))


def _rows_of(linear: Callable[[Tensor], Tensor], n: int, shape: torch.Size, reference: Tensor) -> Tensor:
    blocks = [linear(block.reshape(-1, *shape)) for block in torch.eye(n).to(reference).split(256)]
    return torch.cat([block.detach().reshape(len(block), -1) for block in blocks])


def _overlap(known: Affine) -> float:
    """Root of the number of patches that one input entry lies in: ||conv|| <= this times ||matrix of the weights||."""
    weight, axes = known.args[1], known.args[1].ndim - 2
    strides = _per_axis(known.kwargs.get("stride", known.args[3] if len(known.args) > 3 else 1), axes)
    dilations = _per_axis(known.kwargs.get("dilation", known.args[5] if len(known.args) > 5 else 1), axes)
    count = 1
    for size, stride, dilation in zip(weight.shape[2:], strides, dilations, strict=True):
        count *= math.ceil(size / stride) if dilation == 1 else size
    return math.sqrt(count)


def _pooled(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> float:
    """Root of the number of windows that one entry of a max-pooling lies in."""
    axes = int(name[8]) if name[8:9].isdigit() else 0
    if not axes:
        raise UnknownError(f"`{name}`")
    sizes = _per_axis(kwargs.get("kernel_size", args[1] if len(args) > 1 else 1), axes)
    stride = kwargs.get("stride", args[2] if len(args) > 2 else None)
    strides = sizes if stride is None or stride == () or stride == [] else _per_axis(stride, axes)
    if any(d != 1 for d in _per_axis(kwargs.get("dilation", args[4] if len(args) > 4 else 1), axes)):
        raise UnknownError("a dilated max-pooling")
    return math.sqrt(math.prod(math.ceil(k / s) for k, s in zip(sizes, strides, strict=True)))


def _per_axis(entry: Any, axes: int) -> tuple[int, ...]:
    if isinstance(entry, str):
        raise UnknownError(f"the setting {entry!r}")
    return tuple(int(part) for part in entry) if isinstance(entry, (tuple, list)) else (int(entry),) * axes


def lipschitz(module: nn.Module, shape: tuple[int, ...]) -> float:
    """Bound the Lipschitz constant of a module in evaluation mode: |D(x) - D(y)| <= L ||x - y||, Euclidean.

    The product of the layers' exact spectral norms (dense matrices; convolutions written out where they are small
    enough, by their overlap elsewhere) and of the activations' largest slopes. It is never too small, and for deep
    networks it can be much too large. The module's own `forward` is run, so that any network made of linear maps,
    convolutions, usual activations, batch norm at rest, pooling, sums and reshaping is understood.

    Args:
        module: any module.
        shape: of one sample, without the axis of rows.

    Returns:
        L, or infinity where the module does something that no bound is known of.

    Raises:
        InputError: `shape` is empty or not positive.

    References:
        Theory 4.5; Szegedy et al., ICLR 2014.

    Example:
        >>> D = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU(), nn.Linear(2, 1, bias=False))
        >>> with torch.no_grad():
        ...     _ = D[0].weight.copy_(torch.diag(torch.tensor([3.0, 1.0])))
        ...     _ = D[2].weight.copy_(torch.tensor([[0.6, 0.8]]))
        >>> round(lipschitz(D, (2,)), 6)
        3.0
        >>> lipschitz(nn.Softmax(dim=1), (2,))
        inf
    """
    if not shape or any(size < 1 for size in shape):
        raise InputError(f"`shape` must be the shape of one sample, got {shape}")
    twin = clone(module).eval().double()
    try:
        return _run(twin, shape, {}, frozenset())
    except UnknownError:
        return math.inf


def nominal_lipschitz(module: nn.Module, shape: tuple[int, ...]) -> float:
    """Bound the Lipschitz constant of a module's whole *class*: all values that its trainable weights may take.

    Finite only where every trainable weight that multiplies is normalised: torch's spectral norm (taken at its word,
    norm 1, which a lagging power iteration may exceed) or its orthogonal parametrisation.
    """
    twin = clone(module).eval().double()
    with parametrize.cached():
        norms: dict[int, float] = {}
        for part in twin.modules():
            if parametrize.is_parametrized(part, "weight"):
                norm = _nominal(part)
                if norm is not None:
                    norms[id(part.weight)] = norm
        free = frozenset(id(p) for p in twin.parameters() if p.requires_grad)
        free |= {
            id(part.weight)
            for part in twin.modules()
            if parametrize.is_parametrized(part, "weight") and id(part.weight) not in norms
        }
        try:
            return _run(twin, shape, norms, free)
        except UnknownError:
            return math.inf


def _run(twin: nn.Module, shape: tuple[int, ...], norms: Mapping[int, float], free: frozenset[int]) -> float:
    probe = torch.zeros(2, *shape, dtype=torch.float64, device=like(twin).device)
    found: Any = run(twin, _Slope(probe, 1.0, norms, free))
    return float(found.slope)


def _nominal(part: Any) -> float | None:
    """Spectral norm that a parametrised weight is meant to have, or None."""
    norm: float | None = None
    for step in part.parametrizations.weight:
        gain = getattr(step, "gain", None)
        if isinstance(step, (parametrizations._SpectralNorm, parametrizations._Orthogonal)):
            norm = 1.0
        elif isinstance(gain, float) and norm is not None and not list(step.parameters()):
            norm *= abs(gain)
        else:
            return None
    return norm
