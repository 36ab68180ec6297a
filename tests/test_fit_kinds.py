"""Kinds of data that estimators read or refuse. Oracle: the same data as plain float64, or a named error."""

import numpy as np
import pandas as pd
import pytest
import torch

from saddlegan import fit
from saddlegan.errors import InputError, SaddleganError
from saddlegan.networks import PolynomialFeatures, ReLUFeatures

X = np.random.default_rng(0).standard_normal((30, 2)) + 0.5
IMAGES = np.random.default_rng(0).random((40, 8, 8, 3))
SOLVERS = [
    fit.QuadraticWGAN(2),
    fit.QuadraticWGAN(2, features=ReLUFeatures(2, 6, generator=torch.Generator().manual_seed(0))),
    fit.QuadraticWGAN(2, features=PolynomialFeatures(2)),
    fit.LinearWGAN(beta=0.1),
    fit.PolynomialWGAN(beta=0.3, solver="closed-form"),
    fit.ReLUWGAN(beta=0.4, random_state=0),
    fit.ReLUWGAN(beta=0.6, generator="linear", center=True, random_state=0),
]


@pytest.mark.parametrize("estimator", SOLVERS, ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_every_floating_number_of_a_fit_has_the_data_s_dtype(estimator, dtype):
    model = estimator.fit(torch.from_numpy(X).to(dtype))
    for player in (model.generator_, model.discriminator_):
        assert {entry.dtype for entry in player.state_dict().values()} == {dtype}
    for entry in (model.mean_, model.components_, model.eigenvalues_, model.sample(2, random_state=0)):
        assert entry.dtype == dtype
    double = estimator.fit(torch.from_numpy(X).to(dtype).double()).solution_.value
    assert model.solution_.value == pytest.approx(double, rel=1e-6)  # solved in double precision all the same


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_images(dtype):
    model = fit.ProCoGAN((4, 8), (6, 12)).fit(torch.from_numpy(IMAGES).to(dtype))
    for player in (model.generator_, model.discriminator_):
        assert {entry.dtype for entry in player.state_dict().values()} == {dtype}
    double = fit.ProCoGAN((4, 8), (6, 12)).fit(torch.from_numpy(IMAGES).to(dtype).double())
    assert model.solution_.value == pytest.approx(double.solution_.value, rel=1e-2)
    assert model.sample(2, random_state=0).dtype == dtype


@pytest.mark.parametrize(
    "data",
    [
        X.astype(np.longdouble),
        X > 0.5,
        torch.from_numpy(X > 0.5),
        (10 * X).astype(np.int8),
        np.abs(10 * X).astype(np.uint64),
        X.astype(object),
        X.astype(">f4"),
        pd.DataFrame({"a": pd.Series(X[:, 0], dtype="Float64"), "b": X[:, 1] > 0}),
        X[::-1],
        np.asfortranarray(X),
    ],
    ids=["longdouble", "bool", "torch-bool", "int8", "uint64", "object", "big-endian", "frame", "reversed", "fortran"],
)
def test_numbers_of_every_kind_mean_the_same(data):
    plain = np.asarray(data.numpy() if isinstance(data, torch.Tensor) else data).astype(np.float64)
    model, expected = fit.QuadraticWGAN(1).fit(data), fit.QuadraticWGAN(1).fit(plain)
    assert model.solution_.value == pytest.approx(expected.solution_.value, rel=1e-6)
    assert fit.discrepancy(data, plain, kind="linear").value == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize(
    "data",
    [
        pd.DataFrame({"a": pd.Categorical(["x", "y", "z"] * 10), "b": X[:, 0]}),
        pd.DataFrame({"a": ["x", "y", "z"] * 10, "b": X[:, 0]}),
        pd.DataFrame({"a": pd.date_range("2020", periods=30), "b": pd.Categorical(["u", "v"] * 15)}),
        np.ma.masked_array(X, mask=X > 1.0),
        X.astype(complex),
        X.astype(str).astype(object) + "?",
        np.full((30, 2), np.longdouble("1e400")),
        torch.from_numpy(X).to_sparse(),
        [[1.0, 2.0], [3.0]],
    ],
    ids=["categories", "text", "dates", "mask", "complex", "words", "beyond", "sparse", "ragged"],
)
@pytest.mark.parametrize("estimator", [SOLVERS[0], SOLVERS[3], SOLVERS[5]], ids=lambda e: type(e).__name__)
def test_what_is_no_table_of_numbers_is_named(estimator, data):
    with pytest.raises(SaddleganError, match="`X`"):
        estimator.fit(data)
    with pytest.raises(SaddleganError, match="`real`"):
        fit.discrepancy(data, X)


@pytest.mark.parametrize(
    "images",
    [IMAGES > 0.5, IMAGES.astype(np.longdouble), np.ma.masked_array(IMAGES, mask=IMAGES > 0.9), IMAGES.astype(str)],
    ids=["bool", "longdouble", "mask", "text"],
)
def test_what_is_no_picture_is_named(images):
    with pytest.raises(SaddleganError, match="`X`"):
        fit.ProCoGAN((4, 8), (6, 12)).fit(images)


@pytest.mark.parametrize("kind", ["float", "bytes"])
def test_grey_pictures_in_three_channels_have_no_dead_latents(kind):
    """Oracle: the same pictures in one channel; their variances are three times as large in three."""
    grey = np.random.default_rng(1).random((60, 16, 16))
    if kind == "bytes":
        grey = (255 * grey).astype(np.uint8)
    model = fit.ProCoGAN((4, 8, 16), (20, 30, 40)).fit(np.repeat(grey[..., None], 3, 3))
    single = fit.ProCoGAN((4, 8, 16), (20, 30, 40)).fit(grey)
    for stage, other in zip(model.stages_, single.stages_, strict=True):
        assert len(stage.factor) == stage.kept == other.kept
        assert float(stage.factor.norm(dim=1).min()) > 0
        np.testing.assert_allclose(stage.eigenvalues, 3.0 * other.eigenvalues, rtol=1e-9)
        assert stage.solution.status.ok
        assert stage.solution.stats["primal_residual"] <= 1e-9 * float(stage.eigenvalues[0])
    drawn = model.sample(3, random_state=0)
    np.testing.assert_allclose(drawn[..., 0], drawn[..., 2], atol=1e-4 * drawn.max())


def test_pictures_that_never_vary_are_solved():
    model = fit.ProCoGAN((4, 8), (6, 12)).fit(np.ones((20, 8, 8)))
    np.testing.assert_allclose(model.sample(2, random_state=0), 1.0)
    assert model.solution_.value == 0.0


def test_masks_are_refused_at_every_door():
    masked = np.ma.masked_array(X, mask=X > 1.0)
    model = fit.QuadraticWGAN(1).fit(X)
    for call in (model.transform, model.score, model.score_samples, fit.QuadraticWGAN(1).partial_fit):
        with pytest.raises(InputError, match="mask"):
            call(masked)
