"""Theorems 2.1 and 2.2 in closed form: the quadratic-cost Wasserstein game between Gaussians."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from saddlegan import checks
from saddlegan.errors import InputError, SolveError
from saddlegan.moments._trust_region import Minimum, minimise

Array = np.ndarray


@dataclasses.dataclass(frozen=True)
class Pair:
    """Generator N(b, A A^T) and discriminator D(x) = x^T L x + g^T x.

    Attributes:
        A: (d, d).
        b: (d,).
        L: symmetric (d, d).
        g: (d,).
    """

    A: Array
    b: Array
    L: Array
    g: Array


def root(S: Array) -> Array:
    """Symmetric square root of a positive semidefinite matrix."""
    values, Q = np.linalg.eigh((S + S.T) / 2)
    return (Q * np.sqrt(np.maximum(values, 0.0))) @ Q.T


class GaussianValues:
    """Value, potentials and exact inner problems of the game; `GaussianW2Game` judges with them.

    Args:
        covariance: Sigma (d, d).
        eta: weight of the cost (eta/2) ||x - y||^2.
        radius: bound r on ||A||_2 and on ||b||_2.
    """

    def __init__(self, covariance: Any, eta: float, radius: float = 1.0) -> None:
        Sigma = np.array(covariance, dtype=np.float64)
        if Sigma.ndim != 2 or Sigma.shape[0] != Sigma.shape[1] or Sigma.size == 0 or not np.isfinite(Sigma).all():
            raise InputError(f"`covariance` must be a finite square matrix, got shape {Sigma.shape}")
        if not np.allclose(Sigma, Sigma.T, rtol=1e-10, atol=1e-12 * np.abs(Sigma).max()):
            raise InputError("`covariance` must be symmetric")
        values = np.linalg.eigvalsh(Sigma)
        if values[0] <= 1e-12 * values[-1]:
            raise InputError(f"`covariance` must be positive definite, its smallest eigenvalue is {values[0]:.3g}")
        self.covariance, self.eta, self.radius = Sigma, checks.positive("eta", eta), checks.positive("radius", radius)
        self._root = root(Sigma)
        self._inverse_root = np.linalg.inv(self._root)
        self._smallest = float(values[0])

    @property
    def size(self) -> int:
        """The dimension d."""
        return self.covariance.shape[0]

    def wasserstein(self, A: Array, b: Array) -> float:
        """W2(G) = max_D V(G, D) = (eta/2) [tr Sigma + tr A A^T - 2 tr (Sigma^1/2 A A^T Sigma^1/2)^1/2 + |b|^2]."""
        # the nuclear norm is the trace of the root without squaring A
        cross = float(np.linalg.svd(self._root @ A, compute_uv=False).sum())
        return 0.5 * self.eta * (float(np.trace(self.covariance)) + float((A**2).sum()) - 2.0 * cross + float(b @ b))

    def potential(self, A: Array, b: Array) -> tuple[Array, Array]:
        """Optimal potential D_G: L = (eta/2)(I - T), g = -eta b with Brenier's map T of equation 2.2."""
        # Brenier's map is symmetric only in this order; (Sigma A A^T)^1/2 is not
        middle = root(self._root @ A @ A.T @ self._root)
        T = self._inverse_root @ middle @ self._inverse_root
        return 0.5 * self.eta * (np.eye(self.size) - T), -self.eta * b

    def value(self, A: Array, b: Array, L: Array, g: Array) -> float:
        """V(A, b; L, g) of theory 2.2; minus infinity where D^c is infinite on the generator's samples.

        Args:
            A: (d, d).
            b: (d,).
            L: symmetric (d, d).
            g: (d,).
        """
        A, b, L, g = self._read(A, b, L, g)
        values, Q = np.linalg.eigh(self._curvature(L))
        w, B = Q.T @ (g + self.eta * b), Q.T @ A
        # directions in which c is as curved as D: D^c is finite only where neither mean nor factor reaches into them
        flat = values <= 1e-12 * self.eta
        scale = 1e-9 * (1.0 + np.abs(w).max() + np.abs(B).max())
        if (values < -1e-12 * self.eta).any() or np.abs(w[flat]).max(initial=0) + np.abs(B[flat]).max(
            initial=0
        ) > scale:
            return -math.inf
        inverse = np.where(flat, 0.0, 1.0 / np.where(flat, 1.0, values))
        transport = float(inverse @ (w**2 + self.eta**2 * (B**2).sum(1)))
        own = 0.5 * self.eta * (float((A**2).sum()) + float(b @ b))
        return float(np.trace(L @ self.covariance)) - 0.25 * transport + own

    def optimum(self) -> Pair:
        """Return the Stackelberg pair: Sigma^1/2's singular values clipped at r, b = 0, and its potential."""
        values, Q = np.linalg.eigh(self.covariance)
        A = (Q * np.minimum(np.sqrt(values), self.radius)) @ Q.T
        b = np.zeros(self.size)
        return Pair(A, b, *self.potential(A, b))

    def leader_value(self) -> float:
        """min_G max_D V = (eta/2) sum (sigma_i - r)_+^2: convex in A A^T, and stationary there."""
        sigma = np.sqrt(np.linalg.eigvalsh(self.covariance))
        return 0.5 * self.eta * float((np.maximum(sigma - self.radius, 0.0) ** 2).sum())

    def generator_response(self, L: Array, g: Array) -> tuple[Array, Minimum]:
        """Exact min over ||A|| <= r, ||b|| <= r of V(A, b; L, g): A (d, d), and the trust-region problem of b.

        In A A^T the value is linear: its minimum puts r^2 on the directions of negative slope. In b it is a quadratic
        over a ball.
        """
        P = np.linalg.inv(self._curvature(L))
        K = 0.5 * self.eta * np.eye(self.size) - 0.25 * self.eta**2 * P
        values, Q = np.linalg.eigh(K)
        A = (Q * np.where(values < 0, self.radius, 0.0)) @ Q.T
        return A, minimise(K, -0.25 * self.eta * P @ g, radius=self.radius)

    def proximal_floor(self, L_new: Array, pair: Pair, lam: float) -> float:
        """A number that V_lam(G, D) does not fall below for any generator, by an answer rule for the discriminator.

        The rule answers b by the best g' in closed form and A by the fixed L': for w = eta b + g,

            V_lam >= tr(L' Sigma) + min_S tr(K' S) + min_b [(eta/2)|b|^2 - 1/4 w^T (H' + I/(2 lam))^-1 w]
                     - 2 lam tr((L' - L) Sigma (L' - L)),     K' = (eta/2) I - (eta^2/4) H'^-1

        Both minima are exact: one eigendecomposition and one trust-region problem (its dual bound is taken).
        """
        lam, eye = checks.positive("lam", lam), np.eye(self.size)
        H = self._curvature(L_new)
        if np.linalg.eigvalsh(H)[0] <= 0:
            return -math.inf
        K = 0.5 * self.eta * eye - 0.25 * self.eta**2 * np.linalg.inv(H)
        spread = self.radius**2 * float(np.minimum(np.linalg.eigvalsh(K), 0.0).sum())
        C = np.linalg.inv(H + eye / (2.0 * lam))
        shift = minimise(
            0.5 * self.eta * eye - 0.25 * self.eta**2 * C, -0.25 * self.eta * C @ pair.g, radius=self.radius
        )
        step = L_new - pair.L
        return (
            float(np.trace(L_new @ self.covariance))
            + spread
            + shift.bound
            - 0.25 * float(pair.g @ C @ pair.g)
            - 2.0 * lam * float(np.trace(step @ self.covariance @ step))
        )

    def proximal_value(self, A: Array, b: Array, L: Array, g: Array, *, lam: float) -> tuple[float, float]:
        """V_lam(G, D) over quadratic D', as (value reached, upper bound): the inner maximum by Newton's method.

        g' is eliminated in closed form; what is left is strongly concave in L' with modulus m = 4 lam lambda_min(Sigma)
        in the Frobenius norm, so that the maximum is at most the value reached + ||gradient||^2 / (2 m).

        Args:
            A: (d, d).
            b: (d,).
            L: centre (d, d).
            g: centre (d,).
            lam: positive and finite.

        Raises:
            InputError: `lam` is not positive and finite, or the centre is no c-concave potential.
            SolveError: Newton's method did not settle.
        """
        A, b, L, g = self._read(A, b, L, g)
        lam = checks.positive("lam", lam)
        d, Sigma, eye = self.size, self.covariance, np.eye(self.size)
        S, w = A @ A.T, self.eta * b + g
        own = 0.5 * self.eta * (float(np.trace(S)) + float(b @ b))

        def reach(M: Array) -> float:
            H = self._curvature(M)
            try:
                factor = np.linalg.cholesky(H)
            except np.linalg.LinAlgError:
                return -math.inf
            # tr A^T H^-1 A by the factor of H: no inverse, and positive whatever the rounding
            transport = 0.25 * self.eta**2 * float((np.linalg.solve(factor, A) ** 2).sum())
            shift = 0.25 * float(w @ np.linalg.solve(H + eye / (2.0 * lam), w))
            step = M - L
            return (
                float(np.trace(M @ Sigma)) - transport - shift + own - 2.0 * lam * float(np.trace(step @ Sigma @ step))
            )

        if not math.isfinite(reach(L)):
            raise InputError("`L` must satisfy (eta/2) I - L > 0")
        M, modulus = L.copy(), 4.0 * lam * self._smallest
        now, slack = reach(M), math.inf
        for _ in range(100):
            P = np.linalg.inv(self._curvature(M))
            C = np.linalg.inv(self._curvature(M) + eye / (2.0 * lam))
            Q, R = 0.25 * self.eta**2 * P @ S @ P, 0.25 * np.outer(C @ w, C @ w)
            step = M - L
            gradient = Sigma - R - Q - 2.0 * lam * (step @ Sigma + Sigma @ step)
            now = reach(M)
            # strong concavity turns the gradient into a bound: the maximum is at most slack above the value reached
            slack = float((gradient**2).sum()) / (2.0 * modulus)
            if slack <= 1e-14 * (1.0 + abs(now)):
                break
            hessian = np.kron(P, Q) + np.kron(Q, P) + np.kron(C, R) + np.kron(R, C)
            hessian += 2.0 * lam * (np.kron(eye, Sigma) + np.kron(Sigma, eye))
            direction = np.linalg.solve(hessian, gradient.ravel()).reshape(d, d)
            # the solve works on all d^2 entries and breaks the symmetry by rounding, which would grow
            direction = (direction + direction.T) / 2
            rise, length = float((gradient * direction).sum()), 1.0
            while reach(M + length * direction) < now + 1e-4 * length * rise and length > 1e-12:
                length /= 2.0
            if length <= 1e-12:
                break
            M = M + length * direction
        if slack > 1e-8 * (1.0 + abs(now)):
            raise SolveError(f"the inner maximum is only known to {slack:.3g}", (now, now + slack))
        return now, now + slack

    def _curvature(self, L: Array) -> Array:
        return 0.5 * self.eta * np.eye(self.size) - (L + L.T) / 2

    def _read(self, A: Array, b: Array, L: Array, g: Array) -> tuple[Array, Array, Array, Array]:
        d = self.size
        read = []
        for name, part, shape in (("A", A, (d, d)), ("b", b, (d,)), ("L", L, (d, d)), ("g", g, (d,))):
            array = np.asarray(part, dtype=np.float64)
            if array.shape != shape or not np.isfinite(array).all():
                raise InputError(f"`{name}` must be finite with shape {shape}, got shape {array.shape}")
            read.append(array)
        return read[0], read[1], read[2], read[3]
