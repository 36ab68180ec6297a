"""The examples run, the standalone one without the library, and the image pair keeps what its docstrings promise."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest
import torch

from saddlegan import Game, networks, train
from saddlegan.errors import InputError
from saddlegan.workbench.runs import players

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.mark.parametrize("name", ["your_own_pair", "standalone_proximal"])
def test_an_example_runs(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with torch.random.fork_rng():
        runpy.run_path(str(EXAMPLES / f"{name}.py"))["main"](10)
    assert "step 10:" in capsys.readouterr().out
    assert len((EXAMPLES / f"{name}.py").read_text().splitlines()) <= 120


def test_the_standalone_example_does_not_use_the_library() -> None:
    assert "saddlegan" not in (EXAMPLES / "standalone_proximal.py").read_text()


@pytest.mark.parametrize("size", [8, 16, 28, 32, 64])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_image_pair_at_every_size(size: int, channels: int) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        G = networks.ImageGenerator(5, size=size, channels=channels, width=2)
        D = networks.ImageDiscriminator(size=size, channels=channels, width=2)
        x = torch.rand(4, size * size * channels) * 2 - 1
        game = Game(G, D, objective="non-saturating", latent=5)
        rule = train.Proximal(game, torch.optim.Adam(G.parameters()), torch.optim.Adam(D.parameters()), points=2)
        before = [p.detach().clone() for p in (*G.parameters(), *D.parameters())]
        rule.step(x)
        rule.step(x)
    fake = G(torch.zeros(4, 5))
    assert fake.shape == x.shape
    assert fake.abs().max().item() <= 1.0
    after = list((*G.parameters(), *D.parameters()))
    assert all(not torch.equal(a, b) for a, b in zip(before, after, strict=True))
    for module in (G, D):
        spec = players.network_spec(module)
        again = players.build_network(spec)
        again.load_state_dict(module.state_dict())
        assert players.network_spec(again) == spec


def test_rows_are_height_width_channel() -> None:
    """A discriminator whose first filter reads the red channel alone sees exactly every third value."""
    D = networks.ImageDiscriminator(size=8, channels=3, width=1, spectral=False)
    with torch.no_grad():
        convolution = D.layers[0]
        assert isinstance(convolution, torch.nn.Conv2d)
        convolution.weight[:, 1:] = 0.0
    x = torch.rand(2, 8, 8, 3)
    other = x.clone()
    other[..., 1:] = torch.rand(2, 8, 8, 2)
    assert torch.equal(D(x.flatten(1)), D(other.flatten(1)))
    other[..., 0] += 1.0
    assert not torch.equal(D(x.flatten(1)), D(other.flatten(1)))


def test_spectral_weights_have_the_gain_as_largest_singular_value() -> None:
    D = networks.ImageDiscriminator(size=8, width=2, gain=2.0)
    for _ in range(60):
        D(torch.rand(2, 64))
    linear = D.layers[-1]
    weight = linear.weight
    assert isinstance(weight, torch.Tensor)
    assert np.linalg.norm(weight.detach().numpy(), 2) == pytest.approx(2.0, rel=1e-5)


def test_wrong_sizes_are_refused() -> None:
    with pytest.raises(InputError, match="8, 16, 28, 32, 64"):
        networks.ImageGenerator(4, size=24)
    with pytest.raises(InputError, match="channels"):
        networks.ImageDiscriminator(size=8, channels=2)
    with pytest.raises(InputError, match="width"):
        networks.ImageDiscriminator(size=8, width=0)
    with pytest.raises(InputError, match="activation"):
        networks.ImageDiscriminator(size=8, activation="relu")
