"""Exact certificates of the Gaussian W2 game."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from saddlegan import checks
from saddlegan.certify._spectrum import Spectrum, summarise
from saddlegan.certify.exact._base import certificate
from saddlegan.certify.exact._gaussian import Array, GaussianValues, Pair
from saddlegan.errors import InputError
from saddlegan.results import Certificate


class GaussianW2Game(GaussianValues):
    """The W2GAN of theorems 2.1 and 2.2 between X ~ N(0, Sigma) and generators N(b, A A^T), in closed form.

        V(A, b; L, g) = E D(X) - E D^c(G(z)),   ||A||_2 <= r, ||b||_2 <= r,   D(x) = x^T L x + g^T x,  (eta/2) I - L > 0

    D^c(y) = sup_x D(x) - (eta/2) ||x - y||^2. Where lambda_max(Sigma) > r^2 the game has no Nash equilibrium; its
    Stackelberg pair is a lam-proximal equilibrium (Sobolev norm) exactly for

        lam <= 1 / (2 lambda_max(L*)) = sigma / (eta (sigma - r)),   sigma^2 = lambda_max(Sigma),

    which is larger than the 1/eta that theorem 2.2 guarantees for any distribution. All verdicts are computed, none is
    taken from a theorem: "proved" rests on exact minima over every (A, b) of a lower bound of V_lam, "refuted" on a
    generator whose V_lam has an upper bound below V.

    Args:
        covariance: Sigma (d, d), positive definite.
        eta: weight of the cost (eta/2) ||x - y||^2.
        radius: r.

    Raises:
        InputError: Sigma is not symmetric positive definite, or a number is not positive.

    References:
        [FO20] theorems 1 and 3; theory 2.1, 2.2.

    Example:
        >>> game = GaussianW2Game(np.diag([4.0, 1.0, 0.25]), 1.7)
        >>> round(game.value(*game.optimal_pair()), 9)
        0.85
        >>> game.nash().verdict, game.proximal(lam=1 / 1.7).verdict, game.proximal(lam=3 / 1.7).verdict
        ('refuted', 'proved', 'refuted')
    """

    def optimal_pair(self) -> tuple[Array, Array, Array, Array]:
        """Return the Stackelberg pair (A, b, L, g): Sigma^1/2 with its singular values clipped at r, b = 0, D_G."""
        best = self.optimum()
        return best.A, best.b, best.L, best.g

    def nash(self, *, pair: tuple[Any, Any, Any, Any] | None = None) -> Certificate:
        """Judge by exact best responses: D_G for the discriminator, a trust-region problem for the generator.

        Args:
            pair: (A, b, L, g); the optimal pair if None.

        Returns:
            Certificate with exact gains; `stats` holds the generator's best deviation.

        Example:
            >>> GaussianW2Game(np.diag([4.0, 1.0, 0.25]), 1.7).nash()
            Certificate(kind='nash', gap=0.85, generator_gain=0.85, ..., bound='exact', verdict='refuted', ...)
        """
        return self._nash("nash", self._pair(pair))

    def stackelberg(self, *, pair: tuple[Any, Any, Any, Any] | None = None) -> Certificate:
        """Judge whether G minimises W2(G) with D its potential, both in closed form.

        Args:
            pair: (A, b, L, g); the optimal pair if None.

        Example:
            >>> GaussianW2Game(np.eye(2) * 4.0, 1.0).stackelberg().verdict
            'proved'
        """
        p = self._pair(pair)
        value, discriminator = self._own(p)
        generator = value - self.leader_value()
        good = discriminator <= self.tolerance and generator <= self.tolerance
        verdict = "proved" if good else "refuted"
        return _certificate("stackelberg", generator, discriminator, "exact", verdict, self._stats(value, 0.0))

    def proximal(self, *, lam: float, pair: tuple[Any, Any, Any, Any] | None = None) -> Certificate:
        """Judge whether V(G, D) <= V_lam(G', D) for all G', and D is a best response, in the Sobolev norm.

        The generator's gain V - min V_lam is enclosed: from above by exact minima over (A, b) of a lower bound of
        V_lam (`proximal_floor`, at L' = L), from below by V_lam of one well-chosen generator, whose inner maximum has
        an upper bound. The lower bound is valid for c-concave discriminators of every kind; the refutation is for
        quadratic ones.

        Args:
            lam: weight; 0 asks for Stackelberg, infinity for Nash.
            pair: (A, b, L, g); the optimal pair if None.

        Returns:
            Certificate. `generator_gain` is the lower end, `stats["generator_gain_upper"]` the upper.

        Raises:
            InputError: `lam` is negative or NaN.
        """
        lam = checks.number("lam", lam, infinite=True)
        p = self._pair(pair)
        if math.isinf(lam):
            return self._nash("proximal", p)
        value, discriminator = self._own(p)
        leader = value - self.leader_value()
        stats = self._stats(value, lam)
        if lam == 0:
            verdict = "proved" if max(leader, discriminator) <= self.tolerance else "refuted"
            return _certificate("proximal", leader, discriminator, "exact", verdict, stats)
        if discriminator > self.tolerance or leader > self.tolerance:
            stats["argument"] = "not a Stackelberg equilibrium, hence not proximal; the gains are those at lam = 0"
            return _certificate("proximal", leader, discriminator, "lower", "refuted", stats)
        upper = value - self.proximal_floor(p.L, p, lam)
        lower, deviation = 0.0, (p.A, p.b)
        if upper > self.tolerance:
            lower, deviation = self._lowest(p, value, lam)
        stats |= {"generator_gain_upper": upper, "deviation": deviation}
        if upper <= self.tolerance:
            # the pair itself gives V_lam(G, D) = V because D is a best response: the minimum is enclosed
            return _certificate("proximal", max(0.0, upper), discriminator, "exact", "proved", stats)
        verdict = "refuted" if lower > self.tolerance else "not refuted"
        return _certificate("proximal", lower, discriminator, "lower", verdict, stats, most=upper)

    def critical_lambda(self, *, tolerance: float = 1e-3, pair: tuple[Any, Any, Any, Any] | None = None) -> Spectrum:
        """Enclose the critical lambda by bisection between a proved and a refuted one.

        Args:
            tolerance: width of the enclosure, relative to 1 + lambda.
            pair: (A, b, L, g); the optimal pair if None.

        Returns:
            `Spectrum` with `lower` proved and `upper` refuted.

        Raises:
            InputError: `tolerance` is not positive.

        Example:
            >>> found = GaussianW2Game(np.diag([4.0, 1.0, 0.25]), 1.7).critical_lambda()
            >>> found.lower <= 2 / 1.7 <= found.upper <= found.lower + 3e-3
            True
        """
        tolerance = checks.positive("tolerance", tolerance)
        tried = {0.0: self.proximal(lam=0.0, pair=pair), math.inf: self.proximal(lam=math.inf, pair=pair)}
        if tried[0.0].verdict == "proved" and tried[math.inf].verdict == "refuted":

            def verdict(lam: float) -> str:
                if lam not in tried:
                    tried[lam] = self.proximal(lam=lam, pair=pair)
                return tried[lam].verdict

            def edge(low: float, high: float, belongs: Callable[[float], bool]) -> tuple[float, float]:
                while high - low > 0.5 * tolerance * (1.0 + low):
                    middle = 0.5 * (low + high)
                    low, high = (middle, high) if belongs(middle) else (low, middle)
                return low, high

            top = 1.0 / self.eta
            while verdict(top) != "refuted" and top < 1e9 / self.eta:
                top *= 2.0
            proved, _ = edge(0.0, top, lambda lam: verdict(lam) == "proved")
            edge(proved, top, lambda lam: verdict(lam) != "refuted")
        return summarise(
            tried, proved_only=True, stats={"method": "bisection with exact certificates", "eta": self.eta}
        )

    @property
    def tolerance(self) -> float:
        """Rounding error of the values: gains up to it count as none."""
        return 1e-9 * self.eta * (float(np.trace(self.covariance)) + self.size * self.radius**2)

    def _nash(self, kind: str, p: Pair) -> Certificate:
        value, discriminator = self._own(p)
        stats = self._stats(value, math.inf)
        if not math.isfinite(value):
            stats["argument"] = "V is minus infinity: the discriminator's c-transform is infinite"
            return _certificate(kind, 0.0, discriminator, "lower", "refuted", stats)
        if np.linalg.eigvalsh(self._curvature(p.L))[0] <= 1e-12 * self.eta:
            stats["argument"] = "a generator that leaves its subspace makes the c-transform infinite"
            return _certificate(kind, math.inf, discriminator, "exact", "refuted", stats)
        A, shift = self.generator_response(p.L, p.g)
        generator = value - self.value(A, shift.point, p.L, p.g)
        good = generator <= self.tolerance and discriminator <= self.tolerance
        stats["deviation"] = (A, shift.point)
        return _certificate(kind, generator, discriminator, "exact", "proved" if good else "refuted", stats)

    def _lowest(self, p: Pair, value: float, lam: float) -> tuple[float, tuple[Array, Array]]:
        """Best of a few generators: the mean moved along the directions in which V_lam curves down most."""
        eye = np.eye(self.size)
        C = np.linalg.inv(0.5 * self.eta * eye - p.L + eye / (2.0 * lam))
        curvature, Q = np.linalg.eigh(0.5 * self.eta * eye - 0.25 * self.eta**2 * C)
        best, deviation = -math.inf, (p.A, p.b)
        for index in np.flatnonzero(curvature <= curvature[0] + 1e-9):
            for length in self.radius * np.array([1.0, 0.7, 0.5, 0.3, 0.2, 0.1, 0.05, 0.02, 0.01]):
                b = p.b + length * Q[:, index]
                if float(np.linalg.norm(b)) > self.radius * (1.0 + 1e-12):
                    continue
                gain = value - self.proximal_value(p.A, b, p.L, p.g, lam=lam)[1]
                if gain > best:
                    best, deviation = gain, (p.A, b)
        return best, deviation

    def _own(self, p: Pair) -> tuple[float, float]:
        value = self.value(p.A, p.b, p.L, p.g)
        return value, self.wasserstein(p.A, p.b) - value

    def _stats(self, value: float, lam: float) -> dict[str, Any]:
        return {"value": value, "lam": lam, "tolerance": self.tolerance, "leader_value": self.leader_value()}

    def _pair(self, pair: tuple[Any, Any, Any, Any] | None) -> Pair:
        if pair is None:
            return self.optimum()
        p = Pair(*self._read(*pair))
        for name, size in (("A", float(np.linalg.norm(p.A, 2))), ("b", float(np.linalg.norm(p.b)))):
            if size > self.radius * (1.0 + 1e-9):
                raise InputError(f"`{name}` has norm {size:.6g}, above the radius {self.radius:g} of its class")
        return p


def _certificate(
    kind: str,
    generator: float,
    discriminator: float,
    bound: Any,
    verdict: Any,
    stats: dict[str, Any],
    *,
    most: float = math.inf,
) -> Certificate:
    """`most` bounds the generator's gain where that is not exact; the discriminator's always is."""
    most = generator if bound == "exact" and math.isinf(most) else most
    upper = max(most, 0.0) + max(discriminator, 0.0) + stats["tolerance"]
    return certificate(kind, generator, discriminator, bound, verdict, stats, upper=upper)
