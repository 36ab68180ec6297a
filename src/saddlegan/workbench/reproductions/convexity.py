"""Sahiner et al.: hidden convexity of Wasserstein GANs, on the line and between progressive stages."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.datasets import load_digits

from saddlegan import fit
from saddlegan.workbench.report.figures import style
from saddlegan.workbench.reproductions.finding import Check, Experiment, Figure, Finding, spread
from saddlegan.workbench.reproductions.work import Work

CONVEXITY = "Sahiner et al., Hidden Convexity of Wasserstein GANs, ICLR 2022 (arXiv 2107.05680)"
NEURONS = 20


def relu_line(work: Work) -> Finding:
    """Data {1, -1}: the convex solution against descent-ascent on the same game."""
    seeds, full = work.seeds, work.full
    beta, steps = 0.05, 5_000 if full else 2_000
    rates = (0.1, 0.01, 0.001)
    X = np.array([[1.0], [-1.0]])
    model = fit.ReLUWGAN(beta=beta).fit(X)
    solved = np.sort(model.generator_.points.detach().numpy().ravel())  # type: ignore[union-attr]
    truth = np.array([-1.0 + 2 * beta, 1.0 - 2 * beta])  # beta is a mean over two points, the paper's a sum
    error = float(np.abs(solved - truth).max())
    ends: dict[float, list[float]] = {}
    curves = {}
    for rate in rates:
        paths = [_descent_ascent(X.ravel(), beta, rate, steps, seed) for seed in seeds]
        ends[rate] = [float(np.abs(np.sort(path[-1]) - truth).max()) for path in paths]
        curves[rate] = paths[0]
    with style.look():
        figure = style.new_figure(2.6)
        axes = figure.subplots()
        for (rate, path), colour in zip(curves.items(), (style.GENERATED, style.WITNESS, style.ACCENT), strict=True):
            axes.plot(path[:, 0], color=colour, linewidth=0.7, label=f"rate {rate:g}")
            axes.plot(path[:, 1], color=colour, linewidth=0.7)
        for value in truth:
            axes.axhline(value, color=style.INK, linestyle="--", linewidth=0.8)
        axes.set_ylim(-2.5, 2.5)
        axes.set_xlabel("step")
        axes.set_ylabel("generated points")
        axes.legend(loc="upper right")
        picture = style.png(figure)
    found = ", ".join(f"rate {rate:g}: {spread(values)}" for rate, values in ends.items())
    return Finding(
        setting={"data": "{1, -1}", "beta": beta, "neurons": NEURONS, "steps": steps, "seeds": len(seeds)},
        checks=[
            Check(
                "the convex program gives {1 - b, -1 + b}, b = n beta",
                f"{solved[0]:.9f}, {solved[1]:.9f}; error {error:.1g}",
                error < 1e-6,
            ),
            Check(
                "its primal value and dual bound agree",
                f"gap {model.solution_.gap:.1g}",
                abs(model.solution_.gap) < 1e-6,
            ),
            Check(
                "descent-ascent finds the same points, at the best of three step sizes (error below 0.01)",
                f"error after {steps:,} steps: {found}",
                min(float(np.mean(values)) for values in ends.values()) < 0.01,
                ours=True,
            ),
        ],
        figures=[
            Figure(
                picture,
                "Two generated points over the steps of descent-ascent, and dashed lines at the solution.",
                "Descent-ascent of the first seed; dashed: the exact solution.",
            )
        ],
        numbers={"solution": solved.tolist(), "errors": {str(rate): values for rate, values in ends.items()}},
        remark="Descent-ascent alternates on V(G, D) = E D(x) - E D(g) - beta sum |v_j| + E g^2 with directions +-1, "
        "free thresholds, and the same rate for both players; the paper's own settings are not at hand.",
    )


def _descent_ascent(x: np.ndarray, beta: float, rate: float, steps: int, seed: int) -> np.ndarray:
    """Plain alternating gradient steps; the points after each step (steps + 1, n)."""
    draw = torch.Generator().manual_seed(seed)
    data = torch.tensor(x)
    g = torch.randn(len(x), generator=draw, dtype=torch.float64).requires_grad_()
    u = torch.where(torch.arange(NEURONS) % 2 == 0, 1.0, -1.0).double()
    c = torch.randn(NEURONS, generator=draw, dtype=torch.float64).requires_grad_()
    v = (0.1 * torch.randn(NEURONS, generator=draw, dtype=torch.float64)).requires_grad_()

    def value() -> torch.Tensor:
        D_x, D_g = ((torch.relu(rows[:, None] * u + c) @ v).mean() for rows in (data, g))
        return D_x - D_g - beta * v.abs().sum() + g.square().mean()

    path = [g.detach().numpy().copy()]
    for _ in range(steps):
        for players, sign in (((v, c), 1.0), ((g,), -1.0)):
            for p, slope in zip(players, torch.autograd.grad(value(), players), strict=True):
                p.data += sign * rate * slope
        path.append(g.detach().numpy().copy())
    return np.array(path)


def notebook_stages(work: Work) -> Finding:
    """Two stages on digits as the paper's notebook makes them, and with fresh latents."""
    seeds, full = work.seeds, work.full
    n, kept = (10_000 if full else 1_797), (6, 12)
    images = np.asarray(load_digits(return_X_y=True)[0]).reshape(-1, 8, 8)
    fine = images.reshape(len(images), -1)
    coarse = images.reshape(-1, 4, 2, 4, 2).mean((2, 4)).reshape(len(images), -1)
    own, fresh, weights = [], [], []
    for seed in seeds:
        draw = np.random.default_rng(seed)
        z = [draw.standard_normal((n, kept[0])).astype(np.float32) for _ in range(2)]
        first = [_enlarged(*_whitened(coarse, kept[0], rows, z[0])[:2]) for rows in z]
        _, beta = _spectrum(fine, kept[1])
        for rows, seen in zip(first, (own, fresh), strict=True):
            made, _, size = _whitened(fine, kept[1], rows, first[0])
            seen.append(_violation(fine, made) / beta)
            weights.append(size)
    model = fit.ProCoGAN(resolutions=(4, 8), n_components=kept).fit(images)
    ours = max(s.stats["primal_residual"] / s.stats["beta"] for s in model.stage_solutions_)
    return Finding(
        setting={"data": "digits, 4 x 4 and 8 x 8", "kept": "6, 12", "latents": n, "seeds": len(seeds)},
        checks=[
            Check(
                "as the notebook makes it, ||C_X - C_G|| <= beta on its own latents at the second stage",
                f"{spread(own)} beta; largest weight {max(weights):.2g}",
                max(own) <= 1.05,
            ),
            Check("the same on fresh latents", f"{spread(fresh)} beta", max(fresh) <= 1.05),
            Check(
                "with fresh latents for what is new, and population moments, the constraint holds at every stage",
                f"exceeded by {max(0.0, ours):.1g} beta",
                ours < 1e-6,
                ours=True,
            ),
        ],
        numbers={"own_latents": own, "fresh_latents": fresh, "largest_weight": weights, "ours": ours},
        remark="Six directions of the first stage are the only features of the second, which needs twelve: the other "
        "six are rounding noise in single precision, divided by singular values of its size. The recipe is re-made "
        "here on digits; the notebook's own data and sizes are not.",
    )


def _spectrum(X: np.ndarray, k: int) -> tuple[tuple[np.ndarray, np.ndarray], float]:
    """Leading eigenvalues (k,) and eigenvectors (d, k) of the covariance, and beta = the next eigenvalue."""
    values, vectors = np.linalg.eigh(np.cov(X, rowvar=False, bias=True))
    values, vectors = values[::-1], vectors[:, ::-1]
    return (values[:k], vectors[:, :k]), float(values[k])


def _whitened(X: np.ndarray, k: int, rows: np.ndarray, drawn: np.ndarray) -> tuple[np.ndarray, int, float]:
    """Features whitened by the drawn ones' leading k singular vectors, then given the covariance (C - beta I)_+.

    Returns:
        Samples (n, d) around 0, the side of an image, and the largest weight.
    """
    (values, vectors), beta = _spectrum(X, k)
    _, s, Vt = np.linalg.svd(drawn, full_matrices=False)
    # in single precision throughout, as the notebook computes: what is beyond the rank is rounding noise
    scale = np.float32(np.sqrt(len(drawn)))
    W = (Vt[:k].T / s[:k]) * scale @ (vectors * np.sqrt(values - beta)).T.astype(np.float32)
    return rows @ W, int(np.sqrt(X.shape[1])), float(np.abs(W).max())


def _enlarged(rows: np.ndarray, side: int) -> np.ndarray:
    return rows.reshape(len(rows), side, side).repeat(2, 1).repeat(2, 2).reshape(len(rows), -1)


def _violation(X: np.ndarray, made: np.ndarray) -> float:
    M = made.astype(np.float64)
    return float(np.linalg.norm(np.cov(X, rowvar=False, bias=True) - M.T @ M / len(M), 2))


EXPERIMENTS = (
    Experiment(
        "relu-line",
        "hidden convexity",
        "In one dimension the ReLU WGAN is solved exactly by a convex program; what descent-ascent finds beside it.",
        f"{CONVEXITY}, the one-dimensional experiment",
        relu_line,
        5,
    ),
    Experiment(
        "notebook-stages",
        "hidden convexity",
        "Progressive stages, as the paper's notebook computes them, meet their moment constraints.",
        f"{CONVEXITY}, section 4 and its notebook",
        notebook_stages,
        5,
    ),
)
