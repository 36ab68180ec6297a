"""The figures of a report. Each function draws one and returns it as PNG bytes; numbers in, picture out.

Directions and spectra come in as arrays, so any door can use them: nothing here knows an estimator.
"""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from saddlegan.workbench.report.figures import style
from saddlegan.workbench.report.figures.pictures import tile, to_pictures

SCATTER_POINTS = 2500  # per panel: more only hide one another
TRAVERSAL_SD = 2.5
TRAVERSAL_STEPS = 7
NAMED_BARS = 40  # wider rows are drawn as a line


def real_and_generated_images(
    real: np.ndarray, generated: np.ndarray, image_shape: tuple[int, ...], value_range: tuple[float, float]
) -> bytes:
    """Two sheets of pictures side by side.

    Args:
        real: rows to show on the left, at most 100.
        generated: as many rows to show on the right.
        image_shape: (h, w) or (h, w, c).
        value_range: the values of black and white.
    """
    columns = math.ceil(math.sqrt(len(real)))
    with style.look():
        figure = style.new_figure(2.6)
        for axes, rows, title, colour in zip(
            _panels(figure, 2), (real, generated), ("Real", "Generated"), (style.REAL, style.GENERATED), strict=True
        ):
            _show(axes, tile(to_pictures(rows, image_shape, value_range), columns))
            axes.set_title(title, color=colour)
        return style.png(figure)


def real_and_generated_points(
    real: np.ndarray,
    generated: np.ndarray,
    *,
    witness: np.ndarray | None = None,
    labels: tuple[str, str] = ("x1", "x2"),
    seed: int = 0,
) -> bytes:
    """Two scatter plots on the same axes.

    Args:
        real: points (n, 2).
        generated: points (m, 2).
        witness: unit vector (2,) to draw over the generated points, or None.
        labels: of the two axes.
        seed: chooses which points are shown if there are many.
    """
    rng = np.random.default_rng(seed)
    both = np.concatenate([real, generated])
    low, high = both.min(0), both.max(0)
    middle, half = (low + high) / 2, 0.54 * float((high - low).max() or 1.0)
    with style.look():
        figure = style.new_figure(2.75)
        for axes, points, title, colour in zip(
            _panels(figure, 2), (real, generated), ("Real", "Generated"), (style.REAL, style.GENERATED), strict=True
        ):
            shown = points if len(points) <= SCATTER_POINTS else rng.permutation(points)[:SCATTER_POINTS]
            axes.scatter(shown[:, 0], shown[:, 1], s=5, color=colour, alpha=0.35, linewidths=0, rasterized=True)
            axes.set_title(title, color=colour)
            axes.set_xlim(middle[0] - half, middle[0] + half)
            axes.set_ylim(middle[1] - half, middle[1] + half)
            axes.set_aspect("equal")
            axes.set_xlabel(labels[0])
            axes.xaxis.set_major_locator(MaxNLocator(5))
            axes.yaxis.set_major_locator(MaxNLocator(5))
            axes.grid(True)
        figure.axes[0].set_ylabel(labels[1])
        figure.axes[1].set_yticklabels([])
        if witness is not None:
            _arrow(figure.axes[1], generated.mean(0), witness, 0.8 * half)
        return style.png(figure)


def points(rows: np.ndarray) -> bytes:
    """One scatter plot of the first two columns of samples (n, d); of a single column, its histogram."""
    with style.look():
        figure = style.new_figure(3.4, width=3.6)
        axes = figure.subplots()
        if rows.shape[1] == 1:
            axes.hist(rows[:, 0], bins=60, color=style.GENERATED)
            axes.set_ylabel("samples")
        else:
            axes.scatter(rows[:, 0], rows[:, 1], s=5, color=style.GENERATED, alpha=0.35, linewidths=0)
            axes.set_aspect("equal", adjustable="datalim")
            axes.set_ylabel("x2")
        axes.set_xlabel("x1")
        axes.set_title("Generated", color=style.GENERATED)
        axes.grid(True)
        return style.png(figure)


def spectrum(eigenvalues: np.ndarray, *, beta: float, kept: int, unit: str) -> bytes:
    """The data's spectrum with the threshold drawn in: what the generator keeps, and what it leaves out.

    Args:
        eigenvalues: descending (k,), all or the leading ones.
        beta: the threshold.
        kept: number of eigenvalues above it.
        unit: of the eigenvalues, for the axis.
    """
    values = np.asarray(eigenvalues, dtype=np.float64)[: max(12, round(2.5 * kept))]
    order = np.arange(1, len(values) + 1)
    with style.look():
        figure = style.new_figure(3.1)
        axes = figure.subplots()
        inside = np.clip(values - beta, 0.0, None)
        axes.bar(order, values - inside, 0.78, color=style.SHADE, label="left out")
        axes.bar(order, inside, 0.78, values - inside, color=style.REAL, label="kept, above beta")
        if beta > 0:
            axes.axhline(beta, color=style.GENERATED, ls=(0, (4, 2)), label=f"beta = {beta:.4g}")
        axes.set_xlim(0.2, len(values) + 0.8)
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        axes.set_xlabel("direction, by variance of the data")
        axes.set_ylabel(f"variance ({unit})")
        axes.grid(True, axis="y")
        figure.legend(loc="outside upper left", ncols=3, handlelength=1.4, columnspacing=1.2)
        return style.png(figure)


def traversal(
    mean: np.ndarray,
    axes_rows: np.ndarray,
    shares: np.ndarray,
    image_shape: tuple[int, ...],
    value_range: tuple[float, float],
) -> bytes:
    """What each component does: the mean picture pushed from -2.5 to +2.5 standard deviations along it.

    Args:
        mean: (d,).
        axes_rows: components scaled to one standard deviation (k, d).
        shares: fraction of the data's variance that each component carries (k,).
        image_shape: (h, w) or (h, w, c).
        value_range: the values of black and white.
    """
    steps = np.linspace(-TRAVERSAL_SD, TRAVERSAL_SD, TRAVERSAL_STEPS)
    rows = (mean + steps[None, :, None] * axes_rows[:, None, :]).reshape(-1, len(mean))
    h, w = image_shape[:2]
    sheet = tile(to_pictures(rows, image_shape, value_range), TRAVERSAL_STEPS)
    with style.look():
        height = style.WIDTH * 0.8 * len(axes_rows) * h / (TRAVERSAL_STEPS * w) + 0.5
        figure = style.new_figure(min(9.0, height))
        panel = figure.subplots()
        _show(panel, sheet)
        names = [f"{step:+.1f} sd" if index in (0, TRAVERSAL_STEPS - 1) else "" for index, step in enumerate(steps)]
        names[TRAVERSAL_STEPS // 2] = "mean"
        panel.set_xticks([index * (w + 1) + (w - 1) / 2 for index in range(TRAVERSAL_STEPS)], names)
        panel.set_yticks(
            [index * (h + 1) + (h - 1) / 2 for index in range(len(axes_rows))],
            [f"{index + 1}: {share:.0%}" for index, share in enumerate(shares)],
        )
        panel.tick_params(length=0)
        panel.set_ylabel("component: share of the data's variance")
        return style.png(figure)


def loadings(axes_rows: np.ndarray, shares: np.ndarray) -> bytes:
    """The components of data that are not images: one row of coloured cells each.

    Args:
        axes_rows: components scaled to one standard deviation (k, d).
        shares: fraction of the data's variance that each component carries (k,).
    """
    limit = float(np.abs(axes_rows).max()) or 1.0
    with style.look():
        figure = style.new_figure(max(2.0, 1.3 + 0.28 * len(axes_rows)))
        panel = figure.subplots()
        shown = panel.imshow(axes_rows, cmap=style.DIVERGING, vmin=-limit, vmax=limit, aspect="auto")
        panel.set_yticks(range(len(shares)), [f"{index + 1}: {share:.0%}" for index, share in enumerate(shares)])
        panel.xaxis.set_major_locator(MaxNLocator(12, integer=True))
        panel.tick_params(length=0)
        panel.set_xlabel("column of the data, counted from 0")
        panel.set_ylabel("component: share")
        figure.colorbar(shown, ax=panel, label="change per sd", pad=0.02)
        return style.png(figure)


def direction(vector: np.ndarray, image_shape: tuple[int, ...] | None) -> bytes:
    """A direction in data space: a picture for images, bars or a line otherwise.

    Args:
        vector: (d,).
        image_shape: (h, w), (h, w, c), or None.
    """
    limit = float(np.abs(vector).max()) or 1.0
    with style.look():
        if image_shape is not None:
            channels = image_shape[2] if len(image_shape) == 3 else 1
            figure = style.new_figure(2.5 if channels == 1 else 1.8, width=3.2 if channels == 1 else style.WIDTH)
            panels = _panels(figure, channels)
            planes = vector.reshape(*image_shape[:2], channels)
            for index, panel in enumerate(panels):
                panel.imshow(planes[..., index], cmap=style.DIVERGING, vmin=-limit, vmax=limit)
                style.bare(panel)
                if channels == 3:
                    panel.set_title(("red", "green", "blue")[index])
            figure.colorbar(panels[0].images[0], ax=panels, label="weight of the pixel", shrink=0.85)
            return style.png(figure)
        figure = style.new_figure(2.3)
        panel = figure.subplots()
        columns = np.arange(len(vector))
        if len(vector) <= NAMED_BARS:
            colours = [style.WITNESS if value >= 0 else style.ACCENT for value in vector]
            panel.bar(columns, vector, 0.7, color=colours)
        else:
            panel.plot(columns, vector, color=style.WITNESS, lw=1.0)
        panel.axhline(0.0, color=style.MUTED, lw=0.8)
        panel.xaxis.set_major_locator(MaxNLocator(12, integer=True))
        panel.set_xlabel("column of the data, counted from 0")
        panel.set_ylabel("weight")
        return style.png(figure)


def _panels(figure: Figure, count: int) -> list[Axes]:
    return list(figure.subplots(1, count, squeeze=False)[0])


def _show(axes: Axes, sheet: np.ndarray) -> None:
    axes.imshow(sheet, cmap="gray", vmin=0.0, vmax=1.0, interpolation="nearest")
    style.bare(axes)


def _arrow(axes: Axes, start: np.ndarray, witness: np.ndarray, length: float) -> None:
    for sign in (-1.0, 1.0):
        end = start + sign * length * witness
        axes.annotate(
            "",
            xy=(end[0], end[1]),
            xytext=(start[0], start[1]),
            arrowprops={"arrowstyle": "-|>", "color": style.INK, "lw": 1.6},
        )
    axes.plot([], [], color=style.INK, lw=1.6, label="witness")
    axes.legend(loc="upper right", borderaxespad=0.1)
