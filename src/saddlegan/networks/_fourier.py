"""Random Fourier features: what makes a network on points local."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from saddlegan import checks


class FourierFeatures(nn.Module):
    """phi(x) = (sin(x B), cos(x B)) with frozen frequencies B ~ N(0, scale^2).

    A network over these features is a nearly shift-invariant kernel machine of width about 1/scale: its values and
    slopes at one place say little about places further away than that.

    Args:
        n_in: length of x.
        n_frequencies: number of frequencies; there are twice as many features.
        scale: standard deviation of the frequencies, in inverse units of x.
        generator: source of the frequencies; torch's global one if None.

    Raises:
        InputError: a size below 1, or a scale that is not positive.

    References:
        Rahimi, Recht, Random Features for Large-Scale Kernel Machines, NeurIPS 2007.

    Example:
        >>> FourierFeatures(2, 8, scale=3.0)(torch.zeros(5, 2)).sum().item()  # sines 0, cosines 1
        40.0
    """

    def __init__(
        self, n_in: int, n_frequencies: int = 64, *, scale: float, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        n_in, n_frequencies = checks.count("n_in", n_in), checks.count("n_frequencies", n_frequencies)
        scale = checks.positive("scale", scale)
        self.n_in, self.n_out, self.scale = n_in, 2 * n_frequencies, scale
        # a frozen parameter, not a buffer: replicas keep parameters apart
        device = None if generator is None else generator.device
        frequencies = scale * torch.randn(n_in, n_frequencies, generator=generator, device=device)
        self.frequencies = nn.Parameter(frequencies, requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        phase = x @ self.frequencies
        return torch.cat([phase.sin(), phase.cos()], dim=-1)
