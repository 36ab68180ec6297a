"""Farnia and Ozdaglar's experiments on trained pairs: frozen discriminators, proximal training, the spectrum."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from saddlegan import certify, networks, train
from saddlegan.game import Game
from saddlegan.modules import clone
from saddlegan.search import Search
from saddlegan.workbench.data import sources
from saddlegan.workbench.report.figures import style, training
from saddlegan.workbench.reproductions import pairs
from saddlegan.workbench.reproductions.finding import Check, Experiment, Figure, Finding, spread
from saddlegan.workbench.reproductions.pictures import Pictures, load
from saddlegan.workbench.reproductions.work import Work

NASH = "Farnia and Ozdaglar, Do GANs always have Nash equilibria?, ICML 2020 (arXiv 2002.09124)"
KINDS = ("SN-GAN", "WGAN with clipping", "WGAN-GP")
CLIP = 0.05
SHOWN = 16  # samples in a strip's sheet


def side_of(work: Work, side: int) -> int | None:
    """The side to shrink pictures to: digits stay as they are."""
    return None if work.data in (None, "digits") else side


def frozen_discriminator(work: Work) -> Finding:
    """Train a pair, freeze D, train G on: on V, and on V_lam around D."""
    pictures = load(work.data, side=side_of(work, 16))
    judge = pairs.judge(pictures, work.folder)
    width = 32 if work.full else 16
    steps, further, every = (600, 200, 50) if work.full else (150, 60, 20)
    lam = 0.1
    falls: dict[str, list[float]] = {}
    worse: dict[str, dict[str, list[float]]] = {"V": {}, "V_lam": {}}
    first: dict[str, Mapping[str, np.ndarray]] = {}
    for kind in KINDS:
        parts = [
            work.part(
                f"{kind.replace(' ', '-')}-{seed}",
                lambda kind=kind, seed=seed: _frozen(
                    pictures, judge, kind, seed, width=width, steps=steps, further=further, every=every, lam=lam
                ),
            )
            for seed in work.seeds
        ]
        first[kind] = parts[0]
        falls[kind] = [float(part["V value"][0] - part["V value"][-1]) for part in parts]
        for name in worse:
            worse[name][kind] = [float(part[f"{name} distance"][-1] / part[f"{name} distance"][0]) for part in parts]
    at = np.arange(0, further + 1, every)
    panels: dict[str, Any] = {
        kind: {name: (at, first[kind][f"{key} distance"]) for name, key in (("on V", "V"), ("on V_lam", "V_lam"))}
        for kind in KINDS
    }
    figures = [
        Figure(
            training.curves(panels),
            "Frechet distance of the samples over further steps of G, for three kinds of discriminator.",
            "Frechet distance to held-out pictures while G goes on against the frozen D, first seed.",
        )
    ]
    for kind in KINDS:
        for name, words in (("V", "V"), ("V_lam", "V_lambda")):
            sheets = {int(step): rows for step, rows in zip(at, first[kind][f"{name} samples"], strict=True)}
            figures.append(
                Figure(
                    training.strip(
                        sheets,
                        image_shape=pictures.shape,
                        value_range=(-1.0, 1.0),
                        limits=(np.full(1, -1.0), np.full(1, 1.0)),
                    ),
                    f"Samples of the {kind} while G goes on on {words}.",
                    f"{kind}, G goes on on {words}: samples after so many further steps.",
                )
            )
    return Finding(
        setting={
            "data": pictures.name,
            "networks": f"DCGAN's G, D of width {width}, softplus",
            "steps before": steps,
            "steps with D frozen": further,
            "batch": pairs.BATCH,
            "lambda": f"{lam:g}, Sobolev norm, 2 ascents of a kept D' a step",
            "measured on": f"{judge.words}; training pictures reach {judge.floor:.3g}",
            "seeds": len(work.seeds),
        },
        checks=[
            *(
                Check(
                    f"{kind}: with D frozen G goes on to lower V, so that the pair is no local Nash equilibrium",
                    f"V falls by {spread(falls[kind])}; Frechet distance times {spread(worse['V'][kind])}",
                    min(falls[kind]) > 0.01 * abs(float(first[kind]["V value"][0])),
                )
                for kind in KINDS
            ),
            *(
                Check(
                    f"{kind}: its samples become worse on V",
                    f"Frechet distance times {spread(worse['V'][kind])} after {further} steps",
                    min(worse["V"][kind]) > 1.2,
                )
                for kind in KINDS
            ),
            *(
                Check(
                    f"{kind}: on V_lambda around the frozen D the samples do not become worse",
                    f"Frechet distance times {spread(worse['V_lam'][kind])}",
                    float(np.mean(worse["V_lam"][kind])) < 1.2,
                )
                for kind in KINDS
            ),
        ],
        figures=figures,
        numbers={
            "fall_of_value": falls,
            "distance_after_over_before": worse,
            "curves": {
                kind: {key: part[key] for key in part if not key.endswith("samples")} for kind, part in first.items()
            },
        },
        remark="Scaled down from the talk's SN-GAN on a GPU: small pictures, few steps, untuned. V is the zero-sum "
        "value on fixed pictures and latents. The value of V_lambda is known from below only, so that stable samples "
        "are shown, not a strict equilibrium.",
    )


def _frozen(
    pictures: Pictures,
    judge: pairs.Judge,
    kind: str,
    seed: int,
    *,
    width: int,
    steps: int,
    further: int,
    every: int,
    lam: float,
) -> dict[str, Any]:
    G, D = pairs.make(pictures, seed, width=width, spectral=kind == "SN-GAN")
    draw = torch.Generator().manual_seed(seed)
    wasserstein = kind != "SN-GAN"
    penalty = train.GradientPenalty(10.0, generator=draw) if kind == "WGAN-GP" else None
    clip = train.WeightClipping(CLIP) if kind == "WGAN with clipping" else None
    loss = "wasserstein" if wasserstein else "non-saturating"
    game = Game(G, D, objective=loss, latent=pairs.LATENT, discriminator_penalty=penalty)
    rule = train.Alternating(game, pairs.adam(G), pairs.adam(D), generator=draw, constraint=clip)
    batches = pairs.Batches(pictures.train, seed)
    pairs.play(rule, batches, steps)
    found: dict[str, Any] = {}
    for name in ("V", "V_lam"):
        free = game.replace(G=clone(G), D=clone(D))
        opt_G, opt_D = pairs.adam(free.G), pairs.adam(free.D)
        if name == "V":
            free.D.requires_grad_(False)
            goes: train.AbstractRule = train.Alternating(free, opt_G, opt_D, generator=draw)
        else:  # D' ascends from D, and D follows it so slowly that it stands still
            goes = train.Proximal(
                free, opt_G, opt_D, lam=lam, steps=2, rate=1e-12, points=16, constraint=clip, generator=draw
            )
        # the value of the frozen pair: zero-sum, without the penalty, which is D's alone
        value = Game(free.G, D, objective="wasserstein" if wasserstein else "vanilla", latent=pairs.LATENT)
        figures: dict[str, list[Any]] = {"value": [], "distance": [], "samples": []}
        for step in range(further + 1):
            if step % every == 0:
                figures["value"].append(pairs.value(value, pictures.held_out))
                figures["distance"].append(judge.frechet(pairs.sample(free.G, pairs.EVALUATED)))
                figures["samples"].append(pairs.sample(free.G, SHOWN, seed=1))
            if step < further:
                goes.step(batches())
        found |= {f"{name} {key}": np.array(values) for key, values in figures.items()}
    return found


ARMS = ("ordinary", "proximal", "R1")


def proximal_training(work: Work) -> Finding:
    """Ordinary against proximal training, at equal updates and at equal time."""
    pictures = load(work.data, side=side_of(work, 16))
    judge = pairs.judge(pictures, work.folder)
    width, steps = (32, 800) if work.full else (16, 120)
    arms = {
        arm: [
            work.part(
                f"{arm}-{seed}",
                lambda arm=arm, seed=seed: _train(pictures, judge, arm, seed, width=width, steps=steps),
            )
            for seed in work.seeds
        ]
        for arm in ARMS
    }
    cost = {arm: float(np.sum([part["seconds"] for part in parts])) for arm, parts in arms.items()}
    ratio = max(1.0, cost["proximal"] / cost["ordinary"])
    longer = math.ceil(steps * ratio)
    arms["ordinary, equal time"] = [
        work.part(
            f"ordinary-{longer}-{seed}",
            lambda seed=seed: _train(pictures, judge, "ordinary", seed, width=width, steps=longer),
        )
        for seed in work.seeds
    ]
    distance = {arm: [float(part["distance"]) for part in parts] for arm, parts in arms.items()}
    score = {arm: [float(part["score"]) for part in parts] for arm, parts in arms.items()}
    wins = {
        arm: sum(a < b for a, b in zip(distance["proximal"], distance[arm], strict=True))
        for arm in ("ordinary", "ordinary, equal time", "R1")
    }
    n = len(work.seeds)
    with style.look():
        figure = style.new_figure(2.4)
        axes = figure.subplots()
        for place, values in enumerate(distance.values()):
            axes.plot([place] * n, values, "o", color=style.MUTED, ms=3)
            axes.plot([place], [np.mean(values)], "_", color=style.GENERATED, ms=22, mew=2)
        axes.set_xticks(range(len(distance)), [arm.replace(", ", ",\n") for arm in distance])
        axes.set_ylabel("Frechet distance")
        picture = style.png(figure)
    sheet = training.strip(
        {place: arms[arm][0]["samples"] for place, arm in enumerate(distance)},
        image_shape=pictures.shape,
        value_range=(-1.0, 1.0),
        limits=(np.full(1, -1.0), np.full(1, 1.0)),
    )

    def said(other: str) -> str:
        return (
            f"proximal {spread(distance['proximal'])}, {other} {spread(distance[other])}; "
            f"better in {wins[other]} of {n} seeds"
        )

    def better(other: str) -> bool:
        # a claim about means: the difference over seeds must stand out of its own error
        gaps = np.array(distance[other]) - np.array(distance["proximal"])
        return bool(gaps.mean() > (2.0 * gaps.std(ddof=1) / math.sqrt(n) if n > 1 else 0.0))

    return Finding(
        setting={
            "data": pictures.name,
            "networks": f"SN-GAN-like pair of width {width}, softplus, spectral gain 2",
            "updates": steps,
            "updates at equal time": longer,
            "batch": pairs.BATCH,
            "proximal": "lambda 1, Sobolev norm on 16 pictures, one persistent ascent a step, rate 0.1",
            "sampled": "the generator's moving average",
            "measured on": f"{judge.words}; training pictures reach {judge.floor:.3g}, score {judge.real_score:.3g}",
            "seeds": n,
        },
        checks=[
            Check("proximal training gives better samples at equal updates", said("ordinary"), better("ordinary")),
            Check(
                "the inception score is higher (5.62 ± 0.23 against 6.12 ± 0.22 in the slides, on another network)",
                f"inception-like: ordinary {spread(score['ordinary'])}, proximal {spread(score['proximal'])}",
                float(np.mean(score["proximal"])) > float(np.mean(score["ordinary"])),
            ),
            Check(
                "at equal processor time too",
                f"{said('ordinary, equal time')}; a proximal step costs {ratio:.2f} ordinary ones",
                better("ordinary, equal time"),
                ours=True,
            ),
            Check("it is more than R1, the same penalty around 0", said("R1"), better("R1"), ours=True),
        ],
        figures=[
            Figure(picture, "Frechet distance of every arm, one point for each seed.", "Bars: means over the seeds."),
            Figure(
                sheet,
                "Samples of the first seed: ordinary, proximal, R1, ordinary at equal time.",
                "Samples of the first seed: " + ", ".join(f"{k}: {arm}" for k, arm in enumerate(distance)) + ".",
            ),
        ],
        numbers={"frechet": distance, "score": score, "seconds": cost, "cost_ratio": ratio},
        remark="Scaled down: small pictures and networks on a processor, learning rates untuned, so that the slides' "
        "scores cannot be compared. A claim about means holds if the seeds' mean difference exceeds twice its error.",
    )


def _train(pictures: Pictures, judge: pairs.Judge, arm: str, seed: int, *, width: int, steps: int) -> dict[str, Any]:
    G, D = pairs.make(pictures, seed, width=width)
    draw = torch.Generator().manual_seed(seed)
    penalty = train.R1(1.0) if arm == "R1" else None
    game = Game(G, D, objective="non-saturating", latent=pairs.LATENT, discriminator_penalty=penalty)
    opt_G, opt_D = pairs.adam(G), pairs.adam(D)
    if arm == "proximal":
        rule: train.AbstractRule = train.Proximal(game, opt_G, opt_D, lam=1.0, points=16, generator=draw)
    else:
        rule = train.Alternating(game, opt_G, opt_D, generator=draw)
    average = train.MovingAverage(G, decay=min(0.999, 1.0 - 10.0 / steps))
    seconds = pairs.play(rule, pairs.Batches(pictures.train, seed), steps, average)
    rows = pairs.sample(average.module, pairs.EVALUATED)
    return {
        "seconds": seconds,
        "distance": judge.frechet(rows),
        "score": judge.score(rows),
        "samples": rows[:SHOWN],
    }


LAMS = (0.0, 0.01, 0.1, 1.0, 10.0, math.inf)


def trained_spectrum(work: Work) -> Finding:
    """The ladder of lambda on pairs at several stages of training, and on an exact game."""
    rows = 1_000 if work.full else 300
    stages = (100, 1_500) if work.full else (50, 200)
    search = Search(steps=100 if work.full else 20, restarts=3, evaluations=10 if work.full else 4)
    found = {
        stage: [
            work.part(
                f"ring-{stage}-{seed}",
                lambda stage=stage, seed=seed: _ladder(stage, seed, search, rows),
            )
            for seed in work.seeds
        ]
        for stage in stages
    }
    exact = certify.GaussianW2Game(np.diag([4.0, 1.0, 0.25]), 1.7)
    ladder = np.linspace(0.1, 2.5, 25 if work.full else 9)
    verdicts = [exact.proximal(lam=float(lam)).verdict for lam in ladder]
    nested_exact = verdicts == sorted(verdicts)  # "proved" before "refuted"
    gains = {stage: [part["gains"] for part in parts] for stage, parts in found.items()}
    violations = sum(int(part["violations"]) for parts in found.values() for part in parts)
    last = gains[stages[-1]]
    nash = [float(row[-1]) for row in last]
    small = [float(row[0]) for row in last]
    gaps = {
        stage: [float(part["gains"][3] + part["discriminator"]) for part in parts] for stage, parts in found.items()
    }
    with style.look():
        figure = style.new_figure(2.5)
        axes = figure.subplots()
        for stage, colour in zip(stages, (style.REAL, style.GENERATED, style.WITNESS), strict=False):
            axes.plot(range(len(LAMS)), np.mean(gains[stage], axis=0), "o-", color=colour, label=f"{stage:,} steps")
        axes.set_xticks(range(len(LAMS)), ["0", "0.01", "0.1", "1", "10", "∞"])
        axes.set_xlabel("lambda")
        axes.set_ylabel("G's gain found")
        axes.set_yscale("symlog", linthresh=0.01)
        axes.legend()
        picture = style.png(figure)
    said = {stage: [str(part["sentence"]) for part in parts] for stage, parts in found.items()}
    return Finding(
        setting={
            "trained pairs": f"ring of 8 modes, MLPs 2 x 32, softplus D, after {', '.join(map(str, stages))} steps",
            "exact pair": "Gaussian W2GAN, diag(4, 1, 1/4), eta = 1.7",
            "ladder": "0, 0.01, 0.1, 1, 10, infinity",
            "search": f"{search.steps} steps from {search.restarts} starts",
            "seeds": len(work.seeds),
        },
        checks=[
            Check(
                "proximal equilibria are nested: exact pair",
                f"{verdicts.count('proved')} lambdas proved, then {verdicts.count('refuted')} refuted",
                nested_exact and "proved" in verdicts and "refuted" in verdicts,
            ),
            Check(
                "proximal equilibria are nested: trained pairs",
                f"{violations} violations in {sum(map(len, found.values()))} ladders",
                violations == 0,
            ),
            Check(
                "trained pairs are nearer to proximal than to Nash equilibria",
                f"G's gain found at lambda = infinity {spread(nash)}, at lambda = 0 {spread(small)}",
                all(n > s for n, s in zip(nash, small, strict=True)),
            ),
            Check(
                "the proximal gap falls as training goes on (lambda = 1, one budget)",
                ", ".join(f"{stage:,} steps: {spread(values)}" for stage, values in gaps.items()),
                float(np.mean(gaps[stages[-1]])) < float(np.mean(gaps[stages[0]])),
                ours=True,
            ),
        ],
        figures=[
            Figure(
                picture,
                "The generator's gain over lambda, rising from Stackelberg to Nash, at several stages of training.",
                "G's gain found by search at each lambda, mean over seeds.",
            )
        ],
        numbers={
            "generator_gains": {str(stage): np.array(rows).tolist() for stage, rows in gains.items()},
            "gap_at_1": {str(stage): values for stage, values in gaps.items()},
            "sentences": {str(stage): words for stage, words in said.items()},
        },
        remark="Gains at finite lambda are searches within a search: they suspect, they refute nothing, see the "
        "sentences. A generator found at one lambda is tried again at all larger ones, so on trained pairs nestedness "
        "is a check of the searches; on the exact pair it is one of the claim.",
    )


def _ladder(stage: int, seed: int, search: Search, rows: int) -> dict[str, Any]:
    data = sources.load("ring", n_samples=rows, random_state=0)
    X = torch.from_numpy(np.asarray(data.X, dtype=np.float32))
    X = X / X.std()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        G, D = networks.MLP(4, 2, hidden=(32, 32)), networks.MLP(2, 1, hidden=(32, 32), activation="softplus")
    draw = torch.Generator().manual_seed(seed)
    game = Game(G, D, objective="non-saturating", latent=4)
    rule = train.Alternating(game, pairs.adam(G), pairs.adam(D), generator=draw)
    for _ in range(stage):
        rule.step(X[torch.randint(len(X), (128,), generator=draw)])
    judged = Game(G, D, objective="vanilla", latent=4)
    spectrum = certify.critical_lambda(judged, X, lams=LAMS, search=search, random_state=seed)
    return {
        "gains": np.array(spectrum.generator_gains),
        "discriminator": spectrum.certificates[0].discriminator_gain,
        "violations": len(spectrum.violations),
        "sentence": spectrum.sentence,
    }


EXPERIMENTS = (
    Experiment(
        "frozen-discriminator",
        "Nash equilibria",
        "Trained pairs are no local Nash equilibria: with D frozen G runs away; on V_lambda it stays.",
        f"{NASH}; slides of the talk",
        frozen_discriminator,
        3,
        takes_data=True,
    ),
    Experiment(
        "proximal-training",
        "Nash equilibria",
        "Proximal training gives better samples than regular training.",
        f"{NASH}; slides of the talk (SN-GAN)",
        proximal_training,
        5,
        takes_data=True,
    ),
    Experiment(
        "trained-spectrum",
        "Nash equilibria",
        "Proximal equilibria lie on a nested spectrum between Nash and Stackelberg; trained pairs lie on it.",
        f"{NASH}; slides of the talk",
        trained_spectrum,
        3,
    ),
)
