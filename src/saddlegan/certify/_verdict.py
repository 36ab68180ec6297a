"""The verdicts: Nash, Stackelberg, proximal, and the two duality gaps."""

from __future__ import annotations

import math

from saddlegan.certify.search._judge import judge
from saddlegan.certify.search._measure import Data
from saddlegan.checks import RandomState
from saddlegan.game import Game
from saddlegan.proximal import Norm
from saddlegan.results import Certificate
from saddlegan.search import Search


def nash(
    game: Game, data: Data, *, search: Search | None = None, random_state: RandomState = 0, exact: bool = True
) -> Certificate:
    """Ask whether a pair is a Nash equilibrium: V(G*, D) <= V(G*, D*) <= V(G, D*) for all G and D.

    Each player's best deviation is searched by gradient steps on one part of the data, chosen on a second and
    measured on a third, so that the gains are lower bounds: a significant one refutes the equilibrium, none proves
    it. Where the pair belongs to a class with exact best responses the gains are exact and the verdict can be
    "proved", for the empirical distribution of `data`. The game, its modes, gradients and random states are left as
    they were.

    Args:
        game: the pair.
        data: real samples: array or tensor (n, ...), DataLoader, or callable n, generator -> (n, ...); for conditional
            pairs a tuple (x, *conditions) or a mapping with an "x", given, sampled or loaded.
        search: settings of the search.
        random_state: seed or generator of splits, batches and perturbations.
        exact: whether to use exact best responses where the pair has them.

    Returns:
        A `Certificate`; `stats` holds V, the curves of both searches, thresholds and settings.

    Raises:
        ObjectiveError: the objective is not zero-sum.
        InputError: NaN in data or weights, shapes that do not fit, fewer samples than two batches.

    References:
        [FO20] section 2; [G19].

    Example:
        >>> import torch
        >>> from saddlegan import Game
        >>> from saddlegan.networks import LinearGenerator, MLP
        >>> rng = torch.Generator().manual_seed(0)
        >>> game = Game(LinearGenerator(2, 2, generator=rng), MLP(2, 1, hidden=(8,)), latent=2)
        >>> nash(game, 3.0 + torch.randn(1024, 2, generator=rng), search=Search(steps=40, restarts=1)).verdict
        'refuted'
    """
    return judge(
        "nash", game, data, lam=math.inf, norm="parameters", search=search, random_state=random_state, exact=exact
    )


def stackelberg(
    game: Game, data: Data, *, search: Search | None = None, random_state: RandomState = 0, exact: bool = True
) -> Certificate:
    """Ask whether G* minimises max_D V(G, D), with D* its best response: the proximal equilibrium at lam = 0.

    The generator's gain is V(G*, D*) - min_G max_D V(G, D), signed: it is negative where D* is far from its best.

    Args:
        game: the pair.
        data: real samples, see `nash`.
        search: settings of the search.
        random_state: seed or generator.
        exact: whether to use exact best responses where the pair has them.

    Returns:
        A `Certificate`.

    Raises:
        ObjectiveError: the objective is not zero-sum.
        InputError: see `nash`.

    References:
        [FO20] definition of Stackelberg equilibria; theory 2.

    Example:
        >>> import torch
        >>> from saddlegan.certify import matrix_game
        >>> stackelberg(matrix_game([[0.0, 2.0], [3.0, 1.0]], row=[1.0, 0.0], column=[0.0, 1.0]), torch.zeros(1, 2))
        Certificate(kind='stackelberg', gap=0.5, generator_gain=0.5, ..., verdict='refuted', ...)
    """
    return judge(
        "stackelberg", game, data, lam=0.0, norm="parameters", search=search, random_state=random_state, exact=exact
    )


def proximal(
    game: Game,
    data: Data,
    *,
    lam: float,
    norm: Norm = "sobolev",
    search: Search | None = None,
    random_state: RandomState = 0,
    exact: bool = True,
) -> Certificate:
    """Ask whether a pair is a lam-proximal equilibrium: a Nash equilibrium of V_lam, equation (3).

    V_lam(G, D) = max_D' V(G, D') - (lam/2) ||D' - D||^2. The generator's search descends V_lam with an inner
    discriminator that follows it; the generator that it ends with is measured with a full inner search, from several
    starts, on the held-out sample itself. That inner maximum is a search too: what it was still growing by
    (`stats["inner_slack"]`) must be cleared by a gain before it refutes, and the generator's gain bounds nothing
    strictly, so that `bound` is "none" unless the discriminator's gain refutes.

    Args:
        game: the pair.
        data: real samples, see `nash`.
        lam: weight of the proximal term; 0 is Stackelberg, infinity Nash.
        norm: "sobolev", "l2" or "parameters".
        search: settings of the search.
        random_state: seed or generator.
        exact: whether to use exact best responses where the pair has them.

    Returns:
        A `Certificate`.

    Raises:
        ObjectiveError: the objective is not zero-sum.
        InputError: `lam` or `norm` is out of range; see `nash`.

    References:
        [FO20] definition of proximal equilibria and their nestedness; theory, equation (3).

    Example:
        >>> import torch
        >>> from saddlegan.certify import matrix_game
        >>> pennies = matrix_game([[1.0, -1.0], [-1.0, 1.0]], row=[0.5, 0.5], column=[0.5, 0.5])
        >>> proximal(pennies, torch.zeros(1, 2), lam=1.0).verdict
        'proved'
    """
    return judge("proximal", game, data, lam=lam, norm=norm, search=search, random_state=random_state, exact=exact)


def duality_gap(
    game: Game, data: Data, *, search: Search | None = None, random_state: RandomState = 0, exact: bool = True
) -> Certificate:
    """Measure DG = max_D V(G*, D) - min_G V(G, D*) at one fixed budget: one start, no early stop.

    A number for comparing checkpoints of one run: compare gaps of one `search` only. It keeps its sign: a failed
    search shows as a negative gap.

    Args:
        game: the pair.
        data: real samples, see `nash`.
        search: settings; `restarts` and `patience` are overruled by the fixed budget.
        random_state: seed or generator.
        exact: whether to use exact best responses where the pair has them.

    Returns:
        A `Certificate` whose `gap` is the measure.

    Raises:
        ObjectiveError: the objective is not zero-sum.
        InputError: see `nash`.

    References:
        [G19] definition of the duality gap.

    Example:
        >>> import torch
        >>> from saddlegan.certify import matrix_game
        >>> pennies = matrix_game([[1.0, -1.0], [-1.0, 1.0]], row=[1.0, 0.0], column=[1.0, 0.0])
        >>> duality_gap(pennies, torch.zeros(1, 2)).gap
        2.0
    """
    return judge(
        "duality gap",
        game,
        data,
        lam=math.inf,
        norm="parameters",
        search=search,
        random_state=random_state,
        exact=exact,
        fixed_budget=True,
    )


def proximal_duality_gap(
    game: Game,
    data: Data,
    *,
    lam: float,
    norm: Norm = "sobolev",
    search: Search | None = None,
    random_state: RandomState = 0,
    exact: bool = True,
) -> Certificate:
    """Measure DG_lam = max_D V(G*, D) - min_G V_lam(G, D*) at one fixed budget: one start, no early stop.

    Args:
        game: the pair.
        data: real samples, see `nash`.
        lam: weight of the proximal term.
        norm: "sobolev", "l2" or "parameters".
        search: settings; `restarts` and `patience` are overruled by the fixed budget.
        random_state: seed or generator.
        exact: whether to use exact best responses where the pair has them.

    Returns:
        A `Certificate` whose `gap` is the measure, signed.

    Raises:
        ObjectiveError: the objective is not zero-sum.
        InputError: see `proximal`.

    References:
        [SAK21] definition of the proximal duality gap.

    Example:
        >>> import torch
        >>> from saddlegan.certify import matrix_game
        >>> pennies = matrix_game([[1.0, -1.0], [-1.0, 1.0]], row=[0.5, 0.5], column=[0.5, 0.5])
        >>> abs(round(proximal_duality_gap(pennies, torch.zeros(1, 2), lam=1.0).gap, 9))
        0.0
    """
    return judge(
        "proximal duality gap",
        game,
        data,
        lam=lam,
        norm=norm,
        search=search,
        random_state=random_state,
        exact=exact,
        fixed_budget=True,
    )
