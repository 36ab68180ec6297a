"""From gains to verdicts: exactly where best responses are known, by search elsewhere."""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Sequence
from typing import Any, get_args

import torch
from torch import Tensor

from saddlegan import checks
from saddlegan.batch import Rows, count
from saddlegan.certify.exact._base import AbstractExactGame, certificate
from saddlegan.certify.exact._judge import judge_exactly
from saddlegan.certify.exact._recognise import recognise
from saddlegan.certify.search._arena import Arena, Deviation
from saddlegan.certify.search._bracket import bracket
from saddlegan.certify.search._deviate import best_discriminator, best_generator
from saddlegan.certify.search._domain import domain_of
from saddlegan.certify.search._measure import (
    Data,
    check,
    placed,
    read,
    seed_all,
    split,
    untouched,
)
from saddlegan.certify.search._nested import best_proximal_generator
from saddlegan.certify.search._tails import Tails, tails_of
from saddlegan.certify.search._verified import verified_gain
from saddlegan.checks import RandomState
from saddlegan.errors import BlindWarning, BudgetWarning, InputError
from saddlegan.game import Game
from saddlegan.modules import like
from saddlegan.proximal import Norm, warn_if_piecewise_linear
from saddlegan.results import Certificate, Status
from saddlegan.search import Search


def check_lam(lam: float, norm: Norm, *, name: str = "lam") -> float:
    """Return lam as a float, or refuse it or the norm."""
    if norm not in get_args(Norm):
        raise InputError(f"`norm` must be one of {', '.join(get_args(Norm))}, got {norm!r}")
    return checks.number(name, lam, infinite=True)


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A pair that was checked, with its data; the exact class it belongs to, if any."""

    game: Game
    X: Rows
    exact: AbstractExactGame | None
    search: Search
    generator: torch.Generator

    def arena(self) -> Arena:
        """Split the data and freeze the pair; the random draws of a search begin here."""
        seed_all(self.generator.initial_seed())
        splits = split(self.game, self.X, batch_size=self.search.batch_size, generator=self.generator)
        domain = domain_of(placed(self.X, like(self.game.D)), self.search.domain)
        return Arena(self.game, splits, search=self.search, generator=self.generator, domain=domain)


def prepare(
    game: Game, data: Data, purpose: str, *, search: Search | None, random_state: RandomState, exact: bool
) -> Prepared:
    """Check the pair and read its data."""
    search = Search() if search is None else search
    generator = checks.generator(random_state)
    X = read(data, game=game, rows=search.samples, generator=generator)
    check(game, X, purpose)
    return Prepared(game, X, recognise(game, X) if exact and isinstance(X, Tensor) else None, search, generator)


SETTLED = 0.05  # share of a gap that its searches may still have been growing by, all together, at a fixed budget
FAR_RESTARTS = 3  # starts from which on the search of an inner maximum includes a far one


def judge_by_search(
    kind: str,
    arena: Arena,
    *,
    lam: float,
    norm: Norm,
    tests: int = 2,
    discriminator: Deviation | None = None,
    known: Sequence[Deviation] = (),
    fixed_budget: bool = False,
) -> tuple[Certificate, Deviation | None]:
    """Judge by searched deviations; return the certificate and the generator's best deviation."""
    value = float(arena.held_out_value.mean())
    if not math.isfinite(value):
        where = "minus infinity: D's outputs lie outside the objective's domain" if value < 0 else f"{value:g}"
        doubt = f"V is {where} on the held-out samples, and no gain can be measured against it"
        stats = {"value": value, "lam": lam, "doubt": doubt, "settings": describe(arena.search)}
        empty = certificate(
            kind, math.nan, math.nan, "none", "undecided", stats, error=math.nan, status=Status.NON_FINITE
        )
        return empty, None
    up = best_discriminator(arena) if discriminator is None else discriminator
    if math.isinf(lam):
        down = best_generator(arena, known=known)
    else:
        down = best_proximal_generator(arena, lam=lam, norm=norm, known=known, cautious=not fixed_budget)
    level = arena.search.significance / tests

    # a gain within a search within a search refutes nothing, and its rows are not at hand
    tails = {
        "discriminator": tails_of(arena, discriminator=up.player, level=level),
        "generator": tails_of(arena, generator=down.player, level=level) if math.isinf(lam) else Tails(),
    }
    verified = None
    if 0 < lam < math.inf and not fixed_budget:
        verified = verified_gain(arena, down.player, lam=lam, norm=norm)
        if verified is not None:  # its inner maximum is enclosed, that of the search is not
            down = dataclasses.replace(down, gains=verified.gains, free_gains=verified.gains, slack=verified.slack)
    plain, gains = (
        {
            name: arena.gain(found.gains, significance=level, slack=found.slack + weight * tails[name].slack)
            for name, found in (("discriminator", up), ("generator", down))
        }
        for weight in (0.0, 1.0)
    )
    uncertain = [tails[name].doubt for name in gains if plain[name].significant and not gains[name].significant]
    # a generator that gains only while it is held in the domain is not one of its class
    free_slack = down.slack + tails["generator"].slack
    free = arena.gain(down.free_gains, significance=level, slack=free_slack).significant
    total = arena.gain(up.gains + down.gains, significance=level)
    growth = up.growth + down.growth
    settled = (
        growth <= max(SETTLED * abs(total.mean), total.standard_error) if fixed_budget else up.settled and down.settled
    )
    # no true gap is negative: where the measured one is, by more than chance, a search failed
    failed = total.mean < -total.threshold
    settled = settled and not failed
    finite = math.isfinite(total.mean)
    ideal = arena.ideal_gain(significance=level)
    blind = None if gains["generator"].significant and free else arena.blindness(ideal)
    if not finite:
        status = Status.NON_FINITE
    elif blind is not None:
        status = Status.BLIND
    else:
        status = Status.SETTLED if settled else Status.BUDGET_SPENT
    missed = math.isinf(lam) and ideal is not None and ideal.significant and not gains["generator"].significant
    # what a search within a search finds bounds nothing: the inner maximum is only a lower bound (theory 4.2). With
    # few starts none is far, and a maximum in another corner is sure to be missed: then it is not even a suspicion
    bounded = math.isinf(lam) or verified is not None
    sound = gains["discriminator"].significant or (bounded and gains["generator"].significant and free)
    suspicious = gains["generator"].significant and arena.search.restarts >= FAR_RESTARTS
    doubt = None
    refuted = finite and sound
    if refuted:
        verdict = "refuted"
    elif not finite:
        verdict, doubt = "undecided", "a deviation's value is infinite or NaN, so that no gain was measured"
    elif suspicious and free:
        verdict = "suspected"
    elif blind is not None:
        verdict, doubt = "undecided", blind
    elif gains["generator"].significant and not free:
        verdict, doubt = "undecided", "the generator gains only where its samples are held in the domain"
    elif gains["generator"].significant:
        verdict, doubt = "undecided", f"an inner search from fewer than {FAR_RESTARTS} starts cannot be trusted"
    elif failed:
        verdict, doubt = "undecided", "the measured gap is negative, so a search failed"
    elif uncertain:
        doubt = uncertain[0] or "the gain's rows are skewed, and too few for its standard error to be trusted"
        verdict = "undecided"
    elif not settled:
        verdict, doubt = "undecided", "the searches were still rising"
    elif missed and ideal is not None:
        verdict = "undecided"
        doubt = (
            f"a generator that reproduced the data would gain {ideal.mean:.4g}, and the search within the "
            "generator's class found nothing of it"
        )
    else:
        verdict = "not refuted"
    if blind is not None:
        warnings.warn(f"{kind}: {blind}: {Status.BLIND.value}", BlindWarning, stacklevel=4)
    elif verdict in ("not refuted", "undecided") and not settled and not fixed_budget:
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
        "heavy_tails": {name: found.heavy for name, found in tails.items()},
        "curves": {"discriminator": up.curve, "generator": down.curve},
        "inner_slack": down.slack,
        "inner_maximum": "enclosed: concave in D's parameters" if verified else "searched",
        # a lower bound of the gain for the class of all generators; not of this one's class
        "ideal_gain": math.nan if ideal is None else ideal.mean,
        "ideal_gain_standard_error": math.nan if ideal is None else ideal.standard_error,
        "blind": blind is not None,
        "growth": growth,
        **_setting(arena),
    }
    # on the proximal value a deviation is judged by an inner search, which bounds nothing strictly
    bound = "lower" if finite and (bounded or gains["discriminator"].significant) else "none"
    if doubt is not None:
        stats["doubt"] = doubt
    if refuted:
        stats["refuted_by"] = "discriminator" if gains["discriminator"].significant else "generator"
    upper, stats["upper"] = bracket(arena, up, down, lam=lam) if finite else (math.inf, {})
    found = certificate(
        kind,
        gains["generator"].mean,
        gains["discriminator"].mean,
        bound,
        verdict,
        stats,
        upper=upper,
        error=total.standard_error,
        status=status,
    )
    return found, down


def refuted_by_discriminator(
    kind: str, arena: Arena, up: Deviation, *, lam: float, norm: Norm, tests: int
) -> Certificate | None:
    """The certificate of a pair that D's own gain refutes, at every lambda alike; None where it does not.

    The generator is not searched: its gain is NaN, and changes no verdict.
    """
    level = arena.search.significance / tests
    skewed = tails_of(arena, discriminator=up.player, level=level)
    gain = arena.gain(up.gains, significance=level, slack=up.slack + skewed.slack)
    if not gain.significant or not math.isfinite(gain.mean):
        return None
    nowhere = torch.full_like(up.gains, math.nan)
    stays = Deviation(arena.G, nowhere, nowhere, (), settled=True, growth=0.0, slack=0.0)
    upper, parts = bracket(arena, up, stays, lam=lam)
    stats = {
        "value": float(arena.held_out_value.mean()),
        "lam": lam,
        "norm": norm,
        "standard_errors": {"generator": math.nan, "discriminator": gain.standard_error},
        "thresholds": {"generator": math.nan, "discriminator": gain.threshold},
        "heavy_tails": {"discriminator": skewed.heavy},
        "curves": {"discriminator": up.curve},
        "inner_maximum": "not searched: D's gain refutes the pair by itself",
        "growth": up.growth,
        **_setting(arena),
        "refuted_by": "discriminator",
        "upper": parts,
    }
    status = Status.SETTLED if up.settled else Status.BUDGET_SPENT
    return certificate(
        kind, math.nan, gain.mean, "lower", "refuted", stats, upper=upper, error=gain.standard_error, status=status
    )


def _setting(arena: Arena) -> dict[str, Any]:
    return {
        "domain": None if arena.domain is None else arena.domain.describe(),
        "outside": arena.outside,  # share of the pair's own samples beyond the domain
        "mode": "evaluation: running statistics at rest, dropout off",
        "samples": {"search": count(arena.splits.search), "held_out": count(arena.splits.held_out[0])},
        "settings": describe(arena.search),
    }


def describe(search: Search) -> dict[str, Any]:
    """Settings in plain types."""
    settings = {f.name: getattr(search, f.name) for f in dataclasses.fields(search) if f.name != "callback"}
    for name in ("project_generator", "project_discriminator"):
        settings[name] = None if settings[name] is None else repr(settings[name])
    return settings


def judge(
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
        prepared = prepare(
            game, data, f"`certify.{kind.replace(' ', '_')}`", search=search, random_state=random_state, exact=exact
        )
        if prepared.exact is not None:
            judged = judge_exactly(kind, prepared.exact, lam=lam)
            if judged is not None:
                return judged
        if 0 < lam < math.inf:
            warn_if_piecewise_linear(game.D, norm)
        if fixed_budget:
            budget = dataclasses.replace(prepared.search, restarts=1, patience=prepared.search.evaluations + 1)
            prepared = dataclasses.replace(prepared, search=budget)
        return judge_by_search(kind, prepared.arena(), lam=lam, norm=norm, fixed_budget=fixed_budget)[0]
