"""Chen, Wang and Ge: training as a primal-dual method, in function space."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from saddlegan import fit
from saddlegan.errors import ObjectiveError
from saddlegan.objectives import OBJECTIVES
from saddlegan.workbench.report.figures import style
from saddlegan.workbench.reproductions.finding import Check, Experiment, Figure, Finding, spread
from saddlegan.workbench.reproductions.work import Work

PRIMAL_DUAL = "Chen, Wang and Ge, Training GANs via Primal-Dual Subgradient Methods, ICLR 2018 (arXiv 1802.01765)"
REFUSED = ("least-squares", "hinge")


def function_space(work: Work) -> Finding:
    """From a p_g that misses half of the support, for every objective with a Lagrangian view."""
    seeds, full = work.seeds, work.full
    steps, cells = (20_000, 20) if full else (2_000, 10)
    names = [name for name, o in OBJECTIVES.items() if o.equilibrium is not None and o.zero_sum]
    parts = [work.part(f"seed-{seed}", lambda seed=seed: _from_half(names, cells, steps, seed)) for seed in seeds]
    starts = [float(part["start"]) for part in parts]
    within = {name: [bool(part["within"][i]) for part in parts] for i, name in enumerate(names)}
    ends = {name: [float(part["ends"][i]) for part in parts] for i, name in enumerate(names)}
    curves = dict(zip(names, parts[0]["curves"], strict=True))
    refused = []
    for name in REFUSED:
        try:
            fit.function_space([0.5, 0.5], [1.0, 0.0], name, steps=1)
        except ObjectiveError:
            refused.append(name)
    worst = max(names, key=lambda name: np.mean(ends[name]))
    start, limit = float(np.mean(starts)), 0.1
    with style.look():
        figure = style.new_figure(2.6)
        axes = figure.subplots()
        for name, curve in curves.items():
            axes.loglog(np.arange(1, len(curve) + 1), np.maximum(curve, 1e-12), label=name)
        axes.set_xlabel("step")
        axes.set_ylabel("total variation of p_g")
        axes.legend(fontsize=7)
        picture = style.png(figure)
    return Finding(
        setting={"cells": cells, "steps": steps, "seeds": len(seeds), "objectives": ", ".join(names)},
        checks=[
            Check(
                "the averages' gap stays below the rate of the theorem",
                f"in {sum(map(sum, within.values()))} of {sum(map(len, within.values()))} runs",
                all(map(all, within.values())),
            ),
            Check(
                f"p_g finds the missing half, for every admissible objective (total variation below {limit})",
                f"from {start:.3g}: "
                + ", ".join(f"{name} {spread(ends[name])}" for name in names)
                + f" after {steps:,} steps; slowest {worst}",
                all(np.mean(ends[name]) < limit for name in names),
            ),
            Check(
                "objectives without a t* of f1(t*) = 0, f0' = -f1' are not covered",
                f"refused by name: {', '.join(refused) or 'none'}",
                refused == list(REFUSED),
            ),
        ],
        figures=[
            Figure(
                picture,
                "Total variation of the generator's probabilities over the steps, one curve for each objective.",
                "The first seed: half of the support is missing at the start.",
            )
        ],
        numbers={"total_variation": ends, "start": starts},
    )


def _from_half(names: Sequence[str], cells: int, steps: int, seed: int) -> dict[str, Any]:
    """Total variation along the way from half of the support, for each objective, and whether the rate holds."""
    p_d = np.random.default_rng(seed).dirichlet(np.full(cells, 5.0))
    p_g = np.where(np.arange(cells) < cells // 2, p_d, 0.0)
    p_g /= p_g.sum()
    within, curves, ends = [], [], []
    for name in names:
        found = fit.function_space(p_d, p_g, name, steps=steps, step_size=0.1, schedule="inverse-sqrt")
        within.append(found.gap <= found.stats["rate_bound"] + 1e-9)
        curves.append(found.stats["total_variation"].numpy())
        ends.append(min(float(curves[-1][-1]), found.stats["average_total_variation"]))
    return {"start": curves[0][0], "within": within, "curves": curves, "ends": ends}


EXPERIMENTS = (
    Experiment(
        "function-space",
        "primal-dual",
        "The primal-dual method converges in function space, also from a p_g that misses half of the support.",
        f"{PRIMAL_DUAL}, the convergence theorem",
        function_space,
        5,
    ),
)
