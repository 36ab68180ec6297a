"""The figures of a report. Each function draws one and returns it as PNG bytes; numbers in, picture out.

Directions and spectra come in as arrays, so any door can use them: nothing here knows an estimator.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

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
MARGINALS = 15  # columns whose distributions are drawn
UNLIKE = 4.0  # ratio of two coordinates' ranges beyond which each has its own scale
STEEP = 300.0  # ratio of the first variance to the median one beyond which a spectrum needs a logarithmic axis


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
    (low_x, low_y), (high_x, high_y) = frame_of(np.concatenate([real, generated]))
    with style.look():
        figure = style.new_figure(2.75)
        for axes, points, title, colour in zip(
            _panels(figure, 2), (real, generated), ("Real", "Generated"), (style.REAL, style.GENERATED), strict=True
        ):
            chosen = points
            if len(points) > SCATTER_POINTS:
                chosen = points[np.sort(rng.choice(len(points), SCATTER_POINTS, replace=False))]
            axes.scatter(chosen[:, 0], chosen[:, 1], s=5, color=colour, alpha=0.35, linewidths=0, rasterized=True)
            axes.set_title(title, color=colour)
            axes.set_xlim(low_x, high_x)
            axes.set_ylim(low_y, high_y)
            axes.set_box_aspect(1)  # equal scales where the frame is a square, each its own where it is not
            axes.set_xlabel(short(labels[0]))
            axes.xaxis.set_major_locator(MaxNLocator(4))
            axes.yaxis.set_major_locator(MaxNLocator(5))
            axes.grid(True)
        figure.axes[0].set_ylabel(short(labels[1]))
        figure.axes[1].set_yticklabels([])
        if witness is not None:
            length = 0.4 * min(high_x - low_x, high_y - low_y)
            _arrow(figure.axes[1], generated.mean(0), witness, length)
        return style.png(figure)


def frame_of(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Corners of the axes: a square, so that shapes are true, unless one coordinate would be a line in it."""
    low, high = points.min(0), points.max(0)
    middle, half = (low + high) / 2, 0.54 * (high - low)
    half[half <= 0] = max(half.max(), 0.5)
    if half.max() <= UNLIKE * half.min():
        half[:] = half.max()
    return middle - half, middle + half


def short(name: str, length: int = 26) -> str:
    """A column's name that fits on an axis."""
    return name if len(name) <= length else f"{name[: length - 3]}..."


def marginals(real: np.ndarray, generated: np.ndarray, names: Sequence[str]) -> bytes:
    """Each column's distribution, data against samples, at most fifteen columns.

    Args:
        real: (n, d).
        generated: (m, d).
        names: of the d columns.
    """
    shown = min(MARGINALS, len(names))
    across = min(3, shown)
    rows = math.ceil(shown / across)
    with style.look():
        figure = style.new_figure(2.6 if shown == 1 else 0.45 + 1.25 * rows)
        panels = list(figure.subplots(rows, across, squeeze=False).flat)
        for index, axes in enumerate(panels):
            if index >= shown:
                axes.set_visible(False)
                continue
            both = np.concatenate([real[:, index], generated[:, index]])
            low, high = float(both.min()), float(both.max())
            bins = np.linspace(low, high if high > low else low + 1.0, 25)
            if len(real):
                axes.hist(real[:, index], bins, density=True, color=style.REAL, alpha=0.35, label="data")
            axes.hist(
                generated[:, index], bins, density=True, histtype="step", color=style.GENERATED, lw=1.3, label="samples"
            )
            axes.set_title(short(names[index], 20), fontsize=8.0, fontweight="normal")
            axes.set_yticks([])
            axes.xaxis.set_major_locator(MaxNLocator(3))
            axes.tick_params(labelsize=7.5)
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper left", ncols=2)
        return style.png(figure)


def points(rows: np.ndarray, *, labels: Sequence[str] = ("x1", "x2")) -> bytes:
    """One scatter plot of the first two columns of samples (n, d); of a single column, its histogram."""
    with style.look():
        figure = style.new_figure(3.4, width=3.6)
        axes = figure.subplots()
        if rows.shape[1] == 1:
            axes.hist(rows[:, 0], bins=60, color=style.GENERATED)
            axes.set_ylabel("samples")
        else:
            axes.scatter(rows[:, 0], rows[:, 1], s=5, color=style.GENERATED, alpha=0.35, linewidths=0)
            (low_x, low_y), (high_x, high_y) = frame_of(rows[:, :2])
            axes.set_xlim(low_x, high_x)
            axes.set_ylim(low_y, high_y)
            axes.set_box_aspect(1)
            axes.set_ylabel(short(labels[1]))
        axes.set_xlabel(short(labels[0]))
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
        floor = log_floor(values)
        if floor is not None:  # on a straight axis all bars but the first would have no height
            axes.set_yscale("log")
            axes.set_ylim(floor, 2.0 * values[0])
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


def log_floor(values: np.ndarray) -> float | None:
    """Bottom of a logarithmic axis for a spectrum that a straight one would not show, else None."""
    positive = values[values > 1e-12 * values[0]] if len(values) and values[0] > 0 else values[:0]
    if len(positive) < 2 or positive[0] < STEEP * float(np.median(positive)):
        return None
    return 0.5 * float(positive.min())


def by_label(
    rows: Sequence[np.ndarray], names: Sequence[str], image_shape: tuple[int, ...], value_range: tuple[float, float]
) -> bytes:
    """A row of pictures for each label.

    Args:
        rows: (k, d) for each label.
        names: of the labels.
        image_shape: (h, w) or (h, w, c).
        value_range: the values of black and white.
    """
    h, w = image_shape[:2]
    columns = len(rows[0])
    sheet = tile(to_pictures(np.concatenate(rows), image_shape, value_range), columns)
    with style.look():
        figure = style.new_figure(min(9.0, style.WIDTH * 0.9 * len(rows) * h / (columns * w) + 0.3))
        panel = figure.subplots()
        _show(panel, sheet)
        panel.set_yticks([index * (h + 1) + (h - 1) / 2 for index in range(len(rows))], [short(n, 14) for n in names])
        panel.tick_params(length=0)
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


def loadings(axes_rows: np.ndarray, shares: np.ndarray, *, names: Sequence[str] | None = None) -> bytes:
    """The components of data that are not images: one row of coloured cells each.

    Args:
        axes_rows: components scaled to one standard deviation (k, d), each column in units of its own spread.
        shares: fraction of the data's variance that each component carries (k,).
        names: of the columns, drawn where there are few.
    """
    limit = float(np.abs(axes_rows).max()) or 1.0
    with style.look():
        named = names is not None and len(names) <= NAMED_BARS
        figure = style.new_figure(max(2.0, 1.3 + 0.28 * len(axes_rows)) + (0.7 if named else 0.0))
        panel = figure.subplots()
        shown = panel.imshow(axes_rows, cmap=style.DIVERGING, vmin=-limit, vmax=limit, aspect="auto")
        panel.set_yticks(
            range(len(shares)), [f"{index + 1}: {_share(share)}" for index, share in enumerate(100 * shares)]
        )
        _column_axis(panel, names, axes_rows.shape[1])
        panel.tick_params(length=0)
        panel.set_ylabel("component: share, %")
        figure.colorbar(shown, ax=panel, label="change, in the column's sd", pad=0.02)
        return style.png(figure)


def _share(percent: float) -> str:
    return f"{percent:.0f}" if percent >= 1 else f"{percent:.2g}"


def _column_axis(axes: Axes, names: Sequence[str] | None, count: int) -> None:
    """Name the columns along an axis where they have names and there is room."""
    if names is not None and count <= NAMED_BARS:
        size = 8.0 if count <= 20 else 6.5
        axes.set_xticks(range(count), [short(name, 22) for name in names], rotation=90, fontsize=size)
    else:
        axes.xaxis.set_major_locator(MaxNLocator(12, integer=True))
        axes.set_xlabel("column of the data, counted from 0")


def direction(vector: np.ndarray, image_shape: tuple[int, ...] | None, *, names: Sequence[str] | None = None) -> bytes:
    """A direction in data space: a picture for images, bars or a line otherwise.

    Args:
        vector: (d,).
        image_shape: (h, w), (h, w, c), or None.
        names: of the columns, drawn where there are few.
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
        figure = style.new_figure(2.3 + (0.7 if names is not None and len(vector) <= NAMED_BARS else 0.0))
        panel = figure.subplots()
        columns = np.arange(len(vector))
        if len(vector) <= NAMED_BARS:
            colours = [style.WITNESS if value >= 0 else style.ACCENT for value in vector]
            panel.bar(columns, vector, 0.7, color=colours)
        else:
            panel.plot(columns, vector, color=style.WITNESS, lw=1.0)
        panel.axhline(0.0, color=style.MUTED, lw=0.8)
        _column_axis(panel, names, len(vector))
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
