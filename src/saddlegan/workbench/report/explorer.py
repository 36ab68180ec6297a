"""`explorer.html`: a solved generator to hold in one's hands. One page, no server, no network.

For a solved linear generator a sample is mean + sum_i z_i sqrt((lambda_i - beta)_+) v_i. The page holds the mean, the
lambda_i and the v_i of every stage, quantised, and computes the sum itself: moving beta moves the optimum P* at once.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors

from saddlegan.errors import RunError
from saddlegan.networks import LinearGenerator
from saddlegan.workbench.files import write_atomic
from saddlegan.workbench.report.scene import short_name, subtitle_of
from saddlegan.workbench.runs import classes
from saddlegan.workbench.runs.certificate import read_solution, read_spectrum, read_stages
from saddlegan.workbench.runs.folder import Run

STAGES_FILE = "stages.safetensors"
LARGEST = 1 << 25  # numbers of all directions together, beyond which a by-class fit writes no page by itself
SPECTRUM_BARS = 240  # eigenvalues drawn beyond the kept ones


@dataclasses.dataclass(frozen=True)
class View:
    """One resolution as the page shows it.

    Attributes:
        shape: (h, w, c) of its images.
        mean: (d,).
        values: lambda_1 >= ... of the latents (k,).
        vectors: v_i in rows (k, d).
        beta: the optimum's own threshold.
        spectrum: eigenvalues known at this resolution, descending.
        total: the data's total variance.
    """

    shape: tuple[int, int, int]
    mean: np.ndarray
    values: np.ndarray
    vectors: np.ndarray
    beta: float
    spectrum: list[float]
    total: float


def view_of(
    *,
    factor: np.ndarray,
    mean: np.ndarray,
    beta: float,
    shape: tuple[int, int, int],
    spectrum: list[float],
    total: float,
) -> View:
    """Read lambda_i = ||F_i||^2 + beta and v_i = F_i / ||F_i|| off the generator's factor F."""
    norms = np.linalg.norm(factor.astype(np.float64), axis=1)
    kept = norms > 1e-12 * max(1.0, norms.max(initial=0.0))
    vectors = factor[kept] / norms[kept, None]
    return View(shape, mean, norms[kept] ** 2 + beta, vectors, beta, spectrum, total)


def views_of(run: Run) -> list[View]:
    """The stages of a run, coarse to fine; a run that is not progressive has one.

    Raises:
        RunError: not a solved linear generator of images, or damaged files.
    """
    config, shape = run.config, run.config.data.image_shape
    if shape is None:
        raise RunError(f"the run {run.path} is not of images; the explorer draws pictures (see `fit --image-shape`)")
    if not run.has("certificate.json"):
        raise RunError(f"the run {run.path} was not solved: it has no certificate.json; the explorer needs `fit`")
    if run.has(STAGES_FILE):
        return _staged(run)
    solution, generator = read_solution(run), run.load_generator()
    if not isinstance(generator, LinearGenerator) or solution is None:
        raise RunError(
            f"the run {run.path} has a {type(generator).__name__}; the explorer needs a solved linear generator "
            "(`fit` without --features)"
        )
    h, w, c = (*shape, 1)[:3]
    scale, offset = config.sample_scale, config.sample_offset
    total = solution.stats.get("total_moment")
    if not isinstance(total, (int, float)):
        raise RunError(f"{run.path}/certificate.json is damaged: solution.stats.total_moment must be a number")
    return [
        view_of(
            factor=generator.weight.detach().numpy() * scale,
            mean=generator.mean.detach().numpy() * scale + offset,
            beta=float(solution.stats["beta"]) * scale**2,
            shape=(h, w, c),
            spectrum=read_spectrum(run),
            total=float(total) * scale**2,
        )
    ]


def _staged(run: Run) -> list[View]:
    try:
        tensors = load_tensors((run.path / STAGES_FILE).read_bytes())
        views = []
        for entry in read_stages(run)[0]:
            r, c = int(entry["resolution"]), int(entry["channels"])
            views.append(
                view_of(
                    factor=tensors[f"factor.{r}"],
                    mean=tensors[f"mean.{r}"],
                    beta=float(entry["beta"]),
                    shape=(r, r, c),
                    spectrum=[float(value) for value in entry["spectrum"]],
                    total=float(entry["total"]),
                )
            )
    except (SafetensorError, KeyError, OSError, ValueError) as error:
        raise RunError(f"the run {run.path} is damaged: {STAGES_FILE} or certificate.json ({error})") from error
    return views


def can_show(run: Run) -> bool:
    """Whether a run has what the page needs: every generator linear, of pictures, and the page of a bearable size."""
    try:
        sets = sets_of(run)
    except RunError:
        return False
    return sum(view.vectors.size for _, views in sets for view in views) <= LARGEST


def sets_of(run: Run) -> list[tuple[str, list[View]]]:
    """The views of each label of a run; of a run without labels one set without a name.

    Raises:
        RunError: as for `views_of`.
    """
    found = classes.read_labels(run)
    if not found:
        return [("", views_of(run))]
    return [(each.name, views_of(classes.of_label(run, each.name))) for each in found]


def write(run: Run, out: Path | None = None) -> Path:
    """Write the page of a run.

    Args:
        run: a run of `fit` on images, with a linear generator.
        out: where; the run's own `explorer.html` if None.

    Returns:
        Path of the page.

    Raises:
        RunError: not such a run, or it cannot be written to.
    """
    sets = sets_of(run)
    low, high = run.config.data.value_range or (0.0, 255.0)
    payload = {
        "low": low,
        "high": high,
        "sets": [{"label": label, "views": [_packed(view) for view in views]} for label, views in sets],
    }
    environment = Environment(
        loader=PackageLoader("saddlegan.workbench.report", "templates"), autoescape=True, undefined=StrictUndefined
    )
    page = environment.get_template("explorer.html.j2").render(
        title=short_name(run.config.data.source),
        subtitle=subtitle_of(run),
        staged=len(sets[0][1]) > 1,
        labelled=len(sets) > 1,
        version=run.config.saddlegan,
        payload=Markup(json.dumps(payload, separators=(",", ":")).replace("<", "\\u003c")),
    )
    if out is None:
        return run.write_text("explorer.html", page)
    return write_atomic(out, page.encode())


def _packed(view: View) -> dict[str, Any]:
    """One stage as JSON: the mean as 16-bit steps, each eigenvector as signed bytes with its own scale."""
    peaks = np.abs(view.vectors).max(axis=1, initial=1e-30)
    codes = np.round(view.vectors / peaks[:, None] * 127).astype(np.int8)
    low, high = float(view.mean.min()), float(view.mean.max())
    step = (high - low) / 65535 or 1.0
    means = np.round((view.mean.astype(np.float64) - low) / step).astype("<u2")
    bars = view.spectrum or view.values.tolist()
    return {
        "shape": view.shape,
        "mean": base64.b64encode(means.tobytes()).decode("ascii"),
        "meanLow": low,
        "meanStep": step,
        "vectors": base64.b64encode(codes.tobytes()).decode("ascii"),
        "scales": [float(peak) / 127 for peak in peaks],
        "values": [_short(value) for value in view.values],
        "beta": view.beta,
        "spectrum": [_short(value) for value in bars[:SPECTRUM_BARS]],
        "total": view.total,
    }


def _short(value: float) -> float:
    """Six digits are more than the page shows."""
    return float(f"{value:.6g}") if math.isfinite(value) else 0.0
