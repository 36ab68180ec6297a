"""Pairs with one planted fault each, and a healthy one: what `certify.diagnose` must name."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from saddlegan import Game


class _Modes(nn.Module):
    """G(z): a mixture of blobs on a circle, the first latent choosing the blob."""

    def __init__(self, modes: int, kept: int, width: float = 0.05) -> None:
        super().__init__()
        angle = 2 * math.pi * torch.arange(modes) / modes
        self.centres = nn.Parameter(torch.stack([angle.cos(), angle.sin()], 1)[:kept])
        self.width = nn.Parameter(torch.tensor(width))

    def forward(self, z: Tensor) -> Tensor:
        share = torch.special.ndtr(z[:, 0])
        mode = (share * len(self.centres)).long().clamp_max(len(self.centres) - 1)
        return self.centres[mode] + self.width * z[:, 1:3]


class _Rows(nn.Module):
    """G(z): rows of the data, by heart."""

    def __init__(self, rows: Tensor) -> None:
        super().__init__()
        self.rows = nn.Parameter(rows.clone())

    def forward(self, z: Tensor) -> Tensor:
        return self.rows[(torch.special.ndtr(z[:, 0]) * len(self.rows)).long().clamp_max(len(self.rows) - 1)]


class _Labelled(nn.Module):
    """G(z, c): a blob at the label's centre, or, deaf, at one chosen by the latent."""

    def __init__(self, modes: int, *, deaf: bool) -> None:
        super().__init__()
        self.modes, self.deaf = _Modes(modes, modes), deaf

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        return self.modes(z) if self.deaf else self.modes.centres[c] + self.modes.width * z[:, 1:3]


class _LabelledD(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net, self.table = _critic(), nn.Embedding(8, 2)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        return self.net(x).squeeze(1) + (x * self.table(c)).sum(1)


class _Scaled(nn.Module):
    def __init__(self, inner: nn.Module, scale: float, shift: float = 0.0) -> None:
        super().__init__()
        self.inner, self.scale, self.shift = inner, scale, nn.Parameter(torch.tensor(shift))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * self.inner(x) + self.shift


class _Distance(nn.Module):
    """D(x) = s (1/2 - |x - centre|): tells samples far away apart from a ring."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(scale))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * (3.0 - x.norm(dim=1))


def _critic() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 16), nn.Softplus(), nn.Linear(16, 1))


def _far() -> nn.Module:
    G = _Modes(8, 8)
    with torch.no_grad():
        G.centres.add_(20.0)
    return G


def ring(seed: int, n: int = 2048) -> tuple[Tensor, Tensor]:
    """Eight blobs on a circle and their labels."""
    rng = torch.Generator().manual_seed(seed)
    c = torch.randint(8, (n,), generator=rng)
    angle = 2 * math.pi * c / 8
    x = torch.stack([angle.cos(), angle.sin()], 1)
    return x + 0.05 * torch.randn(n, 2, generator=rng), c


def planted(name: str, seed: int) -> tuple[Game, Tensor | tuple[Tensor, Tensor]]:
    """Return the pair with the fault `name` and its data, with labels where it has some."""
    x, c = ring(seed, 256 if name == "memorising" else 2048)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        makers: dict[str, Callable[[], Game]] = {
            "healthy": lambda: Game(_Modes(8, 8), _critic(), latent=3),
            "dead generator": lambda: Game(_Modes(8, 1, 0.0), _critic(), latent=3),
            "saturated discriminator": lambda: Game(_far(), _Distance(3.0), latent=3),
            "collapsed": lambda: Game(_Modes(8, 1), _critic(), latent=3),
            "missing modes": lambda: Game(_Modes(8, 4), _critic(), latent=3),
            "drifting offset": lambda: Game(
                _Modes(8, 8), _Scaled(_critic(), 1.0, 1e3), objective="wasserstein", latent=3
            ),
            "ignored labels": lambda: Game(_Labelled(8, deaf=True), _LabelledD(), latent=3),
            "healthy with labels": lambda: Game(_Labelled(8, deaf=False), _LabelledD(), latent=3),
            "memorising": lambda: Game(_Rows(x), _critic(), latent=3),
            "vanishing gradients": lambda: Game(_Modes(8, 8, 0.3), _Scaled(_critic(), 1e-9), latent=3),
            "healthy at rest": lambda: Game(_Modes(8, 8), _Scaled(_critic(), 1e-9), latent=3),
        }
        return makers[name](), (x, c) if "labels" in name else x


NAMES = (
    "dead generator",
    "saturated discriminator",
    "collapsed",
    "missing modes",
    "drifting offset",
    "ignored labels",
    "memorising",
    "vanishing gradients",
    "healthy",
    "healthy with labels",
    "healthy at rest",
)
