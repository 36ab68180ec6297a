"""`saddlegan train MODULE:FUNCTION`. Oracles: a run that was never broken, a loop by hand, and the data's own order."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from saddlegan import Game, train
from saddlegan.networks import MLP
from saddlegan.workbench import cli, saved
from saddlegan.workbench.data import sources
from saddlegan.workbench.runs import shapes
from saddlegan.workbench.training.recipe import OWN, make_recipe
from saddlegan.workbench.training.session import Session

EXAMPLES = Path(__file__).parents[1] / "examples"
FAST = ["--steps", "3", "--restarts", "1", "--batch-size", "32", "--lam", "1"]


class Picture(nn.Module):
    """Latents (n, 2) to pictures (n, 3, 4, 4), channel first as torch's convolutions make them."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 48)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return self.linear(z).unflatten(1, (3, 4, 4))


class Red(nn.Module):
    """Sees the first channel alone."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(16, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x[:, 0].flatten(1))


class Dropping(nn.Module):
    """Draws from torch's global source while it trains."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, 8), nn.SiLU(), nn.Dropout(0.3), nn.Linear(8, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x)


def dropping() -> Game:
    penalty = train.Penalties(train.R1(0.1), train.GradientPenalty(0.1))
    return Game(MLP(3, 2, hidden=(8,)), Dropping(), objective="vanilla", latent=3, discriminator_penalty=penalty)


def pictures() -> Game:
    return Game(Picture(), Red(), objective="wasserstein", latent=2)


def sourced() -> Game:
    penalty = train.GradientPenalty(1.0, generator=torch.Generator())
    return Game(MLP(3, 2, hidden=(8,)), MLP(2, 1, hidden=(8,)), latent=3, discriminator_penalty=penalty)


def drawn() -> Game:
    return Game(MLP(3, 2, hidden=(8,)), MLP(2, 1, hidden=(8,)), latent=lambda n, generator: torch.zeros(n, 3))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with data, and this module under a name that a shell could give."""
    module = types.ModuleType("own_games")
    for made in (dropping, pictures, sourced, drawn):
        setattr(module, made.__name__, made)
    monkeypatch.setitem(sys.modules, "own_games", module)
    monkeypatch.syspath_prepend(EXAMPLES)
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", np.random.default_rng(0).standard_normal((128, 2)).astype("float32"))
    return tmp_path


@pytest.mark.slow  # runs whole commands
@pytest.mark.usefixtures("place")
def test_the_lines_of_the_example_run_and_every_command_reads_what_they_leave() -> None:
    lines = re.findall(r"^    saddlegan (.*)$", (EXAMPLES / "own_pair_certified.py").read_text(), re.MULTILINE)
    assert [line.split()[0] for line in lines] == ["diagnose", "train", "certify", "sample"]
    more = {
        "certify": FAST,
        "train": ["--steps", "5", "--batch", "16", "--certify-every", "5", "--set", "certify_steps=3"],
    }
    for line in lines:
        words = shlex.split(line)
        assert cli.run([*words, *more.get(words[0], [])]) == 0, line
    config = json.loads(Path("runs/mine/config.json").read_text())
    assert config["generator"]["options"]["path"] == "own_pair_certified:Residual"
    assert (config["sample_scale"], config["sample_offset"], config["objective"]) == (1.0, 0.0, "vanilla")
    assert "equilibrium" in Path("runs/mine/report.html").read_text()
    assert np.load("samples.npy").shape == (100, 2)
    shutil.copytree("runs/mine", "runs/other")
    for line in ("report runs/mine", "measure runs/mine", "compare runs/mine runs/other --out both.png"):
        assert cli.run(shlex.split(line)) == 0, line


@pytest.mark.slow  # runs whole commands
@pytest.mark.usefixtures("place")
def test_a_resumed_pair_goes_on_to_the_same_bits(capsys: pytest.CaptureFixture[str]) -> None:
    """Oracle: the run that was never broken. Dropout, and a penalty that draws, stand in torch's global source."""
    words = ["train", "own_games:dropping", "--data", "x.npy", "--average", "0.9", "--batch", "16"]
    torch.manual_seed(5)
    assert cli.run([*words, "--steps", "12", "--out", "whole"]) == 0
    torch.manual_seed(5)
    assert cli.run([*words, "--steps", "6", "--out", "parts"]) == 0
    torch.manual_seed(99)
    assert cli.run(["train", "--resume", "parts", "--steps", "12"]) == 2
    assert "pass --import own_games" in capsys.readouterr().err
    assert cli.run(["train", "--resume", "parts", "--steps", "12", "--import", "own_games"]) == 0
    for player in ("generator", "discriminator"):
        first, second = (Path(run, f"{player}.safetensors").read_bytes() for run in ("whole", "parts"))
        assert first == second


def test_a_step_is_that_of_a_loop_by_hand() -> None:
    """Oracle: binary cross entropy, R1 by autograd and Adam written out on a copy of the pair."""
    torch.manual_seed(0)
    D = nn.Sequential(nn.Linear(2, 8), nn.SiLU(), nn.Linear(8, 1)).double()
    G = nn.Linear(3, 2).double()
    twin_G, twin_D = nn.Linear(3, 2).double(), nn.Sequential(nn.Linear(2, 8), nn.SiLU(), nn.Linear(8, 1)).double()
    twin_G.load_state_dict(G.state_dict())
    twin_D.load_state_dict(D.state_dict())
    game = Game(G, D, objective="non-saturating", latent=3, discriminator_penalty=train.R1(0.5))
    options = {**OWN, "network": "m:f", "objective": "non-saturating", "bits": 0, "gaussians": 3, "batch": 16}
    session = Session(make_recipe(**options), sources.load("gaussian:4,1", n_samples=100), game=game)
    seen: list[torch.Tensor] = []
    batch = session._batch
    session._batch = lambda: seen.append(batch()) or seen[-1]  # type: ignore[method-assign, func-returns-value]
    latents: list[torch.Tensor] = []
    draw = session.rule.game.latent
    session.rule.game.latent = lambda n, source: latents.append(draw(n, source)) or latents[-1]  # type: ignore
    opt_G, opt_D = (torch.optim.Adam(m.parameters(), 2e-4, betas=(0.5, 0.999)) for m in (twin_G, twin_D))
    for _ in range(3):
        session.step()
        x, (for_D, for_G) = seen[-1].requires_grad_(), latents[-2:]
        assert x.dtype == torch.float64
        real, fake = twin_D(x), twin_D(twin_G(for_D).detach())
        (slope,) = torch.autograd.grad(real.sum(), x, create_graph=True)
        opt_D.zero_grad()
        loss = nn.functional.softplus(-real).mean() + nn.functional.softplus(fake).mean()
        (loss + 0.25 * slope.square().sum(1).mean()).backward()
        opt_D.step()
        opt_G.zero_grad()
        nn.functional.softplus(-twin_D(twin_G(for_G))).mean().backward()
        opt_G.step()
    pairs = zip([*G.parameters(), *D.parameters()], [*twin_G.parameters(), *twin_D.parameters()], strict=True)
    assert all(torch.allclose(a, b, atol=1e-12) for a, b in pairs)


def test_pictures_lie_channel_last_in_files_and_channel_first_in_networks(place: Path) -> None:
    """Oracle: one red picture, which a discriminator of the first channel alone sees."""
    X = np.zeros((4, 4, 4, 3), np.float32)
    X[..., 0] = np.arange(16).reshape(4, 4)
    np.save("red.npy", X)
    with torch.no_grad():
        game = pictures()
        game.D.linear.weight.fill_(1.0)  # type: ignore[union-attr]
        game.D.linear.bias.zero_()  # type: ignore[union-attr]
        game.G.linear.weight.zero_()  # type: ignore[union-attr]
        game.G.linear.bias.copy_(torch.arange(48.0))  # type: ignore[union-attr]
        run = saved.save("run", game, data="red.npy")
        rows = run.rows(game)
        assert rows.shape == (4, 3, 4, 4)
        assert torch.equal(game.D(rows), torch.full((4, 1), 120.0))
        drawn_rows = run.sample(1).reshape(4, 4, 3)
        assert np.array_equal(drawn_rows[..., 1], np.arange(16, 32).reshape(4, 4))
        batch = Session(
            make_recipe(network="m:f", objective="wasserstein", bits=0, gaussians=2, batch=2),
            sources.load("red.npy"),
            game=game,
        )._batch()
        assert torch.equal(game.D(batch), torch.full((2, 1), 120.0))
    assert shapes.sample_shape(game) == (3, 4, 4)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("own_games:dropping", "`--data` is missing"),
        ("ring --data x.npy", "`--data` belongs to MODULE:FUNCTION"),
        ("own_games:dropping --data nothing.npy", "`--data` must be one of"),
        ("own_games:dropping --data x.npy --seeds 3", "`--seeds` must be 1"),
        ("own_games:dropping --data x.npy --hidden 8", "`--hidden` is what the game of own_games:dropping says"),
        ("x.npy --network own", "`--network` must be one of mlp, image, or MODULE:FUNCTION"),
        ("own_games:nothing --data x.npy", "must be a saddlegan.Game"),
        ("own_games:drawn --data x.npy", "latent function of your own"),
        ("own_games:sourced --data x.npy", "torch.Generator of its own"),
        ("no_such_module:make --data x.npy", "'no_such_module' cannot be imported"),
    ],
)
def test_what_cannot_be_trained_is_refused_by_name(
    words: str, said: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["train", *shlex.split(words)]) == 2
    assert said in capsys.readouterr().err
    assert not (place / "runs").exists()


@pytest.mark.usefixtures("place")
def test_bytes_that_reach_a_pair_of_small_samples_are_said(capsys: pytest.CaptureFixture[str]) -> None:
    bytes_ = np.random.default_rng(0).integers(0, 256, (64, 2), dtype=np.uint8)
    np.save("bytes.npy", bytes_)
    assert cli.run(["diagnose", "own_games:dropping", "--data", "bytes.npy"]) == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert first.startswith(
        "the data are bytes from 0 to 255, and the pair gets them as they are: its samples lie from "
    )
    assert "x / 127.5 - 1" in first
    game = dropping()
    assert saved.said_of_bytes(game, bytes_)
    assert not saved.said_of_bytes(game, bytes_.astype(float))
    with torch.no_grad():
        for parameter in game.G.parameters():
            parameter.mul_(100.0)
    assert not saved.said_of_bytes(game, bytes_)


def test_a_run_of_own_classes_is_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    layer = {"kind": "import", "options": {"path": "no_such.nets:G"}}
    config = {
        "command": "save",
        "model": "own",
        "data": {"source": "ring", "shape": [9, 2]},
        "latent": {"size": 2},
        "generator": {"kind": "sequential", "options": {"layers": {"0": layer}}},
        "discriminator": None,
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    words = ["measure", str(tmp_path)]
    script = f"import sys; from saddlegan.workbench import cli; cli.run({words!r}); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "classes of the module no_such.nets: pass --import no_such.nets" in done.stderr
    assert not set(done.stdout.split()) & {"torch", "scipy", "pandas", "matplotlib"}
