"""Saved estimators. Oracles: the estimator that was saved, bit by bit; a damaged file is named, never half read."""

import os
import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_digits, load_iris

from saddlegan import fit
from saddlegan.errors import InputTypeError, ModelError
from saddlegan.networks import MLP, PolynomialFeatures, ReLUFeatures

X = load_iris().data
ESTIMATORS = [
    fit.QuadraticWGAN(2),
    fit.QuadraticWGAN(3, beta=np.float32(0.1), center=False, noise="ml", random_state=np.random.RandomState(0)),
    fit.QuadraticWGAN(2, features=ReLUFeatures(2, 8, generator=torch.Generator().manual_seed(0))),
    fit.QuadraticWGAN(2, features=PolynomialFeatures(2, degree=2)),
    fit.QuadraticWGAN(2, features=MLP(2, 6, hidden=(8,)), n_moment_latents=1000, random_state=0),
    fit.LinearWGAN(beta=0.1),
    fit.PolynomialWGAN(beta=0.3, b=-0.4, solver="closed-form"),
    fit.ReLUWGAN(beta=2.0, random_state=0, time_limit=10),
    fit.ByClass(fit.QuadraticWGAN(2)),
]


def same(a, b):
    """Whether two attributes hold the same bits."""
    if isinstance(a, torch.nn.Module):
        mine, other = a.state_dict(), b.state_dict()
        return mine.keys() == other.keys() and all(same(mine[key], other[key]) for key in mine)
    if isinstance(a, (np.ndarray, torch.Tensor)):
        return (
            type(a) is type(b) and a.dtype == b.dtype and np.array_equal(np.asarray(a.tolist()), np.asarray(b.tolist()))
        )
    return repr(a) == repr(b)


@pytest.mark.slow  # fits every estimator
@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_everything_comes_back(estimator, kind, tmp_path):
    data = X if kind == "numpy" else torch.from_numpy(X).float()
    model = estimator.fit(data, load_iris().target)
    model.save(tmp_path / "model")
    again = fit.load(tmp_path / "model")
    assert type(again) is type(model)
    for name, value in vars(model).items():
        if name in ("game_", "estimators_", "features", "random_state", "estimator"):
            continue
        assert same(value, vars(again)[name]), name
    assert again.sample(7, random_state=1).tolist() == model.sample(7, random_state=1).tolist()
    assert type(again.sample(2)) is type(model.sample(2))
    assert again.score(data) == model.score(data)
    if not isinstance(model, fit.ByClass):
        z = model.game_.sample_latent(9, torch.Generator().manual_seed(0))
        with torch.no_grad():
            value, other = (float(m.game_.value(torch.as_tensor(data), z)) for m in (model, again))
        assert value == other
        again.fit(data)  # parameters are all there
    assert os.listdir(tmp_path) == ["model"]


def test_words_names_and_batches_come_back(tmp_path):
    frame = pd.DataFrame(X, columns=["a", "b", "c", "d"])
    words = load_iris().target_names[load_iris().target]
    model = fit.ByClass(fit.QuadraticWGAN(2)).fit(frame, words)
    model.save(tmp_path / "model")
    again = fit.load(tmp_path / "model")
    assert again.predict(frame).tolist() == model.predict(frame).tolist()
    assert again.feature_names_in_.tolist() == ["a", "b", "c", "d"]
    first = fit.QuadraticWGAN(2).partial_fit(X[:50])
    first.save(tmp_path / "model")
    last = fit.load(tmp_path / "model").partial_fit(X[50:])
    np.testing.assert_array_equal(last.sample(3, random_state=0), first.partial_fit(X[50:]).sample(3, random_state=0))


def test_progressive_models_come_back(tmp_path):
    for images in (load_digits().images, torch.from_numpy(load_digits().images).to(torch.uint8)):
        model = fit.ProCoGAN(resolutions=(4, 8), n_components=(6, 12), progress=lambda *args: None).fit(images)
        model.save(tmp_path / "model")
        again = fit.load(str(tmp_path / "model"))
        for resolution in (4, 8):
            mine, other = (m.sample(3, resolution, random_state=0) for m in (model, again))
            assert type(mine) is type(other)
            assert mine.tolist() == other.tolist()
        assert repr(again.stages_) == repr(model.stages_)


def test_parameters_without_a_fit_come_back(tmp_path):
    fit.QuadraticWGAN(5, beta=0.3).save(tmp_path / "model")
    assert repr(fit.load(tmp_path / "model")) == "QuadraticWGAN(beta=0.3, n_latent=5)"


def test_damage_is_named(tmp_path):
    path = tmp_path / "model"
    fit.QuadraticWGAN(2).fit(X).save(path)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for cut in (0, 5, 100, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(ModelError, match="model"):
            fit.load(path)
    for place in rng.integers(0, len(whole), 60):
        broken = bytearray(whole)
        broken[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(bytes(broken))
        with pytest.raises(ModelError, match="model"):
            fit.load(path)
    path.write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(ModelError, match="safetensors"):
        fit.load(path)
    with pytest.raises(ModelError, match="cannot be read"):
        fit.load(tmp_path / "nothing")
    with pytest.raises(ModelError, match="cannot write"):
        fit.LinearWGAN().save(tmp_path / "no" / "such" / "folder")
    from safetensors.torch import save_file

    save_file({"a": torch.ones(2)}, path)
    with pytest.raises(ModelError, match="no saved estimator"):
        fit.load(path)


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "model"
    fit.LinearWGAN(beta=0.5).save(path)

    def full(fd):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ModelError, match="No space left"):
        fit.LinearWGAN(beta=0.7).save(path)
    assert os.listdir(tmp_path) == ["model"]
    assert fit.load(path).beta == 0.5


def test_nothing_is_pickled_and_nothing_foreign_is_built(tmp_path):
    fit.QuadraticWGAN(2).fit(X).save(tmp_path / "model")
    with pytest.raises(pickle.UnpicklingError):
        pickle.loads((tmp_path / "model").read_bytes())

    class Own(torch.nn.Module):
        def forward(self, z):
            return z.abs()

    for features in (Own(), torch.abs):
        model = fit.QuadraticWGAN(2, features=features, n_moment_latents=100).fit(X)
        with pytest.raises(InputTypeError, match="pickle"):
            model.save(tmp_path / "own")

    class Mine(fit.LinearWGAN):
        pass

    with pytest.raises(InputTypeError, match="own estimators"):
        Mine().save(tmp_path / "own")
