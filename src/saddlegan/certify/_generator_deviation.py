"""The generator's best deviation itself, to look at: freeze D, keep training G."""

from __future__ import annotations

import math

from torch import nn

from saddlegan.certify.search._deviate import best_generator
from saddlegan.certify.search._judge import check_lam, prepare
from saddlegan.certify.search._measure import Data, untouched
from saddlegan.certify.search._nested import best_proximal_generator
from saddlegan.checks import RandomState
from saddlegan.game import Game
from saddlegan.proximal import Norm, warn_if_piecewise_linear
from saddlegan.search import Search


def generator_deviation(
    game: Game,
    data: Data,
    *,
    lam: float = math.inf,
    norm: Norm = "sobolev",
    search: Search | None = None,
    random_state: RandomState = 0,
) -> nn.Module:
    """Return the generator found to lower V(., D*) most, or V_lam(., D*): a copy in evaluation mode.

    Its samples were held in `search.domain` while it was searched; the copy itself is not held.

    Its samples show what a certificate's generator gain means: at a pair that is not a Nash equilibrium they tend to
    degrade although V falls.

    Args:
        game: the pair; left as it is.
        data: real samples, see `nash`.
        lam: infinity for V itself.
        norm: "sobolev", "l2" or "parameters".
        search: settings of the search.
        random_state: seed or generator.

    Returns:
        A generator.

    Raises:
        ObjectiveError: the objective is not zero-sum.
        InputError: see `nash` and `proximal`.

    References:
        [FO20] section 6; theory 2.3.

    Example:
        >>> import torch
        >>> from saddlegan.networks import LinearGenerator, MLP
        >>> rng = torch.Generator().manual_seed(0)
        >>> game = Game(LinearGenerator(2, 2, generator=rng), MLP(2, 1, hidden=(8,)), latent=2)
        >>> moved = generator_deviation(game, torch.randn(256, 2, generator=rng), search=Search(steps=5, restarts=1))
        >>> moved(torch.zeros(3, 2)).shape
        torch.Size([3, 2])
    """
    lam = check_lam(lam, norm)
    with untouched(data):
        prepared = prepare(
            game, data, "`certify.generator_deviation`", search=search, random_state=random_state, exact=False
        )
        arena = prepared.arena()
        if math.isinf(lam):
            return best_generator(arena).player
        if lam > 0:
            warn_if_piecewise_linear(game.D, norm)
        return best_proximal_generator(arena, lam=lam, norm=norm).player
