"""The sections that every run has, and those of a solved one."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from markupsafe import Markup

from saddlegan.moments._second_moment import moment_difference, second_moment
from saddlegan.networks import FeatureGenerator, LinearGenerator
from saddlegan.workbench.report import html
from saddlegan.workbench.report.figures import samples as figures
from saddlegan.workbench.report.figures.pictures import sheet_png, to_pictures
from saddlegan.workbench.report.scene import Scene, Section, short_name, thin, unavailable
from saddlegan.workbench.runs.certificate import read_solution

SHOWN_PICTURES = 64
SHOWN_COMPONENTS = 8
NAMED_COLUMNS = 60
WITNESS_TITLE = "The witness: where they differ most"


def samples(scene: Scene) -> Section:
    """Real against generated."""
    generated, shape, value_range = scene.samples, scene.run.config.data.image_shape, scene.run.config.data.value_range
    real = scene.data.X if scene.data is not None else generated[:0]
    rng = np.random.default_rng(scene.seed)
    chosen = np.sort(rng.choice(len(real), min(SHOWN_PICTURES, len(real)), replace=False)) if len(real) else []
    facts = {"generated": len(generated), "seed": scene.seed}
    if shape is not None and value_range is not None:
        shown = generated[:SHOWN_PICTURES]
        if len(real):
            png = figures.real_and_generated_images(real[chosen], shown, shape, value_range)
            alt = (
                f"Two sheets of small pictures: {len(chosen)} real ones from {scene.name}, and as many generated ones."
            )
            words = "Neither side was chosen: real pictures at random, generated ones the first that came. "
        else:
            png = sheet_png(to_pictures(shown, shape, value_range), len(shown))
            alt, words = f"A sheet of {len(shown)} generated pictures.", "Not chosen: the first that came. "
        body = html.figure(png, alt=alt, caption=f"{words}Values beyond black and white are clipped for display.")
    elif generated.shape[1] == 1:
        body = _marginals(scene, thin(real) if len(real) else real, generated)
    else:
        names = scene.run.config.data.columns
        points, made, labels = _plane(scene)
        png = figures.real_and_generated_points(points if len(real) else points[:0], made, labels=labels)
        body = html.figure(
            png,
            alt=f"Two scatter plots on the same axes, {labels[0]} against {labels[1]}: data and generated samples.",
            caption=f"The same axes on both sides, at most {figures.SCATTER_POINTS:,} points each.",
        )
        if len(real) and names is not None and len(names) > 2:
            body += _marginals(scene, thin(real), generated)
    parts = [body] if scene.data is not None else [body, unavailable(scene)]
    return Section("samples", "Real and generated", html.join(parts), facts)


def _marginals(scene: Scene, real: np.ndarray, generated: np.ndarray) -> Markup:
    spec = scene.run.config.data
    shown = min(figures.MARGINALS, len(spec.names()))
    every = "Every column by itself" if len(spec.names()) > 1 else "The distributions"
    more = f", the first {shown} of {len(spec.names())}" if shown < len(spec.names()) else ""
    return html.figure(
        figures.marginals(spec.in_own_units(real), spec.in_own_units(generated), spec.names()),
        alt=f"Small histograms of the columns {', '.join(spec.names()[:shown])}: data filled, samples as an outline.",
        caption=f"{every}{more}, in the data's own units.",
    )


def _plane(scene: Scene) -> tuple[np.ndarray, np.ndarray, tuple[str, str]]:
    """Two coordinates to look at: the data's own if there are two, else their leading principal components."""
    generated = scene.samples
    real = generated if scene.data is None else thin(scene.data.X)
    if real.shape[1] == 2:
        first, second = scene.run.config.data.columns or ("x1", "x2")
        return real, generated, (first, second)
    moment = second_moment(generated, center=True) if scene.data is None else scene.moment
    axes, mean = moment.eigenpairs(2).vectors.numpy().T, moment.mean.numpy()
    return (real - mean) @ axes, (generated - mean) @ axes, ("first component", "second component")


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
        # each column in units of its own spread: a column of large numbers would hide all others
        spread = thin(scene.data.X).astype(np.float64).std(0) if scene.data else np.ones(rows.shape[1])
        body = html.figure(
            figures.loadings(rows / np.where(spread > 0, spread, 1.0), shares, names=spec.columns),
            alt=f"A table of coloured cells: how each of {shown} {what} changes each column of the data.",
            caption="Orange raises a column, purple lowers it, in units of the column's own standard deviation. The "
            "percentage is the share of the data's variance that the generator puts along the component.",
        )
    title = "What each latent does" if linear else "Leading components"
    return Section("components", title, body, {"standard_deviations": sd.tolist(), "shares": shares.tolist()})


def _total_variance(scene: Scene, fallback: float) -> float:
    """The data's total variance as the fit measured it; without a fit, as far as the generator knows it."""
    solution = read_solution(scene.run)
    return (solution.stats.get("total_moment") if solution else None) or fallback


def witness(scene: Scene) -> Section | None:
    """The direction in which data and samples differ most, measured on samples; solved runs know better."""
    if scene.data is None or read_solution(scene.run) is not None:
        return None
    moment = scene.moment
    value, witness = moment_difference(moment, second_moment(scene.samples, center=True))
    direction = witness.numpy()
    ahead = float(moment.matvec(witness[None])[0] @ witness) > float(np.var(scene.samples @ direction))
    caption = (
        f"Of all directions this one has the largest difference in variance: {html.number(value)}, measured on "
        f"{len(scene.samples):,} samples, sampling noise included. The {'data' if ahead else 'samples'} vary more."
    )
    return draw_witness(scene, direction, caption, {"kind": "quadratic", "value": value})


def draw_witness(scene: Scene, direction: np.ndarray, caption: str, facts: dict[str, Any]) -> Section:
    """The section for a witness: arrow, picture or bars.

    Args:
        scene: its data are needed if the direction has two entries.
        direction: unit vector (d,).
        caption: what it means.
        facts: for the JSON twin; the direction is added.
    """
    shape = scene.run.config.data.image_shape
    if len(direction) == 2 and scene.data is not None:
        png = figures.real_and_generated_points(thin(scene.data.X), scene.samples, witness=direction)
        form = "an arrow over the scatter plot of the samples"
    else:
        png = figures.direction(direction, shape, names=scene.run.config.data.columns)
        form = "the weight of every pixel as a picture" if shape else "the weight of every column as a chart"
    body = html.figure(png, alt=f"The witness: {form}.", caption=caption)
    facts = {**facts, "direction": direction.tolist()}
    return Section("witness", WITNESS_TITLE, body, facts)


def data_facts(scene: Scene) -> Section:
    """What the data are."""
    spec = scene.run.config.data
    n, d = spec.shape
    rows = [("source", scene.name, "" if scene.data is None else scene.data.description), ("rows", f"{n:,}", "")]
    rows.append(
        ("values per row", f"{d:,}", "" if spec.image_shape is None else " x ".join(map(str, spec.image_shape)))
    )
    if spec.columns is not None:
        rows.append(("columns", f"{len(spec.columns):,}", ", ".join(spec.columns[:NAMED_COLUMNS])))
    if spec.labels is not None:
        rows.append(("labels", spec.label or "all", f"from {short_name(spec.labels)}" if spec.labels else "its own"))
    if spec.words:
        rows.append(
            ("of words", f"{len(spec.words):,}", ", ".join(f"{c.name}: {', '.join(c.values)}" for c in spec.words))
        )
    if scene.data is not None:
        rows += [("read", "", note) for note in scene.data.notes]
    if spec.value_range is not None:
        rows.append(("black, white", f"{spec.value_range[0]:g}, {spec.value_range[1]:g}", "pixel values"))
    if scene.data is not None and scene.data.skipped:
        rows.append(("skipped", str(len(scene.data.skipped)), f"unreadable, such as {scene.data.skipped[0]}"))
    parts = [html.table(rows)]
    if scene.data is None:
        parts.append(unavailable(scene))
    return Section("data", "The data", html.join(parts), {**spec.model_dump(mode="json"), "source": scene.name})


def repeat(scene: Scene) -> Section | None:
    """What to type to get the same run."""
    line = scene.run.config.command_line
    if not line:
        return None
    body = html.join([html.code(line), html.text("The same line gives the same run: every random number is seeded.")])
    return Section("repeat", "Make it again", body, {"command_line": line})
