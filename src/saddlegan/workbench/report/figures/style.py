"""One look for every figure: colours that colour-blind readers can tell apart, large type, few lines.

Figures are drawn narrow and dense, so that their text can still be read on a telephone's 400 pixels.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

# Okabe and Ito's palette
REAL = "#0072B2"
GENERATED = "#D55E00"
WITNESS = "#009E73"
ACCENT = "#CC79A7"
INK = "#20242b"
MUTED = "#8a919c"
FAINT = "#e4e7ec"
SHADE = "#c3c8d0"
DIVERGING = "PuOr_r"  # orange high, purple low; neither end depends on telling red from green
WIDTH = 4.6  # inches
DPI = 220

_LOOK: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 8.0,
    "axes.labelsize": 9.5,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 9.0,
    "ytick.labelsize": 9.0,
    "xtick.major.width": 0.8,
    "ytick.major.width": 0.8,
    "grid.color": FAINT,
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "legend.fontsize": 9.0,
    "figure.facecolor": "white",
    "figure.constrained_layout.h_pad": 0.07,
    "figure.constrained_layout.w_pad": 0.07,
    "lines.linewidth": 1.6,
}


@contextlib.contextmanager
def look() -> Iterator[None]:
    """Apply the style inside the block and restore what was there; no figure is ever registered globally."""
    with matplotlib.rc_context(_LOOK):
        yield


def new_figure(height: float, *, width: float = WIDTH) -> Figure:
    """Make an empty figure of the given size in inches, laid out so that nothing overlaps. Call it inside `look`."""
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def png(figure: Figure) -> bytes:
    """Render a figure. The same figure gives the same bytes: no date, no version."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def bare(axes: Axes) -> None:
    """Take ticks and frame off an axes that shows pictures."""
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
