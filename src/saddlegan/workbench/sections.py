"""The sections that every run has, and those of a solved one."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from saddlegan import fit
from saddlegan._linalg import second_moment
from saddlegan.networks import FeatureGenerator, LinearGenerator
from saddlegan.workbench import figures, html, report
from saddlegan.workbench.report import Scene, Section
from saddlegan.workbench.runs import Run

SHOWN_PICTURES = 64
SHOWN_COMPONENTS = 8
WITNESS_ELEMENTS = 1 << 26  # rows beyond this many elements are thinned before the witness is computed


def samples(scene: Scene) -> Section:
    """Real against generated."""
    generated, shape, value_range = scene.samples, scene.run.config.data.image_shape, scene.run.config.data.value_range
    real = scene.data.X if scene.data is not None else generated[:0]
    rng = np.random.default_rng(scene.seed)
    chosen = np.sort(rng.choice(len(real), min(SHOWN_PICTURES, len(real)), replace=False)) if len(real) else []
    facts = {"generated": len(generated), "seed": scene.seed}
    if shape is not None and value_range is not None:
        left = real[chosen] if len(real) else real
        png = figures.real_and_generated_images(left, generated[:SHOWN_PICTURES], shape, value_range)
        body = html.figure(
            png,
            alt=f"Two sheets of small pictures: {len(left)} real ones from {scene.name}, and as many generated ones.",
            caption="Neither side was chosen: real pictures at random, generated ones the first that came. "
            "Values beyond black and white are clipped for display.",
        )
    else:
        points, made, labels = _plane(real if len(real) else generated, generated)
        png = figures.real_and_generated_points(points[: len(real)], made, labels=labels)
        body = html.figure(
            png,
            alt=f"Two scatter plots on the same axes, {labels[0]} against {labels[1]}: data and generated samples.",
            caption=f"The same axes on both sides, at most {figures.SCATTER_POINTS:,} points each.",
        )
    parts = [body] if scene.data is not None else [body, report.unavailable(scene)]
    return Section("samples", "Real and generated", html.join(parts), facts)


def _plane(real: np.ndarray, generated: np.ndarray) -> tuple[np.ndarray, np.ndarray, tuple[str, str]]:
    """Two coordinates to look at: the data's own if they have two, else their leading principal components."""
    if real.shape[1] == 1:
        spread = 0.2 * (float(real.std()) or 1.0)
        return _lifted(real, spread), _lifted(generated, spread), ("x1", "random height, for sight only")
    if real.shape[1] == 2:
        return np.asarray(real), generated, ("x1", "x2")
    thinned = _thin(real)
    moment = second_moment(thinned, center=True)
    axes, mean = moment.eigenpairs(2).vectors.numpy().T, moment.mean.numpy()
    return (thinned - mean) @ axes, (generated - mean) @ axes, ("first component of the data", "second component")


def _lifted(X: np.ndarray, spread: float) -> np.ndarray:
    return np.concatenate([X, spread * np.random.default_rng(0).standard_normal((len(X), 1))], axis=1)


def _thin(X: np.ndarray) -> np.ndarray:
    step = math.ceil(X.size / WITNESS_ELEMENTS)
    return np.asarray(X[::step])


def components(scene: Scene) -> Section | None:
    """What each latent does, for generators that are linear in their features."""
    G = scene.run.load_generator()
    if not isinstance(G, (LinearGenerator, FeatureGenerator)):
        return None
    mean, factor = (moment.detach().double() for moment in G.moments())
    _, sd, directions = torch.linalg.svd(factor, full_matrices=False)
    kept = int((sd > 1e-7 * max(1e-300, float(sd[0]))).sum()) if float(sd[0]) > 0 else 0
    if kept == 0:
        return None
    shown = min(SHOWN_COMPONENTS, kept)
    rows = (sd[:shown, None] * directions[:shown]).numpy()
    # an eigenvector's sign is arbitrary: fix it, so that the same data give the same picture everywhere
    rows *= np.sign(rows[np.arange(shown), np.abs(rows).argmax(1)])[:, None]
    total = _total_variance(scene, float(sd.square().sum()))
    shares = sd[:shown].square().numpy() / total
    linear = isinstance(G, LinearGenerator)
    what = "latents" if linear else "leading components of the samples"
    spec = scene.run.config.data
    if spec.image_shape is not None and spec.value_range is not None:
        png = figures.traversal(mean.numpy(), rows, shares, spec.image_shape, spec.value_range)
        body = html.figure(
            png,
            alt=f"A table of pictures: one row for each of {shown} {what}, the mean in the middle, "
            "2.5 standard deviations down on the left and up on the right.",
            caption="Each row moves one component alone. The percentage is the share of the data's variance that the "
            "generator puts along it.",
        )
    else:
        body = html.figure(
            figures.loadings(rows, shares),
            alt=f"A table of coloured cells: how each of {shown} {what} changes each column of the data.",
            caption="Orange raises a column, purple lowers it. The percentage is the share of the data's variance that "
            "the generator puts along the component.",
        )
    title = "What each latent does" if linear else "Leading components"
    return Section("components", title, body, {"standard_deviations": sd.tolist(), "shares": shares.tolist()})


def solution_of(run: Run) -> dict[str, Any] | None:
    """The `Solution` that a fit wrote, as plain JSON, or None if the run was not solved.

    Raises:
        RunError: `certificate.json` is damaged.
    """
    if not run.has("certificate.json"):
        return None
    certificate = run.read_json("certificate.json")
    found = certificate.get("solution") if isinstance(certificate, dict) else None
    return found if isinstance(found, dict) else None


def _total_variance(scene: Scene, fallback: float) -> float:
    """The data's total variance as the fit measured it; without a fit, as far as the generator knows it."""
    solution = solution_of(scene.run)
    return float(solution["stats"].get("total_moment", fallback)) if solution else fallback


def witness(scene: Scene) -> Section | None:
    """The direction in which data and samples differ most."""
    if scene.data is None:
        return None
    real = _thin(scene.data.X)
    kind = "linear" if scene.run.config.model == "linear" else "quadratic"
    found = fit.discrepancy(real, scene.samples, kind, center=kind == "quadratic")
    direction = np.asarray(found.witness, dtype=np.float64)
    what = "mean" if kind == "linear" else "variance"
    more = ""
    if kind == "quadratic":
        ahead = float(np.var(real @ direction)) > float(np.var(scene.samples @ direction))
        more = f" The {'data vary' if ahead else 'samples vary'} more along it."
    caption = (
        f"Of all directions this one has the largest difference in {what}: {html.number(found.value)}, "
        f"measured on {len(scene.samples):,} samples.{more}"
    )
    solution = solution_of(scene.run)
    if solution is not None:
        caption += (
            f" The generator's own distribution is allowed beta = {html.number(solution['stats']['beta'])}; "
            "what is above that comes from drawing finitely many samples."
        )
    shape = scene.run.config.data.image_shape
    if len(direction) == 2:
        png = figures.real_and_generated_points(real, scene.samples, witness=direction)
    else:
        png = figures.direction(direction, shape)
    form = "picture of the direction's weight at each pixel" if shape else "chart of the direction's weight per column"
    body = html.figure(png, alt=f"The witness: a {form}.", caption=caption)
    return Section(
        "witness",
        "The witness: where they differ most",
        body,
        {"kind": kind, "value": found.value, "direction": direction.tolist()},
    )


def data_facts(scene: Scene) -> Section:
    """What the data are."""
    spec = scene.run.config.data
    n, d = spec.shape
    rows = [("source", scene.name, "" if scene.data is None else scene.data.description), ("rows", f"{n:,}", "")]
    rows.append(
        ("values per row", f"{d:,}", "" if spec.image_shape is None else " x ".join(map(str, spec.image_shape)))
    )
    if spec.value_range is not None:
        rows.append(("black, white", f"{spec.value_range[0]:g}, {spec.value_range[1]:g}", "pixel values"))
    if scene.data is not None and scene.data.skipped:
        rows.append(("skipped", str(len(scene.data.skipped)), f"unreadable, such as {scene.data.skipped[0]}"))
    parts = [html.table(rows)]
    if scene.data is None:
        parts.append(report.unavailable(scene))
    return Section("data", "The data", html.join(parts), {**spec.model_dump(mode="json"), "source": scene.name})


def repeat(scene: Scene) -> Section | None:
    """What to type to get the same run."""
    line = scene.run.config.command_line
    if not line:
        return None
    body = html.join([html.code(line), html.text("The same line gives the same run: every random number is seeded.")])
    return Section("repeat", "Make it again", body, {"command_line": line})


report.register(30, samples)
report.register(50, components)
report.register(60, witness)
report.register(80, data_facts)
report.register(90, repeat)
