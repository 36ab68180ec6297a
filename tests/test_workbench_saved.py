"""`saddlegan.save` and `load`. Oracle: the pair that was given, and `certify` called on it directly."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import saddlegan
from saddlegan import Game, certify, train
from saddlegan.errors import InputError, InputTypeError, RunError
from saddlegan.networks import MLP
from saddlegan.workbench import cli

EXAMPLES = Path(__file__).parents[1] / "examples"
FAST = ["--steps", "3", "--restarts", "1", "--batch-size", "32", "--lam", "1"]


class Forgetful(nn.Module):
    """Keeps no argument, so that it comes back with another slope."""

    def __init__(self, slope: float = 1.0) -> None:
        super().__init__()
        self.act = nn.LeakyReLU(slope)
        self.linear = nn.Linear(2, 2)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return self.act(self.linear(z))


def pair(G: nn.Module | None = None, **options: object) -> Game:
    torch.manual_seed(0)
    D = nn.Sequential(nn.Linear(2, 8, bias=False), nn.Tanh(), nn.Linear(8, 1))
    return Game(nn.Sequential(nn.Linear(2, 2), nn.Tanh()) if G is None else G, D, latent=2, **options)  # type: ignore[arg-type]


@pytest.mark.slow  # runs whole commands
def test_a_pair_of_torch_layers_comes_back_bit_for_bit(tmp_path: Path) -> None:
    game, X = pair(), np.random.default_rng(0).standard_normal((100, 2)).astype("float32")
    saddlegan.save(tmp_path / "a", game, X=X)
    (tmp_path / "a").rename(tmp_path / "moved")
    run = saddlegan.load(tmp_path / "moved")
    z = torch.randn(5, 2, generator=torch.Generator().manual_seed(3))
    assert torch.equal(run.game.G(z), game.G(z))
    assert torch.equal(run.game.D(z), game.D(z))
    assert np.array_equal(run.data.X, X)
    assert run.solution is None
    search = certify.Search(steps=5, restarts=1, batch_size=16)
    assert certify.nash(run.game, X, search=search).gap == certify.nash(game, X, search=search).gap
    assert run.report().exists()
    assert cli.run(["certify", str(tmp_path / "moved"), *FAST]) == 0
    out = tmp_path / "x.npy"
    assert cli.run(["sample", str(tmp_path / "moved"), "-n", "4", "--out", str(out)]) == 0
    before = out.read_bytes()
    assert cli.run(["sample", str(tmp_path / "moved"), "-n", "5", "--out", str(out)]) == 2
    assert out.read_bytes() == before
    assert cli.run(["sample", str(tmp_path / "moved"), "-n", "5", "--out", str(out), "--overwrite"]) == 0
    assert np.load(out).shape == (5, 2)


def test_what_a_run_does_not_keep_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    X = np.zeros((20, 2), "float32")

    def own(G: nn.Module, D: nn.Module, batch: saddlegan.Batch) -> torch.Tensor:
        return D(batch.x).mean() - D(G(batch.z)).mean()

    class Local(nn.Linear):
        pass

    cases: list[tuple[Game, type[Exception], str]] = [
        (pair(Forgetful(0.1)), InputTypeError, "same name"),
        (pair(Local(2, 2)), InputTypeError, "module of its own"),
        (pair(generator_penalty=lambda G, batch: torch.zeros(())), InputError, "generator_penalty"),
        (pair(rows_in_groups=2), InputError, "rows_in_groups"),
        (
            Game.from_value(MLP(2, 2, hidden=(4,)), MLP(2, 1, hidden=(4,)), own, latent=2),
            InputError,
            "value of its own",
        ),
    ]
    for game, error, words in cases:
        with pytest.raises(error, match=words):
            saddlegan.save(tmp_path / "a", game, X=X)
        assert not (tmp_path / "a").exists()
    with pytest.raises(InputError, match="one of `data`"):
        saddlegan.save(tmp_path / "a", pair())
    saddlegan.save(tmp_path / "a", pair(discriminator_penalty=train.R1(0.1)), data="ring")


@pytest.mark.slow  # runs whole commands
def test_own_classes_are_imported_only_when_named(tmp_path: Path) -> None:
    """In processes of their own: here the example's module may be loaded already."""
    place = tmp_path / "work"
    place.mkdir()
    (place / "mine.py").write_text((EXAMPLES / "own_pair_certified.py").read_text())
    np.save(place / "x.npy", np.random.default_rng(0).standard_normal((128, 2)).astype("float32"))

    def call(*words: str) -> subprocess.CompletedProcess[str]:
        code = "from saddlegan.workbench.cli import main; main()"
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
        return subprocess.run(
            [sys.executable, "-c", code, *words], cwd=place, env=env, capture_output=True, text=True, check=False
        )

    looked = call("diagnose", "mine:make_game", "--data", "x.npy", "--report", "page.html", "--json")
    assert looked.returncode == 0, looked.stderr
    assert json.loads(looked.stdout)["findings"]["response to the latent"] > 0.5
    assert "<td>" in (place / "page.html").read_text()
    assert not (place / "runs").exists()
    assert "page.html exists" in call("diagnose", "mine:make_game", "--data", "x.npy", "--out", "page.html").stderr
    made = call("certify", "mine:make_game", "--data", "x.npy", "--out", "run", *FAST)
    assert made.returncode == 0, made.stderr
    assert "Nash" in made.stdout
    assert json.loads((place / "run" / "config.json").read_text())["generator"]["options"]["path"] == "mine:Residual"
    refused = call("sample", "run", "-n", "3", "--out", "y.npy")
    assert refused.returncode == 2
    assert "--import mine" in refused.stderr
    assert call("sample", "run", "-n", "3", "--out", "y.npy", "--import", "mine").returncode == 0
    assert np.load(place / "y.npy").shape == (3, 2)


def test_a_diagnosis_says_in_words_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Oracle: `certify.diagnose` on the pair itself; G makes one point."""
    game, X = pair(), np.random.default_rng(0).standard_normal((200, 2)).astype("float32")
    with torch.no_grad():
        next(game.G.parameters()).zero_()
    saddlegan.save(tmp_path / "dead", game, X=X)
    assert cli.run(["diagnose", str(tmp_path / "dead")]) == 0
    assert capsys.readouterr().out.startswith("All samples are one and the same")
    assert cli.run(["diagnose", str(tmp_path / "dead"), "--json"]) == 0
    expected = certify.diagnose(game, torch.from_numpy(X))
    assert json.loads(capsys.readouterr().out)["findings"] == pytest.approx(dict(expected.findings))


def test_a_pair_and_its_data_are_named_together(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("certify", "diagnose"):
        assert cli.run([command, "mine:make_game"]) == 2
        assert "`--data` is missing" in capsys.readouterr().err
        assert cli.run([command, "mine", "--data", "ring"]) == 2
        assert "`--data` belongs to MODULE:FUNCTION" in capsys.readouterr().err


@pytest.mark.slow  # runs whole commands
def test_the_example_runs(tmp_path: Path) -> None:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    command = [sys.executable, str(EXAMPLES / "own_pair_certified.py"), str(tmp_path)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Nash: refuted" in done.stdout  # the data's mean is (3, 3), the generator's about 0


def test_a_run_cannot_name_a_class_that_is_no_network(tmp_path: Path) -> None:
    run = saddlegan.save(tmp_path / "a", pair(), X=np.zeros((20, 2), "float32"))
    config = json.loads((run.run.path / "config.json").read_text())
    config["generator"] = {"kind": "import", "options": {"path": "subprocess:Popen", "arguments": {"args": "true"}}}
    (run.run.path / "config.json").write_text(json.dumps(config))
    with pytest.raises(RunError, match="not a torch"):
        saddlegan.load(run.run.path).sample(2)
