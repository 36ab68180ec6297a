"""The sections of a solved run: the certificate in plain words, what the model cannot do, and the spectrum."""

from __future__ import annotations

import numpy as np
from markupsafe import Markup

from saddlegan import fit
from saddlegan.results import Solution, Status, as_dict
from saddlegan.workbench.report import html
from saddlegan.workbench.report.figures import samples as figures
from saddlegan.workbench.report.scene import Scene, Section
from saddlegan.workbench.report.sections.every_run import WITNESS_TITLE, draw_witness
from saddlegan.workbench.runs.certificate import read_solution, read_spectrum
from saddlegan.workbench.runs.config import RunConfig

ROUNDING = 1e-9  # residuals below this share of the value are called rounding


def certificate(scene: Scene) -> Section | None:
    """What was solved and what is proved."""
    solution = read_solution(scene.run)
    if solution is None:
        return None
    config = scene.run.config
    good = solution.status in (Status.OPTIMAL, Status.ESTIMATED)
    badge = Markup('<p class="badge {}">{} {}</p>').format(
        "good" if good else "warn", "✓" if good else "!", _capital(solution.status.value)
    )
    parts = [badge, _what_was_solved(config, solution), _what_is_proved(config, solution), _numbers(config, solution)]
    return Section("certificate", "Certificate", html.join(parts), as_dict(solution))


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]


def _what_was_solved(config: RunConfig, solution: Solution) -> Markup:
    beta, size = html.number(solution.stats["beta"]), config.latent.size
    if config.model == "linear":
        return Markup(
            "<p><strong>What was solved.</strong> Of all generators whose mean is within β = {} of the data's mean, "
            "find one with the smallest mean squared norm: the game against every linear discriminator "
            "w<sup>T</sup>x, as one convex problem.</p>"
        ).format(beta)
    if config.model == "polynomial":
        return Markup(
            "<p><strong>What was solved.</strong> A Wasserstein GAN against every discriminator that measures the mean "
            "of {} t<sup>2</sup> + {} t along directions. Of all generators for which it is within β = {} of the "
            "data's along <em>every</em> direction, find one with the smallest mean squared norm: one convex problem "
            "in the generator's mean and second moment.</p>"
        ).format(html.number(config.options["a"]), html.number(config.options["b"]), beta)
    if config.model == "relu":
        return Markup(
            "<p><strong>What was solved.</strong> A Wasserstein GAN against every ReLU neuron: of all generators for "
            "which the mean of (x<sup>T</sup>u)<sub>+</sub> is within β = {} of the data's along <em>every</em> "
            "direction u, find one with the smallest mean squared norm. The line above says how far that was "
            "reached.</p>"
        ).format(beta)
    centred = config.options.get("center", True)
    moments = (
        Markup("‖C<sub>X</sub> − C<sub>G</sub>‖<sub>2</sub> ≤ β")
        if centred
        else Markup("‖M<sub>X</sub> − M<sub>G</sub>‖<sub>2</sub> ≤ β")
    )
    return Markup(
        "<p><strong>What was solved.</strong> A Wasserstein GAN against every discriminator that measures {} along "
        "directions. Of all generators with {} {} whose {} along <em>every</em> direction is within β = {} of the "
        "data's ({}), find one with the smallest {}. This is a convex problem; nothing was trained.</p>"
    ).format(
        "variance" if centred else "the mean square",
        size,
        "latent" if size == 1 else "latents",
        "variance" if centred else "mean square",
        beta,
        moments,
        "total variance" if centred else "mean squared norm",
    )


def _what_is_proved(config: RunConfig, solution: Solution) -> Markup:
    value, bound, gap, stats = solution.value, solution.bound, solution.gap, solution.stats
    relative = abs(gap) / abs(value) if value else abs(gap)
    limit = Markup(
        "The optimal discriminator is at hand, and proves that no {} that meets the constraint has a smaller {} than {}"
    ).format(
        "linear generator" if config.options.get("generator") == "linear" else "generator of any kind",
        "value" if config.model == "linear" or not config.options.get("center", True) else "total variance",
        html.number(bound),
    )
    if relative <= ROUNDING:
        reached = Markup(". This one has {}: it is optimal, up to rounding ({} of the value).").format(
            html.number(value), f"{relative:.1g}"
        )
    else:
        reached = Markup(". This one has {}; the gap of {} is open.").format(html.number(value), html.number(gap))
    note = Markup("")
    if "moment_error" in stats:
        note = Markup(
            " The features' moments were estimated from {} latents: the constraint holds for the population up to {}."
        ).format(f"{stats['moment_latents']:,}", html.number(stats["moment_error"]))
    return Markup("<p><strong>What is proved.</strong> {}{}{}</p>").format(limit, reached, note)


def _numbers(config: RunConfig, solution: Solution) -> Markup:
    stats = solution.stats
    rows = [
        ("value (primal)", html.number(solution.value), "of the generator found, in squared data units"),
        ("bound (dual)", html.number(solution.bound), "no generator that meets the constraint goes below"),
        ("gap", f"{solution.gap:.2g}", "value minus bound"),
        ("primal residual", f"{stats['primal_residual']:.2g}", "constraint minus β: zero or less means it holds"),
        ("dual residual", f"{stats['dual_residual']:.2g}", "zero or less means that the bound is valid"),
        (
            "β",
            html.number(stats["beta"]),
            "the smallest feasible" if config.options.get("beta") == "auto" else "as given",
        ),
    ]
    if "solve_seconds" in stats:
        rows.append(("solve", f"{1e3 * stats['solve_seconds']:.3g} ms", "without reading the data"))
    scale = abs(solution.value) or 1.0
    tiny = [abs(residual) <= ROUNDING * scale for residual in (stats["primal_residual"], stats["dual_residual"])]
    note = (
        html.text("Residuals this small are rounding in the last digits of 64-bit numbers.")
        if all(tiny)
        else Markup("")
    )
    return html.join([html.table(rows), note])


def limits(scene: Scene) -> Section | None:
    """What the model cannot do."""
    if read_solution(scene.run) is None:
        return None
    if scene.run.config.model == "linear":
        words = (
            "A linear discriminator sees means only. The optimal generator therefore makes one point again and again: "
            "no spread, no shapes, no variety. It is a baseline that every other model must beat."
        )
    elif scene.run.config.model == "relu":
        words = (
            "A ReLU discriminator sees how far the data reach beyond planes through the origin, on average. What it "
            "cannot see may differ: with free points the generator is a list of points drawn with equal chance, with a "
            "linear one the samples are Gaussian. The proof is about this game, not about how the samples look."
        )
    else:
        words = (
            "A quadratic discriminator sees means and second moments only. Whatever two samples with the same mean and "
            "covariance can still differ in – separate clusters, sharp edges, heavy tails – it cannot tell apart, so "
            "the optimum does not reproduce it. "
        )
        if scene.run.config.generator.kind == "linear":
            words += "With this linear generator the samples are Gaussian, and look like blends of the data. "
        else:
            words += "The generator's features bend the samples away from a Gaussian, but nothing checks how. "
        words += (
            "Variance below β is left out on purpose. The proof is about this game, not about how the samples look."
        )
    return Section("limits", "What this model cannot do", html.text(words), {"text": words})


def spectrum(scene: Scene) -> Section | None:
    """The spectrum with the threshold drawn in."""
    solution = read_solution(scene.run)
    values = read_spectrum(scene.run)
    if solution is None or not values:
        return None
    beta, kept, total = solution.stats["beta"], solution.stats.get("kept", 0), solution.stats.get("total_moment")
    share = solution.value / total if total else 0.0
    unit = "squared pixel values" if scene.run.config.data.image_shape else "squared data units"
    png = figures.spectrum(np.asarray(values), beta=beta, kept=kept, unit=unit)
    d = scene.run.config.data.shape[1]
    caption = (
        f"Of {d:,} directions {kept} carry more than beta, and the generator takes what each has above it: "
        f"{share:.0%} of the data's total."
    )
    if beta > 0:
        caption += " Everything grey is left out, below beta and beyond."
    body = html.figure(
        png,
        alt=f"Bar chart of the data's variance along its leading directions, with a line at beta = {beta:.4g}; "
        f"{kept} bars rise above it.",
        caption=caption,
    )
    facts = {"eigenvalues": values, "beta": beta, "kept": kept, "share": share}
    return Section("spectrum", "What is kept, and what is left out", body, facts)


def witness(scene: Scene) -> Section | None:
    """The direction along which the generator's own distribution, not a sample of it, is farthest from the data's."""
    solution = read_solution(scene.run)
    if solution is None or scene.data is None or scene.run.config.model in ("polynomial", "relu"):
        return None
    beta, kept = solution.stats["beta"], solution.stats.get("kept", 0)
    if scene.run.config.model == "linear":
        found = fit.discrepancy(scene.data.X, scene.samples, "linear")
        caption = (
            f"The means of data and samples differ by {html.number(found.value)}, along this direction; the constraint "
            f"allows beta = {html.number(beta)}."
        )
        return draw_witness(scene, found.witness, caption, {"kind": "linear", "value": found.value})
    center = bool(scene.run.config.options.get("center", True))
    pairs = (scene.moment if center else scene.measured(center=False)).eigenpairs(kept + 1)
    values = pairs.values.tolist()
    # all directions in use fall short by beta exactly; the first one left out does so too if beta is its eigenvalue
    left_out = kept < len(values) and (kept == 0 or values[kept] >= beta * (1.0 - 1e-9))
    index = kept if left_out else kept - 1
    value = values[index] if left_out else min(beta, values[index])
    what = "variance" if center else "mean square"
    if value <= ROUNDING * values[0]:
        words = f"None: the generator has the data's {what} along every direction, so none tells them apart."
        return Section("witness", WITNESS_TITLE, html.text(words), {"kind": "quadratic", "value": 0.0})
    caption = (
        f"Along this direction the data have {html.number(value)} more {what} than the generator, and along none have "
        f"they more; the constraint allows beta = {html.number(beta)}. "
    )
    caption += (
        "It is the first direction that the generator leaves out."
        if left_out
        else "Every direction that the generator uses falls short by beta; this is the weakest of them."
    )
    return draw_witness(scene, pairs.vectors[index].numpy(), caption, {"kind": "quadratic", "value": value})
