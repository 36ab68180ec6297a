"""Judging an opened run: the ladder from Stackelberg to Nash, written into its certificate."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import nn

from saddlegan import objectives
from saddlegan.certify import Norm, Search, Spectrum, critical_lambda, generator_deviation, gradient_norms
from saddlegan.errors import ObjectiveError
from saddlegan.game import Game
from saddlegan.proximal import piecewise_linear_part
from saddlegan.results import Status, as_dict
from saddlegan.workbench.report.sections.equilibrium import KEY, PICTURE, Equilibrium, before_and_after
from saddlegan.workbench.runs.certificate import add
from saddlegan.workbench.runs.opened import OpenRun
from saddlegan.workbench.training.place import threads_for


def value_of(opened: OpenRun, objective: str | None) -> tuple[str, str]:
    """The zero-sum value to judge by, and a sentence where it was chosen; the twin of a loss that is not zero-sum.

    Raises:
        ObjectiveError: there is none.
    """
    own = opened.run.config.objective
    found = objectives.get(own if objective is None else objective)
    if found.zero_sum:
        return found.name, ""
    if objective is None and found.twin is not None:
        return found.twin, (
            f"{own!r} is not zero-sum: judged by its zero-sum twin {found.twin!r} (--objective chooses another)"
        )
    known = ", ".join(name for name, each in objectives.OBJECTIVES.items() if each.zero_sum)
    raise ObjectiveError(f"{found.name!r} is not zero-sum, so no equilibrium of it can be judged; --objective: {known}")


def norm_for(D: nn.Module, norm: Norm | None) -> tuple[Norm, str]:
    """The distance of the proximal term, and a sentence where the discriminator decided it."""
    if norm is not None:
        return norm, ""
    if piecewise_linear_part(D) is None:
        return "sobolev", ""
    return "l2", "the discriminator is piecewise linear, which the Sobolev distance cannot follow: --norm l2"


def judge(
    opened: OpenRun,
    *,
    objective: str,
    lams: Sequence[float],
    norm: Norm,
    search: Search,
    seed: int,
    thorough: bool = False,
) -> Spectrum:
    """Certify a run's pair along a ladder of lambda and write the outcome into the run.

    Args:
        opened: the run.
        objective: the zero-sum value to judge by.
        lams: proximal weights between Stackelberg (0) and Nash (infinity), which are always added.
        norm: distance of the proximal term.
        search: settings of the searches.
        seed: of splits, batches and perturbations.
        thorough: search the generator at every lambda, even where D alone refutes the pair.

    Raises:
        RunError: the run is being written by another process.
    """
    with opened.run.writing():  # a training that goes on would put a new D beside an old G
        game = opened.game_of(objective)
        with threads_for(game.G, game.D):
            return _judge(opened, game, lams, norm, search, seed, thorough)


def _judge(
    opened: OpenRun, game: Game, lams: Sequence[float], norm: Norm, search: Search, seed: int, thorough: bool
) -> Spectrum:
    run, X = opened.run, opened.rows(game)
    ladder = sorted({0.0, *lams, math.inf})
    moves: dict[float, nn.Module] = {}
    found = critical_lambda(
        game, X, lams=ladder, norm=norm, search=search, random_state=seed, thorough=thorough, deviations=moves
    )
    norms = gradient_norms(game, X, random_state=seed)
    entry = Equilibrium(**vars(found), gradient_norms=norms, norm=norm, objective=game.objective.name)
    add(run, KEY, as_dict(entry))
    nash = found.certificates[-1]
    computed = nash.status is Status.OPTIMAL  # exactly: only a refuted pair has a deviation to show
    if (nash.verdict == "refuted" or not computed) and not math.isinf(nash.generator_gain):
        # where the spectrum was computed exactly there is none yet
        moved = moves.get(math.inf) or generator_deviation(game, X, search=search, random_state=seed)
        run.write_bytes(PICTURE, before_and_after(run, game, moved, seed=seed))
    return found
