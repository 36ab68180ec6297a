"""Pictures of a fitted estimator, in scikit-learn's manner: `from_estimator`, then `figure_` and `ax_`."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from saddlegan import checks
from saddlegan.checks import RandomState
from saddlegan.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STEEP = 300.0  # ratio of the first variance to the median one beyond which an axis is logarithmic
POINTS = 2500  # drawn on each side


def _place(ax: Axes | None) -> tuple[Figure, Axes]:
    """The axes to draw on; new ones on the current pyplot figure's own terms if none are given."""
    import matplotlib.pyplot as plt

    if ax is None:
        figure, ax = plt.subplots(layout="constrained")
        return figure, ax
    figure: Any = ax.figure
    return figure, ax


@dataclasses.dataclass
class SpectrumDisplay:
    """The data's spectrum with the threshold beta: what the generator keeps of it, max(lambda_i - beta, 0).

    Args:
        eigenvalues: descending (k,).
        beta: the threshold.

    Example:
        >>> import matplotlib
        >>> matplotlib.use("agg")
        >>> from sklearn.datasets import load_digits
        >>> from saddlegan import fit
        >>> shown = fit.SpectrumDisplay.from_estimator(fit.QuadraticWGAN(8).fit(load_digits().data))
        >>> shown.ax_.get_xlabel()
        'direction, by variance of the data'
    """

    eigenvalues: np.ndarray
    beta: float

    @classmethod
    def from_estimator(cls, estimator: Any, *, ax: Axes | None = None) -> SpectrumDisplay:
        """Draw the spectrum of a fitted estimator with `eigenvalues_` and `beta_`.

        Args:
            estimator: a fitted `QuadraticWGAN` or another that has them.
            ax: axes to draw on; new ones if None.

        Raises:
            InputError: an estimator without a spectrum.
        """
        check_is_fitted(estimator)
        if np.size(getattr(estimator, "eigenvalues_", ())) == 0:
            raise InputError(f"`estimator` must have `eigenvalues_`, as QuadraticWGAN has; got {estimator!r}")
        values = np.asarray(estimator.eigenvalues_, dtype=np.float64)
        return cls(values, float(estimator.beta_)).plot(ax=ax)

    def plot(self, *, ax: Axes | None = None) -> SpectrumDisplay:
        """Draw on `ax`, or on new axes; afterwards `ax_` and `figure_` hold them."""
        self.figure_, self.ax_ = _place(ax)
        values = self.eigenvalues
        positive = values[values > 0]
        order = np.arange(1, len(values) + 1)
        kept = np.clip(values - self.beta, 0.0, None)
        if len(positive) > 1 and positive[0] > STEEP * float(np.median(positive)):
            self.ax_.set_yscale("log")
            self.ax_.set_ylim(0.5 * float(positive.min()), 2.0 * float(positive.max()))
        self.ax_.bar(order, values - kept, color="#c3c8d0", label="left out")
        self.ax_.bar(order, kept, bottom=values - kept, color="#0072B2", label="kept, above beta")
        if self.beta > 0:
            self.ax_.axhline(self.beta, color="#D55E00", ls="--", label=f"beta = {self.beta:.4g}")
        self.ax_.set_xlabel("direction, by variance of the data")
        self.ax_.set_ylabel("variance")
        self.ax_.legend()
        return self


@dataclasses.dataclass
class SamplesDisplay:
    """Samples beside the data: sheets of pictures, or points along the data's two leading directions.

    Args:
        real: rows (n, d).
        generated: rows (m, d).
        image_shape: (h, w) or (h, w, c) if the rows are pictures, else None.
        names: of the columns; the axes of two columns carry them.

    Example:
        >>> import matplotlib
        >>> matplotlib.use("agg")
        >>> from sklearn.datasets import load_digits
        >>> from saddlegan import fit
        >>> X = load_digits().data
        >>> shown = fit.SamplesDisplay.from_estimator(fit.QuadraticWGAN(8).fit(X), X, image_shape=(8, 8))
        >>> [ax.get_title() for ax in shown.axes_]
        ['Real', 'Generated']
    """

    real: np.ndarray
    generated: np.ndarray
    image_shape: tuple[int, ...] | None = None
    names: Sequence[str] | None = None

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        *,
        image_shape: tuple[int, ...] | None = None,
        random_state: RandomState = 0,
    ) -> SamplesDisplay:
        """Draw samples of a fitted estimator beside the data.

        Args:
            estimator: fitted, with `sample`.
            X: the data (n, d), an array or a data frame, whose names are used.
            image_shape: of the rows, if they are pictures.
            random_state: of the choice of rows and of the samples.
        """
        check_is_fitted(estimator)
        rows, names = _rows(X)
        shown = min(64 if image_shape is not None else POINTS, len(rows))
        seed = checks.generator(random_state).initial_seed() % 2**32
        chosen = np.sort(np.random.default_rng(seed).choice(len(rows), shown, replace=False))
        generated = np.asarray(estimator.sample(shown, random_state=seed), dtype=np.float64).reshape(shown, -1)
        return cls(rows[chosen], generated, image_shape, names).plot()

    def plot(self) -> SamplesDisplay:
        """Draw on a new figure; afterwards `axes_` and `figure_` hold it."""
        import matplotlib.pyplot as plt

        self.figure_, panels = plt.subplots(1, 2, layout="constrained", figsize=(7.0, 3.6))
        self.axes_ = list(panels)
        real, generated, labels = self.real, self.generated, ("", "")
        if self.image_shape is None:
            real, generated, labels = self._plane()
        for ax, rows, title, colour in zip(
            self.axes_, (real, generated), ("Real", "Generated"), ("#0072B2", "#D55E00"), strict=True
        ):
            ax.set_title(title, color=colour)
            if self.image_shape is not None:
                ax.imshow(_sheet(rows, self.image_shape, self.real), cmap="gray", vmin=0, vmax=1)
                ax.set_axis_off()
            else:
                ax.scatter(rows[:, 0], rows[:, 1], s=5, alpha=0.35, color=colour, linewidths=0)
                both = np.concatenate([real, generated])
                margin = 0.05 * np.ptp(both, axis=0) + 1e-12
                ax.set_xlim(both[:, 0].min() - margin[0], both[:, 0].max() + margin[0])
                ax.set_ylim(both[:, 1].min() - margin[1], both[:, 1].max() + margin[1])
                ax.set_xlabel(labels[0])
                ax.set_ylabel(labels[1])
        return self

    def _plane(self) -> tuple[np.ndarray, np.ndarray, tuple[str, str]]:
        if self.real.shape[1] == 1:
            lift = np.random.default_rng(0).standard_normal
            name = "x1" if self.names is None else self.names[0]
            sides = [np.column_stack([rows, lift(len(rows))]) for rows in (self.real, self.generated)]
            return sides[0], sides[1], (name, "random height, for sight only")
        if self.real.shape[1] == 2:
            first, second = self.names or ("x1", "x2")
            return self.real, self.generated, (first, second)
        mean = self.real.mean(0)
        axes = np.linalg.svd(self.real - mean, full_matrices=False)[2][:2].T
        return (self.real - mean) @ axes, (self.generated - mean) @ axes, ("first component", "second component")


def _rows(X: Any) -> tuple[np.ndarray, list[str] | None]:
    """The data as (n, d), and the columns' names where they have some."""
    names = [str(name) for name in X.columns] if hasattr(X, "columns") else None
    return np.asarray(X, dtype=np.float64).reshape(len(X), -1), names


def _sheet(rows: np.ndarray, image_shape: tuple[int, ...], real: np.ndarray) -> np.ndarray:
    """Rows as one picture, black and white where the data have them."""
    low, high = float(real.min()), float(real.max())
    pictures = np.clip((rows - low) / ((high - low) or 1.0), 0.0, 1.0).reshape(len(rows), *image_shape)
    side = math.ceil(math.sqrt(len(rows)))
    h, w = image_shape[:2]
    sheet = np.ones((side * (h + 1), side * (w + 1), *pictures.shape[3:]))
    for index, picture in enumerate(pictures):
        top, left = (index // side) * (h + 1), (index % side) * (w + 1)
        sheet[top : top + h, left : left + w] = picture
    return sheet


@dataclasses.dataclass
class ComponentsDisplay:
    """What each latent does: pictures of the components, or their weights by column, in each column's own spread.

    Args:
        components: scaled to one standard deviation (k, d).
        image_shape: (h, w) of the rows if they are pictures, else None.
        names: of the columns.

    Example:
        >>> import matplotlib
        >>> matplotlib.use("agg")
        >>> from sklearn.datasets import load_wine
        >>> from saddlegan import fit
        >>> X = load_wine(as_frame=True).data
        >>> shown = fit.ComponentsDisplay.from_estimator(fit.QuadraticWGAN(4).fit(X), X)
        >>> shown.ax_.get_xticklabels()[0].get_text()
        'alcohol'
    """

    components: np.ndarray
    image_shape: tuple[int, ...] | None = None
    names: Sequence[str] | None = None

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        *,
        image_shape: tuple[int, ...] | None = None,
        ax: Axes | None = None,
    ) -> ComponentsDisplay:
        """Draw the leading eight components of a fitted estimator with a linear generator.

        Args:
            estimator: fitted, with `components_`.
            X: the data (n, d), an array or a data frame, whose names are used.
            image_shape: (h, w) of the rows, if they are pictures in grey.
            ax: axes to draw on; new ones if None.

        Raises:
            InputError: an estimator without components.
        """
        check_is_fitted(estimator)
        if np.size(getattr(estimator, "components_", ())) == 0:
            raise InputError(f"`estimator` must have `components_`, as QuadraticWGAN has; got {estimator!r}")
        rows, names = _rows(X)
        components = np.asarray(estimator.components_, dtype=np.float64)[:8].copy()
        if image_shape is None:  # a column of large numbers would hide all others
            kept = np.sqrt(np.clip(np.asarray(estimator.eigenvalues_)[: len(components)] - estimator.beta_, 0.0, None))
            spread = rows.std(0)
            components *= kept[:, None] / np.where(spread > 0, spread, 1.0)
        return cls(components, image_shape, names).plot(ax=ax)

    def plot(self, *, ax: Axes | None = None) -> ComponentsDisplay:
        """Draw on `ax`, or on new axes; afterwards `ax_` and `figure_` hold them."""
        self.figure_, self.ax_ = _place(ax)
        table = self.components
        if self.image_shape is not None:
            h, w = self.image_shape[:2]
            table = np.concatenate([np.pad(row.reshape(h, w), ((0, 0), (0, 1))) for row in table], axis=1)
        limit = float(np.abs(table).max()) or 1.0
        shown = self.ax_.imshow(
            table, cmap="PuOr_r", vmin=-limit, vmax=limit, aspect="auto" if self.image_shape is None else "equal"
        )
        if self.image_shape is not None:
            self.ax_.set_axis_off()
        else:
            names = self.names or [str(index) for index in range(table.shape[1])]
            self.ax_.set_xticks(range(len(names)), names, rotation=90)
            self.ax_.set_yticks(range(len(table)), [str(index + 1) for index in range(len(table))])
            self.ax_.set_ylabel("component")
            self.figure_.colorbar(shown, ax=self.ax_, label="change, in the column's sd")
        return self
