"""Both players' gains from above, for the very samples on which a search measured them."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import torch
from torch import Tensor, nn

from saddlegan.batch import Rows, conditions, samples
from saddlegan.certify.upper._box import Most, largest_output
from saddlegan.certify.upper._transport import best_value, halves, supremum
from saddlegan.game import Game
from saddlegan.modules import frozen
from saddlegan.objectives import Objective

CLOSE = 1e-3  # width of the generator's bracket, relative to 1 + |V|, at which branch and bound stops


@dataclasses.dataclass(frozen=True)
class Upper:
    """What a player could gain at most.

    Attributes:
        gain: the bound; infinity where there is none.
        scope: the deviations that it covers, in words.
        method: how it was computed.
        doubt: what speaks against it, or None.
    """

    gain: float
    scope: str
    method: str
    doubt: str | None = None

    def describe(self) -> dict[str, Any]:
        """Plain types."""
        return dataclasses.asdict(self)


def _silent(penalty: Any) -> bool:
    """Whether leaving a penalty out can only raise the bound: none, or one that says it is never negative."""
    return penalty is None or getattr(penalty, "non_negative", False)


def _plain(game: Game) -> bool:
    """Whether D's raw outputs at single samples are all that the value looks at."""
    return not game.has_own_value and game.fake_transform is None and game.rows_in_groups == 1


def _outputs(D: nn.Module, rows: Tensor, given: tuple[Any, ...]) -> Tensor:
    """Raw outputs (n,), those of a patch map averaged: f0 and f1 are concave."""
    with torch.no_grad():
        raw = torch.cat([D(part, *(entry[k] for entry in given)) for part, k in _pieces(rows)])
    return raw.double().reshape(len(rows), -1).mean(1)


def _pieces(rows: Tensor) -> list[tuple[Tensor, slice]]:
    return [(rows[k : k + 1024], slice(k, k + 1024)) for k in range(0, len(rows), 1024)]


def discriminator_upper(
    game: Game,
    x: Rows,
    fake: Tensor,
    *,
    value: float,
    weights: tuple[Tensor, Tensor],
    others: tuple[nn.Module, ...] = (),
    lipschitz: float = math.inf,
) -> Upper:
    """Bound max over D' of V(G, D') - V(G, D) from above.

    For every discriminator whatever where the objective is bounded (vanilla, pairing, squared Hellinger); for all
    L-Lipschitz ones by theory 4.5. L is raised to what the pair's own D and the `others` need on these samples, so
    that they lie in the class that is bounded.

    Args:
        game: the pair, in evaluation mode.
        x: real samples (n, ...), perhaps with conditions.
        fake: generated samples (m, ...).
        value: V of the pair on them, without the generator's penalty, which no discriminator moves.
        weights: of both samples' rows in that value.
        others: discriminators that a search found, to lie in the class.
        lipschitz: L of the class; infinity for no such class.
    """
    if game.has_own_value or not _silent(game.discriminator_penalty) or game.fake_transform is not None:
        return Upper(math.inf, "all discriminators", "none for a value or a penalty that is not known")
    every = supremum(game.objective) - value
    free = Upper(every, "all discriminators", "supremum of the objective")
    real, pairing = samples(x), game.objective.pairing
    if not _plain(game) or conditions(x) or (halves(game.objective) is None and pairing is None):
        return free
    slope = lipschitz
    if not math.isfinite(slope):
        return free
    distance = torch.cdist(real.detach().flatten(1).double(), fake.detach().flatten(1).double())
    needed, start = 0.0, None
    for D in (game.D, *others):
        d, e = _outputs(D, real, ()), _outputs(D, fake, ())
        start = e if start is None else start
        needed = max(needed, float(((d[:, None] - e) / distance.clamp_min(1e-300)).max()))
    doubt = None
    if needed > slope * (1.0 + 1e-5):
        doubt = f"a discriminator of the pair or the search has slope {needed:.4g}, above its class's {slope:.4g}"
        slope = needed
    scope = f"all discriminators of slope at most {slope:.4g}"
    slope *= 1.0 + 1e-6  # outputs in single precision
    if pairing is not None:
        gaps = slope * (real - fake).flatten(1).norm(dim=1).double()
        best = float(weights[0].to(gaps) @ pairing(gaps))
    else:
        best = best_value(game.objective, real, fake, slope=slope, weights=weights, start=start)
    gain = best - value
    if not gain < every:
        return dataclasses.replace(free, doubt=doubt)
    return Upper(gain, scope, "optimal transport with free marginals, theory 4.5", doubt)


def generator_upper(
    game: Game, x: Rows, *, value: float, weights: Tensor, low: Tensor, high: Tensor, lam: float
) -> Upper:
    """Bound V(G, D) - min over G' of V(G', D) from above, for all generators whose samples lie in a box.

    V_lam(G', D) >= V(G', D), so that the bound holds at every lam.

    Args:
        game: the pair, in evaluation mode.
        x: real samples.
        value: V of the pair as the generator plays it.
        weights: of the real rows in that value (n,).
        low: a corner of the box, of a sample's shape.
        high: the opposite corner.
        lam: of the proximal value; infinity for V itself.
    """
    scope = f"all generators with samples in the box from {float(low.min()):.4g} to {float(high.max()):.4g}"
    played = game.discriminator_penalty is None or (
        math.isinf(lam) and getattr(game.discriminator_penalty, "discriminator_only", False)
    )
    known = halves(game.objective) is not None or game.objective.pairing is not None
    if not (_plain(game) and known and played and _silent(game.generator_penalty)) or conditions(x):
        return Upper(math.inf, scope, "none for a value or a penalty that is not known")
    D = frozen(game.D).double()
    most = largest_output(D, low.double(), high.double(), tolerance=CLOSE * (1.0 + abs(value)))
    return Upper(value - _least(game.objective, D, samples(x), weights, most), scope, most.method)


def _least(objective: Objective, D: nn.Module, x: Tensor, weights: Tensor, most: Most) -> float:
    """V where every generated sample has the largest output: f1 does not rise in it."""
    with torch.no_grad():
        raw = torch.cat([D(part) for part, _ in _pieces(x.double())]).reshape(len(x), -1)
        at = torch.tensor(most.upper, dtype=torch.float64)
        if objective.pairing is not None:
            rows = objective.pairing(raw - at)
        else:
            rows = objective.f0(objective.link(raw)) + objective.f1(objective.link(at))
    return float(weights.to(raw) @ rows.mean(1))
