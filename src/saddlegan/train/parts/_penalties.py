"""Penalties and constraints that bound a discriminator: R1, R2, their noise forms, gradient penalty, weight clipping.

A penalty is called with (D, batch). Every one here is D's alone (`discriminator_only`): it differentiates in samples,
never in labels, and holds the generated ones constant.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from saddlegan import checks
from saddlegan.batch import Batch
from saddlegan.modules import wide


class R1:
    """R_d(D) = (weight/2) E_x ||grad_x D(x)||^2 over real samples, a `Game(discriminator_penalty=...)`.

    The graph is kept, so the term moves D's parameters. A weight of 0 costs nothing, which a schedule may use. Where D
    gives one output for a group of rows, the slope is that of the group.

    Args:
        weight: gamma; may be changed between steps.

    References:
        Mescheder, Geiger, Nowozin, Which Training Methods for GANs do actually Converge?, ICML 2018.

    Example:
        >>> from saddlegan import Batch
        >>> D = nn.Linear(3, 1)
        >>> _ = D.weight.data.fill_(1.0)  # slope of squared length 3 everywhere
        >>> R1(2.0)(D, Batch(torch.zeros(5, 3))).item()
        3.0
    """

    discriminator_only = True
    non_negative = True

    def __init__(self, weight: float = 1.0) -> None:
        self.weight = checks.number("weight", weight)

    @property
    def differentiated(self) -> tuple[str, ...]:
        """Samples of the batch where it takes D's slope."""
        return ("x",) if self.weight else ()

    def __call__(self, D: nn.Module, batch: Batch) -> Tensor:
        if self.weight == 0.0:
            return batch.x.new_zeros(())
        return 0.5 * self.weight * _slopes(D, batch, "x").square().sum(1).mean()


class R2:
    """R_d(D) = (weight/2) E_z ||grad_x D(G(z))||^2: `R1` at generated samples, which are held constant.

    With R1 beside it the relativistic pairing loss converges locally. Join penalties by a sum of calls:
    `discriminator_penalty=lambda D, batch: r1(D, batch) + r2(D, batch)`, or by `Penalties(r1, r2)`.

    Args:
        weight: gamma; may be changed between steps.

    References:
        Mescheder, Geiger, Nowozin 2018; Huang et al., The GAN is dead; long live the GAN!, NeurIPS 2024 (R3GAN).

    Example:
        >>> from saddlegan import Batch
        >>> D = nn.Linear(3, 1)
        >>> _ = D.weight.data.fill_(1.0)
        >>> R2(2.0)(D, Batch(torch.zeros(5, 3), fake=torch.ones(5, 3))).item()
        3.0
    """

    discriminator_only = True
    non_negative = True

    def __init__(self, weight: float = 1.0) -> None:
        self.weight = checks.number("weight", weight)

    @property
    def differentiated(self) -> tuple[str, ...]:
        """Samples of the batch where it takes D's slope."""
        return ("fake",) if self.weight else ()

    def __call__(self, D: nn.Module, batch: Batch) -> Tensor:
        if self.weight == 0.0:
            return batch.fake.new_zeros(())
        return 0.5 * self.weight * _slopes(D, batch, "fake").square().sum(1).mean()


class ApproximateR1:
    """R_d(D) = weight/(2 sd^2) E (D(x + sd e) - D(x))^2, e ~ N(0, I): `R1` without double backward.

    For small `sd` its mean over e is R1, (weight/2) E ||grad D||^2, up to terms in sd^2. A difference of two passes
    runs under FSDP and in kernels that cannot be differentiated twice. One draw of e is a noisy figure of a slope; its
    expectation is what the weight speaks of. In bfloat16 take a larger `sd`: the difference must not drown in rounding.

    Args:
        weight: gamma; may be changed between steps.
        sd: length of the difference, in units of x.
        generator: source of e; torch's global one if None. Save its state with your checkpoints.

    References:
        Lin et al., Diffusion Adversarial Post-Training for One-Step Video Generation, 2025.

    Example:
        >>> from saddlegan import Batch
        >>> D = nn.Linear(3, 1)
        >>> _ = D.weight.data.fill_(1.0)
        >>> found = ApproximateR1(2.0, generator=torch.Generator().manual_seed(0))(D, Batch(torch.zeros(20000, 3)))
        >>> abs(found.item() - 3.0) < 0.1
        True
    """

    discriminator_only = True
    non_negative = True

    def __init__(self, weight: float = 1.0, *, sd: float = 0.01, generator: torch.Generator | None = None) -> None:
        self.weight = checks.number("weight", weight)
        self.sd = checks.positive("sd", sd)
        self.generator = generator

    def __call__(self, D: nn.Module, batch: Batch) -> Tensor:
        if self.weight == 0.0:
            return batch.x.new_zeros(())
        return 0.5 * self.weight * _noise_difference(D, batch.x, batch.conditions, self.sd, self.generator)


class ApproximateR2:
    """R_d(D) = weight/(2 sd^2) E (D(G(z) + sd e) - D(G(z)))^2: `R2` without double backward, see `ApproximateR1`.

    Args:
        weight: gamma; may be changed between steps.
        sd: length of the difference, in units of x.
        generator: source of e; torch's global one if None. Save its state with your checkpoints.

    References:
        See `ApproximateR1`.

    Example:
        >>> from saddlegan import Batch
        >>> D = nn.Linear(3, 1)
        >>> _ = D.weight.data.zero_()
        >>> ApproximateR2(2.0)(D, Batch(torch.zeros(5, 3), fake=torch.ones(5, 3))).item()
        0.0
    """

    discriminator_only = True
    non_negative = True

    def __init__(self, weight: float = 1.0, *, sd: float = 0.01, generator: torch.Generator | None = None) -> None:
        self.weight = checks.number("weight", weight)
        self.sd = checks.positive("sd", sd)
        self.generator = generator

    def __call__(self, D: nn.Module, batch: Batch) -> Tensor:
        if self.weight == 0.0:
            return batch.fake.new_zeros(())
        fake = batch.fake.detach()
        return 0.5 * self.weight * _noise_difference(D, fake, batch.fake_conditions, self.sd, self.generator)


class Penalties:
    """R_d = the sum of several penalties, such as R1 and R2.

    Args:
        parts: penalties, each a callable (D, batch) -> scalar.

    Example:
        >>> from saddlegan import Batch
        >>> D = nn.Linear(3, 1)
        >>> _ = D.weight.data.fill_(1.0)
        >>> Penalties(R1(2.0), R2(4.0))(D, Batch(torch.zeros(5, 3), fake=torch.ones(5, 3))).item()
        9.0
    """

    def __init__(self, *parts: Any) -> None:
        self.parts = parts

    @property
    def discriminator_only(self) -> bool:
        """Whether every part is D's alone."""
        return all(getattr(part, "discriminator_only", False) for part in self.parts)

    @property
    def non_negative(self) -> bool:
        """Whether every part is at least 0 whatever D is, so that leaving it out can only raise V."""
        return all(getattr(part, "non_negative", False) for part in self.parts)

    @property
    def differentiated(self) -> tuple[str, ...]:
        """Samples of the batch where a part takes D's slope."""
        return tuple(name for part in self.parts for name in getattr(part, "differentiated", ()))

    def __call__(self, D: nn.Module, batch: Batch) -> Tensor:
        return torch.stack([part(D, batch) for part in self.parts]).sum()


class GradientPenalty:
    """R_d(D) = weight * E (||grad_x D(x^)||_2 - target)^2 at points x^ between real and generated samples.

    x^ = e x + (1 - e) G(z) with e uniform on [0, 1], one e per sample (per group where `Game(rows_in_groups=...)`): the
    one-norm is taken per sample, never over the batch. Ties D to be 1-Lipschitz where it matters, for
    `objective="wasserstein"`. Conditions are those of the real samples, and are not mixed: a label between two labels
    is none.

    Args:
        weight: 10 in the paper; may be changed between steps.
        target: the slope that D is drawn to.
        generator: source of the e; torch's global one if None. Save its state with your checkpoints.

    References:
        Gulrajani et al., Improved Training of Wasserstein GANs, NeurIPS 2017, algorithm 1.

    Example:
        >>> from saddlegan import Batch
        >>> D = nn.Linear(4, 1)
        >>> _ = D.weight.data.fill_(0.5)  # slope 1 everywhere
        >>> GradientPenalty(10.0)(D, Batch(torch.zeros(5, 4), fake=torch.ones(5, 4))).item()
        0.0
    """

    discriminator_only = True
    non_negative = True

    def __init__(self, weight: float = 10.0, *, target: float = 1.0, generator: torch.Generator | None = None) -> None:
        self.weight = checks.number("weight", weight)
        self.target = checks.number("target", target)
        self.generator = generator

    def __call__(self, D: nn.Module, batch: Batch) -> Tensor:
        x, fake = batch.x, batch.fake
        if self.weight == 0.0:
            return x.new_zeros(())
        n, groups = min(len(x), len(fake)), batch.rows_in_groups
        source = x.device if self.generator is None else self.generator.device
        shape = (n // groups, *[1] * (x.ndim - 1))
        mix = torch.rand(shape, generator=self.generator, dtype=x.dtype, device=source).to(x.device)
        mix = mix if groups == 1 else mix.repeat_interleave(groups, dim=0)
        between = torch.lerp(fake[:n].detach(), x[:n], mix)
        slopes = _input_gradient(D, between, tuple(entry[:n] for entry in batch.conditions)).norm(dim=1)
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
            if parameter.requires_grad:  # a frozen layer stands still
                parameter.clamp_(-self.bound, self.bound)


def _slopes(D: nn.Module, batch: Batch, name: str) -> Tensor:
    """D's slopes at the batch's samples of that name, from the value's own pass where the game kept it."""
    kept = batch.passes.get(name)
    if kept is not None and kept[0] is D:
        _, x, raw = kept
        with torch.enable_grad():
            return _slope_of(raw, x)
    given = batch.conditions if name == "x" else batch.fake_conditions
    return _input_gradient(D, batch.x if name == "x" else batch.fake, given)


def _input_gradient(D: nn.Module, x: Tensor, conditions: tuple[Any, ...]) -> Tensor:
    """grad_x D, flattened to (outputs, d) with one output a row or a group of rows, and a graph to D's parameters."""
    with torch.enable_grad():
        x = x.detach().requires_grad_(True)
        return _slope_of(D(x, *conditions), x)


def _slope_of(raw: Tensor, x: Tensor) -> Tensor:
    (gradient,) = torch.autograd.grad(raw.sum(), x, create_graph=True)
    return wide(gradient.reshape(len(raw), -1))


def _noise_difference(
    D: nn.Module, x: Tensor, conditions: tuple[Any, ...], sd: float, generator: torch.Generator | None
) -> Tensor:
    """E (D(x + sd e) - D(x))^2 / sd^2, one number a row: patch maps are summed, as their input gradient is."""
    source = x.device if generator is None else generator.device
    noise = torch.randn(x.shape, generator=generator, dtype=x.dtype, device=source).to(x.device)
    change = wide(D(torch.add(x, noise, alpha=sd), *conditions)) - wide(D(x, *conditions))
    return change.flatten(1).sum(1).square().mean() / sd**2 if change.ndim > 1 else change.square().mean() / sd**2
