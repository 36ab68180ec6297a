"""Your own pair, your own loop: a plain PyTorch GAN on eight modes, and the five lines that give it a better rule.

Run it: python examples/your_own_pair.py [steps]
"""

from __future__ import annotations

import sys

import torch
from torch import Tensor, nn

from saddlegan import Game, train  # changed line 1: the import


def ring(n: int, generator: torch.Generator) -> Tensor:
    """Real data: eight small blobs on a circle."""
    angle = torch.randint(8, (n,), generator=generator) * (2 * torch.pi / 8)
    return torch.stack([angle.cos(), angle.sin()], 1) * 1.4 + 0.03 * torch.randn(n, 2, generator=generator)


def main(steps: int) -> None:
    torch.manual_seed(0)
    source = torch.Generator().manual_seed(0)
    G = nn.Sequential(nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2))
    D = nn.Sequential(nn.Linear(2, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 1))
    opt_G = torch.optim.Adam(G.parameters(), lr=1e-3, betas=(0.5, 0.999))
    opt_D = torch.optim.Adam(D.parameters(), lr=1e-3, betas=(0.5, 0.999))

    # changed line 2: say what is played; changed line 3: say how
    game = Game(G, D, objective="non-saturating", latent=4, discriminator_penalty=train.R1(0.01))
    rule = train.PrimalDual(game, opt_G, opt_D, weight=40.0, generator=source)

    for t in range(steps):
        x = ring(256, source)
        # Before, two blocks of zero_grad, loss, backward and step stood here.
        step = rule.step(x)  # changed line 4
        if (t + 1) % max(1, steps // 5) == 0:
            print(f"step {t + 1}: value {step.value:.3f}, density term {step.stats['density_loss']:.3f}")

    state = rule.state_dict()  # changed line 5: players, optimisers and latents; the next steps have the same bits
    print(f"state to save: {', '.join(state)}")
    with torch.no_grad():
        samples = G(game.sample_latent(2000, source))
    sector = ((torch.atan2(samples[:, 1], samples[:, 0]) / (2 * torch.pi / 8)).round() % 8).long()
    shares = torch.bincount(sector, minlength=8) / len(samples)
    print("share of samples per mode:", " ".join(f"{share:.2f}" for share in shares))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1500)
