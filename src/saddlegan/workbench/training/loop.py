"""The training loop: steps, metrics, sheets of samples, checkpoints, and every way of stopping.

Nothing here knows a rule or a network; the `Session` does the steps.
"""

from __future__ import annotations

import dataclasses
import json
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any, Protocol

import numpy as np
from safetensors.numpy import load, save

from saddlegan.errors import RunError
from saddlegan.metrics._modes import MODE_SAMPLES, mode_metrics
from saddlegan.results import Step
from saddlegan.workbench.data.sources import Data
from saddlegan.workbench.runs import checkpoints
from saddlegan.workbench.runs.folder import Run
from saddlegan.workbench.training.session import Session, figures_of
from saddlegan.workbench.training.tracked import Tracked

DIVERGED = 1e8  # no loss of a GAN on scaled data is that large
SHEETS = 8  # sample sheets over a run
SHEET_SAMPLES = 400
SHEET_PICTURES = 16
SHEET_FILE = "progress.safetensors"
MOMENT_SAMPLES = 512
METRIC_SEED = 20_000  # of the latents that metrics are taken on: the same for every line, so that lines compare


class Callback(Protocol):
    """What may look on while a run trains; return True to stop it."""

    def after_step(self, done: int, step: Step) -> bool:
        """Called after every step with the number of steps done."""
        ...

    def after_metrics(self, row: Mapping[str, Any]) -> bool:
        """Called with every line that goes to `metrics.jsonl`."""
        ...


@dataclasses.dataclass(frozen=True)
class Ending:
    """How a run ended.

    Attributes:
        reason: "done", "stopped" (by a callback), "interrupted" or "non-finite".
        done: steps done.
        signal: number of the signal that interrupted, else 0.
        seconds: time in this process.
    """

    reason: str
    done: int
    signal: int
    seconds: float


def train(
    session: Session,
    run: Run,
    data: Data,
    *,
    fingerprint: str,
    callbacks: Sequence[Callback] = (),
    metrics: Callable[[Session], Mapping[str, Any]] | None = None,
) -> Ending:
    """Train until the recipe's total number of steps, and leave a run that can be opened, judged or resumed.

    A checkpoint is written every `checkpoint_every` steps, at the end, and on SIGINT and SIGTERM, which end the run
    cleanly after the step in progress. A loss that is NaN, infinite or above 1e8 ends it too; the last checkpoint is
    kept, and the broken step is not saved.

    Args:
        session: what trains.
        run: the run folder.
        data: the data, for the mode metrics.
        fingerprint: ties the checkpoints to the run's configuration.
        callbacks: look on, and may stop the run.
        metrics: a function of the session whose figures are added to each line.

    Returns:
        How it ended.

    Raises:
        RunError: another process writes the run.
    """
    recipe = session.recipe
    started = time.perf_counter()
    folder = run.path / "checkpoint"
    last_saved = session.steps_done

    def save_checkpoint() -> None:
        checkpoints.write(folder, session.steps_done, session.state_dict(), fingerprint=fingerprint, keep=recipe.keep)
        save_players()

    def save_players() -> None:
        run.save_generator(session.generators()[0])
        run.save_discriminator(session.discriminators()[0])

    tracked = Tracked(data, seeds=recipe.seeds)
    reason, caught, place = "done", _Caught(), session.place
    with run.writing(), _signals(caught, firmly=place.size > 1):
        if session.steps_done == 0:
            save_checkpoint()
        while session.steps_done < recipe.steps:
            start = None
            if session.steps_done == 0:
                start = {
                    "step": 0,
                    **measure(session, data, tracked),
                    **(metrics(session) if metrics is not None else {}),
                }
            step = session.step()
            done = session.steps_done
            if place.agree(_diverged(step))[0]:
                reason = "non-finite"
                break
            if start is not None:  # the first step's losses are those of the players as they were made
                run.append_metrics({"step": 0, **figures_of(step), **start})
            stop = any([callback.after_step(done, step) for callback in callbacks])
            if recipe.measured_after(done) or stop:
                row: dict[str, Any] = {"step": done, **session.take_means(), **measure(session, data, tracked)}
                if metrics is not None:
                    row.update(metrics(session))
                run.append_metrics(row)
                stop = any([callback.after_metrics(row) for callback in callbacks]) or stop
            if done in sheet_steps(recipe.steps):
                add_sheet(run, session, data, done)
            stop, caught.number = place.agree(stop, caught.number)
            if done % recipe.checkpoint_every == 0:
                save_checkpoint()
                last_saved = done
            if stop:
                reason = "stopped"
                break
            if caught.number:
                reason = "interrupted"
                break
        if reason != "non-finite" and last_saved != session.steps_done:
            save_checkpoint()
        elif reason != "non-finite":
            save_players()  # a kill may have struck between the checkpoint of this step and its players
    return Ending(reason, session.steps_done, caught.number, time.perf_counter() - started)


def follow(session: Session) -> Ending:
    """Train beside the process that measures and writes, step for step, as long as it does.

    Returns:
        How it ended, the same in every process.
    """
    started, reason, caught, place = time.perf_counter(), "done", _Caught(), session.place
    with _signals(caught, firmly=True):
        while session.steps_done < session.recipe.steps:
            if place.agree(_diverged(session.step()))[0]:
                reason = "non-finite"
                break
            stop, caught.number = place.agree(0, caught.number)
            if stop or caught.number:
                reason = "stopped" if stop else "interrupted"
                break
    return Ending(reason, session.steps_done, caught.number, time.perf_counter() - started)


def _diverged(step: Step) -> bool:
    # NaN compares false, so this finds it too
    return not all(abs(figure) < DIVERGED for figure in (step.value, step.generator_loss, step.discriminator_loss))


def resume(session: Session, run: Run, *, fingerprint: str, at: int | None = None) -> int:
    """Bring a session to the run's newest checkpoint, or that of step `at`; drop what the run wrote after it.

    Call it within `run.writing()`, so that nobody else writes between it and `train`.

    Returns:
        Steps done at the checkpoint.

    Raises:
        CheckpointError: there is no sound checkpoint of that name.
    """
    step, state = checkpoints.read(run.path / "checkpoint", fingerprint=fingerprint, at=at)
    session.load_state_dict(state)
    # the line of step 0 is written by the first step, after the first checkpoint
    run.rewrite_metrics([row for row in run.metrics() if step > 0 and row.get("step", 0) <= step])
    sheets = {at_step: rows for at_step, rows in read_sheets(run).items() if at_step <= step}
    _write_sheets(run, sheets)
    for later in checkpoints.list_steps(run.path / "checkpoint"):
        if later > step:
            checkpoints.path_of(run.path / "checkpoint", later).unlink(missing_ok=True)
    return step


def measure(session: Session, data: Data, tracked: Tracked | None = None) -> dict[str, Any]:
    """Mode metrics of a mixture: one number each, or with several seeds their mean, and `NAME_by_seed`.

    Data without known modes are measured by the distance of the first two moments, relative to the data's spread, and
    by what `tracked` measures of the same samples.
    """
    drawn = session.samples(MODE_SAMPLES if data.centers is not None else MOMENT_SAMPLES, seed=METRIC_SEED)
    if not all(np.isfinite(rows).all() for rows in drawn):
        return {}
    per_seed: list[dict[str, float]]
    if data.centers is not None and data.sd is not None:
        found = [mode_metrics(rows, data.centers, data.sd) for rows in drawn]
        per_seed = [
            {
                "modes": float(m.modes),
                "high_quality": m.high_quality,
                "total_variation": m.total_variation,
                "spread": m.spread,
            }
            for m in found
        ]
    else:
        mean, sd = data.moments
        per_seed = [
            {
                "mean_distance": float(np.linalg.norm(g.mean(0) - mean)) / sd,
                "spread": float(np.sqrt(g.var(0).sum())) / sd,
            }
            for g in drawn
        ]
    row: dict[str, Any] = {name: float(np.mean([m[name] for m in per_seed])) for name in per_seed[0]}
    if len(per_seed) > 1:
        row.update({f"{name}_by_seed": [m[name] for m in per_seed] for name in per_seed[0]})
    return row if tracked is None else {**row, **tracked.figures(drawn)}


def sheet_steps(steps: int) -> frozenset[int]:
    """Steps after which samples are kept, denser at the start: where the picture changes most."""
    return frozenset(max(1, round(steps * (k / SHEETS) ** 2)) for k in range(1, SHEETS + 1))


def add_sheet(run: Run, session: Session, data: Data, done: int) -> None:
    """Keep samples of this moment in `progress.safetensors`."""
    kept = SHEET_SAMPLES if data.X.shape[1] <= 16 else SHEET_PICTURES
    rows = session.samples(kept, seed=METRIC_SEED + 1)[0]
    _write_sheets(run, {**read_sheets(run), done: rows.astype(np.float32)})


def read_sheets(run: Run) -> dict[int, np.ndarray]:
    """Samples over time by step, or nothing.

    Raises:
        RunError: the file is damaged.
    """
    if not run.has(SHEET_FILE):
        return {}
    try:
        return {int(name): rows for name, rows in sorted(load((run.path / SHEET_FILE).read_bytes()).items())}
    except Exception as error:  # safetensors raises its own class for every kind of damage
        raise RunError(f"{run.path / SHEET_FILE} is damaged: {error}") from error


def _write_sheets(run: Run, sheets: Mapping[int, np.ndarray]) -> None:
    if sheets:
        run.write_bytes(SHEET_FILE, save({f"{step:09d}": rows for step, rows in sheets.items()}))


def fingerprint(run: Run) -> str:
    """What ties a checkpoint to its run: options, data, networks and objective, not paths, dates or its length."""
    config = json.loads(run.config.model_dump_json())
    kept = ("model", "objective", "data", "latent", "generator", "discriminator", "seed", "options")
    config["options"].pop("steps", None)  # a run may be made longer
    return checkpoints.fingerprint_of({name: config[name] for name in kept})


@dataclasses.dataclass
class _Caught:
    number: int = 0


@contextmanager
def _signals(caught: _Caught, *, firmly: bool = False) -> Iterator[None]:
    """Note SIGINT and SIGTERM instead of dying; a second one has its ordinary effect.

    Args:
        caught: where they are noted.
        firmly: note the second one too: torchrun hands on what the terminal has sent already.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in numbers}

    def note(number: int, frame: FrameType | None) -> None:
        del frame
        caught.number = number
        if not firmly:
            signal.signal(number, before[signal.Signals(number)])

    try:
        for number in numbers:
            signal.signal(number, note)
        yield
    finally:
        for number in numbers:
            signal.signal(number, before[number])
