"""The ladder of lambda for any pair."""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import MutableMapping, Sequence

from torch import nn

from saddlegan.certify._spectrum import Spectrum, summarise
from saddlegan.certify.search._deviate import best_discriminator, best_generator
from saddlegan.certify.search._judge import check_lam, judge_by_search, judge_exactly, prepare, refuted_by_discriminator
from saddlegan.certify.search._measure import Data, untouched
from saddlegan.checks import RandomState
from saddlegan.errors import BudgetWarning, InputError
from saddlegan.game import Game
from saddlegan.proximal import Norm, warn_if_piecewise_linear
from saddlegan.results import Certificate
from saddlegan.search import Search

LADDER = (0.0, 0.01, 0.1, 1.0, 10.0, math.inf)


def critical_lambda(
    game: Game,
    data: Data,
    *,
    lams: Sequence[float] = LADDER,
    norm: Norm = "sobolev",
    search: Search | None = None,
    random_state: RandomState = 0,
    exact: bool = True,
    thorough: bool = True,
    deviations: MutableMapping[float, nn.Module] | None = None,
) -> Spectrum:
    """Climb from Stackelberg (lambda 0) to Nash (infinity) and say where the pair stops being an equilibrium.

    The discriminator's deviation does not depend on lambda and is searched once. A generator found at one lambda is
    tried again at every larger one, where its gain can only be larger: so the gains rise along the ladder up to their
    standard errors. The significance level is shared out over the whole ladder.

    Args:
        game: the pair.
        data: real samples, see `nash`.
        lams: the ladder, non-negative numbers; infinity is Nash.
        norm: "sobolev", "l2" or "parameters".
        search: settings of the searches.
        random_state: seed or generator.
        exact: whether to use exact best responses where the pair has them.
        thorough: whether the generator is searched at a finite lambda even where the discriminator's gain, the same at
            every lambda, refutes the pair by itself. No verdict depends on it; left out, that gain is NaN.
        deviations: filled with the generator's best deviation at each lambda that was searched, copies in evaluation
            mode as `generator_deviation` gives them.

    Returns:
        `Spectrum` with one certificate for each lambda and the enclosure of the critical one.

    Raises:
        ObjectiveError: the objective is not zero-sum.
        InputError: the ladder is empty or holds a negative number; see `nash`.

    References:
        [FO20] nestedness of proximal equilibria; theory 2.

    Example:
        >>> import torch
        >>> from saddlegan.certify import matrix_game
        >>> pennies = matrix_game([[1.0, -1.0], [-1.0, 1.0]], row=[0.5, 0.5], column=[0.5, 0.5])
        >>> print(critical_lambda(pennies, torch.zeros(1, 2)).sentence)
        The pair is proved to be a Nash equilibrium, and with it a proximal equilibrium for every lambda.
    """
    ladder = sorted({check_lam(lam, norm, name="lams") for lam in lams})
    if not ladder:
        raise InputError("`lams` must hold at least one lambda, got none")
    certificates: dict[float, Certificate] = {}
    with untouched(data):
        prepared = prepare(
            game, data, "`certify.critical_lambda`", search=search, random_state=random_state, exact=exact
        )
        if prepared.exact is not None:
            for lam in ladder:
                certificate = judge_exactly("proximal", prepared.exact, lam=lam)
                if certificate is not None:
                    certificates[lam] = certificate
        searched = len(certificates) < len(ladder)
        if searched:
            if any(0 < lam < math.inf for lam in ladder):
                warn_if_piecewise_linear(game.D, norm)
            arena = prepared.arena()
            finite = [lam for lam in ladder if math.isfinite(lam) and lam not in certificates]
            arena.planned = 2 + len(finite)  # D's, G's on V itself, and one at each finite lambda
            discriminator = best_discriminator(arena)
            measurable = bool(arena.held_out_value.isfinite().all())
            if finite and measurable and not thorough:
                alone = refuted_by_discriminator(
                    "proximal", arena, discriminator, lam=finite[0], norm=norm, tests=2 * len(ladder)
                )
                if alone is not None:
                    arena.planned = 2
                    for lam in finite:
                        certificates[lam] = dataclasses.replace(alone, stats={**alone.stats, "lam": lam})
            # what was found for V itself is tried at every lambda, and what was found at one lambda at the next
            known = [best_generator(arena)] if measurable else []
            first = tuple(known)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", BudgetWarning)  # each certificate's status says it
                for lam in ladder:
                    if lam not in certificates:
                        certificates[lam], found = judge_by_search(
                            "proximal",
                            arena,
                            lam=lam,
                            norm=norm,
                            tests=2 * len(ladder),
                            discriminator=discriminator,
                            known=tuple(known),
                        )
                        known = [*first, *([found] if found is not None else [])]
                        if found is not None and deviations is not None:
                            deviations[lam] = found.player
    return summarise(certificates, stats={"norm": norm, "method": "gradient search" if searched else "exact"})
