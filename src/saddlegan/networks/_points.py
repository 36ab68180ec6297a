"""A generator without a form: a table of points, drawn from by its latent."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class PointGenerator(nn.Module):
    """G(z) = g_i for i = floor(m Phi(z)), z ~ N(0, 1): each of m trainable points with probability 1/m.

    In one dimension, points in ascending order make it the quantile function of the generated distribution.

    Args:
        points: (m, d).

    References:
        Theory 1.4, free points.

    Example:
        >>> PointGenerator(torch.tensor([[0.0], [1.0]]))(torch.tensor([[-1.0], [2.0]])).tolist()
        [[0.0], [1.0]]
    """

    def __init__(self, points: Tensor) -> None:
        super().__init__()
        self.points = nn.Parameter(points)

    @property
    def n_latent(self) -> int:
        """Length of a latent vector."""
        return 1

    def forward(self, z: Tensor) -> Tensor:
        share = torch.special.ndtr(z[:, 0].double())
        m = self.points.shape[0]
        return self.points[(share * m).long().clamp(0, m - 1)]

    def moments(self) -> tuple[Tensor, Tensor]:
        """Population mean (d,) and factor F (m, d) with Cov G(z) = F^T F."""
        mean = self.points.mean(0)
        return mean, (self.points - mean) / self.points.shape[0] ** 0.5
