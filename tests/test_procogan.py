"""Oracles: LAPACK's eigendecomposition of the data's covariance; the stages composed by hand; drawn samples."""

import dataclasses
import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits

from saddlegan import fit
from saddlegan.errors import InputError, InputTypeError, SolveError
from saddlegan.fit.progressive import _stages
from saddlegan.fit.progressive._images import block_mean, enlarge
from saddlegan.results import Status


def pictures(n=300, side=16, c=3, dtype="uint8", seed=0):
    """Smooth random images: a few low frequencies with falling weights, and noise."""
    rng = np.random.default_rng(seed)
    grid = np.arange(side) / side
    waves = np.stack([np.cos(np.pi * f * (grid + 0.5 / side)) / (1 + f) for f in range(side)])
    weights = rng.standard_normal((n, side, side, c))
    images = np.einsum("nijc,ih,jw->nhwc", weights, waves, waves) * 60 + 120 + rng.standard_normal((n, side, side, c))
    images = np.clip(images, 0, 255)
    return np.round(images).astype("uint8") if dtype == "uint8" else images.astype(dtype)


def covariance(X, resolution):
    X = np.asarray(X)
    X = X[..., None] if X.ndim == 3 else X
    n, side, _, c = X.shape
    f = side // resolution
    Y = X.astype(np.float64).reshape(n, resolution, f, resolution, f, c).mean((2, 4))
    if X.dtype == np.uint8:
        Y = np.floor(Y + 0.5)
    Y = Y.reshape(n, -1)
    return Y.mean(0), np.cov(Y.T, bias=True)


def violation(stage, X):
    """(||C_X - C_G||_2 - beta) / lambda_1 at one stage."""
    _, C = covariance(X, stage.resolution)
    F = stage.factor.numpy()
    return (np.linalg.norm(C - F.T @ F, 2) - stage.beta) / np.linalg.norm(C, 2)


def assert_solves(model, X, components, tolerance=1e-9):
    for stage, k in zip(model.stages_, components, strict=True):
        mean, C = covariance(X, stage.resolution)
        values = np.linalg.eigvalsh(C)[::-1].clip(0)
        k = min(k, len(values))
        beta = values[k] if k < len(values) else 0.0
        assert stage.beta == pytest.approx(beta, rel=tolerance, abs=tolerance * values[0])
        assert violation(stage, X) <= tolerance
        value = (values[:k] - beta).clip(0).sum()
        assert stage.solution.value == pytest.approx(value, rel=10 * tolerance)
        assert stage.solution.bound == pytest.approx(value, rel=10 * tolerance)
        assert stage.solution.status is Status.OPTIMAL
        np.testing.assert_allclose(stage.mean.numpy(), mean, atol=1e-6)


@pytest.mark.slow  # solves several stages
@pytest.mark.parametrize("c", [1, 3])
@pytest.mark.parametrize("dtype", ["uint8", "float64"])
def test_every_stage_is_solved_exactly(c, dtype):
    X, components = pictures(c=c, dtype=dtype), (6, 12, 30)
    model = fit.ProCoGAN((4, 8, 16), components).fit(X)
    assert_solves(model, X, components)
    assert model.solution_ is model.stage_solutions_[-1]
    assert [stage.fresh for stage in model.stages_] == [6, 6, 18]
    for stage in model.stages_:  # latent i feeds direction i
        above = (stage.eigenvalues - stage.beta).clamp_min(0).sqrt()
        torch.testing.assert_close(stage.factor, above[:, None] * stage.components, rtol=1e-6, atol=1e-6)


@pytest.mark.slow  # whole fits
def test_fewer_images_than_pixels():
    X, components = pictures(n=40), (5, 9, 20)
    assert_solves(fit.ProCoGAN((4, 8, 16), components).fit(X), X, components)


@pytest.mark.slow  # several whole fits
def test_float32_images():
    X, components = pictures(dtype="float32"), (5, 20)
    assert_solves(fit.ProCoGAN((4, 16), components).fit(X), X.astype("float64"), components, tolerance=1e-5)


@pytest.mark.slow  # whole fits
def test_more_components_than_the_images_have():
    """Grey pictures stored in three channels: rank 16 at 4 x 4, where 20 are asked for; no noise is divided by."""
    X = np.repeat(pictures(c=1), 3, axis=3)
    model = fit.ProCoGAN((4, 8, 16), (20, 30, 40)).fit(X)
    assert_solves(model, X, (20, 30, 40))
    assert [stage.kept for stage in model.stages_] == [16, 30, 40]
    assert float(model.stages_[1].weight.abs().max()) < 10


def test_the_checks_can_fail():
    X = pictures()
    model = fit.ProCoGAN((4, 8), (6, 12)).fit(X)
    louder = dataclasses.replace(model.stages_[1], factor=2 * model.stages_[1].factor)
    assert violation(louder, X) > 1e-3
    with pytest.raises(AssertionError):
        assert_solves(model, X[:200], (6, 12))


def test_stages_composed_by_hand_give_the_factor():
    """Feed the enlarged output of one stage and fresh latents to W*, as the text says, and compare with mean + z F."""
    X = pictures()
    model = fit.ProCoGAN((4, 8, 16), (6, 12, 30)).fit(X)
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(50, 30, generator=generator, dtype=torch.float64)
    output = None
    for before, stage in zip((None, *model.stages_), model.stages_, strict=False):
        features = _stages._features(before, stage.resolution, stage.kept, len(stage.mean), torch.device("cpu"))
        if before is None:
            phi = z[:, : stage.fresh]
        else:
            old = enlarge(output - before.mean, before.resolution, stage.resolution) @ features.directions.T
            scales = features.moment.diagonal().sqrt()[old.shape[1] :]
            phi = torch.cat([old, scales * z[:, len(before.factor) : len(stage.factor)]], 1)
            torch.testing.assert_close(features.latents.T @ features.latents, features.moment)
        output = stage.mean + phi @ stage.weight
        expected = torch.as_tensor(model.render(z, resolution=stage.resolution)).double().flatten(1)
        torch.testing.assert_close(output, expected, rtol=1e-4, atol=1e-3)


def test_one_latent_is_one_picture():
    X = pictures()
    model = fit.ProCoGAN((4, 8, 16), (6, 12, 30), random_state=3).fit(X)
    fine, coarse = model.sample(200), model.sample(200, resolution=8)
    assert fine.shape == (200, 16, 16, 3)
    assert fine.dtype == np.float32
    np.testing.assert_array_equal(coarse, model.sample(200, resolution=8))
    reduced = block_mean(torch.from_numpy(fine), 8).numpy()
    a, b = ((rows - rows.mean(0)).ravel() for rows in (reduced, coarse))
    assert np.corrcoef(a, b)[0, 1] > 0.8
    C = np.cov(model.sample(40_000, resolution=4, random_state=0).reshape(40_000, -1).T)
    F = model.stages_[0].factor.numpy()
    assert np.linalg.norm(C - F.T @ F, 2) < 0.05 * np.linalg.norm(C, 2)  # sampling error of 40,000


def test_traversals_and_latents():
    model = fit.ProCoGAN((4, 8), (6, 12)).fit(pictures(side=8))
    steps = model.traverse(2, (-1.0, 0.0, 1.0))
    np.testing.assert_allclose(steps[1].ravel(), model.mean_, rtol=1e-5)
    np.testing.assert_allclose(steps[2] - steps[1], steps[1] - steps[0], atol=1e-3)
    expected = model.stages_[-1].factor[2].numpy()
    np.testing.assert_allclose((steps[2] - steps[1]).ravel(), expected, atol=1e-3)
    with pytest.raises(InputError, match="`latent`"):
        model.traverse(12)
    with pytest.raises(InputError, match="`resolution`"):
        model.sample(1, resolution=16)
    with pytest.raises(InputError, match="`z`"):
        model.render(np.zeros((2, 3)))


def test_histograms_are_matched_on_demand():
    X = pictures()
    model = fit.ProCoGAN((4, 16), (6, 30), random_state=1).fit(X)
    plain, matched = model.sample(300), model.sample(300, histogram_of=X)
    for c in range(3):
        expected = np.sort(X[..., c].ravel())
        np.testing.assert_array_equal(np.sort(matched[..., c].ravel()), expected)
        order = plain[..., c].ravel().argsort()
        assert (np.diff(matched[..., c].ravel()[order]) >= 0).all()
    with pytest.raises(InputError, match="histogram_of"):
        model.sample(3, histogram_of=X[..., :1])


@pytest.mark.slow  # solves several stages
def test_the_game_has_the_value_of_the_solution():
    X = pictures(side=8, dtype="float64")
    model = fit.ProCoGAN((4, 8), (6, 12)).fit(X)
    x, game = torch.from_numpy(X).flatten(1), model.game_
    z = torch.randn(200_000, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert game.value(x, z).item() == pytest.approx(model.solution_.value, rel=0.05)


def test_tensors_stay_tensors_and_grey_may_have_no_channel():
    X = load_digits().images
    model = fit.ProCoGAN((4, 8), (6, 12)).fit(torch.from_numpy(X))
    assert isinstance(model.sample(2), torch.Tensor)
    assert model.sample(2).dtype == torch.float64
    assert clone(model).fit(X).beta_ == model.beta_
    again = pickle.loads(pickle.dumps(model))
    torch.testing.assert_close(again.sample(2, random_state=0), model.sample(2, random_state=0))
    assert model.image_shape_ == (8, 8, 1)


def test_generators_of_batches():
    X = pictures()
    batches = fit.ImageBatches(lambda: (X[i : i + 70] for i in range(0, 300, 70)), shape=X.shape)
    made, whole = (fit.ProCoGAN((4, 8), (6, 12)).fit(source) for source in (batches, X[:, :, :, :]))
    np.testing.assert_allclose(made.components_, whole.components_, atol=1e-6)
    short = fit.ImageBatches(lambda: [X[:70]], shape=X.shape)
    with pytest.raises(InputError, match="gave 70 images"):
        fit.ProCoGAN((4, 8), (6, 12)).fit(short)
    wrong = fit.ImageBatches(lambda: [X.astype("float32")], shape=X.shape)
    with pytest.raises(InputError, match="promised"):
        fit.ProCoGAN((4, 8), (6, 12)).fit(wrong)


@pytest.mark.parametrize(
    ("change", "X", "error", "words"),
    [
        ({"n_components": (3,)}, None, InputError, "n_components"),
        ({"resolutions": (8, 4)}, None, InputError, "ascend"),
        ({"resolutions": (5, 8)}, None, InputError, "multiple"),
        ({"resolutions": (4, 4)}, None, InputError, "ascend"),
        ({"resolutions": (0, 8)}, None, InputError, "`resolutions`"),
        ({"n_components": (3, 400)}, None, InputError, "number of images"),
        ({"tolerance": 0.0}, None, InputError, "`tolerance`"),
        ({"engine": "mpi"}, None, InputError, "`engine`"),
        ({"engine": 3}, None, InputTypeError, "`engine`"),
        ({"engine": "distributed"}, None, InputError, "torchrun"),
        ({"engine": "dask"}, None, InputTypeError, "dask.array"),
        ({}, np.zeros((30, 8)), InputError, "images"),
        ({}, np.zeros((30, 8, 9)), InputError, "square"),
        ({}, np.zeros((1, 8, 8)), InputError, "at least 2"),
        ({}, np.full((30, 8, 8), np.nan), InputError, "NaN"),
        ({}, np.full((30, 8, 8), "a"), InputTypeError, "numbers"),
        ({}, "faces", InputTypeError, "array"),
    ],
)
def test_bad_input_is_refused(change, X, error, words):
    X = pictures(side=8, n=60) if X is None else X
    with pytest.raises(error, match=words):
        fit.ProCoGAN(**{"resolutions": (4, 8), "n_components": (3, 5), **change}).fit(X)


@pytest.mark.slow  # solves several stages
def test_large_images_are_streamed(monkeypatch):
    monkeypatch.setattr(_stages, "GRAM_SIZE", 64)
    monkeypatch.setattr(_stages, "WIDE_ROWS", 8)
    X, components = pictures(n=500), (6, 12, 30)
    model = fit.ProCoGAN((4, 8, 16), components, tolerance=1e-8).fit(X)
    for stage, k in zip(model.stages_, components, strict=True):
        _, C = covariance(X, stage.resolution)
        values = np.linalg.eigvalsh(C)[::-1]
        assert stage.beta == pytest.approx(values[k], rel=1e-5)
        assert violation(stage, X) <= 1e-6
    stats = model.solution_.stats
    assert stats["passes"] <= 12
    assert 0 < stats["beta_error"] <= 1e-4 * values[0]


def test_streaming_that_does_not_converge_says_so(monkeypatch):
    from saddlegan.moments import _streaming

    monkeypatch.setattr(_stages, "GRAM_SIZE", 64)
    monkeypatch.setattr(_stages, "WIDE_ROWS", 8)
    monkeypatch.setattr(_streaming, "STREAM_PASSES", 2)
    with pytest.raises(SolveError, match="raise `tolerance`"):
        fit.ProCoGAN((4, 16), (6, 30), tolerance=1e-9).fit(pictures())
