"""`saddlegan fit --progressive`."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from saddlegan.workbench.commands import _options as options
from saddlegan.workbench.commands._call import Outcome
from saddlegan.workbench.commands._summary import classes_told, facts, summary
from saddlegan.workbench.terminal import console


def fit_progressive(
    source: str,
    chosen: Mapping[str, Any],
    *,
    crop: tuple[int, int, int] | None,
    cache: Path | None,
    engine: str,
    scheduler: str | None,
    image_shape: tuple[int, ...] | None,
    labels: str | None,
    out: Path,
    overwrite: bool,
    seed: int,
    skip_bad: bool,
    command_line: str,
) -> Outcome:
    """What `saddlegan fit --progressive` does."""
    options.check_new(out, overwrite=overwrite)
    options.check_source(source)
    from saddlegan.fit import ByClass
    from saddlegan.workbench.commands import _progressive_fit as progressive
    from saddlegan.workbench.data.decoding import Crop
    from saddlegan.workbench.training import place

    plan = progressive.Plan(
        options=chosen,
        crop=None if crop is None else Crop(*crop),
        cache=cache,
        skip_bad=skip_bad,
        image_shape=image_shape,
        engine=engine,
        labels=labels,
        scheduler=scheduler,
    )
    started = time.perf_counter()
    with contextlib.ExitStack() as stack:
        here = stack.enter_context(place.shared() if engine == "distributed" else contextlib.nullcontext(place.HERE))
        stack.enter_context(console.silent(not here.first))
        model = progressive.fit(
            source, plan, out=out, overwrite=overwrite, seed=seed, command_line=command_line, here=here
        )
    if not here.first:
        return Outcome({}, said=False)
    if isinstance(model, ByClass):
        return classes_told(out, model, seconds=time.perf_counter() - started)
    for stage in model.stages_:
        console.say(f"stage {stage.resolution}: {stage.kept} directions, beta {stage.beta:.6g}")
    rows = summary(model.solution_, seconds=time.perf_counter() - started)
    console.facts(f"Progressive WGAN of {source}", rows)
    console.say(str(out / "report.html"))
    stages = [{"resolution": s.resolution, "kept": s.kept, "beta": s.beta} for s in model.stages_]
    return Outcome({**facts(out, model.solution_), "stages": stages})
