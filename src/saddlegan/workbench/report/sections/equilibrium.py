"""The report's section on what `certify` wrote into a run: it draws, and judges nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from matplotlib.ticker import MaxNLocator
from pydantic import BaseModel, ConfigDict, ValidationError

from saddlegan.errors import RunError
from saddlegan.game import Game
from saddlegan.workbench.report import html
from saddlegan.workbench.report.figures import style
from saddlegan.workbench.report.figures.pictures import tile, to_pictures
from saddlegan.workbench.report.scene import Scene, Section
from saddlegan.workbench.runs.certificate import NAME
from saddlegan.workbench.runs.folder import Run

KEY = "equilibrium"
PICTURE = "deviation.png"
SHOWN = 64
SHOWN_POINTS = 1000


class Step(BaseModel):
    """One rung of the ladder as it lies in the file; infinities are strings there and floats here."""

    model_config = ConfigDict(frozen=True, extra="allow")

    gap: float
    generator_gain: float
    discriminator_gain: float
    bound: str
    verdict: str
    standard_error: float
    status: str
    message: str
    stats: dict[str, Any]


class Equilibrium(BaseModel):
    """The file's `equilibrium` entry."""

    model_config = ConfigDict(frozen=True, extra="allow")

    sentence: str
    lower: float
    upper: float
    proved: bool
    norm: str
    objective: str
    lams: list[float]
    certificates: list[Step]
    gradient_norms: dict[str, float]


def read(run: Run) -> Equilibrium | None:
    """The entry that `certify` wrote, or None.

    Raises:
        RunError: the file is damaged.
    """
    found = run.read_json(NAME) if run.has(NAME) else {}
    if not isinstance(found, Mapping) or KEY not in found:
        return None
    try:
        return Equilibrium.model_validate(found[KEY])
    except ValidationError as error:
        raise RunError(f"{run.path / NAME} is damaged: {error.errors()[0]['msg'].lower()}") from error


def in_words(lam: float) -> str:
    """Name of a rung."""
    if lam == 0:
        return "Stackelberg (lambda = 0)"
    return "Nash (lambda = infinity)" if math.isinf(lam) else f"proximal, lambda = {lam:g}"


def section(scene: Scene) -> Section | None:
    """Which equilibrium is the pair at: verdicts, spectrum, search curves, the generator's deviation."""
    found = read(scene.run)
    if found is None:
        return None
    parts = [html.text(found.sentence), html.table(_rows(found))]
    searched = any(step.bound != "exact" for step in found.certificates)
    if len(found.lams) > 2 and all(math.isfinite(step.generator_gain) for step in found.certificates):
        parts.append(
            html.figure(
                _draw_spectrum(found),
                alt="The generator's gain at each lambda with two standard errors, refuted ones marked.",
                caption="What the generator could still gain by deviating alone, from Stackelberg on the left to Nash "
                "on the right. Orange: significant, the pair is refuted there.",
            )
        )
    if searched and any(step.stats.get("curves") for step in found.certificates):
        parts.append(
            html.figure(
                _draw_curves(found),
                alt="Gain against search steps for both players.",
                caption="The searches behind the figures, on the selection sample. A curve that still rises had not "
                "settled: more steps would find more.",
            )
        )
    if scene.run.has(PICTURE):
        parts.append(
            html.figure(
                (scene.run.path / PICTURE).read_bytes(),
                alt="Samples of the generator, and of its best deviation against the frozen discriminator.",
                caption="Left: the pair's generator. Right: after training on against the frozen discriminator. At a "
                "pair that is not a Nash equilibrium the value falls and the samples tend to degrade.",
            )
        )
    facts = {
        "sentence": found.sentence,
        "lower": str(found.lower),
        "upper": str(found.upper),
        "verdicts": {in_words(lam): step.verdict for lam, step in zip(found.lams, found.certificates, strict=True)},
    }
    return Section("equilibrium", "Which equilibrium it is at", html.join(parts), facts)


def _rows(found: Equilibrium) -> list[tuple[str, str, str]]:
    rows = []
    for lam, step in zip(found.lams, found.certificates, strict=True):
        error = f" (standard error of the gap {html.number(step.standard_error)})" if step.standard_error else ""
        how = {
            "exact": "solved exactly",
            "lower": "found by search, a lower bound",
            "none": "found by search within a search, no strict bound",
        }
        rows.append(
            (
                in_words(lam),
                step.verdict,
                f"gains: generator {html.number(step.generator_gain)}, discriminator "
                f"{html.number(step.discriminator_gain)}{error}; {how.get(step.bound, step.bound)}. "
                f"{step.message[:1].upper()}{step.message[1:]}.",
            )
        )
    norms = found.gradient_norms
    rows.append(
        (
            "gradient norms",
            f"{html.number(norms['generator'])} / {html.number(norms['discriminator'])}",
            f"of the generator and the discriminator on the {found.objective} value",
        )
    )
    return rows


def _draw_spectrum(found: Equilibrium) -> bytes:
    gains = [step.generator_gain for step in found.certificates]
    errors = [2.0 * step.stats.get("standard_errors", {}).get("generator", 0.0) for step in found.certificates]
    with style.look():
        figure = style.new_figure(2.8)
        axes = figure.subplots()
        places = range(len(gains))
        axes.errorbar(places, gains, yerr=errors, color=style.INK, ecolor=style.MUTED, capsize=3, lw=1.2, zorder=1)
        for refuted, colour, label in (
            (False, style.REAL, "not refuted by a bound"),
            (True, style.GENERATED, "refuted"),
        ):
            chosen = [i for i in places if (found.certificates[i].verdict == "refuted") is refuted]
            if chosen:
                axes.scatter(chosen, [gains[i] for i in chosen], color=colour, s=34, zorder=2, label=label)
        names = ["0" if lam == 0 else "inf" if math.isinf(lam) else f"{lam:g}" for lam in found.lams]
        axes.set_xticks(list(places), names)
        axes.axhline(0.0, color=style.MUTED, lw=0.8)
        axes.set_xlabel("lambda: Stackelberg to Nash")
        axes.set_ylabel("generator's gain")
        axes.grid(True, axis="y")
        figure.legend(loc="outside upper left", ncols=2)
        return style.png(figure)


def _draw_curves(found: Equilibrium) -> bytes:
    with style.look():
        figure = style.new_figure(2.8)
        axes = figure.subplots()
        drawn = False
        for lam, step in zip(found.lams, found.certificates, strict=True):
            curves = step.stats.get("curves")
            if not curves:
                continue
            if not drawn and curves.get("discriminator"):
                steps, gains = zip(*curves["discriminator"], strict=True)
                axes.plot(steps, gains, color=style.REAL, label="discriminator")
                drawn = True
            if curves.get("generator"):
                steps, gains = zip(*curves["generator"], strict=True)
                axes.plot(steps, gains, ls="--" if math.isfinite(lam) else "-", label=f"generator, {in_words(lam)}")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.set_xlabel("search step")
        axes.set_ylabel("gain")
        axes.grid(True)
        figure.legend(loc="outside upper left", ncols=1, fontsize=7.5)
        return style.png(figure)


def before_and_after(run: Run, game: Game, moved: torch.nn.Module, *, seed: int) -> bytes:
    """Draw samples of a run's generator beside those of its best deviation, from the same latents."""
    spec, config = run.config.data, run.config
    images = spec.image_shape is not None and spec.value_range is not None
    z = game.sample_latent(SHOWN if images else SHOWN_POINTS, torch.Generator().manual_seed(seed))
    with torch.no_grad():
        sides = [
            (player.eval()(z).flatten(1) * config.sample_scale + config.sample_offset).double().numpy()
            for player in (game.G, moved)
        ]
    with style.look():
        figure = style.new_figure(2.6)
        panels = list(figure.subplots(1, 2, squeeze=False)[0])
        titles = ("Generator", "Its best deviation")
        for axes, rows, title, colour in zip(panels, sides, titles, (style.REAL, style.GENERATED), strict=True):
            if spec.image_shape is not None and spec.value_range is not None:
                sheet = tile(to_pictures(rows, spec.image_shape, spec.value_range), 8)
                axes.imshow(sheet, cmap="gray", vmin=0.0, vmax=1.0, interpolation="nearest")
                style.bare(axes)
            elif rows.shape[1] == 1:
                axes.hist(rows[:, 0], bins=40, color=colour)
            else:
                axes.scatter(rows[:, 0], rows[:, 1], s=5, color=colour, alpha=0.35, linewidths=0, rasterized=True)
                both = np.concatenate(sides)[:, :2]
                axes.set_xlim(float(both[:, 0].min()), float(both[:, 0].max()))
                axes.set_ylim(float(both[:, 1].min()), float(both[:, 1].max()))
            axes.set_title(title, color=colour)
        return style.png(figure)
