"""A pair of your own, saved as a run, opened again and judged.

Run it: python examples/own_pair_certified.py [folder]

The same from a shell, in the folder of this file, with samples in x.npy; `certify` takes the untrained pair as well,
by the words that `train` takes here:

    saddlegan diagnose own_pair_certified:make_game --data x.npy --report diagnosis.html
    saddlegan train own_pair_certified:make_game --data x.npy --out runs/mine
    saddlegan certify runs/mine --import own_pair_certified
    saddlegan sample runs/mine --import own_pair_certified -n 100 --out samples.npy
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import torch
from torch import Tensor, nn

import saddlegan
from saddlegan import Game, certify


class Residual(nn.Module):
    """A generator of one's own: it keeps each argument in an attribute of the same name, so that it can be saved."""

    def __init__(self, size: int, width: int = 32) -> None:
        super().__init__()
        self.size = size
        self.width = width
        self.inner = nn.Sequential(nn.Linear(size, width), nn.SiLU(), nn.Linear(width, size))

    def forward(self, z: Tensor) -> Tensor:
        """Latents (n, size) to samples (n, size)."""
        return z + self.inner(z)


def make_game() -> Game:
    torch.manual_seed(0)
    D = nn.Sequential(nn.Linear(2, 32), nn.SiLU(), nn.Linear(32, 1))
    return Game(Residual(2), D, objective="vanilla", latent=2)


def main(folder: Path) -> None:
    X = 3.0 + torch.randn(512, 2, generator=torch.Generator().manual_seed(1))
    saddlegan.save(folder / "mine", make_game(), X=X)
    run = saddlegan.load(folder / "mine", modules=[Residual.__module__])
    print("samples", run.sample(5).shape, "of data", run.data.X.shape)
    found = certify.nash(run.game, X, search=certify.Search(steps=50, restarts=1))
    print("Nash:", found.verdict)


if __name__ == "__main__":
    # classes of a script cannot be imported again: run the module instead
    import own_pair_certified

    if len(sys.argv) > 1:
        own_pair_certified.main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as place:
            own_pair_certified.main(Path(place))
