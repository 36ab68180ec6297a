"""Instance noise: a discriminator that sees everything through a blur."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from saddlegan import checks
from saddlegan.errors import InputError


class InstanceNoise(nn.Module):
    """D(x + sd * e), e ~ N(0, I) drawn afresh for each pass, on real and generated samples alike.

    It gives both distributions overlapping supports; let `sd` shrink over training by setting it between steps. In
    evaluation mode, and at sd = 0, it is D itself. Conditions, D(x, *conditions), are handed on as they are: a blurred
    label would be no label.

    Args:
        D: the discriminator.
        sd: standard deviation of the noise, in the units of x; may be changed between steps.
        generators: sources of the noise, one for each equal part of the batch (one for an ordinary run, one per replica
            for `Replicas`); torch's global one if empty. Save their states with your checkpoints.
        share: this process's number and how many there are, where several with the same generators share a batch:
            noise is drawn for the rows of all, and each takes its own.

    References:
        Sonderby et al., Amortised MAP Inference for Image Super-resolution, ICLR 2017.

    Example:
        >>> noisy = InstanceNoise(nn.Linear(2, 1), sd=0.1)
        >>> noisy(torch.zeros(5, 2)).shape
        torch.Size([5, 1])
    """

    def __init__(
        self,
        D: nn.Module,
        *,
        sd: float = 0.1,
        generators: tuple[torch.Generator, ...] = (),
        share: tuple[int, int] = (0, 1),
    ) -> None:
        super().__init__()
        self.D = D
        self.sd = checks.number("sd", sd)
        self.generators = generators
        rank, size = share
        self.share = (checks.count("share", rank, least=0), checks.count("share", size))

    def forward(self, x: Tensor, *conditions: Tensor) -> Tensor:
        """Return D of the blurred samples."""
        if not self.training or self.sd == 0.0:
            return self.D(x, *conditions)
        return self.D(torch.add(x, self._noise(x), alpha=self.sd), *conditions)

    def _noise(self, x: Tensor) -> Tensor:
        if not self.generators:
            return torch.randn_like(x)
        parts = len(self.generators)
        if len(x) % parts:
            raise InputError(f"`x` must have rows in a multiple of {parts}, one part per generator, got {len(x)}")
        rows, (rank, size) = len(x) // parts, self.share
        shape = (rows * size, *x.shape[1:])
        drawn = (torch.randn(shape, generator=g, dtype=x.dtype, device=g.device) for g in self.generators)
        return torch.cat([noise[rank * rows : (rank + 1) * rows].to(x.device) for noise in drawn])
