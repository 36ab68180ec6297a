"""Anybody's pair as a run folder, and any run folder back: `saddlegan.save` and `saddlegan.load`."""

from __future__ import annotations

import importlib
import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from saddlegan import objectives, train
from saddlegan.errors import InputError, InputTypeError, RunError
from saddlegan.game import Game
from saddlegan.workbench.data import sources
from saddlegan.workbench.data.spec import DataSpec
from saddlegan.workbench.report import page
from saddlegan.workbench.runs import folder, players
from saddlegan.workbench.runs.config import LatentSpec, RunConfig
from saddlegan.workbench.runs.opened import DATA_FILE, OpenRun

CHECKED_ROWS = 8  # samples on which the written pair is compared with the given one


class Run(OpenRun):
    """A run folder opened once: `.game`, `.data`, `.solution`, `.sample(n)` and `.report()`."""

    def report(self) -> Path:
        """Write `report.html` again and return its path.

        Raises:
            DataError: the data are gone, or have changed.
        """
        return page.write(self.run, data=self.data)


def load(path: str | Path, *, modules: Sequence[str] = ()) -> Run:
    """Open a run that `saddlegan fit`, `train` or `save` made.

    Args:
        path: the folder.
        modules: names of modules to import first, where the networks' classes are your own. Nothing else is imported
            and nothing is unpickled.

    Raises:
        RunError: not a run, or a module cannot be imported.
    """
    import_modules(modules)
    return Run(folder.Run.open(path))


def save(
    path: str | Path,
    game: Game,
    *,
    data: str | Path | None = None,
    X: Any = None,
    overwrite: bool = False,
) -> Run:
    """Write a pair of one's own as a run folder, which every command reads.

    Classes are kept by import path, with the constructor arguments that the module holds in attributes of the same
    names; the written pair is built again and compared with the given one before anything appears. A penalty that is
    the discriminator's alone, such as R1, is not kept: the value is judged without it, as after `saddlegan train`.

    Args:
        path: the folder to make.
        game: the pair; its objective must have a name and its latent must be a number.
        data: where the real samples come from: a built-in name, a file or a folder.
        X: or the samples themselves, array or tensor (n, ...) in the generator's units; they are copied into the run.
        overwrite: replace an existing run.

    Returns:
        The `Run`.

    Raises:
        InputError: neither or both of `data` and `X`, or a game that a run cannot hold.
        InputTypeError: a network that cannot be built again from its attributes.
        RunError: `path` exists, or cannot be written.

    Example:
        >>> import tempfile
        >>> from saddlegan.networks import MLP, LinearGenerator
        >>> game = Game(LinearGenerator(2, 3), MLP(3, 1, hidden=(8,)), latent=2)
        >>> with tempfile.TemporaryDirectory() as place:
        ...     run = save(f"{place}/mine", game, X=torch.randn(100, 3))
        ...     run.sample(5).shape, run.data.X.shape
        ((5, 3), (100, 3))
    """
    if (data is None) == (X is None):
        raise InputError("give one of `data`, a source's name or path, and `X`, the samples themselves")
    latent = _kept(game, "call `certify` on it directly")
    content = b""
    if X is not None:
        rows = np.asarray(X.detach().cpu().numpy() if isinstance(X, torch.Tensor) else X)
        rows = rows.reshape(len(rows), -1)
        buffer = io.BytesIO()
        np.save(buffer, rows, allow_pickle=False)
        content = buffer.getvalue()
        spec = DataSpec(source=str(Path(path).resolve() / DATA_FILE), shape=(rows.shape[0], rows.shape[1]))
    else:
        spec = sources.load(str(data)).spec
    config = RunConfig(
        command="save",
        model="own",
        objective=game.objective.name,
        data=spec,
        latent=LatentSpec(size=latent),
        generator=players.network_spec(game.G),
        discriminator=players.network_spec(game.D),
    )
    with folder.create(path, config, generator=game.G, discriminator=game.D, overwrite=overwrite) as staged:
        _compare(game, staged.load_generator(), staged.load_discriminator())
        if content:
            staged.write_bytes(DATA_FILE, content)
    return load(path)


def import_modules(names: Sequence[str]) -> None:
    """Import modules by name, from the working folder too.

    Raises:
        RunError: one cannot be imported.
    """
    if names and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    for name in names:
        try:
            importlib.import_module(name)
        except Exception as error:  # whatever a module of somebody else's raises while it is imported
            raise RunError(f"the module {name!r} cannot be imported: {error}") from error


def game_from(words: str) -> Game:
    """Call `module:function`, which makes a `Game`.

    Raises:
        RunError: no such module or function, or it made something else.
    """
    module, _, name = words.partition(":")
    import_modules([module])
    made = getattr(sys.modules[module], name, None)
    game = made() if callable(made) else made
    if not isinstance(game, Game):
        raise RunError(f"{words} must be a saddlegan.Game or a function that makes one, got {type(game).__name__}")
    return game


@torch.no_grad()
def said_of_bytes(game: Game, X: np.ndarray) -> str:
    """A word on rows (n, d) that are bytes, which a pair of one's own gets as they are; nothing of other rows.

    Nothing either where its samples are of the same size.
    """
    if X.dtype != np.uint8:
        return ""
    try:
        made = players.copy_of(game.G)(game.sample_latent(CHECKED_ROWS, torch.Generator().manual_seed(0)).cpu())
    except (RuntimeError, IndexError):  # said by whoever runs it next
        return ""
    low, high = float(made.min()), float(made.max())
    if high - low > 255 / 4:
        return ""
    return (
        f"the data are bytes from 0 to 255, and the pair gets them as they are: its samples lie from {low:.3g} to "
        f"{high:.3g}; give a file in its own units, such as numpy.save(..., x / 127.5 - 1) for those of tanh"
    )


def trainable_game(words: str, seed: int) -> Game:
    """The game of `module:function` as `saddlegan train` takes it.

    Args:
        words: MODULE:FUNCTION.
        seed: of torch's global generator while the function draws its weights; the generator is put back.

    Raises:
        RunError: no such module or function, or it made something else.
        InputError: a game that a run cannot hold.
        InputTypeError: a network that cannot be built again from its attributes.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        game = game_from(words)
    _kept(game, "train it in a loop of your own")
    if _holds_source(game.discriminator_penalty):
        raise InputError(
            "`game.discriminator_penalty` draws from a torch.Generator of its own, which a checkpoint does not keep; "
            "leave it out: torch's global one is kept"
        )
    _compare(game, *(players.rebuilt(player) for player in (game.G, game.D)))
    return game


def _holds_source(penalty: object) -> bool:
    """Whether a penalty, or one of several, has a random source of its own."""
    parts = penalty.parts if isinstance(penalty, train.Penalties) else (penalty,)
    return any(isinstance(entry, torch.Generator) for part in parts for entry in getattr(part, "__dict__", {}).values())


def _kept(game: Game, remedy: str) -> int:
    """The length of the game's latents; refuse what belongs to the value and is not written, for it changes a verdict.

    Args:
        game: what is to be written.
        remedy: what to do instead.

    Raises:
        InputError: there is something.
    """
    lost = {
        "a value of its own": game.has_own_value,
        "`generator_penalty`": game.generator_penalty is not None,
        "`fake_transform`": game.fake_transform is not None,
        "`rows_in_groups`": game.rows_in_groups != 1,
        "a penalty that the generator plays too": game.without_discriminator_only_penalty().discriminator_penalty
        is not None,
        "an objective of its own": objectives.OBJECTIVES.get(game.objective.name) is not game.objective,
    }
    for what, present in lost.items():
        if present:
            raise InputError(f"`game` has {what}, which a run folder does not keep; {remedy}")
    if not isinstance(game.latent, int):
        raise InputError(f"`game.latent` must be a number: a run does not keep a latent function of your own; {remedy}")
    return game.latent


@torch.no_grad()
def _compare(game: Game, G: nn.Module, D: nn.Module) -> None:
    """Refuse a pair whose written form, G and D, computes something else."""
    x = game.sample_latent(CHECKED_ROWS, torch.Generator().manual_seed(0)).cpu()
    for given, built in ((game.G, G), (game.D, D)):
        # a copy, so that modes, devices and buffers of the given pair stay as they are
        expected = players.copy_of(given)(x)
        found = built(x)
        if expected.shape != found.shape or not torch.allclose(expected, found, equal_nan=True):
            raise InputTypeError(
                f"{type(given).__name__} is not the same when it is built again from its attributes; keep each "
                "argument of its constructor in an attribute of the same name"
            )
        x = expected
