"""Every cell of the hidden-convexity table, solved, beside 20 runs of gradient descent-ascent on the same game.

    python benchmarks/against_descent_ascent.py [--starts 20] [--steps 600] [--seconds 90] [--only ring]
    python benchmarks/against_descent_ascent.py --figure docs/images/two-points.png

Prints the table of docs/hidden-convexity.md. Descent-ascent plays V(G, D) with R_g and beta * path norm in the value,
directions projected to the unit ball, Adam for both players, steps that fall linearly to 0, D first. Of each run the
last points and their average over its second half are judged by the exact discrepancy; then both are scaled by the
factor nearest to 1 that makes them feasible, if one does, and the better counts. No run starts after `--seconds` in a
row. `--figure` draws the paper's one-dimensional experiment instead of the table.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from saddlegan import fit
from saddlegan.fit.relu._one_dimension import stop_loss_discrepancy, winsorise
from saddlegan.networks import Activation, TwoLayerDiscriminator

NEURONS = 32


@dataclasses.dataclass
class Cell:
    """One row: the data, the game, its solver and the exact discrepancy of any samples."""

    name: str
    X: Tensor
    beta: float
    activation: Activation
    bias: bool
    solve: Callable[[], fit.ReLUWGAN | fit.PolynomialWGAN | fit.QuadraticWGAN | fit.LinearWGAN]
    judge: Callable[[Tensor], float]


def ring(n: int) -> Tensor:
    rng = np.random.default_rng(0)
    angle = 2 * np.pi * rng.integers(0, 8, n) / 8
    return torch.tensor(2.0 * np.stack([np.cos(angle), np.sin(angle)], 1) + 0.02 * rng.standard_normal((n, 2)))


def cells() -> list[Cell]:
    X = torch.tensor(np.random.default_rng(1).standard_normal((200, 4)) @ np.diag([2.0, 1.5, 1.0, 0.5]) + 1.0)
    line, plane = X[:, :1].contiguous(), ring(200)

    def judge(kind: str, data: Tensor) -> Callable[[Tensor], float]:
        return lambda G: fit.discrepancy(data, G, kind=kind).value  # type: ignore[arg-type]

    return [
        Cell("linear", X, 0.3, "linear", False, lambda: fit.LinearWGAN(beta=0.3).fit(X), judge("linear", X)),
        Cell(
            "quadratic",
            X,
            0.8,
            "quadratic",
            False,
            lambda: fit.QuadraticWGAN(4, beta=0.8, center=False).fit(X),
            judge("quadratic", X),
        ),
        Cell(
            "polynomial",
            X,
            0.8,
            "polynomial",
            False,
            lambda: fit.PolynomialWGAN(beta=0.8).fit(X),
            judge("polynomial", X),
        ),
        Cell(
            "ReLU, d = 1",
            line,
            0.1,
            "relu",
            True,
            lambda: fit.ReLUWGAN(beta=0.1).fit(line),
            lambda G: stop_loss_discrepancy(line[:, 0], G[:, 0]).value,
        ),
        Cell(
            "ReLU, ring, d = 2",
            plane,
            0.1,
            "relu",
            False,
            lambda: fit.ReLUWGAN(beta=0.1, random_state=0).fit(plane),
            judge("relu", plane),
        ),
    ]


def descend_ascend(cell: Cell, *, seed: int, steps: int) -> tuple[Tensor, Tensor]:
    """Free points against a two-layer discriminator; returns the last points and their average over the second half."""
    generator = torch.Generator().manual_seed(seed)
    X, d = cell.X, cell.X.shape[1]
    G = torch.randn(len(X), d, generator=generator, dtype=X.dtype).requires_grad_()
    D = TwoLayerDiscriminator(
        d, NEURONS, activation=cell.activation, bias=cell.bias, generator=generator, dtype=X.dtype
    )
    if D.bias is not None:
        torch.nn.init.normal_(D.bias, generator=generator)
    ascent = torch.optim.Adam(D.parameters(), lr=1e-2, betas=(0.5, 0.9))
    descent = torch.optim.Adam([G], lr=1e-2, betas=(0.5, 0.9))
    rules = (ascent, descent)
    average = torch.zeros_like(X)
    for step in range(steps):
        for rule in rules:
            rule.param_groups[0]["lr"] = 1e-2 * (1.0 - step / steps)
        loss = -(D(X).mean() - D(G.detach()).mean()) + cell.beta * D.path_norm()
        ascent.zero_grad()
        loss.backward()
        ascent.step()
        with torch.no_grad():
            D.directions.div_(D.directions.norm(dim=1, keepdim=True).clamp_min(1.0))
        loss = -D(G).mean() + G.square().sum(1).mean()
        descent.zero_grad()
        loss.backward()
        descent.step()
        if 2 * step >= steps:
            average += G.detach() / (steps - -(-steps // 2))
    return G.detach(), average


def feasible_value(cell: Cell, G: Tensor) -> float:
    """E ||c G||^2 with the feasible factor c nearest to 1 among 301 from 0.9 to 1.2, or infinity."""
    factors = torch.linspace(0.9, 1.2, 301, dtype=torch.float64)
    for c in factors[(factors - 1.0).abs().argsort()].tolist():
        if cell.judge(c * G) <= cell.beta * (1.0 + 1e-6):
            return c**2 * float(G.square().sum(1).mean())
    return np.inf


def table(starts: int, steps: int, seconds: float, only: str) -> None:
    print(
        "| cell | solver: value | dual bound | residual | seconds | descent-ascent: within 1 % of beta, last | "
        "averaged | median discrepancy / beta | feasible after scaling | best feasible value | median | seconds a run |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|---|")
    for cell in cells():
        if only not in cell.name:
            continue
        cell.solve()  # imports and caches
        started = time.perf_counter()
        solution = cell.solve().solution_
        solved = time.perf_counter() - started
        values, excess, lasted = [], [], []
        row_started = time.perf_counter()
        for seed in range(starts):
            if time.perf_counter() - row_started > seconds:
                break
            started = time.perf_counter()
            candidates = descend_ascend(cell, seed=seed, steps=steps)
            lasted.append(time.perf_counter() - started)
            excess.append([cell.judge(G) / cell.beta for G in candidates])
            values.append(min(feasible_value(cell, G) for G in candidates))
        runs, feasible = len(values), [v for v in values if v < np.inf]
        last, averaged = (np.array(excess) <= 1.01).sum(0).tolist()
        best, median = (f"{f(feasible):.4f}" if feasible else "none" for f in (np.min, np.median))
        print(
            f"| {cell.name} | {solution.value:.4f} | {solution.bound:.4f} | {solution.stats['primal_residual']:.1e} "
            f"| {solved:.3f} | {last} of {runs} | {averaged} of {runs} "
            f"| {np.median(np.min(excess, axis=1)):.3f} | {len(feasible)} of {runs} | {best} | {median} "
            f"| {np.median(lasted):.2f} |",
            flush=True,
        )


def two_points(beta: float, *, steps: int, rate: float) -> np.ndarray:
    """Plain descent-ascent for x = {1, -1} with neurons at 41 fixed thresholds on both sides."""
    thresholds = torch.linspace(-2, 2, 41, dtype=torch.float64)
    signs = torch.cat([torch.ones(41), -torch.ones(41)]).double()
    b = torch.cat([thresholds, thresholds])

    def neurons(y: Tensor) -> Tensor:
        return torch.relu(signs * (y[:, None] - b))

    x = torch.tensor([1.0, -1.0]).double()
    g, v = torch.tensor([0.3, -0.1]).double(), torch.zeros(82).double()
    path = [g.numpy().copy()]
    for _ in range(steps):
        gap = neurons(x).mean(0) - neurons(g).mean(0)
        slope = ((signs * (g[:, None] - b) > 0).double() * signs) @ v
        moved = v + rate * gap
        moved = torch.sign(moved) * (moved.abs() - rate * beta).clamp_min(0)  # ascent on -beta |v| without chatter
        g = g - rate * 0.5 * (2 * g - slope)
        v = moved
        path.append(g.numpy().copy())
    return np.stack(path)


def two_point_discrepancy(axis: np.ndarray) -> np.ndarray:
    """Left side of (1) for x = {1, -1} against every pair (g1, g2) of the grid: the largest of the kinks."""
    g = np.stack(np.meshgrid(axis, axis), -1)[..., None, :]
    x = np.broadcast_to([1.0, -1.0], g.shape)
    knots = np.concatenate([g, x], -1)[..., 0, :, None]
    worst = np.zeros(g.shape[:2])
    for sign in (1.0, -1.0):
        real, fake = (np.maximum(sign * (p - knots), 0.0).mean(-1) for p in (x, g))
        worst = np.maximum(worst, np.abs(real - fake).max(-1))
    return worst


def figure(target: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    axis = np.linspace(-1.6, 1.6, 321)
    x = torch.tensor([1.0, -1.0])
    fig, axes = plt.subplots(1, 3, figsize=(11, 3.6), layout="constrained")
    for ax, beta_sum, rate in ((axes[0], 0.1, 0.02), (axes[1], 1.0, 0.02), (axes[2], 0.1, 0.3)):
        beta = beta_sum / 2
        inside = (two_point_discrepancy(axis) <= beta).astype(float)
        ax.contourf(axis, axis, inside, levels=[0.5, 1.5], colors=["#bcd7ec"])
        path = two_points(beta, steps=4000 if rate < 0.1 else 400, rate=rate)
        ax.plot(path[:, 0], path[:, 1], color="#d1661e", lw=0.8, label="descent-ascent")
        exact = winsorise(x, beta).points
        ax.plot(exact[1], exact[0], "k*", ms=10, label="exact")
        ax.set(
            title=f"beta_sum = {beta_sum}, step {rate}", xlabel="g1", ylabel="g2", xlim=(-1.6, 1.6), ylim=(-1.6, 1.6)
        )
    axes[0].legend(loc="upper right", fontsize=8)
    target.parent.mkdir(parents=True, exist_ok=True)
    fig.savefig(target, dpi=90)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--starts", type=int, default=20)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seconds", type=float, default=90.0, help="no run starts later than this in a row")
    parser.add_argument("--only", default="", help="rows whose name contains this")
    parser.add_argument("--figure", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.figure is not None:
        figure(arguments.figure)
    else:
        table(arguments.starts, arguments.steps, arguments.seconds, arguments.only)


if __name__ == "__main__":
    main()
