"""Figures of a training for anybody's logger, from anybody's loop: plain, Lightning's or Accelerate's.

A logger is whatever can be called as `log(figures, step=...)`: `wandb.init().log`, `trackio.log`, `accelerator.log` and
a Lightning logger's `log_metrics` as they are, TensorBoard through `tensorboard`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, final

from saddlegan import checks
from saddlegan.certify import Watch
from saddlegan.metrics import Track
from saddlegan.results import Step


class Log(Protocol):
    """A logger."""

    def __call__(self, figures: dict[str, float], /, *, step: int) -> object:
        """Keep figures by name of one step."""
        ...


def tensorboard(writer: Any) -> Log:
    """A `torch.utils.tensorboard.SummaryWriter` as a logger: one scalar for each figure."""

    def log(figures: dict[str, float], /, *, step: int) -> None:
        for name, figure in figures.items():
            writer.add_scalar(name, figure, step)
        writer.flush()

    return log


@final
class Monitor:
    """Hands a training's figures to loggers: call it after each step with what the rule returned.

    Args:
        logs: loggers, each called as `log(figures, step=...)`.
        every: steps between two lines of value and losses.
        track: measures samples at its own steps, see `metrics.Track`.
        watch: measures the proximal duality gap at its own steps, and may stop the training, see `certify.Watch`.

    Attributes:
        steps: number of calls so far.

    Raises:
        InputError: `every` is below 1.

    Example:
        >>> from saddlegan.results import Step
        >>> lines = []
        >>> monitor = Monitor([lambda figures, step: lines.append((step, figures))], every=2)
        >>> [monitor(Step(0.5, 1.0, -0.5)) for _ in range(2)], lines[0][0], lines[0][1]["value"]
        ([False, False], 2, 0.5)
    """

    def __init__(
        self, logs: Sequence[Log] = (), *, every: int = 50, track: Track | None = None, watch: Watch | None = None
    ) -> None:
        self.logs, self.every = tuple(logs), checks.count("every", every)
        self.steps = 0
        self._track, self._watch = track, watch

    def __call__(self, step: Step | None = None) -> bool:
        """Count a step, and log what there is to say of it.

        Args:
            step: what the rule returned; None logs what is measured alone.

        Returns:
            Whether the training may stop, as the watch says.
        """
        return self._after(step, self.logs)

    def lightning(self, callback: type) -> Any:
        """This monitor as a callback of Lightning; its figures go to the trainer's loggers too.

        `training_step` returns `{"step": rule.step(batch)}` for value and losses. With several processes the first one
        measures, and all stop when it says so.

        Args:
            callback: the class `lightning.pytorch.Callback`; saddlegan itself does not import Lightning.

        Returns:
            For `Trainer(callbacks=[...])`.
        """

        def on_train_batch_end(own: Any, trainer: Any, module: Any, outputs: Any, *batch: Any) -> None:
            del own, module, batch
            stop = False
            if trainer.is_global_zero:
                found = outputs.get("step") if isinstance(outputs, Mapping) else None
                stop = self._after(found, [*self.logs, *(logger.log_metrics for logger in trainer.loggers)])
            if self._watch is not None and trainer.strategy.reduce_boolean_decision(stop, all=False):
                trainer.should_stop = True

        return type("Monitored", (callback,), {"on_train_batch_end": on_train_batch_end})()

    def _after(self, step: Step | None, logs: Sequence[Log]) -> bool:
        self.steps += 1
        figures: dict[str, float] = {}
        if step is not None and self.steps % self.every == 0:
            figures = {
                "value": step.value,
                "generator_loss": step.generator_loss,
                "discriminator_loss": step.discriminator_loss,
            }
            figures |= {name: float(each) for name, each in step.stats.items() if isinstance(each, (int, float))}
        tracked = None if self._track is None else self._track()
        for name, measure in {} if tracked is None else tracked.measures.items():
            figures |= {name: measure.value, f"{name}_above_floor": measure.above_floor}
        stop = self._watch is not None and self._watch(self.steps)
        if self._watch is not None and self._watch.history and self._watch.history[-1][0] == self.steps:
            certificate = self._watch.history[-1][1]
            figures |= {
                "proximal_gap": certificate.gap,
                "proximal_gap_error": certificate.standard_error,
                "generator_gain": certificate.generator_gain,
                "discriminator_gain": certificate.discriminator_gain,
            }
        for log in logs if figures else ():
            log(dict(figures), step=self.steps)
        return stop
