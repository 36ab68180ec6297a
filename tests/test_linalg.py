"""Oracle: numpy's covariance and LAPACK's full eigendecomposition in float64."""

import numpy as np
import pytest
import torch

from saddlegan.errors import InputError, SolveError
from saddlegan.moments import _second_moment as _linalg
from saddlegan.moments._second_moment import DenseMoment, RowMoment, moment_difference, second_moment


def data(n, d, dtype="float64", seed=0, offset=3.0):
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((n, d)) * np.linspace(1, 2, d) + offset).astype(dtype)


def exact(X, center):
    X = np.asarray(X, dtype=np.float64)
    mean = X.mean(0) if center else np.zeros(X.shape[1])
    return mean, (X - mean).T @ (X - mean) / len(X)


@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("shape", [(40, 7), (7, 40), (20, 20)])
@pytest.mark.parametrize("dtype", ["float64", "float32", "uint8", "int64", "float16"])
def test_second_moment_of_any_shape_and_type(shape, center, dtype):
    X = data(*shape, dtype=dtype, offset=30.0)
    mean, M = exact(X, center)
    moment = second_moment(X, center=center)
    assert isinstance(moment, RowMoment if shape[1] > shape[0] else DenseMoment)
    np.testing.assert_allclose(moment.mean.numpy(), mean, atol=1e-10)
    identity = torch.eye(shape[1], dtype=torch.float64)
    np.testing.assert_allclose(moment.matvec(identity).numpy(), M, atol=1e-9 * np.abs(M).max())
    assert moment.trace() == pytest.approx(np.trace(M))


def test_blocks_and_panels_change_nothing(monkeypatch):
    """The shift by the first block's mean must not cost digits when the blocks differ."""
    X = np.concatenate([data(50, 12), data(50, 12, seed=1, offset=1e4)])
    _, M = exact(X, True)
    monkeypatch.setattr(_linalg, "BLOCK_ELEMENTS", 12 * 7)
    monkeypatch.setattr(_linalg, "DENSE_SIZE", 4)
    moment = second_moment(X, center=True)
    np.testing.assert_allclose(moment.matvec(torch.eye(12, dtype=torch.float64)).numpy(), M, rtol=1e-9, atol=1e-3)


def test_a_large_mean_costs_no_digits():
    X = data(500, 5) + 1e6
    _, M = exact(X, True)
    moment = second_moment(X, center=True)
    np.testing.assert_allclose(moment.matvec(torch.eye(5, dtype=torch.float64)).numpy(), M, atol=1e-8)


def test_a_flat_spectrum_is_left_to_lapack(monkeypatch):
    """Noise has no leading pairs: Lanczos finds none in a few passes, and a reduction does. Oracle: numpy's eigh."""
    monkeypatch.setattr(_linalg, "DENSE_SIZE", 8)
    moment = second_moment(data(900, 300), center=True)
    M = exact(data(900, 300), True)[1]
    with pytest.raises(SolveError):
        _linalg._lanczos(moment.matvec, 300, 9, "LA", max_passes=moment._passes(9))
    values, vectors = np.linalg.eigh(M)
    pairs = moment.eigenpairs(9)
    np.testing.assert_allclose(pairs.values.numpy(), values[::-1][:9], rtol=1e-10)
    assert pairs.residual <= 1e-9 * values[-1]
    factor = torch.from_numpy(vectors[:, ::-1][:, :9].T * np.sqrt(values[::-1][:9, None]))
    assert moment.spectral_distance(factor) == pytest.approx(values[-10], rel=1e-9)


@pytest.mark.parametrize("shape", [(300, 60), (60, 300)])
@pytest.mark.parametrize("lanczos", [False, True])
def test_leading_eigenpairs(shape, lanczos, monkeypatch):
    if lanczos:
        monkeypatch.setattr(_linalg, "DENSE_SIZE", 8)
    X = data(*shape)
    _, M = exact(X, True)
    values = np.linalg.eigvalsh(M)[::-1]
    moment = second_moment(X, center=True)
    pairs = moment.eigenpairs(9)
    np.testing.assert_allclose(pairs.values.numpy(), values[:9], rtol=1e-10)
    V = pairs.vectors
    torch.testing.assert_close(V @ V.T, torch.eye(9, dtype=torch.float64), atol=1e-9, rtol=0)
    assert pairs.residual <= 1e-9 * values[0]
    factor = (pairs.values - 0.5).sqrt()[:, None] * V
    expected = np.linalg.norm(M - (factor.T @ factor).numpy(), 2)
    assert moment.spectral_distance(factor) == pytest.approx(expected, rel=1e-9)


def test_eigenpairs_beyond_the_rank_are_zero():
    pairs = second_moment(data(4, 30), center=True).eigenpairs(9)
    assert pairs.values.shape == (9,)
    assert float(pairs.values[3:].max()) <= 1e-12
    assert pairs.residual <= 1e-12


@pytest.mark.parametrize("lanczos", [False, True])
def test_moment_difference(lanczos, monkeypatch):
    if lanczos:
        monkeypatch.setattr(_linalg, "DENSE_SIZE", 4)
    X, Y = data(80, 20), data(15, 20, seed=1, offset=2.0)
    value, witness = moment_difference(second_moment(X, center=False), second_moment(Y, center=False))
    gap = exact(X, False)[1] - exact(Y, False)[1]
    assert value == pytest.approx(np.linalg.norm(gap, 2), rel=1e-9)
    assert abs(witness.numpy() @ gap @ witness.numpy()) == pytest.approx(value, rel=1e-9)


def test_memory_maps_and_foreign_byte_orders(tmp_path):
    X = data(30, 4)
    path = tmp_path / "x.npy"
    np.save(path, X)
    _, M = exact(X, True)
    for view in (np.load(path, mmap_mode="r"), X.astype(">f8"), X[::-1], np.asfortranarray(X)):
        moment = second_moment(view, center=True)
        np.testing.assert_allclose(moment.matvec(torch.eye(4, dtype=torch.float64)).numpy(), M, rtol=1e-12)


def test_nan_is_refused():
    X = data(10, 3)
    X[4, 1] = np.nan
    with pytest.raises(InputError, match="NaN"):
        second_moment(X, center=True)


def test_large_float32_data_are_multiplied_in_float32():
    assert _linalg.working_dtype(np.empty((2000, 1500), np.float32)) == torch.float32
    assert _linalg.working_dtype(np.empty((2000, 1500), np.float64)) == torch.float64
    assert _linalg.working_dtype(np.empty((2000, 500), np.uint8)) == torch.float64


@pytest.mark.slow  # large sums
@pytest.mark.parametrize(
    ("shape", "kind"), [((20, 3000), torch.float64), ((20, 3000), torch.float32), ((1200, 1100), torch.float64)]
)
def test_a_sample_is_no_distance_from_its_own_rows_in_another_order(shape, kind):
    """Oracle: the second moment does not know the order; only rounding of its own size may be left."""
    X = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=kind)
    found = moment_difference(second_moment(X, center=False), second_moment(X.flip(0), center=False))[0]
    assert found <= 1e-13 * float(torch.linalg.matrix_norm(X.double(), 2)) ** 2 / shape[0]


@pytest.mark.slow  # large matrices
def test_wide_difference_and_its_vector_equal_numpy():
    rng = np.random.default_rng(0)
    A, B = rng.standard_normal((7, 1500)), 0.9 * rng.standard_normal((5, 1500))
    found, u = moment_difference(*(second_moment(P, center=False) for P in (A, B)))
    values = np.linalg.eigvalsh(A.T @ A / 7 - B.T @ B / 5)
    assert found == pytest.approx(np.abs(values).max(), rel=1e-12)
    v = u.numpy()
    assert abs(np.square(A @ v).mean() - np.square(B @ v).mean()) == pytest.approx(found, rel=1e-12)


@pytest.mark.parametrize("spread", ["images", "equal", "rank"])
def test_one_reduction_gives_all_values_and_a_few_vectors(spread):
    """Oracle: LAPACK's whole decomposition; clusters and zeros are where a few vectors go wrong first."""
    d, k = 160, 9
    values = {
        "images": 1e3 / np.arange(1, d + 1) ** 2,
        "equal": np.concatenate([np.full(20, 7.0), np.ones(d - 20)]),
        "rank": np.concatenate([np.arange(5, 0, -1.0), np.zeros(d - 5)]),
    }[spread]
    Q = np.linalg.qr(np.random.default_rng(0).standard_normal((d, d)))[0]
    M = (Q * values) @ Q.T
    moment = DenseMoment(torch.zeros(d, dtype=torch.float64), torch.from_numpy(0.5 * (M + M.T)))
    assert moment._by_reduction
    pairs = moment.eigenpairs(k)
    expected = np.linalg.eigvalsh(0.5 * (M + M.T))[::-1]
    np.testing.assert_allclose(pairs.values.numpy(), expected[:k].clip(0), atol=1e-13 * values[0] * d)
    spectrum = moment.spectrum()
    assert spectrum is not None
    np.testing.assert_allclose(spectrum.numpy(), expected.clip(0), atol=1e-13 * values[0] * d)
    assert pairs.residual <= 1e-13 * values[0] * d
    np.testing.assert_allclose((pairs.vectors @ pairs.vectors.T).numpy(), np.eye(k), atol=1e-12)
    factor = torch.from_numpy(np.random.default_rng(1).standard_normal((3, d)))
    distance = np.linalg.norm(moment.matrix.numpy() - factor.numpy().T @ factor.numpy(), 2)
    assert moment.spectral_distance(factor) == pytest.approx(distance, rel=1e-12)


@pytest.mark.parametrize("short", [0.0, 1e-12, 1e-3])
def test_excess_is_rounding_where_the_constraint_holds_and_measured_where_not(short):
    """Oracle: numpy's spectral norm of the difference."""
    d, level = 200, 0.5
    rng = np.random.default_rng(0)
    Q = np.linalg.qr(rng.standard_normal((d, d)))[0]
    values = np.concatenate([[40.0, 9.0, 2.0], rng.uniform(0.0, level, d - 3)])
    M = (Q * values) @ Q.T
    moment = DenseMoment(torch.zeros(d, dtype=torch.float64), torch.from_numpy(0.5 * (M + M.T)))
    for sign in (1.0, -1.0):  # P too small, and too large by twice the level
        shrunk = values[:3] - level - sign * (short if sign > 0 else 2.0 * level * (short > 0) + short)
        factor = torch.from_numpy(np.sqrt(shrunk.clip(0))[:, None] * Q.T[:3])
        distance = np.linalg.norm(moment.matrix.numpy() - factor.numpy().T @ factor.numpy(), 2) - level
        found = moment.excess(factor, level)
        assert found == pytest.approx(distance, abs=1e-13 * values[0])
        assert found >= distance - 1e-14 * values[0]
