"""What a rule's `step` costs beside a hand-written loop of the same operations. Prints medians of ratios, one run.

Both sides play vanilla GAN with the same MLPs, batch and Adam, alternating; both read their losses as numbers. Without
conditions the loop by hand knows of none, so that whatever the rule spends on the possibility is in the ratio; with
them both players take a label of three numbers beside their input.
"""

from __future__ import annotations

import copy
import statistics
import time

import torch
from torch.nn.functional import softplus

from saddlegan import Game, networks, train

ROUNDS, STEPS = 15, 40


LABEL = 3


class Told(torch.nn.Module):
    """A network of (input, condition)."""

    def __init__(self, n_in: int, n_out: int, hidden: tuple[int, ...]) -> None:
        super().__init__()
        self.net = networks.MLP(n_in + LABEL, n_out, hidden=hidden)

    def forward(self, x: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        """Outputs (n, n_out) of inputs (n, n_in) and labels (n, 3)."""
        return self.net(torch.cat([x, label], dim=1))


def pair(width: int, depth: int, told: bool) -> tuple[torch.nn.Module, torch.nn.Module]:
    torch.manual_seed(0)
    network = Told if told else networks.MLP
    return network(4, 2, hidden=(width,) * depth), network(2, 1, hidden=(width,) * depth)


def main() -> None:
    torch.set_num_threads(1)
    for width, depth, batch, told in ((128, 3, 256, False), (256, 3, 512, False), (128, 3, 256, True)):
        G, D = pair(width, depth, told)
        mine_G, mine_D = copy.deepcopy(G), copy.deepcopy(D)
        opts = [torch.optim.Adam(player.parameters(), 1e-3) for player in (G, D, mine_G, mine_D)]
        rule = train.Alternating(Game(G, D, objective="vanilla", latent=4), opts[0], opts[1])
        x = torch.randn(batch, 2)
        conditions = (torch.randn(batch, LABEL),) if told else ()

        def hand(
            x: torch.Tensor = x,
            conditions: tuple[torch.Tensor, ...] = conditions,
            G: torch.nn.Module = mine_G,
            D: torch.nn.Module = mine_D,
            opt_G: torch.optim.Optimizer = opts[2],
            opt_D: torch.optim.Optimizer = opts[3],
        ) -> tuple[float, float]:
            with torch.no_grad():
                fake = G(torch.randn(len(x), 4), *conditions)
            opt_D.zero_grad()
            loss_D = softplus(-D(x, *conditions)).mean() + softplus(D(fake, *conditions)).mean()
            loss_D.backward()
            opt_D.step()
            opt_G.zero_grad()
            loss_G = -softplus(D(G(torch.randn(len(x), 4), *conditions), *conditions)).mean()
            loss_G.backward()
            opt_G.step()
            return loss_D.item(), loss_G.item()

        rows = (x, *conditions) if told else x
        ratios, ours, theirs = [], [], []
        for call in (lambda rule=rule, rows=rows: rule.step(rows), hand):
            for _ in range(5):
                call()
        for _ in range(ROUNDS):
            started = time.process_time()
            for _ in range(STEPS):
                hand()
            middle = time.process_time()
            for _ in range(STEPS):
                rule.step(rows)
            ended = time.process_time()
            theirs.append((middle - started) / STEPS)
            ours.append((ended - middle) / STEPS)
            ratios.append(ours[-1] / theirs[-1])
        print(
            f"MLP {depth} x {width}, batch {batch}{', conditional' if told else ''}: "
            f"rule {1e3 * statistics.median(ours):.2f} ms, by hand {1e3 * statistics.median(theirs):.2f} ms, "
            f"ratio {statistics.median(ratios):.3f}"
        )


if __name__ == "__main__":
    main()
