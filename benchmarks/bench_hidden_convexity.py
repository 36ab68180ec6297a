"""Growth of every solver of the hidden-convexity table at ten times the size, with cvxpy's generic solve beside it.

    python benchmarks/bench_hidden_convexity.py

Prints ratios measured side by side; absolute times mean nothing on a shared machine.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch

from saddlegan.fit import PolynomialWGAN, function_space
from saddlegan.fit.relu._discrepancy import relu_discrepancy
from saddlegan.fit.relu._measure import solve_measure
from saddlegan.fit.relu._one_dimension import winsorise, winsorise_sorted
from saddlegan.fit.relu._one_dimension_program import linear_generator, sorted_program
from saddlegan.fit.relu._points import match_points


def seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def growth(name: str, small: Callable[[], object], large: Callable[[], object]) -> None:
    small()
    first, second = seconds(small), seconds(large)
    print(f"{name}: {first:.4f} s, at ten times the size {second:.4f} s, growth {second / first:.1f}x", flush=True)


def main() -> None:
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    x = {n: torch.tensor(rng.standard_normal(n)) for n in (50, 500, 100_000, 1_000_000)}
    growth("winsorisation, n = 1e5", lambda: winsorise(x[100_000], 0.1), lambda: winsorise(x[1_000_000], 0.1))
    ascending = x[1_000_000].sort().values
    print(f"winsorisation after sorting, n = 1e6: {seconds(lambda: winsorise_sorted(ascending, 0.1)):.4f} s")
    growth(
        "cvxpy's solve of the same program, n = 50",
        lambda: sorted_program(x[50].numpy(), 50, 0.1),
        lambda: sorted_program(x[500].numpy(), 500, 0.1),
    )
    growth(
        "linear generator in one dimension, n = 1e4",
        lambda: linear_generator(x[100_000][:10_000].numpy(), 0.1),
        lambda: linear_generator(x[100_000].numpy(), 0.1),
    )
    planar = {
        n: (torch.tensor(rng.standard_normal((n, 2))), torch.tensor(rng.standard_normal((n, 2))))
        for n in (10_000, 100_000)
    }
    growth(
        "ReLU discrepancy in the plane, N = 1e4 + 1e4",
        lambda: relu_discrepancy(*planar[10_000]),
        lambda: relu_discrepancy(*planar[100_000]),
    )
    deep = {
        n: (torch.tensor(rng.standard_normal((n, 10))), torch.tensor(0.9 * rng.standard_normal((n, 10))))
        for n in (200, 2000)
    }
    growth(
        "ReLU discrepancy, two-sided, d = 10, n = 200",
        lambda: relu_discrepancy(*deep[200]),
        lambda: relu_discrepancy(*deep[2000]),
    )
    for n, d in ((200, 10), (300, 100), (1000, 50)):
        found = relu_discrepancy(*torch.tensor(rng.standard_normal((2, n, d))), n_starts=64)
        print(
            f"ReLU discrepancy of two normal samples, n = {n}, d = {d}: upper / value {found.upper / found.value:.2f}"
        )
    angle = {n: 2 * np.pi * rng.integers(0, 8, n) / 8 for n in (200, 2000)}
    ring = {
        n: torch.tensor(2 * np.stack([np.cos(a), np.sin(a)], 1) + 0.02 * rng.standard_normal((n, 2)))
        for n, a in angle.items()
    }
    growth(
        "ReLU WGAN, free points on the ring, n = 200",
        lambda: match_points(ring[200], ring[200], beta=0.1),
        lambda: match_points(ring[2000], ring[2000], beta=0.1),
    )
    growth(
        "its global bound by the linear program, n = 200",
        lambda: solve_measure(ring[200], beta=0.1),
        lambda: solve_measure(ring[2000], beta=0.1),
    )
    wide = {d: rng.standard_normal((1000, d)) * np.linspace(0.3, 2, d) + 0.3 for d in (3, 30, 300)}
    growth(
        "polynomial WGAN, semidefinite program (cvxpy), d = 3",
        lambda: PolynomialWGAN(beta=0.5).fit(wide[3]),
        lambda: PolynomialWGAN(beta=0.5).fit(wide[30]),
    )
    growth(
        "polynomial WGAN, closed form with its gap, d = 30",
        lambda: PolynomialWGAN(beta=0.5, solver="closed-form").fit(wide[30]),
        lambda: PolynomialWGAN(beta=0.5, solver="closed-form").fit(wide[300]),
    )
    growth(
        "function space, 100 points, 500 steps",
        lambda: function_space(torch.full((100,), 0.01), torch.full((100,), 0.01), steps=500),
        lambda: function_space(torch.full((1000,), 0.001), torch.full((1000,), 0.001), steps=500),
    )


if __name__ == "__main__":
    main()
