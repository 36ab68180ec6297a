"""What a rule's `step` costs beside a hand-written loop of the same operations. Prints medians, and their ratio.

Both sides play vanilla GAN with the same MLPs, batch and Adam, alternating; both read their losses as numbers. Without
conditions the loop by hand knows of none, so that whatever the rule spends on the possibility is in the ratio; with
them both players take a label of three numbers beside their input. The loop by hand calls `backward` as loops do, which
in G's move differentiates D's weights for nothing; `grad` by hand asks for G's alone, as the rule does. The three are
timed in turn, a step at a time, so that a busy machine slows all alike.
"""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable

import torch
from torch.nn.functional import softplus

from saddlegan import Game, networks, train

STEPS = 150


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
        rule = train.Alternating(Game(G, D, objective="vanilla", latent=4), *optimisers(G, D))
        x = torch.randn(batch, 2)
        conditions = (torch.randn(batch, LABEL),) if told else ()
        rows = (x, *conditions) if told else x
        loops: dict[str, Callable[[], object]] = {
            "rule": lambda rule=rule, rows=rows: rule.step(rows),
            "by hand": by_hand(G, D, x, conditions, all_gradients=True),
            "by hand with grad": by_hand(G, D, x, conditions, all_gradients=False),
        }
        seconds: dict[str, list[float]] = {name: [] for name in loops}
        for step in range(-5, STEPS):
            for name, call in loops.items():
                started = time.process_time()
                call()
                if step >= 0:
                    seconds[name].append(time.process_time() - started)
        found = {name: statistics.median(each) for name, each in seconds.items()}
        print(
            f"MLP {depth} x {width}, batch {batch}{', conditional' if told else ''}: "
            + ", ".join(f"{name} {1e3 * each:.2f} ms" for name, each in found.items())
            + f", ratios {found['rule'] / found['by hand']:.3f} and {found['rule'] / found['by hand with grad']:.3f}",
            flush=True,
        )


def optimisers(G: torch.nn.Module, D: torch.nn.Module) -> tuple[torch.optim.Adam, torch.optim.Adam]:
    return torch.optim.Adam(G.parameters(), 1e-3), torch.optim.Adam(D.parameters(), 1e-3)


def by_hand(
    G: torch.nn.Module,
    D: torch.nn.Module,
    x: torch.Tensor,
    conditions: tuple[torch.Tensor, ...],
    *,
    all_gradients: bool,
) -> Callable[[], tuple[float, float]]:
    """A loop on copies of the pair; `all_gradients`: by `backward`, else by `torch.autograd.grad`."""
    G, D = copy.deepcopy(G), copy.deepcopy(D)
    opt_G, opt_D = optimisers(G, D)

    def move(loss: torch.Tensor, player: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
        if all_gradients:
            optimizer.zero_grad()
            loss.backward()
        else:
            parameters = list(player.parameters())
            for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
                parameter.grad = gradient
        optimizer.step()

    def step() -> tuple[float, float]:
        with torch.no_grad():
            fake = G(torch.randn(len(x), 4), *conditions)
        loss_D = softplus(-D(x, *conditions)).mean() + softplus(D(fake, *conditions)).mean()
        move(loss_D, D, opt_D)
        loss_G = -softplus(D(G(torch.randn(len(x), 4), *conditions), *conditions)).mean()
        move(loss_G, G, opt_G)
        return loss_D.item(), loss_G.item()

    return step


if __name__ == "__main__":
    main()
