"""The report's section on a fit class by class: each label's samples and certificate, and what tells two apart."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import torch

from saddlegan.fit._discrepancy import moment_discrepancy
from saddlegan.networks import MixtureGenerator
from saddlegan.results import Discrepancy, as_dict
from saddlegan.workbench.report import html
from saddlegan.workbench.report.figures import samples as figures
from saddlegan.workbench.report.scene import Scene, Section
from saddlegan.workbench.runs import classes

SHOWN = 12  # labels with pictures, and compared two by two
EACH = 10  # samples of a label
ROUNDING = 1e-9


def labels(scene: Scene) -> Section | None:
    """Each label's samples, share and certificate, and the direction that tells two labels apart."""
    found = classes.read_labels(scene.run)
    G: Any = scene.run.load_generator() if found else None
    if not isinstance(G, MixtureGenerator):
        return None
    shown = found[:SHOWN]
    spec = scene.run.config.data
    more = f" The first {SHOWN} of {len(found)} are shown." if len(found) > SHOWN else ""
    body = [
        html.text(
            "Each label's rows were solved by themselves, as a model of their own with its own proof; nothing is "
            f"shared. A sample of all labels draws its label first, with the label's share of the rows.{more}"
        )
    ]
    if spec.image_shape is not None and spec.value_range is not None:
        z = torch.randn(EACH, G.n_latent - 1, generator=torch.Generator().manual_seed(scene.seed), dtype=torch.float64)
        rows = [_of_label(scene, G, place, z) for place in range(len(shown))]
        png = figures.by_label(rows, [each.name for each in shown], spec.image_shape, spec.value_range)
        body.append(
            html.figure(
                png,
                alt=f"A row of {EACH} generated pictures for each of the labels {', '.join(e.name for e in shown)}.",
                caption="A row for each label, its mean first. Columns share a latent. None was chosen.",
            )
        )
    body.append(html.table([(each.name, f"{each.rows:,} rows", _words(each)) for each in found]))
    facts: dict[str, Any] = {
        "labels": [{"label": e.name, "rows": e.rows, "share": e.share, "solution": as_dict(e.solution)} for e in found]
    }
    if len(shown) > 1:
        pair, apart = _nearest(G, len(shown))
        first, second = (shown[place].name for place in pair)
        words = (
            f"Of these labels {first} and {second} are the hardest to tell apart. Along this direction their models' "
            f"mean squares differ most, by {html.number(apart.value)}; along no other direction by more."
        )
        png = figures.direction(np.asarray(apart.witness), spec.image_shape, names=spec.columns)
        body.append(html.figure(png, alt=f"The direction that tells {first} from {second}.", caption=words))
        facts["nearest"] = {"labels": [first, second], "value": apart.value, "direction": apart.witness.tolist()}
    place = f"{classes.FOLDER}/{found[0].folder}"
    body.append(
        html.text(
            html.whole(
                f"Every label has a run of its own in this folder, {place} the first of them: certify, report, explore "
                f"and sample read it like any other, and sample --label {found[0].name} draws from it."
            )
        )
    )
    return Section("labels", "Label by label", html.join(body), facts)


def _words(label: classes.Label) -> str:
    solution = label.solution
    gap = abs(solution.gap) / (abs(solution.value) or 1.0)
    proved = "optimal, up to rounding" if gap <= ROUNDING else f"gap {solution.gap:.2g}"
    return (
        f"{label.share:.1%} of the rows; value {html.number(solution.value)}, {proved}; beta "
        f"{html.number(solution.stats['beta'])}"
    )


def _of_label(scene: Scene, G: MixtureGenerator, place: int, z: torch.Tensor) -> np.ndarray:
    """A label's mean and samples (1 + EACH, d) in data units."""
    own: Any = G.generators[place]
    with torch.no_grad():
        mean, _ = own.moments()
        made = own(z[:, : own.n_latent].to(mean)).flatten(1)
    config = scene.run.config
    return torch.cat([mean[None], made]).detach().numpy() * config.sample_scale + config.sample_offset


def _nearest(G: MixtureGenerator, count: int) -> tuple[tuple[int, int], Discrepancy]:
    """The two of the first labels whose second moments differ least, with the direction where they differ most."""
    each: list[Any] = list(G.generators)
    moments = [own.moments() for own in each[:count]]
    best, found = (0, 1), Discrepancy(math.inf, math.inf, torch.zeros(1), exact=True)
    for pair in itertools.combinations(range(count), 2):
        one = moment_discrepancy(moments[pair[0]], moments[pair[1]], kind="quadratic", center=False)
        if one.value < found.value:
            best, found = pair, one
    return best, found
