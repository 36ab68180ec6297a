"""The sections of a solved run: the certificate in plain words, what the model cannot do, and the spectrum."""

from __future__ import annotations

from typing import Any

import numpy as np
from markupsafe import Markup

from saddlegan.results import Status
from saddlegan.workbench import figures, html, report
from saddlegan.workbench.config import RunConfig
from saddlegan.workbench.report import Scene, Section
from saddlegan.workbench.sections import solution_of

ROUNDING = 1e-9  # residuals below this share of the value are called rounding


def certificate(scene: Scene) -> Section | None:
    """What was solved and what is proved."""
    solution = solution_of(scene.run)
    if solution is None:
        return None
    config, stats = scene.run.config, solution["stats"]
    good = solution["status"] in (Status.OPTIMAL.name, Status.ESTIMATED.name)
    badge = Markup('<p class="badge {}">{} {}</p>').format(
        "good" if good else "warn", "✓" if good else "!", _capital(solution["message"])
    )
    parts = [badge, _what_was_solved(config, stats), _what_is_proved(config, solution), _numbers(config, solution)]
    return Section("certificate", "Certificate", html.join(parts), solution)


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]


def _what_was_solved(config: RunConfig, stats: dict[str, Any]) -> Markup:
    beta, size = html.number(stats["beta"]), config.latent.size
    if config.model == "linear":
        return Markup(
            "<p><strong>What was solved.</strong> Of all generators whose mean is within β = {} of the data's mean, "
            "find one with the smallest mean squared norm: the game against every linear discriminator "
            "w<sup>T</sup>x, as one convex problem.</p>"
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


def _what_is_proved(config: RunConfig, solution: dict[str, Any]) -> Markup:
    value, bound, gap = (float(solution[key]) for key in ("value", "bound", "gap"))
    stats = solution["stats"]
    relative = abs(gap) / abs(value) if value else abs(gap)
    limit = Markup(
        "The optimal discriminator is at hand, and proves that no generator of any kind that meets the constraint "
        "has a smaller {} than {}"
    ).format(
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


def _numbers(config: RunConfig, solution: dict[str, Any]) -> Markup:
    stats = solution["stats"]
    rows = [
        ("value (primal)", html.number(solution["value"]), "of the generator found, in squared data units"),
        ("bound (dual)", html.number(solution["bound"]), "no generator that meets the constraint goes below"),
        ("gap", f"{float(solution['gap']):.2g}", "value minus bound"),
        ("primal residual", f"{stats['primal_residual']:.2g}", "constraint minus β: zero or less means it holds"),
        ("dual residual", f"{stats['dual_residual']:.2g}", "zero or less means that the bound is valid"),
        (
            "β",
            html.number(stats["beta"]),
            "chosen as the smallest feasible" if config.options.get("beta") == "auto" else "",
        ),
    ]
    if "solve_seconds" in stats:
        rows.append(("solve", f"{1e3 * stats['solve_seconds']:.3g} ms", "without reading the data"))
    scale = abs(float(solution["value"])) or 1.0
    tiny = [abs(float(stats[key])) <= ROUNDING * scale for key in ("primal_residual", "dual_residual")]
    note = (
        html.text("Residuals this small are rounding in the last digits of 64-bit numbers.")
        if all(tiny)
        else Markup("")
    )
    return html.join([html.table(rows), note])


def limits(scene: Scene) -> Section | None:
    """What the model cannot do."""
    if solution_of(scene.run) is None:
        return None
    if scene.run.config.model == "linear":
        words = (
            "A linear discriminator sees means only. The optimal generator therefore makes one point again and again: "
            "no spread, no shapes, no variety. It is a baseline that every other model must beat."
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
    solution = solution_of(scene.run)
    certificate_file = scene.run.read_json("certificate.json") if solution is not None else {}
    values = certificate_file.get("spectrum")
    if solution is None or not values:
        return None
    stats = solution["stats"]
    beta, kept, total = float(stats["beta"]), int(stats["kept"]), float(stats["total_moment"])
    share = float(solution["value"]) / total if total else 0.0
    unit = "squared pixel values" if scene.run.config.data.image_shape else "squared data units"
    png = figures.spectrum(np.asarray(values), beta=beta, kept=kept, unit=unit)
    d = scene.run.config.data.shape[1]
    caption = (
        f"Of {d:,} directions {kept} carry more than beta, and the generator takes what each has above it: "
        f"{share:.0%} of the data's total. Everything grey is left out, below beta and beyond."
    )
    body = html.figure(
        png,
        alt=f"Bar chart of the data's variance along its leading directions, with a line at beta = {beta:.4g}; "
        f"{kept} bars rise above it.",
        caption=caption,
    )
    facts = {"eigenvalues": values, "beta": beta, "kept": kept, "share": share}
    return Section("spectrum", "What is kept, and what is left out", body, facts)


report.register(10, certificate)
report.register(20, limits)
report.register(40, spectrum)
