"""A mixture of generators: one for each label, drawn with the labels' shares."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from saddlegan import checks
from saddlegan.errors import InputError


class MixtureGenerator(nn.Module):
    """G(z) = G_y(z_2, ..., z_k) for the label y in whose share of (0, 1) Phi(z_1) lies, z ~ N(0, I).

    Args:
        generators: one for each label; each knows its own `n_latent`, and takes no more latents than it needs.
        priors: share of each label (c,), at least 0; they are made to sum to one.

    Raises:
        InputError: no share for each generator, or none above 0.

    References:
        Theory 1.2, one model for each label.

    Example:
        >>> from saddlegan.networks import PointGenerator
        >>> G = MixtureGenerator([PointGenerator(torch.zeros(1, 2)), PointGenerator(torch.ones(1, 2))], [0.5, 0.5])
        >>> G(torch.tensor([[-1.0, 0.0], [1.0, 0.0]])).tolist()
        [[0.0, 0.0], [1.0, 1.0]]
    """

    priors: Tensor

    def __init__(self, generators: Sequence[nn.Module], priors: Tensor | Sequence[float]) -> None:
        super().__init__()
        entries = priors.tolist() if isinstance(priors, Tensor) else priors
        shares = torch.tensor([checks.number("priors", share) for share in entries], dtype=torch.float64)
        if len(shares) != len(generators) or not float(shares.sum()) > 0:
            raise InputError(
                f"`priors` must be a share for each of {len(generators)} generators, got {shares.tolist()}"
            )
        self.generators = nn.ModuleList(generators)
        self.register_buffer("priors", shares / shares.sum())

    @property
    def n_latent(self) -> int:
        """Length of a latent vector."""
        each: list[Any] = list(self.generators)
        return 1 + max(int(G.n_latent) for G in each)

    def labels(self, z: Tensor) -> Tensor:
        """Place of each latent's label (n,)."""
        share = torch.special.ndtr(z[:, 0].double()).contiguous()
        return torch.searchsorted(self.priors.cumsum(0), share, right=True).clamp(max=len(self.generators) - 1)

    def forward(self, z: Tensor) -> Tensor:
        places = self.labels(z)
        order = places.argsort(stable=True)
        counts = places.bincount(minlength=len(self.generators)).tolist()
        parts: list[Tensor] = []
        each: list[Any] = list(self.generators)
        for G, rows in zip(each, order.split(counts), strict=True):
            if len(rows):
                parts.append(G(z[rows, 1 : 1 + G.n_latent]))
        return torch.cat(parts)[order.argsort()]

    def moments(self) -> tuple[Tensor, Tensor]:
        """Population mean (d,) and factor F with Cov G(z) = F^T F: spread within the labels, then between them."""
        each: list[Any] = list(self.generators)
        found = [G.moments() for G in each]
        means = torch.stack([mean for mean, _ in found])
        roots = self.priors.to(means).sqrt()
        mean = roots.square() @ means
        within = [root * factor for root, (_, factor) in zip(roots, found, strict=True)]
        return mean, torch.cat([*within, roots[:, None] * (means - mean)])
