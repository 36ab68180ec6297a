"""The sections of a training run: what the last line says, curves, samples over time, and the map of modes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from saddlegan import objectives
from saddlegan.metrics._modes import HIGH_QUALITY, ModeMetrics, mode_metrics
from saddlegan.workbench.report import html
from saddlegan.workbench.report.figures import training as training_figures
from saddlegan.workbench.report.scene import Scene, Section, thin
from saddlegan.workbench.training import loop
from saddlegan.workbench.training.session import FIGURES

GAINS = ("generator_gain", "discriminator_gain")
ERROR = "_error"  # at the end of the name of a figure's standard error, which is no curve of its own

MEANINGS = {
    "value": "V(G, D), mean over the steps since the line before, penalties included",
    "generator_loss": "what G descended, likewise, without the density term",
    "density_term": "what the primal-dual rule adds to it: how far densities are from their targets, times its weight",
    "discriminator_loss": "what D descended, likewise",
    "modes": "modes with a high quality sample; says nothing while high quality is near 0",
    "high_quality": "share of samples within 3 standard deviations of a mode; in the plane at best 0.9889",
    "total_variation": "distance of the modes' histogram from uniform, 0 to 1",
    "spread": "spread of the samples relative to the data's; below 1 they have shrunk",
    "proximal_gap": "proximal duality gap of the averaged generator and the discriminator; 0 at an equilibrium",
    "proximal_gap_error": "its standard error",
    "generator_gain": "the generator's share of the gap, by a search of fixed budget; a share below 0 is none found",
    "discriminator_gain": "the discriminator's share, likewise",
    "kernel": "kernel distance of 128 samples to data; 0 for equal distributions, below it by chance",
    "kernel_above_floor": "by how many standard errors that is worse than other real rows; beyond 3 it is no accident",
    "mean_distance": "distance of the means in units of the data's spread",
}


def training(scene: Scene) -> Section | None:
    """Losses, value and metrics."""
    rows = scene.run.metrics()
    if scene.run.config.command != "train" or not rows:
        return None
    names = numeric_names(rows)
    last = rows[-1]
    table = [(name.replace("_", " "), figure(name, latest(rows, name)), MEANINGS.get(name, "")) for name in names]
    options = scene.run.config.options
    done = "" if last["step"] >= options["steps"] else f" The run stopped early, at {last['step']:,}."
    parts: list[Markup] = [
        html.text(f"{last['step']:,} of {options['steps']:,} steps of the rule {scene.run.config.model}.{done}"),
        html.table(table),
        *_curves({"this run": rows}, names),
    ]
    if options.get("certify_every"):
        parts.append(html.text(_judged_by(options)))
    by_seed = {
        name: [float(value) for value in last[f"{name}_by_seed"]]
        for name in names
        if isinstance(last.get(f"{name}_by_seed"), list)
    }
    if by_seed:
        parts.append(html.text("Over the seeds, mean and standard deviation:"))
        parts.append(
            html.table(
                (
                    name.replace("_", " "),
                    f"{np.mean(values):.4g} ± {np.std(values):.2g}",
                    ", ".join(f"{value:.3g}" for value in values),
                )
                for name, values in by_seed.items()
            )
        )
    return Section("training", "The training", html.join(parts), {"last": last, "options": options})


def _curves(runs: Mapping[str, Sequence[Mapping[str, Any]]], names: Sequence[str]) -> list[Markup]:
    """The curves, what the players see apart from what is measured on samples."""
    played = [name for name in names if name in FIGURES]
    measured = [name for name in names if name not in FIGURES]
    captions = (
        (measured, "Measured on samples: watch these."),
        (played, "What the players see; it says little about quality."),
    )
    return [
        html.figure(
            training_figures.curves(panels(runs, shown)),
            alt=f"Curves over the steps of {', '.join(name.replace('_', ' ') for name in shown)}.",
            caption=caption,
        )
        for shown, caption in captions
        if shown
    ]


def progress(scene: Scene) -> Section | None:
    """Samples over time."""
    sheets = loop.read_sheets(scene.run) if scene.run.config.command == "train" else {}
    if not sheets:
        return None
    data = scene.run.config.data
    rows = scene.data.X if scene.data is not None else scene.samples
    low, high = (f(thin(rows)[:, :2], axis=0).astype(float) for f in (np.min, np.max))
    margin = 0.1 * (high - low) + 1e-9
    png = training_figures.strip(
        sheets, image_shape=data.image_shape, value_range=data.value_range, limits=(low - margin, high + margin)
    )
    steps = sorted(sheets)
    body = html.figure(
        png,
        alt=f"Generated samples at several steps from {steps[0]:,} to {steps[-1]:,}.",
        caption="Samples of the generator's moving average over time, from the same latents; the title is the step.",
    )
    return Section("progress", "Samples over time", body, {"steps": steps})


def modes(scene: Scene) -> Section | None:
    """Which modes are held."""
    data = scene.data
    if scene.run.config.command != "train" or not scene.run.metrics():
        return None
    if data is None or data.centers is None or data.sd is None:
        return None
    found = mode_metrics(scene.samples, data.centers, data.sd)
    distance = np.sqrt(((scene.samples[:, None] - data.centers[None]) ** 2).sum(2)) / data.sd
    nearest = distance.argmin(1)[distance.min(1) < HIGH_QUALITY]
    counts = np.bincount(nearest, minlength=len(data.centers))
    parts = [html.text(sentence(found))]
    if scene.samples.shape[1] >= 2:
        parts.append(
            html.figure(
                training_figures.mode_map(scene.samples, data.centers, counts),
                alt="Left: samples over circles that mark the modes. Right: high quality samples per mode.",
                caption="A mode without a bar is missed; bars above the line are modes that get more than their share.",
            )
        )
    return Section("modes", "The modes", html.join(parts), {"metrics": vars(found), "counts": counts.tolist()})


def sentence(found: ModeMetrics) -> str:
    """The mode metrics in one paragraph."""
    words = (
        f"{found.modes} of {found.total} modes are held by {found.high_quality:.1%} high quality samples "
        f"(a perfect sampler: {found.ceiling:.2%}); total variation {found.total_variation:.3f}, "
        f"spread within the modes {found.spread:.2f} of the data's."
    )
    if found.high_quality < 0.05:
        words += " With so few samples near any mode, the count of modes means nothing."
    return words


def numeric_names(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of the figures in any line, in order; certificates are not in every one."""
    named = ((name, value) for row in rows for name, value in row.items() if name != "step")
    return list(dict.fromkeys(name for name, value in named if isinstance(value, (int, float))))


def figure(name: str, value: float) -> str:
    """A figure as the last line shows it; a search that ends below where it began has found no gain."""
    return "none found" if name in GAINS and value < 0 else html.number(value)


def latest(rows: Sequence[Mapping[str, Any]], name: str) -> float:
    """The newest figure of that name; "nan" and "inf" stand for what JSON has no words for."""
    return next(float(row[name]) for row in reversed(rows) if isinstance(row.get(name), (int, float, str)))


def _judged_by(options: Mapping[str, Any]) -> str:
    played = objectives.get(options["objective"])
    chosen = options.get("certify_objective") or (played.name if played.zero_sum else played.twin) or played.name
    words = (
        f"The proximal gap is measured on the {chosen} value at lambda = {options['lam']:g} "
        f"({options['norm']} distance) by searches of {options['certify_steps']} steps each, the same for every line."
    )
    if chosen != played.name:
        words += f" The training itself followed the {options['objective']} losses."
    if options.get("stop_below") is not None:
        words += f" It was to stop once gap plus twice its standard error fell below {options['stop_below']:g}."
    return words


def panels(
    runs: Mapping[str, Sequence[Mapping[str, Any]]], names: Sequence[str]
) -> dict[str, dict[str, training_figures.Curve]]:
    """Metrics as the curves' panels; lines that lack a figure are passed over, NaN leaves a gap, no gain is 0."""
    return {
        name.replace("_", " "): {
            label: (
                [row["step"] for row in rows if name in row],
                [_number(row[name], least=0.0 if name in GAINS else -np.inf) for row in rows if name in row],
            )
            for label, rows in runs.items()
        }
        for name in names
        if not name.endswith(ERROR)
    }


def _number(value: Any, *, least: float) -> float:
    return max(float(value), least) if isinstance(value, (int, float)) else float("nan")
