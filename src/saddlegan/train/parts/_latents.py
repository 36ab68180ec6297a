"""Latents beyond the standard Gaussian."""

from __future__ import annotations

import torch
from torch import Tensor

from saddlegan import checks
from saddlegan.errors import InputError


class MixedLatent:
    """z = (b, e): `bits` fair signs b in {-1, +1} and `gaussians` standard normal numbers e, independent.

    A continuous generator of connected latents has a connected image: it must pay for separate modes with samples on
    the bridges between them. Signs disconnect the latents, so modes can be apart without bridges.

    Args:
        bits: number of signs.
        gaussians: number of Gaussian coordinates.
        dtype: of the latents.

    Raises:
        InputError: a negative number, or none at all.

    Example:
        >>> MixedLatent(8, 2)(5, torch.Generator().manual_seed(0)).shape
        torch.Size([5, 10])
    """

    def __init__(self, bits: int = 8, gaussians: int = 2, *, dtype: torch.dtype | None = None) -> None:
        if bits + gaussians == 0:
            raise InputError("`bits` and `gaussians` are both 0; a latent needs at least one coordinate")
        self.bits = checks.count("bits", bits, least=0)
        self.gaussians = checks.count("gaussians", gaussians, least=0)
        self.dtype = dtype

    @property
    def size(self) -> int:
        """Length of a latent."""
        return self.bits + self.gaussians

    def __call__(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw n latents (n, size) on the source's device."""
        device = None if generator is None else generator.device
        dtype = self.dtype or torch.get_default_dtype()
        signs = torch.randint(2, (n, self.bits), generator=generator, device=device).to(dtype).mul_(2).sub_(1)
        normal = torch.randn(n, self.gaussians, generator=generator, dtype=dtype, device=device)
        return torch.cat([signs, normal], dim=1)
