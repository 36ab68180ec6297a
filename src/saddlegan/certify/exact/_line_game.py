"""The standard Wasserstein GAN between Gaussians on the line: every certificate up to quadrature."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.special import erf, ndtr

from saddlegan import checks
from saddlegan.certify._spectrum import Spectrum, summarise
from saddlegan.certify.exact._base import certificate
from saddlegan.errors import InputError
from saddlegan.results import Certificate

GRID = 4001  # points of the quadrature on each side of the critic's kink


class GaussianWGAN:
    """The 1-Lipschitz WGAN in one dimension between X ~ N(mean, deviation^2) and generators N(b, a^2).

        V(G, D) = E D(X) - E D(G) = int u (F_G - F_X) dx,   u = D', |u| <= 1,   0 <= a <= r, |b| <= r

    A pair is a generator (a, b) with its optimal critic, u* = sign(F_G - F_X): D*(x) = kind * |x - kink|, a line where
    both deviations agree, and constant where G is the data's law. Under the Sobolev norm the inner maximum is solved at
    each point,

        V_lam(G, D*) = int max over |u| <= 1 of u (F_G - F_X) - (lam/2) p_X (u - u*)^2 dx,
        u = clip(u* + (F_G - F_X) / (lam p_X), -1, 1).

    The Stackelberg generator is closed form, W1 = E|b - mean + (a - deviation) Z| being convex in (a, b), and so are
    V(., D*) and its minimum: Nash equilibria are proved, and with them every proximal one. Where G and the data have
    one mean and G is narrower, moving the kink costs the generator nothing at first order: such pairs are proximal for
    no lam > 0.

    Args:
        mean: of the data.
        deviation: standard deviation of the data.
        radius: r.

    Raises:
        InputError: a number is not finite, or `deviation` or `radius` is not positive.

    References:
        Theory 4.8; [FO20] section 2.

    Example:
        >>> wide = GaussianWGAN(0.0, 2.0)
        >>> wide.optimal_generator(), round(wide.value(), 6)
        ((1.0, 0.0), 0.797885)
        >>> wide.stackelberg().verdict, wide.proximal(lam=0.1).verdict, wide.nash().verdict
        ('proved', 'refuted', 'refuted')
        >>> far = GaussianWGAN(3.0, 1.0)  # as wide as the generator may be, out of its reach
        >>> far.nash().verdict, far.proximal(lam=0.1).verdict
        ('proved', 'proved')
    """

    def __init__(self, mean: float, deviation: float, *, radius: float = 1.0) -> None:
        self.mean = checks.number("mean", mean, least=-math.inf)
        self.deviation = checks.positive("deviation", deviation)
        self.radius = checks.positive("radius", radius)

    @property
    def tolerance(self) -> float:
        """Absolute error of the closed forms; the quadrature's is in `stats["quadrature_error"]`."""
        return 1e-12 * (abs(self.mean) + self.deviation + self.radius)

    def optimal_generator(self) -> tuple[float, float]:
        """Return (a, b) of least W1: W1 grows with |b - mean| and with |a - deviation|."""
        return min(self.deviation, self.radius), min(max(self.mean, -self.radius), self.radius)

    def wasserstein(self, a: float, b: float) -> float:
        """W1(G, X) = max_D V(G, D) = E|b - mean + (a - deviation) Z|."""
        a, b = _generator(a, b)
        return _absolute(b - self.mean, abs(a - self.deviation))

    def value(
        self, a: float | None = None, b: float | None = None, *, pair: tuple[float, float] | None = None
    ) -> float:
        """V of the generator (a, b) against the optimal critic of `pair`.

        Args:
            a: deviation of the generator; that of the pair if None.
            b: mean of the generator; that of the pair if None.
            pair: (a, b) whose critic stands; the optimal one if None.
        """
        own = self._pair(pair)
        a, b = _generator(own[0] if a is None else a, own[1] if b is None else b)
        kind, kink = self._critic(*own)
        if math.isinf(kink):
            return kind * (self.mean - b)
        return kind * (_absolute(self.mean - kink, self.deviation) - _absolute(b - kink, a))

    def proximal_value(self, a: float, b: float, *, lam: float, pair: tuple[float, float] | None = None) -> float:
        """V_lam of the generator (a, b), from the optimal critic of `pair`: quadrature of a closed form.

        Args:
            a: deviation of the generator.
            b: mean of the generator.
            lam: weight of the proximal term, positive.
            pair: (a, b) whose critic the proximal term is centred at; the optimal one if None.
        """
        return self._integral(*_generator(a, b), checks.positive("lam", lam), self._pair(pair), GRID)

    def nash(self, *, pair: tuple[float, float] | None = None) -> Certificate:
        """Judge by exact best responses: D* is optimal, and V(., D*) is minimal at a corner or at the kink.

        Args:
            pair: (a, b); the optimal generator if None.
        """
        return self._nash("nash", self._pair(pair))

    def stackelberg(self, *, pair: tuple[float, float] | None = None) -> Certificate:
        """Judge whether G has the least W1, in closed form.

        Args:
            pair: (a, b); the optimal generator if None.
        """
        return self._stackelberg("stackelberg", self._pair(pair))

    def proximal(self, *, lam: float, pair: tuple[float, float] | None = None) -> Certificate:
        """Judge whether V(G, D*) <= V_lam(G', D*) for all G': proved where the pair is Nash, refuted by a generator.

        A generator refutes if its V_lam is below V by more than the error of the quadrature. Where none is found and
        the pair is not Nash the verdict is "not refuted".

        Args:
            lam: weight; 0 asks for Stackelberg, infinity for Nash.
            pair: (a, b); the optimal generator if None.

        Raises:
            InputError: `lam` is negative or NaN.
        """
        lam, own = checks.number("lam", lam, infinite=True), self._pair(pair)
        if math.isinf(lam):
            return self._nash("proximal", own)
        leader, nash = self._stackelberg("proximal", own, lam=lam), self._nash("proximal", own, lam=lam)
        if lam == 0 or leader.verdict == "refuted":
            return leader
        if nash.verdict == "proved":
            return nash
        value = self.wasserstein(*own)
        gain, error, deviation = self._search(own, value, lam)
        stats = {
            "value": value,
            "lam": lam,
            "tolerance": self.tolerance,
            "deviation": deviation,
            "quadrature_error": error,
        }
        verdict = "refuted" if gain > 3.0 * error + self.tolerance else "not refuted"
        return self._certificate("proximal", max(gain, 0.0), "lower", verdict, stats)

    def critical_lambda(self, *, tolerance: float = 1e-3, pair: tuple[float, float] | None = None) -> Spectrum:
        """Enclose the critical lambda by bisection between the largest not refuted and the smallest refuted lambda.

        Args:
            tolerance: width of the enclosure, relative to 1 + lambda.
            pair: (a, b); the optimal generator if None.

        Returns:
            `Spectrum`; `proved` says whether its lower end is a proof.
        """
        tolerance = checks.positive("tolerance", tolerance)
        found = {lam: self.proximal(lam=lam, pair=pair) for lam in (0.0, math.inf)}
        if found[0.0].verdict == "proved" and found[math.inf].verdict == "refuted":
            low, high = 0.0, 1.0
            while (judged := self.proximal(lam=high, pair=pair)).verdict != "refuted" and high < 1e6:
                found[high] = judged
                low, high = high, 4.0 * high
            found[high] = judged
            while high - low > tolerance * (1.0 + low):
                middle = 0.5 * (low + high)
                found[middle] = self.proximal(lam=middle, pair=pair)
                low, high = (low, middle) if found[middle].verdict == "refuted" else (middle, high)
        return summarise(found, stats={"method": "closed forms, and quadrature of the inner maximum at each point"})

    def _critic(self, a: float, b: float) -> tuple[float, float]:
        """(kind, kink) of u* = kind * sign(x - kink); a kink at minus infinity is a line."""
        if a == self.deviation:
            return float(np.sign(self.mean - b)), -math.inf
        # the distribution functions cross once, where (x - b) / a = (x - mean) / deviation
        return math.copysign(1.0, self.deviation - a), (b * self.deviation - a * self.mean) / (self.deviation - a)

    def _nash(self, kind: str, own: tuple[float, float], lam: float = math.inf) -> Certificate:
        sign, kink = self._critic(*own)
        r, inside = self.radius, min(max(kink, -self.radius), self.radius)
        if math.isinf(kink):
            deviation = own[0], sign * r if sign else own[1]
        elif sign > 0:  # E|G - kink| at its largest: wide, and away from the kink
            deviation = r, -math.copysign(r, kink)
        else:
            deviation = 0.0, inside
        value = self.wasserstein(*own)
        gain = value - self.value(*deviation, pair=own)
        verdict = "proved" if abs(gain) <= self.tolerance else "refuted"
        return self._certificate(
            kind,
            gain,
            "exact",
            verdict,
            {"value": value, "lam": lam, "deviation": deviation},
        )

    def _stackelberg(self, kind: str, own: tuple[float, float], lam: float = 0.0) -> Certificate:
        value, best = self.wasserstein(*own), self.optimal_generator()
        gain = value - self.wasserstein(*best)
        verdict = "proved" if abs(gain) <= self.tolerance else "refuted"
        return self._certificate(kind, gain, "exact", verdict, {"value": value, "lam": lam, "deviation": best})

    def _certificate(self, kind: str, gain: float, bound: Any, verdict: Any, stats: dict[str, Any]) -> Certificate:
        # the critic of a pair is optimal by construction: the discriminator gains nothing
        upper = max(gain, 0.0) + self.tolerance if bound == "exact" else math.inf
        return certificate(kind, gain, 0.0, bound, verdict, stats, upper=upper)

    def _search(self, own: tuple[float, float], value: float, lam: float) -> tuple[float, float, tuple[float, float]]:
        """The generator of least V_lam on a grid that narrows around the best so far: (gain, error, generator)."""
        r, (a, b), step = self.radius, own, self.radius
        best, a_best, b_best = math.inf, a, b
        for _ in range(6):
            for near in np.clip(a + step * np.linspace(-1, 1, 7), 1e-3 * r, r):
                for at in np.clip(b + step * np.linspace(-1, 1, 9), -r, r):
                    found = self._integral(float(near), float(at), lam, own, 1001)
                    if found < best:
                        best, a_best, b_best = found, float(near), float(at)
            a, b, step = a_best, b_best, 0.4 * step
        fine, coarse = (self._integral(a, b, lam, own, points) for points in (GRID, GRID // 2 + 1))
        return value - fine, abs(fine - coarse), (a, b)

    def _integral(self, a: float, b: float, lam: float, own: tuple[float, float], points: int) -> float:
        kind, kink = self._critic(*own)
        reach = 9.0 * max(self.deviation, self.radius)  # both densities are below 1e-18 beyond
        low, high = min(self.mean, b) - reach, max(self.mean, b) + reach
        cut = min(max(kink, low), high)  # u* jumps there: no interval of the quadrature may straddle it
        total = 0.0
        for start, stop, sign in ((low, cut, -kind), (cut, high, kind)):
            if stop <= start:
                continue
            x = np.linspace(start, stop, points)
            t = (x - self.mean) / self.deviation
            density = np.exp(-0.5 * t * t) / (self.deviation * math.sqrt(2.0 * math.pi))
            ahead = ndtr((x - b) / a) - ndtr(t)
            u = np.clip(sign + ahead / (lam * np.maximum(density, 1e-290)), -1.0, 1.0)
            total += float(np.trapezoid(u * ahead - 0.5 * lam * density * (u - sign) ** 2, x))
        return total

    def _pair(self, pair: tuple[float, float] | None) -> tuple[float, float]:
        if pair is None:
            return self.optimal_generator()
        a, b = checks.positive("pair", pair[0]), checks.number("pair", pair[1], least=-math.inf)
        if max(a, abs(b)) > self.radius * (1.0 + 1e-12):
            raise InputError(f"`pair` must have a and |b| within the radius {self.radius:g}, got {pair!r}")
        return a, b


def _generator(a: object, b: object) -> tuple[float, float]:
    return checks.number("a", a), checks.number("b", b, least=-math.inf)


def _absolute(mean: float, deviation: float) -> float:
    """E|mean + deviation Z|."""
    if deviation == 0:
        return abs(mean)
    t = mean / deviation
    return deviation * math.sqrt(2.0 / math.pi) * math.exp(-0.5 * t * t) + mean * float(erf(t / math.sqrt(2.0)))
