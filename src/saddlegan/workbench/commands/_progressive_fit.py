"""`saddlegan fit DATA --progressive`: ProCoGAN's stages, from a folder's cached pyramid or an array, into a run."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import importlib
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import save

from saddlegan.errors import InputError, MissingExtraError
from saddlegan.fit import AbstractImages, ByClass, ProCoGAN
from saddlegan.fit.progressive._images import ArrayImages
from saddlegan.results import as_dict
from saddlegan.workbench.commands import _solved as solved
from saddlegan.workbench.data import pyramid, sources
from saddlegan.workbench.data.decoding import Crop
from saddlegan.workbench.data.sources import Data
from saddlegan.workbench.report import explorer
from saddlegan.workbench.runs import folder as runs
from saddlegan.workbench.runs.folder import Run
from saddlegan.workbench.terminal import console
from saddlegan.workbench.terminal.progress import progress
from saddlegan.workbench.training.place import HERE, Place

RESOLUTIONS = (4, 8, 16, 32)
COMPONENTS = (20, 30, 40, 100)  # the paper's; later stages keep the last number
COARSEST = 4
PATIENCE = 10.0  # seconds for a scheduler to answer


@dataclasses.dataclass(frozen=True)
class Plan:
    """What to fit, as the command line says it.

    Attributes:
        options: arguments of `ProCoGAN` that were given; resolutions are else found from the images, and components
            are the paper's.
        crop: square to cut out of every file, or None.
        cache: where decoded images and the sums of an unfinished fit are kept, or None for the user's cache.
        skip_bad: leave unreadable files out.
        image_shape: for files of flat rows.
        engine: where sums are computed.
        labels: where labels come from if there is to be one model for each, "" for the source's own; else None.
        scheduler: address of Dask's, for that engine.
    """

    options: Mapping[str, Any]
    crop: Crop | None
    cache: Path | None
    skip_bad: bool
    image_shape: tuple[int, ...] | None
    engine: str
    labels: str | None = None
    scheduler: str | None = None


def fit(
    source: str, plan: Plan, *, out: Path, overwrite: bool, seed: int, command_line: str, here: Place = HERE
) -> ProCoGAN | ByClass:
    """Solve all stages and write a run with its stages, certificates, report and explorer.

    Args:
        source: as for `saddlegan.workbench.data.sources.load`; folders may hold images of any size.
        plan: the options.
        out: the run folder.
        overwrite: replace an existing run.
        seed: of the pictures in the report.
        command_line: what to type to make the run again.
        here: the processes that share the sums; the first one writes.

    Returns:
        The fitted estimator, a `ByClass` where labels are wanted.

    Raises:
        DataError: the source cannot be read.
        InputError: not square images, or an option does not fit them.
    """
    if here.first:
        runs.check_destination(out, overwrite=overwrite)
    started = time.perf_counter()
    with _connected(plan.scheduler), progress() as show:
        with here.one_after_another():
            images, data = _read(source, plan, seed=seed, show=show)
        if plan.labels is not None:
            data = sources.labelled(data, plan.labels)
        console.notes(data.notes)
        read_seconds = time.perf_counter() - started
        resolutions = plan.options.get("resolutions") or _chain(images.shape[1])
        rows = images.shape[0] if data.labels is None else int(np.unique(data.labels, return_counts=True)[1].min())
        components = plan.options.get("n_components") or _components(len(resolutions), rows)
        label = f"{images.fingerprint()} {resolutions} {components}"
        sums = (plan.cache or pyramid.default_cache()) / f"fit-{hashlib.sha256(label.encode()).hexdigest()[:32]}"
        given = {**plan.options, "resolutions": resolutions, "n_components": components}
        blank = ProCoGAN(**given, engine=plan.engine, progress=show)
        if data.labels is None:
            model: ProCoGAN | ByClass = blank.set_params(checkpoint=sums).fit(images)
        else:
            pixels = data.X.reshape(len(data.X), *(data.image_shape or ()))
            model = ByClass(blank).fit(pixels, data.labels)
    if not here.first:
        return model
    if data.spec.resolutions is None:
        data = sources.at_resolutions(data, tuple(resolutions))
    made = solved.Made("progressive", {"beta": "auto", "center": True, **given}, seed, command_line)

    def fill(estimator: ProCoGAN) -> Callable[[Run], None]:
        seconds = {"reading": read_seconds, "all": time.perf_counter() - started}
        return lambda run: _fill(run, estimator, images.shape[3], seconds)

    if isinstance(model, ByClass):
        solved.write_classes(out, model, data, made, overwrite=overwrite, fill=fill)
    else:
        solved.write(out, model, data, made, overwrite=overwrite, fill=fill(model), explored=True)
    return model


def _fill(run: Run, model: ProCoGAN, channels: int, seconds: dict[str, float]) -> None:
    """Write the stages of one model and their certificates."""
    stages = [_stage_facts(stage, channels) for stage in model.stages_]
    certificate = {
        "solution": as_dict(model.solution_),
        "spectrum": stages[-1]["spectrum"],
        "stages": stages,
        "seconds": seconds,
    }
    run.write_json("certificate.json", certificate)
    tensors = {f"factor.{stage.resolution}": stage.factor.float().contiguous() for stage in model.stages_}
    tensors |= {f"mean.{stage.resolution}": stage.mean.float().contiguous() for stage in model.stages_}
    run.write_bytes(explorer.STAGES_FILE, save(tensors))


@contextlib.contextmanager
def _connected(scheduler: str | None) -> Iterator[None]:
    """Let Dask's scheduler at an address be the current one.

    Raises:
        MissingExtraError: distributed is not installed.
        InputError: nobody answers there.
    """
    if scheduler is None:
        yield
        return
    try:
        distributed: Any = importlib.import_module("distributed")
    except ImportError as error:
        raise MissingExtraError("distributed", "dask") from error
    try:
        client = distributed.Client(scheduler, timeout=PATIENCE)
    except (OSError, ValueError) as error:  # what it raises for no answer, and for what is no address
        raise InputError(f"`scheduler`: nobody answers as a Dask scheduler at {scheduler}: {error}") from error
    with client:
        yield


def _read(source: str, plan: Plan, *, seed: int, show: Any) -> tuple[AbstractImages, Data]:
    path = Path(source)
    if path.is_dir():
        return sources.load_pictures(
            path,
            resolutions=plan.options.get("resolutions") or RESOLUTIONS,
            crop=plan.crop,
            cache=plan.cache,
            skip_bad=plan.skip_bad,
            progress=show,
        )
    if plan.crop is not None:
        raise InputError("`crop` belongs to folders of images")
    loaded = sources.load(source, random_state=seed, skip_bad=plan.skip_bad, image_shape=plan.image_shape)
    if loaded.image_shape is None:
        raise InputError(f"--progressive needs images; {source} holds rows: give their shape, --image-shape HxWxC")
    return ArrayImages(loaded.X.reshape(len(loaded.X), *loaded.image_shape)), loaded


def _chain(side: int) -> tuple[int, ...]:
    """Halve the side as long as it goes, down to 4."""
    chain = [side]
    while chain[0] % 2 == 0 and chain[0] // 2 >= COARSEST:
        chain.insert(0, chain[0] // 2)
    return tuple(chain)


def _components(stages: int, n: int) -> tuple[int, ...]:
    wanted = [*COMPONENTS, *[COMPONENTS[-1]] * stages][:stages]
    return tuple(min(k, n - 1) for k in wanted)


def _stage_facts(stage: Any, channels: int) -> dict[str, Any]:
    return {
        "resolution": stage.resolution,
        "channels": channels,
        "beta": stage.beta,
        "kept": stage.kept,
        "fresh": stage.fresh,
        "total": stage.solution.stats["total_moment"],
        "spectrum": [*stage.eigenvalues.tolist(), stage.beta],
        "solution": as_dict(stage.solution),
    }
