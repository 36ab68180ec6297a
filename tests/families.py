"""Families of pairs whose equilibria are known in closed form, in any unit: what an audit of the certificates judges.

Each family says for a seed and a unit c which verdicts are true. Where nothing else is said, c is the data's unit: the
samples are c times what they were, and D looks at x / c, so that the value, and with it the truth, stays as it is.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from games import MAKERS, Known, Point, Slope, clamp_to, solve_matrix
from saddlegan import Batch, Certificate, Game, certify, fit

UNITS = (1e-6, 1e-3, 1.0, 1e3, 1e6)
LAMS = (0.0, 0.5, 10.0, math.inf)


@dataclasses.dataclass(frozen=True)
class Family:
    """Pairs with one truth.

    Attributes:
        make: (seed, unit) -> the pair with the truth about it.
        why: what makes the truth true.
        lams: where it is known.
        units: in which it makes sense.
    """

    make: Callable[[int, float], Known]
    why: str
    lams: tuple[float, ...] = LAMS
    units: tuple[float, ...] = UNITS


@dataclasses.dataclass(frozen=True)
class ExactFamily:
    """Pairs of a game with certificates of its own: (seed, unit) -> the game's judge of a lambda, and the truth."""

    make: Callable[[int, float], tuple[Callable[[float], Certificate], float]]
    why: str
    lams: tuple[float, ...] = LAMS
    units: tuple[float, ...] = UNITS


class _Scaled(nn.Module):
    """c times what a player says of x / c (D), or c times what it makes (G)."""

    def __init__(self, inner: nn.Module, before: float, after: float) -> None:
        super().__init__()
        self.inner, self.before, self.after = inner, before, after

    def forward(self, x: Tensor) -> Tensor:
        return self.after * self.inner(x * self.before)


def in_units(known: Known, c: float) -> Known:
    """The same pair with data in another unit; the truth holds for distances of weights, which know no unit."""
    game, data = known.game, known.data

    def inside(penalty: Any) -> Any:
        if penalty is None:
            return None

        def of(player: Any, batch: Batch) -> Tensor:
            return penalty(player.inner, Batch(batch.x / c, (), batch.z, batch.fake / c))

        return of

    def held(project: Any) -> Any:
        return None if project is None else lambda player: project(player.inner)

    def draw(n: int, source: torch.Generator) -> Tensor:
        return c * data(n, source)  # type: ignore[operator]

    moved = Game(
        _Scaled(game.G, 1.0, c),
        _Scaled(game.D, 1.0 / c, 1.0),
        objective=game.objective,
        latent=game.latent,
        generator_penalty=inside(game.generator_penalty),
        discriminator_penalty=inside(game.discriminator_penalty),
    )
    return dataclasses.replace(
        known,
        game=moved,
        data=draw if callable(data) else c * torch.as_tensor(data),
        critical=known.critical * (c * c if known.norm == "sobolev" else 1.0),
        provable=False,
        project_generator=held(known.project_generator),
        project_discriminator=held(known.project_discriminator),
    )


def _from_games(name: str, *, moved: bool) -> Family:
    maker = MAKERS[name]
    why = f"{(maker.__doc__ or name).strip().splitlines()[0]} {'Moved.' if moved else 'At its solution.'}"
    if name == "gaussian":  # its penalty knows D's own entries; sobolev's critical lambda moves with the unit
        return Family(lambda seed, c: maker(seed, moved=moved), why, units=(1.0,))
    return Family(lambda seed, c: in_units(maker(seed, moved=moved), c), why)


def _payoffs(seed: int, c: float, *, moved: bool) -> Known:
    payoff = torch.randn(3, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    skew = payoff - payoff.T  # a symmetric game: its value is 0
    row, column = solve_matrix(skew.numpy())
    if moved:  # the row that loses most against the column's reply
        row = np.eye(3)[int(skew.max(1).values.argmax())]
    game = certify.matrix_game(c * skew, row=row, column=column)
    data = torch.zeros(256, 3, dtype=torch.float64)
    return Known("payoffs", game, data, math.nan if moved else math.inf)


def _leader_stored(seed: int, s: float) -> Known:
    """The leader game with D's weight stored as w / s."""

    class Stored(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.q = nn.Parameter(torch.zeros(1, dtype=torch.float64))

        @property
        def w(self) -> Tensor:
            return s * self.q

        def forward(self, x: Tensor) -> Tensor:
            return x @ self.w

    known = MAKERS["leader"](seed, moved=False)
    game = known.game
    stored = Game(
        game.G,
        Stored(),
        objective="wasserstein",
        latent=1,
        generator_penalty=game.generator_penalty,
        discriminator_penalty=game.discriminator_penalty,
    )
    return dataclasses.replace(known, game=stored, norm="sobolev")


def _well(seed: int, c: float) -> Known:
    """V = t^2 (exp(-(w - 4)^2 / 2) - 1/2): the follower's reply is far away; c is the value's unit."""
    at = 4.0 + 2.0 * (seed % 3)

    def reply(D: Any, batch: Batch) -> Tensor:
        t, w = batch.fake, D.w
        return -c * ((-0.5 * (w - at).square()).exp() - 0.5) * t.square().mean() - (t @ w).mean()

    zero = torch.zeros(1, dtype=torch.float64)
    game = Game(Point(zero), Slope(zero), objective="wasserstein", latent=1, discriminator_penalty=reply)
    data = torch.zeros(256, 1, dtype=torch.float64)
    return Known("well", game, data, 0.0, project_generator=clamp_to(1.0))


class _Law(nn.Module):
    """G(z) = b + a z in d dimensions."""

    def __init__(self, a: float, b: float) -> None:
        super().__init__()
        self.a, self.b = (nn.Parameter(torch.tensor(number, dtype=torch.float64)) for number in (a, b))

    def forward(self, z: Tensor) -> Tensor:
        return self.b + self.a * z


class _Quadratic(nn.Module):
    """D(x) = u x^2 + v x + w."""

    def __init__(self, *entries: float) -> None:
        super().__init__()
        self.c = nn.Parameter(torch.tensor(entries, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return (torch.stack([x * x, x, torch.ones_like(x)], -1) @ self.c).squeeze(1)


def _flat(d: int, seed: int, *, norm: bool = False) -> nn.Module:
    """A net whose last layer is zero: constant."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers: list[nn.Module] = [nn.Linear(d, 8), nn.SiLU(), nn.Linear(8, 1)]
        if norm:
            layers.insert(1, nn.BatchNorm1d(8))
    for parameter in layers[-1].parameters():
        nn.init.zeros_(parameter)
    return nn.Sequential(*layers).double()


def _normal(d: int = 1) -> Callable[[int, torch.Generator], Tensor]:
    return lambda n, source: torch.randn(n, d, generator=source, dtype=torch.float64)


def _realizable(objective: str, *, norm: bool = False) -> Family:
    """G makes the data's law, D is constant: 0, which is t* for the logits of these objectives."""

    def make(seed: int, c: float) -> Known:
        game = Game(_Law(1.0, 0.0), _flat(1, seed, norm=norm), objective=objective, latent=1)
        return in_units(Known(objective, game, _normal(), math.inf), c)

    return Family(make, "p_G = p_X and D = t*: f0 + f1 is concave and maximal at t*, and a constant D favours no G")


def _vanilla(a: float, b: float, critical: float, why: str, *, spread: float, entries: tuple[float, ...]) -> Family:
    def make(seed: int, c: float) -> Known:
        del seed
        game = Game(_Law(a, b), _Quadratic(*entries), objective="vanilla", latent=1)

        def ball(G: Any) -> None:
            G.a.clamp_(-1.0, 1.0)
            G.b.clamp_(-1.0, 1.0)

        def data(n: int, source: torch.Generator) -> Tensor:
            return spread * torch.randn(n, 1, generator=source, dtype=torch.float64)

        return in_units(Known("vanilla", game, data, critical, project_generator=ball), c)

    return Family(make, why, lams=(math.inf,))


def _tail(law: Callable[[Tensor], Tensor]) -> Family:
    """V = E w x - w theta with data of mean 0 and |w| <= 1."""

    def make(seed: int, c: float) -> Known:
        u = torch.rand(512, 1, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        zero = torch.zeros(1, dtype=torch.float64)
        game = Game(Point(zero), Slope(zero.clone()), objective="wasserstein", latent=1)
        return in_units(Known("tail", game, law(u), math.inf, project_discriminator=clamp_to(1.0)), c)

    return Family(make, "the law's mean is 0 = theta: no w gains, and w = 0 favours no theta")


def _edge(seed: int, c: float, *, theta: float, normed: bool = False) -> Known:
    """V = w (3 - theta), |w| <= 1, |theta| <= 1: the corner (1, 1) is Nash."""
    del seed
    D: nn.Module = Slope(torch.ones(1, dtype=torch.float64))
    if normed:
        line = nn.Linear(1, 1, bias=False).double()
        nn.init.ones_(line.weight)
        D = nn.utils.parametrizations.spectral_norm(line).eval()
    game = Game(Point(torch.full((1,), theta, dtype=torch.float64)), D, objective="wasserstein", latent=1)
    data = torch.full((256, 1), 3.0, dtype=torch.float64)
    data += torch.linspace(-0.1, 0.1, 256, dtype=torch.float64)[:, None]
    clip = None if normed else clamp_to(1.0)
    known = Known(
        "edge",
        game,
        data,
        math.inf if theta == 1.0 else math.nan,
        project_generator=clamp_to(1.0),
        project_discriminator=clip,
    )
    return in_units(known, c)


def _shown_moved(seed: int, c: float, *, theta: float) -> Known:
    """V = w (E x - (theta - 0.3)): generated samples are shown shifted."""
    del seed
    zero = torch.zeros(1, dtype=torch.float64)
    game = Game(
        Point(torch.full((1,), c * theta, dtype=torch.float64)),
        Slope(zero),
        objective="wasserstein",
        latent=1,
        fake_transform=lambda D, fake: D(fake - 0.3 * c),
    )

    def data(n: int, source: torch.Generator) -> Tensor:
        return c * torch.randn(n, 1, generator=source, dtype=torch.float64)

    critical = math.inf if theta == 0.3 else math.nan
    return Known("shown moved", game, data, critical, project_discriminator=clamp_to(1.0))


def _saturated(seed: int, c: float) -> Known:
    """A generator 30 spreads away, told apart with logits of +-60: it would gain by coming back."""
    del seed
    game = Game(_Law(1.0, 30.0), _Quadratic(0.0, -4.0, 60.0), objective="vanilla", latent=1)
    return in_units(Known("saturated", game, _normal(), math.nan), c)


def _lq(seed: int, c: float, *, a: float) -> Known:
    """V = E L x^2 - E L (a z)^2 - L^2 / 2: Nash at a^2 = E x^2 = 1, L = 0."""
    del seed

    def penalty(D: Any, batch: Batch) -> Tensor:
        return 0.5 * D.c.square().sum()

    game = Game(
        _Law(a, 0.0), _Quadratic(0.0, 0.0, 0.0), objective="wasserstein", latent=1, discriminator_penalty=penalty
    )
    return in_units(Known("lq", game, _normal(), math.inf if a == 1.0 else math.nan), c)


def _line(mean: float, deviation: float, critical: float) -> Callable[[int, float], Any]:
    def make(seed: int, c: float) -> tuple[Callable[[float], Certificate], float]:
        factor = c * (1.0 + 0.05 * seed)
        game = certify.GaussianWGAN(factor * mean, factor * deviation, radius=factor)
        return _judge_of(game), critical

    return make


def _judge_of(game: Any) -> Callable[[float], Certificate]:
    def judge(lam: float) -> Certificate:
        if math.isinf(lam):
            return game.nash()
        return game.stackelberg() if lam == 0 else game.proximal(lam=lam)

    return judge


def _w2(seed: int, c: float) -> tuple[Callable[[float], Certificate], float]:
    eta, sigma = 1.0 + 0.1 * seed, 2.0
    covariance = torch.diag(torch.tensor([sigma**2, 1.0, 0.25], dtype=torch.float64)).numpy() * c * c
    return _judge_of(certify.GaussianW2Game(covariance, eta, radius=c)), sigma / (eta * (sigma - 1.0))


def _solved(seed: int, c: float, *, moved: bool) -> Known:
    rng = np.random.default_rng(seed)
    X = c * (rng.standard_normal((256, 6)) @ rng.standard_normal((6, 6)) + rng.standard_normal(6))
    model = fit.QuadraticWGAN(n_latent=1 + seed % 4, center=seed % 2 == 0).fit(X)
    if moved:
        with torch.no_grad():
            model.generator_.weight *= 1.05  # type: ignore[operator]
    return Known("solved", model.game_, X, math.nan if moved else math.inf)


_NASH_AT_JS = "G = N(0, 1) where D should not be constant: the best logit gains, and the constant is not it"
FAMILIES: dict[str, Family | ExactFamily] = {
    **{
        f"{name}{', moved' if moved else ''}": _from_games(name, moved=moved)
        for name in MAKERS
        if name not in ("matrix", "quadratic-wgan", "pennies")
        for moved in (False, True)
    },
    "payoffs": Family(lambda seed, c: _payoffs(seed, c, moved=False), "a skew-symmetric matrix game, solved by LP"),
    "payoffs, moved": Family(lambda seed, c: _payoffs(seed, c, moved=True), "a pure row that a column beats"),
    "solved quadratic": Family(
        lambda seed, c: _solved(seed, c, moved=False), "hidden convexity: primal and dual value agree"
    ),
    "solved quadratic, moved": Family(lambda seed, c: _solved(seed, c, moved=True), "its generator 5% too large"),
    "leader, weight stored": Family(
        _leader_stored, "max_w V_lam = (b^2 / (c + lam) - a) t^2 / 2 in Sobolev's norm, however w is stored"
    ),
    "well far away": Family(_well, "V_lam(t) < 0 for small t and lam > 0; max_w V = t^2 / 2 at lam = 0"),
    "realizable vanilla": _realizable("vanilla"),
    "realizable vanilla, batch norm": _realizable("vanilla", norm=True),
    "realizable pairing": _realizable("pairing"),
    "constant D, wide data": _vanilla(1.0, 0.0, math.nan, _NASH_AT_JS, spread=2.0, entries=(0.0, 0.0, 0.0)),
    "exact logit, wide data": _vanilla(
        1.0,
        0.0,
        math.nan,
        "D* = log p_X / p_G is convex and even: G gains by moving its mean",
        spread=2.0,
        entries=(0.375, 0.0, -math.log(2.0)),
    ),
    "pareto 1.5": _tail(lambda u: u.pow(-1 / 1.5) - 3.0),
    "rare events": _tail(lambda u: (u < 3e-3).double() - 3e-3),
    "rarer events": _tail(lambda u: (u < 1e-3).double() - 1e-3),
    "exponential": _tail(lambda u: -u.log() - 1.0),
    "clipped, at the corner": Family(lambda seed, c: _edge(seed, c, theta=1.0), "w (3 - t): both at their bounds"),
    "clipped, off the corner": Family(lambda seed, c: _edge(seed, c, theta=0.5), "w (3 - t): t may rise"),
    "spectral norm, at the corner": Family(
        lambda seed, c: _edge(seed, c, theta=1.0, normed=True), "w / |w| (3 - t): both at their bounds"
    ),
    "spectral norm, off the corner": Family(
        lambda seed, c: _edge(seed, c, theta=0.5, normed=True), "w / |w| (3 - t): t may rise"
    ),
    "fakes shown moved": Family(lambda seed, c: _shown_moved(seed, c, theta=0.3), "w (E x - t + 0.3) at t = 0.3"),
    "fakes shown moved, moved": Family(lambda seed, c: _shown_moved(seed, c, theta=0.0), "w (E x - t + 0.3) at t = 0"),
    "saturated": Family(_saturated, "logits of +-60: G would gain about 60 by making the data"),
    "Wasserstein-LQ": Family(lambda seed, c: _lq(seed, c, a=1.0), "V(a, L) = L (1 - a^2) - L^2 / 2 at (1, 0)"),
    "Wasserstein-LQ, moved": Family(lambda seed, c: _lq(seed, c, a=1.3), "V(a, L) = L (1 - a^2) - L^2 / 2 at (1.3, 0)"),
    "1-Lipschitz line, wide": ExactFamily(_line(0.0, 2.0, 0.0), "theory 4.8: Stackelberg, proximal for no lam > 0"),
    "1-Lipschitz line, far": ExactFamily(_line(3.0, 1.0, math.inf), "theory 4.8: D* is a line: Nash"),
    "Gaussian W2": ExactFamily(_w2, "theory 2.2: critical lambda sigma / (eta (sigma - r))"),
}


def judged(
    name: str, seed: int, unit: float, *, lams: Sequence[float] | None = None, search: dict[str, Any] | None = None
) -> list[tuple[float, bool, Certificate]]:
    """Every certificate of one pair: (lambda, whether the pair is an equilibrium there, certificate)."""
    family, found = FAMILIES[name], []
    lams = family.lams if lams is None else [lam for lam in family.lams if lam in lams]
    if isinstance(family, ExactFamily):
        judge, critical = family.make(seed, unit)
        return [(lam, not math.isnan(critical) and lam <= critical, judge(lam)) for lam in lams]
    known = family.make(seed, unit)
    settings = known.search(**(search or {}))
    for lam in lams:
        options: dict[str, Any] = {"search": settings, "random_state": seed}
        if math.isinf(lam):
            certificate = certify.nash(known.game, known.data, **options)
        elif lam == 0:
            certificate = certify.stackelberg(known.game, known.data, **options)
        else:
            certificate = certify.proximal(known.game, known.data, lam=lam, norm=known.norm, **options)
        found.append((lam, known.equilibrium(lam), certificate))
    return found
