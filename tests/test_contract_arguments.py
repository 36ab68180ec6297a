"""What every door takes as a number or a seed: every spelling is taken, booleans are refused.

Complete by construction for seeds, where a public callable without a row fails; the numbers are a table.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.model_selection import GridSearchCV

from saddlegan import certify, errors, fit, train
from train_cases import RULES, adam, data, mlp_game

X = np.random.default_rng(0).normal(size=(24, 3))
REAL = data(16)
QUICK = certify.Search(steps=2, restarts=1, evaluations=1, samples=16, batch_size=8)
SEEDS: dict[str, Callable[[], Any]] = {
    "None": lambda: None,
    "int": lambda: 3,
    "numpy integer": lambda: np.int64(3),
    "RandomState": lambda: np.random.RandomState(3),
    "numpy Generator": lambda: np.random.default_rng(3),
    "torch Generator": lambda: torch.Generator().manual_seed(3),
}


def judged(judge: Callable[..., Any], **options: Any) -> Callable[[Any], Any]:
    return lambda seed: judge(mlp_game(), REAL, random_state=seed, **options)


#: one row per public callable with a `random_state`: a call that uses it
SEEDED: dict[str, Callable[[Any], Any]] = {
    "fit.ProCoGAN": lambda seed: (
        fit.ProCoGAN((4,), (2,), random_state=seed)
        .fit(np.random.default_rng(0).integers(0, 255, (12, 4, 4, 1)).astype(np.uint8))
        .sample(2, resolution=4)
    ),
    "fit.QuadraticWGAN": lambda seed: (
        # features make it estimate moments, which is what the seed is for
        fit.QuadraticWGAN(2, features=torch.nn.Tanh(), n_moment_latents=200, random_state=seed).fit(X)
    ),
    "fit.ReLUWGAN": lambda seed: fit.ReLUWGAN(random_state=seed).fit(X[:6, :1]),
    "fit.discrepancy": lambda seed: fit.discrepancy(X[:8], X[8:16], "relu", random_state=seed),
    "fit.two_layer_generator": lambda seed: fit.two_layer_generator(
        X[:6, :2], X[6:12, :1], tolerance=0.9, random_state=seed
    ),
    "certify.Watch": lambda seed: certify.Watch(mlp_game(), REAL, every=1, search=QUICK, random_state=seed),
    "certify.critical_lambda": judged(certify.critical_lambda, lams=(1.0,), search=QUICK),
    "certify.diagnose": lambda seed: certify.diagnose(mlp_game(), data(64), random_state=seed),
    "certify.local": judged(certify.local),
    "certify.duality_gap": judged(certify.duality_gap, search=QUICK),
    "certify.game_spectrum": judged(certify.game_spectrum, count=1, samples=8),
    "certify.generator_deviation": judged(certify.generator_deviation, search=QUICK),
    "certify.gradient_norms": judged(certify.gradient_norms, samples=8),
    "certify.nash": judged(certify.nash, search=QUICK),
    "certify.path_angle": lambda seed: certify.path_angle(
        mlp_game(), mlp_game(1).G, mlp_game(1).D, REAL, points=3, samples=8, random_state=seed
    ),
    "certify.proximal": judged(certify.proximal, lam=1.0, search=QUICK),
    "certify.proximal_duality_gap": judged(certify.proximal_duality_gap, lam=1.0, search=QUICK),
    "certify.stackelberg": judged(certify.stackelberg, search=QUICK),
}


def with_parameter(name: str) -> set[str]:
    doors = {"fit": fit, "train": train, "certify": certify}
    public = {f"{door}.{each}": getattr(room, each) for door, room in doors.items() for each in room.__all__}
    return {key for key, each in public.items() if callable(each) and name in inspect.signature(each).parameters}


def test_every_seeded_callable_has_a_row():
    assert set(SEEDED) == with_parameter("random_state")


def check_seed(call: Callable[[Any], Any], seed: Any) -> None:
    """The contract: a seed of this kind is taken, a boolean is none."""
    call(seed)
    with pytest.raises((errors.InputError, errors.InputTypeError)):
        call(True)


@pytest.mark.parametrize("kind", SEEDS)
@pytest.mark.parametrize("name", sorted(SEEDED))
def test_every_seed_is_taken(name, kind):
    check_seed(SEEDED[name], SEEDS[kind]())


def test_a_callable_that_takes_only_plain_integers_is_caught():
    def narrow(seed: Any) -> None:
        if type(seed) is not int:
            raise errors.InputTypeError("plain integers only")

    check_seed(narrow, 3)
    with pytest.raises(errors.InputTypeError):
        check_seed(narrow, np.int64(3))
    with pytest.raises(pytest.fail.Exception):
        check_seed(lambda seed: None, 3)


def moved(kind: type[train.AbstractRule], name: str) -> Callable[[Any], Any]:
    def build(value: Any) -> None:
        game = mlp_game()
        kind(game, *adam(game), **{name: value})

    return build


#: (callable, argument): how to pass it, and a number that is valid
NUMBERS: dict[str, tuple[Callable[[Any], Any], float]] = {
    "alternating n_critic": (moved(train.Alternating, "n_critic"), 2),
    "unrolled steps": (moved(train.Unrolled, "steps"), 2),
    "unrolled length": (moved(train.Unrolled, "length"), 0.5),
    "proximal lam": (moved(train.Proximal, "lam"), 0.5),
    "proximal steps": (moved(train.Proximal, "steps"), 2),
    "primal-dual points": (moved(train.PrimalDual, "points"), 4),
    "quadratic n_latent": (lambda value: fit.QuadraticWGAN(value).fit(X), 2),
    "quadratic beta": (lambda value: fit.QuadraticWGAN(2, beta=value).fit(X), 1.0),
    "polynomial beta": (lambda value: fit.PolynomialWGAN(beta=value).fit(X), 0.5),
    "r1 weight": (train.R1, 0.5),
    "clipping bound": (train.WeightClipping, 0.5),
    "search steps": (lambda value: certify.Search(steps=value), 2),
    "proximal certificate lam": (
        lambda value: certify.proximal(mlp_game(), REAL, lam=value, search=QUICK, random_state=0),
        1.0,
    ),
    **{f"{name} accumulate": (moved(kind, "accumulate"), 2) for name, kind in train.RULES.items()},
}


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_of_every_kind_are_taken_and_booleans_refused(name):
    call, value = NUMBERS[name]
    for same in (value, np.asarray(value)[()], np.asarray(value), torch.tensor(value)):
        call(same)
    with pytest.raises((errors.InputError, errors.InputTypeError)):
        call(True)


def test_a_grid_of_numpy_integers_is_searched():
    search = GridSearchCV(fit.QuadraticWGAN(random_state=0), {"n_latent": np.arange(1, 4)}, cv=2)
    search.fit(np.random.default_rng(1).normal(size=(60, 6)))
    assert search.best_params_["n_latent"] in (1, 2, 3)


@pytest.mark.parametrize("wrap", [lambda x: x.tolist(), lambda x: pd.DataFrame(x.numpy())], ids=["list", "frame"])
def test_certify_reads_whatever_fit_reads(wrap):
    """Oracle: the tensor itself, bit for bit."""
    plain = certify.gradient_norms(mlp_game(), REAL, samples=8)
    assert certify.gradient_norms(mlp_game(), wrap(REAL), samples=8) == plain


def test_every_rule_has_a_case():
    assert set(train.RULES) <= set(RULES)
