"""A run opened once: its game, data, solution and scaling, which every command that reads a run hands on."""

from __future__ import annotations

import dataclasses
import functools
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch

from saddlegan.errors import RunError
from saddlegan.game import Game, PathNormPenalty, SecondMomentPenalty
from saddlegan.networks import TwoLayerDiscriminator
from saddlegan.results import Solution
from saddlegan.workbench.data import sources
from saddlegan.workbench.data.sources import Data
from saddlegan.workbench.runs import shapes
from saddlegan.workbench.runs.certificate import read_solution
from saddlegan.workbench.runs.config import LatentSpec
from saddlegan.workbench.runs.folder import Run
from saddlegan.workbench.runs.players import draw_latents

CPU = torch.device("cpu")
DATA_FILE = "data.npy"  # rows that were handed over from memory


@dataclasses.dataclass(frozen=True)
class OpenRun:
    """A run folder with what lies behind it; the parts are read when they are first asked for.

    Attributes:
        run: the folder.
        device: where the pair and its rows are put.
    """

    run: Run
    device: torch.device = CPU

    @functools.cached_property
    def data(self) -> Data:
        """The data that the run was made from, as the run saw them.

        Raises:
            DataError: they are gone, or have changed.
        """
        return data_of(self.run)

    @functools.cached_property
    def solution(self) -> Solution | None:
        """What a fit proved; None for a run that was not solved."""
        return read_solution(self.run)

    @functools.cached_property
    def game(self) -> Game:
        """The game that the run's pair plays, with the penalties of a solved one.

        Raises:
            RunError: the run has no discriminator, or a file is damaged.
        """
        return self.game_of(self.run.config.objective)

    def game_of(self, objective: str) -> Game:
        """The same pair on another value."""
        config = self.run.config
        G = self.run.load_generator().requires_grad_(True).to(self.device)
        D = self.run.load_discriminator().requires_grad_(True).to(self.device)
        latent = config.latent.size if config.latent.kind == "gaussian" else _sampler(config.latent, G)
        penalty_G, penalty_D = None, None
        if self.solution is not None and isinstance(D, TwoLayerDiscriminator):
            penalty_G, penalty_D = SecondMomentPenalty(D.center), PathNormPenalty(self.solution.stats["beta"])
        return Game(
            G,
            D,
            objective=objective,
            latent=latent,
            generator_penalty=penalty_G,
            discriminator_penalty=penalty_D,
        )

    def rows(self, game: Game) -> torch.Tensor:
        """The data in the generator's own units and shape.

        Raises:
            RunError: the generator makes samples of another length.
        """
        return self.in_units_of(game, self.data.X)

    def in_units_of(self, game: Game, X: np.ndarray) -> torch.Tensor:
        """Rows (n, d) in data units as the generator's own units and shape.

        Raises:
            RunError: the generator makes samples of another length.
        """
        config = self.run.config
        rows = np.array(X)
        if config.sample_scale != 1.0 or config.sample_offset != 0.0:
            rows = (rows.astype(np.float64) - config.sample_offset) / config.sample_scale
        return shaped(game, rows, image_shape=config.data.image_shape, of=str(self.run.path)).to(self.device)

    def sample(self, n: int, *, seed: int = 0) -> np.ndarray:
        """Draw n samples (n, d) in data units."""
        return self.run.sample(n, seed)


def shaped(game: Game, X: np.ndarray, *, image_shape: tuple[int, ...] | None, of: str) -> torch.Tensor:
    """Rows (n, d) in the shape of the generator's samples.

    Args:
        game: whose generator it is.
        X: the rows, in its units.
        image_shape: (h, w) or (h, w, c) if the rows are pictures.
        of: what the generator belongs to, for a message.

    Raises:
        RunError: the generator makes samples of another length, or cannot be run.
    """
    try:
        shape = shapes.sample_shape(game)
    except (RuntimeError, IndexError, MemoryError) as error:
        raise RunError(f"the generator of {of} cannot be run on its latents: {error}") from error
    if X.shape[1] != math.prod(shape):
        raise RunError(f"the generator of {of} makes samples of length {math.prod(shape)}, its data {X.shape[1]}")
    return shapes.to_samples(torch.from_numpy(np.array(X)), shape, image_shape)


def data_of(run: Run) -> Data:
    """The data of a run, from its own folder where it holds them: such a folder can be moved.

    Raises:
        DataError: they are gone, or have changed.
    """
    spec = run.config.data
    if run.has(DATA_FILE):
        spec = spec.model_copy(update={"source": str(run.path / DATA_FILE)})
    return sources.load_spec(spec)


def load(path: str | Path, *, device: torch.device = CPU) -> OpenRun:
    """Open a run folder.

    Args:
        path: the folder.
        device: where its pair computes.

    Raises:
        RunError: no such folder, or not a saddlegan run.
    """
    return OpenRun(Run.open(path), device)


def _sampler(spec: LatentSpec, G: torch.nn.Module) -> Any:
    dtype = next((p.dtype for p in G.parameters()), torch.float32)

    def draw(n: int, generator: torch.Generator | None) -> torch.Tensor:
        return draw_latents(spec, n, torch.Generator() if generator is None else generator, dtype)

    return draw
