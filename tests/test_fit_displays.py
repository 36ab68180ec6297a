"""Displays and the pictures of results. Oracle: the fitted attributes that were drawn, read off the axes again."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pytest
from sklearn.datasets import load_digits, load_wine
from sklearn.mixture import GaussianMixture

from saddlegan import fit
from saddlegan.errors import InputError
from saddlegan.results import Solution, Status

mpl.use("agg")
from matplotlib import pyplot as plt


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def digits():
    X = load_digits().data
    return fit.QuadraticWGAN(8).fit(X), X


def test_the_bars_are_the_spectrum(digits) -> None:
    model, _ = digits
    figure, ax = plt.subplots()
    shown = fit.SpectrumDisplay.from_estimator(model, ax=ax)
    assert shown.figure_ is figure
    tops = [bar.get_y() + bar.get_height() for bar in ax.containers[1]]
    np.testing.assert_allclose(tops, np.maximum(model.eigenvalues_, model.eigenvalues_))
    kept = [bar.get_height() for bar in ax.containers[1]]
    np.testing.assert_allclose(kept, np.clip(model.eigenvalues_ - model.beta_, 0, None))
    assert ax.get_yscale() == "linear"


def test_a_steep_spectrum_is_logarithmic() -> None:
    wine = load_wine(as_frame=True).data
    model = fit.QuadraticWGAN(4).fit(wine)
    assert fit.SpectrumDisplay.from_estimator(model).ax_.get_yscale() == "log"


def test_samples_stand_beside_the_data(digits) -> None:
    model, X = digits
    shown = fit.SamplesDisplay.from_estimator(model, X, image_shape=(8, 8))
    assert shown.axes_[0].images[0].get_array().shape == (72, 72)
    assert shown.real.shape == (64, 64)
    again = fit.SamplesDisplay.from_estimator(model, X, image_shape=(8, 8))
    np.testing.assert_array_equal(shown.generated, again.generated)
    flat = fit.SamplesDisplay.from_estimator(model, X)
    assert flat.axes_[1].collections[0].get_offsets().shape == (len(X), 2)


def test_components_are_in_each_column_s_own_spread() -> None:
    wine = load_wine(as_frame=True).data
    model = fit.QuadraticWGAN(13).fit(wine)
    shown = fit.ComponentsDisplay.from_estimator(model, wine)
    assert [tick.get_text() for tick in shown.ax_.get_xticklabels()] == list(wine.columns)
    # all thirteen components make up each column's variance; the first eight no more than that
    assert (np.square(shown.components).sum(0) <= 1.0 + 1e-9).all()


def test_what_has_no_spectrum_is_refused() -> None:
    X = np.random.default_rng(0).normal(size=(50, 3))
    other = GaussianMixture(2, random_state=0).fit(X)
    with pytest.raises(InputError, match="eigenvalues_"):
        fit.SpectrumDisplay.from_estimator(other)
    with pytest.raises(InputError, match="components_"):
        fit.ComponentsDisplay.from_estimator(other, X)


def test_a_solution_shows_itself() -> None:
    solution = Solution(2.0, 1.5, 0.5, Status.FEASIBLE, {"beta": 0.25, "kept": 3, "word": "<b>"})
    page = solution._repr_html_()
    for words in ("A feasible point", "value (primal)", "<td>2</td>", "beta", "0.25"):
        assert words in page
    assert "<b>" not in page
    widths = [bar.get_width() for bar in solution.plot().axes[0].patches]
    assert widths == [1.5, 2.0]
