"""Random Fourier features, of one scale or of several: what makes a network on points local."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from saddlegan import checks
from saddlegan.errors import InputError


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


class MultiscaleFeatures(nn.Module):
    """phi(x) = (x, sin(x b_j) r_j, cos(x b_j) r_j) with frozen b_j of lengths from `low` to `high`, r_j = low / |b_j|.

    Directions are uniform, lengths log-uniform (one in each of equal shares), so that details of every size between
    1/high and 1/low have features of their own. No feature is steeper than a frequency of length `low`: a network
    learns coarse shapes first and fine ones where the data hold them, and the range may be chosen generously. Features
    of one scale (`FourierFeatures`) see nothing of much coarser shapes, and lose all modes where that scale is off.

    Args:
        n_in: length of x.
        n_frequencies: number of frequencies; there are twice as many features, and x itself.
        low: shortest frequency, in inverse units of x; 1 for data of unit variance.
        high: longest frequency, about pi over the smallest distance that is to be told apart, or more.
        generator: source of the frequencies; torch's global one if None.

    Raises:
        InputError: a size below 1, or not 0 < low < high.

    References:
        Tancik et al., Fourier Features Let Networks Learn High Frequency Functions in Low Dimensional Domains,
        NeurIPS 2020, compare Gaussian and log-uniform frequencies.

    Example:
        >>> phi = MultiscaleFeatures(2, 8, low=1.0, high=16.0)
        >>> phi(torch.zeros(5, 2)).shape
        torch.Size([5, 18])
        >>> lengths = phi.frequencies.norm(dim=0)
        >>> bool(1.0 <= lengths.min() < lengths.max() <= 16.0)
        True
    """

    def __init__(
        self, n_in: int, n_frequencies: int = 64, *, low: float, high: float, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        n_in, n_frequencies = checks.count("n_in", n_in), checks.count("n_frequencies", n_frequencies)
        low, high = checks.positive("low", low), checks.positive("high", high)
        if low >= high:
            raise InputError(f"`low` must be below `high`, got {low} and {high}")
        self.n_in, self.n_out, self.low, self.high = n_in, n_in + 2 * n_frequencies, low, high
        device = None if generator is None else generator.device
        direction = nn.functional.normalize(torch.randn(n_in, n_frequencies, generator=generator, device=device), dim=0)
        share = torch.arange(n_frequencies, device=device)
        share = (share + torch.rand(n_frequencies, generator=generator, device=device)) / n_frequencies
        length = low * (high / low) ** share
        # frozen parameters, not buffers: replicas keep parameters apart
        self.frequencies = nn.Parameter(direction * length, requires_grad=False)
        self.sizes = nn.Parameter(low / length, requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        phase = x @ self.frequencies
        return torch.cat([x, phase.sin() * self.sizes, phase.cos() * self.sizes], dim=-1)
