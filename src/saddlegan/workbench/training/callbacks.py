"""What a user sees while training: a progress bar on a terminal, plain lines elsewhere, a logger if asked for."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from typing import Any

from saddlegan.monitor import Log
from saddlegan.results import Step
from saddlegan.workbench.terminal import console
from saddlegan.workbench.terminal.progress import Progress, on_terminal, progress
from saddlegan.workbench.training.session import Session

REFRESH = 0.2  # seconds between two redraws of the bar


class Lines:
    """One plain line for every line of metrics."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._started, self._from = time.perf_counter(), session.steps_done

    def after_step(self, done: int, step: Step) -> bool:
        """Say nothing."""
        del done, step
        return False

    def after_metrics(self, row: Mapping[str, Any]) -> bool:
        """Write the figures and the rate."""
        rate = (row["step"] - self._from) / max(1e-9, time.perf_counter() - self._started)
        figures = "  ".join(
            f"{name} {value:.4g}" for name, value in row.items() if name != "step" and isinstance(value, (int, float))
        )
        console.say(f"step {row['step']:,}/{self._session.recipe.steps:,}  {figures}  {rate:.0f} steps/s")
        return False


class Bar:
    """The progress bar with the losses beside it."""

    def __init__(self, session: Session, show: Progress) -> None:
        self._show, self._steps = show, session.recipe.steps
        self._drawn = 0.0
        self._metrics = ""
        show("training", session.steps_done, self._steps)

    def after_step(self, done: int, step: Step) -> bool:
        """Redraw now and then: to print a loss waits for the device that computes it."""
        now = time.perf_counter()
        if now - self._drawn > REFRESH:
            self._drawn = now
            figures = f"V {step.value:.3f}  G {step.generator_loss:.3f}  D {step.discriminator_loss:.3f}{self._metrics}"
            self._show("training", done, self._steps, figures)
        return False

    def after_metrics(self, row: Mapping[str, Any]) -> bool:
        """Keep the newest mode metrics beside the losses."""
        shown = [name for name in ("modes", "high_quality", "total_variation") if name in row]
        self._metrics = "".join(f"  {name} {row[name]:.3g}" for name in shown)
        return False


class Logged:
    """Every number of every line of metrics for a logger."""

    def __init__(self, log: Log) -> None:
        self._log = log

    def after_step(self, done: int, step: Step) -> bool:
        """Write nothing."""
        del done, step
        return False

    def after_metrics(self, row: Mapping[str, Any]) -> bool:
        """Write every number of the line."""
        figures = {n: float(each) for n, each in row.items() if n != "step" and isinstance(each, (int, float))}
        self._log(figures, step=row["step"])
        return False


@contextlib.contextmanager
def shown(session: Session) -> Iterator[Lines | Bar]:
    """The callback that shows progress: a bar on a terminal, one line for every line of metrics elsewhere."""
    if not on_terminal():
        yield Lines(session)
        return
    with progress("steps") as show:
        yield Bar(session, show)
