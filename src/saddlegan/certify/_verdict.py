"""The verdicts: Nash, Stackelberg, proximal, and the two duality gaps."""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Sequence
from typing import Any, get_args

import torch
from torch import Tensor, nn

from saddlegan._best_response import Norm, Search, warn_if_piecewise_linear
from saddlegan.certify._deviate import Arena, Deviation
from saddlegan.certify._exact import AbstractExactGame
from saddlegan.certify._measure import (
    Data,
    Gain,
    RandomState,
    as_generator,
    check,
    gain_of,
    read,
    split,
    untouched,
)
from saddlegan.certify._registry import recognise
from saddlegan.errors import BudgetWarning, InputError
from saddlegan.game import Game
from saddlegan.results import Certificate, Status


def check_lam(lam: float, norm: Norm) -> float:
    """Return lam as a float, or refuse it or the norm."""
    if isinstance(lam, bool) or not isinstance(lam, (int, float)) or not lam >= 0:
        raise InputError(f"`lam` must be a number of at least 0 (0: Stackelberg, infinity: Nash), got {lam!r}")
    if norm not in get_args(Norm):
        raise InputError(f"`norm` must be one of {', '.join(get_args(Norm))}, got {norm!r}")
    return float(lam)


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A pair that was checked, with its data; the exact class it belongs to, if any."""

    game: Game
    X: Tensor
    exact: AbstractExactGame | None
    search: Search
    generator: torch.Generator

    def arena(self) -> Arena:
        """Split the data and freeze the pair; the random draws of a search begin here."""
        torch.manual_seed(self.generator.initial_seed())  # inside `untouched`: dropout and random penalties repeat
        splits = split(self.game, self.X, batch_size=self.search.batch_size, generator=self.generator)
        return Arena(self.game, splits, search=self.search, generator=self.generator)


def prepare(
    game: Game, data: Data, purpose: str, *, search: Search | None, random_state: RandomState, exact: bool
) -> Prepared:
    """Check the pair and read its data."""
    search = Search() if search is None else search
    generator = as_generator(random_state)
    X = read(data, rows=search.samples, generator=generator)
    check(game, X, purpose)
    return Prepared(game, X, recognise(game, X) if exact else None, search, generator)


def judge_exactly(kind: str, exact: AbstractExactGame, *, lam: float) -> Certificate | None:
    """Judge by exact best responses and nestedness; None where these leave the question open.

    A Nash pair is proximal for every lam; a pair whose discriminator is not a best response, or whose generator is
    not Stackelberg, is proximal for none.
    """
    value, tolerance = exact.value, exact.tolerance
    discriminator = exact.best_discriminator_value - value
    generator = value - exact.best_generator_value
    stats = {"value": value, "tolerance": tolerance, "lam": lam, **exact.stats}
    is_nash = discriminator <= tolerance and generator <= tolerance
    if math.isinf(lam) or is_nash:
        verdict = "proved" if is_nash else "refuted"
        if not math.isinf(lam):
            stats["argument"] = "a Nash equilibrium is proximal for every lam; its Nash gains bound the proximal ones"
        return _certificate(kind, generator, discriminator, "exact", verdict, 0.0, Status.OPTIMAL, stats)
    leader = exact.stackelberg_value
    if leader is not None:
        stackelberg = value - leader  # signed: negative where D is not a best response
        refuted = discriminator > tolerance or exact.best_discriminator_value - leader > tolerance
        if lam == 0:
            verdict = "refuted" if refuted else "proved"
            return _certificate(kind, stackelberg, discriminator, "exact", verdict, 0.0, Status.OPTIMAL, stats)
        if refuted:
            stats["argument"] = "not a Stackelberg equilibrium, hence not proximal; the gains are those at lam = 0"
            return _certificate(kind, stackelberg, discriminator, "lower", "refuted", 0.0, Status.OPTIMAL, stats)
    elif discriminator > tolerance:
        stats["argument"] = "the discriminator has a better response, whatever lam is; the generator's gain is unknown"
        return _certificate(kind, 0.0, discriminator, "lower", "refuted", 0.0, Status.OPTIMAL, stats)
    return None


def judge_by_search(
    kind: str,
    arena: Arena,
    *,
    lam: float,
    norm: Norm,
    tests: int = 2,
    discriminator: Deviation | None = None,
    known: Sequence[nn.Module] = (),
    fixed_budget: bool = False,
) -> tuple[Certificate, nn.Module]:
    """Judge by searched deviations; return the certificate and the generator's best deviation."""
    value = float(arena.held_out_value.mean())
    if not math.isfinite(value):
        stats = {"value": value, "lam": lam, "settings": describe(arena.search)}
        empty = _certificate(kind, math.nan, math.nan, "none", "not refuted", math.nan, Status.NON_FINITE, stats)
        return empty, arena.G
    up = arena.discriminator() if discriminator is None else discriminator
    down = (
        arena.generator_on_value()
        if math.isinf(lam)
        else arena.generator_on_proximal(lam=lam, norm=norm, known=known)
    )
    level = arena.search.significance / tests
    gains = {
        name: gain_of(
            found.gains, value=value, tolerance=arena.search.tolerance, significance=level, slack=found.slack
        )
        for name, found in (("discriminator", up), ("generator", down))
    }
    total = gain_of(up.gains + down.gains, value=value, tolerance=0.0, significance=level)
    refuted = any(gain.significant for gain in gains.values())
    settled = up.settled and down.settled
    finite = math.isfinite(total.mean)
    status = (Status.SETTLED if settled else Status.BUDGET_SPENT) if finite else Status.NON_FINITE
    if not (settled or refuted or fixed_budget):
        warnings.warn(
            f"{kind}: {Status.BUDGET_SPENT.value}: Search(steps={2 * arena.search.steps}), for instance",
            BudgetWarning,
            stacklevel=4,
        )
    stats: dict[str, Any] = {
        "value": value,
        "lam": lam,
        "norm": norm,
        "standard_errors": {name: gain.standard_error for name, gain in gains.items()},
        "thresholds": {name: gain.threshold for name, gain in gains.items()},
        "curves": {"discriminator": up.curve, "generator": down.curve},
        "inner_slack": down.slack,
        "samples": {"search": len(arena.splits.search), "held_out": len(arena.splits.held_out[0])},
        "settings": describe(arena.search),
    }
    # an inner maximum that is still growing makes the generator's figure neither a lower nor an upper bound
    solid = math.isinf(lam) or down.slack <= 0.1 * abs(gains["generator"].mean) + gains["generator"].standard_error
    certificate = _certificate(
        kind,
        gains["generator"].mean,
        gains["discriminator"].mean,
        "lower" if finite and (solid or gains["discriminator"].significant) else "none",
        "refuted" if refuted else "not refuted",
        total.standard_error,
        status,
        stats,
    )
    return certificate, down.player


def describe(search: Search) -> dict[str, Any]:
    """Settings in plain types."""
    settings = {field.name: getattr(search, field.name) for field in dataclasses.fields(search)}
    for name in ("project_generator", "project_discriminator"):
        settings[name] = None if settings[name] is None else repr(settings[name])
    return settings


def _certificate(
    kind: str,
    generator: float,
    discriminator: float,
    bound: Any,
    verdict: Any,
    error: float,
    status: Status,
    stats: dict[str, Any],
) -> Certificate:
    return Certificate(
        kind=kind,
        gap=generator + discriminator,
        generator_gain=generator,
        discriminator_gain=discriminator,
        bound=bound,
        verdict=verdict,
        standard_error=error,
        status=status,
        stats=stats,
    )


def _judge(
    kind: str,
    game: Game,
    data: Data,
    *,
    lam: float,
    norm: Norm,
    search: Search | None,
    random_state: RandomState,
    exact: bool,
    fixed_budget: bool = False,
) -> Certificate:
    lam = check_lam(lam, norm)
    with untouched(data):
        prepared = prepare(game, data, f"`certify.{kind.replace(' ', '_')}`", search=search, random_state=random_state, exact=exact)
        if prepared.exact is not None:
            certificate = judge_exactly(kind, prepared.exact, lam=lam)
            if certificate is not None:
                return certificate
        if 0 < lam < math.inf:
            warn_if_piecewise_linear(game.D, norm)
        if fixed_budget:
            budget = dataclasses.replace(prepared.search, restarts=1, patience=prepared.search.evaluations + 1)
            prepared = dataclasses.replace(prepared, search=budget)
        return judge_by_search(kind, prepared.arena(), lam=lam, norm=norm, fixed_budget=fixed_budget)[0]


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
        data: real samples: array or tensor (n, ...), DataLoader, or callable n, generator -> (n, ...).
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
        >>> from saddlegan import Game
        >>> from saddlegan.networks import LinearGenerator, MLP
        >>> rng = torch.Generator().manual_seed(0)
        >>> game = Game(LinearGenerator(2, 2, generator=rng), MLP(2, 1, hidden=(8,)), latent=2)
        >>> nash(game, 3.0 + torch.randn(1024, 2, generator=rng), search=Search(steps=60)).verdict
        'refuted'
    """
    return _judge(
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
        >>> from saddlegan.certify import matrix_game
        >>> stackelberg(matrix_game([[0.0, 2.0], [3.0, 1.0]], row=[1.0, 0.0], column=[0.0, 1.0]), torch.zeros(1, 2))
        Certificate(kind='stackelberg', gap=0.5, generator_gain=0.5, ..., verdict='refuted', ...)
    """
    return _judge(
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
    discriminator that follows it; the generator that it ends with is measured with a full inner search on the held-out
    sample itself. That inner maximum is a search too: its unfinished growth (`stats["inner_slack"]`) must be cleared
    by a gain before it refutes, and `bound` is "none" where the slack is not small beside the gain.

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
        >>> from saddlegan.certify import matrix_game
        >>> pennies = matrix_game([[1.0, -1.0], [-1.0, 1.0]], row=[0.5, 0.5], column=[0.5, 0.5])
        >>> proximal(pennies, torch.zeros(1, 2), lam=1.0).verdict
        'proved'
    """
    return _judge(
        "proximal", game, data, lam=lam, norm=norm, search=search, random_state=random_state, exact=exact
    )


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
        >>> from saddlegan.certify import matrix_game
        >>> duality_gap(matrix_game([[1.0, -1.0], [-1.0, 1.0]], row=[1.0, 0.0], column=[1.0, 0.0]), torch.zeros(1, 2)).gap
        2.0
    """
    return _judge(
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
        >>> from saddlegan.certify import matrix_game
        >>> pennies = matrix_game([[1.0, -1.0], [-1.0, 1.0]], row=[0.5, 0.5], column=[0.5, 0.5])
        >>> abs(round(proximal_duality_gap(pennies, torch.zeros(1, 2), lam=1.0).gap, 9))
        0.0
    """
    return _judge(
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
