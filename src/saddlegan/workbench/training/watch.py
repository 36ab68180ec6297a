"""Certificates over a training: the proximal duality gap every so many steps, and stopping once it is small."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, final

import numpy as np
from torch import Tensor, nn

from saddlegan import objectives
from saddlegan.certify import Search, Watch
from saddlegan.errors import InputError, ObjectiveError
from saddlegan.game import Game
from saddlegan.results import Step
from saddlegan.workbench.data.sources import Data
from saddlegan.workbench.training.session import Session

ROWS = 8192  # of the data, at most: a sample of that size measures a gap well enough, and every one costs time
BATCH = 64


@final
class Watched:
    """Measures a session's proximal duality gap: a callback of the loop that is also its source of further figures.

    Judged is what the run saves, the averaged generator against the discriminator, on the value without penalties or
    instance noise. All measurements of a run share lambda, rows, seed and budget, so that they can be compared. Only
    copies are searched: a training with certificates has the same bits as one without.

    Args:
        session: what trains; its recipe says when, at which lambda and norm, on which value, and when to stop.
        data: its data.

    Attributes:
        said: where the value was chosen, a sentence that says so, else "".

    Raises:
        ObjectiveError: the value is not zero-sum, and has no twin that is.
        InputError: the data are too few to judge on.
    """

    def __init__(self, session: Session, data: Data) -> None:
        recipe = session.recipe
        played = objectives.get(recipe.objective)
        name, self.said = played.name, ""
        if recipe.certify_objective is not None:
            name = objectives.get(recipe.certify_objective).name
            known = [word for word, each in objectives.OBJECTIVES.items() if each.zero_sum]
            if name not in known:
                raise ObjectiveError(f"`certify_objective` must be zero-sum, one of {', '.join(known)}; got {name!r}")
        elif not played.zero_sum and played.twin is not None:
            name = played.twin
            self.said = (
                f"{played.name!r} is not zero-sum: gaps are measured on its zero-sum twin {name!r} "
                "(--certify-objective chooses another)"
            )
        elif not played.zero_sum:
            raise ObjectiveError(
                f"`certify_every` without `certify_objective` needs a zero-sum `objective` or one with a twin, "
                f"got {name!r}"
            )
        if len(data.X) < 8:
            raise InputError(f"`certify_every` needs at least 8 rows of data to judge on, got {len(data.X)}")
        self._session = session
        self._found: Mapping[str, Any] = {}
        self._pairs = [(_copy(G), _copy(D)) for G, D in self._players()]
        X = _rows(session, data)
        search = Search(
            steps=recipe.certify_steps,
            batch_size=min(BATCH, len(X) // 2),
            evaluations=min(10, -(-recipe.certify_steps // 10)),
        )
        self._watches = [
            Watch(
                Game(G, D, objective=name, latent=session.single_latent),
                X,
                every=1,
                lam=recipe.lam,
                below=recipe.stop_below,
                norm=recipe.norm,
                search=search,
                random_state=recipe.seed,
            )
            for G, D in self._pairs
        ]

    def _players(self) -> list[tuple[nn.Module, nn.Module]]:
        return list(zip(self._session.generators(), self._session.discriminators(), strict=True))

    def after_step(self, done: int, step: Step) -> bool:
        """Measure if it is time to; stop once the gap of every seed, with its error, is below the level."""
        del step
        self._found = {}
        return self._session.recipe.certified_after(done) and self._measure(done)

    def _measure(self, done: int) -> bool:
        players = self._players()
        if not all(bool(p.isfinite().all()) for pair in players for player in pair for p in player.parameters()):
            return False  # the next loss is not finite either, and ends the run with a better message
        for twins, pair in zip(self._pairs, players, strict=True):
            for twin, player in zip(twins, pair, strict=True):
                twin.load_state_dict(player.state_dict())
        small = [watch(done) for watch in self._watches]
        certificates = [watch.history[-1][1] for watch in self._watches]
        gaps = [certificate.gap for certificate in certificates]
        errors = [certificate.standard_error for certificate in certificates]
        self._found = {
            "proximal_gap": float(np.mean(gaps)),
            "proximal_gap_error": float(np.sqrt(np.sum(np.square(errors)))) / len(errors),
            "generator_gain": float(np.mean([certificate.generator_gain for certificate in certificates])),
            "discriminator_gain": float(np.mean([certificate.discriminator_gain for certificate in certificates])),
        }
        if len(gaps) > 1:
            self._found = {**self._found, "proximal_gap_by_seed": gaps}
        return all(small)

    def after_metrics(self, row: Mapping[str, Any]) -> bool:
        """Never stops."""
        del row
        return False

    def figures(self, session: Session) -> Mapping[str, Any]:
        """What was measured after the newest step, for its line of `metrics.jsonl`; nothing if nothing was.

        Before the first step the untrained pair is measured: the gap that later ones are to be read against.
        """
        if session.steps_done == 0:
            self._measure(0)
        return self._found


def _copy(player: nn.Module) -> nn.Module:
    """A moving average asks for no gradient, but the search must be able to move its copy."""
    return copy.deepcopy(player).requires_grad_(True)


def _rows(session: Session, data: Data) -> Tensor:
    """Rows of the data, the same for every measurement, in the networks' units."""
    rng = np.random.default_rng(session.recipe.seed)
    chosen = np.sort(rng.choice(len(data.X), min(ROWS, len(data.X)), replace=False))
    return session.rows(data.X[chosen])
