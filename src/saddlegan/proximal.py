"""The proximal value (3): V(G, D') less lambda / 2 times a squared distance between discriminators."""

from __future__ import annotations

import warnings
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from saddlegan.batch import Rows, conditions, read, samples
from saddlegan.errors import InputError
from saddlegan.game import Game
from saddlegan.networks import TwoLayerDiscriminator

Norm = Literal["sobolev", "l2", "parameters"]

_PIECEWISE_LINEAR = (nn.ReLU, nn.LeakyReLU, nn.PReLU, nn.RReLU, nn.ReLU6, nn.Hardtanh)
_PIECEWISE_LINEAR += (nn.Hardsigmoid, nn.Hardshrink, nn.Softshrink, nn.Threshold)


def warn_if_piecewise_linear(D: nn.Module, norm: Norm) -> None:
    """Warn where the Sobolev distance cannot see part of D: a piecewise linear activation.

    The input gradient of a piecewise linear D does not change with its hidden biases (almost everywhere), so that the
    distance has no gradient in them and the inner maximum of equation (3) is searched with a wrong slope. Activations
    that are called as functions inside `forward` are not seen.

    Args:
        D: the discriminator.
        norm: the distance in use; only "sobolev" is affected.

    Example:
        >>> import warnings
        >>> with warnings.catch_warnings(record=True) as caught:
        ...     warnings.simplefilter("always")
        ...     warn_if_piecewise_linear(nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 1)), "sobolev")
        >>> "softplus" in str(caught[0].message)
        True
    """
    if norm != "sobolev":
        return
    found = piecewise_linear_part(D)
    if found is not None:
        warnings.warn(
            f"`D` contains {found}, which is piecewise linear: the Sobolev distance has no "
            "gradient in the biases before it. Use a smooth activation (softplus with beta=4, SiLU, tanh), or "
            'norm="l2" or norm="parameters".',
            UserWarning,
            stacklevel=3,
        )


def piecewise_linear_part(D: nn.Module) -> str | None:
    """Name of the first piecewise linear activation among D's modules, or None."""
    for module in D.modules():
        relu = isinstance(module, TwoLayerDiscriminator) and module.activation == "relu"
        if relu or isinstance(module, _PIECEWISE_LINEAR):
            return type(module).__name__
    return None


def squared_distance(D_new: nn.Module, D_old: nn.Module, x: Rows, norm: Norm) -> Tensor:
    """||D_new - D_old||^2 of equation (3), differentiable in D_new's parameters.

    "sobolev" is E ||grad_x D_new(x) - grad_x D_old(x)||^2 with the graph kept, so that the term moves the parameters;
    "l2" is E |D_new(x) - D_old(x)|^2; "parameters" is the squared distance of the weights (cheap, not invariant).

    Args:
        D_new: the discriminator that moves.
        D_old: the centre; a constant.
        x: samples (n, ...) over which the expectation runs, or (x, *conditions): conditions are handed on, never
            differentiated.
        norm: which distance.

    Returns:
        Scalar tensor.

    Raises:
        InputError: unknown norm.

    References:
        [FO20] definition of proximal equilibria.
    """
    return Centre(D_old, x, norm).distance(D_new)


class Centre:
    """The centre of the proximal term over fixed samples: what the distance needs of it is computed once.

    Args:
        D: the centre, a constant.
        x: samples (n, ...), or (x, *conditions).
        norm: which distance; see `squared_distance`.

    Raises:
        InputError: unknown norm.
    """

    def __init__(self, D: nn.Module, x: Rows, norm: Norm) -> None:
        if norm not in get_args(Norm):
            raise InputError(f"`norm` must be one of {', '.join(get_args(Norm))}, got {norm!r}")
        self.D, self.norm = D, norm
        if norm == "parameters":
            return
        rows = read(x)
        self.points, self.given = samples(rows), conditions(rows)
        if norm == "l2":
            with torch.no_grad():
                self.here = D(self.points, *self.given)
        else:
            self.here = _input_gradient(D, self.points, self.given, create_graph=False)

    def distance(self, D: nn.Module) -> Tensor:
        """||D - centre||^2, differentiable in D's parameters."""
        if self.norm == "parameters":
            pairs = zip(D.parameters(), self.D.parameters(), strict=True)
            return torch.stack([(new - old.detach()).square().sum() for new, old in pairs]).sum()
        if self.norm == "l2":
            return (D(self.points, *self.given) - self.here).square().mean()
        # the graph of the gradient itself: it is D's parameters that the distance must move
        moved = _input_gradient(D, self.points, self.given, create_graph=torch.is_grad_enabled())
        return (moved - self.here).flatten(1).square().sum(1).mean()


def _input_gradient(D: nn.Module, x: Tensor, given: tuple[Tensor, ...], *, create_graph: bool) -> Tensor:
    with torch.enable_grad():
        x = x.detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad(D(x, *given).sum(), x, create_graph=create_graph)
    return gradient


def proximal_value(game: Game, D: nn.Module, x: Rows, z: Rows, *, lam: float, norm: Norm) -> Tensor:
    """V(G, D') - (lam/2) ||D' - D||^2 of equation (3) at one D', the game's discriminator.

    Args:
        game: the pair (G, D').
        D: the centre of the proximal term, a constant.
        x: real samples.
        z: latents.
        lam: weight; 0 leaves the value alone.
        norm: the distance.

    Example:
        >>> from saddlegan.networks import LinearGenerator, TwoLayerDiscriminator
        >>> game = Game(LinearGenerator(2, 3), TwoLayerDiscriminator(3, 4), objective="wasserstein", latent=2)
        >>> proximal_value(game, game.D, torch.ones(5, 3), torch.zeros(5, 2), lam=1.0, norm="sobolev").item()
        0.0
    """
    value = game.value(x, z)
    return value if lam == 0 else value - 0.5 * lam * squared_distance(game.D, D, x, norm)
