"""Chen, Wang and Ge's experiments: two clusters, mixtures, and pictures, with and without the primal-dual term."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from saddlegan import metrics, networks, train
from saddlegan.game import Game
from saddlegan.workbench.data.sources import Data, load
from saddlegan.workbench.data.spec import DataSpec
from saddlegan.workbench.report.figures import samples as drawn
from saddlegan.workbench.report.figures import style, training
from saddlegan.workbench.reproductions import pairs, pictures
from saddlegan.workbench.reproductions.finding import Check, Experiment, Figure, Finding, spread
from saddlegan.workbench.reproductions.work import Work
from saddlegan.workbench.training.recipe import STEADY, defaults_for, make_recipe
from saddlegan.workbench.training.session import Session

PRIMAL_DUAL = "Chen, Wang and Ge, Training GANs via Primal-Dual Subgradient Methods, ICLR 2018 (arXiv 1802.01765)"
CLUSTERS = torch.tensor([[-1.0, 0.0], [1.0, 0.0]])
SD = 0.1
GAMMAS = (0.01, 0.1, 1.0)
RULES = ("vanilla", "WGAN", *(f"R1 {gamma:g}" for gamma in GAMMAS), "primal-dual")
KINDS = ("local D", "smooth D")
NEAR = 0.5  # of a cluster's centre: what counts as its sample
WEIGHT = 40.0


def two_clusters(work: Work) -> Finding:
    """G starts on one of two clusters: who finds the other?"""
    steps = 800 if work.full else 150
    parts = {
        (kind, rule): [
            work.part(
                f"{kind}-{rule}-{seed}".replace(" ", "-"),
                lambda kind=kind, rule=rule, seed=seed: _cluster_run(kind, rule, seed, steps),
            )
            for seed in work.seeds
        ]
        for kind in KINDS
        for rule in RULES
    }
    share = {key: [float(part["share"][-1]) for part in found] for key, found in parts.items()}
    n = len(work.seeds)

    def found(kind: str, rule: str) -> int:
        return sum(0.25 <= value <= 0.75 for value in share[kind, rule])

    def said(kind: str, rule: str) -> str:
        values = [100 * value for value in share[kind, rule]]
        return f"in {found(kind, rule)} of {n} seeds; {spread(values)}% of the samples are at the other cluster"

    tuned = {kind: max(RULES[2:-1], key=lambda rule: found(kind, rule)) for kind in KINDS}
    field = {kind: parts[kind, "vanilla"][0] for kind in KINDS}
    return Finding(
        setting={
            "data": f"two Gaussians of sd {SD} at (-1, 0) and (1, 0)",
            "start": "G regressed onto the left one, D trained against it for 300 steps",
            "steps": steps,
            "batch": 128,
            "G": "MLP 2 x 64, Gaussian latent of 4, Adam (0.5, 0.999) at 1e-3, non-saturating loss",
            "local D": "MLP 2 x 64 on random Fourier features of scale 3, leaky ReLU",
            "smooth D": "MLP 2 x 64, softplus",
            "R1": f"the best of {', '.join(f'{gamma:g}' for gamma in GAMMAS)}",
            "primal-dual": f"weight {WEIGHT:g}, bandwidths from the data",
            "WGAN": "gradient penalty 10, 3 moves of D a step",
            "seeds": n,
        },
        checks=[
            Check(
                "the standard GAN does not find the other cluster (local D)",
                said("local D", "vanilla"),
                found("local D", "vanilla") == 0,
            ),
            Check(
                "the Wasserstein GAN does not find it (local D)", said("local D", "WGAN"), found("local D", "WGAN") == 0
            ),
            Check(
                "the primal-dual term finds it (local D)",
                said("local D", "primal-dual"),
                found("local D", "primal-dual") == n,
            ),
            Check(
                "the primal-dual term finds it (smooth D)",
                said("smooth D", "primal-dual"),
                found("smooth D", "primal-dual") == n,
            ),
            Check(
                "a tuned R1 does not find it (local D)",
                f"{tuned['local D']}: {said('local D', tuned['local D'])}",
                found("local D", tuned["local D"]) == 0,
                ours=True,
            ),
            Check(
                "with a smooth D plain training does not find it either",
                f"vanilla {said('smooth D', 'vanilla')}; WGAN {said('smooth D', 'WGAN')}; "
                f"{tuned['smooth D']} {said('smooth D', tuned['smooth D'])}",
                found("smooth D", "vanilla") + found("smooth D", "WGAN") == 0,
                ours=True,
            ),
        ],
        figures=[
            Figure(
                _fields(field),
                "Arrows of the discriminator's gradient over the plane, for a local and a smooth discriminator.",
                "Where D sends samples before training, first seed: grey data, orange G's samples. Only a slope that "
                "points from left to right all the way carries samples over.",
            ),
            Figure(
                _shares(parts, steps),
                "Share of samples at the missing cluster over the steps, for each rule and both discriminators.",
                "First seed. Dashed: the data's own share.",
            ),
        ],
        numbers={f"{kind}, {rule}": values for (kind, rule), values in share.items()},
        remark="Found means that between a quarter and three quarters of 2,000 samples lie within 0.5 of the other "
        "cluster's centre at the end. The paper's own networks and steps are not at hand.",
    )


def _clusters(n: int, draw: torch.Generator) -> Tensor:
    return CLUSTERS[torch.randint(2, (n,), generator=draw)] + SD * torch.randn(n, 2, generator=draw)


def _cluster_run(kind: str, rule: str, seed: int, steps: int) -> dict[str, Any]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        G = networks.MLP(4, 2, hidden=(64, 64))
        D = (
            networks.MLP(2, 1, hidden=(64, 64), fourier=3.0)
            if kind == "local D"
            else networks.MLP(2, 1, hidden=(64, 64), activation="softplus")
        )
    draw = torch.Generator().manual_seed(seed)
    opt_G, opt_D = pairs.adam(G), pairs.adam(D)
    for _ in range(300):
        z = torch.randn(128, 4, generator=draw)
        opt_G.zero_grad()
        (G(z) - CLUSTERS[0] - SD * z[:, :2]).square().mean().backward()
        opt_G.step()
    penalty: Any = None
    if rule == "WGAN":
        penalty = train.GradientPenalty(10.0, generator=draw)
    elif rule.startswith("R1"):
        penalty = train.R1(float(rule.split()[1]))
    game = Game(
        G,
        D,
        objective="wasserstein" if rule == "WGAN" else "non-saturating",
        latent=4,
        discriminator_penalty=penalty,
    )
    opt_G = pairs.adam(G)
    moves = 3 if rule == "WGAN" else 1
    warm = train.Alternating(game, torch.optim.SGD(G.parameters(), 0.0), opt_D, generator=draw)
    for _ in range(300):
        warm.step(_clusters(128, draw))
    slope = _slope(D)
    if rule == "primal-dual":
        found: train.AbstractRule = train.PrimalDual(game, opt_G, opt_D, weight=WEIGHT, generator=draw)
    else:
        found = train.Alternating(game, opt_G, opt_D, n_critic=moves, generator=draw)
    share, start = [_share(G)], _samples(G, 200)
    for step in range(steps):
        found.step(_clusters(128 * moves, draw))
        if (step + 1) % (steps // 10) == 0:
            share.append(_share(G))
    return {"share": share, "slope": slope, "start": start, "end": _samples(G, 200)}


@torch.no_grad()
def _samples(G: nn.Module, n: int) -> np.ndarray:
    return G(torch.randn(n, 4, generator=torch.Generator().manual_seed(5))).numpy()


def _share(G: nn.Module) -> float:
    return float((np.linalg.norm(_samples(G, 2_000) - CLUSTERS[1].numpy(), axis=1) < NEAR).mean())


def _grid() -> np.ndarray:
    x, y = np.meshgrid(np.linspace(-1.8, 1.8, 19), np.linspace(-0.8, 0.8, 9))
    return np.stack([x.ravel(), y.ravel()], 1).astype(np.float32)


def _slope(D: nn.Module) -> np.ndarray:
    x = torch.from_numpy(_grid()).requires_grad_()
    return torch.autograd.grad(D(x).sum(), x)[0].numpy()


def _fields(field: Mapping[str, Mapping[str, np.ndarray]]) -> bytes:
    data = _clusters(200, torch.Generator().manual_seed(0)).numpy()
    grid = _grid()
    with style.look():
        figure = style.new_figure(4.4)
        for axes, (kind, part) in zip(figure.subplots(2, 1), field.items(), strict=True):
            length = np.linalg.norm(part["slope"], axis=1, keepdims=True)
            unit = part["slope"] / np.maximum(length, 1e-9)
            axes.scatter(*data.T, s=4, color=style.SHADE, linewidths=0)
            axes.scatter(*part["start"].T, s=4, color=style.GENERATED, linewidths=0)
            axes.quiver(*grid.T, *unit.T, color=style.REAL, width=0.0025, scale=28)
            axes.set_title(kind)
            axes.set_aspect("equal")
        return style.png(figure)


def _shares(parts: Mapping[tuple[str, str], Sequence[Mapping[str, np.ndarray]]], steps: int) -> bytes:
    with style.look():
        figure = style.new_figure(3.0)
        for axes, kind in zip(figure.subplots(1, 2, sharey=True), KINDS, strict=True):
            for rule in RULES:
                values = parts[kind, rule][0]["share"]
                axes.plot(np.linspace(0, steps, len(values)), values, linewidth=1.2, label=rule)
            axes.axhline(0.5, color=style.MUTED, linestyle="--", linewidth=0.8)
            axes.set_title(kind)
            axes.set_xlabel("step")
        figure.axes[0].set_ylabel("share at the other cluster")
        handles, names = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=3, fontsize=7)
        return style.png(figure)


MIXTURES = ("ring", "grid", "100 modes")
COMPARED = ("alternating", "extragradient", "primal-dual")


def mixtures(work: Work) -> Finding:
    """Modes, high quality and total variation of every rule on three mixtures."""
    names = MIXTURES if work.full else MIXTURES[:1]
    rules = COMPARED if work.full else (COMPARED[0], COMPARED[-1])
    steps = 2_000 if work.full else 250
    found: dict[tuple[str, str], list[dict[str, np.ndarray]]] = {}
    most = {}
    for name in names:
        data = _hundred() if name == "100 modes" else load(name)
        most[name] = len(data.centers if data.centers is not None else ())
        seeds = list(work.seeds)[:1] if name == "100 modes" else work.seeds
        for rule in rules if name != "100 modes" else (COMPARED[0], COMPARED[-1]):
            found[name, rule] = [
                work.part(
                    f"{name}-{rule}-{seed}".replace(" ", "-"),
                    lambda data=data, rule=rule, seed=seed: _mixture_run(data, rule, seed, steps),
                )
                for seed in seeds
            ]
    numbers = {
        f"{name}, {rule}": {key: [float(part[key]) for part in parts] for key in ("modes", "quality", "variation")}
        for (name, rule), parts in found.items()
    }

    def said(name: str, rule: str) -> str:
        n = numbers[f"{name}, {rule}"]
        return (
            f"{rule} {spread(n['modes'])} of {most[name]} modes, high quality "
            f"{spread([100 * q for q in n['quality']])}%, total variation {spread(n['variation'])}"
        )

    def mean(name: str, rule: str, key: str) -> float:
        return float(np.mean(numbers[f"{name}, {rule}"][key]))

    checks = []
    for name in names:
        checks.append(
            Check(
                f"{name}: the primal-dual rule recovers every mode",
                said(name, "primal-dual"),
                min(numbers[f"{name}, primal-dual"]["modes"]) == most[name]
                and mean(name, "primal-dual", "quality") > 0.05,  # below, counts of modes say nothing
            )
        )
        others = [rule for mixture, rule in found if mixture == name and rule != "primal-dual"]
        checks.append(
            Check(
                f"{name}: it spreads its samples over the modes better than the other rules",
                "; ".join(said(name, rule) for rule in others),
                all(mean(name, "primal-dual", "variation") < mean(name, rule, "variation") for rule in others),
            )
        )
    first = found[names[0], "primal-dual"][0]
    return Finding(
        setting={
            "data": ", ".join(f"{name} ({most[name]} modes)" for name in names),
            "steps": f"{steps:,} (by default such rates take 12,000)",
            "everything else": "defaults of `saddlegan train` at its steady rates, the same for each rule",
            "samples": "2,500 of the moving average, judged by PacGAN's protocol",
            "seeds": f"{len(work.seeds)}" + ("; one for 100 modes" if "100 modes" in names else ""),
        },
        checks=checks,
        figures=[
            Figure(
                drawn.real_and_generated_points(np.asarray(load(names[0]).X)[:2_500], first["rows"], labels=("x", "y")),
                "Real and generated points of the ring.",
                "Ring, primal-dual, first seed.",
            )
        ],
        numbers=numbers,
        remark="A perfect sampler has a high quality of 98.89% (three standard deviations in the plane), and a total "
        "variation of about 0.02 on the ring, 0.04 on the grid and 0.08 on 100 modes at 2,500 samples. Mode counts at "
        "a high quality below 5% say nothing. The latents of the command's defaults hold signs, which pull modes apart "
        "by themselves; two-clusters starts from collapse instead.",
    )


def _hundred() -> Data:
    """10 x 10 Gaussians at spacing 2, sd 0.05."""
    side = 2.0 * np.arange(10.0) - 9.0
    centers = np.stack(np.meshgrid(side, side), -1).reshape(-1, 2)
    draw = np.random.default_rng(0)
    X = centers[draw.integers(100, size=20_000)] + 0.05 * draw.standard_normal((20_000, 2))
    grid = load("grid")
    spec: DataSpec = grid.spec.model_copy(update={"source": "100 modes", "shape": X.shape, "n_samples": len(X)})
    return dataclasses.replace(grid, name="100 modes", X=X, spec=spec, centers=centers, sd=0.05)


def _mixture_run(data: Data, rule: str, seed: int, steps: int) -> dict[str, Any]:
    # the steady rates are those under which the rules were compared
    recipe = make_recipe(**{**defaults_for(data, rule), **STEADY, "rule": rule, "seed": seed, "steps": steps})
    session = Session(recipe, data)
    for _ in range(steps):
        session.step()
    rows = session.samples(2_500, seed=seed)[0]
    centers, sd = np.asarray(data.centers), float(data.sd or 0.0)
    judged = metrics.mode_metrics(rows, centers, sd)
    return {
        "modes": judged.modes,
        "quality": judged.high_quality,
        "variation": judged.total_variation,
        "rows": rows.astype(np.float32),
    }


SPACES = ("plain", "primal-dual on pixels", "primal-dual on features")


def picture_recovery(work: Work) -> Finding:
    """A pair collapsed onto two classes goes on on all of them: plain, or with the primal-dual term in two spaces."""
    small = work.data in (None, "digits")
    shown = pictures.load(work.data, side=None if small else 16)
    judge = pairs.judge(shown, work.folder)
    width, before, steps = (32, 200, 400) if work.full else (16, 60, 80)
    parts = {
        space: [
            work.part(
                f"{space.replace(' ', '-')}-{seed}",
                lambda space=space, seed=seed: _picture_run(shown, judge, space, seed, width, before, steps),
            )
            for seed in work.seeds
        ]
        for space in SPACES
    }
    labels, held = shown.named()
    truth = np.array([(held == name).mean() for name in np.unique(labels)])
    off = {s: [float(np.abs(p["histogram"] - truth).sum() / 2) for p in found] for s, found in parts.items()}
    start = [float(np.abs(p["start"] - truth).sum() / 2) for p in parts["plain"]]
    score = {s: [float(p["score"]) for p in found] for s, found in parts.items()}
    distance = {s: [float(p["distance"]) for p in found] for s, found in parts.items()}
    density = {s: [float(p["density"]) for p in found] for s, found in parts.items()}
    floor = float(np.abs(judge.histogram(shown.train[: len(shown.held_out)]) - truth).sum() / 2)

    def said(values: Mapping[str, list[float]]) -> str:
        return ", ".join(f"{space} {spread(values[space])}" for space in SPACES)

    def best(values: Mapping[str, list[float]], sign: float = 1.0) -> bool:
        # of the two spaces the one that needs no labels; the other is shown beside it and not picked afterwards
        gaps = sign * (np.array(values["plain"]) - np.array(values[SPACES[1]]))
        return bool(gaps.mean() > (2.0 * gaps.std(ddof=1) / math.sqrt(len(gaps)) if len(gaps) > 1 else 0.0))

    return Finding(
        setting={
            "data": shown.name,
            "networks": f"SN-GAN-like pair of width {width}",
            "start": f"{before} steps on two classes alone, then {steps} on all",
            "primal-dual": f"weight {WEIGHT:g}, bandwidths from the data, in pixels and in the classifier's features",
            "measured on": f"{judge.words}; real score {judge.real_score:.3g}",
            "seeds": len(work.seeds),
        },
        checks=[
            Check(
                "from collapse the primal-dual term on pixels brings the class histogram nearer to the data's",
                f"total variation from {spread(start)} at the start: {said(off)}; real pictures {floor:.2g}",
                best(off),
            ),
            Check("its inception-like score is higher", said(score), best(score, -1.0)),
            Check(
                "its Frechet distance is lower",
                f"{said(distance)}; real pictures {judge.floor:.3g}",
                best(distance),
                ours=True,
            ),
            Check(
                "its kernels see the samples: mean density at real points above 1e-6",
                ", ".join(f"{space} {np.mean(density[space]):.2g}" for space in SPACES[1:]),
                min(float(np.mean(density[space])) for space in SPACES[1:]) > 1e-6,
                ours=True,
            ),
        ],
        figures=[
            Figure(
                training.strip(
                    {place: parts[space][0]["rows"] for place, space in enumerate(SPACES)},
                    image_shape=shown.shape,
                    value_range=(-1.0, 1.0),
                    limits=(np.full(1, -1.0), np.full(1, 1.0)),
                ),
                "Samples of the first seed for the three ways of going on.",
                ", ".join(f"{place}: {space}" for place, space in enumerate(SPACES)) + ".",
            )
        ],
        numbers={"histogram_off": off, "start": start, "score": score, "frechet": distance, "density": density},
        remark="Chen's own scores on CIFAR-10 cannot be traced to a text at hand and are not compared. In 64 "
        "dimensions and more all of a batch is at nearly one distance from a real point, so that bandwidths follow the "
        "root of the total variance: the density then is a smooth one, and the term pulls towards the bulk. A claim "
        "about means holds if the seeds' mean difference exceeds twice its error.",
    )


def _picture_run(
    shown: pictures.Pictures, judge: pairs.Judge, space: str, seed: int, width: int, before: int, steps: int
) -> dict[str, Any]:
    G, D = pairs.make(shown, seed, width=width)
    draw = torch.Generator().manual_seed(seed)
    game = Game(G, D, objective="non-saturating", latent=pairs.LATENT)
    opt_G, opt_D = pairs.adam(G), pairs.adam(D)
    labels, _ = shown.named()
    two = np.isin(labels, np.unique(labels)[:2])
    pairs.play(train.Alternating(game, opt_G, opt_D, generator=draw), pairs.Batches(shown.train[two], seed), before)
    start = judge.histogram(pairs.sample(G, pairs.EVALUATED))
    batches, density = pairs.Batches(shown.train, seed + 100), 0.0
    if space == "plain":
        pairs.play(train.Alternating(game, opt_G, opt_D, generator=draw), batches, steps)
    else:
        features = judge.features if space.endswith("features") else None
        rule = train.PrimalDual(game, opt_G, opt_D, weight=WEIGHT, features=features, generator=draw)
        for _ in range(steps):
            density += rule.step(batches()).stats["density"] / steps
    rows = pairs.sample(G, pairs.EVALUATED)
    return {
        "start": start,
        "histogram": judge.histogram(rows),
        "score": judge.score(rows),
        "distance": judge.frechet(rows),
        "density": density,
        "rows": rows[:16],
    }


EXPERIMENTS = (
    Experiment(
        "two-clusters",
        "primal-dual",
        "A toy example shows that the primal-dual objective resolves mode collapse that the standard GAN and the "
        "Wasserstein GAN cannot avoid.",
        f"{PRIMAL_DUAL}, abstract and toy example",
        two_clusters,
        5,
    ),
    Experiment(
        "mixtures",
        "primal-dual",
        "On Gaussian mixtures the primal-dual rule generates diverse samples.",
        f"{PRIMAL_DUAL}, abstract and synthetic data",
        mixtures,
        3,
    ),
    Experiment(
        "picture-recovery",
        "primal-dual",
        "On real pictures the primal-dual objective gives more diverse samples.",
        f"{PRIMAL_DUAL}, abstract and image data",
        picture_recovery,
        3,
        takes_data=True,
    ),
)
