"""On a GPU: precisions, compiled players, states and features, against the same on the CPU."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.amp.grad_scaler import GradScaler

from saddlegan import Game, networks, train
from saddlegan.workbench import cli
from saddlegan.workbench.data import sources
from saddlegan.workbench.training.place import Place
from saddlegan.workbench.training.recipe import make_recipe
from saddlegan.workbench.training.session import Session
from saddlegan.workbench.training.watch import Watched
from train_cases import RULES, adam, bits, data, largest_difference, mlp_game, same_bits, sgd

DEVICE = "cuda"

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA")]


def source(seed: int = 3) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def there(game: Game) -> Game:
    game.G.to(DEVICE)
    game.D.to(DEVICE)
    return game


def here(tensors: list[Tensor]) -> list[Tensor]:
    return [tensor.cpu().double() for tensor in tensors]


def single() -> Game:
    """The shared pair in float32."""
    game = mlp_game(activation="silu")
    game.G.float()
    game.D.float()
    return game


@pytest.mark.parametrize("name", RULES)
def test_a_loaded_state_goes_on_to_the_same_bits(name: str) -> None:
    game, other = there(mlp_game()), there(mlp_game(seed=9))
    rule, fresh = RULES[name](game, source(), None), RULES[name](other, source(8), None)
    for seed in range(3):
        rule.step(data(seed=seed).to(DEVICE))
    fresh.load_state_dict(copy.deepcopy(rule.state_dict()))
    for seed in range(3, 6):
        rule.step(data(seed=seed).to(DEVICE))
        fresh.step(data(seed=seed).to(DEVICE))
    assert same_bits(bits(game), bits(other))


@pytest.mark.parametrize(("dtype", "within"), [(torch.bfloat16, 3e-2), (torch.float16, 4e-3)])
def test_half_precision_stays_near_single_precision(dtype: torch.dtype, within: float) -> None:
    """Oracle: the same moves on the CPU in float64; what is left is the rounding of each precision."""
    exact, game = mlp_game(activation="silu"), there(single())
    before = here(bits(exact))
    scaler = GradScaler(DEVICE, init_scale=2.0**10) if dtype == torch.float16 else None
    one = train.Alternating(exact, *sgd(exact, lr=0.5), generator=source())
    two = train.Alternating(game, *sgd(game, lr=0.5), generator=source(), scaler=scaler)
    # latents drawn in float64 and in float32 from one seed are different numbers
    fixed = iter([data(8, seed=seed) for seed in range(100, 108)] * 2)
    exact.latent = lambda n, generator: torch.cat([z := next(fixed), z[:, :1]], dim=1)
    again = iter([data(8, seed=seed).float().to(DEVICE) for seed in range(100, 108)] * 2)
    game.latent = lambda n, generator: torch.cat([z := next(again), z[:, :1]], dim=1)
    for seed in range(4):
        one.step(data(seed=seed))
        with torch.autocast(DEVICE, dtype=dtype):
            step = two.step(data(seed=seed).float().to(DEVICE))
        assert math.isfinite(step.value)
    assert two.skipped == 0
    assert all(p.dtype == torch.float32 for p in (*game.G.parameters(), *game.D.parameters()))
    off = largest_difference(bits(exact), here(bits(game)))
    assert 0.0 < off < within
    assert largest_difference(before, here(bits(game))) > 10 * within


def test_an_overflow_on_the_device_skips_the_step() -> None:
    game = there(single())
    scaler = GradScaler(DEVICE, init_scale=2.0**127)
    rule = train.Alternating(game, *adam(game), generator=source(), scaler=scaler)
    with torch.no_grad():
        next(game.D.parameters()).mul_(1e3)
    before = bits(game)
    assert math.isnan(rule.step(data().float().to(DEVICE)).value)
    assert rule.skipped == 1
    assert scaler.get_scale() == 2.0**126
    assert same_bits(bits(game), before)


@pytest.fixture
def _fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.filterwarnings("ignore")  # the compiler's own, which change from release to release
@pytest.mark.usefixtures("_fresh_compiler")
def test_players_compiled_to_kernels_play_the_same_game() -> None:
    plain, other = mlp_game(), there(mlp_game())
    plain.discriminator_penalty = other.discriminator_penalty = None
    other = other.replace(G=torch.compile(other.G), D=torch.compile(other.D))  # type: ignore[arg-type]
    one, two = RULES["alternating"](plain, source(), None), RULES["alternating"](other, source(), None)
    for seed in range(3):
        one.step(data(seed=seed))
        two.step(data(seed=seed).to(DEVICE))
    assert largest_difference(bits(plain), here(bits(other))) < 1e-9


def test_multiscale_features_are_drawn_and_taken_there() -> None:
    phi = networks.MultiscaleFeatures(2, 8, low=1.0, high=16.0, generator=torch.Generator(DEVICE).manual_seed(0))
    x = data().float()
    assert phi.frequencies.device.type == phi(x.to(DEVICE)).device.type == torch.device(DEVICE).type
    on_cpu = copy.deepcopy(phi).cpu()(x)
    assert torch.allclose(phi(x.to(DEVICE)).cpu(), on_cpu, atol=1e-5)


def test_a_training_on_the_device_is_the_one_on_the_cpu() -> None:
    """Oracle: the same session on the CPU; batches, latents and noise are drawn there for both."""
    data = sources.load("ring", n_samples=200)
    options = {"hidden": (16,), "batch": 16, "certify_every": 4, "certify_steps": 3, "activation": "softplus"}
    plain = Session(make_recipe(**options), data)
    other = Session(make_recipe(**options), data, place=Place(torch.device(DEVICE)))
    for session in (plain, other):
        watched = Watched(session, data)
        for done in range(1, 5):
            watched.after_step(done, session.step())
        assert math.isfinite(watched.figures(session)["proximal_gap"])
    assert all(p.device.type == DEVICE for p in other._G.parameters())
    assert largest_difference(here([*plain._G.parameters()]), here([*other._G.parameters()])) < 1e-4
    first, second = (session.samples(50, seed=1)[0] for session in (plain, other))
    assert abs(first - second).max() < 1e-3
    other.load_state_dict(copy.deepcopy(other.state_dict()))


def test_commands_say_the_device_and_compute_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "run")
    small = ["--hidden", "8", "--batch", "16", "--n-samples", "200", "--steps", "3", "--amp", "bf16", "--out", out]
    fast = ["--steps", "2", "--restarts", "1", "--batch-size", "16", "--lam", "1"]
    for words in (
        ["train", "ring", *small],
        ["train", "--resume", out, "--steps", "3"],
        ["certify", out, *fast],
        ["diagnose", out],
    ):
        assert cli.run(words) == 0, words
        assert capsys.readouterr().out.startswith(f"device: cuda ({torch.cuda.get_device_name()})\n")
