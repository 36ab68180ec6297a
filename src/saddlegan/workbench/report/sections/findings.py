"""The first section of a report: what is wrong with the run, if anything, in plain words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from saddlegan import certify
from saddlegan.certify import Diagnosis
from saddlegan.errors import SaddleganError
from saddlegan.game import Game
from saddlegan.modules import like
from saddlegan.networks import TwoLayerDiscriminator
from saddlegan.results import Status
from saddlegan.workbench.report import html
from saddlegan.workbench.report.scene import Scene, Section, thin
from saddlegan.workbench.runs import classes
from saddlegan.workbench.runs.certificate import read_solution
from saddlegan.workbench.runs.opened import OpenRun

LEAST = 32  # rows that a diagnosis needs
MOST_ELEMENTS = 1 << 21  # numbers of the rows that it may look at: distances between larger ones take minutes
NAMED = 5  # labels in a sentence
TOLD_APART = 5.0  # times its noise: an energy distance that is no accident

ONE_POINT = "All samples are one point, as they must be: a linear discriminator sees means only."

# without a discriminator
FIGURES_OF_SAMPLES = (
    "spread of G(z) / spread of data",
    "distance between samples / between data",
    "distance to the data / between data",
    "data not covered",
    "energy distance / its noise",
    "response to the latent",
)
# what a solved generator is told of: its gradients vanish by right, and nobody trains it
OF_SAMPLES = ("dead generator", "ignored latent", "collapsed", "missing modes", "far from the data", "memorising")


def findings(scene: Scene) -> Section | None:
    """What `certify.diagnose` finds about the pair and its samples."""
    labels = classes.read_labels(scene.run) if scene.run.config.discriminator is None else []
    solved = bool(labels) or read_solution(scene.run) is not None
    if scene.data is None or len(scene.data.X) < LEAST or (scene.run.config.discriminator is None and not labels):
        return None
    if solved and scene.run.config.model == "linear":
        return Section("findings", "In short", html.findings([(ONE_POINT, "bad")]), {"faults": ["one point"]})
    try:
        found = of_run(OpenRun(scene.run), scene.data.X, seed=scene.seed, judged=not labels)
    except (SaddleganError, RuntimeError, ValueError) as error:  # whatever a network of somebody else's raises
        words = f"The pair could not be diagnosed: {error}"
        return Section("findings", "In short", html.text(words), {"error": str(error)})
    faults, said = in_words(found, solved=solved)
    figures = {name: value for name, value in found.findings.items() if not labels or name in FIGURES_OF_SAMPLES}
    if labels:
        said.insert(0, _of_labels(labels))
    return Section("findings", "In short", html.findings(said), {"faults": faults, "findings": figures})


def _of_labels(labels: list[classes.Label]) -> tuple[str, str]:
    """How many labels' models are proved, and how bad that is."""
    others = [each.name for each in labels if each.solution.status is not Status.OPTIMAL]
    if not others:
        return f"All {len(labels)} labels have a model that is proved to be optimal for their rows.", "well"
    more = " and others" if len(others) > NAMED else ""
    names = f"{', '.join(others[:NAMED])}{more}"
    proved = len(labels) - len(others)
    return f"{proved} of {len(labels)} labels' models are proved to be optimal; not so {names}.", "bad"


def of_run(opened: OpenRun, X: np.ndarray, *, seed: int, judged: bool = True) -> Diagnosis:
    """Diagnose a run's pair on as many rows (n, d) of its data as distances can be taken between.

    Without a discriminator (not `judged`) one that is 0 stands in: only what is said of samples means anything then.
    """
    game = opened.game if judged else _without_judge(opened)
    rows = opened.in_units_of(game, thin(X, MOST_ELEMENTS))
    return certify.diagnose(game, rows.to(like(game.G).dtype), random_state=seed)


def _without_judge(opened: OpenRun) -> Game:
    config = opened.run.config
    D = TwoLayerDiscriminator(config.data.shape[1], 1, activation="linear", generator=torch.Generator())
    torch.nn.init.zeros_(D.outer)
    G = opened.run.load_generator()
    return Game(G, D.to(like(G).dtype), objective=config.objective, latent=config.latent.size)


def in_words(found: Diagnosis, *, solved: bool) -> tuple[list[str], list[tuple[str, str]]]:
    """The faults that hold, and sentences in the words of the command line with how bad each is.

    Args:
        found: the diagnosis.
        solved: whether the pair was solved: it stands still by right, and nobody trains it.
    """
    faults = [name for name in found.faults if not solved or name in OF_SAMPLES]
    return faults, _said(found, faults, solved=solved)


def _said(found: Diagnosis, faults: list[str], *, solved: bool) -> list[tuple[str, str]]:
    figures = found.findings
    said: list[tuple[str, str]] = []
    for name in faults:
        words = IN_WORDS.get(name, f"Found: {name}.").format(**_percentages(figures))
        if solved:  # no training would change it: the advice is not for this model
            found_so = words.partition(". ")[0].rstrip(".")
            words = f"{found_so}. It was solved, not trained: see below what such a model cannot do."
        said.append((words, "bad"))
    apart = figures["energy distance / its noise"]
    if not faults and apart > TOLD_APART:
        words = (
            "Neither collapse nor missing modes, but the samples are plainly told from the data: their energy distance "
            f"is {apart:.0f} times what chance makes of it."
        )
        said.append((words, ""))
    elif not faults:
        said.append(("No fault was found in the samples.", "well"))
    if not faults or faults[0] != "dead generator":
        words = "The samples spread over {spread} of the data's width; {missed} of the data have no sample near."
        said.append((words.format(**_percentages(figures)), ""))
    ranked = figures.get("real ranked above generated")
    if ranked is not None and not solved:
        side = "D is winning" if ranked > 0.75 else "G is winning" if ranked < 0.4 else "neither player is far ahead"
        said.append((f"D ranks a real sample above a generated one in {ranked:.0%} of cases: {side}.", ""))
    return said


def _percentages(figures: Mapping[str, Any]) -> dict[str, str]:
    return {
        "spread": f"{figures['spread of G(z) / spread of data']:.0%}",
        "missed": f"{figures['data not covered']:.0%}",
    }


IN_WORDS = {
    "dead generator": "All samples are one and the same: G does not answer to its latent. Look for a zeroed or dead "
    "last layer; start G again with a smaller learning rate.",
    "ignored latent": "G hardly answers to its latent: the samples vary by something else. Check that z reaches the "
    "first layer, and its scale.",
    "saturated discriminator": "D tells every sample apart and is flat where its outputs lie, so G gets no gradient. "
    "Weaken D (R1 penalty, fewer steps, instance noise) or start both again.",
    "collapsed": "Collapse: the samples are nearly all alike, {spread} of the data's width. Try --rule primal-dual, or "
    "a packed or regularised D.",
    "missing modes": "Modes are missing: {missed} of the data have no sample near them. Try --rule primal-dual or "
    "a packed D.",
    "far from the data": "No sample is near any of the data. Train on, and check the scale of the data's columns.",
    "memorising": "Samples sit on rows of the data, nearer than rows are to one another: G memorises. Use more data, "
    "augmentation, or a smaller G.",
    "ignored labels": "G makes the same sample whatever the label is. Check that the labels reach both players.",
    "drifting offset": "D carries a constant much larger than what it tells apart, which costs precision. Add a small "
    "penalty on its mean output.",
    "vanishing gradients": "A player gets no gradient to speak of: it stands still without being at an optimum. Look "
    "for saturated activations or scales that vanish.",
}
