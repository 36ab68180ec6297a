"""The report's section on what `certify` wrote into a run: it draws, and judges nothing."""

from __future__ import annotations

import dataclasses
import itertools
import math
import shlex
from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.ticker import MaxNLocator

from saddlegan.certify import GradientNorms, Spectrum
from saddlegan.errors import InputError, RunError
from saddlegan.game import Game
from saddlegan.results import Certificate, from_dict
from saddlegan.workbench.report import html
from saddlegan.workbench.report.figures import style
from saddlegan.workbench.report.figures.pictures import tile, to_pictures
from saddlegan.workbench.report.scene import Scene, Section
from saddlegan.workbench.runs import certificate
from saddlegan.workbench.runs.folder import Run
from saddlegan.workbench.runs.reading import REMEDY
from saddlegan.workbench.runs.shapes import to_rows

KEY = "equilibrium"
PICTURE = "deviation.png"
SHOWN = 64
SHOWN_POINTS = 1000
UNSEARCHED = (
    "The discriminator's gain is the same at every lambda and refutes the pair by itself: the generator was searched "
    "at infinity only; --thorough searches it everywhere."
)


@dataclasses.dataclass(frozen=True, repr=False, kw_only=True)
class Equilibrium(Spectrum):
    """The file's `equilibrium` entry: a spectrum and how it was made.

    Attributes:
        gradient_norms: of both players.
        norm: distance of the proximal term.
        objective: the zero-sum value that the pair was judged by.
    """

    gradient_norms: GradientNorms
    norm: str
    objective: str


def read(run: Run) -> Equilibrium | None:
    """The entry that `certify` wrote, or None.

    Raises:
        RunError: the file is damaged.
    """
    found = certificate.read(run).get(KEY)
    try:
        return None if found is None else from_dict(Equilibrium, found)
    except InputError as error:
        raise RunError(f"{run.path / certificate.NAME} is damaged: {error}; {REMEDY}") from error


def in_words(lam: float) -> str:
    """Name of a rung."""
    if lam == 0:
        return "Stackelberg (lambda = 0)"
    return "Nash (lambda = infinity)" if math.isinf(lam) else f"proximal, lambda = {lam:g}"


def unsearched(found: Spectrum) -> bool:
    """Whether the generator was left out somewhere because the discriminator alone refutes the pair."""
    return any(step.verdict == "refuted" and math.isnan(step.generator_gain) for step in found.certificates)


def section(scene: Scene) -> Section | None:
    """Which equilibrium is the pair at: verdicts, spectrum, search curves, the generator's deviation."""
    found = read(scene.run)
    if found is None:
        return _not_judged(scene)
    parts = [html.text(found.sentence), html.table(_rows(found))]
    if unsearched(found):
        parts.append(html.text(UNSEARCHED))
    proved = all(step.verdict == "proved" for step in found.certificates)
    searched = any(step.bound != "exact" for step in found.certificates)
    if len(found.lams) > 2 and all(math.isfinite(step.generator_gain) for step in found.certificates):
        parts.append(
            html.figure(
                draw_spectrum(found),
                alt="A flat line at 0 for every lambda: proved, no gain."
                if proved
                else "The generator's gain at each lambda with two standard errors, coloured by verdict.",
                caption="Proved: the generator has nothing to gain at any lambda, from Stackelberg to Nash."
                if proved
                else "What the generator could still gain by deviating alone, from Stackelberg on the left to Nash on "
                "the right. An open circle at 0: none was found.",
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


def _not_judged(scene: Scene) -> Section | None:
    """For a trained pair: which command gives what is missing here."""
    if scene.run.config.command == "fit" or scene.run.config.discriminator is None:
        return None
    body = [
        html.text(
            "Nobody has judged this pair yet: losses do not say whether it is at an equilibrium. This command does, "
            "and writes the answer here:"
        ),
        html.code(shlex.join(["saddlegan", "certify", str(scene.run.path)])),
    ]
    return Section("equilibrium", "Which equilibrium it is at", html.join(body), {"judged": False})


HOW = {
    "exact": "solved exactly",
    "lower": "found by search, a lower bound",
    "none": "found by search within a search, no strict bound",
}


def _rows(found: Equilibrium) -> list[tuple[str, str, str]]:
    """One row for each distinct verdict, then the gradients."""
    rungs = zip(found.lams, found.certificates, strict=True)
    stretches = [
        (verdict, _range([lam for lam, _ in same]))
        for verdict, same in itertools.groupby(rungs, lambda r: r[1].verdict)
    ]
    rows = []
    for verdict in dict(stretches):
        where = "; ".join(lams for those, lams in stretches if those == verdict)
        steps = [step for step in found.certificates if step.verdict == verdict]
        worst = max(step.standard_error for step in steps)
        error = f" (standard error of the gap at most {html.number(worst)})" if worst else ""
        gains = "; ".join(
            f"{player} {_gains([_gain(step, player) for step in steps])}" for player in ("generator", "discriminator")
        )
        how = ", or ".join(dict.fromkeys(HOW.get(step.bound, step.bound) for step in steps))
        why = " ".join(f"{word[:1].upper()}{word[1:]}." for word in dict.fromkeys(step.status.value for step in steps))
        rows.append((where, verdict, f"gains: {gains}{error}; {how}. {why}"))
    norms = found.gradient_norms
    rows.append(
        (
            "gradient norms",
            f"{html.number(norms.generator)} / {html.number(norms.discriminator)}",
            f"of the generator and the discriminator on the {found.objective} value",
        )
    )
    return rows


def _range(lams: Sequence[float]) -> str:
    if len(lams) == 1:
        return in_words(lams[0])
    ends = (in_words(lams[0]), in_words(lams[-1]))
    return f"{ends[0]} to {ends[1]}"


def _gain(step: Certificate, player: str) -> float:
    """A player's gain; rounding beside a proof is no gain."""
    gain = step.generator_gain if player == "generator" else step.discriminator_gain
    return 0.0 if step.verdict == "proved" else gain


def _gains(gains: Sequence[float]) -> str:
    """The gains of several rungs, as far as they were measured; one below zero is a search that found none."""
    measured = [gain for gain in gains if not math.isnan(gain)] or [math.nan]
    low, high = _in_words(min(measured)), _in_words(max(measured))
    return low if low == high else f"{low} to {high}"


def _in_words(gain: float) -> str:
    if math.isnan(gain):
        return "not measured"
    return "none found" if gain < 0 else "unbounded" if math.isinf(gain) else html.number(gain)


MARKS = {
    "proved": style.WITNESS,
    "refuted": style.GENERATED,
    "suspected": style.ACCENT,
    "not refuted": style.REAL,
    "undecided": style.MUTED,
}


def draw_spectrum(found: Equilibrium) -> bytes:
    """The generator's gain over the ladder, coloured by verdict; a flat line at 0 where everything is proved."""
    gains = np.array([_gain(step, "generator") for step in found.certificates])
    errors = np.array(
        [2.0 * step.stats.get("standard_errors", {}).get("generator", 0.0) for step in found.certificates]
    )
    verdicts = [step.verdict for step in found.certificates]
    proved = set(verdicts) == {"proved"}
    with style.look():
        figure = style.new_figure(2.8)
        axes = figure.subplots()
        places = np.arange(len(gains))
        shown = np.maximum(gains, 0.0)
        axes.errorbar(places, shown, yerr=errors, color=style.INK, ecolor=style.MUTED, capsize=3, lw=1.2, zorder=1)
        for verdict, colour in MARKS.items():
            chosen = np.array([v == verdict for v in verdicts])
            if chosen.any():
                axes.scatter(places[chosen], shown[chosen], color=colour, s=34, zorder=2, label=verdict)
                none = chosen & (gains < 0)
                axes.scatter(places[none], shown[none], color="white", s=12, zorder=3)
        names = ["0" if lam == 0 else "inf" if math.isinf(lam) else f"{lam:g}" for lam in found.lams]
        axes.set_xticks(list(places), names)
        axes.axhline(0.0, color=style.MUTED, lw=0.8)
        if proved:  # the axis of a gain that is 0 has no scale of its own
            axes.set_ylim(-1.0, 1.0)
            axes.set_yticks([0.0])
        axes.set_xlabel("lambda: Stackelberg to Nash")
        axes.set_ylabel("generator's gain")
        axes.grid(True, axis="y")
        figure.legend(loc="outside upper left", ncols=3)
        return style.png(figure)


def _draw_curves(found: Equilibrium) -> bytes:
    with style.look():
        figure = style.new_figure(2.8)
        axes = figure.subplots()
        drawn = False
        axes.set_prop_cycle(color=[style.GENERATED, style.WITNESS, style.ACCENT, style.INK, style.MUTED])
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
            (to_rows(player.eval()(z), spec.image_shape) * config.sample_scale + config.sample_offset)
            .double()
            .cpu()
            .numpy()
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
