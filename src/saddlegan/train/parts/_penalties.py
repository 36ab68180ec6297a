"""Penalties and constraints that bound a discriminator: R1, gradient penalty, and weight clipping."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from saddlegan import checks


class R1:
    """R_d(D) = (weight/2) E_x ||grad_x D(x)||^2 over real samples, a `Game(discriminator_penalty=...)`.

    The graph is kept, so the term moves D's parameters. A weight of 0 costs nothing, which a schedule may use.

    Args:
        weight: gamma; may be changed between steps.

    References:
        Mescheder, Geiger, Nowozin, Which Training Methods for GANs do actually Converge?, ICML 2018.

    Example:
        >>> D = nn.Linear(3, 1)
        >>> _ = D.weight.data.fill_(1.0)  # slope of squared length 3 everywhere
        >>> R1(2.0)(D, torch.zeros(5, 3), torch.zeros(5, 3)).item()
        3.0
    """

    def __init__(self, weight: float = 1.0) -> None:
        self.weight = checks.number("weight", weight)

    def __call__(self, D: nn.Module, x: Tensor, fake: Tensor) -> Tensor:
        del fake
        if self.weight == 0.0:
            return x.new_zeros(())
        return 0.5 * self.weight * _input_gradient(D, x).square().sum(1).mean()


class GradientPenalty:
    """R_d(D) = weight * E (||grad_x D(x^)||_2 - target)^2 at points x^ between real and generated samples.

    x^ = e x + (1 - e) G(z) with e uniform on [0, 1], one e per sample: the one-norm is taken per sample, never over the
    batch. Ties D to be 1-Lipschitz where it matters, for `objective="wasserstein"`.

    Args:
        weight: 10 in the paper; may be changed between steps.
        target: the slope that D is drawn to.
        generator: source of the e; torch's global one if None. Save its state with your checkpoints.

    References:
        Gulrajani et al., Improved Training of Wasserstein GANs, NeurIPS 2017, algorithm 1.

    Example:
        >>> D = nn.Linear(4, 1)
        >>> _ = D.weight.data.fill_(0.5)  # slope 1 everywhere
        >>> GradientPenalty(10.0)(D, torch.zeros(5, 4), torch.ones(5, 4)).item()
        0.0
    """

    def __init__(self, weight: float = 10.0, *, target: float = 1.0, generator: torch.Generator | None = None) -> None:
        self.weight = checks.number("weight", weight)
        self.target = checks.number("target", target)
        self.generator = generator

    def __call__(self, D: nn.Module, x: Tensor, fake: Tensor) -> Tensor:
        n = min(len(x), len(fake))
        if self.weight == 0.0:
            return x.new_zeros(())
        source = x.device if self.generator is None else self.generator.device
        mix = torch.rand(n, *[1] * (x.ndim - 1), generator=self.generator, dtype=x.dtype, device=source).to(x.device)
        slopes = _input_gradient(D, torch.lerp(fake[:n].detach(), x[:n], mix)).norm(dim=1)
        return self.weight * (slopes - self.target).square().mean()


class WeightClipping:
    """Clip every parameter of D to [-bound, bound]: a rule's `constraint`, and the first Wasserstein GAN's.

    Args:
        bound: largest magnitude, 0.01 in the paper.

    References:
        Arjovsky, Chintala, Bottou, Wasserstein GAN, ICML 2017, algorithm 1.

    Example:
        >>> D = nn.Linear(2, 1)
        >>> WeightClipping(0.01)(D)
        >>> bool(D.weight.abs().max() <= 0.01)
        True
    """

    def __init__(self, bound: float = 0.01) -> None:
        self.bound = checks.number("bound", bound, least=1e-12)

    @torch.no_grad()
    def __call__(self, D: nn.Module) -> None:
        for parameter in D.parameters():
            parameter.clamp_(-self.bound, self.bound)


def _input_gradient(D: nn.Module, x: Tensor) -> Tensor:
    """grad_x D(x_i), flattened (n, d), with a graph to D's parameters."""
    with torch.enable_grad():
        x = x.detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad(D(x).sum(), x, create_graph=True)
    return gradient.flatten(1)
