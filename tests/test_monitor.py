"""Loggers from anybody's loop. Oracles: the step's own figures, and `Watch` and `Track` called by hand."""

from __future__ import annotations

import sys
import types
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from saddlegan import Game, certify, metrics, networks, train
from saddlegan.errors import MissingExtraError
from saddlegan.monitor import Monitor, tensorboard
from saddlegan.results import Step
from saddlegan.workbench import cli
from saddlegan.workbench.training.logs import LOGS

SMALL = ["--hidden", "8", "--batch", "16", "--n-samples", "200", "--steps", "2"]


class Kept:
    """A logger that remembers; its method has the arguments of `accelerate.Accelerator.log`."""

    def __init__(self) -> None:
        self.lines: list[tuple[int | None, dict[str, float]]] = []

    def log(self, values: dict, step: int | None = None, log_kwargs: dict | None = None) -> None:
        self.lines.append((step, values))


def playing() -> tuple[Game, train.AbstractRule]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        G, D = networks.MLP(2, 2, hidden=(8,)), networks.MLP(2, 1, hidden=(8,), activation="softplus")
    game = Game(G, D, objective="vanilla", latent=2)
    adam = (torch.optim.Adam(player.parameters(), 1e-3) for player in (G, D))
    return game, train.Alternating(game, *adam, generator=torch.Generator().manual_seed(0))


def test_a_loop_is_told_what_was_measured_and_when_to_stop() -> None:
    game, rule = playing()
    X = torch.randn(64, 2, generator=torch.Generator().manual_seed(1))
    search = certify.Search(steps=2, restarts=1, batch_size=16)

    def sample(n: int) -> np.ndarray:
        with torch.no_grad():
            return game.G(torch.randn(n, 2, generator=torch.Generator().manual_seed(2))).numpy()

    kept, track = Kept(), metrics.Track(sample, X, every=3, n=20)
    watch = certify.Watch(game, X, every=4, search=search)
    monitor = Monitor([kept.log], every=2, track=track, watch=watch)
    steps = []
    for _ in range(4):
        steps.append(rule.step(X[:16]))
        assert not monitor(steps[-1])
    assert [step for step, _ in kept.lines] == [2, 3, 4]
    by_step = {step: figures for step, figures in kept.lines}
    assert by_step[2] == {
        "value": steps[1].value,
        "generator_loss": steps[1].generator_loss,
        "discriminator_loss": steps[1].discriminator_loss,
    }
    assert by_step[3]["kernel"] == track.history[0].measures["kernel"].value
    gap = certify.proximal_duality_gap(game, X, lam=1.0, search=search, random_state=0).gap
    assert by_step[4]["proximal_gap"] == watch.history[0][1].gap == gap

    class Small:
        history: tuple = ()

        def __call__(self, step: int) -> bool:
            return step == 2

    stopping = Monitor(watch=Small())  # type: ignore[arg-type]
    assert [stopping() for _ in range(3)] == [False, True, False]


def test_lightning_is_served_by_its_own_class() -> None:
    """A stand-in for `lightning.pytorch.Callback`, its trainer, and two processes of which one measures."""

    class Callback:
        def on_train_end(self) -> str:
            return "inherited"

    class Strategy:
        def reduce_boolean_decision(self, decision: bool, all: bool = True) -> bool:
            assert not all
            return decision

    class Watch:
        history: tuple = ()

        def __call__(self, step: int) -> bool:
            return step >= 2

    kept, theirs = Kept(), Kept()
    logger = types.SimpleNamespace(log_metrics=lambda metrics, step=None: theirs.log(metrics, step))
    trainer = types.SimpleNamespace(is_global_zero=True, loggers=[logger], strategy=Strategy(), should_stop=False)
    callback = Monitor([kept.log], every=1, watch=Watch()).lightning(Callback)  # type: ignore[arg-type]
    assert isinstance(callback, Callback)
    assert callback.on_train_end() == "inherited"
    callback.on_train_batch_end(trainer, None, {"step": Step(1.0, 2.0, 3.0)}, None, 0)
    assert not trainer.should_stop
    callback.on_train_batch_end(trainer, None, None, None, 1)
    assert trainer.should_stop
    assert kept.lines == theirs.lines == [(1, {"value": 1.0, "generator_loss": 2.0, "discriminator_loss": 3.0})]
    other = types.SimpleNamespace(is_global_zero=False, loggers=[logger], strategy=Strategy(), should_stop=False)
    callback.on_train_batch_end(other, None, {"step": Step(1.0, 2.0, 3.0)}, None, 2)
    assert len(theirs.lines) == 1


def test_tensorboard_is_a_logger() -> None:
    written: list[tuple[str, float, int]] = []
    writer = types.SimpleNamespace(add_scalar=lambda *each: written.append(each), flush=lambda: None)
    tensorboard(writer)({"value": 0.5, "gap": 0.1}, step=7)
    assert written == [("value", 0.5, 7), ("gap", 0.1, 7)]


@pytest.mark.slow  # runs whole commands
def test_every_logger_of_the_command_line_gets_every_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand-ins for the modules, with the calls that their documentation shows; TensorBoard is the real one."""
    kept, made = Kept(), []

    def init(**options: Any) -> Any:
        made.append(options)
        return types.SimpleNamespace(log=kept.log, finish=lambda: made.append("finished"))

    trackio: Any = types.ModuleType("trackio")
    trackio.init, trackio.log, trackio.finish = init, kept.log, lambda: made.append("finished")
    wandb: Any = types.ModuleType("wandb")
    wandb.init = init
    monkeypatch.setitem(sys.modules, "trackio", trackio)
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    words = [word for name in LOGS for word in ("--log", name)]
    assert cli.run(["train", "ring", *SMALL, *words, "--out", str(tmp_path / "mine")]) == 0
    assert [each if each == "finished" else each["name"] for each in made] == ["mine", "mine", "finished", "finished"]
    assert made[0]["config"]["steps"] == 2
    assert [step for step, _ in kept.lines] == [1, 1, 2, 2]
    assert "total_variation" in kept.lines[0][1]
    assert list((tmp_path / "mine" / "tensorboard").glob("events*"))


def test_a_missing_logger_is_named_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert cli.run(["train", "ring", "--log", "tensorboard", "--out", str(tmp_path / "run")]) == 2
    assert "pip install 'tensorboard>=" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    assert cli.run(["train", "ring", "--log", "tensorbord"]) == 2
    assert "did you mean 'tensorboard'?" in capsys.readouterr().err


def test_the_line_to_install_names_what_the_extra_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the metadata of the installed package; a copy without any names the package itself."""
    listed = [each for each in metadata.requires("saddlegan") or [] if each.endswith(("'convex'", '"convex"'))]
    said = str(MissingExtraError("cvxpy", "convex"))
    assert len(listed) == 2
    assert all(f"'{each.partition(';')[0].strip()}'" in said for each in listed)

    def gone(name: str) -> list[str]:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "requires", gone)
    assert str(MissingExtraError("cvxpy", "convex")).endswith("pip install cvxpy")
