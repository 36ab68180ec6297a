"""The figures of a training: curves over the steps, samples over time, and the map of modes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.ticker import MaxNLocator

from saddlegan.workbench.report.figures import style
from saddlegan.workbench.report.figures.pictures import tile, to_pictures

Curve = tuple[Sequence[float], Sequence[float]]  # steps, values
LINES = (style.REAL, style.GENERATED, style.WITNESS, style.ACCENT, style.INK, style.MUTED)
STRIP = 5  # moments shown


def curves(panels: Mapping[str, Mapping[str, Curve]]) -> bytes:
    """One panel per figure of merit, one line per run.

    Args:
        panels: title of a panel -> name of a line -> (steps, values); NaN leaves a gap.
    """
    with style.look():
        columns = 2 if len(panels) > 1 else 1
        rows = math.ceil(len(panels) / columns)
        figure = style.new_figure(0.4 + 2.0 * rows)
        axes_list = list(figure.subplots(rows, columns, squeeze=False).flat)
        for axes, (title, lines) in zip(axes_list, panels.items(), strict=False):
            for number, (name, (steps, values)) in enumerate(lines.items()):
                axes.plot(steps, values, color=LINES[number % len(LINES)], label=name, marker="o", ms=2)
            axes.set_title(title)
            axes.set_xlabel("step")
            axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
            axes.grid(True)
            if len(lines) > 1 and axes is axes_list[0]:
                axes.legend(handlelength=1.4)
        for axes in axes_list[len(panels) :]:
            axes.set_visible(False)
        return style.png(figure)


def strip(
    sheets: Mapping[int, np.ndarray],
    *,
    image_shape: tuple[int, ...] | None,
    value_range: tuple[float, float] | None,
    limits: tuple[np.ndarray, np.ndarray],
) -> bytes:
    """Samples over time, left to right.

    Args:
        sheets: step -> samples (n, d).
        image_shape: of the rows, or None for points.
        value_range: black and white of images.
        limits: smallest and largest value of the first two columns, for points.
    """
    steps = sorted(sheets)
    shown = [steps[round(k * (len(steps) - 1) / (STRIP - 1))] for k in range(STRIP)] if len(steps) > STRIP else steps
    with style.look():
        figure = style.new_figure(1.7)
        for axes, step in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
            rows = sheets[step]
            if image_shape is not None and value_range is not None:
                pictures = to_pictures(rows, image_shape, value_range)
                axes.imshow(tile(pictures, math.ceil(math.sqrt(len(pictures)))), cmap="gray", vmin=0.0, vmax=1.0)
            else:
                second = rows[:, 1] if rows.shape[1] > 1 else np.zeros(len(rows))
                axes.scatter(rows[:, 0], second, s=2, color=style.GENERATED, alpha=0.5, linewidths=0)
                low, high = limits
                axes.set_xlim(low[0], high[0])
                axes.set_ylim(low[-1], high[-1])
                axes.set_aspect("equal" if rows.shape[1] > 1 else "auto")
            style.bare(axes)
            axes.set_title(f"{step:,}", fontsize=8.5)
        return style.png(figure)


def mode_map(samples: np.ndarray, centers: np.ndarray, counts: np.ndarray) -> bytes:
    """Samples over the modes, and how many high quality samples each mode got, with the fair share drawn in.

    Args:
        samples: (n, 2) or more columns, of which two are shown.
        centers: (m, d).
        counts: high quality samples per mode (m,).
    """
    with style.look():
        figure = style.new_figure(2.9)
        left, right = figure.subplots(1, 2)
        left.scatter(samples[:, 0], samples[:, 1], s=3, color=style.GENERATED, alpha=0.3, linewidths=0)
        left.scatter(centers[:, 0], centers[:, 1], s=60, facecolors="none", edgecolors=style.REAL, linewidths=0.9)
        left.set_aspect("equal", adjustable="datalim")
        left.set_title("Samples, modes", color=style.GENERATED)
        right.bar(np.arange(len(counts)), counts, 0.8, color=style.GENERATED)
        right.axhline(counts.sum() / len(counts), color=style.REAL, ls=(0, (4, 2)), label="fair share")
        right.set_title("Samples per mode")
        right.set_ylim(0, 1.25 * max(1, counts.max()))
        right.set_xlabel("mode")
        right.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        right.legend(handlelength=1.6, loc="upper right")
        return style.png(figure)
