"""The report's section on the quality of the samples: each measure beside what real rows get."""

from __future__ import annotations

import numpy as np

from saddlegan.errors import InputError
from saddlegan.workbench.data import pyramid, sources
from saddlegan.workbench.report import explorer, html, quality
from saddlegan.workbench.report.scene import Scene, Section


def quality_of_samples(scene: Scene) -> Section | None:
    """Measures of the samples of a training or a progressive fit."""
    if scene.data is None or not (scene.run.config.command == "train" or scene.run.has(explorer.STAGES_FILE)):
        return None
    spec = scene.run.config.data
    real = np.asarray(scene.data.X)
    if len(real) < 2 * quality.LEAST:
        return None
    try:
        found = quality.measure(
            real,
            scene.samples,
            image_shape=spec.image_shape,
            value_range=spec.value_range,
            seed=scene.seed,
            labels=sources.labels_of(scene.data),
            cache=pyramid.default_cache(),
        )
    except InputError as error:
        return Section("quality", "The samples, measured", html.text(f"Not measured: {error}"), {"error": str(error)})
    body = [
        html.text(
            f"{found.n:,} samples against {found.n:,} real rows; “real” is what {found.n:,} other real rows get. "
            f"Looked at: {found.features}. The discriminator saw these data in training, so the figures speak of "
            "fit, not of new data."
        ),
        html.table((name, quality.verdict(each), quality.MEANINGS[name]) for name, each in found.measures.items()),
    ]
    return Section("quality", "The samples, measured", html.join(body), found.plain())
