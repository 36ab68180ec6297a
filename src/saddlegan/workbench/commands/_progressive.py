"""`saddlegan fit --progressive`."""

from __future__ import annotations

import shlex
import time
from pathlib import Path

from saddlegan.workbench.commands import _options as options
from saddlegan.workbench.commands._summary import summary
from saddlegan.workbench.terminal import console


def fit_progressive(
    source: str,
    given: dict[str, str | None],
    cache: Path | None,
    engine: str,
    image_shape: str | None,
    *,
    out: Path,
    overwrite: bool,
    seed: int,
    skip_bad: bool,
) -> None:
    """What `saddlegan fit --progressive` does."""
    shape = options.parse_image_shape(image_shape)
    sides, components = (options.parse_numbers(name, given[name]) for name in ("--resolutions", "--n-components"))
    box = options.parse_crop(given["--crop"])
    from saddlegan.workbench.commands import _progressive_fit as progressive
    from saddlegan.workbench.data.decoding import Crop

    words = ["saddlegan", "fit", source, "--progressive"]
    for name, text in given.items():
        words += [name, text] if text is not None else []
    words += ["--image-shape", image_shape] if image_shape is not None else []
    words += ["--skip-bad"] if skip_bad else []
    plan = progressive.Plan(
        resolutions=sides,
        n_components=components,
        crop=None if box is None else Crop(*box),
        cache=cache,
        skip_bad=skip_bad,
        image_shape=shape,
        engine=engine,
    )
    started = time.perf_counter()
    model = progressive.fit(
        source,
        plan,
        out=out,
        overwrite=overwrite,
        seed=seed,
        command_line=shlex.join([*words, "--seed", str(seed), "--out", str(out)]),
    )
    for stage in model.stages_:
        console.say(f"stage {stage.resolution}: {stage.kept} directions, beta {stage.beta:.6g}")
    rows = summary(model.solution_, seconds=time.perf_counter() - started)
    console.facts(f"Progressive WGAN of {source}", rows)
    console.say(str(out / "report.html"))
