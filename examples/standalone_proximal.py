"""Proximal training in one file without the library: the whole method, to read and to take apart.

    D'  <- D' + a grad [ V(G, D') - (lam/2) E ||grad_x D'(x) - grad_x D(x)||^2 ]      one ascent of the inner player
    G   <- G  - b grad V(G, D')                                                       (here its non-saturating form)
    D   <- D  + rate (D' - D)                                                         the centre follows

Run it: python examples/standalone_proximal.py [steps]
"""

from __future__ import annotations

import copy
import sys

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

LAM, RATE, BATCH = 1.0, 0.1, 128


def data(n: int) -> Tensor:
    """Two interleaved half moons."""
    t, upper = torch.pi * torch.rand(n), torch.rand(n) < 0.5
    x = torch.where(upper, t.cos(), 1 - t.cos())
    y = torch.where(upper, t.sin(), 0.5 - t.sin())
    return torch.stack([x, y], 1) + 0.05 * torch.randn(n, 2)


def slope(D: nn.Module, x: Tensor, *, create_graph: bool) -> Tensor:
    """grad_x D(x). With create_graph=False the term below would be a constant and do nothing."""
    x = x.detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(D(x).sum(), x, create_graph=create_graph)
    return gradient


def main(steps: int) -> None:
    torch.manual_seed(0)
    G = nn.Sequential(nn.Linear(2, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2))
    # smooth on purpose: a piecewise linear D has no gradient of its slope in its hidden biases
    inner = nn.Sequential(nn.Linear(2, 64), nn.Softplus(4), nn.Linear(64, 64), nn.Softplus(4), nn.Linear(64, 1))
    centre = copy.deepcopy(inner)
    opt_G = torch.optim.Adam(G.parameters(), lr=1e-3, betas=(0.5, 0.999))
    opt_D = torch.optim.Adam(inner.parameters(), lr=1e-3, betas=(0.5, 0.999))

    for t in range(steps):
        x = data(BATCH)
        fake = G(torch.randn(BATCH, 2)).detach()
        value = -softplus(-inner(x)).mean() - softplus(inner(fake)).mean()
        distance = (slope(inner, x, create_graph=True) - slope(centre, x, create_graph=False)).square().sum(1).mean()
        opt_D.zero_grad()
        (0.5 * LAM * distance - value).backward()
        opt_D.step()

        opt_G.zero_grad()
        softplus(-inner(G(torch.randn(BATCH, 2)))).mean().backward()
        opt_G.step()

        with torch.no_grad():
            for slow, fast in zip(centre.parameters(), inner.parameters(), strict=True):
                slow.lerp_(fast, RATE)
        if (t + 1) % max(1, steps // 5) == 0:
            print(f"step {t + 1}: value {value.item():.3f}, distance of D' from D {distance.item():.4f}")

    with torch.no_grad():
        real, made = data(4000), G(torch.randn(4000, 2))
    print("mean of data and samples:", real.mean(0).tolist(), made.mean(0).tolist())


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2000)
