"""A conditional pair: eight modes on a circle, told apart by a label, under a gradient penalty.

    python examples/conditional_ring.py [steps] [seed]

The label of a mode is its parity. Both players are told it beside their input, as `rule.step((x, label))` hands it on;
the penalty mixes real and generated samples, never labels. Prints each class's modes, its share of samples near one of
its own modes, and the labels that D saw.
"""

from __future__ import annotations

import sys

import numpy as np
import torch
from torch import Tensor, nn

from saddlegan import Game, metrics, networks, train

MODES, SD = 8, 0.05


def draw(n: int, source: torch.Generator) -> tuple[Tensor, Tensor]:
    """Samples (n, 2) and labels (n,), the parity of their modes."""
    mode = torch.randint(MODES, (n,), generator=source)
    angle = 2 * torch.pi * mode / MODES
    x = torch.stack([angle.cos(), angle.sin()], dim=1) + SD * torch.randn(n, 2, generator=source)
    return x, mode % 2


class Told(nn.Module):
    """A network of an input and a label, which remembers the labels that it was shown."""

    def __init__(self, n_in: int, n_out: int, *, fourier: tuple[float, float] | None = None) -> None:
        super().__init__()
        self.features = None if fourier is None else networks.MultiscaleFeatures(n_in, low=fourier[0], high=fourier[1])
        wide = n_in if self.features is None else self.features.n_out
        self.layers = networks.MLP(wide + 2, n_out, hidden=(64, 64))
        self.labels: set[int] = set()

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        """Outputs (n, ...) for inputs (n, ...) and labels (n,)."""
        self.labels.update(label.tolist())
        inner = x if self.features is None else self.features(x)
        return self.layers(torch.cat([inner, nn.functional.one_hot(label, 2).to(inner)], dim=1))


def run(steps: int = 1500, seed: int = 0) -> tuple[list[metrics.Measurement], set[int]]:
    """Train, and measure each class against its own four modes; also the labels that D saw."""
    torch.manual_seed(seed)
    source = torch.Generator().manual_seed(seed)
    latent = train.MixedLatent(6, 2)
    G, D = Told(latent.size, 2), Told(2, 1, fourier=(1.0, 8.0))
    game = Game(G, D, objective="wasserstein", latent=latent, discriminator_penalty=train.GradientPenalty(1.0))
    betas = (0.5, 0.9)
    rule = train.Alternating(
        game,
        torch.optim.Adam(G.parameters(), 1e-3, betas=betas),
        torch.optim.Adam(D.parameters(), 1e-3, betas=betas),
        n_critic=2,
        generator=source,
    )
    average = train.MovingAverage(G, decay=0.99)
    rule.attach(
        average,
        train.Schedule(rule.opt_G, "lr", train.warm_up(1e-3, 1e-5, steps=steps)),
        train.Schedule(rule.opt_D, "lr", train.warm_up(1e-3, 1e-5, steps=steps)),
    )
    for _ in range(steps):
        rule.step(draw(512, source))  # cut into one batch of 256 for each move of D
    angle = 2 * np.pi * np.arange(MODES) / MODES
    centers = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    found = []
    for label in (0, 1):
        with torch.no_grad():
            made = average.module(latent(2500, source), torch.full((2500,), label))
        found.append(metrics.modes(generated=made, centers=centers[label::2], sd=SD))
    return found, D.labels


if __name__ == "__main__":
    torch.set_num_threads(1)
    arguments = [int(word) for word in sys.argv[1:]]
    classes, labels = run(*arguments)
    for label, found in enumerate(classes):
        print(
            f"label {label}: {found.stats['modes']} of {found.stats['total']} modes, "
            f"{found.value:.1%} of the samples near one (perfect: {found.floor:.1%})"
        )
    print(f"labels that D saw: {sorted(labels)}")
