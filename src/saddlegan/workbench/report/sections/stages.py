"""The report's section on the stages of a progressive run: samples sharpening, spectra, certificates, times."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from markupsafe import Markup

from saddlegan import metrics
from saddlegan.errors import SampleSizeWarning
from saddlegan.fit.progressive._images import block_mean
from saddlegan.metrics import Measurement
from saddlegan.metrics.features import RandomConvolution
from saddlegan.results import as_dict
from saddlegan.workbench.report import explorer, html
from saddlegan.workbench.report.figures import style
from saddlegan.workbench.report.figures.pictures import tile, to_pictures
from saddlegan.workbench.report.scene import Scene, Section
from saddlegan.workbench.runs.certificate import read_stages

ROUNDING = 1e-12  # of the largest variance
SHOWN = 8  # samples in a row
LEAST = 32  # pictures on either side of a distance
COMPARED = 512


def stages(scene: Scene) -> Section | None:
    """Each resolution: pictures from one set of latents, what was kept, what is proved, how long it took."""
    if not scene.run.has(explorer.STAGES_FILE):
        return None
    entries, seconds = read_stages(scene.run)
    views = explorer.views_of(scene.run)
    size = max(len(view.values) for view in views)
    z = np.random.default_rng(scene.seed).standard_normal((SHOWN, size))
    low, high = scene.run.config.data.value_range or (0.0, 255.0)
    names = ", ".join(str(entry["resolution"]) for entry in entries)
    distances = [] if scene.data is None else [_distance(scene, view) for view in views]
    body = [
        html.text(
            "One latent makes a picture at every resolution: each stage is fed the enlarged output of the one before, "
            "and fresh latents for what is new. Each bound holds for the population, not for drawn samples."
        ),
        html.figure(
            _pictures(views, z, (low, high)),
            alt=f"Rows of {SHOWN} generated pictures, one row per resolution ({names}); columns share a latent.",
            caption="Columns share a latent; the picture sharpens from stage to stage. None was chosen.",
        ),
        html.figure(
            _spectra(entries),
            alt="Lines of the leading variances of each stage on a logarithmic scale, each ending at its beta.",
            caption="The leading variances of the data at each resolution. A stage keeps what lies above its β "
            "(dashed), so the lines end there.",
        ),
        html.table(
            [
                (
                    f"{entry['resolution']}\u00a0×\u00a0{entry['resolution']}",
                    f"beta {html.number(entry['beta'])}",
                    _words(entry),
                )
                for entry in entries
            ]
        ),
        *_of_distances(entries, distances),
        html.text(
            f"Reading took {seconds['reading']:.3g} s, everything {seconds['all']:.3g} s. "
            "explorer.html in this run's folder lets you move the latents and beta by hand."
        ),
    ]
    facts = {"stages": entries, "seconds": seconds, "distances": [each and as_dict(each) for each in distances]}
    return Section("stages", "Stage by stage", html.join(body), facts)


def _distance(scene: Scene, view: explorer.View) -> Measurement | None:
    """Kernel distance of samples of one stage from the pictures at its resolution, with what real ones get."""
    spec = scene.run.config.data
    if scene.data is None or spec.image_shape is None or len(scene.data.X) < 2 * LEAST:
        return None
    n = min(COMPARED, len(scene.data.X) // 2)
    rng = np.random.default_rng(scene.seed)
    order = rng.permutation(np.sort(rng.permutation(len(scene.data.X))[: 2 * n]))
    h, w, c = (*spec.image_shape, 1)[:3]
    real = block_mean(torch.from_numpy(np.array(scene.data.X[order])).reshape(2 * n, h, w, c), view.shape[0])
    rows = real.reshape(2 * n, -1).double().numpy()
    z = rng.standard_normal((n, len(view.values)))
    made = view.mean + z * np.sqrt(np.maximum(0.0, view.values - view.beta)) @ view.vectors
    net = RandomConvolution(view.shape if c > 1 else view.shape[:2], value_range=spec.value_range or (0.0, 255.0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SampleSizeWarning)  # the figure stands beside its floor
        return metrics.kernel(real=rows[:n], generated=made, held_out=rows[n:], features=net, random_state=scene.seed)


def _of_distances(entries: list[dict[str, Any]], distances: Sequence[Measurement | None]) -> list[Markup]:
    if not distances or any(each is None for each in distances):
        return []
    rows = [
        (
            f"{entry['resolution']}\u00a0×\u00a0{entry['resolution']}",
            f"{found.value:.3g} ± {found.standard_error:.1g}",
            f"{found.floor:.2g} between real pictures",
        )
        for entry, found in zip(entries, distances, strict=True)
        if found is not None
    ]
    words = (
        "Kernel distance of samples from the pictures at each resolution, on features of a random convolution net: "
        "scales differ from stage to stage, so read each beside what as many real pictures get."
    )
    return [html.text(words), html.table(rows)]


def _words(entry: dict[str, Any]) -> str:
    solution = entry["solution"]
    stats = solution["stats"]
    share = solution["value"] / entry["total"] if entry["total"] else 0.0
    residual = stats["primal_residual"] / entry["beta"] if entry["beta"] else stats["primal_residual"]
    return (
        f"{entry['kept']} directions kept, {entry['fresh']} latents new; {share:.0%} of the variance; gap "
        f"{solution['gap']:.2g}; constraint met within {max(0.0, residual):.1g} of beta; {stats['passes']} passes, "
        f"{stats['stage_seconds']:.3g} s"
    )


def _pictures(views: list[explorer.View], z: np.ndarray, value_range: tuple[float, float]) -> bytes:
    with style.look():
        figure = style.new_figure(0.72 * len(views))
        panels = np.atleast_1d(figure.subplots(len(views), 1))
        for axes, view in zip(panels, views, strict=True):
            weights = z[:, : len(view.values)] * np.sqrt(np.maximum(0.0, view.values - view.beta))
            rows = view.mean + weights @ view.vectors
            h, w, c = view.shape
            pictures = to_pictures(rows, (h, w) if c == 1 else (h, w, c), value_range)
            zoom = max(1, 64 // h)
            sheet = tile(pictures.repeat(zoom, axis=1).repeat(zoom, axis=2), SHOWN, gap=3)
            axes.imshow(sheet, cmap="gray", vmin=0.0, vmax=1.0, interpolation="nearest")
            style.bare(axes)
            axes.set_ylabel(f"{h} x {w}", rotation=0, ha="right", va="center")
        return style.png(figure)


def _spectra(entries: list[dict[str, Any]]) -> bytes:
    colours = (style.MUTED, style.ACCENT, style.WITNESS, style.GENERATED, style.REAL)
    with style.look():
        figure = style.new_figure(2.4)
        axes = figure.subplots()
        for index, entry in enumerate(entries):
            colour = colours[(index - len(entries)) % len(colours)]
            values = np.asarray(entry["spectrum"][:-1], dtype=np.float64)
            values = values[values > ROUNDING * values.max(initial=0.0)]  # the rest is zero, and has no logarithm
            label = f"{entry['resolution']} x {entry['resolution']}"
            axes.semilogy(np.arange(1, len(values) + 1), values, color=colour, label=label)
            if entry["beta"] > 0:
                axes.axhline(entry["beta"], color=colour, linestyle="--", linewidth=0.8)
        axes.set_xlabel("direction")
        axes.set_ylabel("variance")
        axes.legend(ncols=2)
        return style.png(figure)
