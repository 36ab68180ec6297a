"""What a rule's `step` costs beside a hand-written loop of the same operations. Prints medians of ratios, one run.

Both sides play vanilla GAN with the same MLPs, batch and Adam, alternating; both read their losses as numbers.
"""

from __future__ import annotations

import copy
import statistics
import time

import torch
from torch.nn.functional import softplus

from saddlegan import Game, networks, train

ROUNDS, STEPS = 15, 40


def pair(width: int, depth: int) -> tuple[torch.nn.Module, torch.nn.Module]:
    torch.manual_seed(0)
    return networks.MLP(4, 2, hidden=(width,) * depth), networks.MLP(2, 1, hidden=(width,) * depth)


def main() -> None:
    torch.set_num_threads(1)
    for width, depth, batch in ((128, 3, 256), (256, 3, 512)):
        G, D = pair(width, depth)
        mine_G, mine_D = copy.deepcopy(G), copy.deepcopy(D)
        opts = [torch.optim.Adam(player.parameters(), 1e-3) for player in (G, D, mine_G, mine_D)]
        rule = train.Alternating(Game(G, D, objective="vanilla", latent=4), opts[0], opts[1])
        x = torch.randn(batch, 2)

        def hand(
            x: torch.Tensor = x,
            G: torch.nn.Module = mine_G,
            D: torch.nn.Module = mine_D,
            opt_G: torch.optim.Optimizer = opts[2],
            opt_D: torch.optim.Optimizer = opts[3],
        ) -> tuple[float, float]:
            with torch.no_grad():
                fake = G(torch.randn(len(x), 4))
            opt_D.zero_grad()
            loss_D = softplus(-D(x)).mean() + softplus(D(fake)).mean()
            loss_D.backward()
            opt_D.step()
            opt_G.zero_grad()
            loss_G = -softplus(D(G(torch.randn(len(x), 4)))).mean()
            loss_G.backward()
            opt_G.step()
            return loss_D.item(), loss_G.item()

        ratios, ours, theirs = [], [], []
        for call in (lambda rule=rule, x=x: rule.step(x), hand):
            for _ in range(5):
                call()
        for _ in range(ROUNDS):
            started = time.process_time()
            for _ in range(STEPS):
                hand()
            middle = time.process_time()
            for _ in range(STEPS):
                rule.step(x)
            ended = time.process_time()
            theirs.append((middle - started) / STEPS)
            ours.append((ended - middle) / STEPS)
            ratios.append(ours[-1] / theirs[-1])
        print(
            f"MLP {depth} x {width}, batch {batch}: rule {1e3 * statistics.median(ours):.2f} ms, "
            f"by hand {1e3 * statistics.median(theirs):.2f} ms, ratio {statistics.median(ratios):.3f}"
        )


if __name__ == "__main__":
    main()
